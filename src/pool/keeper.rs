//! The keeper of a pool: checks its endpoints round by round, and is the one writer of what workers may use.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::health::{Check, EndpointHealth, Pace, State};
use super::{EligibleCell, Endpoint, probe};
use crate::config;
use crate::names::{Color, HostPattern};
use crate::time;

/// Whoever asked for a round is told here that it is over.
pub type RoundDone = oneshot::Sender<()>;

/// Runs as one task on the deciding runtime, for as long as the process lives.
pub struct Keeper {
    rules: config::Health,
    host: Option<String>,
    name: String,
    endpoints: Vec<Arc<Endpoint>>,
    eligible: EligibleCell,
    health: watch::Sender<Arc<Vec<EndpointHealth>>>,
    rounds: mpsc::Receiver<RoundDone>,
}

impl Keeper {
    pub fn new(
        service: &config::Service,
        color: Color,
        eligible: EligibleCell,
    ) -> (Keeper, watch::Receiver<Arc<Vec<EndpointHealth>>>, mpsc::Sender<RoundDone>) {
        let addresses = &service.stacks[color].endpoints;
        let known = addresses.iter().map(|address| EndpointHealth::unknown(*address)).collect();
        let (health, seen) = watch::channel(Arc::new(known));
        let (ask, rounds) = mpsc::channel(ROUNDS_ASKED);
        let keeper = Keeper {
            rules: service.health.clone(),
            host: service.hosts.iter().find_map(|host| match host {
                HostPattern::Exact(name) => Some(name.clone()),
                HostPattern::Below(_) => None,
            }),
            name: format!("{} {color}", service.name),
            endpoints: addresses.iter().map(|address| Arc::new(Endpoint { address: *address })).collect(),
            eligible,
            health,
            rounds,
        };
        (keeper, seen, ask)
    }

    /// Checks at once, then each interval, and whenever somebody asks. Ends with its pool.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.rules.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Whoever asks while a round runs gets the next one: its answers are all younger than the question.
            let mut asked = Vec::new();
            tokio::select! {
                _ = ticks.tick() => {}
                first = self.rounds.recv() => match first {
                    Some(done) => asked.push(done),
                    None => return,
                },
            }
            let pace = if asked.is_empty() { Pace::Regular } else { Pace::Extra };
            while let Ok(done) = self.rounds.try_recv() {
                asked.push(done);
            }
            self.round(pace).await;
            // Whoever does not wait any more is no matter: the round was worth it all the same.
            for done in asked {
                let _ = done.send(());
            }
        }
    }

    async fn round(&self, pace: Pace) {
        let before = self.health.borrow().clone();
        let width = Semaphore::new(CHECKS_AT_ONCE);
        let checks: FuturesUnordered<_> =
            before.iter().enumerate().map(|(i, e)| self.check(i, e, &width, pace)).collect();
        let mut after: Vec<(usize, EndpointHealth)> = checks.collect().await;
        after.sort_by_key(|(place, _)| *place);
        self.publish(&before, after.into_iter().map(|(_, endpoint)| endpoint).collect());
    }

    async fn check(
        &self,
        place: usize,
        endpoint: &EndpointHealth,
        width: &Semaphore,
        pace: Pace,
    ) -> (usize, EndpointHealth) {
        // The semaphore lives as long as the round and is never closed.
        let _turn = width.acquire().await;
        let address = endpoint.address.to_string();
        let answer = probe::probe(endpoint.address, self.host.as_deref().unwrap_or(&address), &self.rules).await;
        (place, endpoint.clone().checked(Check { at: time::now(), answer }, &self.rules, pace))
    }

    fn publish(&self, before: &[EndpointHealth], after: Vec<EndpointHealth>) {
        let is_up = |endpoint: &EndpointHealth| endpoint.state == State::Up;
        let changed = before.iter().map(is_up).ne(after.iter().map(is_up));
        for (old, new) in before.iter().zip(&after) {
            if old.state != new.state {
                tracing::info!(pool = %self.name, from = old.state.as_str(), "endpoint {}", new.says());
            }
        }
        if changed {
            let up = self.endpoints.iter().zip(&after).filter(|(_, health)| is_up(health));
            self.eligible.store(Arc::new(up.map(|(endpoint, _)| endpoint.clone()).collect()));
        }
        self.health.send_replace(Arc::new(after));
    }
}

/// Rounds that may be asked for and not yet begun; whoever asks beyond that waits.
const ROUNDS_ASKED: usize = 16;
/// Checks under way at one time, so that a pool of a thousand endpoints is no burst of a thousand connects.
const CHECKS_AT_ONCE: usize = 64;
