//! The judge: is the new color as good as the old one, and as good as the limits ask? Pure, so that it is proved whole.
//!
//! Each measure is a share of requests: those that failed, those that took longer than a limit, those whose clients left.
//! The new color is bad where the one-sided Wilson score bound at 99.9 % says that its true share is above the limit, and
//! at least five requests say so: then so many bad ones by chance, from a color that keeps to the limit, are a matter of
//! one in a thousand. It is looked at again and again, and each look is one more chance to be wrong; the five, and how far
//! the looks depend on each other, keep that small (a test says how small). No limit asks more of the new color than the
//! old one has been sure to do itself: a limit that the old color breaks too is no reason to go back to it.
//!
//! **Slow requests come in heaps.** A bound of that kind counts each request as a trial of its own, and those that one stall
//! has held up are one event. So they are a reason only where they remain one whichever two of the seconds are left out:
//! one stall lies in two at the most. A color that is slow all along is sent back as soon as it has been seen in a few.
//!
//! **What happens late counts as much as what happened early.** Beside all that has been seen since the switch, which after
//! an hour would take minutes to tip, the last 10 s and the last minute are judged by themselves. They are looked at
//! thousands of times in a bake, so the bound there is one in a million, and a true one, by Chernoff and Hoeffding: where
//! few bad requests are to be expected, their number is further from normal than Wilson takes it to be. (Of 2,000 simulated
//! hours with ten requests a second of which one in a hundred fails, as it may, Wilson's bound at 99.999 % sends back 1,127,
//! and this one none.) In these seconds failures are held to the two worst as well. Connections that could not be made are
//! not looked at there: an endpoint that goes away late is a matter of health checks, and whoever suffers from it has
//! failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Bake;
use crate::metrics::{LatencySum, Tally};
use crate::time::Human;

/// What one color did, in some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub tally: Tally,
    /// Requests that have waited for their answer for too long, and still do.
    pub unanswered: u64,
}

/// What one color did in some time, in all and part by part: a second each, or more where that is long.
#[derive(Clone, Debug, Default)]
pub struct Course {
    pub all: Sample,
    pub parts: Vec<Arc<Tally>>,
}

/// What one color did as it is seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Since it is watched.
    pub whole: Course,
    /// In the last seconds, so many of them, where it has been watched for longer than that.
    pub lately: Vec<(Duration, Course)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its time is not over.
    Watching,
    Good,
    Bad,
    /// Its time is over, and nothing can be said.
    Undecided,
}

/// The word on a color, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// What the new color was judged by.
    pub requests: u64,
    /// What the old color was.
    pub baseline: u64,
    pub measures: Vec<Measure>,
    /// What speaks against it, or why nothing can be said.
    pub reasons: Vec<String>,
}

/// One thing that is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub what: String,
    /// How many of the new color's requests were bad in this way, and of how many.
    pub bad: u64,
    pub of: u64,
    /// The share that may be.
    pub limit: f64,
    /// The true share is no less than this.
    pub least: f64,
    /// The same share of the old color's requests.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<f64>,
    /// Where it is of the last seconds alone: of how many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_s: Option<u64>,
}

/// How far the time is over in which the color is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    Running,
    /// It may say that the color is good, or that it needs more.
    Over,
    /// There is no more time.
    Final,
}

/// The word on the new color as it is now.
pub fn judge(new: &Look, old: &Look, rules: &Bake, clock: Clock) -> Judgement {
    let mut measures = measures(&new.whole, &old.whole.all, rules);
    measures.extend(new.lately.iter().flat_map(|(window, course)| lately(*window, course, old, rules)));
    let requests = new.whole.all.requests();
    let bad: Vec<String> = measures.iter().filter(|measure| measure.is_bad()).map(Measure::says).collect();
    let doubtful: Vec<String> = measures.iter().filter(|measure| measure.is_over()).map(Measure::says).collect();
    let few = (requests < rules.min_requests)
        .then(|| format!("{requests} requests so far, and {} are needed to say anything", rules.min_requests));
    let open: Vec<String> = few.into_iter().chain(doubtful).collect();
    let (verdict, reasons) = match clock {
        _ if !bad.is_empty() => (Verdict::Bad, bad),
        Clock::Running => (Verdict::Watching, Vec::new()),
        _ if open.is_empty() => (Verdict::Good, open),
        Clock::Over => (Verdict::Watching, open),
        Clock::Final => (Verdict::Undecided, open),
    };
    Judgement { verdict, requests, baseline: old.whole.all.requests(), measures, reasons }
}

