//! The recorder of a service: what both colors did in each of the last seconds. It is read by the judge and kept with a cutover.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use super::judge::{Course, Look, Sample};
use crate::metrics::{Tally, Waiters};
use crate::names::{Color, PerColor};
use crate::pool::Pool;
use crate::time::{self, Moment, Timestamp};

/// One for each service, for as long as that lasts.
pub struct Recorder {
    pools: PerColor<Arc<Pool>>,
    seconds: Mutex<VecDeque<Second>>,
    /// When the last switch happened of the cutover whose record is being kept, and its seconds so far.
    kept: Mutex<Option<(Timestamp, Vec<Frame>)>>,
}

/// What is kept of a cutover: the seconds around its switch, and when requests began on each color.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flight {
    pub requests: PerColor<Span>,
    pub seconds: Vec<Frame>,
}

/// When requests began on a color.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The first since it was opened.
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

/// What was done since the second before. A color that did nothing takes no room.
struct Second {
    at: Timestamp,
    done: PerColor<Option<Box<Done>>>,
}

#[derive(Clone, Default)]
struct Done {
    tally: Tally,
    /// Requests inside, at its end.
    inside: u64,
}

/// Counters as they stand at one moment.
#[derive(Clone, Default)]
pub struct Reading {
    tally: Tally,
    begun: u64,
    inside: u64,
    waiting: Waiters,
}

/// One second of one cutover's record, short enough for a line of the journal that holds two minutes of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    pub at: Timestamp,
    #[serde(flatten)]
    pub colors: PerColor<Figures>,
}

/// What one color did in one second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub requests: u64,
    pub errors: u64,
    /// Requests inside, at its end.
    pub inside: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p99_us: Option<u64>,
}

impl Recorder {
    pub fn new(pools: PerColor<Arc<Pool>>) -> Arc<Recorder> {
        Arc::new(Recorder { pools, seconds: Mutex::default(), kept: Mutex::default() })
    }

    /// A switch has just happened: the seconds before it are kept, and as many after it as will come; and those around the
    /// switch before it where this is its way back.
    pub fn keep(&self, at: Timestamp) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut frames = kept.take().map(|(_, frames)| frames).unwrap_or_default();
        let from = at.checked_sub(AROUND).unwrap_or(at);
        let is_new = |second: &&Second| second.at >= from && frames.last().is_none_or(|last| second.at > last.at);
        let new: Vec<Frame> = self.seconds().iter().filter(is_new).map(Second::frame).collect();
        frames.extend(new);
        *kept = Some((at, frames));
    }

    /// The record of the cutover that ends now.
    pub fn flight(&self) -> Flight {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let requests = PerColor::from_fn(|color| {
            let entries = self.pools[color].turnstile.entries();
            Span { first: entries.first.map(Moment::timestamp), last: entries.last.map(Moment::timestamp) }
        });
        Flight { requests, seconds: kept.map(|(_, frames)| frames).unwrap_or_default() }
    }

    /// Records, second by second, for as long as anybody holds it.
    pub async fn run(recorder: Weak<Recorder>) {
        let mut ticks = tokio::time::interval(SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: Option<PerColor<Reading>> = None;
        loop {
            ticks.tick().await;
            let Some(recorder) = recorder.upgrade() else { return };
            let now = PerColor::from_fn(|color| recorder.read(color));
            if let Some(before) = &before {
                let done = PerColor::from_fn(|color| now[color].done_since(&before[color]));
                recorder.note(Second { at: time::now(), done });
            }
            before = Some(now);
        }
    }

    fn note(&self, second: Second) {
        if let Some((at, frames)) = &mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner)
            && at.checked_add(AROUND).is_ok_and(|until| second.at <= until)
        {
            frames.push(second.frame());
        }
        let mut seconds = self.seconds();
        seconds.push_back(second);
        if seconds.len() > REMEMBERED {
            seconds.pop_front();
        }
    }

    /// The color's counters now.
    pub fn read(&self, color: Color) -> Reading {
        let pool = &self.pools[color];
        let (tally, turnstile) = (Tally::of(pool.sheets.iter().map(AsRef::as_ref)), &pool.turnstile);
        let waiting = Waiters::of(pool.sheets.iter().map(|sheet| &sheet.waiting), Moment::now());
        Reading { tally, begun: turnstile.entries().count, inside: turnstile.inside().requests, waiting }
    }

    /// What the color did in the last minute, as far as that has been seen, and who has waited for longer than `patience` now.
    pub fn minute(&self, color: Color, patience: Duration) -> Sample {
        let mut tally = Tally::default();
        let seconds = self.seconds();
        let done = seconds.iter().filter_map(|second| second.done[color].as_deref());
        done.for_each(|done| tally = tally.and(&done.tally));
        drop(seconds);
        let reading = self.read(color);
        let unanswered = reading.waiting.longer_than(patience, &Waiters::default());
        Sample { tally, unanswered, open: reading.inside, waiting: reading.waiting }
    }

    fn seconds(&self) -> MutexGuard<'_, VecDeque<Second>> {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Second {
    fn frame(&self) -> Frame {
        Frame { at: self.at, colors: PerColor::from_fn(|color| Figures::of(self.done[color].as_deref())) }
    }
}

