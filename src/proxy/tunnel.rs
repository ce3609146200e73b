//! Tunnels: an upgraded connection carried byte by byte, until either side ends it or its pool cuts it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::converse::Visitor;
use super::headers::Reply;
use super::record::{End, Record};
use super::refusal::Refusal;
use super::silence::Silence;
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
pub fn join(client: OnUpgrade, mut link: Link, mut pass: Pass, pool: &Pool, mut record: Record, visitor: Rc<Visitor>) {
    pass.become_tunnel();
    record.becomes_tunnel();
    let cut = pool.tunnel_cut();
    tokio::task::spawn_local(async move {
        let silence = Silence::of(&visitor.edge.rules.timeouts);
        let _held = (pass, visitor);
        let traffic = Traffic { record: RefCell::new(record), is_over: Cell::new(false) };
        let carried = async {
            let Ok(client) = client.await else { return };
            let mut client = Side { io: TokioIo::new(client), traffic: &traffic, is_client: true };
            let Socket::Whole(backend) = &mut link.wire.socket else { return };
            // A tunnel has no other clock that would tell of a backend that has vanished.
            silence.bound(backend);
            let mut backend = Side { io: backend, traffic: &traffic, is_client: false };
            // What the backend said right behind its head.
            let ahead = std::mem::take(&mut link.wire.input);
            traffic.record.borrow_mut().passed(ahead.len() as u64);
            if client.write_all(&ahead).await.is_ok() {
                // How a tunnel ends is between the two who spoke through it.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
            }
        };
        tokio::select! {
            () = carried => {}
            () = cut => traffic.record.borrow_mut().ended(End::TunnelCut),
        }
    });
}

/// What has come through a tunnel, as its record wants to know it.
struct Traffic {
    record: RefCell<Record>,
    /// One side has ended; that the other then ends too is no news.
    is_over: Cell<bool>,
}

/// One end of a tunnel, watched.
struct Side<'t, S> {
    io: S,
    traffic: &'t Traffic,
    is_client: bool,
}

impl<S> Side<'_, S> {
    fn came(&self, bytes: u64) {
        let record = &mut *self.traffic.record.borrow_mut();
        if self.is_client { record.came(bytes) } else { record.passed(bytes) }
    }

    fn ends(&self) {
        if !self.traffic.is_over.replace(true) {
            let end = if self.is_client { End::TunnelClosedByClient } else { End::TunnelClosedByBackend };
            self.traffic.record.borrow_mut().ended(end);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        match buf.filled().len() - before {
            0 => self.ends(),
            came => self.came(came as u64),
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        if written.is_err() {
            self.ends();
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
