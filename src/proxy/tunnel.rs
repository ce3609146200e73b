//! Tunnels: an upgraded connection carried byte by byte, until either side ends it or its pool cuts it.

use http::{Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::TokioIo;

use super::refusal::Refusal;
use super::upstream::Link;
use crate::pool::Pool;
use crate::turnstile::Pass;

/// Both sides have agreed to switch protocols.
pub struct Agreed {
    pub client: OnUpgrade,
    pub backend: OnUpgrade,
}

/// Whether the answer grants the upgrade the client asked for. A switch nobody asked for, or to another protocol, ends
/// the connection it came on: what follows on it is no HTTP.
pub fn agreed(response: &mut Response<Incoming>, asked: Option<OnUpgrade>) -> Result<Option<Agreed>, Refusal> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let upgrade = response.headers().get(header::UPGRADE);
    let websocket = upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    match asked {
        Some(client) if websocket => Ok(Some(Agreed { client, backend: upgrade::on(response) })),
        _ => Err(Refusal::BadAnswer),
    }
}

/// Joins both sides once each has switched. The request inside the pool becomes a tunnel inside it.
pub fn join(client: OnUpgrade, backend: OnUpgrade, link: Link, mut pass: Pass, pool: &Pool) {
    pass.become_tunnel();
    let cut = pool.tunnel_cut();
    tokio::task::spawn_local(async move {
        let _hold = (link, pass);
        let carried = async {
            let (client, backend) = (client.await?, backend.await?);
            // How a tunnel ends is between the two who spoke through it.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await;
            Ok::<(), hyper::Error>(())
        };
        tokio::select! {
            _ = carried => {}
            () = cut => {}
        }
    });
}
