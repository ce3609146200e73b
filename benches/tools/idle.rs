//! Connections that have each made one request and then stay open: what idling costs a proxy in memory.

use std::io::Read;
use std::net::SocketAddr;

use super::client::Client;

/// Opens them, says so, and keeps them until its input ends.
pub async fn load(address: SocketAddr, connections: usize) -> anyhow::Result<()> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        // One after the other: of connections to the backend there is then one, whatever the proxy.
        let mut client = Client::connect(address, "/").await?;
        let answer = client.ask().await?;
        anyhow::ensure!(answer.status == 200, "answered {}", answer.status);
        open.push(client);
    }
    println!("open");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
