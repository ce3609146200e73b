//! Listening: from an accepted socket to requests, over TLS or not, HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::Proxy;
use super::body::Answer;
use super::headers::Client;
use super::pulse::{self, Connection, Ended, Pulse};
use super::refusal::Refusal;
use super::socket::Watched;
use super::tls::{Certificates, TlsError};
use crate::config;
use crate::metrics::Level;

/// One address clients connect to, as every worker sees it.
pub struct Listener {
    pub address: SocketAddr,
    tls: Option<(Arc<Certificates>, Arc<ServerConfig>)>,
    /// One for each worker.
    pub connections: Box<[Level]>,
}

/// How long a connection may take over what belongs to no service yet.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    pub idle: Duration,
    pub head: Duration,
}

/// One client connection, as its requests see it.
pub struct Visitor {
    pub client: Client,
    pub pulse: Arc<Pulse>,
    /// The certificates it was greeted from, and which of them it was.
    greeted: Option<(Arc<Certificates>, usize)>,
}

impl Visitor {
    /// Refuses a request for a host whose certificate is another one than this connection was opened under.
    pub fn vouches_for(&self, host: &str) -> Result<(), Refusal> {
        match &self.greeted {
            Some((certificates, place)) if !certificates.vouches(*place, host) => Err(Refusal::Misdirected),
            _ => Ok(()),
        }
    }
}

