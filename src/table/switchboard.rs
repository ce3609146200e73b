//! The switchboard: holds the table every worker reads, and is its one writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify};

use super::{Edge, Entry, Preview, Routes, Service, Split, Table, Warming};
use crate::names::{Color, ServiceName};
use crate::seal::Seal;
use crate::time::{self, Moment, Timestamp};

/// The control plane publishes through it; workers take the cell once and read it for every request.
pub struct Switchboard {
    cell: Arc<ArcSwap<Table>>,
    /// Only publishers take it; no request ever does.
    writer: Mutex<()>,
    seats: Box<[Arc<Seat>]>,
    answered: Arc<Notify>,
    /// How many times the roll has been called.
    calls: Arc<AtomicU64>,
    seal: Arc<Seal>,
}

impl Switchboard {
    pub fn new(table: Table, workers: usize) -> Switchboard {
        for entry in &table.entries {
            entry.pools(true).for_each(|pool| pool.turnstile.open());
        }
        let (answered, calls) = (Arc::new(Notify::new()), Arc::<AtomicU64>::default());
        let seat = |_| Arc::new(Seat::new(answered.clone(), calls.clone()));
        Switchboard {
            cell: Arc::new(ArcSwap::from_pointee(table)),
            writer: Mutex::new(()),
            seats: (0..workers).map(seat).collect(),
            answered,
            calls,
            seal: Arc::new(Seal::temporary()),
        }
    }

    /// With keys that outlive the process.
    pub fn sealed(self, seal: Seal) -> Switchboard {
        Switchboard { seal: Arc::new(seal), ..self }
    }

    /// What badges and invitations are signed with.
    pub fn seal(&self) -> Arc<Seal> {
        self.seal.clone()
    }

    pub fn table(&self) -> Arc<Table> {
        self.cell.load_full()
    }

    /// The service under the rules it has now; where it is out of the table, as it was known.
    pub fn newest(&self, known: &Arc<Service>) -> Arc<Service> {
        self.cell.load().entry(&known.name).map_or_else(|| known.clone(), |entry| entry.service.clone())
    }

    /// What a worker reads from; it keeps a cached look at it.
    pub fn cell(&self) -> Arc<ArcSwap<Table>> {
        self.cell.clone()
    }

    pub fn workers(&self) -> usize {
        self.seats.len()
    }

    pub fn seat(&self, worker: usize) -> Arc<Seat> {
        self.seats[worker].clone()
    }

    /// Makes `to` the live color, in the one order in which somebody always serves: open the new pool, publish the
    /// table, close the old pool. Returns when every worker has answered with the new table. A split, a preview and a
    /// warm-up end with it, at the same instant.
    ///
    /// A request that still read the old table finds the old pool closed, and by then the new table is visible to it.
    pub async fn publish(&self, service: &ServiceName, to: Color, generation: u64) -> Published {
        let change = |entry: &Entry, since| Some(Entry { live: to, generation, since, ..alone(entry) });
        self.change(service, change).await
    }

    /// Gives the color that is not live a share of the clients, or another share. `None` ends that, and previews and a
    /// warm-up with it: when this returns, nobody enters the other pool any more, and it can be drained. A split of the color
    /// that is live changes nothing.
    pub async fn split(&self, service: &ServiceName, split: Option<Split>) -> Published {
        let change = |entry: &Entry, _| match split {
            Some(split) if split.to == entry.live => None,
            Some(split) => Some(Entry { split: Some(split), ..entry.clone() }),
            None => Some(alone(entry)),
        };
        self.change(service, change).await
    }

    /// Opens the color that is not live to those who are invited; `None` ends that, and a split goes on. A preview of the
    /// color that is live changes nothing.
    pub async fn preview(&self, service: &ServiceName, preview: Option<Preview>) -> Published {
        let change = |entry: &Entry, _| match preview {
            Some(preview) if preview.to == entry.live => None,
            preview => Some(Entry { preview, invited: true, ..entry.clone() }),
        };
        self.change(service, change).await
    }

