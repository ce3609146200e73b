//! The cells a worker counts in: each has one writer, so counting is a load, an addition and a store, and no lock.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows, written by one thread and read by any.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls, written by one thread and read by any.
#[derive(Default)]
pub struct Level(AtomicI64);

impl Level {
    pub fn change(&self, by: i64) {
        self.0.store(self.0.load(Ordering::Relaxed) + by, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long requests took, in buckets.
#[derive(Default)]
pub struct Latency {
    /// One more than there are bounds: the last takes what is longer than all of them.
    buckets: [Counter; BOUNDS.len() + 1],
    nanos: Counter,
}

impl Latency {
    pub fn observe(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        let bucket = BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.nanos.add(nanos);
    }
}

/// Several [`Latency`] cells added up, as Prometheus wants them: cumulative counts under upper bounds in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencySum {
    buckets: [u64; BOUNDS.len() + 1],
    nanos: u64,
}

impl LatencySum {
    pub fn add(&mut self, cell: &Latency) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&cell.buckets) {
            *sum += bucket.get();
        }
        self.nanos += cell.nanos.get();
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }

    /// Upper bound in seconds, and how many were at or under it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.iter().zip(&self.buckets).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((*bound as f64 / 1e9, *sum))
        })
    }
}

/// One worker's figures for one color of one service, alone on its cache lines.
#[derive(Default)]
#[repr(align(128))]
pub struct ColorSheet {
    /// By class of the status code, `1xx` to `5xx`.
    pub codes: [Counter; 5],
    pub latency: Latency,
    pub upstream_idle: Level,
    pub upstream_active: Level,
}

impl ColorSheet {
    pub fn count(&self, status: u16, took: Duration) {
        self.codes[usize::from(status / 100).clamp(1, 5) - 1].add(1);
        self.latency.observe(took);
    }
}

/// One worker's counts of the answers the proxy made itself, for one service or for none, by the number of the reason.
#[repr(align(128))]
pub struct RefusalSheet {
    pub reasons: Box<[Counter]>,
}

impl RefusalSheet {
    pub fn new(reasons: usize) -> RefusalSheet {
        RefusalSheet { reasons: (0..reasons).map(|_| Counter::default()).collect() }
    }
}

/// One worker's figures for one listener's connections, alone on its cache lines.
#[repr(align(128))]
pub struct ConnectionSheet {
    pub open: Level,
    /// Those that were lost, by the number of the reason.
    pub lost: Box<[Counter]>,
    /// HTTP/2 requests taken back by their client, and those taken back from it.
    pub resets: [Counter; 2],
}

impl ConnectionSheet {
    pub fn new(reasons: usize) -> ConnectionSheet {
        let lost = (0..reasons).map(|_| Counter::default()).collect();
        ConnectionSheet { open: Level::default(), lost, resets: Default::default() }
    }
}

/// One worker's figures for copies of requests sent to one color, alone on its cache lines.
#[derive(Default)]
#[repr(align(128))]
pub struct MirrorSheet {
    /// In the order of [`Mirrored::ALL`].
    pub outcomes: [Counter; 5],
    /// How long the heads of answers took, of the copies and of the requests they were copied from: pairs only.
    pub copies: Latency,
    pub originals: Latency,
}

impl MirrorSheet {
    pub fn count(&self, outcome: Mirrored) {
        self.outcomes[outcome as usize].add(1);
    }
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// Both answers have the same status.
    Agree,
    Differ,
    /// The copy got no answer in its time.
    Failed,
    /// The request itself got no answer to compare with.
    Unmatched,
    /// It was not sent: there were too many, or the color closed.
    Dropped,
}

impl Mirrored {
    pub const ALL: [Mirrored; 5] =
        [Mirrored::Agree, Mirrored::Differ, Mirrored::Failed, Mirrored::Unmatched, Mirrored::Dropped];

    pub fn as_str(self) -> &'static str {
        match self {
            Mirrored::Agree => "agree",
            Mirrored::Differ => "differ",
            Mirrored::Failed => "failed",
            Mirrored::Unmatched => "unmatched",
            Mirrored::Dropped => "dropped",
        }
    }
}

/// The [`MirrorSheet`]s of all workers added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MirrorSum {
    outcomes: [u64; 5],
    pub copies: LatencySum,
    pub originals: LatencySum,
}

impl MirrorSum {
    pub fn add(&mut self, sheet: &MirrorSheet) {
        for (sum, outcome) in self.outcomes.iter_mut().zip(&sheet.outcomes) {
            *sum += outcome.get();
        }
        self.copies.add(&sheet.copies);
        self.originals.add(&sheet.originals);
    }

    pub fn count(&self, outcome: Mirrored) -> u64 {
        self.outcomes[outcome as usize]
    }
}

pub const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Upper bounds of the latency buckets in nanoseconds: 250 µs to 60 s, about two for each doubling at the fast end.
const BOUNDS: [u64; 16] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_add_up_over_workers_and_stay_cumulative() {
        let (a, b) = (Latency::default(), Latency::default());
        a.observe(Duration::from_micros(250));
        a.observe(Duration::from_millis(3));
        b.observe(Duration::from_secs(3600));
        let mut sum = LatencySum::default();
        sum.add(&a);
        sum.add(&b);
        assert_eq!(sum.count(), 3);
        let buckets: Vec<(f64, u64)> = sum.cumulative().collect();
        assert_eq!(buckets[0], (0.00025, 1));
        assert_eq!(buckets[4], (0.005, 2));
        assert_eq!(buckets.last(), Some(&(60.0, 2)));
        assert!((sum.seconds() - 3600.00325).abs() < 1e-9);
    }

    #[test]
    fn codes_outside_the_classes_count_as_the_nearest() {
        let sheet = ColorSheet::default();
        for status in [99, 204, 999] {
            sheet.count(status, Duration::ZERO);
        }
        assert_eq!(sheet.codes.each_ref().map(Counter::get), [1, 1, 0, 0, 1]);
    }
}
