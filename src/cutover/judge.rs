//! The judge: is the new color as good as the old one, and as good as the limits ask? Pure, so that it is proved whole.
//!
//! Each measure is a share of requests: those that failed, those that took longer than a limit, those whose clients left. The new color is bad
//! where the one-sided Wilson score bound at 99.9 % says that its true share is above the limit, and at least five
//! requests say so: then so many bad ones by chance, from a color that keeps to the limit, are a matter of one in a
//! thousand. It is looked at again and again, and each look is one more chance to be wrong; the five, and how far the
//! looks depend on each other, keep that small (a test says how small). No limit asks more of the new color than the old
//! one has been sure to do itself: a limit that the old color breaks too is no reason to go back to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Bake;
use crate::metrics::Tally;
use crate::time::Human;

/// What one color did, in some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub tally: Tally,
    /// Requests that have waited for their answer for too long, and still do.
    pub unanswered: u64,
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
pub fn judge(new: &Sample, old: &Sample, rules: &Bake, clock: Clock) -> Judgement {
    let measures = measures(new, old, rules);
    let requests = new.requests();
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
    Judgement { verdict, requests, baseline: old.requests(), measures, reasons }
}

fn measures(new: &Sample, old: &Sample, rules: &Bake) -> Vec<Measure> {
    let errors = |sample: &Sample| sample.tally.errors() + sample.unanswered;
    let share = |share: crate::config::Share| f64::from(share.0) / 1e4;
    let limit = share(rules.max_error_share);
    let mut all = vec![
        Measure::new("failed".to_owned(), (errors(new), new.requests()), (errors(old), old.requests()), limit),
        Measure::new("met a failed connection".to_owned(), new.connects(), old.connects(), limit),
        left(new, old, limit),
    ];
    for (limit, share) in [(rules.p50, 0.5), (rules.p99, 0.99)] {
        all.extend(limit.map(|limit| slower(new, old, limit, 1.0 - share)));
    }
    if old.tally.requests() >= LEAST_BASELINE {
        for share_kept in [0.5, 0.99] {
            all.extend(old.tally.latency.quantile(share_kept).map(|kept| {
                let allowed = kept.mul_f64(1.0 + share(rules.max_slowdown)).max(kept + NOTICEABLE);
                slower(new, old, allowed, 1.0 - share_kept)
            }));
        }
    }
    all
}

/// Those whose clients left before there was an answer: who hangs up counts for nobody as failed or slow, and a color that
/// never answers would look well. Clients leave for reasons of their own as well, and how often is known only where there
/// is something to compare with.
fn left(new: &Sample, old: &Sample, limit: f64) -> Measure {
    let limit = if old.requests() >= LEAST_BASELINE { limit } else { limit.max(MAY_LEAVE) };
    let count = |sample: &Sample| (sample.tally.left, sample.requests());
    Measure::new("were left by their clients without an answer".to_owned(), count(new), count(old), limit)
}

/// Those that took longer than `than`, of which there may be `limit`. One that waits still has taken that long too.
fn slower(new: &Sample, old: &Sample, than: Duration, limit: f64) -> Measure {
    let (_, than) = new.tally.latency.longer_than(than);
    let count = |sample: &Sample| (sample.tally.latency.longer_than(than).0 + sample.unanswered, sample.requests());
    Measure::new(format!("took longer than {}", Human(than)), count(new), count(old), limit)
}

impl Sample {
    /// Those that have ended and those that should have.
    pub fn requests(&self) -> u64 {
        self.tally.requests() + self.unanswered
    }

    fn connects(&self) -> (u64, u64) {
        // Most requests need no new connection; each failed one stands for a request that did.
        (self.tally.connect_failures, self.requests().max(self.tally.connect_failures))
    }
}

impl Measure {
    fn new(what: String, (bad, of): (u64, u64), (old_bad, old_of): (u64, u64), limit: f64) -> Measure {
        let old = (old_of > 0).then(|| old_bad as f64 / old_of as f64);
        // What the old color did itself may be asked of nobody. With little known of it, nothing is known for sure.
        let limit = if old_of >= LEAST_BASELINE { limit.max(wilson(old_bad, old_of).1) } else { limit };
        Measure { what, bad, of, limit, least: wilson(bad, of).0, old }
    }

    /// It is sure that the share is too large.
    fn is_bad(&self) -> bool {
        self.bad >= LEAST_BAD && self.least > self.limit
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
        format!("{bad} of {of} requests {what}: {}, at most {} may; {old}", percent(share), percent(*limit))
    }
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
            (0..*number).for_each(|_| sheet.count(*status, Duration::from_millis(*millis)));
        }
        Sample { tally: Tally::of([&sheet]), unanswered: 0 }
    }

    fn rules() -> Bake {
        Bake { min_requests: 500, ..Bake::default() }
    }

    fn verdict(new: &[(u16, u64, u64)], old: &[(u16, u64, u64)], clock: Clock) -> Verdict {
        judge(&sample(new), &sample(old), &rules(), clock).verdict
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
    fn one_that_hangs_is_bad_though_nothing_has_ended() {
        let hanging = Sample { unanswered: 40, ..sample(&[]) };
        let judged = judge(&hanging, &sample(&[(200, 20, 5_000)]), &rules(), Clock::Running);
        assert_eq!(judged.verdict, Verdict::Bad);
        assert!(judged.reasons[0].contains("40 of 40 requests failed: 100 %, at most 1 % may"), "{judged:?}");
    }

    #[test]
    fn fixed_limits_hold_without_a_baseline() {
        let rules = Bake { p99: Some(Duration::from_millis(500)), ..rules() };
        let judge = |new: &[(u16, u64, u64)]| judge(&sample(new), &sample(&[]), &rules, Clock::Final);
        assert_eq!(judge(&[(200, 490, 1_000)]).verdict, Verdict::Good);
        let slow = judge(&[(200, 20, 900), (200, 700, 100)]);
        assert_eq!(slow.verdict, Verdict::Bad);
        assert!(slow.reasons[0].contains("100 of 1000 requests took longer than 500 ms: 10 %"), "{slow:?}");
    }

    #[test]
    fn failed_connections_count_though_the_requests_went_elsewhere() {
        let mut new = sample(&[(200, 20, 1_000)]);
        new.tally.connect_failures = 200;
        let judged = judge(&new, &sample(&[(200, 20, 1_000)]), &rules(), Clock::Running);
        assert!(judged.verdict == Verdict::Bad && judged.reasons[0].contains("met a failed connection"), "{judged:?}");
    }

    #[test]
    fn one_that_keeps_clients_waiting_until_they_leave_is_bad_though_nothing_has_failed() {
        let left = |left, of, old: &[(u16, u64, u64)]| {
            let mut new = sample(&[(499, 20, left), (200, 20, of - left)]);
            new.tally.left = left;
            judge(&new, &sample(old), &rules(), Clock::Final)
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
        let judged = judge(&new, &sample(&[]), &rules(), Clock::Running);
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

    proptest! {
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
