//! The conversation on one client connection: HTTP/1.1 or HTTP/2 spoken by hyper, held to its terms, parked while idle.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::accept::{Open, Station};
use super::arrival::Arrival;
use super::body::Answer;
use super::capacity::Capacity;
use super::headers::{self, Client};
use super::leave::{Leave, Stage};
use super::loss::Loss;
use super::meter::Meter;
use super::pulse::{self, Pulse};
use super::refusal::Refusal;
use super::socket::{Socketed, Watched};
use super::stall::Stall;
use super::streams::Streams;
use super::tls::Certificates;
use super::watch::{self, Connection, Ended, Terms};
use crate::config;
use crate::table::Edge;
use crate::tail::Known;
use crate::time::Moment;

/// One client connection, as its requests see it.
pub struct Visitor {
    pub client: Client,
    pub pulse: Arc<Pulse>,
    pub edge: Arc<Edge>,
    /// How far its listener's leaving is.
    pub leave: Rc<Leave>,
    pub http2: bool,
    pub born: Moment,
    /// In which tails it has been counted.
    pub known: Known,
    /// It is told to leave with the next answer: so that its client looks the name up again, since where its next request
    /// would begin is not beyond doubt, or since its client said so.
    pub is_told: Cell<bool>,
    /// The certificates it was greeted from, and which of them it was.
    greeted: Option<(Arc<Certificates>, usize)>,
    /// It counts for as long as anything of it lives, a tunnel as well.
    open: Open,
}

impl Visitor {
    pub fn new(client: Client, edge: Arc<Edge>, leave: Rc<Leave>, open: Open) -> Visitor {
        let (pulse, born, known, is_told) = (Arc::default(), Moment::now(), Known::default(), Cell::new(false));
        Visitor { client, pulse, edge, leave, http2: false, born, known, is_told, greeted: None, open }
    }

    pub fn speaking(mut self, http2: bool) -> Visitor {
        self.http2 = http2;
        self
    }

    pub fn greeted(mut self, greeted: (Arc<Certificates>, usize)) -> Visitor {
        self.greeted = Some(greeted);
        self
    }

    /// Refuses a request for a host whose certificate is another one than this connection was opened under.
    pub fn vouches_for(&self, host: &str) -> Result<(), Refusal> {
        match &self.greeted {
            Some((certificates, place)) if !certificates.vouches(*place, host) => Err(Refusal::Misdirected),
            _ => Ok(()),
        }
    }

    /// Says with the answer to a request of this version that the connection is to end, where that is so.
    pub fn takes_leave_with(&self, answer: &mut Response<Answer>, version: Version) {
        match self.leave.stage() > Stage::Staying || self.is_told.get() {
            true if self.http2 && self.is_told.get() => self.pulse.ask_to_leave(),
            true if !self.http2 && answer.status() != StatusCode::SWITCHING_PROTOCOLS => {
                headers::close(answer.headers_mut());
                // To an answer of HTTP/1.1 hyper would add `keep-alive` for a client of HTTP/1.0 that asked for it.
                *answer.version_mut() = version;
            }
            _ => {}
        }
    }

    /// The connection is lost for this reason, if it is one: nothing comes of it.
    pub fn loses<T>(&self, loss: Option<Loss>) -> Option<T> {
        if let Some(loss) = loss {
            self.pulse.loses(loss);
        }
        None
    }

    /// What its place is one of.
    pub fn capacity(&self) -> Arc<Capacity> {
        self.open.capacity()
    }

    fn timeouts(&self) -> &config::EdgeTimeouts {
        &self.edge.rules.timeouts
    }

    fn limits(&self) -> &config::EdgeLimits {
        &self.edge.rules.limits
    }

    /// The clock for what the client has to take.
    fn stall(&self) -> Stall {
        Stall::new(self.edge.rules.timeouts.send, self.limits().send_rate)
    }
}

/// Counted here, where it ends, whatever has become of it: a tunnel too.
impl Drop for Visitor {
    fn drop(&mut self) {
        if let Some(number) = self.pulse.lost() {
            self.open.sheet.lost[number].add(1);
            tracing::debug!(client = ?self.client.address, "a connection is lost: {}", Loss::REASONS[number]);
        }
    }
}