    /// Has every worker give a color its part of this warm-up, if it does not already; `None` ends it, finished or not.
    pub async fn warm(&self, service: &ServiceName, warming: Option<Arc<Warming>>) -> Published {
        self.change(service, |entry, _| Some(Entry { warming, ..entry.clone() })).await
    }

    /// Publishes the entry that `change` makes of the service's, in the fixed order: first the pools are opened that the
    /// new table leads to, last those closed that it does not.
    async fn change(
        &self,
        service: &ServiceName,
        change: impl FnOnce(&Entry, Timestamp) -> Option<Entry>,
    ) -> Published {
        let _writer = self.writer.lock().await;
        let (old, at) = (self.cell.load_full(), time::now());
        let place = old.entries.iter().position(|entry| entry.service.name == *service);
        let next = place.and_then(|place| Some((place, change(&old.entries[place], at)?)));
        let Some((place, next)) = next else { return Published::nothing(self.seats.len()) };
        let (edge, routes) = (old.edge.clone(), old.routes.clone());
        let mut entries = old.entries.clone();
        entries[place] = next.clone();
        let table = Table { version: old.version + 1, edge, routes, entries };
        let version = table.version;

        let begun = Moment::now();
        next.pools(true).for_each(|pool| pool.turnstile.open());
        self.cell.store(Arc::new(table));
        next.pools(false).for_each(|pool| pool.turnstile.close());
        let answered = self.ask_for(version).await;
        Published { at, took: Moment::now().since(begun), answered, workers: self.seats.len() }
    }

    /// Replaces everything but what a cutover decides: a service the table knows stays as live as it is, another one
    /// begins as it comes. Services that are gone are closed, and what is inside them goes on. Returns when every worker
    /// has answered with the new table.
    pub async fn replace(&self, edge: Arc<Edge>, routes: Arc<Routes>, entries: Vec<Entry>) -> Published {
        let _writer = self.writer.lock().await;
        let old = self.cell.load_full();
        let at = time::now();
        let entries = entries.into_iter().map(|entry| match old.entry(&entry.service.name) {
            Some(known) => Entry { service: entry.service, ..known.clone() },
            None => entry,
        });
        let table = Arc::new(Table { version: old.version + 1, edge, routes, entries: entries.collect() });
        let missing = |from: &Table, entry: &&Entry| from.entry(&entry.service.name).is_none();
        let new = table.entries.iter().filter(|entry| missing(&old, entry));
        let gone = old.entries.iter().filter(|entry| missing(&table, entry));

        let begun = Moment::now();
        new.flat_map(|entry| entry.pools(true)).for_each(|pool| pool.turnstile.open());
        self.cell.store(table.clone());
        gone.flat_map(|entry| entry.pools(true)).for_each(|pool| pool.turnstile.close());
        let answered = self.ask_for(table.version).await;
        Published { at, took: Moment::now().since(begun), answered, workers: self.seats.len() }
    }

    /// Wakes every worker for `version`: how many have answered with it, once all have or the patience is over. A worker
    /// that does not answer holds up nobody: what is closed is closed, whatever table it reads.
    async fn ask_for(&self, version: u64) -> usize {
        self.seats.iter().for_each(|seat| seat.wake.notify_one());
        let missing = self.wait_for(PATIENCE, |seat| seat.seen.load(Ordering::Acquire) >= version).await;
        self.seats.len() - missing.len()
    }

    /// A worker has ended with what was under way on it.
    pub fn is_deserted(&self) -> bool {
        self.seats.iter().any(|seat| seat.is_deserted.load(Ordering::Acquire))
    }

    /// Calls every worker, and names those that have not come round to answering within `patience`.
    pub async fn roll_call(&self, patience: Duration) -> Vec<usize> {
        let call = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        self.seats.iter().for_each(|seat| seat.wake.notify_one());
        self.wait_for(patience, |seat| seat.heard.load(Ordering::Acquire) >= call).await
    }