/// One thing that may speak against a color.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Failed,
    /// Met a connection that could not be made, though the request may have gone elsewhere.
    Connection,
    Left,
    Slower(Duration),
}

/// What the new color is held to: each fault with the share that may have it, by the rules and by how fast the old one is.
fn faults(old: &Sample, rules: &Bake) -> Vec<(Fault, f64)> {
    let share = |share: crate::config::Share| f64::from(share.0) / 1e4;
    let limit = share(rules.max_error_share);
    // Clients leave for reasons of their own as well, and how often is known only where there is something to compare with.
    let may_leave = if old.requests() >= LEAST_BASELINE { limit } else { limit.max(MAY_LEAVE) };
    let mut all = vec![(Fault::Failed, limit), (Fault::Connection, limit), (Fault::Left, may_leave)];
    for (limit, share) in [(rules.p50, 0.5), (rules.p99, 0.99)] {
        all.extend(limit.map(|limit| (Fault::slower(limit), 1.0 - share)));
    }
    if old.tally.answers.count() >= LEAST_BASELINE {
        for share_kept in [0.5, 0.99] {
            all.extend(old.tally.answers.quantile(share_kept).map(|kept| {
                let allowed = kept.mul_f64(1.0 + share(rules.max_slowdown)).max(kept + NOTICEABLE);
                (Fault::slower(allowed), 1.0 - share_kept)
            }));
        }
    }
    all
}

fn measures(new: &Course, old: &Sample, rules: &Bake) -> Vec<Measure> {
    let measure = |(fault, limit): (Fault, f64)| {
        let measure = Measure::new(fault.to_string(), fault.among(&new.all), fault.among(old), limit);
        match fault {
            Fault::Slower(_) if measure.is_bad() => {
                let (bad, of) = steady(fault, new, measure.limit);
                Measure { least: least(bad, of, |bad, of| wilson(bad, of).0), ..measure }
            }
            _ => measure,
        }
    };
    faults(old, rules).into_iter().map(measure).collect()
}

/// What speaks against it in the last seconds, as far as that is more than chance makes of one look.
fn lately(window: Duration, new: &Course, old: &Look, rules: &Bake) -> Vec<Measure> {
    let beside = old.lately.iter().find(|(same, _)| *same == window).map(|(_, course)| &course.all);
    let measure = |(fault, limit): (Fault, f64)| {
        // Where both serve at the same time, what befalls both is no fault of either.
        let limit = beside.map_or(limit, |old| limit.max(kept_to(fault.among(old))));
        let measure = Measure::new(fault.to_string(), fault.among(&new.all), fault.among(&old.whole.all), limit);
        measure.is_bad().then(|| {
            let (bad, of) = steady(fault, new, measure.limit);
            Measure { least: least(bad, of, chernoff), last_s: Some(window.as_secs()), ..measure }
        })
    };
    let is_looked_at = |(fault, _): &(Fault, f64)| *fault != Fault::Connection;
    faults(&old.whole.all, rules).into_iter().filter(is_looked_at).filter_map(measure).collect()
}

/// How many have the fault, and of how many, without the two parts that speak against the color most.
fn steady(fault: Fault, course: &Course, limit: f64) -> (u64, u64) {
    let excess = |(bad, of): (u64, u64)| bad as f64 - limit * of as f64;
    let mut parts: Vec<_> = course.parts.iter().map(|part| fault.counted(part, 0)).collect();
    parts.sort_by(|one, other| excess(*other).total_cmp(&excess(*one)));
    let left_out = parts.into_iter().take(LEFT_OUT).filter(|part| excess(*part) > 0.0);
    left_out.fold(fault.among(&course.all), |(bad, of), part| (bad.saturating_sub(part.0), of.saturating_sub(part.1)))
}

impl Fault {
    /// Slower than this, rounded up to a step that latencies are counted by.
    fn slower(than: Duration) -> Fault {
        Fault::Slower(LatencySum::default().longer_than(than).1)
    }

    fn among(self, sample: &Sample) -> (u64, u64) {
        self.counted(&sample.tally, sample.unanswered)
    }

