//! The switchboard: holds the table every worker reads, and is its one writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify};

use super::{Entry, Table};
use crate::names::{Color, ServiceName};
use crate::time::{self, Moment, Timestamp};

/// The control plane publishes through it; workers take the cell once and read it for every request.
pub struct Switchboard {
    cell: Arc<ArcSwap<Table>>,
    /// Only publishers take it; no request ever does.
    writer: Mutex<()>,
    seats: Box<[Arc<Seat>]>,
    answered: Arc<Notify>,
}

impl Switchboard {
    pub fn new(table: Table, workers: usize) -> Switchboard {
        for entry in &table.entries {
            entry.service.pools[entry.live].turnstile.open();
        }
        let answered = Arc::new(Notify::new());
        let seat = |_| Arc::new(Seat { seen: AtomicU64::new(0), wake: Notify::new(), answered: answered.clone() });
        Switchboard {
            cell: Arc::new(ArcSwap::from_pointee(table)),
            writer: Mutex::new(()),
            seats: (0..workers).map(seat).collect(),
            answered,
        }
    }

    pub fn table(&self) -> Arc<Table> {
        self.cell.load_full()
    }

    /// What a worker reads from; it keeps a cached look at it.
    pub fn cell(&self) -> Arc<ArcSwap<Table>> {
        self.cell.clone()
    }

    pub fn seat(&self, worker: usize) -> Arc<Seat> {
        self.seats[worker].clone()
    }

    /// Makes `to` the live color, in the one order in which somebody always serves: open the new pool, publish the
    /// table, close the old pool. Returns when every worker has answered with the new table.
    ///
    /// A request that still read the old table finds the old pool closed, and by then the new table is visible to it.
    pub async fn publish(&self, service: &ServiceName, to: Color, generation: u64) -> Published {
        let _writer = self.writer.lock().await;
        let old = self.cell.load_full();
        let Some(entry) = old.entry(service) else { return Published::nothing(self.seats.len()) };
        let pools = &entry.service.pools;
        let at = time::now();
        let entries = old.entries.iter().map(|other| match other.service.name == *service {
            true => Entry { live: to, generation, since: at, ..other.clone() },
            false => other.clone(),
        });
        let (edge, routes) = (old.edge.clone(), old.routes.clone());
        let table = Table { version: old.version + 1, edge, routes, entries: entries.collect() };
        let version = table.version;

        let begun = Moment::now();
        pools[to].turnstile.open();
        self.cell.store(Arc::new(table));
        pools[to.other()].turnstile.close();
        self.seats.iter().for_each(|seat| seat.wake.notify_one());
        let answered = self.wait_for(version).await;
        Published { at, took: Moment::now().since(begun), answered, workers: self.seats.len() }
    }

    /// How many workers have answered with `version`, once all have or the patience for it is over.
    async fn wait_for(&self, version: u64) -> usize {
        let count = || self.seats.iter().filter(|seat| seat.seen.load(Ordering::Acquire) >= version).count();
        let all = async {
            loop {
                let answer = self.answered.notified();
                tokio::pin!(answer);
                answer.as_mut().enable();
                if count() == self.seats.len() {
                    return;
                }
                answer.await;
            }
        };
        // A worker that does not answer holds up nobody: the old pool is closed, whatever table it reads.
        let _ = tokio::time::timeout(PATIENCE, all).await;
        count()
    }
}

/// A worker's place at the switchboard: here it is woken for a new table, and answers.
pub struct Seat {
    seen: AtomicU64,
    wake: Notify,
    answered: Arc<Notify>,
}

impl Seat {
    /// Resolves when there may be a new table to look at.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The worker reads this version of the table, and will never again read an older one.
    pub fn answer(&self, version: u64) {
        self.seen.store(version, Ordering::Release);
        self.answered.notify_waiters();
    }
}

/// What publishing a table took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub at: Timestamp,
    /// Until the last worker answered, or patience ended.
    pub took: Duration,
    pub answered: usize,
    pub workers: usize,
}

impl Published {
    fn nothing(workers: usize) -> Published {
        Published { at: time::now(), took: Duration::ZERO, answered: 0, workers }
    }
}

/// A healthy worker answers in microseconds; one that has not in this time is stuck.
const PATIENCE: Duration = Duration::from_secs(5);
