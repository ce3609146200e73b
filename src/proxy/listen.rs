//! Listening: a socket for each worker, and the way of an accepted connection to the conversation on it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt;
use http::HeaderValue;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Proxy;
use super::capacity::{Capacity, NoPlace, Place};
use super::converse::{self, Visitor};
use super::headers::Client;
use super::leave::{Leave, Stage};
use super::loss::Loss;
use super::meter::PREFACE;
use super::tls::{Identity, TlsError};
use crate::config;
use crate::metrics::ConnectionSheet;

/// One address clients connect to, as every worker sees it.
pub struct Listener {
    pub address: SocketAddr,
    /// Looked at once for each connection; a reload swaps it.
    identity: ArcSwapOption<Identity>,
    /// The port as backends are told it.
    pub port: HeaderValue,
    /// One for each worker.
    sheets: Box<[Arc<ConnectionSheet>]>,
    shut: AtomicBool,
}

/// Those of the config, in its order; then those that are shut and still have connections.
pub type Listeners = ArcSwap<Vec<Arc<Listener>>>;

impl Listener {
    /// Binds one socket for each worker to the same address, so that the kernel spreads connections over them; or takes
    /// what has been inherited for it.
    pub fn bind(
        config: &config::Listener,
        workers: usize,
        inherited: &[TcpListener],
    ) -> Result<(Listener, Vec<TcpListener>), ListenError> {
        let unbound = |source| ListenError::Bind { address: config.address, source };
        let sockets = match inherited {
            [] => bind_all(config.address, workers).map_err(unbound)?,
            some if some.len() > workers => {
                return Err(ListenError::TooMany { address: config.address, sockets: some.len(), workers });
            }
            some => share(some, workers).map_err(unbound)?,
        };
        Listener::on(config, sockets)
    }

    /// Binds beside another listener of ours that the address overlaps with, and that is about to be shut.
    pub fn bind_beside(config: &config::Listener, workers: usize) -> Result<(Listener, Vec<TcpListener>), ListenError> {
        let sockets = (0..workers).map(|_| bind(config.address, true)).collect::<Result<_, _>>();
        Listener::on(config, sockets.map_err(|source| ListenError::Bind { address: config.address, source })?)
    }

    fn on(config: &config::Listener, sockets: Vec<TcpListener>) -> Result<(Listener, Vec<TcpListener>), ListenError> {
        let identity = config.tls.as_ref().map(|tls| Identity::load(tls, None)).transpose()?.map(Arc::new);
        let unbound = |source| ListenError::Bind { address: config.address, source };
        let address = sockets[0].local_addr().map_err(unbound)?;
        let port = HeaderValue::from(address.port());
        let sheets = sockets.iter().map(|_| Arc::new(ConnectionSheet::new(Loss::REASONS.len()))).collect();
        let (identity, shut) = (ArcSwapOption::new(identity), AtomicBool::new(false));
        Ok((Listener { address, identity, port, sheets, shut }, sockets))
    }

    pub fn is_tls(&self) -> bool {
        self.identity.load().is_some()
    }

    /// Who it is to clients, where it speaks TLS.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    /// Who it is from the next connection on.
    pub fn identify_as(&self, identity: Option<Arc<Identity>>) {
        self.identity.store(identity);
    }

    /// It is out of the config, and only for those who came by it.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    pub fn shut(&self) {
        self.shut.store(true, Ordering::Relaxed);
    }

    /// Client connections open now.
    pub fn open(&self) -> i64 {
        self.sheets.iter().map(|sheet| sheet.open.get()).sum()
    }

    /// Connections lost so far for the reason of this number.
    pub fn lost(&self, number: usize) -> u64 {
        self.sheets.iter().map(|sheet| sheet.lost[number].get()).sum()
    }

    /// HTTP/2 requests reset so far by clients, in the first place, or by the proxy.
    pub fn resets(&self, place: usize) -> u64 {
        self.sheets.iter().map(|sheet| sheet.resets[place].get()).sum()
    }
}

