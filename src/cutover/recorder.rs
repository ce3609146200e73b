//! The recorder of a service: what both colors did in each of the last seconds. It is read by the judge and kept with a cutover.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use super::judge::Sample;
use crate::metrics::Tally;
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
    /// Requests that began.
    begun: u64,
    /// Requests inside, at its end.
    inside: u64,
    /// Those of clients that had no answer then.
    waiting: u64,
}

/// Counters as they stand at one moment.
#[derive(Clone, Default)]
pub struct Reading {
    tally: Tally,
    begun: u64,
    inside: u64,
    waiting: u64,
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
        let waiting = u64::try_from(pool.sheets.iter().map(|sheet| sheet.waiting.get()).sum::<i64>()).unwrap_or(0);
        Reading { tally, begun: turnstile.entries().count, inside: turnstile.inside().requests, waiting }
    }

    /// What the color did in the last minute, as far as that has been seen. Requests that have waited for longer than
    /// `patience`, which is told in whole seconds, have not been answered.
    pub fn minute(&self, color: Color, patience: Duration) -> Sample {
        let seconds = self.seconds();
        let mut tally = Tally::default();
        seconds
            .iter()
            .filter_map(|second| second.done[color].as_deref())
            .for_each(|done| tally = tally.and(&done.tally));
        let last = seconds.back().and_then(|second| second.done[color].as_deref());
        let recent = seconds.iter().rev().take(usize::try_from(patience.as_secs()).unwrap_or(usize::MAX).max(1));
        let begun: u64 = recent.filter_map(|second| second.done[color].as_deref()).map(|done| done.begun).sum();
        let unanswered = last.map_or(0, |last| last.waiting.saturating_sub(begun));
        Sample { tally, unanswered }
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
        (!is_idle).then(|| Box::new(Done { tally, begun, inside: self.inside, waiting: self.waiting }))
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

/// A color that is watched from some moment on: what it has done since, and who has waited for too long.
pub struct Watch {
    recorder: Arc<Recorder>,
    color: Color,
    patience: Duration,
    start: Reading,
    /// How many had begun by then, the oldest first; the first is as old as the patience, or the start.
    begun: VecDeque<(Moment, u64)>,
}

impl Watch {
    pub fn begin(recorder: &Arc<Recorder>, color: Color, patience: Duration) -> Watch {
        let start = recorder.read(color);
        let begun = VecDeque::from([(Moment::now(), start.begun)]);
        Watch { recorder: recorder.clone(), color, patience, start, begun }
    }

    /// What it has done so far. To be asked often: how long somebody waits is known as exactly as that.
    pub fn look(&mut self) -> Sample {
        let (now, reading) = (Moment::now(), self.recorder.read(self.color));
        self.begun.push_back((now, reading.begun));
        let is_old = |at: &(Moment, u64)| now.since(at.0) >= self.patience;
        while self.begun.get(1).is_some_and(is_old) {
            self.begun.pop_front();
        }
        let old = self.begun.front().filter(|at| is_old(at)).map_or(self.start.begun, |(_, begun)| *begun);
        // Whoever waited at the start is no matter of this watch. Of the others that began so long ago, some may have
        // ended in the place of younger ones, so this is the least that wait.
        let young = reading.begun.saturating_sub(old);
        let unanswered = reading.waiting.saturating_sub(young).saturating_sub(self.start.waiting);
        Sample { tally: reading.tally_since(&self.start), unanswered }
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// The seconds before and after a switch that are kept of it.
const AROUND: Duration = Duration::from_secs(30);
/// Seconds that are remembered.
const REMEMBERED: usize = 60;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

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
