//! What operators see, as JSON: the shapes are promises, shared with the command line that reads them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Scene;
use super::reload::ConfigView;
use crate::config::Share;
use crate::cutover::{Cutover, Desk, Flight, Gate, Judgement, Kind, Phase, Probed, Warmed, WayBack};
use crate::discovery;
use crate::dns;
use crate::names::{Color, PerColor, ServiceName};
use crate::pool::{EndpointHealth, Pool, State};
use crate::proxy::Listener;
use crate::stack;
use crate::table::Entry;
use crate::tail::{Networks, Reading};
use crate::time::{Moment, Timestamp};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub started: Timestamp,
    pub config: ConfigView,
    /// Why the journal cannot be written, and what to do about it; null where it can.
    #[serde(default)]
    pub journal: Option<String>,
    /// Grows with every table that the workers are given.
    pub table_version: u64,
    pub listeners: Vec<ListenerView>,
    pub admin: AdminView,
    pub services: Vec<ServiceView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerView {
    pub address: String,
    pub tls: bool,
    pub connections: i64,
    /// It takes no more connections, and is here as long as it has some.
    pub shut: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdminView {
    pub socket: String,
    pub listen: Option<String>,
}

/// `GET /v1/services/{service}`, and one of those in the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    pub name: ServiceName,
    pub live: Color,
    pub since: Timestamp,
    pub phase: String,
    pub generation: u64,
    /// The warm-up that clients wait for; null once they are let in.
    #[serde(default)]
    pub warming: Option<WarmingView>,
    /// The cutover under way.
    pub cutover: Option<CutoverView>,
    /// What has happened and is not on disk yet, why, and what to do about it; null where the journal knows all.
    #[serde(default)]
    pub unwritten: Option<String>,
    /// Who still comes through names that have moved on; null while nobody counts.
    pub tail: Option<TailView>,
    /// Where names that follow it lead; null where none do.
    pub dns: Option<dns::Status>,
    /// The stacks of its colors; null where none is one.
    #[serde(default)]
    pub stack: Option<stack::Status>,
    #[serde(flatten)]
    pub colors: PerColor<ColorView>,
    /// The color that is not live, while those who are invited can see it.
    pub preview: Option<PreviewView>,
}

/// A warm-up at the start of the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmingView {
    pub color: Color,
    /// At the most; then clients are let in all the same.
    pub until: Timestamp,
    #[serde(flatten)]
    pub warmed: Warmed,
}

/// A preview that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreviewView {
    pub to: Color,
    pub until: Timestamp,
}

/// A cutover under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CutoverView {
    pub id: String,
    pub from: Color,
    pub to: Color,
    pub phase: String,
    pub started: Timestamp,
    pub by: String,
    pub reason: Option<String>,
    /// Why it waits, where it does.
    pub reasons: Vec<String>,
    /// What has to hold before the switch, as it stands.
    pub gates: Vec<Gate>,
    /// The canary step it is at, the first being 1.
    #[serde(default)]
    pub step: Option<u32>,
    /// The way back is wanted, and waits for the old color's health.
    #[serde(default)]
    pub returning: bool,
    /// How far the new color is warmed up, or what that came to.
    #[serde(default)]
    pub warmed: Option<Warmed>,
    /// How the new color does, while it is judged.
    #[serde(default)]
    pub trial: Option<Judgement>,
    /// Whether it would be safe to go back now, once it has switched.
    #[serde(default)]
    pub way_back: Option<WayBack>,
}

/// What comes to the proxy after the names have moved on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailView {
    /// When the names moved on.
    pub shifted: Timestamp,
    /// When the last resolver that obeys has forgotten the old answer.
    pub expires: Timestamp,
    /// Counting began here, anew after a restart.
    pub since: Timestamp,
    pub requests: u64,
    pub connections: u64,
    /// Distinct client networks, IPv4 /24 and IPv6 /48, with this standard error.
    pub networks: u64,
    pub networks_error: f64,
    /// Connections told to look the names up again.
    pub told: u64,
    pub last_seen: Option<Timestamp>,
    pub silent_s: f64,
    /// Requests within the last minute, and in each of the last sixty, the newest last.
    pub last_minute: u64,
    pub by_minute: Vec<u64>,
    /// In what time half of it is gone; null where it does not fall, or is too small to say.
    pub half_life_s: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColorView {
    /// Share of new requests, 0 to 1.
    pub weight: f64,
    pub in_flight: u64,
    pub tunnels: u64,
    pub upstream: Upstream,
    pub endpoints: Vec<EndpointView>,
    /// Where they are learned; null where the config names them.
    #[serde(default)]
    pub discovery: Option<discovery::Status>,
}

