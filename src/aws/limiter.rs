//! The account's pace: so many requests a second to each service, whoever makes them, in the order they came.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::call::Service;

/// One limiter for each service: Amazon counts Route 53's requests together for a whole account, the others'
/// each for an account and a region. None makes another wait.
#[derive(Debug)]
pub struct Pace {
    route53: Limiter,
    ec2: Limiter,
    auto_scaling: Limiter,
    load_balancing: Limiter,
    opsworks: Limiter,
}

impl Pace {
    /// So many requests a second to each service; twice as many go at once after a rest.
    pub fn new(per_second: u32) -> Pace {
        let limiter = || Limiter::new(Duration::from_secs(1) / per_second, per_second * 2);
        Pace {
            route53: limiter(),
            ec2: limiter(),
            auto_scaling: limiter(),
            load_balancing: limiter(),
            opsworks: limiter(),
        }
    }

    pub fn of(&self, service: Service) -> &Limiter {
        match service {
            Service::Route53 => &self.route53,
            Service::Ec2 => &self.ec2,
            Service::AutoScaling => &self.auto_scaling,
            Service::LoadBalancing => &self.load_balancing,
            Service::OpsWorks => &self.opsworks,
        }
    }
}

/// Amazon counts everybody's requests together and refuses everybody's beyond that; so we stay well below.
#[derive(Debug)]
pub struct Limiter {
    /// When the next request is due at the steady pace. tokio's mutex lets waiters in by the order in which they came.
    due: Mutex<Instant>,
    interval: Duration,
    /// How much earlier than due one may go.
    lead: Duration,
}

impl Limiter {
    /// One request each `interval`; `burst` of them at once after a rest.
    pub fn new(interval: Duration, burst: u32) -> Limiter {
        Limiter { due: Mutex::new(Instant::now()), interval, lead: interval * burst.saturating_sub(1) }
    }

    /// Waits for its turn. Whoever gives up waiting has not used one.
    pub async fn turn(&self) {
        let mut due = self.due.lock().await;
        if let Some(from) = due.checked_sub(self.lead) {
            sleep_until(from).await;
        }
        *due = (*due).max(Instant::now()) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::timeout;

    use super::*;

    const HALF: Duration = Duration::from_millis(500);

    /// When each of so many turns came, in half seconds.
    async fn turns(limiter: &Limiter, n: usize) -> Vec<u128> {
        let start = Instant::now();
        let mut came = Vec::new();
        for _ in 0..n {
            limiter.turn().await;
            came.push(start.elapsed().as_millis().div_ceil(500));
        }
        came
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_the_steady_pace() {
        let limiter = Limiter::new(HALF, 4);
        assert_eq!(turns(&limiter, 8).await, [0, 0, 0, 0, 1, 2, 3, 4]);
        tokio::time::advance(HALF * 2).await;
        assert_eq!(turns(&limiter, 4).await, [0, 0, 1, 2], "two have been saved up");
        tokio::time::advance(HALF * 100).await;
        assert_eq!(turns(&limiter, 6).await, [0, 0, 0, 0, 1, 2], "no more than a burst is ever saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_the_order_they_were_asked_for_and_are_not_lost_on_those_who_gave_up() {
        let limiter = Arc::new(Limiter::new(HALF, 1));
        limiter.turn().await;
        let start = Instant::now();
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..6 {
            let (limiter, told) = (limiter.clone(), told.clone());
            let patience = if number == 2 { HALF } else { HALF * 100 };
            tokio::spawn(async move {
                if timeout(patience, limiter.turn()).await.is_ok() {
                    let _ = told.send((number, start.elapsed().as_millis().div_ceil(500)));
                }
            });
            tokio::task::yield_now().await;
        }
        drop(told);
        let mut came = Vec::new();
        while let Some(turn) = order.recv().await {
            came.push(turn);
        }
        assert_eq!(came, [(0, 1), (1, 2), (3, 3), (4, 4), (5, 5)], "the third had given up");
    }
}
