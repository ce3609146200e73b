//! A real HTTP/1.1 server on loopback, in a thread of its own, that does what a story tells it to.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::connection::{self, Connection};
use super::gate::Gate;
use super::{PATIENCE, eventually, within};

/// See `paths.rs` for what it answers.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// Bound, never listening: it keeps the port ours while nobody listens on it.
    _port: Socket,
}

impl Backend {
    pub async fn start(name: &str) -> Backend {
        Backend::start_at(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// At another address of this machine: one of several that have one port.
    pub async fn start_at(name: &str, address: SocketAddr) -> Backend {
        let port = bound(address);
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let shared = Arc::new(Shared::named(name));
        let (orders, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let theirs = shared.clone();
        let thread = thread::spawn(move || runtime.block_on(serve(address, theirs, inbox)));
        let backend = Backend { address, shared, orders: Some(orders), thread: Some(thread), _port: port };
        backend.listen_again().await;
        backend
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What `/healthz` does from now on.
    pub fn health(&self, health: Health) {
        self.shared.health.send_replace(health);
    }

    /// What its health checks are answered with as its stack, from now on.
    pub fn stack(&self, name: &str) {
        *self.shared.stack.lock().unwrap() = Some(name.to_owned());
    }

    /// From now on each `n`th request to `/` fails with 500; 0: none does.
    pub fn fail_each(&self, n: usize) {
        self.shared.fail_each.store(n, Ordering::Relaxed);
    }

    /// From now on requests to `/` take so long.
    pub fn take(&self, time: Duration) {
        self.shared.takes.store(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// Lets go whoever waits at the gate now.
    pub fn release(&self) {
        self.shared.gate.release();
    }

    /// Resolves when `n` requests, streams or chunks wait at the gate.
    pub async fn waiting(&self, n: usize) {
        within(&format!("{n} requests to wait at {}", self.name()), self.shared.gate.waiting(n)).await;
    }

    /// How many wait at the gate now.
    pub fn held(&self) -> usize {
        self.shared.gate.held()
    }

    /// Requests so far, health checks not among them.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Health checks so far.
    pub fn checks(&self) -> usize {
        self.shared.checks.load(Ordering::Relaxed)
    }

    /// Connections open now that have carried a request other than a health check.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Connections in all that have carried a request other than a health check.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Every connection open now, whatever it is for.
    pub fn sockets(&self) -> usize {
        self.shared.sockets.load(Ordering::Relaxed)
    }

    /// Bytes of bodies handed out by `/bytes/N`.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.bytes_sent.load(Ordering::Relaxed)
    }

    /// The last hundred request heads, oldest first, health checks not among them.
    pub fn heads(&self) -> Vec<Head> {
        self.shared.heads.lock().unwrap().iter().cloned().collect()
    }

    pub fn last_head(&self) -> Head {
        self.heads().pop().unwrap_or_else(|| panic!("{} has seen no request", self.name()))
    }

    /// Closes every idle connection, as a server does whose keep-alive time is over; those of health checks stay,
    /// since one check lost is an endpoint down.
    pub async fn close_idle(&self) {
        let open = self.shared.open.lock().unwrap().clone();
        let idle: Vec<_> = open.into_iter().filter(|one| one.upgrade().is_some_and(|it| it.close_if_idle())).collect();
        let closed = || async { idle.iter().all(|one| one.strong_count() == 0) };
        assert!(eventually(PATIENCE, closed).await, "{} keeps idle connections", self.name());
    }

    /// From now on each connection is closed after `n` requests, without a `Connection: close` before.
    pub fn close_after(&self, n: usize) {
        self.shared.close_after.store(n, Ordering::Relaxed);
    }

    /// New connections are refused; those there are go on.
    pub async fn stop_listening(&self) {
        self.order(false).await;
    }

    /// The same port again.
    pub async fn listen_again(&self) {
        self.order(true).await;
    }

    /// Resets every connection and refuses new ones.
    pub fn kill(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the thread of {} panicked", self.name());
        }
    }

    async fn order(&self, listen: bool) {
        let (done, answer) = oneshot::channel();
        let orders = self.orders.as_ref().unwrap_or_else(|| panic!("{} was killed", self.name()));
        orders.send(Order { listen, done }).unwrap_or_else(|_| panic!("the thread of {} is gone", self.name()));
        within(&format!("{} to change whether it listens", self.name()), answer).await.unwrap();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What `/healthz` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Passing,
    Failing(u16),
    /// Never answers.
    Hanging,
    /// Resets the connection.
    Refusing,
}

/// A request's head as it arrived.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Every value of the field, joined as RFC 9110, 5.3 allows.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let values: Vec<_> = values.collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// Anything the proxy can be pointed at.
pub trait Address {
    fn address(&self) -> SocketAddr;
}

impl Address for Backend {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Address for SocketAddr {
    fn address(&self) -> SocketAddr {
        *self
    }
}

impl<T: Address + ?Sized> Address for &T {
    fn address(&self) -> SocketAddr {
        T::address(self)
    }
}

/// What the story's thread and the backend's own both look at.
pub struct Shared {
    pub name: String,
    pub health: watch::Sender<Health>,
    pub gate: Gate,
    pub end: watch::Sender<bool>,
    pub close_after: AtomicUsize,
    pub requests: AtomicUsize,
    pub checks: AtomicUsize,
    pub sockets: AtomicUsize,
    pub connections: AtomicUsize,
    pub accepted: AtomicUsize,
    pub bytes_sent: AtomicU64,
    pub stack: Mutex<Option<String>>,
    pub fail_each: AtomicUsize,
    /// Milliseconds.
    pub takes: AtomicU64,
    heads: Mutex<VecDeque<Head>>,
    open: Mutex<Vec<Weak<Connection>>>,
}

impl Shared {
    fn named(name: &str) -> Shared {
        Shared {
            name: name.to_owned(),
            health: watch::Sender::new(Health::Passing),
            gate: Gate::default(),
            end: watch::Sender::default(),
            close_after: AtomicUsize::new(usize::MAX),
            requests: AtomicUsize::default(),
            checks: AtomicUsize::default(),
            sockets: AtomicUsize::default(),
            connections: AtomicUsize::default(),
            accepted: AtomicUsize::default(),
            bytes_sent: AtomicU64::default(),
            stack: Mutex::default(),
            fail_each: AtomicUsize::default(),
            takes: AtomicU64::default(),
            heads: Mutex::default(),
            open: Mutex::default(),
        }
    }

    pub fn remember(&self, head: Head) {
        let mut heads = self.heads.lock().unwrap();
        if heads.len() == 100 {
            heads.pop_front();
        }
        heads.push_back(head);
    }

    pub fn enter(&self, connection: &Arc<Connection>) {
        let mut open = self.open.lock().unwrap();
        open.retain(|one| one.strong_count() > 0);
        open.push(Arc::downgrade(connection));
    }
}

struct Order {
    listen: bool,
    done: oneshot::Sender<()>,
}

/// The backend's thread: accepts until the orders end, then resets whatever is open.
async fn serve(address: SocketAddr, shared: Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut listener = None;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order { listen, done }) => {
                    listener = listen.then(|| listening(address));
                    let _ = done.send(());
                }
                None => break,
            },
            socket = accepted(listener.as_ref()) => {
                connections.spawn(connection::serve(socket, shared.clone()));
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    shared.end.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn accepted(listener: Option<&TcpListener>) -> tokio::net::TcpStream {
    match listener {
        Some(listener) => listener.accept().await.expect("a listener on loopback accepts").0,
        None => std::future::pending().await,
    }
}

fn listening(address: SocketAddr) -> TcpListener {
    let socket = bound(address);
    socket.listen(1024).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

/// Linux lets several sockets with SO_REUSEADDR share a port as long as only one of them listens.
fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("{address}: {error}"));
    socket
}
