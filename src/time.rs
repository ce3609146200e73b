//! Monotonic moments for measuring, wall-clock times for telling: a clock that jumps changes neither.

use std::fmt;
use std::time::Duration;

pub use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep};

/// Now, by the wall clock, cut to milliseconds: what journals, answers and tables show.
pub fn now() -> Timestamp {
    to_millis(Timestamp::now())
}

/// Now, by the wall clock, in seconds since 1970 and milliseconds: for who tells the time with every request. It is that of
/// the system's last tick, some milliseconds ago at the most, which costs a quarter of what it takes to ask the clock.
pub fn wall() -> (i64, u16) {
    let at = clock_gettime(ClockId::RealtimeCoarse);
    (at.tv_sec, (at.tv_nsec / 1_000_000) as u16)
}

/// A point on the system's monotonic clock in nanoseconds, so that it fits into one atomic word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Moment {
        let at = clock_gettime(ClockId::Monotonic);
        Moment(at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64)
    }

    pub fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    pub fn nanos(self) -> u64 {
        self.0
    }

    /// How long from `earlier` to here; zero where `earlier` is not earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    pub fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The same point told by today's wall clock, to the microsecond.
    pub fn timestamp(self) -> Timestamp {
        let wall = Timestamp::now().checked_sub(Moment::now().since(self)).unwrap_or(Timestamp::MIN);
        Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall)
    }
}

/// The wall clock as it was at the beginning, carried on by one that does not jump; cut to milliseconds too.
#[derive(Clone, Copy)]
pub struct Clock {
    began: Timestamp,
    at: Instant,
}

impl Clock {
    pub fn new() -> Clock {
        Clock { began: now(), at: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        self.began.checked_add(self.at.elapsed()).map_or(self.began, to_millis)
    }

    pub async fn until(&self, at: Timestamp) {
        sleep(Duration::try_from(at.duration_since(self.now())).unwrap_or_default()).await;
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

/// The pause after so many tries in a row. Full jitter: anything up to a bound that doubles, so that many who were refused
/// at one time do not come back at one time.
pub fn pause(tries: u32) -> Duration {
    longest_pause(tries).mul_f64(fastrand::f64())
}

pub fn longest_pause(tries: u32) -> Duration {
    SHORTEST.saturating_mul(1 << tries.saturating_sub(1).min(6)).min(LONGEST)
}

/// A duration as people write it: `850 µs`, `12 ms`, `3.2 s`, `10m`, with three digits at the most.
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let text = match micros {
            0..1_000 => format!("{micros} µs"),
            1_000..10_000 => format!("{:.1} ms", micros as f64 / 1e3),
            10_000..1_000_000 => format!("{} ms", micros / 1_000),
            1_000_000..120_000_000 if micros.is_multiple_of(1_000_000) => format!("{} s", micros / 1_000_000),
            1_000_000..120_000_000 => format!("{:.1} s", micros as f64 / 1e6),
            _ => {
                let seconds = self.0.as_secs();
                match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
                    (0, m, s) => format!("{m}m {s:02}s"),
                    (h, m, _) => format!("{h}h {m:02}m"),
                }
            }
        };
        f.pad(&text)
    }
}

fn to_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let cases = [
            (7, "7 µs"),
            (2_340, "2.3 ms"),
            (12_900, "12 ms"),
            (3_200_000, "3.2 s"),
            (30_000_000, "30 s"),
            (600_000_000, "10m 00s"),
            (7_260_000_000, "2h 01m"),
        ];
        for (micros, text) in cases {
            assert_eq!(Human(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn moments_only_move_forward() {
        let a = Moment::now();
        let b = Moment::now();
        assert!(b >= a);
        assert_eq!(Moment::from_nanos(5).since(Moment::from_nanos(9)), Duration::ZERO);
        assert!(b.timestamp().duration_since(now()).abs().as_secs() < 5);
    }
}
