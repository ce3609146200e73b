//! The judge: is the new color as good as the old one, and as good as the limits ask? Pure, so that it is proved whole.
//!
//! Each measure is a share of requests: those that failed, those that took longer than a limit, those whose clients left.
//! The new color is bad where it is sure that its share is above the limit, and sure that it is above the old color's: a
//! limit that the old color breaks too is no reason to go back to it. At least five requests have to say so.
//!
//! **Sure is 99.9 %, for all looks together.** It is looked at again and again, and each look is one more chance to be
//! wrong. So the limit is held by a bound that is right at all times at once (Ville 1939, with the estimator of Krichevsky
//! and Trofimov 1981): of a thousand colors that keep just to the limit, one at the most is ever sent back for it, however
//! long it is watched. Against the old color it is the likelihood ratio of two shares and one, at one in a thousand as well;
//! where little of an old color that keeps to the limit has been seen, that takes longer, and in the end it is undecided.
//!
//! **Who has not ended is among them.** Failures are quick to end, and what takes its time would be left out if only those
//! that have ended were counted: so failures are held against all requests that have begun.
//!
//! **Slow requests come in heaps.** A bound of that kind counts each request as a trial of its own, and those that one stall
//! has held up are one event. So they are a reason only where they remain one whichever two of the seconds are left out:
//! one stall lies in two at the most. A color that is slow all along is sent back as soon as it has been seen in a few.
//!
//! **What happens late counts as much as what happened early.** Beside all that has been seen since the switch, which after
//! an hour would take minutes to tip, the last 10 s and the last minute are judged by themselves. They are looked at
//! thousands of times in a bake, each time anew, so that both bounds there are one in a million (Chernoff 1952, Hoeffding
//! 1963). In these seconds failures are held to the two worst as well. Connections that could not be made are not looked at
//! there: an endpoint that goes away late is a matter of health checks, and whoever suffers from it has failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Bake;
use crate::metrics::{LatencySum, Tally, Waiters};
use crate::time::Human;

/// What one color did, in some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub tally: Tally,
    /// Requests that have waited for their answer for too long, and still do.
    pub unanswered: u64,
    /// Requests that have not ended, those among them.
    #[serde(default)]
    pub open: u64,
    /// Who has no answer yet, and since when.
    #[serde(skip)]
    pub waiting: Waiters,
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
    #[serde(default)]
    pub word: Word,
    /// The same share of the old color's requests.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<f64>,
    /// Where it is of the last seconds alone: of how many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_s: Option<u64>,
}

/// What one measure says of the color, from the best to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    #[default]
    Good,
    /// It looks bad, and is not surely so.
    Doubtful,
    Bad,
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
    let who_say = |word| measures.iter().filter(move |measure| measure.word == word).map(Measure::says);
    let bad: Vec<String> = who_say(Word::Bad).collect();
    let few = (requests < rules.min_requests)
        .then(|| format!("{requests} requests so far, and {} are needed to say anything", rules.min_requests));
    let late = late(&new.whole.all, &old.whole.all, rules);
    let open: Vec<String> = few.into_iter().chain(late).chain(who_say(Word::Doubtful)).collect();
    let (verdict, reasons) = match clock {
        _ if !bad.is_empty() => (Verdict::Bad, bad),
        Clock::Running => (Verdict::Watching, Vec::new()),
        _ if open.is_empty() => (Verdict::Good, open),
        Clock::Over => (Verdict::Watching, open),
        Clock::Final => (Verdict::Undecided, open),
    };
    Judgement { verdict, requests, baseline: old.whole.all.requests(), measures, reasons }
}

/// Why nothing good can be said of a color of whose requests more are late than may fail: they have not failed yet, and for
/// how many of them it is a matter of time will be known soon.
fn late(new: &Sample, old: &Sample, rules: &Bake) -> Option<String> {
    let known = Some(&old.tally.answers).filter(|answers| answers.count() >= LEAST_BASELINE);
    let usual = known.and_then(|answers| answers.quantile(0.99)).unwrap_or_default();
    let patience = (2 * usual).max(LATE).min(rules.unanswered);
    let late = new.waiting.longer_than(patience, &Waiters::default());
    let may = f64::from(rules.max_error_share.0) / 1e4 * (new.requests() + late) as f64;
    (late as f64 > may).then(|| format!("{late} requests have waited for an answer for {} or longer", Human(patience)))
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
        let held = Held { limit, old: vec![fault.among(old)], looks: Looks::Together };
        let word = match (held.word(fault.among(&new.all)), fault) {
            (Word::Bad, Fault::Slower(_)) => held.word(steady(fault, new, limit)).max(Word::Doubtful),
            (word, _) => word,
        };
        Measure::new((fault, limit), &new.all, old, word)
    };
    faults(old, rules).into_iter().map(measure).collect()
}

