//! The cells a worker counts in: each has one writer, so counting is a load, an addition and a store, and no lock.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::waiting::Waiting;

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

/// How long requests took, in buckets: a quarter wide, so that one color can be compared with the other.
pub struct Latency {
    /// One more than there are steps: the last takes what is longer than all of them.
    buckets: [Counter; STEPS + 1],
    nanos: Counter,
}

impl Latency {
    pub fn observe(&self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        self.buckets[GRID.partition_point(|step| *step < nanos)].add(1);
        self.nanos.add(nanos);
    }
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { buckets: std::array::from_fn(|_| Counter::default()), nanos: Counter::default() }
    }
}

/// Several [`Latency`] cells added up, as Prometheus wants them: cumulative counts under upper bounds in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencySum {
    buckets: [u64; STEPS + 1],
    nanos: u64,
}

impl Default for LatencySum {
    fn default() -> LatencySum {
        LatencySum { buckets: [0; STEPS + 1], nanos: 0 }
    }
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
        let all = GRID.iter().zip(&self.buckets).scan(0, |sum, (step, count)| {
            *sum += count;
            Some((*step, *sum))
        });
        all.filter(|(step, _)| BOUNDS.contains(step)).map(|(step, sum)| (step as f64 / 1e9, sum))
    }

    /// What has come since `before`.
    pub fn since(&self, before: &LatencySum) -> LatencySum {
        let buckets = std::array::from_fn(|place| self.buckets[place].saturating_sub(before.buckets[place]));
        LatencySum { buckets, nanos: self.nanos.saturating_sub(before.nanos) }
    }

    /// Both together.
    pub fn and(&self, other: &LatencySum) -> LatencySum {
        let buckets = std::array::from_fn(|place| self.buckets[place] + other.buckets[place]);
        LatencySum { buckets, nanos: self.nanos + other.nanos }
    }

    /// The time that this share of them, 0 to 1, kept to, up to a quarter more; `None` where there were none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let (count, mut sum) = (self.count(), 0);
        let wanted = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let at = self.buckets.iter().position(|bucket| {
            sum += bucket;
            sum >= wanted
        });
        at.map(|place| Duration::from_nanos(*GRID.get(place).unwrap_or(&GRID[STEPS - 1])))
    }

    /// How many took longer than `limit`, and the limit itself, rounded up to a step.
    pub fn longer_than(&self, limit: Duration) -> (u64, Duration) {
        let place = GRID.partition_point(|step| u128::from(*step) < limit.as_nanos()).min(STEPS - 1);
        (self.buckets[place + 1..].iter().sum(), Duration::from_nanos(GRID[place]))
    }
}

/// Told by its buckets that are not empty, each by the time in microseconds that it ends with.
impl Serialize for LatencySum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let end = |place: usize| GRID.get(place).map_or(u64::MAX, |nanos| nanos / 1_000);
        let full = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        let pairs: Vec<(u64, u64)> = full.map(|(place, count)| (end(place), *count)).collect();
        (self.nanos / 1_000, pairs).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LatencySum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LatencySum, D::Error> {
        let (micros, pairs) = <(u64, Vec<(u64, u64)>)>::deserialize(deserializer)?;
        let mut sum = LatencySum { nanos: micros.saturating_mul(1_000), ..LatencySum::default() };
        for (end, count) in pairs {
            sum.buckets[GRID.partition_point(|step| step / 1_000 < end)] += count;
        }
        Ok(sum)
    }
}

/// What one color has done, added up over the workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// By class of the status code.
    pub codes: [u64; 5],
    /// How long requests took, to the last byte.
    pub latency: LatencySum,
    /// How long heads of answers took, those of the class 5xx aside.
    #[serde(default)]
    pub answers: LatencySum,
    pub connect_failures: u64,
    /// Answers that broke off, in classes below 5xx.
    #[serde(default)]
    pub cut: u64,
    /// Requests whose clients left before there was an answer.
    #[serde(default)]
    pub left: u64,
}

impl Tally {
    pub fn of<'s>(sheets: impl IntoIterator<Item = &'s ColorSheet>) -> Tally {
        sheets.into_iter().fold(Tally::default(), |mut tally, sheet| {
            tally.codes.iter_mut().zip(&sheet.codes).for_each(|(sum, code)| *sum += code.get());
            tally.latency.add(&sheet.latency);
            tally.answers.add(&sheet.answers);
            tally.connect_failures += sheet.connect_failures.get();
            tally.cut += sheet.cut.get();
            tally.left += sheet.left.get();
            tally
        })
    }

    pub fn since(&self, before: &Tally) -> Tally {
        Tally {
            codes: std::array::from_fn(|class| self.codes[class].saturating_sub(before.codes[class])),
            latency: self.latency.since(&before.latency),
            answers: self.answers.since(&before.answers),
            connect_failures: self.connect_failures.saturating_sub(before.connect_failures),
            cut: self.cut.saturating_sub(before.cut),
            left: self.left.saturating_sub(before.left),
        }
    }

    pub fn and(&self, other: &Tally) -> Tally {
        Tally {
            codes: std::array::from_fn(|class| self.codes[class] + other.codes[class]),
            latency: self.latency.and(&other.latency),
            answers: self.answers.and(&other.answers),
            connect_failures: self.connect_failures + other.connect_failures,
            cut: self.cut + other.cut,
            left: self.left + other.left,
        }
    }

    pub fn requests(&self) -> u64 {
        self.codes.iter().sum()
    }

    /// Answers of the class 5xx, the proxy's own among them, and those that broke off.
    pub fn errors(&self) -> u64 {
        self.codes[4] + self.cut
    }
}

