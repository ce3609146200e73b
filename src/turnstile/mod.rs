//! The turnstile: who is inside a pool, exactly, and whether anyone may still enter. It is what makes a drain exact.

mod word;

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use self::atomic::{AtomicU64, Ordering};
use self::word::Word;
use crate::time::Moment;

/// One turnstile for each pool, split into shards, one for each worker, so that cores do not fight over a cache line.
///
/// It begins closed. Closed and drained mean all shards.
pub struct Turnstile {
    shards: Box<[Shard]>,
    left: Notify,
}

impl Turnstile {
    pub fn new(workers: usize) -> Turnstile {
        let shards = (0..workers).map(|_| Shard::new()).collect();
        Turnstile { shards, left: Notify::new() }
    }

    pub fn open(&self) {
        for shard in self.shards.iter().filter(|shard| shard.word.count().is_closed()) {
            shard.first.store(0, Ordering::Release);
            shard.word.open();
        }
    }

    /// After this nobody enters; who is inside stays until he leaves.
    pub fn close(&self) {
        self.shards.iter().for_each(|shard| shard.word.close());
    }

    pub fn is_closed(&self) -> bool {
        self.shards.iter().all(|shard| shard.word.count().is_closed())
    }

    pub fn inside(&self) -> Inside {
        self.shards.iter().map(|shard| shard.word.count()).fold(Inside::default(), |sum, count| Inside {
            requests: sum.requests + count.requests(),
            tunnels: sum.tunnels + count.tunnels(),
        })
    }

    /// Every entry there has ever been, and the moments of the first and the last since it was opened.
    pub fn entries(&self) -> Entries {
        let moment = |at: &AtomicU64| Some(at.load(Ordering::Acquire)).filter(|at| *at > 0).map(Moment::from_nanos);
        let all = self.shards.iter().fold(Entries::default(), |sum, shard| Entries {
            count: sum.count + shard.entered.load(Ordering::Acquire),
            first: sum.first.into_iter().chain(moment(&shard.first)).min(),
            last: sum.last.max(moment(&shard.last)),
        });
        // Where there has been a first one since then, the last is no older.
        Entries { last: all.last.filter(|_| all.first.is_some()), ..all }
    }

    /// As if it were opened only now: who has entered so far was no client. For one that nobody enters just now.
    pub fn begin_anew(&self) {
        self.shards.iter().for_each(|shard| shard.first.store(0, Ordering::Release));
    }

    /// Resolves when the last request has left. Tunnels may still be inside. Meant for a closed turnstile.
    pub async fn requests_gone(&self) {
        self.until(|inside| inside.requests == 0).await;
    }

    /// Resolves when no tunnel is inside. Where requests still are, they may yet become tunnels.
    pub async fn tunnels_gone(&self) {
        self.until(|inside| inside.tunnels == 0).await;
    }

    async fn until(&self, done: impl Fn(Inside) -> bool) {
        loop {
            // Asked for before the look, so that a leave between the look and the wait is not missed.
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if done(self.inside()) {
                return;
            }
            left.await;
        }
    }
}

/// How many are inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    pub requests: u64,
    pub tunnels: u64,
}

/// What has passed a turnstile so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub count: u64,
    pub first: Option<Moment>,
    pub last: Option<Moment>,
}

/// One worker's way in: it never leaves the worker's thread, and neither do the passes it hands out.
pub struct Entrance {
    turnstile: Arc<Turnstile>,
    worker: usize,
}

impl Entrance {
    pub fn new(turnstile: Arc<Turnstile>, worker: usize) -> Rc<Entrance> {
        assert!(worker < turnstile.shards.len(), "a turnstile has one shard for each worker");
        Rc::new(Entrance { turnstile, worker })
    }

    /// Steps in; `None` where the turnstile is closed, and then the table that made it so is visible to this thread.
    pub fn enter(self: &Rc<Entrance>, now: Moment) -> Option<Pass> {
        let shard = self.shard();
        if !shard.word.enter() {
            return None;
        }
        // One writer for each shard, its worker: a load and a store do what an atomic addition would.
        shard.last.store(now.nanos(), Ordering::Release);
        if shard.first.load(Ordering::Relaxed) == 0 {
            shard.first.store(now.nanos(), Ordering::Release);
        }
        shard.entered.store(shard.entered.load(Ordering::Relaxed) + 1, Ordering::Release);
        Some(Pass { entrance: self.clone(), kind: Kind::Request })
    }

    /// Whether one who came now would get in.
    pub fn is_open(&self) -> bool {
        !self.shard().word.count().is_closed()
    }

    /// Requests that are inside by this way.
    pub fn requests(&self) -> usize {
        self.shard().word.count().requests() as usize
    }

    fn shard(&self) -> &Shard {
        &self.turnstile.shards[self.worker]
    }

    /// Whoever waits for the pool to empty looks again; while it is open nobody does, and it costs nothing.
    fn tell(&self, after: word::Count) {
        if after.is_closed() {
            self.turnstile.left.notify_waiters();
        }
    }
}