/// What speaks against it in the last seconds, as far as that is more than chance makes of one look.
fn lately(window: Duration, new: &Course, old: &Look, rules: &Bake) -> Vec<Measure> {
    // Where both serve at the same time, what befalls both is no fault of either.
    let beside = old.lately.iter().find(|(same, _)| *same == window).map(|(_, course)| &course.all);
    let measure = |(fault, limit): (Fault, f64)| {
        let compared: Vec<_> = beside.into_iter().chain([&old.whole.all]).map(|old| fault.among(old)).collect();
        let held = |looks| Held { limit, old: compared.clone(), looks };
        let is_looked_into = held(Looks::Together).word(fault.among(&new.all)) == Word::Bad;
        is_looked_into.then(|| {
            let word = held(Looks::Each).word(steady(fault, new, limit)).max(Word::Doubtful);
            Measure { last_s: Some(window.as_secs()), ..Measure::new((fault, limit), &new.all, &old.whole.all, word) }
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
        let (bad, of) = self.counted(&sample.tally, sample.unanswered);
        match self {
            Fault::Slower(_) => (bad, of),
            // Who fails is quick to end. What takes its time and has not failed is not left out for that.
            _ => (bad, of + sample.open.saturating_sub(sample.unanswered)),
        }
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
    fn new((fault, limit): (Fault, f64), new: &Sample, old: &Sample, word: Word) -> Measure {
        let ((bad, of), old) = (fault.among(new), fault.among(old));
        Measure { what: fault.to_string(), bad, of, limit, word, old: (old.1 > 0).then(|| share(old)), last_s: None }
    }

    fn says(&self) -> String {
        let Measure { what, bad, of, limit, old, .. } = self;
        let old =
            old.map_or("no requests to compare with".to_owned(), |old| format!("before the switch {}", percent(old)));
        let when = self.when();
        let share = percent(share((*bad, *of)));
        format!("{bad} of {of} requests {what}{when}: {share}, at most {} may; {old}", percent(*limit))
    }

    /// In which seconds, where it is not in all of them.
    pub fn when(&self) -> String {
        self.last_s.map_or(String::new(), |seconds| format!(" in the last {seconds} s"))
    }
}

/// What a share is held to: the limit, and the old color's own share, at some times. Of too few of the old color's requests
/// nothing is known.
struct Held {
    limit: f64,
    old: Vec<(u64, u64)>,
    looks: Looks,
}

/// What a word is sure of.
#[derive(Clone, Copy)]
enum Looks {
    /// All looks at what grows from one to the next: that none of them is wrong.
    Together,
    /// One look of thousands, each at something else.
    Each,
}

impl Held {
    fn word(&self, new: (u64, u64)) -> Word {
        let mut known = self.old.iter().filter(|old| old.1 >= LEAST_BASELINE);
        // Where it is likely to break the limit, and not only in what little has been seen of it.
        let breaks_it = |old: (u64, u64)| share(old) > self.limit && of_limit(old, self.limit) > IN_TWENTY;
        let does_it_too = |old: &(u64, u64)| breaks_it(*old) && beyond(new, *old) < IN_TWENTY;
        if share(new) <= self.limit || known.clone().any(does_it_too) {
            return Word::Good;
        }
        let is_sure = |odds: f64| odds > self.looks.sure();
        let is_bad = new.0 >= LEAST_BAD && is_sure(self.odds(new)) && known.all(|old| is_sure(beyond(new, *old)));
        if is_bad { Word::Bad } else { Word::Doubtful }
    }

    /// How much more likely what was seen is at the share that was seen than at the limit: the natural logarithm, less what
    /// looking again and again would make of it. Who bets on the next request as Krichevsky and Trofimov estimate it wins
    /// the rest, and whatever he bets, where the share is no more than the limit he wins a thousand times his stake once in
    /// a thousand times at the most (Ville).
    fn odds(&self, new: (u64, u64)) -> f64 {
        let odds = of_limit(new, self.limit);
        match self.looks {
            Looks::Together => odds - (2.0 * (new.1 as f64).sqrt()).ln(),
            Looks::Each => odds,
        }
    }
}

impl Looks {
    fn sure(self) -> f64 {
        match self {
            Looks::Together => IN_A_THOUSAND,
            Looks::Each => IN_A_MILLION,
        }
    }
}

/// How much more likely what was seen is, where the new color's share is above the old one's, than where both are one: the
/// natural logarithm; 0 where it is not above.
fn beyond(new: (u64, u64), old: (u64, u64)) -> f64 {
    let both = share((new.0 + old.0, new.1 + old.1));
    let part = |one: (u64, u64)| one.1 as f64 * divergence(share(one), both);
    if share(new) > share(old) { part(new) + part(old) } else { 0.0 }
}

/// How much more likely what was seen is at the share that was seen than at the limit: the natural logarithm.
fn of_limit(seen: (u64, u64), limit: f64) -> f64 {
    seen.1 as f64 * divergence(share(seen), limit)
}

fn share((bad, of): (u64, u64)) -> f64 {
    if of == 0 { 0.0 } else { bad as f64 / of as f64 }
}

/// How far what was seen is from what is true (Kullback and Leibler), both shares.
fn divergence(seen: f64, real: f64) -> f64 {
    let part = |seen: f64, real: f64| if seen > 0.0 { seen * (seen / real).ln() } else { 0.0 };
    part(seen, real) + part(1.0 - seen, 1.0 - real)
}

fn percent(share: f64) -> String {
    let hundredths = (share * 1e4).round() / 100.0;
    format!("{hundredths} %")
}

/// Natural logarithms of how sure it is.
const IN_TWENTY: f64 = 2.995_733;
const IN_A_THOUSAND: f64 = 6.907_756;
const IN_A_MILLION: f64 = 13.815_511;
/// Parts of a course that one stall may lie in.
const LEFT_OUT: usize = 2;
/// Who has waited for less is not late.
const LATE: Duration = Duration::from_secs(2);
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
    use crate::time::Moment;

    /// So many requests in each of these ways: status, milliseconds, number.
    fn sample(requests: &[(u16, u64, u64)]) -> Sample {
        let sheet = ColorSheet::default();
        for (status, millis, number) in requests {
            (0..*number).for_each(|_| {
                sheet.count(*status, Duration::from_millis(*millis), Some(Duration::from_millis(*millis)))
            });
        }
        Sample { tally: Tally::of([&sheet]), ..Sample::default() }
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
        Course { all: Sample { tally, ..Sample::default() }, parts }
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
                    if n % 20 == 0 && held(0.01, &[]).word((bad, n)) == Word::Bad {
                        (back, after) = (back + 1, after + n);
                        break;
                    }
                }
            }
            (f64::from(back) / 400.0, after / back.max(1) as u64)
        };
        assert_eq!(trials(0.01, 5_000).0, 0.0, "just what may be, the most there can be by mistake");
        for (share, requests) in [(0.05, 300), (0.1, 100), (0.5, 40)] {
            let (back, after) = trials(share, 5_000);
            assert!(back > 0.999 && after <= requests, "{share}: {back} after {after}");
        }
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
                let held = Held { looks: Looks::Each, ..held(limit, &[]) };
                held.word((sum, of)) == Word::Bad
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

    #[test]
    fn where_little_of_a_good_old_color_has_been_seen_the_limit_is_not_softer() {
        let old = &[(200, 20, 156)][..];
        assert_eq!(verdict(&[(200, 20, 90), (500, 20, 10)], old, Clock::Running), Verdict::Bad);
        assert_eq!(verdict(&[(200, 20, 980), (500, 20, 20)], old, Clock::Final), Verdict::Undecided);
    }

    #[test]
    fn two_failures_by_chance_before_the_switch_make_no_limit_softer() {
        let old = &[(200, 20, 104), (500, 20, 2)][..];
        assert_eq!(verdict(&[(200, 20, 951), (500, 20, 49)], old, Clock::Final), Verdict::Undecided);
    }

    #[test]
    fn one_that_hangs_at_the_end_of_its_time_is_not_called_good_though_nobody_has_waited_for_too_long_yet() {
        let (sheet, second) = (ColorSheet::default(), 1_000_000_000);
        let hanging_since = |seconds: u64| {
            (0..20).for_each(|_| sheet.waiting.come(Moment::from_nanos(100 * second)));
            let waiting = Waiters::of([&sheet.waiting], Moment::from_nanos((101 + seconds) * second));
            (0..20).for_each(|_| sheet.waiting.go(Moment::from_nanos(100 * second)));
            Look::from(Sample { waiting, open: 20, ..sample(&[(200, 20, 1_000)]) })
        };
        let judge =
            |new: &Look, old: &[(u16, u64, u64)], clock| judge(new, &sample(old).into(), &rules(), clock).verdict;
        let old = &[(200, 20, 1_000)][..];
        assert_eq!(judge(&hanging_since(1), old, Clock::Over), Verdict::Good, "that may be");
        assert_eq!(judge(&hanging_since(3), old, Clock::Over), Verdict::Watching);
        assert_eq!(judge(&hanging_since(3), old, Clock::Final), Verdict::Undecided);
        assert_eq!(judge(&hanging_since(3), &[], Clock::Over), Verdict::Watching, "nobody knows how long they take");
        assert_eq!(
            judge(&hanging_since(3), &[(200, 5_000, 1_000)], Clock::Over),
            Verdict::Good,
            "they always take so long"
        );
    }

    #[test]
    fn who_fails_fast_is_held_against_all_that_have_begun_and_not_only_against_who_has_ended() {
        let old = sample(&[(200, 20, 5_000)]).into();
        let with_open = |open| Look::from(Sample { open, ..sample(&[(500, 20, 5)]) });
        let judge = |open| judge(&with_open(open), &old, &rules(), Clock::Running).verdict;
        assert_eq!((judge(5), judge(245)), (Verdict::Bad, Verdict::Watching), "2 % of all, and all that has ended");
    }

    #[test]
    fn a_good_color_beside_one_that_breaks_the_limit_too_is_hardly_ever_sent_back() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut bad = |share: f64, of: u64| (0..of).filter(|_| random.f64() < share).count() as u64;
        for (share, minute) in [(0.025, 600), (0.025, 150), (0.05, 600), (0.3, 100)] {
            let back = (0..200).filter(|_| {
                let held = held(0.01, &[(bad(share, minute), minute)]);
                let mut seen = 0;
                (1..=300).any(|second| {
                    seen += bad(share, 10);
                    held.word((seen, 10 * second)) == Word::Bad
                })
            });
            let back = back.count();
            assert!(back <= 2, "{back} of 200 at {share}, of {minute} before");
        }
    }

    fn held(limit: f64, old: &[(u64, u64)]) -> Held {
        Held { limit, old: old.to_vec(), looks: Looks::Together }
    }

    proptest! {
        #[test]
        fn so_many_as_one_look_needs_are_one_in_a_million(of in 5_u64..2_000, limit in 1_u16..5_000) {
            let limit = f64::from(limit) / 1e4;
            let held = Held { looks: Looks::Each, ..held(limit, &[]) };
            let fewest = (0..=of).find(|bad| held.word((*bad, of)) == Word::Bad);
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
            }
        }

        /// The bet that the bound rests on, request by request: it has won no less than is taken for sure.
        #[test]
        fn the_odds_are_no_more_than_the_bets_have_won(requests in proptest::collection::vec(any::<bool>(), 1..400), limit in 1_u16..5_000) {
            let limit = f64::from(limit) / 1e4;
            let (mut bad, mut won) = (0_u64, 0.0_f64);
            for (seen, is_bad) in requests.iter().enumerate() {
                let next = (bad as f64 + 0.5) / (seen as f64 + 1.0);
                won += if *is_bad { (next / limit).ln() } else { ((1.0 - next) / (1.0 - limit)).ln() };
                bad += u64::from(*is_bad);
                let odds = held(limit, &[]).odds((bad, seen as u64 + 1));
                prop_assert!(odds <= won + 1e-9, "{bad} of {}: {odds}, won {won}", seen + 1);
            }
        }

        #[test]
        fn more_bad_requests_never_make_it_look_better(
            bad in 0_u64..400, of in 400_u64..2000, share in 0_u16..10_000, old in 0_u64..200, looks_each in any::<bool>(),
        ) {
            let looks = if looks_each { Looks::Each } else { Looks::Together };
            let held = Held { looks, ..held(f64::from(share) / 1e4, &[(old, 200)]) };
            prop_assert!(held.word((bad + 1, of)) >= held.word((bad, of)));
        }
    }

    #[test]
    fn shares_are_read_as_percent() {
        assert_eq!((percent(0.0512), percent(1.0)), ("5.12 %".to_owned(), "100 %".to_owned()));
        assert_eq!(Share(100).to_string(), "1%");
    }
}