    /// How many have it, and of how many. Those that wait have failed, and have taken that long too.
    fn counted(self, tally: &Tally, unanswered: u64) -> (u64, u64) {
        let of = tally.requests() + unanswered;
        match self {
            Fault::Failed => (tally.errors() + unanswered, of),
            // Most requests need no new connection; each failed one stands for a request that did.
            Fault::Connection => (tally.connect_failures, of.max(tally.connect_failures)),
            // Who hangs up counts for nobody as failed or slow, and a color that never answers would look well.
            Fault::Left => (tally.left, of),
            Fault::Slower(than) => (tally.answers.longer_than(than).0 + unanswered, of),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Failed => f.write_str("failed"),
            Fault::Connection => f.write_str("met a failed connection"),
            Fault::Left => f.write_str("were left by their clients without an answer"),
            Fault::Slower(than) => write!(f, "took longer than {}", Human(*than)),
        }
    }
}

impl From<Sample> for Look {
    fn from(all: Sample) -> Look {
        Look { whole: Course { all, parts: Vec::new() }, lately: Vec::new() }
    }
}

impl Sample {
    /// Those that have ended and those that should have.
    pub fn requests(&self) -> u64 {
        self.tally.requests() + self.unanswered
    }
}

impl Measure {
    fn new(what: String, (bad, of): (u64, u64), old: (u64, u64), limit: f64) -> Measure {
        let least = least(bad, of, |bad, of| wilson(bad, of).0);
        let old_share = (old.1 > 0).then(|| old.0 as f64 / old.1 as f64);
        Measure { what, bad, of, limit: limit.max(kept_to(old)), least, old: old_share, last_s: None }
    }

    /// It is sure that the share is too large.
    fn is_bad(&self) -> bool {
        self.least > self.limit
    }

    /// It looks too large.
    fn is_over(&self) -> bool {
        self.bad as f64 > self.limit * self.of as f64
    }

    fn says(&self) -> String {
        let Measure { what, bad, of, limit, old, .. } = self;
        let share = if *of == 0 { 0.0 } else { *bad as f64 / *of as f64 };
        let old =
            old.map_or("no requests to compare with".to_owned(), |old| format!("before the switch {}", percent(old)));
        let when = self.when();
        format!("{bad} of {of} requests {what}{when}: {}, at most {} may; {old}", percent(share), percent(*limit))
    }

    /// In which seconds, where it is not in all of them.
    pub fn when(&self) -> String {
        self.last_s.map_or(String::new(), |seconds| format!(" in the last {seconds} s"))
    }
}

/// What the old color did itself may be asked of nobody. With little known of it, nothing is known for sure.
fn kept_to((bad, of): (u64, u64)) -> f64 {
    if of >= LEAST_BASELINE { wilson(bad, of).1 } else { 0.0 }
}

/// The true share is no less than this; of too few bad ones nothing is said.
fn least(bad: u64, of: u64, bound: impl Fn(u64, u64) -> f64) -> f64 {
    if bad < LEAST_BAD { 0.0 } else { bound(bad, of) }
}

/// The true share is no less than this, but for one case in a million.
fn chernoff(bad: u64, of: u64) -> f64 {
    let (mut below, mut above) = (0.0, bad as f64 / of.max(1) as f64);
    for _ in 0..50 {
        let middle = (below + above) / 2.0;
        *(if is_one_in_a_million(bad, of, middle) { &mut below } else { &mut above }) = middle;
    }
    below
}

/// Whether so many or more come by chance once in a million times at the most, where the true share is this smaller one
/// (Chernoff 1952, Hoeffding 1963): right for any number of requests and any share.
fn is_one_in_a_million(bad: u64, of: u64, share: f64) -> bool {
    of as f64 * divergence(bad as f64 / of as f64, share) > IN_A_MILLION
}

/// How far what was seen is from what is true (Kullback and Leibler), both shares.
fn divergence(seen: f64, real: f64) -> f64 {
    let part = |seen: f64, real: f64| if seen > 0.0 { seen * (seen / real).ln() } else { 0.0 };
    part(seen, real) + part(1.0 - seen, 1.0 - real)
}

