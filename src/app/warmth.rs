//! The warm-up of what begins to serve: what colors are given before their first clients are let in.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::config::Warm;
use crate::cutover::Warmed;
use crate::names::Color;
use crate::process::Notifier;
use crate::table::{Entry, Service, Switchboard, Warming};
use crate::time::Human;

/// Warms all of these up, side by side, and says in the log what came of it. Whatever fails keeps no client out: each has
/// its deadline, and `hurry` ends all of it at once: whether it did.
pub async fn warm_up(
    switchboard: &Switchboard,
    cold: Vec<Cold>,
    notifier: &Notifier,
    hurry: impl Future<Output = ()>,
) -> bool {
    let Some(longest) = cold.iter().map(|cold| cold.rules.deadline).max() else { return false };
    notifier.warming(longest + MARGIN);
    let hurry = hurry.shared();
    join_all(cold.iter().map(|cold| cold.warm_up(switchboard, hurry.clone()))).await;
    hurry.peek().is_some()
}

/// A service before its first client, the colors that clients will be led to, and what each is to be given.
pub struct Cold {
    service: Arc<Service>,
    /// The live one first: most clients are led to it.
    colors: Vec<Color>,
    rules: Warm,
}

/// How a warm-up has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Over,
    Late,
    CutShort,
}

impl Cold {
    pub fn at_start(entry: &Entry) -> Option<Cold> {
        Cold::of(entry, Warm::at_start)
    }

    pub fn at_reload(entry: &Entry) -> Option<Cold> {
        Cold::of(entry, Warm::at_reload)
    }

    fn of(entry: &Entry, given: fn(&Warm, Duration) -> Option<Warm>) -> Option<Cold> {
        let service = entry.service.clone();
        let rules = given(service.rules.cutover.warm.as_ref()?, service.rules.timeouts.connect)?;
        Some(Cold { service, colors: entry.led_to().collect(), rules })
    }

    /// One color after the other, since an entry has one warm-up at a time; clients wait no longer for two than for one.
    async fn warm_up(&self, switchboard: &Switchboard, hurry: impl Future<Output = ()> + Clone) {
        let until = Instant::now() + self.rules.deadline;
        for color in &self.colors {
            if self.warm_color_up(*color, until, switchboard, hurry.clone()).await == End::CutShort {
                return;
            }
        }
    }

    async fn warm_color_up(
        &self,
        color: Color,
        until: Instant,
        switchboard: &Switchboard,
        hurry: impl Future<Output = ()> + Clone,
    ) -> End {
        let (service, pool) = (&self.service, &self.service.pools[color]);
        // Whoever was let in now would find nobody who serves.
        let is_unknown = pool.eligible.load().is_empty();
        let known = async {
            if is_unknown {
                pool.checked().await
            }
        };
        let mut end = End::of(known, until, hurry.clone()).await;
        let deadline = until.saturating_duration_since(Instant::now());
        let warming = Arc::new(Warming::of(pool, Warm { deadline, ..self.rules.clone() }));
        if end == End::Over {
            switchboard.warm(&service.name, Some(warming.clone())).await;
            end = End::of(warming.over(), until, hurry).await;
            switchboard.warm(&service.name, None).await;
            // The first request that a cutover tells of is to be a client's.
            pool.turnstile.begin_anew();
        }
        self.tell(color, end, &Warmed::look(&warming, pool));
        end
    }

    fn tell(&self, color: Color, end: End, warmed: &Warmed) {
        let (name, rules) = (&self.service.name, &self.rules);
        let (endpoints, took) = (warmed.endpoints, Human(Duration::from_millis(warmed.warm_ms)));
        // What a signal has cut off has not failed.
        let is_judged = end != End::CutShort;
        let against = if is_judged { warmed.against(color, rules.max_error_share) } else { Vec::new() };
        let reasons = if against.is_empty() { &warmed.failures } else { &against };
        let says: Vec<String> = [figures(warmed)].into_iter().chain(reasons.iter().cloned()).collect();
        let says = says.join("; ");
        if !is_judged {
            tracing::info!(endpoints, "{name}: the warm-up of {color} was cut short after {took}: {says}");
        } else if against.is_empty() {
            tracing::info!(endpoints, "{name}: {color} was warmed up in {took} before its first client: {says}");
        } else {
            tracing::warn!(endpoints, "{name}: {color} serves without being warm, after {took}: {says}");
        }
    }
}

impl End {
    async fn of(step: impl Future<Output = ()>, until: Instant, hurry: impl Future<Output = ()>) -> End {
        tokio::select! {
            () = step => End::Over,
            () = tokio::time::sleep_until(until) => End::Late,
            () = hurry => End::CutShort,
        }
    }
}

/// Such as `16 of 16 connections, 550 of 550 requests, 0 failed`.
fn figures(warmed: &Warmed) -> String {
    let Warmed { connections, of_connections, of_requests, .. } = warmed;
    let mut says = format!("{connections} of {of_connections} connections");
    if *of_requests > 0 {
        says.push_str(&format!(", {} of {of_requests} requests, {} failed", warmed.requests(), warmed.failed()));
    }
    says
}

/// What a start takes beside its warm-up, at the most: for the service manager's patience.
const MARGIN: Duration = Duration::from_secs(30);