/// A request, or the tunnel it became, inside a pool. Dropping it leaves.
pub struct Pass {
    entrance: Rc<Entrance>,
    kind: Kind,
}

impl Pass {
    /// The request has become a tunnel: it is counted as one from here on.
    pub fn become_tunnel(&mut self) {
        if self.kind == Kind::Request {
            self.kind = Kind::Tunnel;
            self.entrance.tell(self.entrance.shard().word.become_tunnel());
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let word = &self.entrance.shard().word;
        self.entrance.tell(match self.kind {
            Kind::Request => word.leave_request(),
            Kind::Tunnel => word.leave_tunnel(),
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Tunnel,
}

/// Alone on its cache lines: 128 bytes, since today's processors fetch them in pairs.
#[repr(align(128))]
struct Shard {
    word: Word,
    entered: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
}

impl Shard {
    fn new() -> Shard {
        let none = || AtomicU64::new(0);
        Shard { word: Word::closed(), entered: none(), first: none(), last: none() }
    }
}

/// Named apart, so that a test can put loom's atomics in their place.
mod atomic {
    pub use std::sync::atomic::{AtomicU64, Ordering};
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_workers() -> (Arc<Turnstile>, Rc<Entrance>, Rc<Entrance>) {
        let turnstile = Arc::new(Turnstile::new(2));
        let (a, b) = (Entrance::new(turnstile.clone(), 0), Entrance::new(turnstile.clone(), 1));
        (turnstile, a, b)
    }

    #[test]
    fn nobody_enters_before_it_opens_or_after_it_closes() {
        let (turnstile, a, b) = two_workers();
        assert!(a.enter(Moment::now()).is_none());
        turnstile.open();
        let pass = a.enter(Moment::now()).unwrap();
        turnstile.close();
        assert!(a.enter(Moment::now()).is_none() && b.enter(Moment::now()).is_none());
        assert_eq!(turnstile.inside(), Inside { requests: 1, tunnels: 0 });
        drop(pass);
        assert_eq!(turnstile.inside(), Inside::default());
        assert_eq!(turnstile.entries().count, 1);
    }

    #[test]
    fn the_first_entry_and_the_last_are_those_since_it_was_opened() {
        let (turnstile, a, b) = two_workers();
        let at = |nanos| Some(Moment::from_nanos(nanos));
        turnstile.open();
        assert_eq!(turnstile.entries().first, None);
        drop([b.enter(Moment::from_nanos(7)), a.enter(Moment::from_nanos(8)), b.enter(Moment::from_nanos(9))]);
        turnstile.open();
        let Entries { count, first, last } = turnstile.entries();
        assert_eq!((count, first, last), (3, at(7), at(9)), "one that is open is not opened again");
        turnstile.close();
        assert_eq!(turnstile.entries().last, at(9));
        turnstile.open();
        assert_eq!((turnstile.entries().first, turnstile.entries().last), (None, None));
        drop(a.enter(Moment::from_nanos(20)));
        assert_eq!((turnstile.entries().first, turnstile.entries().last), (at(20), at(20)));
        turnstile.begin_anew();
        assert_eq!((turnstile.entries().first, turnstile.entries().last, turnstile.entries().count), (None, None, 4));
        drop(b.enter(Moment::from_nanos(30)));
        assert_eq!((turnstile.entries().first, turnstile.entries().last), (at(30), at(30)));
    }

    #[test]
    fn a_tunnel_is_counted_apart_from_requests() {
        let (turnstile, a, b) = two_workers();
        turnstile.open();
        let (mut one, two) = (a.enter(Moment::now()).unwrap(), b.enter(Moment::now()).unwrap());
        one.become_tunnel();
        assert_eq!(turnstile.inside(), Inside { requests: 1, tunnels: 1 });
        drop(two);
        assert_eq!(turnstile.inside(), Inside { requests: 0, tunnels: 1 });
        drop(one);
        assert_eq!(turnstile.inside(), Inside::default());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_last_leave() {
        let (turnstile, a, _) = two_workers();
        turnstile.open();
        let (mut tunnel, request) = (a.enter(Moment::now()).unwrap(), a.enter(Moment::now()).unwrap());
        turnstile.close();
        let mut requests = tokio_test_task(turnstile.clone(), Turnstile::requests_gone);
        tunnel.become_tunnel();
        assert!(requests.is_waiting().await);
        drop(request);
        assert!(!requests.is_waiting().await);

        let mut all = tokio_test_task(turnstile, Turnstile::tunnels_gone);
        assert!(all.is_waiting().await);
        drop(tunnel);
        assert!(!all.is_waiting().await);
    }

    struct Waiting(tokio::task::JoinHandle<()>);

    impl Waiting {
        async fn is_waiting(&mut self) -> bool {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            !self.0.is_finished()
        }
    }

    fn tokio_test_task<F>(turnstile: Arc<Turnstile>, wait: impl FnOnce(&'static Turnstile) -> F) -> Waiting
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let forever: &'static Turnstile = Box::leak(Box::new(turnstile));
        Waiting(tokio::spawn(wait(forever)))
    }
}
