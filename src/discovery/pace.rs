//! When a source is asked again: pure, so that chance and clock are given.

use std::time::Duration;

/// After an answer: a DNS answer when its TTL is over, but no later than in an hour, and nobody before the interval is
/// over. `chance`, from 0 to 1, spreads many who began at the same time.
pub fn after_answer(interval: Duration, valid_for: Option<Duration>, chance: f64) -> Duration {
    let pause = interval.max(valid_for.unwrap_or_default().min(LONGEST_TTL.max(interval)));
    pause.mul_f64(1.0 + chance / 10.0)
}

/// After so many failures in a row: anywhere up to twice the pause before, so that those who were refused at one time do
/// not come back at one time (full jitter); up to a minute, since whoever is back is to be noticed.
pub fn after_failure(interval: Duration, failures: u32, chance: f64) -> Duration {
    let most = interval.max(LONGEST_PAUSE);
    let pause = interval.saturating_mul(2_u32.saturating_pow(failures)).min(most);
    pause.mul_f64(chance).max(SHORTEST_PAUSE.min(interval))
}

const LONGEST_TTL: Duration = Duration::from_hours(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_the_interval_or_its_ttl_whichever_is_longer() {
        let seconds = |interval, ttl: Option<u64>, chance| {
            after_answer(Duration::from_secs(interval), ttl.map(Duration::from_secs), chance).as_secs_f64()
        };
        assert_eq!(seconds(10, None, 0.0), 10.0);
        assert_eq!(seconds(10, Some(5), 0.0), 10.0);
        assert_eq!(seconds(10, Some(60), 0.0), 60.0);
        assert_eq!(seconds(10, Some(1_000_000), 0.0), 3_600.0);
        assert_eq!(seconds(7_200, Some(1_000_000), 0.0), 7_200.0);
        assert_eq!(seconds(10, None, 1.0), 11.0);
    }

    #[test]
    fn failures_are_asked_again_ever_later_and_within_a_minute() {
        let seconds =
            |interval, failures, chance| after_failure(Duration::from_secs(interval), failures, chance).as_secs_f64();
        assert_eq!([1, 2, 3, 40].map(|failures| seconds(10, failures, 1.0)), [20.0, 40.0, 60.0, 60.0]);
        assert_eq!(seconds(10, 3, 0.5), 30.0);
        assert_eq!(seconds(10, 3, 0.0), 1.0);
        assert_eq!(seconds(600, 3, 1.0), 600.0);
        assert_eq!(after_failure(Duration::from_millis(100), 1, 0.0), Duration::from_millis(100));
    }
}
