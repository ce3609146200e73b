//! Listening: one address clients connect to, with a socket for each worker.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use socket2::{Domain, Protocol, Socket, Type};

use super::loss::Loss;
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
    pub sheets: Box<[Arc<ConnectionSheet>]>,
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

/// What the kernel takes of an answer beyond what is on its way to the client. By itself it takes megabytes: each slow
/// reader would pin them, and would seem to stand still for as long as a third of them lasts (tcp(7)).
const UNSENT: u32 = 128 * 1024;
/// Connections the kernel holds that no worker has accepted yet: as many as it allows (net.core.somaxconn).
const BACKLOG: i32 = i32::MAX;
