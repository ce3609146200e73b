//! Who waits for an answer, by the second in which they began: so it is exact how many have waited for how long.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Moment;

/// One worker's waiting requests of one color, written by one thread and read by any. To come and to go is a load and a
/// store each, in a cell that requests of one second have in common.
///
/// There is a cell for each of the last 64 seconds. Who is found in one that another second needs has waited for 64 s or
/// more and goes on being counted by spans of 64 s, of which there are 64 as well, and behind those, after 68 minutes, as
/// one of the rest. Only where somebody has waited so long are there cells for spans, so that this takes half a KiB.
#[derive(Default)]
pub struct Waiting {
    seconds: Row,
    spans: OnceLock<Box<Row>>,
    rest: AtomicU64,
}

impl Waiting {
    /// Somebody waits since then.
    pub fn come(&self, since: Moment) {
        let second = second_of(since);
        if let Some((second, number)) = self.seconds.come(second, 1) {
            self.age(second, number);
        }
    }

    /// Who came so no longer waits.
    pub fn go(&self, since: Moment) {
        let second = second_of(since);
        if !self.seconds.go(second) && !self.spans.get().is_some_and(|spans| spans.go(second / CELLS)) {
            self.rest.store(self.rest.load(Ordering::Relaxed).saturating_sub(1), Ordering::Release);
        }
    }

    /// These no longer have a cell for their second.
    #[cold]
    fn age(&self, second: u32, number: u32) {
        if let Some((_, number)) = self.spans.get_or_init(Box::default).come(second / CELLS, number) {
            self.rest.store(self.rest.load(Ordering::Relaxed) + u64::from(number), Ordering::Release);
        }
    }
}

/// Cells in a circle: a number, and what it is the number of.
struct Row([AtomicU64; CELLS as usize]);