/// Speaks with the client until one of the two is done. `ahead` has been read from the stream already.
///
/// What hyper needs is kept beside this future, not in it, so that a parked connection is little more than its socket.
pub async fn hold<S>(mut stream: S, mut ahead: Vec<u8>, visitor: Rc<Visitor>, station: &Rc<Station>)
where
    S: AsyncRead + Socketed + Unpin + Send + 'static,
{
    if visitor.http2 {
        return Box::pin(http2(stream, ahead, visitor, station)).await;
    }
    let mut since = Instant::now();
    while let Some(parked) = Box::pin(http1(stream, ahead, since, visitor.clone(), station)).await {
        (stream, ahead, since) = parked;
        if pulse::is_blank(&ahead) {
            ahead = Vec::new();
        }
        if ahead.is_empty() && !wakes(stream.socket(), since, &visitor, station).await {
            // Whoever reads an end has been told; anything else there was to say has been said.
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Waits beside a parked connection; false where it is to be closed.
async fn wakes(socket: &mut Arrival, since: Instant, visitor: &Visitor, station: &Station) -> bool {
    let Ok(socket) = socket.heard() else { return false };
    let socket = &*socket;
    tokio::select! {
        biased;
        _ = socket.readable() => true,
        () = station.leave.reached(Stage::Closing) => has_spoken(socket),
        () = station.capacity.evicted() => {
            let stays = has_spoken(socket);
            if !stays {
                visitor.pulse.loses(Loss::MadeRoom);
            }
            stays
        }
        () = tokio::time::sleep_until(since + visitor.edge.idle) => has_spoken(socket),
    }
}

/// A request that came at the last instant is not closed upon.
fn has_spoken(socket: &TcpStream) -> bool {
    matches!(socket.peek(&mut [0]).now_or_never(), Some(Ok(1)))
}

/// Speaks HTTP/1.1. Where the connection is to be parked the stream comes back, with what was read ahead, and since when
/// it has idled.
async fn http1<S: AsyncRead + Socketed + Unpin + Send + 'static>(
    stream: S,
    ahead: Vec<u8>,
    since: Instant,
    visitor: Rc<Visitor>,
    station: &Rc<Station>,
) -> Option<(S, Vec<u8>, Instant)> {
    let (pulse, edge) = (visitor.pulse.clone(), visitor.edge.clone());
    let io = TokioIo::new(Watched::http1(stream, ahead, pulse.clone(), visitor.stall()));
    let (proxy, visits) = (station.proxy.clone(), visitor.clone());
    // In a box of its own, which goes from one connection's request to another's while the processor's cache still has it.
    let service =
        service_fn(move |request: Request<Incoming>| Box::pin(proxy.clone().carry(visits.clone(), request, None)));
    let mut connection = http1_builder(visitor.limits()).serve_connection(io, service).with_upgrades();
    let (idle, head, quiet) = (edge.idle, edge.head, visitor.timeouts().park);
    let terms = Terms { idle, head, since, quiet, parks: quiet < idle, age: None, leaves_at: Stage::Closing };
    let mut ended = watch::over(&mut connection, &pulse, terms, station).await;
    if let Ended::Quiet(since) = ended
        && !watch::park(&mut connection, &pulse).await
    {
        let terms = Terms { since, parks: false, ..terms };
        ended = Box::pin(watch::over(&mut connection, &pulse, terms, station)).await;
    }
    if ended == Ended::Evicted {
        pulse.loses(Loss::MadeRoom);
    }
    let parts = connection.into_parts()?;
    let (mut stream, unread) = parts.io.into_inner().into_parts();
    if pulse.is_torn() {
        // An end would be that of the answer; a reset is one to nobody.
        let _ = stream.socket().options().map(|socket| socket.set_linger(Some(Duration::ZERO)));
        return None;
    }
    if let (Ended::Quiet(since), None) = (ended, unread) {
        return Some((stream, parts.read_buf.to_vec(), since));
    }
    let slow = (ended == Ended::SlowHead).then_some(Refusal::SlowHead);
    let refusal = slow.or(unread);
    if let Some(refusal) = refusal {
        station.proxy.refuse_unread(&visitor, refusal);
    }
    let is_unheard = pulse.is_deaf() && stream.socket().has_unread();
    if refusal.is_some() || pulse.was_interrupted() || is_unheard {
        let words = refusal.map(Refusal::bytes).unwrap_or_default();
        // A client that does not read it has its connection closed all the same.
        let linger = visitor.timeouts().linger;
        let _ = tokio::time::timeout(linger, Box::pin(say_farewell(&mut stream, &words))).await;
    }
    None
}

async fn http2<S: AsyncRead + Socketed + Unpin + Send + 'static>(
    stream: S,
    ahead: Vec<u8>,
    visitor: Rc<Visitor>,
    station: &Rc<Station>,
) {
    let (pulse, edge) = (visitor.pulse.clone(), visitor.edge.clone());
    let config::EdgeTimeouts { send, park, http2_ping, http2_age, .. } = edge.rules.timeouts;
    let config::EdgeLimits { http2_controls, http2_streams, send_rate, .. } = *visitor.limits();
    let meter = Meter::new(http2_controls, http2_streams, visitor.open.sheet.clone());
    let io = TokioIo::new(Watched::http2(stream, ahead, pulse.clone(), visitor.stall(), meter));
    let streams = Streams::new(send, send_rate, station.proxy.streams.clone(), pulse.clone());
    let builder = http2_builder(visitor.limits(), http2_ping, streams.clone());
    let proxy = station.proxy.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        proxy.clone().carry(visitor.clone(), request, Some(streams.flow()))
    });
    let mut connection = builder.serve_connection(io, service);
    let (idle, head, since, age) = (edge.idle, edge.head, Instant::now(), Some(http2_age));
    let terms = Terms { idle, head, since, quiet: park.min(idle), parks: false, age, leaves_at: Stage::Telling };
    let rest = match watch::over(&mut connection, &pulse, terms, station).await {
        Ended::Idle => send.min(idle),
        Ended::Evicted => {
            pulse.loses(Loss::MadeRoom);
            HINT
        }
        Ended::Broken => return pulse.loses(Loss::Broken),
        _ => return,
    };
    // The client is told, and what its windows still hold back has a while to be read.
    Pin::new(&mut connection).graceful_shutdown();
    let _ = tokio::time::timeout(rest, watch::finish(&mut connection, &pulse)).await;
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