/// Connections to the color's endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    pub idle: i64,
    pub active: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    pub address: String,
    /// `up`, `down` or `unknown`.
    pub state: String,
    pub up: bool,
    pub last_check: Option<Check>,
    /// Why it is not in the state that its last answer speaks for; null where it is.
    #[serde(default)]
    pub in_spite: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub at: Timestamp,
    pub passed: bool,
    pub answer: String,
}

/// What a cutover came to, or has come to so far: what `switch` and `rollback` return, and a line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Null where there was nothing to do, and where an order waits for its turn.
    pub id: Option<String>,
    pub service: ServiceName,
    /// What was asked for first: a cutover that is turned around is still the switch it began as.
    pub kind: Option<Kind>,
    pub from: Color,
    pub to: Color,
    /// The color that serves, in this state or after it.
    pub live: Color,
    /// The way back is wanted, and waits for the old color's health.
    #[serde(default)]
    pub returning: bool,
    /// `done`, `aborted`, `rolled_back`; `unchanged` where there was nothing to do; null while it is under way.
    pub outcome: Option<String>,
    pub phase: String,
    pub generation: u64,
    pub by: Option<String>,
    pub reason: Option<String>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub switch_us: Option<u64>,
    pub drain_ms: Option<u64>,
    /// The old color is empty: no request was left in it when its deadline passed. False also where that is not known.
    pub drained: Option<bool>,
    /// The proxy was restarted while it drained: what became of the requests that were inside then is not known.
    #[serde(default)]
    pub restarted: bool,
    pub requests_left: u64,
    pub tunnels_closed: u64,
    pub proof: Option<Proof>,
    /// What had to hold before the switch.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// What its warm-up came to.
    #[serde(default)]
    pub warmed: Option<Warmed>,
    /// How the new color was judged.
    #[serde(default)]
    pub judged: Option<Judgement>,
    /// Why it ended otherwise than it was meant to, or what an order waits for.
    pub reasons: Vec<String>,
    /// That this is not on disk yet, why, and what to do about it; null where it is.
    #[serde(default)]
    pub unwritten: Option<String>,
}

/// One cutover of the history, with all that has been kept of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The seconds around the switch, and when requests began on each color; null where it has not switched, or was ended
    /// by another process than the one that switched.
    pub flight: Option<Box<Flight>>,
}

impl Past {
    /// As its desk knows it, if its service still has one.
    pub fn of(desk: Option<&Desk>, mut cutover: Cutover) -> Past {
        let flight = cutover.evidence.flight.take();
        let outcome = match desk {
            Some(desk) => Outcome::of(desk, cutover),
            None => Outcome::from(cutover),
        };
        Past { outcome, flight }
    }
}

/// What shows that the switch happened where the requests are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    pub switched: Timestamp,
    /// When the last request that went to the old color began; null where there was none since the proxy started.
    pub last_request_to_old: Option<Timestamp>,
    /// Requests that began on the old color after every worker had answered with the new table.
    pub requests_to_old_since: u64,
    pub workers: usize,
    pub workers_answered: usize,
    /// What they see, asked through the proxy's own listeners; null until that is known.
    #[serde(default)]
    pub probed: Option<Probed>,
}

impl Status {
    pub fn of(scene: &Scene, admin: AdminView) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: scene.started,
            config: scene.config.view(),
            journal: scene.journal.trouble(),
            table_version: scene.switchboard.table().version,
            listeners: scene.listeners.load().iter().map(|listener| ListenerView::of(listener)).collect(),
            admin,
            services: scene.desks.load().iter().filter_map(|desk| scene.view(desk)).collect(),
        }
    }
}

impl ListenerView {
    fn of(listener: &Listener) -> ListenerView {
        ListenerView {
            address: listener.address.to_string(),
            tls: listener.is_tls(),
            connections: listener.open(),
            shut: listener.is_shut(),
        }
    }
}

