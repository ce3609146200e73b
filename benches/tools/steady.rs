//! Clients on kept connections that write down every request: when it began, how long it took, which stack answered.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cutover::time::Moment;
use tokio::net::TcpStream;

use super::client::{Answer, Client};

/// One request, as `switching.py` reads it: 14 bytes, little-endian.
struct Line {
    begun_ns: u64,
    took_us: u32,
    /// The first letter of the stack's name; 0 where there was no answer.
    stack: u8,
    /// 1 where a whole answer with status 200 came.
    well: u8,
}

/// Loads for some seconds and writes every request into the file.
pub async fn load(address: SocketAddr, clients: usize, seconds: u64, file: &Path) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        tasks.spawn_local(async move {
            let (mut lines, mut line) = (Vec::new(), None);
            while tokio::time::Instant::now() < end {
                lines.push(ask(address, &mut line).await);
            }
            lines
        });
    }
    let mut out = BufWriter::new(File::create(file)?);
    while let Some(lines) = tasks.join_next().await {
        for Line { begun_ns, took_us, stack, well } in lines? {
            out.write_all(&begun_ns.to_le_bytes())?;
            out.write_all(&took_us.to_le_bytes())?;
            out.write_all(&[stack, well])?;
        }
    }
    Ok(out.flush()?)
}

/// One request on the connection there is; only after a failure on a new one.
async fn ask(address: SocketAddr, line: &mut Option<Client<TcpStream>>) -> Line {
    let begun = Moment::now();
    let answer = try_ask(address, line).await;
    let took_us = Moment::now().since(begun).as_micros() as u32;
    if answer.is_err() {
        *line = None;
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    let well = u8::from(answer.as_ref().is_ok_and(|answer| answer.status == 200));
    let stack = answer.ok().and_then(|answer| answer.stack.bytes().next()).unwrap_or_default();
    Line { begun_ns: begun.nanos(), took_us, stack, well }
}

async fn try_ask(address: SocketAddr, line: &mut Option<Client<TcpStream>>) -> io::Result<Answer> {
    let client = match line {
        Some(client) => client,
        none => none.insert(Client::connect(address, "/").await?),
    };
    client.ask().await
}

/// So that clients of a dead proxy do not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(5);
