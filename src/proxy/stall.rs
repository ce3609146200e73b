//! A clock for the other side's progress: it runs only while we wait for it, and most exchanges never start it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Over each period of waiting at least so many bytes have to move. Only waiting counts: what we take ourselves, or
/// what a third party makes us wait, is not the other side's.
pub struct Stall {
    period: Duration,
    least: u64,
    moved: u64,
    waited: Duration,
    since: Option<Instant>,
    clock: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// `rate` in bytes a second; with 0 any progress will do.
    pub fn new(period: Duration, rate: u64) -> Stall {
        let least = u128::from(rate) * period.as_millis() / 1000;
        let least = u64::try_from(least).unwrap_or(u64::MAX).max(1);
        Stall { period, least, moved: 0, waited: Duration::ZERO, since: None, clock: None }
    }

    /// Nothing moves just now. Ready when that has been so for too long.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            let now = Instant::now();
            let end = now + self.period.saturating_sub(self.waited);
            self.since = Some(now);
            match &mut self.clock {
                Some(clock) => clock.as_mut().reset(end),
                None => self.clock = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        self.clock.as_mut().map_or(Poll::Pending, |clock| clock.as_mut().poll(cx))
    }

    /// Whether anybody has waited at all.
    pub fn has_run(&self) -> bool {
        self.clock.is_some()
    }

    /// Something has moved.
    pub fn moved(&mut self, bytes: u64) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= self.least {
            self.moved = 0;
            self.waited = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for up to `wait`; whether the clock rang.
    async fn rings(stall: &mut Stall, wait: Duration) -> bool {
        let ring = std::future::poll_fn(|cx| stall.poll(cx));
        tokio::time::timeout(wait, ring).await.is_ok()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_pause_as_long_as_the_period_is_too_long() {
        let mut stall = Stall::new(10 * SECOND, 0);
        for _ in 0..100 {
            assert!(!rings(&mut stall, 9 * SECOND).await);
            stall.moved(1);
        }
        assert!(rings(&mut stall, 11 * SECOND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_below_the_rate_is_too_little() {
        let mut stall = Stall::new(10 * SECOND, 100);
        let mut seconds = 0;
        while !rings(&mut stall, SECOND).await {
            stall.moved(99);
            seconds += 1;
        }
        assert_eq!(seconds, 9, "each second brings 99 bytes where 100 are due");
        let mut enough = Stall::new(10 * SECOND, 100);
        for _ in 0..100 {
            assert!(!rings(&mut enough, SECOND).await);
            enough.moved(112);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let mut stall = Stall::new(10 * SECOND, 100);
        for _ in 0..100 {
            assert!(!rings(&mut stall, SECOND / 20).await);
            stall.moved(1);
            tokio::time::advance(60 * SECOND).await;
        }
    }
}