fn http1_builder(limits: &config::EdgeLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // One copied write beats writev for small answers: 10 to 15 % of all CPU, measured. The head's clock is ours.
    builder.writev(false).max_buf_size(BUFFER).header_read_timeout(None);
    if limits.fields != HYPERS_FIELDS {
        builder.max_headers(limits.fields);
    }
    builder
}

fn http2_builder(limits: &config::EdgeLimits, ping: Duration, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .max_concurrent_streams(limits.http2_streams)
        // Twice what passes, so that it is our own answer that says so, and no more, so that a list stays bounded.
        .max_header_list_size(u32::try_from(2 * limits.head).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_window)
        .max_frame_size(limits.http2_frame)
        .max_send_buf_size(limits.http2_send_buffer)
        .max_pending_accept_reset_streams(limits.http2_early_resets)
        .max_local_error_reset_streams(limits.http2_faults)
        .keep_alive_interval(ping)
        .keep_alive_timeout(ping)
        .timer(TokioTimer::new());
    builder
}

impl<S, V> Connection for http1::UpgradeableConnection<TokioIo<Watched<S>>, V>
where
    S: AsyncRead + Socketed + Unpin + Send + 'static,
    V: hyper::service::HttpService<Incoming, ResBody = Answer, Error = Infallible>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, V> Connection for http2::Connection<TokioIo<Watched<S>>, V, Streams>
where
    S: AsyncRead + Socketed + Unpin + Send + 'static,
    V: hyper::service::HttpService<Incoming, ResBody = Answer, Error = Infallible>,
    V::Future: 'static,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// The most of a head, or of a body at one time, that is held for one HTTP/1.1 connection: what the largest `head` that can
/// be configured takes, so no key of its own.
const BUFFER: usize = 64 * 1024;
/// What hyper takes without being told, and without an allocation for more.
const HYPERS_FIELDS: usize = 100;
/// What an idle HTTP/2 client has to read that it should go, where another waits for its place.
const HINT: Duration = Duration::from_millis(100);
