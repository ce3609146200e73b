//! The DNS tail: what still comes to the proxy through names that have moved on, counted by each worker for itself.

mod cells;
mod decay;
mod keeper;
mod networks;
mod silence;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

pub use self::cells::Known;
use self::cells::Sheet;
pub use self::decay::{Decay, MINUTES};
pub use self::keeper::Keeper;
pub use self::networks::Networks;
pub use self::silence::{Silence, State, Told, quiet};
use crate::time::{self, Moment, Timestamp};

/// One service's tail, shared by both planes like its pools. Counted only while it is armed; where it is not, a request
/// pays for one look at a word that never changes.
pub struct Tail {
    workers: usize,
    armed: AtomicBool,
    /// Written by the deciding side alone. Each arming is another one, so that nobody ever resets a worker's cells.
    span: ArcSwapOption<Span>,
    /// Connections a second that are told to look the names up again.
    rate: AtomicU32,
    past: Mutex<Counts>,
}

/// When the names moved away from the proxy, and for how long resolvers may keep the answer they had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    pub at: Timestamp,
    /// Of the answer that named the proxy.
    pub ttl: Duration,
}

impl Shift {
    /// By then every resolver that obeys has looked the names up again.
    pub fn expires(&self) -> Timestamp {
        self.at.checked_add(self.ttl).unwrap_or(Timestamp::MAX)
    }
}

/// Where a service's names lead, as far as its tail wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led {
    /// To a color, past the proxy.
    pub is_past: bool,
    /// They do so everywhere.
    pub in_sync: bool,
    /// Nothing where that was not ours to do, or is still to be done.
    pub shift: Option<Shift>,
    /// What is taken for the shift where they lead there and nobody knows since when.
    pub otherwise: Shift,
}

/// What is counted from one arming to the next.
pub struct Span {
    /// By which connections know that they have been counted.
    id: u64,
    pub shift: Shift,
    /// The end of the shift's TTL.
    due: Moment,
    /// Counting began here; after a restart that is later than the shift.
    pub since: Timestamp,
    began: Moment,
    sheets: Box<[Sheet]>,
    /// Before this no connection is told to look the names up again.
    next: AtomicU64,
    decay: Mutex<Decay>,
}

/// Everything that only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub connections: u64,
    /// Connections told to look the names up again.
    pub told: u64,
}

/// How the tail is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub shift: Shift,
    pub since: Timestamp,
    pub counts: Counts,
    /// Distinct client networks, as near as [`Networks::ERROR`].
    pub networks: u64,
    pub last_seen: Option<Timestamp>,
    /// Since the last request, or since counting began where there was none.
    pub silent_for: Duration,
    pub decay: Decay,
}

impl Tail {
    pub fn new(workers: usize) -> Tail {
        let (armed, span) = (AtomicBool::new(false), ArcSwapOption::empty());
        Tail { workers, armed, span, rate: AtomicU32::new(0), past: Mutex::default() }
    }

    /// Begins to count anew; where it counts for this shift already, nothing is touched.
    pub fn begin(&self, shift: Shift) {
        if self.span.load().as_ref().is_some_and(|span| span.shift == shift) {
            return;
        }
        self.end();
        self.span.store(Some(Arc::new(Span::new(shift, self.workers))));
        self.armed.store(true, Ordering::Release);
    }

    /// Counts, or no longer, as the names lead. While they are being moved from one color to the other, what counts is
    /// still the shift before.
    pub fn follow(&self, led: &Led) {
        match led.shift {
            _ if !led.is_past => self.end(),
            Some(shift) => self.begin(shift),
            None if led.in_sync && !self.is_armed() => self.begin(led.otherwise),
            None => {}
        }
    }

    /// Counts no longer: the names lead to the proxy again, or nobody knows where they lead.
    pub fn end(&self) {
        self.armed.store(false, Ordering::Release);
        // Held for both steps, so that whoever adds up meanwhile misses nothing.
        let mut past = self.past();
        if let Some(span) = self.span.swap(None) {
            *past = past.plus(span.counts());
        }
    }