impl ServiceView {
    /// `None` only for a service that has just been taken out of the table.
    pub fn of(
        desk: &Desk,
        dns: Option<dns::Status>,
        stack: Option<stack::Status>,
        mut discovery: PerColor<Option<discovery::Status>>,
    ) -> Option<ServiceView> {
        let entry = desk.entry()?;
        let current = desk.current();
        Some(ServiceView {
            name: desk.name().clone(),
            live: entry.live,
            since: entry.since,
            phase: current.as_ref().map_or("idle", |cutover| cutover.phase.as_str()).to_owned(),
            generation: entry.generation,
            warming: WarmingView::of(&entry),
            cutover: current.map(|cutover| CutoverView::of(cutover, desk, &entry)),
            unwritten: desk.unwritten().map(|unwritten| unwritten.to_string()),
            dns,
            stack,
            tail: entry.service.tail.span().map(|span| TailView::from(span.reading(Moment::now()))),
            colors: PerColor::from_fn(|color| {
                ColorView::of(&entry.service.pools[color], entry.weight(color), discovery[color].take())
            }),
            preview: entry.preview.map(|preview| PreviewView { to: preview.to, until: preview.until }),
        })
    }

    /// Its live color has an endpoint that is up.
    pub fn is_ready(&self) -> bool {
        self.colors[self.live].endpoints.iter().any(|endpoint| endpoint.up)
    }
}

impl WarmingView {
    /// A color that clients are led to is warmed up only before they are let in.
    fn of(entry: &Entry) -> Option<WarmingView> {
        let warming = entry.warming.as_ref().filter(|warming| entry.led_to().any(|color| color == warming.to))?;
        let warmed = Warmed::look(warming, &entry.service.pools[warming.to]);
        Some(WarmingView { color: warming.to, until: warming.until(), warmed })
    }
}

impl fmt::Display for WarmingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clients wait until {} is warm, until {} at the most", self.color, self.until.strftime("%H:%M:%SZ"))
    }
}

impl CutoverView {
    fn of(cutover: Cutover, desk: &Desk, entry: &Entry) -> CutoverView {
        let warming = entry.warming.as_ref().filter(|_| cutover.phase == Phase::Warm);
        let warmed = warming.map(|warming| Warmed::look(warming, &entry.service.pools[warming.to]));
        CutoverView {
            way_back: desk.way_back(&cutover),
            warmed: warmed.or(cutover.evidence.warmed),
            trial: desk.trial().or(cutover.evidence.judged),
            step: cutover.step.map(|step| step + 1),
            returning: cutover.returning,
            id: cutover.id,
            from: cutover.from,
            to: cutover.to,
            phase: cutover.phase.as_str().to_owned(),
            started: cutover.started,
            by: cutover.by,
            reason: cutover.reason,
            reasons: cutover.evidence.reasons,
            gates: cutover.gates,
        }
    }
}

impl From<Reading> for TailView {
    fn from(reading: Reading) -> TailView {
        TailView {
            shifted: reading.shift.at,
            expires: reading.shift.expires(),
            since: reading.since,
            requests: reading.counts.requests,
            connections: reading.counts.connections,
            networks: reading.networks,
            networks_error: Networks::ERROR,
            told: reading.counts.told,
            last_seen: reading.last_seen,
            silent_s: reading.silent_for.as_secs_f64(),
            last_minute: reading.decay.last_minute(),
            by_minute: reading.decay.by_minute(),
            half_life_s: reading.decay.half_life().map(|half_life| half_life.as_secs_f64()),
        }
    }
}

impl ColorView {
    fn of(pool: &Pool, weight: Share, discovery: Option<discovery::Status>) -> ColorView {
        let inside = pool.turnstile.inside();
        ColorView {
            weight: f64::from(weight.0) / f64::from(Share::ALL.0),
            in_flight: inside.requests,
            tunnels: inside.tunnels,
            upstream: Upstream {
                idle: pool.sheets.iter().map(|sheet| sheet.upstream_idle.get()).sum(),
                active: pool.sheets.iter().map(|sheet| sheet.upstream_active.get()).sum(),
            },
            endpoints: pool.health().iter().map(EndpointView::from).collect(),
            discovery,
        }
    }
}