impl Listener {
    /// Binds one socket for each worker to the same address, so that the kernel spreads connections over them.
    pub fn bind(config: &config::Listener, workers: usize) -> Result<(Listener, Vec<TcpListener>), ListenError> {
        let tls = match &config.tls {
            None => None,
            Some(tls) => {
                let certificates = Certificates::load(tls)?;
                let server = certificates.server_config()?;
                Some((certificates, server))
            }
        };
        let unbound = |source| ListenError::Bind { address: config.address, source };
        // Two processes may share an address through SO_REUSEPORT without knowing: bind once without it and see.
        let first = bind(config.address, false).map_err(unbound)?;
        let address = first.local_addr().map_err(unbound)?;
        drop(first);
        let sockets = (0..workers).map(|_| bind(address, true)).collect::<Result<_, _>>().map_err(unbound)?;
        Ok((Listener { address, tls, connections: (0..workers).map(|_| Level::default()).collect() }, sockets))
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts on one worker's socket until told to stop; every connection becomes a task of the same worker.
pub async fn accept(
    socket: tokio::net::TcpListener,
    listener: Arc<Listener>,
    worker: usize,
    proxy: Rc<Proxy>,
    timers: Timers,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Rc::new(Open { listener: listener.clone(), worker });
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (listener, proxy, stop) = (listener.clone(), proxy.clone(), stop.clone());
                let open = connections.one();
                tokio::task::spawn_local(async move {
                    let _open = open;
                    serve(stream, peer, &listener, proxy, timers, stop).await;
                });
            }
            // Out of descriptors, most likely: connections that end will free some.
            Err(error) => {
                tracing::warn!(listener = %listener.address, "cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Counts this worker's open connections.
struct Open {
    listener: Arc<Listener>,
    worker: usize,
}

impl Open {
    fn one(self: &Rc<Open>) -> OpenOne {
        self.listener.connections[self.worker].change(1);
        OpenOne(self.clone())
    }
}

struct OpenOne(Rc<Open>);

impl Drop for OpenOne {
    fn drop(&mut self) {
        self.0.listener.connections[self.0.worker].change(-1);
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    listener: &Listener,
    proxy: Rc<Proxy>,
    timers: Timers,
    stop: watch::Receiver<bool>,
) {
    // Without it small answers wait for the client's acknowledgement (Nagle); a socket that cannot is gone already.
    let _ = stream.set_nodelay(true);
    let visitor = |greeted| {
        let text = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
        let proto = HeaderValue::from_static(if listener.is_tls() { "https" } else { "http" });
        let client = Client {
            address: text(peer.ip().to_canonical().to_string()),
            proto,
            port: text(listener.address.port().to_string()),
        };
        Rc::new(Visitor { client, pulse: Arc::default(), greeted })
    };
    // Who has asked for nothing yet need not be waited for when the proxy leaves.
    let leaving = async |mut stop: watch::Receiver<bool>| drop(stop.wait_for(|stop| *stop).await);
    let Some((certificates, config)) = &listener.tls else {
        let mut stream = stream;
        let sniffed = tokio::select! {
            sniffed = tokio::time::timeout(timers.idle, sniff(&mut stream)) => sniffed,
            () = leaving(stop.clone()) => return,
        };
        let Ok(Ok((ahead, h2))) = sniffed else { return };
        return converse(stream, ahead, h2, visitor(None), proxy, timers, stop).await;
    };
    let handshake = TlsAcceptor::from(config.clone()).accept(stream);
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(HANDSHAKE, handshake) => greeted,
        () = leaving(stop.clone()) => return,
    };
    let Ok(Ok(stream)) = greeted else { return };
    let (_, session) = stream.get_ref();
    let h2 = session.alpn_protocol() == Some(b"h2");
    let greeted = (certificates.clone(), certificates.choose(session.server_name()));
    converse(stream, Vec::new(), h2, visitor(Some(greeted)), proxy, timers, stop).await;
}

/// Reads just enough to tell HTTP/2 with prior knowledge from HTTP/1.1 (RFC 9113, 3.4); what was read comes along.
async fn sniff(stream: &mut TcpStream) -> io::Result<(Vec<u8>, bool)> {
    let mut ahead = Vec::with_capacity(SNIFF);
    while ahead.len() < PREFACE.len() {
        if stream.read_buf(&mut ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let both = ahead.len().min(PREFACE.len());
        if ahead[..both] != PREFACE[..both] {
            return Ok((ahead, false));
        }
    }
    Ok((ahead, true))
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    ahead: Vec<u8>,
    h2: bool,
    visitor: Rc<Visitor>,
    proxy: Rc<Proxy>,
    timers: Timers,
    mut stop: watch::Receiver<bool>,
) {
    let pulse = visitor.pulse.clone();
    let carrier = proxy.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let carried = carrier.clone().carry(visitor.clone(), request);
        async { Ok::<_, Infallible>(carried.await) }
    });
    let stop = async move { drop(stop.wait_for(|stop| *stop).await) };
    if h2 {
        let io = TokioIo::new(Watched::http2(stream, ahead, pulse.clone()));
        let mut connection = http2_builder().serve_connection(io, service);
        if pulse::watch(&mut connection, &pulse, timers.idle, timers.head, stop).await == Ended::Idle {
            // The client is told, and what its windows still hold back has as long again to be read.
            Pin::new(&mut connection).graceful_shutdown();
            let _ = tokio::time::timeout(timers.idle, connection).await;
        }
        return;
    }
    let io = TokioIo::new(Watched::http1(stream, ahead, pulse.clone()));
    let mut connection = http1_builder().serve_connection(io, service).with_upgrades();
    let ended = pulse::watch(&mut connection, &pulse, timers.idle, timers.head, stop).await;
    let Some(parts) = connection.into_parts() else { return };
    let (mut stream, unread) = parts.io.into_inner().into_parts();
    let slow = (ended == Ended::SlowHead).then_some(Refusal::SlowHead);
    let refusal = slow.or(unread);
    if let Some(refusal) = refusal {
        proxy.count_refusal(refusal);
    }
    if refusal.is_some() || pulse.was_interrupted() {
        let words = refusal.map(Refusal::bytes).unwrap_or_default();
        // A client that does not read it has its connection closed all the same.
        let _ = tokio::time::timeout(FAREWELL, say_farewell(&mut stream, &words)).await;
    }
}

/// Says the last words and reads on until the client has heard them: to close on a client that is still sending resets
/// the connection, and the reset takes the answer away from it (RFC 9112, 9.6).
async fn say_farewell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &str) -> io::Result<()> {
    stream.write_all(words.as_bytes()).await?;
    stream.shutdown().await?;
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // One copied write beats writev for small answers: 10 to 15 % of all CPU, measured. The head's clock is ours.
    builder.writev(false).max_buf_size(BUFFER).header_read_timeout(None).timer(TokioTimer::new());
    builder
}

fn http2_builder() -> http2::Builder<LocalTasks> {
    let mut builder = http2::Builder::new(LocalTasks);
    builder.max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEADER_LIST).timer(TokioTimer::new());
    builder
}

/// Puts what HTTP/2 wants done beside a connection on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalTasks;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

impl<S, V> Connection for http1::UpgradeableConnection<TokioIo<Watched<S>>, V>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: hyper::service::HttpService<Incoming, ResBody = Answer, Error = Infallible>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, V> Connection for http2::Connection<TokioIo<Watched<S>>, V, LocalTasks>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: hyper::service::HttpService<Incoming, ResBody = Answer, Error = Infallible>,
    V::Future: 'static,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Why a listener does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for the first read of a cleartext connection: most heads fit.
const SNIFF: usize = 2048;
/// Connections the kernel holds that no worker has accepted yet.
const BACKLOG: i32 = 4096;
/// The most of a head, or of a body at one time, that is held for one connection.
const BUFFER: usize = 64 * 1024;
const MAX_STREAMS: u32 = 256;
/// Twice what passes, so that it is our own answer that says so, and no more, so that a list stays bounded.
const MAX_HEADER_LIST: u32 = 64 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
