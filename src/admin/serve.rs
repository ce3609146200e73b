//! Serves the API on one socket: so many connections at one time, and each in its time.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;

use super::Scene;
use super::access::Peer;
use super::problem::Problem;
use crate::config;

/// Serves for as long as the process lives.
pub async fn serve<D: Door>(door: D, routes: Router, scene: Arc<Scene>) {
    let places = Arc::new(Places::default());
    loop {
        places.free(&scene).await;
        match door.enter().await {
            Ok((stream, peer)) => {
                let rules = scene.admin.load_full();
                D::bound(&stream, rules.timeouts.idle);
                let (place, routes) = (Place::of(&places), routes.clone());
                tokio::spawn(async move {
                    talk(stream, peer, routes, &rules).await;
                    drop(place);
                });
            }
            // Out of descriptors, most likely.
            Err(error) => {
                tracing::warn!("the admin API cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A socket that operators come in by.
pub trait Door {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn enter(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;

    /// Bounds how long what was sent may wait for its reader.
    fn bound(stream: &Self::Stream, patience: Duration);
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn enter(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        let peer = Peer::User(stream.peer_cred().ok().map(|credentials| credentials.uid()));
        Ok((stream, peer))
    }

    /// Whoever may open it can do worse than not to read.
    fn bound(_: &UnixStream, _: Duration) {}
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn enter(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = self.accept().await?;
        Ok((stream, Peer::Tcp(address)))
    }

    fn bound(stream: &TcpStream, patience: Duration) {
        let socket = SockRef::from(stream);
        // Where the system does not know of these, whoever does not read keeps a place.
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(patience).with_interval(patience));
        let _ = socket.set_tcp_user_timeout(Some(2 * patience));
    }
}

/// Speaks with one operator until one of the two is done.
async fn talk<S>(stream: S, peer: Peer, routes: Router, rules: &config::Admin)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request: Request<Incoming>| {
        let (routes, peer) = (routes.clone(), peer.clone());
        async move { Ok::<_, Infallible>(answer(request, peer, routes, rules).await) }
    });
    let mut builder = http1::Builder::new();
    // The clock of a head starts when a connection begins to wait for one.
    builder.timer(TokioTimer::new()).header_read_timeout(rules.timeouts.idle);
    // Whatever ends the connection, there is nobody left to tell.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// Reads the order to its end, in its time, and has it carried out.
async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    routes: TowerToHyperService<Router>,
    rules: &config::Admin,
) -> Response {
    let (mut head, body) = request.into_parts();
    let body = Limited::new(body, rules.limits.body).collect();
    let body = match tokio::time::timeout(rules.timeouts.idle, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Problem::too_large(rules.limits.body).into_response();
        }
        Ok(Err(error)) => return Problem::bad_request(format!("the body cannot be read: {error}")).into_response(),
        Err(_) => return Problem::slow().into_response(),
    };
    head.extensions.insert(ConnectInfo(peer));
    match routes.call(Request::from_parts(head, Body::from(body))).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The connections of one door.
#[derive(Default)]
struct Places {
    taken: AtomicUsize,
    left: Notify,
}

impl Places {
    /// Resolves when there is one for another, as many as there may be then.
    async fn free(&self, scene: &Scene) {
        while self.taken.load(Ordering::Acquire) >= scene.admin.load().limits.connections {
            // A reload may have allowed more in between.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.left.notified()).await;
        }
    }
}

/// One of them, until it is dropped.
struct Place(Arc<Places>);

impl Place {
    fn of(places: &Arc<Places>) -> Place {
        places.taken.fetch_add(1, Ordering::AcqRel);
        Place(places.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        // Remembered where nobody waits yet.
        self.0.left.notify_one();
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