    /// The workers of whom `holds` is not true, once there are none or `patience` is over.
    async fn wait_for(&self, patience: Duration, holds: impl Fn(&Seat) -> bool) -> Vec<usize> {
        let missing = || (0..self.seats.len()).filter(|worker| !holds(&self.seats[*worker])).collect::<Vec<_>>();
        let all = async {
            loop {
                let answer = self.answered.notified();
                tokio::pin!(answer);
                answer.as_mut().enable();
                if missing().is_empty() {
                    return;
                }
                answer.await;
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
        missing()
    }
}

/// The entry with nothing open but its live color.
fn alone(entry: &Entry) -> Entry {
    Entry { split: None, preview: None, warming: None, ..entry.clone() }
}

/// A worker's place at the switchboard: here it is woken, for a new table or a roll call, and answers.
pub struct Seat {
    /// The version of the table it reads.
    seen: AtomicU64,
    /// The last roll call it has answered.
    heard: AtomicU64,
    calls: Arc<AtomicU64>,
    is_deserted: AtomicBool,
    wake: Notify,
    answered: Arc<Notify>,
}

impl Seat {
    fn new(answered: Arc<Notify>, calls: Arc<AtomicU64>) -> Seat {
        let (seen, heard, is_deserted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Seat { seen, heard, calls, is_deserted, wake: Notify::new(), answered }
    }

    /// The worker is about to end with whatever is under way: who is inside a pool is cut off, and has not left by himself.
    pub fn desert(&self) {
        self.is_deserted.store(true, Ordering::Release);
    }

    /// Resolves when there may be a new table to look at.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The worker reads this version of the table, and will never again read an older one.
    pub fn answer(&self, version: u64) {
        self.heard.store(self.calls.load(Ordering::Acquire), Ordering::Release);
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

#[cfg(test)]
pub mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::config::{self, Share};
    use crate::names::PerColor;
    use crate::pool::Pool;
    use crate::tail::Tail;

    /// Does what a worker does at its seat; each message is something that keeps it from coming round.
    pub fn worker(seat: Arc<Seat>) -> mpsc::Sender<mpsc::Receiver<()>> {
        let (keep, kept) = mpsc::channel::<mpsc::Receiver<()>>();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                loop {
                    match kept.try_recv() {
                        Ok(until) => drop(until.recv()),
                        Err(mpsc::TryRecvError::Empty) => {}
                        Err(mpsc::TryRecvError::Disconnected) => return,
                    }
                    seat.answer(1);
                    seat.woken().await;
                }
            });
        });
        keep
    }

    /// What the table of a config with these services is made of.
    fn draft(names: &[&str]) -> (Arc<Edge>, Arc<Routes>, Vec<Entry>) {
        let services: String = names
            .iter()
            .map(|name| format!("[service.{name}]\nhosts = [\"{name}.test\"]\nblue.endpoints = [\"127.0.0.1:1\"]\n"))
            .collect();
        let text = format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{services}");
        let config = config::Config::parse(&text, std::path::Path::new("")).unwrap_or_else(|report| panic!("{report}"));
        let entry = |rules: &config::Service| {
            let pools = PerColor::from_fn(|color| Pool::new(rules, color, &[], 1).0);
            let (refusals, tail) = (Box::new([]), Arc::new(Tail::new(0)));
            let service = Service { name: rules.name.clone(), rules: rules.clone(), pools, refusals, tail };
            Entry::new(Arc::new(service), Color::Blue, 0, Timestamp::UNIX_EPOCH)
        };
        let entries = config.services.iter().map(entry).collect();
        (Arc::new(Edge::new(&config)), Arc::new(Routes::new(&config.services)), entries)
    }