impl Reading {
    pub fn tally_since(&self, before: &Reading) -> Tally {
        self.tally.since(&before.tally)
    }

    fn done_since(&self, before: &Reading) -> Option<Box<Done>> {
        let begun = self.begun.saturating_sub(before.begun);
        let tally = self.tally_since(before);
        let is_idle = begun == 0 && self.inside == 0 && tally.requests() == 0;
        (!is_idle).then(|| Box::new(Done { tally, inside: self.inside }))
    }
}

impl Figures {
    fn of(done: Option<&Done>) -> Figures {
        let Some(done) = done else { return Figures::default() };
        let latency = &done.tally.latency;
        let micros = |share| latency.quantile(share).map(|at| u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        Figures {
            requests: done.tally.requests(),
            errors: done.tally.errors(),
            inside: done.inside,
            p50_us: micros(0.5),
            p99_us: micros(0.99),
        }
    }
}

/// A color that is watched from some moment on: what it has done since, in all and in the last seconds.
pub struct Watch {
    recorder: Arc<Recorder>,
    color: Color,
    patience: Duration,
    start: Reading,
    past: Past,
}

/// What a watched color has done, as far as it is remembered.
struct Past {
    parts: Parts,
    /// The seconds of the last minute, the oldest first. What the first one did is no longer of interest, only its end.
    marks: VecDeque<Mark>,
    /// Whether it is known to the second who has waited for too long.
    is_exact: bool,
}

/// The end of a second in which a color was watched.
struct Mark {
    at: Moment,
    /// What it has done until then, and in this second.
    sample: Sample,
    done: Arc<Tally>,
}

impl Watch {
    pub fn begin(recorder: &Arc<Recorder>, color: Color, patience: Duration) -> Watch {
        let (start, past) = (recorder.read(color), Past::new(Moment::now(), patience));
        Watch { recorder: recorder.clone(), color, patience, start, past }
    }

    /// What it has done so far. To be asked often: its seconds are those between two looks.
    pub fn look(&mut self) -> Look {
        let (now, reading) = (Moment::now(), self.recorder.read(self.color));
        let unanswered = reading.waiting.longer_than(self.patience, &self.start.waiting);
        self.past.look(
            now,
            Sample {
                tally: reading.tally_since(&self.start),
                unanswered,
                open: reading.inside,
                waiting: reading.waiting,
            },
        )
    }
}

impl Past {
    fn new(at: Moment, patience: Duration) -> Past {
        let marks = VecDeque::from([Mark { at, sample: Sample::default(), done: Arc::default() }]);
        Past { parts: Parts::default(), marks, is_exact: patience < Waiters::EXACT }
    }

    /// It has done so much by now.
    fn look(&mut self, now: Moment, sample: Sample) -> Look {
        if self.marks.back().is_some_and(|last| now.since(last.at) >= SECOND) {
            self.mark(now, &sample);
        }
        let unfinished = self.marks.back().map(|last| Arc::new(sample.tally.since(&last.sample.tally)));
        let lately = WINDOWS.into_iter().filter_map(|window| {
            let from = self.marks.iter().rposition(|mark| now.since(mark.at) >= window)?;
            let done = self.marks.range(from + 1..).map(|mark| mark.done.clone());
            let all = self.since(&self.marks[from], &sample);
            Some((window, Course { all, parts: done.chain(unfinished.clone()).collect() }))
        });
        let lately = lately.collect();
        let parts = self.parts.all.iter().cloned().chain(unfinished).collect();
        Look { whole: Course { all: sample, parts }, lately }
    }

    fn mark(&mut self, at: Moment, sample: &Sample) {
        let Some(last) = self.marks.back() else { return };
        let done = Arc::new(sample.tally.since(&last.sample.tally));
        self.parts.add(&done);
        self.marks.push_back(Mark { at, sample: sample.clone(), done });
        while self.marks.get(1).is_some_and(|second| at.since(second.at) >= LONGEST_WINDOW) {
            self.marks.pop_front();
        }
    }