/// Between what and what the true share is, 99.9 % sure on each side (Wilson 1927): right also for few and for none.
pub fn wilson(bad: u64, of: u64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (of as f64, bad as f64 / of as f64);
    let square = Z * Z / n;
    let middle = (share + square / 2.0) / (1.0 + square);
    let reach = Z * ((share * (1.0 - share) + square / 4.0) / n).sqrt() / (1.0 + square);
    ((middle - reach).max(0.0), (middle + reach).min(1.0))
}

fn percent(share: f64) -> String {
    let hundredths = (share * 1e4).round() / 100.0;
    format!("{hundredths} %")
}

/// The quantile of the normal distribution that 99.9 % lie below.
const Z: f64 = 3.0902;
/// The natural logarithm of a million.
const IN_A_MILLION: f64 = 13.815_511;
/// Parts of a course that one stall may lie in.
const LEFT_OUT: usize = 2;
/// With fewer bad requests than these nobody goes back.
const LEAST_BAD: u64 = 5;
/// So many of the old color's requests are needed to compare with.
const LEAST_BASELINE: u64 = 100;
/// The share of clients that may leave where nobody knows how many do.
const MAY_LEAVE: f64 = 0.1;
/// However fast the old color is, so much more is no reason to go back.
const NOTICEABLE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Share;
    use crate::metrics::ColorSheet;

    /// So many requests in each of these ways: status, milliseconds, number.
    fn sample(requests: &[(u16, u64, u64)]) -> Sample {
        let sheet = ColorSheet::default();
        for (status, millis, number) in requests {
            (0..*number).for_each(|_| {
                sheet.count(*status, Duration::from_millis(*millis), Some(Duration::from_millis(*millis)))
            });
        }
        Sample { tally: Tally::of([&sheet]), unanswered: 0 }
    }

    fn rules() -> Bake {
        Bake { min_requests: 500, ..Bake::default() }
    }

    fn verdict(new: &[(u16, u64, u64)], old: &[(u16, u64, u64)], clock: Clock) -> Verdict {
        judge(&sample(new).into(), &sample(old).into(), &rules(), clock).verdict
    }

    /// What was done in each of these seconds.
    fn course(seconds: &[&[(u16, u64, u64)]]) -> Course {
        let parts: Vec<_> = seconds.iter().map(|second| Arc::new(sample(second).tally)).collect();
        let tally = parts.iter().fold(Tally::default(), |sum, part| sum.and(part));
        Course { all: Sample { tally, unanswered: 0 }, parts }
    }

    #[test]
    fn one_that_fails_5_percent_or_is_three_times_slower_is_bad_and_one_that_is_the_same_is_good() {
        use Verdict::*;
        let old = &[(200, 20, 5_000)][..];
        for (new, running, over) in [
            (&[(200, 20, 5_000)][..], Watching, Good),
            (&[(200, 20, 950), (500, 20, 50)], Bad, Bad),
            (&[(200, 60, 1_000)], Bad, Bad),
            (&[(200, 20, 900), (200, 400, 100)], Bad, Bad),
            (&[(200, 30, 1_000)], Watching, Good),
            (&[(200, 20, 996), (500, 20, 4)], Watching, Good),
            // More than may be, and not surely so.
            (&[(200, 20, 985), (500, 20, 15)], Watching, Undecided),
            // Too few to say anything, except where all of them speak against it.
            (&[(200, 20, 499)], Watching, Undecided),
            (&[(500, 20, 4)], Watching, Undecided),
            (&[(500, 20, 5)], Bad, Bad),
            (&[], Watching, Undecided),
        ] {
            assert_eq!(verdict(new, old, Clock::Running), running, "{new:?}");
            assert_eq!(verdict(new, old, Clock::Final), over, "{new:?}");
            let waits = if over == Undecided { Watching } else { over };
            assert_eq!(verdict(new, old, Clock::Over), waits, "{new:?}: what is not decided gets more time");
        }
    }

    #[test]
    fn what_the_old_color_does_too_is_not_held_against_the_new_one() {
        let failing = &[(200, 20, 950), (500, 20, 50)][..];
        assert_eq!(verdict(failing, failing, Clock::Final), Verdict::Good);
        let fast_and_faster = (&[(200, 4, 1_000)][..], &[(200, 1, 1_000)][..]);
        assert_eq!(verdict(fast_and_faster.0, fast_and_faster.1, Clock::Final), Verdict::Good, "nobody notices 3 ms");
    }

    #[test]
    fn a_broken_old_color_that_fails_fast_makes_no_good_one_slow() {
        let new = &[(200, 20, 1_000)][..];
        assert_eq!(verdict(new, &[(500, 1, 1_000)], Clock::Final), Verdict::Good);
        assert_eq!(verdict(new, &[(500, 1, 700), (200, 20, 300)], Clock::Final), Verdict::Good);
        assert_eq!(verdict(&[(200, 60, 1_000)], &[(500, 1, 700), (200, 20, 300)], Clock::Final), Verdict::Bad);
    }

    #[test]
    fn one_that_hangs_is_bad_though_nothing_has_ended() {
        let hanging = Sample { unanswered: 40, ..sample(&[]) };
        let judged = judge(&hanging.into(), &sample(&[(200, 20, 5_000)]).into(), &rules(), Clock::Running);
        assert_eq!(judged.verdict, Verdict::Bad);
        assert!(judged.reasons[0].contains("40 of 40 requests failed: 100 %, at most 1 % may"), "{judged:?}");
    }

    #[test]
    fn fixed_limits_hold_without_a_baseline() {
        let rules = Bake { p99: Some(Duration::from_millis(500)), ..rules() };
        let judge = |new: &[(u16, u64, u64)]| judge(&sample(new).into(), &Look::default(), &rules, Clock::Final);
        assert_eq!(judge(&[(200, 490, 1_000)]).verdict, Verdict::Good);
        let slow = judge(&[(200, 20, 900), (200, 700, 100)]);
        assert_eq!(slow.verdict, Verdict::Bad);
        assert!(slow.reasons[0].contains("100 of 1000 requests took longer than 500 ms: 10 %"), "{slow:?}");
    }

    #[test]
    fn failed_connections_count_though_the_requests_went_elsewhere() {
        let mut new = sample(&[(200, 20, 1_000)]);
        new.tally.connect_failures = 200;
        let judged = judge(&new.into(), &sample(&[(200, 20, 1_000)]).into(), &rules(), Clock::Running);
        assert!(judged.verdict == Verdict::Bad && judged.reasons[0].contains("met a failed connection"), "{judged:?}");
    }

    #[test]
    fn one_that_keeps_clients_waiting_until_they_leave_is_bad_though_nothing_has_failed() {
        let left = |left, of, old: &[(u16, u64, u64)]| {
            let mut new = sample(&[(499, 20, left), (200, 20, of - left)]);
            new.tally.left = left;
            judge(&new.into(), &sample(old).into(), &rules(), Clock::Final)
        };
        let judged = left(8, 8, &[]);
        assert_eq!(judged.verdict, Verdict::Bad);
        assert!(judged.reasons[0].starts_with("8 of 8 requests were left by their clients without an answer: 100 %"));
        assert_eq!(left(30, 1_000, &[]).verdict, Verdict::Good, "some leave for reasons of their own");
        assert_eq!(left(30, 1_000, &[(200, 20, 5_000)]).verdict, Verdict::Bad, "from the old color nobody did");
    }

    #[test]
    fn an_answer_that_broke_off_has_failed_whatever_it_began_with() {
        let mut new = sample(&[(200, 20, 1_000)]);
        new.tally.cut = 50;
        let judged = judge(&new.into(), &Look::default(), &rules(), Clock::Running);
        assert!(
            judged.verdict == Verdict::Bad && judged.reasons[0].contains("50 of 1000 requests failed"),
            "{judged:?}"
        );
    }

    #[test]
    fn looked_at_every_twenty_requests_a_good_color_is_hardly_ever_sent_back_and_a_bad_one_soon() {
        let mut random = fastrand::Rng::with_seed(7);
        // The share of trials that end with the way back, and after how many requests.
        let mut trials = |share: f64, limit: u64| {
            let (mut back, mut after) = (0, 0);
            for _ in 0..400 {
                let mut bad = 0;
                for n in 1..=limit {
                    bad += u64::from(random.f64() < share);
                    let measure = Measure::new(String::new(), (bad, n), (0, 0), 0.01);
                    if n % 20 == 0 && measure.is_bad() {
                        (back, after) = (back + 1, after + n);
                        break;
                    }
                }
            }
            (f64::from(back) / 400.0, after / back.max(1) as u64)
        };
        assert!(trials(0.005, 5_000).0 <= 0.01, "half of what may be");
        assert!(trials(0.01, 5_000).0 <= 0.06, "just what may be, the most there can be by mistake");
        let (back, after) = trials(0.05, 5_000);
        assert!(back > 0.999 && after < 500, "{back} after {after}");
    }

    #[test]
    fn one_stall_sends_nobody_back_whatever_it_has_held_up_and_to_be_slow_all_along_does_after_some_seconds() {
        let old = Look::from(sample(&[(200, 20, 5_000)]));
        let judge = |seconds: &[&[_]]| {
            let whole = course(seconds);
            judge(&Look { whole, lately: Vec::new() }, &old, &rules(), Clock::Running).verdict
        };
        let (good, slow) = (&[(200, 20, 100)][..], &[(200, 60, 100)][..]);
        let (stall, rest) = (&[(200, 20, 33), (200, 900, 68)][..], &[(200, 20, 60), (200, 900, 40)][..]);
        let stalled: Vec<_> = [stall, rest].into_iter().chain([good; 60]).collect();
        (1..=62).for_each(|seconds| assert_eq!(judge(&stalled[..seconds]), Verdict::Watching, "after {seconds} s"));
        let late: Vec<_> = [good; 60].into_iter().chain([stall, rest, good, good]).collect();
        (60..=64).for_each(|seconds| assert_eq!(judge(&late[..seconds]), Verdict::Watching, "after {seconds} s"));
        let often: Vec<_> = late.iter().copied().chain([stall; 4]).collect();
        assert_eq!(judge(&often), Verdict::Bad, "one stall after the other is more than one");
        assert_eq!(
            [1, 2, 3].map(|seconds| judge(&[slow; 3][..seconds])),
            [Verdict::Watching, Verdict::Watching, Verdict::Bad]
        );
        assert_eq!(judge(&[&[(500, 20, 20)]]), Verdict::Bad, "what fails needs no time");
    }

    #[test]
    fn what_stays_over_a_limit_without_its_two_worst_seconds_is_not_called_good() {
        let seconds: Vec<&[_]> =
            [&[(200, 900, 50)][..], &[(200, 900, 50)]].into_iter().chain([&[(200, 20, 100)][..]; 5]).collect();
        let look = Look { whole: course(&seconds), lately: Vec::new() };
        let judged = judge(&look, &sample(&[(200, 20, 5_000)]).into(), &rules(), Clock::Final);
        assert_eq!(judged.verdict, Verdict::Undecided, "a sixth was slow, once: {judged:?}");
    }

    #[test]
    fn what_fails_lately_is_bad_however_much_was_good_before_and_is_told_with_its_seconds() {
        let whole = sample(&[(200, 20, 1_000_000), (500, 20, 400)]);
        let lately = |seconds: &[&[_]]| {
            let lately = vec![(Duration::from_secs(10), course(seconds))];
            let look = Look { lately, ..Look::from(whole.clone()) };
            judge(&look, &Look::default(), &rules(), Clock::Over)
        };
        let (good, bad) = (&[(200, 20, 100)][..], &[(500, 20, 100)][..]);
        assert_eq!(lately(&[good; 10]).verdict, Verdict::Good);
        let blip = lately(&[good, good, good, good, bad, bad, good, good, good, good]);
        assert_eq!(blip.verdict, Verdict::Watching, "two seconds may be one event, and are not called good either");
        let judged = lately(&[good, good, good, good, good, good, bad, bad, bad, bad]);
        assert_eq!(judged.verdict, Verdict::Bad);
        assert_eq!(
            judged.reasons,
            ["400 of 1000 requests failed in the last 10 s: 40 %, at most 1 % may; no requests to compare with"]
        );
        assert_eq!(judged.measures.last().and_then(|measure| measure.last_s), Some(10));
    }

    #[test]
    fn what_befalls_both_colors_at_once_is_held_against_neither() {
        let (good, bad) = (&[(200, 20, 100)][..], &[(200, 20, 50), (500, 20, 50)][..]);
        let look = |last: &[(u16, u64, u64)]| {
            let lately =
                vec![(Duration::from_secs(10), course(&[good, good, good, good, good, last, last, last, last]))];
            Look { lately, ..Look::from(sample(&[(200, 20, 1_000_000)])) }
        };
        let judge = |old: &Look| judge(&look(bad), old, &rules(), Clock::Running).verdict;
        assert_eq!((judge(&look(good)), judge(&look(bad))), (Verdict::Bad, Verdict::Watching));
    }

    /// How many of so many hours, each at so many requests a second, have a look at the last `seconds` that says the color
    /// is bad, though it fails no more than it may. No second is left out, which would make it fewer.
    fn hours_sent_back(hours: u32, rate: usize, seconds: usize, limit: f64) -> u32 {
        let mut random = fastrand::Rng::with_seed(11);
        let (looks, each) = (3_600 * 5, rate as f64 / 5.0);
        let mut sent_back = |_: &u32| {
            let mut bad = vec![0_u64; looks];
            // From one bad request to the next.
            let mut at = 0.0;
            loop {
                at += (random.f64().ln() / (1.0 - limit).ln()).floor() + 1.0;
                let Some(look) = bad.get_mut((at / each) as usize) else { break };
                *look += 1;
            }
            let width = seconds * 5;
            let mut sum: u64 = bad[..width].iter().sum();
            let of = (each * width as f64) as u64;
            (width..looks).any(|look| {
                sum = sum + bad[look] - bad[look - width];
                sum >= LEAST_BAD && sum as f64 > limit * of as f64 && is_one_in_a_million(sum, of, limit)
            })
        };
        (0..hours).filter(&mut sent_back).count() as u32
    }

    #[test]
    fn looked_at_for_an_hour_one_that_fails_just_what_it_may_is_hardly_ever_sent_back_for_its_last_seconds() {
        for (rate, seconds, limit) in
            [(10, 10, 0.01), (10, 60, 0.01), (100, 10, 0.01), (100, 60, 0.01), (200, 10, 0.001), (20, 10, 0.1)]
        {
            let back = hours_sent_back(200, rate, seconds, limit);
            assert!(back <= 1, "{back} of 200 hours at {rate} a second, by {seconds} s");
        }
    }

    proptest! {
        #[test]
        fn so_many_as_the_bound_needs_are_one_in_a_million(of in 5_u64..2_000, limit in 1_u16..5_000) {
            let limit = f64::from(limit) / 1e4;
            let fewest = (LEAST_BAD..=of).find(|bad| least(*bad, of, chernoff) > limit);
            // The true chance of so many or more, term by term.
            let chance = |from: u64| {
                let mut ln = (0..of).map(|_| (1.0 - limit).ln()).sum::<f64>();
                let mut sum = 0.0;
                for bad in 0..=of {
                    sum += if bad >= from { ln.exp() } else { 0.0 };
                    ln += ((of - bad) as f64 / (bad + 1) as f64).ln() + (limit / (1.0 - limit)).ln();
                }
                sum
            };
            if let Some(fewest) = fewest {
                prop_assert!(chance(fewest) <= 1e-6, "{fewest} of {of}: {}", chance(fewest));
                prop_assert!(least(fewest, of, chernoff) <= fewest as f64 / of as f64);
            }
        }

        #[test]
        fn the_bounds_hold_the_share_and_close_in_as_more_is_known(bad in 0_u64..1000, more in 0_u64..1000) {
            let of = bad + more;
            prop_assume!(of > 0);
            let (least, most) = wilson(bad, of);
            let share = bad as f64 / of as f64;
            prop_assert!(0.0 <= least && least <= share + 1e-12 && share <= most + 1e-12 && most <= 1.0);
            let (nearer, near) = wilson(bad * 10, of * 10);
            prop_assert!(nearer >= least - 1e-12 && near <= most + 1e-12);
        }

        #[test]
        fn more_bad_requests_never_make_it_look_better(bad in 0_u64..400, of in 400_u64..2000, share in 1_u16..10_000) {
            let limit = f64::from(share) / 1e4;
            let now = Measure::new(String::new(), (bad, of), (0, 0), limit);
            let worse = Measure::new(String::new(), (bad + 1, of), (0, 0), limit);
            prop_assert!(worse.least >= now.least);
            prop_assert!(!now.is_bad() || worse.is_bad());
            prop_assert!(!now.is_bad() || now.is_over(), "what is surely too much looks too much");
        }
    }

    #[test]
    fn shares_are_read_as_percent() {
        assert_eq!((percent(0.0512), percent(1.0)), ("5.12 %".to_owned(), "100 %".to_owned()));
        assert_eq!(Share(100).to_string(), "1%");
    }
}
