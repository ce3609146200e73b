//! The hands of a driver: they do what the machine finds due, and say what came of it.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{Drained, Effect, Event, Switched};
use crate::config::Drain;
use crate::names::Color;
use crate::table::{Service, Switchboard};
use crate::time::Moment;
use crate::turnstile::Entries;

/// What an effect works with. Rules are those the service has when the effect begins.
pub struct Hands {
    pub service: Arc<Service>,
    pub switchboard: Arc<Switchboard>,
}

impl Hands {
    pub async fn perform(self, effect: Effect, generation: u64) -> Event {
        match effect {
            Effect::Check(color) => self.check(color).await,
            Effect::CheckLater(color) => {
                tokio::time::sleep(self.newest().rules.health.interval).await;
                self.check(color).await
            }
            Effect::Publish(color) => self.publish(color, generation).await,
            Effect::Drain(color) => {
                let service = self.newest();
                Event::Drained(color, self.drain(color, &service.rules.cutover.drain).await)
            }
        }
    }

    fn newest(&self) -> Arc<Service> {
        self.switchboard.newest(&self.service)
    }

    async fn check(&self, color: Color) -> Event {
        let pool = &self.service.pools[color];
        pool.check_now().await;
        Event::Health(color, pool.readiness(self.newest().rules.cutover.min_healthy))
    }

    async fn publish(&self, color: Color, generation: u64) -> Event {
        let published = self.switchboard.publish(&self.service.name, color, generation).await;
        let old = self.service.pools[color.other()].turnstile.entries();
        let switched = Switched {
            at: published.at,
            switch_us: u64::try_from(published.took.as_micros()).unwrap_or(u64::MAX),
            workers: published.workers,
            answered: published.answered,
            last_request_to_old: old.last.map(Moment::timestamp),
        };
        Event::Published(color, switched)
    }

    /// Waits for requests and tunnels, each up to its deadline. Requests end by their own timeouts and are left to;
    /// a tunnel may last for ever, so what is left of those is closed.
    pub async fn drain(&self, color: Color, rules: &Drain) -> Drained {
        let pool = &self.service.pools[color];
        let turnstile = &pool.turnstile;
        let begun = Moment::now();
        let before: Entries = turnstile.entries();
        let requests = || tokio::time::timeout(rules.requests, turnstile.requests_gone());
        let tunnels = async {
            // A request that is still inside may yet become a tunnel.
            let _ = requests().await;
            turnstile.tunnels_gone().await;
        };
        let (_, all) = tokio::join!(requests(), tokio::time::timeout(rules.tunnels, tunnels));
        let mut tunnels_closed = 0;
        if all.is_err() {
            tunnels_closed = turnstile.inside().tunnels;
            pool.cut_tunnels();
            let _ = tokio::time::timeout(CUT, turnstile.tunnels_gone()).await;
        }
        Drained {
            drain_ms: u64::try_from(Moment::now().since(begun).as_millis()).unwrap_or(u64::MAX),
            requests_left: turnstile.inside().requests,
            tunnels_closed,
            requests_to_old_since: turnstile.entries().count - before.count,
        }
    }
}

/// A tunnel that has been told to end takes no longer than a turn of its worker.
const CUT: Duration = Duration::from_secs(1);
