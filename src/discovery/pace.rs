//! When a source is asked again: pure, so that chance and clock are given.

use std::time::Duration;

/// How long until the next question: after a DNS answer until its TTL is over, but no longer than an hour, and never less
/// than the interval. `chance`, from 0 to 1, spreads many who began at the same time.
pub fn pause(interval: Duration, valid_for: Option<Duration>, chance: f64) -> Duration {
    let least = interval.max(valid_for.unwrap_or_default().min(LONGEST_TTL.max(interval)));
    least.mul_f64(1.0 + chance / 10.0)
}

const LONGEST_TTL: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_the_interval_or_its_ttl_whichever_is_longer() {
        let seconds = |interval, ttl: Option<u64>, chance| {
            pause(Duration::from_secs(interval), ttl.map(Duration::from_secs), chance).as_secs_f64()
        };
        assert_eq!(seconds(10, None, 0.0), 10.0);
        assert_eq!(seconds(10, Some(5), 0.0), 10.0);
        assert_eq!(seconds(10, Some(60), 0.0), 60.0);
        assert_eq!(seconds(10, Some(1_000_000), 0.0), 3_600.0);
        assert_eq!(seconds(7_200, Some(1_000_000), 0.0), 7_200.0);
        assert_eq!(seconds(10, None, 1.0), 11.0);
    }
}
