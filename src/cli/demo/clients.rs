//! The demo's clients: each sends its next request only after the answer to the last, and none ever sends one twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::names::{Color, PerColor};

/// All of them, on a thread of their own.
pub struct Clients {
    pub score: Arc<Score>,
    ended: oneshot::Receiver<()>,
}

impl Clients {
    pub fn start(proxy: SocketAddr) -> anyhow::Result<Clients> {
        let score = Arc::new(Score::default());
        let (end, ended) = oneshot::channel();
        let everyone = everyone(Load { proxy, score: score.clone() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            runtime.block_on(everyone);
            // Where nobody waits, the demo is over.
            let _ = end.send(());
        };
        let thread = std::thread::Builder::new().name("clients".to_owned());
        thread.spawn(work).context("the clients' thread cannot be started")?;
        Ok(Clients { score, ended })
    }

    /// Lets every client finish what it has begun.
    pub async fn stop(self) -> anyhow::Result<Arc<Score>> {
        self.score.over.store(true, Relaxed);
        self.ended.await.context("the clients broke down")?;
        Ok(self.score)
    }
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Http1,
    Http2,
    Slow,
    WebSocket,
}

impl Traffic {
    pub const ALL: [Traffic; 4] = [Traffic::Http1, Traffic::Http2, Traffic::Slow, Traffic::WebSocket];

    pub fn as_str(self) -> &'static str {
        match self {
            Traffic::Http1 => "HTTP/1.1",
            Traffic::Http2 => "HTTP/2",
            Traffic::Slow => "slow",
            Traffic::WebSocket => "WebSocket",
        }
    }
}

/// What has come of it so far.
#[derive(Default)]
pub struct Score {
    /// In the order of [`Traffic::ALL`].
    answered: [PerColor<AtomicU64>; Traffic::ALL.len()],
    echoes: AtomicU64,
    failed: AtomicU64,
    reasons: Mutex<BTreeMap<String, u64>>,
    over: AtomicBool,
}

impl Score {
    /// Requests of this kind that this color has answered, whole and as they should be.
    pub fn answered(&self, traffic: Traffic, color: Color) -> u64 {
        self.answered[traffic as usize][color].load(Relaxed)
    }

    pub fn answered_by(&self, color: Color) -> u64 {
        Traffic::ALL.into_iter().map(|traffic| self.answered(traffic, color)).sum()
    }

    pub fn echoes(&self) -> u64 {
        self.echoes.load(Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Why, the first few, with how often each was seen.
    pub fn reasons(&self) -> Vec<String> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.iter().map(|(reason, times)| format!("{times} × {reason}")).collect()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Relaxed)
    }

    fn count(&self, traffic: Traffic, outcome: &anyhow::Result<Color>) {
        let error = match outcome {
            Ok(color) => {
                self.answered[traffic as usize][*color].fetch_add(1, Relaxed);
                return;
            }
            Err(error) => error,
        };
        self.failed.fetch_add(1, Relaxed);
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        // Both ends of the chain; what lies between repeats the one or the other.
        let (what, why) = (error.to_string(), error.root_cause().to_string());
        let why = if what == why { String::new() } else { format!(": {why}") };
        let reason = format!("{}: {what}{why}", traffic.as_str());
        if reasons.len() < MAX_REASONS || reasons.contains_key(&reason) {
            *reasons.entry(reason).or_default() += 1;
        }
    }
}

/// What every client is given.
#[derive(Clone)]
struct Load {
    proxy: SocketAddr,
    score: Arc<Score>,
}

async fn everyone(load: Load) {
    let mut clients = JoinSet::new();
    for _ in 0..HTTP1_CLIENTS {
        clients.spawn(visit(load.clone(), Traffic::Http1, None));
    }
    for _ in 0..SLOW_CLIENTS {
        clients.spawn(visit(load.clone(), Traffic::Slow, None));
    }
    for _ in 0..WEBSOCKET_CLIENTS {
        clients.spawn(talk(load.clone()));
    }
    for _ in 0..HTTP2_CONNECTIONS {
        // Where it cannot be made, each stream tries by itself and counts the failure.
        let shared = open_http2(load.proxy).await.ok();
        for _ in 0..HTTP2_STREAMS {
            clients.spawn(visit(load.clone(), Traffic::Http2, shared.clone().map(Line::Http2)));
        }
    }
    while clients.join_next().await.is_some() {}
}

/// Sends one request after another on one connection; a new one is opened only where one was lost.
async fn visit(load: Load, traffic: Traffic, mut line: Option<Line>) {
    while load.score.goes_on() {
        let asked = within(PATIENCE, ask(&load, traffic, &mut line)).await;
        load.score.count(traffic, &asked);
        if asked.is_err() {
            line = None;
            tokio::time::sleep(AFTER_FAILURE).await;
        }
        // Some follow at once, most think for a moment; who sends slow requests has waited enough.
        if traffic != Traffic::Slow && fastrand::u8(..4) > 0 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=MAX_THINK))).await;
        }
    }
}

