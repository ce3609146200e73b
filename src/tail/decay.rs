//! How a tail decays: counts for each interval of the last hour, in a ring, and what they say.

use std::collections::VecDeque;
use std::time::Duration;

/// A pure value: it is told how much time has passed and how much there has been by then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decay {
    /// Newest last; the one at the end is still going on.
    counts: VecDeque<u64>,
    /// How many intervals have ended since the beginning.
    ended: u64,
    /// The total when the present interval began.
    before: u64,
}

impl Decay {
    pub const INTERVAL: Duration = Duration::from_secs(10);

    /// `elapsed` since the beginning, `total` have come. What came in intervals that nobody looked into counts for the
    /// last of them.
    pub fn tick(&mut self, elapsed: Duration, total: u64) {
        let now = elapsed.as_secs() / Decay::INTERVAL.as_secs();
        if self.counts.is_empty() {
            self.counts.push_back(0);
        }
        if now > self.ended {
            // Nothing is remembered that long ago.
            let passed = (now - self.ended).min(RING as u64 + 1);
            let came = total - self.before;
            if let Some(last) = self.counts.back_mut() {
                *last = came;
            }
            (0..passed).for_each(|_| self.counts.push_back(0));
            (self.ended, self.before) = (now, total);
            while self.counts.len() > RING {
                self.counts.pop_front();
            }
        } else if let Some(last) = self.counts.back_mut() {
            *last = total - self.before;
        }
    }

    /// As it would be after a tick now.
    pub fn seen(&self, elapsed: Duration, total: u64) -> Decay {
        let mut seen = self.clone();
        seen.tick(elapsed, total);
        seen
    }

    /// Within the last minute, as nearly as intervals tell.
    pub fn last_minute(&self) -> u64 {
        self.newest(PER_MINUTE).iter().sum()
    }

    /// For each of the last minutes, the newest last; as many as there have been.
    pub fn by_minute(&self) -> Vec<u64> {
        let all = self.newest(RING);
        let mut minutes: Vec<u64> = all.rchunks(PER_MINUTE).map(|minute| minute.iter().sum()).collect();
        minutes.reverse();
        minutes
    }

    /// In what time half of it is gone, judged by the last half of what is remembered against the half before; nothing
    /// where there is too little to say, or where it does not fall.
    pub fn half_life(&self) -> Option<Duration> {
        // What goes on still is no whole interval.
        let whole = self.counts.len().saturating_sub(1);
        let half = (whole / 2).min(LONGEST_HALF);
        let ended: Vec<u64> = self.counts.iter().copied().take(whole).collect();
        let (earlier, later) = ended[whole - 2 * half..].split_at(half);
        let (earlier, later): (u64, u64) = (earlier.iter().sum(), later.iter().sum());
        if later == 0 || later >= earlier || earlier < LEAST {
            return None;
        }
        let halvings = (earlier as f64 / later as f64).log2();
        Some((Decay::INTERVAL * half as u32).div_f64(halvings))
    }

    fn newest(&self, count: usize) -> Vec<u64> {
        self.counts.iter().copied().skip(self.counts.len().saturating_sub(count)).collect()
    }
}

/// Minutes that are remembered.
pub const MINUTES: usize = 60;
const PER_MINUTE: usize = 6;
/// Intervals that are remembered.
const RING: usize = MINUTES * PER_MINUTE;
/// The most intervals on either side of a half-life: ten minutes, so that it says how it decays now.
const LONGEST_HALF: usize = 60;
/// With fewer requests than this to judge by, chance decides.
const LEAST: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// A decay whose intervals had these counts, looked at at the end of the last.
    fn of(counts: &[u64]) -> Decay {
        let (mut decay, mut total) = (Decay::default(), 0);
        decay.tick(Duration::ZERO, 0);
        for (number, count) in counts.iter().enumerate() {
            total += count;
            decay.tick(Decay::INTERVAL * (number as u32 + 1), total);
        }
        decay
    }

    #[test]
    fn minutes_add_up_and_what_goes_on_is_in_the_last() {
        let mut decay = Decay::default();
        assert_eq!((decay.last_minute(), decay.by_minute()), (0, vec![]));
        for second in 0..150 {
            decay.tick(Duration::from_secs(second), second);
        }
        // 149 requests in 149 s: the last six intervals are 90 s to now.
        assert_eq!(decay.last_minute(), 149 - 90);
        assert_eq!(decay.by_minute(), [30, 60, 59]);
        assert_eq!(decay.by_minute().iter().sum::<u64>(), 149);
        assert_eq!(decay.seen(Duration::from_secs(151), 151).last_minute(), 151 - 100);
    }

    #[test]
    fn it_forgets_after_an_hour_and_stays_as_large_as_it_is() {
        let mut decay = of(&[7; 1000]);
        assert_eq!(decay.counts.len(), RING);
        assert_eq!(decay.by_minute().len(), MINUTES);
        // Nobody looked for a year.
        decay.tick(Duration::from_secs(365 * 24 * 3600), 7_000);
        assert_eq!(decay.counts.len(), RING);
        assert_eq!((decay.last_minute(), decay.by_minute().iter().sum::<u64>()), (0, 0));
    }

    #[test]
    fn the_half_life_is_the_one_it_was_made_with() {
        for half_life in [30.0, 60.0, 300.0] {
            let left = |at: f64| 1_000_000.0 * (-at / half_life * std::f64::consts::LN_2).exp();
            let counts: Vec<u64> =
                (0..60).map(|n| (left(f64::from(n) * 10.0) - left(f64::from(n + 1) * 10.0)) as u64).collect();
            let found = of(&counts).half_life().unwrap().as_secs_f64();
            assert!((found / half_life - 1.0).abs() < 0.02, "{found} for {half_life}");
        }
    }

    #[test]
    fn where_it_does_not_fall_there_is_no_half_life() {
        for counts in [&[][..], &[100], &[100, 100, 100, 100], &[10, 20, 40, 80], &[100, 100, 0, 0], &[3, 0, 1, 0]] {
            assert_eq!(of(counts).half_life(), None, "{counts:?}");
        }
    }
}