impl From<&EndpointHealth> for EndpointView {
    fn from(health: &EndpointHealth) -> EndpointView {
        let check = |check: &crate::pool::Check| {
            let (Ok(answer) | Err(answer)) = &check.answer;
            Check { at: check.at, passed: check.answer.is_ok(), answer: answer.clone() }
        };
        EndpointView {
            address: health.address.to_string(),
            state: health.state.as_str().to_owned(),
            up: health.state == State::Up,
            last_check: health.last.as_ref().map(check),
            in_spite: health.in_spite(),
        }
    }
}

impl Outcome {
    /// The order has begun, and for this reason there is no word on it yet.
    pub fn undecided(desk: &Desk, live: Color, reason: &str) -> Outcome {
        Outcome { outcome: None, reasons: vec![reason.to_owned()], ..Outcome::unchanged(desk, live) }
    }

    /// As after `undecided`.
    pub fn is_undecided(&self) -> bool {
        self.id.is_none() && self.outcome.is_none()
    }

    /// These had not begun, and do not.
    pub fn taken_back(desk: &Desk, live: Color, orders: Vec<String>) -> Outcome {
        Outcome { outcome: Some("taken_back".to_owned()), reasons: orders, ..Outcome::unchanged(desk, live) }
    }

    /// There was nothing to do.
    pub fn unchanged(desk: &Desk, live: Color) -> Outcome {
        Outcome {
            id: None,
            service: desk.name().clone(),
            kind: None,
            from: live,
            to: live,
            live,
            returning: false,
            outcome: Some("unchanged".to_owned()),
            phase: "idle".to_owned(),
            generation: desk.entry().map_or(0, |entry| entry.generation),
            by: None,
            reason: None,
            started: None,
            ended: None,
            switch_us: None,
            drain_ms: None,
            drained: None,
            restarted: false,
            requests_left: 0,
            tunnels_closed: 0,
            proof: None,
            gates: Vec::new(),
            warmed: None,
            judged: None,
            reasons: Vec::new(),
            unwritten: None,
        }
    }

    /// As its desk knows it: also whether it is on disk.
    pub fn of(desk: &Desk, cutover: Cutover) -> Outcome {
        let unwritten = desk.unwritten().filter(|unwritten| unwritten.cutover.id == cutover.id);
        Outcome { unwritten: unwritten.map(|unwritten| unwritten.to_string()), ..Outcome::from(cutover) }
    }
}

impl From<Cutover> for Outcome {
    fn from(cutover: Cutover) -> Outcome {
        let (switched, drained) = (&cutover.evidence.switched, &cutover.evidence.drained);
        Outcome {
            kind: Some(cutover.kind),
            live: cutover.live(),
            returning: cutover.returning,
            outcome: cutover.outcome().map(|outcome| outcome.as_str().to_owned()),
            phase: cutover.phase.as_str().to_owned(),
            generation: cutover.generation(),
            switch_us: switched.as_ref().map(|switched| switched.switch_us),
            drain_ms: drained.as_ref().map(|drained| drained.drain_ms),
            drained: drained.as_ref().map(|drained| drained.requests_left == 0 && !drained.restarted),
            restarted: drained.as_ref().is_some_and(|drained| drained.restarted),
            requests_left: drained.as_ref().map_or(0, |drained| drained.requests_left),
            tunnels_closed: drained.as_ref().map_or(0, |drained| drained.tunnels_closed),
            proof: switched.as_ref().map(|switched| Proof {
                switched: switched.at,
                last_request_to_old: switched.last_request_to_old,
                requests_to_old_since: drained.as_ref().map_or(0, |drained| drained.requests_to_old_since),
                workers: switched.workers,
                workers_answered: switched.answered,
                probed: drained.as_ref().and_then(|drained| drained.probed.clone()),
            }),
            gates: cutover.gates.clone(),
            warmed: cutover.evidence.warmed.clone(),
            judged: cutover.evidence.judged.clone(),
            reasons: cutover.evidence.reasons.clone(),
            unwritten: None,
            id: Some(cutover.id),
            service: cutover.service,
            from: cutover.from,
            to: cutover.to,
            by: Some(cutover.by),
            reason: cutover.reason,
            started: Some(cutover.started),
            ended: cutover.ended,
        }
    }
}

/// The phases a service can be in, `idle` first.
pub fn phases() -> impl Iterator<Item = &'static str> {
    std::iter::once("idle").chain(Phase::ALL.into_iter().map(Phase::as_str))
}