/// One request. Its answer must be whole, come from a stack, and be the answer to this request and no other.
async fn ask(load: &Load, traffic: Traffic, line: &mut Option<Line>) -> anyhow::Result<Color> {
    let line = match line {
        Some(line) => line,
        none => none.insert(Line::open(traffic, load.proxy).await?),
    };
    let request = request(load, traffic)?;
    let expected = format!("{} {}\n", request.uri().path(), request.body());
    let (head, body) = line.send(request.map(Full::from)).await?.into_parts();
    if head.status != StatusCode::OK {
        let why = head.headers.get("cutover-error").map_or("from a stack".into(), |why| format!("{why:?}"));
        bail!("answered {} ({why})", head.status);
    }
    let body = body.collect().await.context("the answer broke off")?.to_bytes();
    let text = std::str::from_utf8(&body)?;
    let (color, rest) = text.split_once(' ').context("the answer names no color")?;
    ensure!(rest == expected, "another request's answer, or a part of one");
    Ok(color.parse()?)
}

/// A GET, or now and then a POST, which nobody may send again on the client's behalf.
fn request(load: &Load, traffic: Traffic) -> http::Result<Request<String>> {
    let number = fastrand::u32(..);
    let (method, body) = match number % 4 {
        0 if traffic != Traffic::Slow => (Method::POST, format!("{number} bought")),
        _ => (Method::GET, String::new()),
    };
    let path = match traffic {
        Traffic::Slow => format!("/slow?ms={}", fastrand::u64(SLOW)),
        _ => format!("/item/{number}"),
    };
    let request = Request::builder().method(method);
    // HTTP/2 names the host in its :authority, which hyper takes from the URI; HTTP/1.1 in the Host header.
    match traffic {
        Traffic::Http2 => request.uri(format!("http://{}{path}", load.proxy)).body(body),
        _ => request.uri(path).header(header::HOST, load.proxy.to_string()).body(body),
    }
}

/// Holds one conversation after another.
async fn talk(load: Load) {
    while load.score.goes_on() {
        let said = within(PATIENCE, converse(&load)).await;
        load.score.count(Traffic::WebSocket, &said);
        if said.is_err() {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}

/// A WebSocket from its opening to a close that both sides have said: all of it belongs to one color.
async fn converse(load: &Load) -> anyhow::Result<Color> {
    let stream = connect(load.proxy).await?;
    let (mut socket, _) = client_async(format!("ws://{}/talk", load.proxy), stream).await.context("not opened")?;
    let mut spoken = None;
    for number in 0..ECHOES {
        socket.send(Message::text(number.to_string())).await.context("cut while speaking")?;
        let heard = socket.next().await.context("cut while listening")?.context("cut while listening")?;
        let (color, echo) = heard.to_text()?.split_once(' ').context("the echo names no color")?;
        ensure!(echo == number.to_string(), "not the echo of what was said");
        let color: Color = color.parse()?;
        ensure!(*spoken.get_or_insert(color) == color, "the color changed within a conversation");
        load.score.echoes.fetch_add(1, Relaxed);
        tokio::time::sleep(BETWEEN_ECHOES).await;
    }
    socket.close(None).await.context("cut before its close")?;
    // The stream ends without an error only after the other side's close.
    while let Some(message) = socket.next().await {
        message.context("cut before the close was answered")?;
    }
    spoken.context("nothing was said")
}

/// A client's connection.
enum Line {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Line {
    async fn open(traffic: Traffic, proxy: SocketAddr) -> anyhow::Result<Line> {
        if traffic == Traffic::Http2 {
            return Ok(Line::Http2(open_http2(proxy).await?));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(connect(proxy).await?)).await?;
        // How it ends is seen by the request that is on it, or by the next one.
        tokio::spawn(connection);
        Ok(Line::Http1(sender))
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        Ok(match self {
            Line::Http1(sender) => sender.send_request(request).await?,
            Line::Http2(sender) => sender.send_request(request).await?,
        })
    }
}

/// With prior knowledge (RFC 9113, 3.3).
async fn open_http2(proxy: SocketAddr) -> anyhow::Result<http2::SendRequest<Full<Bytes>>> {
    let stream = TokioIo::new(connect(proxy).await?);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn connect(proxy: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(proxy).await.context("the proxy cannot be connected to")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn within<T>(patience: Duration, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let late = |_| anyhow!("not finished in {} s", patience.as_secs());
    tokio::time::timeout(patience, work).await.map_err(late)?
}

const HTTP1_CLIENTS: usize = 32;
const HTTP2_CONNECTIONS: usize = 4;
/// On each of them.
const HTTP2_STREAMS: usize = 8;
const WEBSOCKET_CLIENTS: usize = 8;
const SLOW_CLIENTS: usize = 8;
/// Milliseconds. Clients, stacks and proxy together use a little more than one core this way.
const MAX_THINK: u64 = 30;
/// How long a slow request takes, in milliseconds; a drain waits for the last of them.
const SLOW: RangeInclusive<u64> = 500..=1500;
/// In one conversation.
const ECHOES: u32 = 5;
const BETWEEN_ECHOES: Duration = Duration::from_millis(200);
/// Anything here is finished in two seconds, unless it never will be, or the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// So that a proxy that has gone is not counted as lost ten thousand times a second.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Different ones, kept to be shown.
const MAX_REASONS: usize = 5;
