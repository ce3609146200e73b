//! The demo's two stacks: real endpoints that answer with their color and count each request by when it began.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::names::{Color, PerColor};
use crate::time::Moment;

/// Both stacks, on a thread of their own that ends when this is dropped.
pub struct Stacks {
    pub of: PerColor<Stack>,
    _running: oneshot::Sender<()>,
}

/// One color's endpoints, and what has reached them.
#[derive(Clone)]
pub struct Stack {
    pub endpoints: Vec<SocketAddr>,
    pub tally: Arc<Tally>,
}

impl Stacks {
    pub fn start() -> anyhow::Result<Stacks> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (running, dropped) = oneshot::channel();
        let of = {
            let _entered = runtime.enter();
            PerColor { blue: Stack::start(Color::Blue)?, green: Stack::start(Color::Green)? }
        };
        let thread = std::thread::Builder::new().name("stacks".to_owned());
        thread.spawn(move || runtime.block_on(dropped)).context("the stacks' thread cannot be started")?;
        Ok(Stacks { of, _running: running })
    }
}

impl Stack {
    fn start(color: Color) -> anyhow::Result<Stack> {
        let mut stack = Stack { endpoints: Vec::new(), tally: Arc::default() };
        for _ in 0..ENDPOINTS {
            let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).context("a stack cannot listen on loopback")?;
            socket.set_nonblocking(true)?;
            stack.endpoints.push(socket.local_addr()?);
            tokio::spawn(listen(TcpListener::from_std(socket)?, color, stack.tally.clone()));
        }
        Ok(stack)
    }
}

/// What a stack knows by itself of the requests that reach it; health checks are not among them.
#[derive(Default)]
pub struct Tally {
    started: AtomicU64,
    last: AtomicU64,
    inside: AtomicU64,
}

impl Tally {
    /// Requests that have begun here so far.
    pub fn started(&self) -> u64 {
        self.started.load(SeqCst)
    }

    /// When the newest of them began.
    pub fn last(&self) -> Option<Moment> {
        Some(self.last.load(SeqCst)).filter(|nanos| *nanos > 0).map(Moment::from_nanos)
    }

    /// Requests and WebSockets that have begun here and not ended.
    pub fn inside(&self) -> u64 {
        self.inside.load(SeqCst)
    }

    fn begin(self: Arc<Tally>) -> Inside {
        self.last.fetch_max(Moment::now().nanos(), SeqCst);
        self.inside.fetch_add(1, SeqCst);
        self.started.fetch_add(1, SeqCst);
        Inside(self)
    }
}

/// Goes before the last byte of an answer does: who has seen the answer's end finds nobody inside.
struct Inside(Arc<Tally>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, SeqCst);
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn listen(socket: TcpListener, color: Color, tally: Arc<Tally>) {
    // One that cannot accept is a broken endpoint, and is seen as one.
    while let Ok((stream, _)) = socket.accept().await {
        let _ = stream.set_nodelay(true);
        let tally = tally.clone();
        let service = service_fn(move |request| answer(color, tally.clone(), request).map(Ok::<_, Infallible>));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}

async fn answer(color: Color, tally: Arc<Tally>, mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path == HEALTH {
        return Response::new(whole("ok\n".to_owned()));
    }
    let inside = tally.begin();
    if let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) {
        let accept = derive_accept_key(key.as_bytes());
        tokio::spawn(echo(color, hyper::upgrade::on(&mut request), inside));
        return switching(&accept);
    }
    let pause = request.uri().query().and_then(|query| query.strip_prefix("ms=")?.parse().ok());
    // Where the request broke off, nobody waits for the answer.
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    let text = format!("{color} {path} {}\n", String::from_utf8_lossy(&body));
    match pause {
        Some(millis) if path == "/slow" => {
            let half = Duration::from_millis(u64::min(millis, MAX_SLOW)) / 2;
            tokio::time::sleep(half).await;
            Response::new(in_halves(text, half, inside))
        }
        _ => Response::new(whole(text)),
    }
}

/// An answer that begins and then hesitates: a drain that waited only for heads would cut it.
fn in_halves(text: String, pause: Duration, inside: Inside) -> Body {
    let mut last = Bytes::from(text);
    let first = last.split_to(last.len() / 2);
    let rest = async move {
        tokio::time::sleep(pause).await;
        drop(inside);
        last
    };
    let halves = stream::iter([first]).chain(stream::once(rest));
    StreamBody::new(halves.map(|half| Ok(Frame::data(half)))).boxed_unsync()
}

fn whole(text: String) -> Body {
    Full::from(text).boxed_unsync()
}

/// Grants a WebSocket (RFC 6455, 4.2.2).
fn switching(accept: &str) -> Response<Body> {
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept);
    // It cannot fail: what the key is made into is plain base64.
    response.body(whole(String::new())).unwrap_or_default()
}

/// Answers every message with the color and the message, until the client closes.
async fn echo(color: Color, upgrade: OnUpgrade, inside: Inside) {
    let Ok(stream) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
    // Declared after the socket, so it is let go of before the socket's end can be seen.
    let _inside = inside;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message
            && socket.send(Message::text(format!("{color} {text}"))).await.is_err()
        {
            return;
        }
    }
}

pub const HEALTH: &str = "/healthz";
/// Of each color.
const ENDPOINTS: usize = 2;
/// `/slow?ms=N` takes no longer than that.
const MAX_SLOW: u64 = 10_000;