    /// So many connections a second may be told to look the names up again; 0: none.
    pub fn pace(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    pub fn rate(&self) -> u32 {
        self.rate.load(Ordering::Relaxed)
    }

    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// What is counted now, if anything is.
    pub fn span(&self) -> Option<Arc<Span>> {
        self.span.load_full()
    }

    /// Everything counted since the process began.
    pub fn total(&self) -> Counts {
        let past = self.past();
        self.span().map_or(*past, |span| past.plus(span.counts()))
    }

    fn past(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Span {
    fn new(shift: Shift, workers: usize) -> Span {
        let (now, wall) = (Moment::now(), time::now());
        let left = Duration::try_from(shift.expires().duration_since(wall)).unwrap_or_default();
        Span {
            id: fastrand::u64(..),
            shift,
            due: now.after(left),
            since: wall,
            began: now,
            sheets: (0..workers).map(|_| Sheet::default()).collect(),
            next: AtomicU64::new(0),
            decay: Mutex::default(),
        }
    }

    /// Whether this connection comes for the first time.
    pub fn meets(&self, connection: &Known) -> bool {
        connection.meets(self.id)
    }

    /// A request has come at a worker; its client's address where that is news. Only the worker's own thread may say so.
    pub fn hear(&self, worker: usize, is_first: bool, client: Option<IpAddr>, at: Moment) {
        self.sheets[worker].hear(is_first, client, at);
    }

    /// Whether a connection that was opened at `born` is to be told now to look the names up again: it is as old as the
    /// answer that led it here may have become, and it is its turn, of `rate` in each second.
    pub fn takes_turn(&self, worker: usize, rate: u32, born: Moment, now: Moment) -> bool {
        let pause = Duration::from_secs(1) / rate.max(1);
        let next = self.next.load(Ordering::Relaxed);
        let is_due = rate > 0 && now >= self.due && now.since(born) >= self.shift.ttl && now.nanos() >= next;
        // Where another worker takes the turn in this very instant, it is taken.
        let takes = |then: Moment| {
            let taken = self.next.compare_exchange(next, then.nanos(), Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok()
        };
        let told = is_due && takes(now.after(pause));
        if told {
            self.sheets[worker].tell();
        }
        told
    }

    /// Notes how much has come since the last time. Called by one task, about as often as [`Decay::INTERVAL`].
    pub fn tick(&self, now: Moment) {
        let requests = self.counts().requests;
        self.decay().tick(now.since(self.began), requests);
    }

    pub fn counts(&self) -> Counts {
        self.sheets.iter().map(Sheet::counts).fold(Counts::default(), Counts::plus)
    }

    /// Since the last request, or since counting began.
    pub fn silent_for(&self, now: Moment) -> Duration {
        now.since(self.last_seen().unwrap_or(self.began))
    }

    pub fn reading(&self, now: Moment) -> Reading {
        let counts = self.counts();
        let mut networks = Networks::default();
        self.sheets.iter().for_each(|sheet| sheet.add_networks(&mut networks));
        Reading {
            shift: self.shift,
            since: self.since,
            counts,
            networks: networks.estimate(),
            last_seen: self.last_seen().map(Moment::timestamp),
            silent_for: self.silent_for(now),
            decay: self.decay().seen(now.since(self.began), counts.requests),
        }
    }

    fn last_seen(&self) -> Option<Moment> {
        self.sheets.iter().filter_map(Sheet::last_seen).max()
    }

    fn decay(&self) -> std::sync::MutexGuard<'_, Decay> {
        self.decay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn plus(self, more: Counts) -> Counts {
        Counts {
            requests: self.requests + more.requests,
            connections: self.connections + more.connections,
            told: self.told + more.told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(ttl: u64) -> Shift {
        Shift { at: time::now(), ttl: Duration::from_secs(ttl) }
    }

    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn it_counts_requests_connections_and_networks_over_all_workers() {
        let tail = Tail::new(2);
        assert!(!tail.is_armed() && tail.span().is_none());
        tail.begin(shift(60));
        assert!(tail.is_armed());
        let span = tail.span().unwrap();
        let (one, other) = (Known::default(), Known::default());
        let now = Moment::now();
        span.hear(0, span.meets(&one), client("192.0.2.7"), now);
        span.hear(0, span.meets(&one), None, now);
        span.hear(1, span.meets(&other), client("192.0.2.99"), now.after(Duration::from_secs(3)));
        span.hear(1, span.meets(&other), client("2001:db8::1"), now.after(Duration::from_secs(2)));
        let reading = span.reading(now.after(Duration::from_secs(8)));
        assert_eq!(reading.counts, Counts { requests: 4, connections: 2, told: 0 });
        assert_eq!(reading.networks, 2, "192.0.2.0/24 and 2001:db8::/48");
        assert_eq!(reading.silent_for, Duration::from_secs(5));
        assert_eq!(reading.decay.last_minute(), 4);
    }

    #[test]
    fn the_same_shift_goes_on_and_another_begins_anew_and_the_total_only_grows() {
        let tail = Tail::new(1);
        let (first, known) = (shift(60), Known::default());
        tail.begin(first);
        let hear = |span: &Span| span.hear(0, span.meets(&known), None, Moment::now());
        hear(&tail.span().unwrap());
        tail.begin(first);
        assert_eq!(tail.span().unwrap().counts().requests, 1, "an equal answer touches nothing");
        tail.begin(Shift { at: first.at.checked_add(Duration::from_secs(1)).unwrap(), ..first });
        let span = tail.span().unwrap();
        assert_eq!((span.counts(), span.reading(Moment::now()).last_seen), (Counts::default(), None));
        hear(&span);
        assert_eq!(span.counts().connections, 1, "a connection that lives on is counted in each");
        tail.end();
        assert!(!tail.is_armed());
        assert_eq!(tail.total(), Counts { requests: 2, connections: 2, told: 0 });
    }

    #[test]
    fn it_is_armed_as_the_names_lead() {
        let tail = Tail::new(1);
        let (first, second, unknown) = (shift(60), shift(61), shift(62));
        let led = |is_past, in_sync, shift| Led { is_past, in_sync, shift, otherwise: unknown };
        let steps = [
            (led(false, true, None), None, "they lead to the proxy"),
            (led(true, false, None), None, "they are on their way"),
            (led(true, false, Some(first)), Some(first), "they have moved, though not every server proves it"),
            (led(true, true, Some(first)), Some(first), "and now they do"),
            (led(true, false, None), Some(first), "they are on their way to the other color"),
            (led(true, true, Some(second)), Some(second), "and have got there"),
            (led(true, true, None), Some(second), "only the TTL is lowered"),
            (led(false, false, None), None, "they are on their way back to the proxy"),
            (led(true, true, None), Some(unknown), "they were led past it by somebody else"),
        ];
        for (led, expected, why) in steps {
            tail.follow(&led);
            assert_eq!(tail.span().map(|span| span.shift), expected, "{why}");
        }
    }

    #[test]
    fn a_connection_is_told_once_it_is_as_old_as_the_answer_may_be_and_no_more_than_so_many_a_second() {
        let tail = Tail::new(2);
        tail.begin(shift(10));
        let span = tail.span().unwrap();
        let second = |n: u64| span.began.after(Duration::from_secs(n));
        let rate = 10;
        assert!(!span.takes_turn(0, rate, second(0), second(9)), "resolvers may still answer so");
        assert!(!span.takes_turn(0, rate, second(5), second(12)), "it is younger than the answer may be");
        assert!(!span.takes_turn(0, 0, second(0), second(12)), "it is turned off");
        let told = |from: u64, to: u64| {
            let instants = (from * 1000..to * 1000).map(|milli| span.began.after(Duration::from_millis(milli)));
            instants.enumerate().filter(|(n, now)| span.takes_turn(n % 2, rate, second(0), *now)).count()
        };
        assert_eq!(told(12, 13), 10);
        assert_eq!(told(13, 16), 30);
        assert_eq!(span.counts().told, 40);
    }

    #[test]
    fn of_two_workers_in_the_same_instant_one_takes_the_turn() {
        let tail = Tail::new(2);
        tail.begin(shift(0));
        let span = tail.span().unwrap();
        let now = Moment::now().after(Duration::from_secs(1));
        let turn = |worker| span.takes_turn(worker, 1, span.began, now);
        let taken = std::thread::scope(|scope| {
            let all = [0, 1].map(|worker| scope.spawn(move || turn(worker)));
            all.map(|one| one.join().unwrap())
        });
        assert_eq!(taken.into_iter().filter(|taken| *taken).count(), 1);
    }
}