    /// What was done since the mark. Of those without an answer it is how many more there are than there were: where some
    /// of them have had theirs, that is the least that have come to be among them.
    fn since(&self, mark: &Mark, sample: &Sample) -> Sample {
        // Otherwise many are found at one moment to have waited so long, who began in a minute.
        let more = if self.is_exact { sample.unanswered.saturating_sub(mark.sample.unanswered) } else { 0 };
        Sample {
            tally: sample.tally.since(&mark.sample.tally),
            unanswered: more,
            open: sample.open,
            ..Sample::default()
        }
    }
}

/// What was done second by second. Where those become too many, each two are put together, as long as it takes, so that a
/// day takes no more room than a minute.
struct Parts {
    all: Vec<Arc<Tally>>,
    /// How many seconds each of them has, and how many the last one.
    each: u32,
    last: u32,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts { all: Vec::new(), each: 1, last: 1 }
    }
}

impl Parts {
    fn add(&mut self, second: &Arc<Tally>) {
        if self.last < self.each
            && let Some(last) = self.all.last_mut()
        {
            *last = Arc::new(last.and(second));
            self.last += 1;
            return;
        }
        if self.all.len() == MOST_PARTS {
            self.all = self.all.chunks(2).map(|pair| Arc::new(pair[0].and(&pair[1]))).collect();
            self.each *= 2;
        }
        self.all.push(second.clone());
        self.last = 1;
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// The seconds before and after a switch that are kept of it.
const AROUND: Duration = Duration::from_secs(30);
/// Seconds that are remembered.
const REMEMBERED: usize = 60;
/// What was done lately is looked at over these times: a color that fails all of its requests shows in the short one, one
/// that fails a few of them, or has few, in the long one.
const WINDOWS: [Duration; 2] = [Duration::from_secs(10), LONGEST_WINDOW];
const LONGEST_WINDOW: Duration = Duration::from_mins(1);
/// An even number.
const MOST_PARTS: usize = 64;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::judge::{Clock, Judgement, Verdict, judge};
    use super::*;
    use crate::config::{Bake, Config};
    use crate::metrics::ColorSheet;

    /// A color whose requests are counted by hand, and the past of it, five looks a second.
    struct Trial {
        sheet: ColorSheet,
        unanswered: u64,
        past: Past,
        looks: u64,
    }

    impl Trial {
        fn new() -> Trial {
            let past = Past::new(Moment::from_nanos(0), Bake::default().unanswered);
            Trial { sheet: ColorSheet::default(), unanswered: 0, past, looks: 0 }
        }

        /// For a fifth of a second, and then a look.
        fn passes(&mut self, requests: &[(u16, u64, u64)]) -> Look {
            for (status, millis, number) in requests {
                (0..*number).for_each(|_| {
                    self.sheet.count(*status, Duration::from_millis(*millis), Some(Duration::from_millis(*millis)))
                });
            }
            self.looks += 1;
            let now = Moment::from_nanos(self.looks * 200_000_000);
            self.past
                .look(now, Sample { tally: Tally::of([&self.sheet]), unanswered: self.unanswered, ..Sample::default() })
        }

        fn judged(&mut self, requests: &[(u16, u64, u64)], old: &Look) -> Judgement {
            judge(&self.passes(requests), old, &Bake::default(), Clock::Running)
        }

        /// How many fifths of a second it takes until it is bad, and the judgement then.
        fn bad_after(&mut self, requests: &[(u16, u64, u64)], old: &Look) -> (u64, Judgement) {
            let begun = self.looks;
            loop {
                let judged = self.judged(requests, old);
                if judged.verdict == Verdict::Bad || self.looks > begun + 5 * 600 {
                    return (self.looks - begun, judged);
                }
            }
        }
    }

    fn baseline(requests: &[(u16, u64, u64)]) -> Look {
        let sheet = ColorSheet::default();
        for (status, millis, number) in requests {
            (0..*number).for_each(|_| {
                sheet.count(*status, Duration::from_millis(*millis), Some(Duration::from_millis(*millis)))
            });
        }
        Sample { tally: Tally::of([&sheet]), ..Sample::default() }.into()
    }

    #[test]
    fn after_an_hour_that_was_good_what_turns_bad_is_bad_within_seconds() {
        let old = baseline(&[(200, 20, 5_000)]);
        // So many a fifth of a second; what comes then; fifths of a second that it may take.
        for (each, then, most) in [
            (20, [(200, 20, 0), (500, 20, 20)], 15),
            (2, [(200, 20, 0), (500, 20, 2)], 18),
            (20, [(200, 20, 18), (500, 20, 2)], 30),
            (20, [(200, 20, 0), (200, 60, 20)], 20),
        ] {
            let mut trial = Trial::new();
            for _ in 0..3_600 * 5 {
                let look = trial.passes(&[(200, 20, each)]);
                assert!(look.whole.parts.len() <= MOST_PARTS + 1);
            }
            let (after, judged) = trial.bad_after(&then, &old);
            assert!(after <= most, "{then:?}: after {after} fifths of a second: {judged:?}");
            assert!(judged.reasons[0].contains(" in the last "), "{judged:?}");
        }
    }

    #[test]
    fn one_that_fails_seldom_is_found_by_the_minute() {
        let mut trial = Trial::new();
        (0..3_600).for_each(|_| drop(trial.passes(&[(200, 20, 2)])));
        let mut judged = trial.judged(&[(200, 20, 2)], &Look::default());
        for look in 0..5 * 90 {
            // Four in a hundred, ten requests a second.
            let fails = u64::from(look % 12 == 0);
            judged = trial.judged(&[(200, 20, 2 - fails), (500, 20, fails)], &Look::default());
            if judged.verdict == Verdict::Bad {
                break;
            }
        }
        assert_eq!(judged.verdict, Verdict::Bad);
        assert!(judged.reasons[0].contains(" in the last 60 s"), "{judged:?}");
    }

    #[test]
    fn who_hangs_late_counts_in_the_last_seconds_once_and_not_for_as_long_as_he_hangs() {
        let mut trial = Trial::new();
        (0..600 * 5).for_each(|_| drop(trial.passes(&[(200, 20, 20)])));
        let lately = |look: &Look| look.lately.iter().map(|(_, course)| course.all.unanswered).collect::<Vec<_>>();
        trial.unanswered = 7;
        assert_eq!(lately(&trial.passes(&[])), [7, 7]);
        (0..5 * 12).for_each(|_| drop(trial.passes(&[(200, 20, 20)])));
        assert_eq!(lately(&trial.passes(&[])), [0, 7]);
        // A tenth hangs.
        let mut bad = Verdict::Watching;
        for _ in 0..5 * 4 {
            trial.unanswered += 2;
            bad = trial.judged(&[(200, 20, 18)], &Look::default()).verdict;
        }
        assert_eq!(bad, Verdict::Bad);
    }

    proptest! {
        #[test]
        fn the_parts_are_all_that_was_done_and_so_are_those_of_the_last_seconds(
            steps in prop::collection::vec((0_u64..4, 0_u64..3_000), 1..600),
        ) {
            let (sheet, mut past, mut now) = (ColorSheet::default(), Past::new(Moment::from_nanos(0), SECOND), 0);
            for (requests, millis) in steps {
                (0..requests).for_each(|_| sheet.count(200, SECOND, Some(SECOND)));
                now += millis * 1_000_000;
                let look = past.look(Moment::from_nanos(now), Sample { tally: Tally::of([&sheet]), ..Sample::default() });
                let whole = (None, &look.whole);
                for (window, course) in look.lately.iter().map(|(window, course)| (Some(window), course)).chain([whole]) {
                    let parts: u64 = course.parts.iter().map(|part| part.requests()).sum();
                    prop_assert_eq!(parts, course.all.tally.requests(), "{:?}", window);
                }
                prop_assert!(look.whole.parts.len() <= MOST_PARTS + 1 && past.marks.len() <= 62);
            }
        }
    }

    #[test]
    fn the_seconds_around_a_switch_and_around_its_way_back_are_kept_and_nothing_twice() {
        let text = "[[listener]]\naddress = \"127.0.0.1:80\"\n[service.shop.blue]\nendpoints = [\"127.0.0.1:81\"]\n";
        let config = Config::parse(text, Path::new("shop.toml")).unwrap();
        let recorder = Recorder::new(PerColor::from_fn(|color| Pool::new(&config.services[0], color, &[], 1).0));
        let at = |second: i64| Timestamp::from_second(1_764_000_000 + second).unwrap();
        let pass = |seconds: std::ops::Range<i64>| {
            seconds.for_each(|second| recorder.note(Second { at: at(second), done: PerColor::default() }));
        };
        pass(0..100);
        recorder.keep(at(100));
        pass(100..110);
        // Soon after: the seconds before are those after the switch.
        recorder.keep(at(110));
        pass(110..300);
        recorder.keep(at(300));
        pass(300..400);
        let kept: Vec<i64> =
            recorder.flight().seconds.iter().map(|second| second.at.as_second() - 1_764_000_000).collect();
        let expected: Vec<i64> = (70..=140).chain(270..=330).collect();
        assert_eq!(kept, expected);
        recorder.keep(at(400));
        assert_eq!(recorder.flight().seconds.len(), 30, "the next cutover's record is its own");
    }
}
