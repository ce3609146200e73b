//! One worker's connections to one endpoint: idle ones are kept and used again, the newest first.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::upload::Upload;
use crate::metrics::ColorSheet;
use crate::pool::Endpoint;

/// An endpoint as one worker knows it.
pub struct Upstream {
    endpoint: Arc<Endpoint>,
    idle: RefCell<Vec<Idle>>,
    busy: Cell<usize>,
    sheet: Arc<ColorSheet>,
}

struct Idle {
    sender: SendRequest<Upload>,
    /// The lane's age when the connection was put here.
    since: u64,
}

impl Upstream {
    pub fn new(endpoint: Arc<Endpoint>, sheet: Arc<ColorSheet>) -> Upstream {
        Upstream { endpoint, idle: RefCell::default(), busy: Cell::new(0), sheet }
    }

    pub fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint)
    }

    pub fn busy(&self) -> usize {
        self.busy.get()
    }

    /// A request's turn at this endpoint, counted from now on.
    pub fn turn(self: &Rc<Upstream>) -> Turn {
        self.busy.set(self.busy.get() + 1);
        Turn(self.clone())
    }

    /// Lets go of idle connections that have died, or have not been used for `keep` seconds.
    pub fn sweep(&self, age: u64, keep: u64) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|one| !one.sender.is_closed() && age.saturating_sub(one.since) < keep);
        self.sheet.upstream_idle.change(idle.len() as i64 - before as i64);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.sheet.upstream_idle.change(-(self.idle.get_mut().len() as i64));
    }
}

/// One request's turn at an endpoint: it makes the endpoint busier for as long as it lasts.
pub struct Turn(Rc<Upstream>);

impl Turn {
    pub fn upstream(&self) -> &Rc<Upstream> {
        &self.0
    }

    /// An idle connection that, as far as this side knows, is still open.
    pub fn reuse(&self) -> Option<SendRequest<Upload>> {
        loop {
            let Idle { sender, .. } = self.0.idle.borrow_mut().pop()?;
            self.0.sheet.upstream_idle.change(-1);
            if !sender.is_closed() {
                return Some(sender);
            }
        }
    }

    /// A new connection.
    pub async fn connect(&self, within: Duration) -> io::Result<SendRequest<Upload>> {
        let stream = tokio::time::timeout(within, TcpStream::connect(self.0.endpoint.address)).await??;
        stream.set_nodelay(true)?;
        let handshake = http1::Builder::new().writev(false).max_buf_size(BUFFER).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        // How it ends is seen by the request that uses it; between requests its end is nobody's fault.
        tokio::task::spawn_local(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// One connection in the hands of one request. Dropping it closes the connection; [`Link::release`] keeps it.
pub struct Link {
    turn: Turn,
    pub sender: SendRequest<Upload>,
    active: Active,
}

impl Link {
    pub fn new(turn: Turn, sender: SendRequest<Upload>) -> Link {
        let active = Active::new(turn.0.sheet.clone());
        Link { turn, sender, active }
    }

    /// The answer has been read to its end: the connection may carry another request. `age` is the lane's.
    pub fn release(self, age: u64) {
        let Link { turn, sender, active } = self;
        drop(active);
        let mut idle = turn.0.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(Idle { sender, since: age });
            turn.0.sheet.upstream_idle.change(1);
        }
    }
}

/// Counts a connection as active.
struct Active(Arc<ColorSheet>);

impl Active {
    fn new(sheet: Arc<ColorSheet>) -> Active {
        sheet.upstream_active.change(1);
        Active(sheet)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.upstream_active.change(-1);
    }
}

/// Idle connections one worker keeps to one endpoint: as many as a burst may need again, and no more.
const MAX_IDLE: usize = 1024;
/// The most of an answer's head, or of its body at one time, that is held for one connection.
const BUFFER: usize = 64 * 1024;
