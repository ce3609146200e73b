//! What the workers are told from the deciding side and each does for itself: which listeners to accept on, where to log.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::Proxy;
use super::accept::{self, Station};
use super::arrival::Entrance;
use super::capacity::Capacity;
use super::leave::{Leave, Stage};
use super::listen::Listener;
use crate::access_log::AccessLog;

/// What the deciding side opens and shuts listeners through: one mailbox for each worker.
#[derive(Clone)]
pub struct Doors(Arc<[mpsc::UnboundedSender<Order>]>);

/// What a worker is told. Answered, by dropping `done`, when it has been carried out.
pub struct Order {
    what: What,
    done: oneshot::Sender<()>,
}

enum What {
    Open(Arc<Listener>, TcpListener),
    Shut(Arc<Listener>),
    LogTo(Option<Arc<AccessLog>>),
}

/// Orders come one at a time, and each is waited for, so a mailbox holds few.
pub type Orders = mpsc::UnboundedReceiver<Order>;

impl Doors {
    /// The doors of so many workers, and the mailbox of each.
    pub fn new(workers: usize) -> (Doors, Vec<Orders>) {
        let (mail, orders): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        (Doors(mail.into()), orders)
    }

    /// Every worker accepts on its one of the listener's sockets from now on.
    pub async fn open(&self, listener: &Arc<Listener>, sockets: Vec<TcpListener>) {
        self.tell(sockets.into_iter().map(|socket| What::Open(listener.clone(), socket))).await;
    }

    /// No worker accepts on the listener any more: who was waiting has been let in. The connections there are live on;
    /// their clients are told to come back elsewhere.
    pub async fn shut(&self, listener: &Arc<Listener>) {
        listener.shut();
        self.tell(std::iter::repeat_with(|| What::Shut(listener.clone()))).await;
    }

    /// Every request that begins from now on has its line in this log, or none.
    pub async fn log_to(&self, log: Option<&Arc<AccessLog>>) {
        self.tell(std::iter::repeat_with(|| What::LogTo(log.cloned()))).await;
    }

    /// Gives each worker its order, and waits until all have carried it out. A worker that is stuck holds up nobody.
    async fn tell(&self, orders: impl Iterator<Item = What>) {
        let mut waits = Vec::new();
        for (mail, what) in self.0.iter().zip(orders) {
            let (done, answered) = oneshot::channel();
            // A worker whose mailbox is gone is leaving, and shuts everything.
            let _ = mail.send(Order { what, done });
            waits.push(answered);
        }
        let all = async {
            for answered in waits {
                let _ = answered.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }
}

/// One worker's doors.
pub struct Porter {
    worker: usize,
    proxy: Rc<Proxy>,
    capacity: Arc<Capacity>,
    doors: RefCell<Vec<Door>>,
    /// The worker's own.
    leave: Rc<Leave>,
}

/// One listener at one worker. One that is shut stays here for as long as connections that came by it do.
struct Door {
    listener: Arc<Listener>,
    leave: Rc<Leave>,
    /// Until it is shut.
    open: Option<Open>,
}

struct Open {
    shut: oneshot::Sender<()>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Porter {
    pub fn new(worker: usize, proxy: Rc<Proxy>, leave: Rc<Leave>, capacity: Arc<Capacity>) -> Porter {
        Porter { worker, proxy, capacity, doors: RefCell::default(), leave }
    }

    /// Accepts on this socket, as a task of the same worker.
    pub fn open(&self, listener: Arc<Listener>, socket: TcpListener) {
        let Porter { worker, .. } = *self;
        let entrance = match Entrance::new(socket) {
            Ok(entrance) => entrance,
            Err(error) => return tracing::error!(listener = %listener.address, worker, "cannot listen: {error}"),
        };
        let leave = Rc::new(Leave::default());
        leave.reach(self.leave.stage());
        let (proxy, capacity) = (self.proxy.clone(), self.capacity.clone());
        let station = Rc::new(Station { worker, proxy, leave: leave.clone(), capacity });
        let (shut, told) = oneshot::channel();
        let accepting = tokio::task::spawn_local(accept::accept(entrance, listener.clone(), station, told));
        self.doors.borrow_mut().push(Door { listener, leave, open: Some(Open { shut, accepting }) });
    }

    /// Does what it is told for as long as somebody may tell it.
    pub async fn obey(&self, mut orders: Orders) {
        while let Some(Order { what, done }) = orders.recv().await {
            match what {
                What::Open(listener, socket) => self.open(listener, socket),
                What::Shut(listener) => self.shut(&listener).await,
                What::LogTo(log) => self.proxy.log_to(log.as_deref(), self.worker, &self.leave),
            }
            drop(done);
        }
    }

    /// Leaves by every door as far as all workers are told to.
    pub async fn follow(&self, mut stage: watch::Receiver<Stage>) {
        while self.leave.stage() < Stage::Closing && stage.changed().await.is_ok() {
            self.leave.reach(*stage.borrow_and_update());
            self.doors.borrow().iter().for_each(|door| door.leave.reach(self.leave.stage()));
        }
    }

    async fn shut(&self, listener: &Arc<Listener>) {
        let open = {
            let mut doors = self.doors.borrow_mut();
            // Nobody is left who came by it.
            doors.retain(|door| door.open.is_some() || Rc::strong_count(&door.leave) > 1);
            let of_it = |door: &&mut Door| Arc::ptr_eq(&door.listener, listener);
            let Some(door) = doors.iter_mut().find(of_it) else { return };
            door.leave.reach(door.leave.stage().max(Stage::Telling));
            door.open.take()
        };
        if let Some(Open { shut, accepting }) = open {
            drop(shut);
            // Its end is the socket's.
            let _ = accepting.await;
        }
    }
}

/// A worker that has not done in this time what takes it microseconds is stuck.
const PATIENCE: Duration = Duration::from_secs(5);