/// One worker's figures for one color of one service, alone on its cache lines.
#[derive(Default)]
#[repr(align(128))]
pub struct ColorSheet {
    /// By class of the status code, `1xx` to `5xx`.
    pub codes: [Counter; 5],
    /// How long requests took, to the last byte.
    pub latency: Latency,
    /// How long the heads of answers took since nobody but the color kept them waiting. It is what a color is judged by: how
    /// long an answer is and how fast a client reads is no merit of it, and to fail fast is none either.
    pub answers: Latency,
    pub upstream_idle: Level,
    pub upstream_active: Level,
    /// Connections to endpoints that could not be made.
    pub connect_failures: Counter,
    /// Answers that broke off, in classes below 5xx.
    pub cut: Counter,
    /// Requests whose clients left before there was an answer.
    pub left: Counter,
    /// Clients' requests inside that have no answer yet, not even its head.
    pub waiting: Waiting,
}

impl ColorSheet {
    /// `answered` is how long the head took, where it came.
    pub fn count(&self, status: u16, took: Duration, answered: Option<Duration>) {
        self.codes[class(status)].add(1);
        self.latency.observe(took);
        if let Some(answered) = answered.filter(|_| status < 500) {
            self.answers.observe(answered);
        }
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

/// One worker's figures for the warming up of one color, alone on its cache lines.
#[derive(Default)]
#[repr(align(128))]
pub struct WarmSheet {
    /// Kept connections that were opened.
    pub connections: Counter,
    /// Connections that could not be.
    pub refused: Counter,
    /// Answers by class of the status code.
    pub codes: [Counter; 5],
    /// Requests without an answer.
    pub unanswered: Counter,
}

impl WarmSheet {
    pub fn count(&self, status: u16) {
        self.codes[class(status)].add(1);
    }
}

/// The [`WarmSheet`]s of all workers added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WarmSum {
    pub connections: u64,
    pub refused: u64,
    pub codes: [u64; 5],
    pub unanswered: u64,
}

impl WarmSum {
    pub fn add(&mut self, sheet: &WarmSheet) {
        self.connections += sheet.connections.get();
        self.refused += sheet.refused.get();
        self.codes.iter_mut().zip(&sheet.codes).for_each(|(sum, code)| *sum += code.get());
        self.unanswered += sheet.unanswered.get();
    }

    /// What has come since `before`.
    pub fn since(&self, before: &WarmSum) -> WarmSum {
        WarmSum {
            connections: self.connections - before.connections,
            refused: self.refused - before.refused,
            codes: std::array::from_fn(|class| self.codes[class] - before.codes[class]),
            unanswered: self.unanswered - before.unanswered,
        }
    }
}

/// The place of a status code's class in [`CODES`].
fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, 5) - 1
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

/// The steps of a latency cell in nanoseconds: ten for each decade, with every one of [`BOUNDS`] among them.
const GRID: [u64; STEPS] = grid();
const STEPS: usize = 55;

const fn grid() -> [u64; STEPS] {
    // In hundredths of the decade's beginning.
    let decade = [100, 125, 160, 200, 250, 320, 400, 500, 640, 800];
    let mut grid = [0; STEPS];
    let mut place = 0;
    while place < STEPS {
        // It begins at 250 µs, the fifth step of its decade.
        let step = place + 4;
        grid[place] = 1_000 * decade[step % 10] * 10_u64.pow((step / 10) as u32);
        place += 1;
    }
    grid[STEPS - 1] = 60_000_000_000;
    grid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_rise_by_a_quarter_and_hold_every_bound_that_is_told() {
        assert!(BOUNDS.iter().all(|bound| GRID.contains(bound)), "{GRID:?}");
        assert!(
            GRID.windows(2)
                .all(|pair| pair[0] < pair[1] && pair[1] * 100 <= pair[0] * 128 || pair[1] == 60_000_000_000),
            "{GRID:?}"
        );
    }

    #[test]
    fn quantiles_are_right_to_a_quarter() {
        let cell = Latency::default();
        (1..=1000).for_each(|millis| cell.observe(Duration::from_millis(millis)));
        let mut sum = LatencySum::default();
        sum.add(&cell);
        for share in [0.001, 0.1, 0.5, 0.9, 0.99, 1.0] {
            let (found, right) = (sum.quantile(share).unwrap().as_secs_f64(), share);
            assert!(found >= right && found <= right * 1.29, "{share}: {found}");
        }
        assert_eq!(sum.longer_than(Duration::from_millis(500)), (500, Duration::from_millis(500)));
        assert_eq!(sum.longer_than(Duration::from_millis(510)), (360, Duration::from_millis(640)));
        assert_eq!(sum.longer_than(Duration::from_hours(1)).0, 0);
        assert_eq!(LatencySum::default().quantile(0.5), None);
        let told: LatencySum = serde_json::from_str(&serde_json::to_string(&sum).unwrap()).unwrap();
        assert_eq!(told, sum, "what is told comes back");
        let twice = sum.and(&sum);
        assert_eq!((twice.count(), twice.since(&sum)), (2000, sum));
    }

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
            sheet.count(status, Duration::ZERO, None);
        }
        assert_eq!(sheet.codes.each_ref().map(Counter::get), [1, 1, 0, 0, 1]);
    }
}
