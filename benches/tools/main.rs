//! What the measurements are made with: the null relay, the fixed backend, and the loads that wrk and h2load do not know.

mod backend;
mod relay;

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser;

/// Started by `benches/peers/run`: everything is on loopback
#[derive(Parser)]
enum Tool {
    /// Copies bytes between a client and the backend, and does nothing else: the floor of what a proxy costs
    Relay { port: u16, backend: SocketAddr },
    /// Answers `/`, `/10k` and `/1m` from memory
    Backend { port: u16 },
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        match Tool::parse() {
            Tool::Relay { port, backend } => relay::serve(local(port), backend).await,
            Tool::Backend { port } => backend::serve(local(port)).await,
        }
    })
}