    #[tokio::test]
    async fn replacing_the_table_keeps_what_a_cutover_has_decided() {
        // Without a worker nobody has to be waited for.
        let switchboard = Switchboard::new(Table::empty(), 0);
        let is_open = |entry: &Entry, color| !entry.service.pools[color].turnstile.is_closed();
        let (edge, routes, entries) = draft(&["shop", "api"]);
        let known = entries.clone();
        switchboard.replace(edge, routes, entries).await;
        assert!(known.iter().all(|entry| is_open(entry, Color::Blue) && !is_open(entry, Color::Green)));
        let shop = known[0].service.name.clone();
        switchboard.publish(&shop, Color::Green, 7).await;

        // The service that stays comes with rules of its own and an idea of what is live that is out of date.
        let (edge, routes, mut entries) = draft(&["blog", "shop"]);
        let others = Arc::new(known[0].service.under(entries[1].service.rules.clone()));
        entries[1].service = others.clone();
        switchboard.replace(edge, routes, entries).await;
        let table = switchboard.table();
        let entry = table.entry(&shop).unwrap();
        assert_eq!((table.version, entry.live, entry.generation), (4, Color::Green, 7));
        assert!(Arc::ptr_eq(&entry.service, &others) && is_open(entry, Color::Green) && !is_open(entry, Color::Blue));
        assert!(is_open(&table.entries[0], Color::Blue), "who is new is let in to");
        assert!(!is_open(&known[1], Color::Blue), "who is gone is closed");
        assert!(Arc::ptr_eq(&switchboard.newest(&known[0].service), &others));
        assert!(Arc::ptr_eq(&switchboard.newest(&known[1].service), &known[1].service));
    }

    /// A switchboard without workers, blue live, and what is open of the one service.
    async fn shop() -> (Switchboard, ServiceName, impl Fn(&Switchboard) -> (bool, bool)) {
        let switchboard = Switchboard::new(Table::empty(), 0);
        let (edge, routes, entries) = draft(&["shop"]);
        let service = entries[0].service.clone();
        switchboard.replace(edge, routes, entries).await;
        let open = move |switchboard: &Switchboard| {
            let entry = switchboard.table().entries[0].clone();
            let [blue, green] = Color::BOTH.map(|color| !entry.service.pools[color].turnstile.is_closed());
            assert_eq!((blue, green), (entry.opens(Color::Blue), entry.opens(Color::Green)));
            (blue, green)
        };
        (switchboard, service.name.clone(), open)
    }

    fn split(to: Color, share: u16) -> Option<Split> {
        Some(Split { to, share: Share(share), salt: 7 })
    }

    #[tokio::test]
    async fn a_split_opens_the_other_color_and_its_end_closes_it() {
        let (switchboard, shop, open) = shop().await;
        let weights = |switchboard: &Switchboard| {
            let entry = switchboard.table().entries[0].clone();
            Color::BOTH.map(|color| entry.weight(color).0)
        };
        assert_eq!((open(&switchboard), weights(&switchboard)), ((true, false), [10_000, 0]));
        switchboard.split(&shop, split(Color::Green, 500)).await;
        assert_eq!((open(&switchboard), weights(&switchboard)), ((true, true), [9_500, 500]));
        switchboard.split(&shop, split(Color::Green, 10_000)).await;
        assert_eq!((open(&switchboard), weights(&switchboard)), ((true, true), [0, 10_000]));
        switchboard.split(&shop, None).await;
        assert_eq!((open(&switchboard), weights(&switchboard)), ((true, false), [10_000, 0]));

        let version = switchboard.table().version;
        switchboard.split(&shop, split(Color::Blue, 500)).await;
        assert_eq!(switchboard.table().version, version, "the live color has its share already");
    }

    #[tokio::test]
    async fn a_publish_ends_split_and_preview_at_once_and_a_reload_keeps_both() {
        let (switchboard, shop, open) = shop().await;
        let preview = |to| Some(Preview { to, since: Timestamp::UNIX_EPOCH, until: Timestamp::UNIX_EPOCH });
        switchboard.split(&shop, split(Color::Green, 500)).await;
        switchboard.preview(&shop, preview(Color::Green)).await;
        let (edge, routes, entries) = draft(&["shop"]);
        switchboard.replace(edge, routes, entries).await;
        let entry = switchboard.table().entries[0].clone();
        assert!(entry.split == split(Color::Green, 500) && entry.preview == preview(Color::Green));

        switchboard.publish(&shop, Color::Green, 1).await;
        let entry = switchboard.table().entries[0].clone();
        assert_eq!((entry.live, entry.split, entry.preview), (Color::Green, None, None));
        assert_eq!(open(&switchboard), (false, true));
        switchboard.preview(&shop, preview(Color::Green)).await;
        assert_eq!(open(&switchboard), (false, true), "everyone sees it already");
        switchboard.preview(&shop, preview(Color::Blue)).await;
        assert_eq!(open(&switchboard), (true, true));
        switchboard.publish(&shop, Color::Green, 1).await;
        assert_eq!(open(&switchboard), (false, true));
    }

