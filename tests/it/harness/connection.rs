//! One connection of a backend: counted, closed and reset as the story orders, from accept to the last byte.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::backend::Shared;
use super::body::Body;
use super::paths;

pub async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let mut end = shared.end.subscribe();
    let connection = Arc::new(Connection::over(&socket, shared));
    connection.shared.enter(&connection);
    tokio::select! {
        _ = end.wait_for(|end| *end) => connection.reset_when_closed(),
        () = talk(socket, &connection) => {}
    }
}

/// What the answers of one connection share.
pub struct Connection {
    pub shared: Arc<Shared>,
    /// A second handle of the socket hyper owns: for the bytes and the manners hyper is too polite for.
    wire: TcpStream,
    inside: AtomicUsize,
    served: AtomicUsize,
    carries: AtomicBool,
    drains: AtomicBool,
    closing: Notify,
    upgrade: Mutex<Option<OnUpgrade>>,
}

impl Connection {
    fn over(socket: &TcpStream, shared: Arc<Shared>) -> Connection {
        shared.sockets.fetch_add(1, Ordering::Relaxed);
        let second = SockRef::from(socket).try_clone().unwrap();
        Connection {
            shared,
            wire: TcpStream::from_std(second.into()).unwrap(),
            inside: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            carries: AtomicBool::new(false),
            drains: AtomicBool::new(false),
            closing: Notify::new(),
            upgrade: Mutex::new(None),
        }
    }

    /// Closing it will send RST instead of FIN.
    pub fn reset_when_closed(&self) {
        let _ = SockRef::from(&self.wire).set_linger(Some(Duration::ZERO));
    }

    /// Writes around hyper; only right while hyper has nothing of its own to write.
    pub async fn write_raw(&self, bytes: &[u8]) {
        self.wire.writable().await.unwrap();
        assert_eq!(self.wire.try_write(bytes).unwrap(), bytes.len());
    }

    /// What the client still sends after the answer is read and thrown away, so that no RST overtakes the answer.
    pub fn drain_at_end(&self) {
        self.drains.store(true, Ordering::Relaxed);
    }

    pub fn upgrade_to_websocket(&self, request: &mut Request<Incoming>) {
        *self.upgrade.lock().unwrap() = Some(hyper::upgrade::on(request));
    }

    /// Marks it as one that carries more than health checks.
    pub fn carries(&self) {
        if !self.carries.swap(true, Ordering::Relaxed) {
            self.shared.connections.fetch_add(1, Ordering::Relaxed);
            self.shared.accepted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says whether it was idle after some request; then it is on its way to be closed.
    pub fn close_if_idle(&self) -> bool {
        let idle = self.is_idle() && self.carries.load(Ordering::Relaxed);
        if idle {
            self.closing.notify_one();
        }
        idle
    }

    fn is_idle(&self) -> bool {
        self.inside.load(Ordering::Relaxed) == 0
    }

    fn is_spent(&self) -> bool {
        self.is_idle() && self.served.load(Ordering::Relaxed) >= self.shared.close_after.load(Ordering::Relaxed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.sockets.fetch_sub(1, Ordering::Relaxed);
        if *self.carries.get_mut() {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn talk(socket: TcpStream, connection: &Arc<Connection>) {
    let service = service_fn(|request| answer(connection.clone(), request));
    let hyper = http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades();
    {
        let mut hyper = pin!(hyper);
        let mut served = pin!(poll_fn(|cx| match hyper.as_mut().poll(cx) {
            Poll::Pending if connection.is_spent() => Poll::Ready(()),
            polled => polled.map(drop),
        }));
        tokio::select! {
            () = &mut served => {}
            () = connection.closing.notified() => return,
        }
    }
    let upgrade = connection.upgrade.lock().unwrap().take();
    if let Some(upgrade) = upgrade {
        echo_messages(upgrade, &connection.shared.name).await;
    }
    if connection.drains.load(Ordering::Relaxed) {
        drain(&connection.wire).await;
    }
}

async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> io::Result<Response<Guarded>> {
    let inside = Inside::of(connection.clone());
    let mut answer = paths::answer(&connection, request).await?;
    answer.headers_mut().insert("x-backend", connection.shared.name.parse().unwrap());
    Ok(answer.map(|body| Guarded { body, _inside: inside }))
}

/// The first message tells who answers; every other one comes back as it was.
async fn echo_messages(upgrade: OnUpgrade, name: &str) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let mut sent = socket.send(name.into()).await;
    while sent.is_ok() {
        match socket.next().await {
            Some(Ok(message)) if message.is_text() || message.is_binary() => sent = socket.send(message).await,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

async fn drain(wire: &TcpStream) {
    let mut scrap = [0; 4096];
    loop {
        let _ = wire.readable().await;
        match wire.try_read(&mut scrap) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// A request from its head to the last byte of its answer: while one is inside, the connection is not idle.
struct Inside(Arc<Connection>);

impl Inside {
    fn of(connection: Arc<Connection>) -> Inside {
        connection.inside.fetch_add(1, Ordering::Relaxed);
        Inside(connection)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.served.fetch_add(1, Ordering::Relaxed);
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that keeps its request inside until it is sent or dropped.
struct Guarded {
    body: Body,
    _inside: Inside,
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