fn bind_all(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // Two processes may share an address through SO_REUSEPORT without knowing: bind once without it and see.
    let first = bind(address, false)?;
    let address = first.local_addr()?;
    drop(first);
    (0..workers).map(|_| bind(address, true)).collect()
}

/// A socket for each worker out of fewer: those who have the same one accept from the same queue.
fn share(inherited: &[TcpListener], workers: usize) -> io::Result<Vec<TcpListener>> {
    let shared = |socket: &TcpListener| {
        let socket = Socket::from(socket.try_clone()?);
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
        Ok(socket.into())
    };
    inherited.iter().cycle().take(workers).map(shared).collect()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Without it small answers wait for the client's acknowledgement (Nagle). What is accepted inherits it (tcp(7)).
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What the connections of one listener share at one worker.
pub struct Station {
    pub worker: usize,
    pub proxy: Rc<Proxy>,
    pub leave: Rc<Leave>,
    pub capacity: Arc<Capacity>,
}

/// Accepts on one worker's socket until the worker leaves or the listener is shut; every connection becomes a task of
/// the same worker.
pub async fn accept(
    socket: tokio::net::TcpListener,
    listener: Arc<Listener>,
    station: Rc<Station>,
    mut shut: oneshot::Receiver<()>,
) {
    let (mut silence, mut waited) = (Silence::default(), false);
    loop {
        // Whoever waits in the socket when it is told something has inherited nothing of it.
        waited |= silence.follow(&socket, &station.proxy.edge().rules.timeouts);
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = station.leave.reached(Stage::Closing) => break,
            _ = &mut shut => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                waited |= silence.follow(&socket, &station.proxy.edge().rules.timeouts);
                if waited {
                    silence.bound(&stream);
                }
                // Only now that somebody has come is anybody asked to make room.
                let is_shut = tokio::select! {
                    biased;
                    () = station.capacity.room(|| station.proxy.edge()) => false,
                    () = station.leave.reached(Stage::Closing) => false,
                    _ = &mut shut => true,
                };
                receive(stream, peer, &listener, &station);
                if is_shut {
                    break;
                }
                waited &= !receive_more(&socket, &listener, &station, waited.then_some(silence));
            }
            // Out of descriptors, most likely: connections that end will free some.
            Err(error) => {
                tracing::warn!(listener = %listener.address, "cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Who has been let in by the kernel already would be turned away with the socket. It is asked itself: the runtime
    // may not have heard of the last of them.
    let Ok(socket) = socket.into_std() else { return };
    while let Ok((stream, peer)) = socket.accept() {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        stream.into_iter().for_each(|stream| receive(stream, peer, &listener, &station));
    }
}

/// What the system is told of how long a client's machine may be silent. What is accepted inherits it (tcp(7)), so that it
/// costs no connection a call.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Silence {
    /// Nothing for so long: it is asked whether it is there.
    probe: Duration,
    /// What was sent has not arrived for so long: it is gone.
    unheard: Duration,
}

impl Silence {
    pub fn of(timeouts: &config::EdgeTimeouts) -> Silence {
        // A client that is there and has its window shut is for `send` to judge.
        Silence { probe: timeouts.probe, unheard: timeouts.send.max(2 * timeouts.probe) }
    }

    /// Takes over what a reload has changed; whether there was anything.
    fn follow(&mut self, socket: &tokio::net::TcpListener, timeouts: &config::EdgeTimeouts) -> bool {
        let now = Silence::of(timeouts);
        let is_other = *self != now;
        if is_other {
            *self = now;
            self.bound(socket);
        }
        is_other
    }

    /// Where the system does not know of it, other timers still bound the connection.
    pub fn bound(&self, socket: &impl std::os::fd::AsFd) {
        let socket = SockRef::from(socket);
        // The system counts whole seconds.
        let interval = (self.probe / PROBES).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(self.probe).with_interval(interval).with_retries(PROBES);
        let set = socket.set_tcp_keepalive(&keepalive).and_then(|()| socket.set_tcp_user_timeout(Some(self.unheard)));
        if let Err(error) = set {
            tracing::debug!("a client that vanishes will be noticed late: {error}");
        }
    }
}

/// Takes what else has come by now, without waiting: under load most connections are taken here. Each is told of the
/// silence, if there is something to tell. Whether nobody waits any more.
fn receive_more(
    socket: &tokio::net::TcpListener,
    listener: &Arc<Listener>,
    station: &Rc<Station>,
    silence: Option<Silence>,
) -> bool {
    let edge = station.proxy.edge();
    for _ in 0..AT_ONCE {
        if station.capacity.is_full(&edge.rules.limits) {
            return false;
        }
        match socket.accept().now_or_never() {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok((stream, peer))) => {
                silence.iter().for_each(|silence| silence.bound(&stream));
                receive(stream, peer, listener, station);
            }
        }
    }
    false
}

fn receive(stream: TcpStream, peer: SocketAddr, listener: &Arc<Listener>, station: &Rc<Station>) {
    let edge = station.proxy.edge();
    let ip = peer.ip().to_canonical();
    let trusted = edge.rules.trusted_proxies.iter().any(|network| network.contains(&ip));
    let place = match station.capacity.enter(ip, trusted, &edge.rules.limits) {
        // Between the look and the step another worker took the last place: one more is no harm.
        Ok(place) | Err(NoPlace::Full(place)) => place,
        Err(NoPlace::TooManyOfClient) => {
            listener.sheets[station.worker].lost[Loss::TooMany.number()].add(1);
            return;
        }
    };
    let open = Open::new(listener.sheets[station.worker].clone(), place);
    let (station, identity) = (station.clone(), listener.identity());
    let client = client(ip, identity.is_some(), listener.port.clone(), trusted, edge.rules.clone());
    let visitor = Visitor::new(client, edge, station.leave.clone(), open);
    // Two kinds of tasks, so that cleartext connections are not as large as those over TLS; in boxes, since the runtime moves
    // a task about six times.
    match identity {
        None => drop(tokio::task::spawn_local(Box::pin(async move {
            let Some((stream, ahead, visitor)) = Box::pin(hear(stream, visitor, &station)).await else { return };
            converse::hold(stream, ahead, visitor, &station).await;
        }))),
        Some(identity) => drop(tokio::task::spawn_local(Box::pin(async move {
            let Some((stream, visitor)) = Box::pin(greet(stream, visitor, &station, identity)).await else { return };
            converse::hold(stream, Vec::new(), visitor, &station).await;
        }))),
    }
}

/// The client as backends are told of it.
fn client(ip: IpAddr, tls: bool, port: HeaderValue, trusted: bool, edge: Arc<config::Edge>) -> Client {
    let address = HeaderValue::try_from(text(ip)).unwrap_or(HeaderValue::from_static(""));
    Client::new(address, HeaderValue::from_static(if tls { "https" } else { "http" }), port, trusted, edge)
}

/// An address as text. A formatter takes ten times as long, which is a twentieth of a connection for one request.
fn text(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip else { return ip.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in ip.octets().into_iter().enumerate() {
        text.push_str(if place == 0 { "" } else { "." });
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

/// One open connection, counted.
pub struct Open {
    pub sheet: Arc<ConnectionSheet>,
    place: Place,
}

impl Open {
    fn new(sheet: Arc<ConnectionSheet>, place: Place) -> Open {
        sheet.open.change(1);
        Open { sheet, place }
    }

    pub fn capacity(&self) -> Arc<Capacity> {
        self.place.capacity.clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.sheet.open.change(-1);
    }
}

/// Waits for the first bytes, which tell the protocol.
async fn hear(mut stream: TcpStream, visitor: Visitor, station: &Station) -> Option<(TcpStream, Vec<u8>, Rc<Visitor>)> {
    let opening = visitor.edge.rules.timeouts.opening;
    let sniffed = match in_time(station, opening, sniff(&mut stream)).await {
        Ok(sniffed) => sniffed,
        Err(missed) => return visitor.loses(missed.loss(Loss::Silent)),
    };
    let (ahead, http2) = sniffed.ok()?;
    if !http2 && is_foreign(&ahead) {
        return visitor.loses(Some(Loss::Foreign));
    }
    Some((stream, ahead, Rc::new(visitor.speaking(http2))))
}

/// Shakes hands, which tells the protocol and the certificate.
async fn greet(
    stream: TcpStream,
    visitor: Visitor,
    station: &Station,
    identity: Arc<Identity>,
) -> Option<(TlsStream<TcpStream>, Rc<Visitor>)> {
    let handshake = visitor.edge.rules.timeouts.handshake;
    let accepted = TlsAcceptor::from(identity.server.clone()).accept(stream);
    let stream = match in_time(station, handshake, accepted).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(client = ?visitor.client.address, "the TLS handshake failed: {error}");
            // Who only looks whether somebody listens, as load balancers do, has failed at nothing.
            let is_failure = error.kind() == io::ErrorKind::InvalidData;
            return visitor.loses(is_failure.then_some(Loss::HandshakeFailed));
        }
        Err(missed) => return visitor.loses(missed.loss(Loss::HandshakeSlow)),
    };
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let certificates = identity.certificates.clone();
    let greeted = (certificates.clone(), certificates.choose(session.server_name()));
    let visitor = visitor.greeted(greeted).speaking(http2);
    Some((stream, Rc::new(visitor)))
}

/// What comes of `step` in its time. Whoever has said nothing yet leaves when another needs its place, and once the worker
/// closes gets only a moment.
async fn in_time<T>(station: &Station, within: Duration, step: impl Future<Output = T>) -> Result<T, Missed> {
    let hurry = async {
        station.leave.reached(Stage::Closing).await;
        tokio::time::sleep(HURRY.min(within)).await;
    };
    tokio::select! {
        biased;
        done = tokio::time::timeout(within, step) => done.map_err(|_| Missed::Late),
        () = hurry => Err(Missed::Leaving),
        () = station.capacity.evicted() => Err(Missed::Evicted),
    }
}

/// Why a step did not come to its end.
enum Missed {
    Late,
    Leaving,
    Evicted,
}

impl Missed {
    /// What the connection is lost for; `late` where it was too late.
    fn loss(&self, late: Loss) -> Option<Loss> {
        match self {
            Missed::Late => Some(late),
            Missed::Leaving => None,
            Missed::Evicted => Some(Loss::MadeRoom),
        }
    }
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

/// Whether this is the first line of another protocol: none in which an answer could be given. What HTTP/1 writes, well
/// or badly, has a version somewhere behind the second word, or nothing there.
fn is_foreign(ahead: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', ahead) else { return false };
    let line = ahead[..end].trim_ascii();
    let mut rest = line.split(|byte| *byte == b' ').skip(2).filter(|word| !word.is_empty()).peekable();
    rest.peek().is_some() && rest.all(|word| !word.contains(&b'/'))
}

/// Why a listener does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error(
        "{sockets} sockets were handed over for {address}, and only {workers} workers can accept from them: give its unit \
        fewer, or start with --workers {sockets}"
    )]
    TooMany { address: SocketAddr, sockets: usize, workers: usize },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Room for the first read of a cleartext connection: most heads fit.
const SNIFF: usize = 2048;
/// Connections taken in one turn, so that those there are get theirs.
const AT_ONCE: usize = 16;
/// What the kernel takes of an answer beyond what is on its way to the client. By itself it takes megabytes: each slow
/// reader would pin them, and would seem to stand still for as long as a third of them lasts (tcp(7)).
const UNSENT: u32 = 128 * 1024;
/// Connections the kernel holds that no worker has accepted yet: as many as it allows (net.core.somaxconn).
const BACKLOG: i32 = i32::MAX;
/// Questions within the time that a silent client has to answer.
const PROBES: u32 = 4;
/// How long nobody is accepted where the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a connection has for its first byte once the worker closes.
const HURRY: Duration = Duration::from_secs(1);