impl Default for Row {
    fn default() -> Row {
        Row(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Row {
    /// Counts them, and hands back whom there is no cell for any more, with what they belong to.
    fn come(&self, place: u32, number: u32) -> Option<(u32, u32)> {
        let cell = &self.0[(place % CELLS) as usize];
        let (holder, held) = parted(cell.load(Ordering::Relaxed));
        let (stays, goes) = match holder {
            // Whose head came long before he was let in comes after those that have his cell.
            _ if holder > place => return Some((place, number)),
            _ if holder == place => (held + number, None),
            _ => (number, Some((holder, held)).filter(|_| held > 0)),
        };
        // Those that go are counted elsewhere behind this: who reads in between misses them, and counts nobody twice.
        cell.store(joined(place, stays), Ordering::Release);
        goes
    }

    /// One less; no where those of that place are not counted here.
    fn go(&self, place: u32) -> bool {
        let cell = &self.0[(place % CELLS) as usize];
        let (holder, held) = parted(cell.load(Ordering::Relaxed));
        let is_here = holder == place && held > 0;
        if is_here {
            cell.store(joined(place, held - 1), Ordering::Release);
        }
        is_here
    }

    fn read(&self) -> impl Iterator<Item = (u64, u64)> {
        let cells = self.0.iter().map(|cell| parted(cell.load(Ordering::Acquire)));
        cells.filter(|(_, held)| *held > 0).map(|(place, held)| (u64::from(place), u64::from(held)))
    }
}

/// Who waits at all workers at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiters {
    /// How many began in which seconds.
    began: BTreeMap<(u64, u64), u64>,
    at: Moment,
}

impl Waiters {
    /// Who has waited for less than this is known to the second.
    pub const EXACT: Duration = Duration::from_secs(SPAN - 1);

    /// Those of all workers. What is read is no more than there are: who is being moved may be missed.
    pub fn of<'w>(workers: impl IntoIterator<Item = &'w Waiting>, at: Moment) -> Waiters {
        let mut waiters = Waiters { began: BTreeMap::new(), at };
        for waiting in workers {
            // The oldest first, as those are who may come to be there while this is read.
            let rest = waiting.rest.load(Ordering::Acquire);
            let spans: Vec<_> = waiting.spans.get().into_iter().flat_map(|spans| spans.read()).collect();
            waiters.add(0..oldest_span(at), rest);
            spans.into_iter().for_each(|(span, held)| waiters.add(span * SPAN..(span + 1) * SPAN, held));
            waiting.seconds.read().for_each(|(second, held)| waiters.add(second..second + 1, held));
        }
        waiters
    }

    /// How many have waited for that long. It is known to the second for a minute of patience, beyond that to a minute: who
    /// may not have waited so long yet is left out. So is who waited already when `start` was read.
    pub fn longer_than(&self, patience: Duration, start: &Waiters) -> u64 {
        let is_late = |until: u64| self.at.since(Moment::from_nanos(until.saturating_mul(SECOND))) >= patience;
        let late = self.began.iter().filter(|((_, until), _)| is_late(*until));
        late.map(|((from, until), number)| number.saturating_sub(start.within(*from..*until))).sum()
    }

    fn within(&self, seconds: Range<u64>) -> u64 {
        self.began
            .iter()
            .filter(|((from, until), _)| seconds.start <= *from && *until <= seconds.end)
            .map(|(_, n)| n)
            .sum()
    }

    fn add(&mut self, seconds: Range<u64>, number: u64) {
        if number > 0 {
            *self.began.entry((seconds.start, seconds.end)).or_default() += number;
        }
    }
}

/// The first second of which somebody may wait and not be one of the rest.
fn oldest_span(at: Moment) -> u64 {
    (u64::from(second_of(at) / CELLS) + 1).saturating_sub(SPAN) * SPAN
}

fn second_of(at: Moment) -> u32 {
    // Of the system's uptime, which is no 136 years.
    (at.nanos() / SECOND) as u32
}

fn parted(cell: u64) -> (u32, u32) {
    ((cell >> 32) as u32, cell as u32)
}

fn joined(place: u32, number: u32) -> u64 {
    u64::from(place) << 32 | u64::from(number)
}

/// How many there are in a row, and how many seconds a span has.
const CELLS: u32 = 64;
const SPAN: u64 = CELLS as u64;
/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: u64) -> Moment {
        Moment::from_nanos(second * SECOND + SECOND / 2)
    }

    fn late(waiting: &Waiting, at: u64, patience: u64) -> u64 {
        Waiters::of([waiting], second(at)).longer_than(Duration::from_secs(patience), &Waiters::default())
    }

    #[test]
    fn each_is_late_once_its_second_is_so_long_ago_and_until_it_goes() {
        let waiting = Waiting::default();
        (0..3).for_each(|_| waiting.come(second(1_000)));
        waiting.come(second(1_005));
        assert_eq!([1_009, 1_010, 1_011, 1_016, 1_500].map(|at| late(&waiting, at, 10)), [0, 0, 3, 4, 4]);
        waiting.go(second(1_000));
        assert_eq!(late(&waiting, 1_016, 10), 3);
    }

    #[test]
    fn whose_cell_another_second_needs_is_counted_on_by_the_minute_and_then_as_one_of_the_rest() {
        let waiting = Waiting::default();
        for at in [1_000, 1_064, 1_128] {
            waiting.come(second(at));
        }
        assert_eq!(late(&waiting, 1_140, 10), 3);
        assert_eq!(late(&waiting, 1_140, 70), 1, "who came 76 seconds ago may have come 52 seconds ago, by his span");
        assert_eq!(late(&waiting, 1_160, 70), 2);
        // Much later, at the same places of the circle.
        waiting.come(second(1_000 + 64 * 64));
        waiting.come(second(1_000 + 64 * 64 + 64));
        assert_eq!(late(&waiting, 1_000 + 64 * 64 + 70, 3_600), 3);
        [1_064, 1_000, 1_128, 1_000 + 64 * 64, 1_000 + 64 * 64 + 64].into_iter().for_each(|at| waiting.go(second(at)));
        assert_eq!(late(&waiting, 10_000, 0), 0);
    }

    #[test]
    fn who_waited_at_the_start_is_no_matter_of_the_watch_and_who_came_behind_it_is_in_the_same_second_too() {
        let waiting = Waiting::default();
        (0..5).for_each(|_| waiting.come(second(1_000)));
        waiting.come(second(999));
        let start = Waiters::of([&waiting], second(1_000));
        (0..4).for_each(|_| waiting.come(second(1_000)));
        let now = Waiters::of([&waiting], second(1_020));
        assert_eq!(now.longer_than(Duration::from_secs(10), &start), 4);
        assert_eq!(now.longer_than(Duration::from_secs(10), &Waiters::default()), 10);
    }

    #[test]
    fn nobody_is_counted_twice_while_he_is_moved() {
        for _ in 0..300 {
            let waiting = Waiting::default();
            (0..40).for_each(|n| waiting.come(second(1_000 + n)));
            std::thread::scope(|scope| {
                // Whoever comes takes a cell, and goes at once.
                let pass = |since| {
                    waiting.come(since);
                    waiting.go(since);
                };
                let moving = scope.spawn(move || (2_000..4_000).map(second).for_each(pass));
                while !moving.is_finished() {
                    assert!(late(&waiting, 1_100, 10) <= 40);
                }
            });
            assert_eq!(late(&waiting, 4_000, 10), 40);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_nobody_is_lost_and_nobody_is_late_too_soon(
            steps in prop::collection::vec((0_u64..200, 0_u64..100, any::<bool>()), 1..200),
            patience in 0_u64..200,
        ) {
            let (waiting, mut waits, mut now) = (Waiting::default(), Vec::new(), 10_000);
            for (passes, before, goes) in steps {
                now += passes;
                // Some come long after their heads.
                let since = now - before;
                waiting.come(second(since));
                waits.push(since);
                if goes {
                    let place = (passes as usize * 31) % waits.len();
                    waiting.go(second(waits.swap_remove(place)));
                }
                let exact = waits.iter().filter(|since| now - **since >= patience).count() as u64;
                let surely = waits.iter().filter(|since| now - **since >= patience + SPAN).count() as u64;
                let found = late(&waiting, now, patience);
                prop_assert!(found <= exact && found >= surely, "{found} of {exact}, {surely} at least");
                prop_assert_eq!(late(&waiting, now + 2 * SPAN, 0), waits.len() as u64);
            }
        }
    }
}
