//! `GET /v1/services/{service}/retire/{color}`: gathers what is known of a color, and has the permit judged on it.

use super::Scene;
use crate::config;
use crate::cutover::{Cutover, Desk};
use crate::names::Color;
use crate::retire::{Dns, Facts, Names, Permit, Served, TailFacts, UnderWay, judge};
use crate::table::{Entry, Service};
use crate::time::{self, Moment};

/// The permit as it is now; nothing for a service that has just been taken out of the table.
pub fn permit(scene: &Scene, desk: &Desk, color: Color) -> Option<Permit> {
    let entry = desk.entry()?;
    let turnstile = &entry.service.pools[color].turnstile;
    let inside = turnstile.inside();
    let rules = &entry.service.rules;
    let facts = Facts {
        service: desk.name().clone(),
        color,
        now: time::now(),
        live: entry.live,
        cutover: desk.current().map(|cutover| UnderWay { id: cutover.id, phase: cutover.phase.as_str().to_owned() }),
        is_open: !turnstile.is_closed(),
        in_flight: inside.requests,
        tunnels: inside.tunnels,
        served: served(scene, &entry),
        rollback_window: rules.cutover.rollback_window,
        dns: rules.dns.as_ref().map(|rules| dns(scene, &entry.service, rules)),
    };
    Some(judge(&facts))
}

/// When the color that is not live served last: at the end of the newest cutover that made another one live.
fn served(scene: &Scene, entry: &Entry) -> Served {
    let history = scene.journal.history::<Cutover>(Some(&entry.service.name));
    let moved = |cutover: &&Cutover| cutover.phase.ends() && cutover.generation() > cutover.generation;
    match history.iter().find(moved) {
        Some(cutover) => Served::Until(cutover.ended.unwrap_or(cutover.started)),
        None if entry.generation == 0 => Served::Never,
        None => Served::Unknown,
    }
}

fn dns(scene: &Scene, service: &Service, rules: &config::Dns) -> Dns {
    let tail = service.tail.span().map(|span| {
        let reading = span.reading(Moment::now());
        TailFacts {
            since: reading.since,
            last_seen: reading.last_seen,
            silent_for: reading.silent_for,
            last_minute: reading.decay.last_minute(),
            connections: reading.counts.connections,
            networks: reading.networks,
        }
    });
    let names = scene.names(&service.name).and_then(|names| Names::of(&names.status(), names.rules()));
    Dns { names, tail, silence: rules.tail.silence }
}
