//! What the measurements are made with: the null relay, the fixed backend, and the loads that wrk and h2load do not know.

mod backend;
mod client;
mod handshakes;
mod idle;
mod relay;
mod steady;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;

/// Started by `benches/peers/run`: everything is on loopback
#[derive(Parser)]
enum Tool {
    /// Copies bytes between a client and the backend, and does nothing else: the floor of what a proxy costs
    Relay { port: u16, backend: SocketAddr },
    /// Answers `/`, `/10k` and `/1m` from memory, and `/slow` after a while
    Backend {
        port: u16,
        /// Listens on so many addresses: 127.0.0.1, then 127.0.1.1 to 127.0.1.250, 127.0.2.1 ...
        #[arg(long, default_value_t = 1)]
        addresses: u16,
        /// The value of `X-Stack` in every answer
        #[arg(long, default_value = "blue")]
        stack: String,
    },
    /// Makes a TLS handshake for each request, and prints the figures
    Handshakes { port: u16, clients: usize, seconds: u64 },
    /// Opens connections, makes one request on each, and keeps them until its input ends
    Idle { port: u16, connections: usize },
    /// Sends requests on kept connections and writes each into a file
    Steady { port: u16, clients: usize, seconds: u64, file: PathBuf },
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        match Tool::parse() {
            Tool::Relay { port, backend } => relay::serve(local(port), backend).await,
            Tool::Backend { port, addresses, stack } => backend::serve(port, addresses, &stack).await,
            Tool::Handshakes { port, clients, seconds } => handshakes::load(local(port), clients, seconds).await,
            Tool::Idle { port, connections } => idle::load(local(port), connections).await,
            Tool::Steady { port, clients, seconds, file } => steady::load(local(port), clients, seconds, &file).await,
        }
    })
}
