//! Tunnels: an upgraded connection carried byte by byte, until either side ends it or its pool cuts it.

use http::StatusCode;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::headers::Reply;
use super::refusal::Refusal;
use super::upstream::{Link, Socket};
use crate::pool::Pool;
use crate::turnstile::Pass;

/// Whether the answer grants the upgrade the client asked for. A switch nobody asked for, or to another protocol, ends
/// the connection it came on: what follows on it is no HTTP.
pub fn agreed(reply: &Reply, asked: Option<OnUpgrade>) -> Result<Option<OnUpgrade>, Refusal> {
    match asked {
        _ if reply.response.status() != StatusCode::SWITCHING_PROTOCOLS => Ok(None),
        Some(client) if reply.websocket => Ok(Some(client)),
        _ => Err(Refusal::BadAnswer),
    }
}

/// Joins both sides once the client's has switched. The request inside the pool becomes a tunnel inside it.
pub fn join(client: OnUpgrade, mut link: Link, mut pass: Pass, pool: &Pool) {
    pass.become_tunnel();
    let cut = pool.tunnel_cut();
    tokio::task::spawn_local(async move {
        let _pass = pass;
        let carried = async {
            let Ok(client) = client.await else { return };
            let mut client = TokioIo::new(client);
            let Socket::Whole(backend) = &mut link.wire.socket else { return };
            // What the backend said right behind its head.
            if client.write_all(&std::mem::take(&mut link.wire.input)).await.is_ok() {
                // How a tunnel ends is between the two who spoke through it.
                let _ = tokio::io::copy_bidirectional(&mut client, backend).await;
            }
        };
        tokio::select! {
            () = carried => {}
            () = cut => {}
        }
    });
}