    #[tokio::test]
    async fn the_other_color_stays_open_until_neither_a_split_nor_a_preview_needs_it() {
        let (switchboard, shop, open) = shop().await;
        let (since, until) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let preview = Some(Preview { to: Color::Green, since, until });
        switchboard.preview(&shop, preview).await;
        assert_eq!(open(&switchboard), (true, true));
        switchboard.split(&shop, split(Color::Green, 0)).await;
        switchboard.preview(&shop, None).await;
        assert_eq!(open(&switchboard), (true, true), "the split goes on");
        switchboard.preview(&shop, preview).await;
        switchboard.split(&shop, None).await;
        assert_eq!(open(&switchboard), (true, false), "what is to be drained is closed, to those invited too");

        switchboard.split(&shop, split(Color::Green, 500)).await;
        let entry = switchboard.table().entries[0].clone();
        let (edge, routes, entries) = draft(&["blog"]);
        switchboard.replace(edge, routes, entries).await;
        assert!(Color::BOTH.iter().all(|color| entry.service.pools[*color].turnstile.is_closed()), "gone is gone");
    }

    #[tokio::test]
    async fn a_warm_up_opens_the_color_it_is_of_and_no_other_and_a_switch_ends_it() {
        let (switchboard, shop, open) = shop().await;
        let warming = |color| {
            let service = switchboard.table().entries[0].service.clone();
            let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[service.shop]\nblue.endpoints = [\"127.0.0.1:1\"]\n\
                cutover.warm = {}";
            let config =
                config::Config::parse(text, std::path::Path::new("")).unwrap_or_else(|report| panic!("{report}"));
            Some(Arc::new(Warming::of(&service.pools[color], config.services[0].cutover.warm.clone().unwrap())))
        };
        switchboard.warm(&shop, warming(Color::Blue)).await;
        assert_eq!(open(&switchboard), (true, false), "who is live is open already");
        switchboard.warm(&shop, warming(Color::Green)).await;
        assert_eq!(open(&switchboard), (true, true));
        switchboard.warm(&shop, None).await;
        assert_eq!(open(&switchboard), (true, false));
        switchboard.warm(&shop, warming(Color::Green)).await;
        switchboard.publish(&shop, Color::Green, 1).await;
        assert_eq!((open(&switchboard), switchboard.table().entries[0].warming.is_none()), ((false, true), true));
    }

    #[tokio::test]
    async fn a_roll_call_names_the_workers_that_do_not_come_round() {
        let switchboard = Switchboard::new(Table::empty(), 3);
        let workers: Vec<_> = (0..3).map(|place| worker(switchboard.seat(place))).collect();
        let long = Duration::from_secs(10);
        for _ in 0..100 {
            assert_eq!(switchboard.roll_call(long).await, [0; 0]);
        }
        let (release, until) = mpsc::channel();
        workers[1].send(until).unwrap();
        let short = Duration::from_millis(20);
        // The first wakes it once more, and it is stuck then; from there on it hears nothing.
        switchboard.roll_call(short).await;
        // On a busy machine others may be late as well, but not for ever.
        let stuck_alone = async { while switchboard.roll_call(short).await != [1] {} };
        tokio::time::timeout(6 * long, stuck_alone).await.expect("the others come round");
        for _ in 0..5 {
            assert!(switchboard.roll_call(short).await.contains(&1));
        }
        drop(release);
        assert_eq!(switchboard.roll_call(long).await, [0; 0], "it is back");
    }
}
