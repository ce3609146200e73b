//! `GET /metrics`: every figure added up over the workers and put on one page.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::view::phases;
use super::{ConfigState, Scene};
use crate::access_log::AccessLog;
use crate::cutover::{Desk, Figures, GateState, Phase, Probed};
use crate::discovery::{self, Standing};
use crate::dns;
use crate::metrics::{self as m, CODES, LatencySum, Mirrored, Page, RefusalSheet};
use crate::names::Color;
use crate::pool::{Pool, State};
use crate::proxy::{Listener, Loss, Refusal};
use crate::stack;
use crate::table::Service;
use crate::time::{Moment, Timestamp};

/// The page as it is now.
pub fn page(scene: &Scene) -> String {
    let mut page = Page::new();
    scene.desks.load().iter().for_each(|desk| service(&mut page, scene, desk));
    scene.names.load().iter().for_each(|desk| names(&mut page, desk));
    scene.scouts.load().iter().for_each(|desk| discovered(&mut page, desk));
    scene.stacks.load().iter().for_each(|desk| stacks(&mut page, desk));
    refusals(&mut page, "-", &scene.nowhere);
    listeners(&mut page, &scene.listeners.load());
    for (place, outcome) in ConfigState::OUTCOMES.iter().enumerate() {
        page.put(&m::CONFIG_RELOADS, &[outcome], scene.config.count(place) as f64);
    }
    page.put(&m::JOURNAL_RESERVE, &[], scene.journal.reserve() as f64);
    page.put(&m::JOURNAL_FAILING, &[], f64::from(u8::from(scene.journal.trouble().is_some())));
    page.put(&m::JOURNAL_REWRITTEN, &[], scene.journal.rewritten() as f64);
    if let Some(lines) = scene.access_log.lines() {
        page.put(&m::ACCESS_LOG_LINES, &[], lines as f64);
        for (place, reason) in AccessLog::REASONS.iter().enumerate() {
            page.put(&m::ACCESS_LOG_DROPPED, &[reason], scene.access_log.dropped(place) as f64);
        }
    }
    for (names, count) in scene.aws.counts() {
        page.put(&m::AWS_REQUESTS, &names, count as f64);
    }
    page.put(&m::TURNED_AWAY, &[], scene.capacity.turned_away() as f64);
    page.put(&m::CONFIG_LOADED, &[], scene.config.view().loaded.as_millisecond() as f64 / 1e3);
    let revision = option_env!("CUTOVER_REVISION").unwrap_or("unknown");
    page.put(&m::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), revision], 1.0);
    page.text()
}

fn listeners(page: &mut Page, listeners: &[Arc<Listener>]) {
    // One that is shut may have the address of another that has come after it.
    let mut all = BTreeMap::<String, Vec<&Arc<Listener>>>::new();
    listeners.iter().for_each(|listener| all.entry(listener.address.to_string()).or_default().push(listener));
    for (address, listeners) in &all {
        let sum = |of: &dyn Fn(&Listener) -> f64| listeners.iter().map(|listener| of(listener)).sum();
        page.put(&m::CONNECTIONS, &[address], sum(&|listener| listener.open() as f64));
        for (number, reason) in Loss::REASONS.iter().enumerate() {
            page.put(&m::CONNECTIONS_LOST, &[address, reason], sum(&|listener| listener.lost(number) as f64));
        }
        for (place, by) in ["client", "proxy"].iter().enumerate() {
            page.put(&m::HTTP2_RESETS, &[address, by], sum(&|listener| listener.resets(place) as f64));
        }
    }
    for listener in listeners.iter().filter(|listener| !listener.is_shut()) {
        let address = listener.address.to_string();
        for (file, end) in listener.identity().iter().flat_map(|identity| identity.certificates.ends()) {
            page.put(&m::CERTIFICATE_EXPIRY, &[&address, &file.display().to_string()], end.as_second() as f64);
        }
    }
}

/// Of names that follow a service.
fn names(page: &mut Page, desk: &dns::Desk) {
    let (service, status) = (desk.service.as_str(), desk.status());
    for record in &status.records {
        let label = format!("{} {}", record.name, record.kind);
        page.put(&m::DNS_IN_SYNC, &[service, &label], f64::from(u8::from(record.in_sync)));
    }
    for state in dns::State::ALL {
        page.put(&m::DNS_STATE, &[service, state.as_str()], f64::from(u8::from(status.state == state)));
    }
    for (place, outcome) in dns::Figures::OUTCOMES.iter().enumerate() {
        page.put(&m::DNS_CHANGES, &[service, outcome], desk.figures.changes(place) as f64);
    }
}

/// Of a color whose endpoints are discovered.
fn discovered(page: &mut Page, desk: &discovery::Desk) {
    let (service, color, status) = (desk.service.as_str(), desk.color.as_str(), desk.status());
    if let Some(age) = status.age_s {
        page.put(&m::DISCOVERY_AGE, &[service, color], age);
    }
    for (place, result) in discovery::Figures::RESULTS.iter().enumerate() {
        page.put(&m::DISCOVERY_ANSWERS, &[service, color, result], desk.figures.answers(place) as f64);
    }
    for standing in Standing::ALL {
        let count = status.endpoints.iter().filter(|endpoint| endpoint.standing == standing).count();
        page.put(&m::DISCOVERY_ENDPOINTS, &[service, color, standing.as_str()], count as f64);
    }
    page.put(&m::DISCOVERY_ENDPOINTS, &[service, color, "refused"], status.refused.len() as f64);
    for state in discovery::State::ALL {
        page.put(&m::DISCOVERY_STATE, &[service, color, state.as_str()], f64::from(u8::from(status.state == state)));
    }
}

/// Of a service's stacks.
fn stacks(page: &mut Page, desk: &stack::Desk) {
    let (service, status) = (desk.service.as_str(), desk.status());
    for (color, _) in desk.sites.iter().filter(|(_, site)| site.is_some()) {
        let is_running = |view: &stack::OrderView| view.order.color == color && view.order.outcome.is_none();
        let running = status.order.as_ref().is_some_and(is_running);
        page.put(&m::STACK_ORDERS, &[service, color.as_str()], f64::from(u8::from(running)));
        for step in stack::Step::ALL {
            for outcome in stack::Outcome::ALL {
                let labels = [service, color.as_str(), step.as_str(), outcome.as_str()];
                page.put(&m::STACK_STEPS, &labels, desk.figures.steps(color, step, outcome) as f64);
            }
        }
    }
}

fn service(page: &mut Page, scene: &Scene, desk: &Desk) {
    let name = desk.name().as_str();
    let (of, Some(view)) = (desk.service(), scene.view(desk)) else { return };
    for phase in phases() {
        page.put(&m::PHASE, &[name, phase], f64::from(u8::from(view.phase == phase)));
    }
    page.put(&m::JOURNAL_UNWRITTEN, &[name], f64::from(u8::from(view.unwritten.is_some())));
    for color in Color::BOTH {
        let labels = [name, color.as_str()];
        page.put(&m::LIVE, &labels, f64::from(u8::from(view.live == color)));
        page.put(&m::WEIGHT, &labels, view.colors[color].weight);
        let is_previewed = view.preview.as_ref().is_some_and(|preview| preview.to == color);
        page.put(&m::PREVIEW_OPEN, &labels, f64::from(u8::from(is_previewed)));
        mirror(page, &of.pools[color]);
        warmth(page, &of.pools[color]);
        pool(page, &of.pools[color]);
        for outcome in Phase::OUTCOMES {
            let count = desk.figures.ended(color, outcome) as f64;
            page.put(&m::CUTOVERS, &[name, color.as_str(), outcome.as_str()], count);
        }
        for (place, (_, verdict)) in Figures::VERDICTS.iter().enumerate() {
            page.put(&m::VERDICTS, &[name, color.as_str(), verdict], desk.figures.verdicts(color, place) as f64);
        }
        page.put_latency(&m::DRAIN_DURATION, &labels, &sum([&desk.figures.drains[color]]));
    }
    for gate in view.cutover.iter().flat_map(|cutover| &cutover.gates) {
        for state in GateState::ALL {
            page.put(&m::GATE, &[name, &gate.name, state.as_str()], f64::from(u8::from(gate.state == state)));
        }
    }
    let old = view.live.other();
    // What a cutover sends to the color that it leads to is meant to go there.
    let is_led_to = view.cutover.as_ref().is_some_and(|cutover| cutover.to == old && cutover.from == view.live);
    let begun = desk.figures.since_closed(old, of.pools[old].turnstile.entries().count);
    let to_old = if is_led_to { 0 } else { begun };
    page.put(&m::TO_OLD, &[name], to_old as f64);
    for (place, saw) in Probed::SIGHTS.iter().enumerate() {
        page.put(&m::PROBED_WORKERS, &[name, saw], desk.figures.probed(place) as f64);
    }
    page.put_latency(&m::SWITCH_DURATION, &[name], &sum([&desk.figures.switches]));
    refusals(page, name, &of.refusals);
    tail(page, name, &of);
}

/// Only where names follow the service.
fn tail(page: &mut Page, name: &str, service: &Service) {
    if service.rules.dns.is_none() {
        return;
    }
    let total = service.tail.total();
    page.put(&m::TAIL_REQUESTS, &[name], total.requests as f64);
    page.put(&m::TAIL_CONNECTIONS, &[name], total.connections as f64);
    page.put(&m::TAIL_TOLD, &[name], total.told as f64);
    let Some(reading) = service.tail.span().map(|span| span.reading(Moment::now())) else { return };
    let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1e3;
    page.put(&m::TAIL_NETWORKS, &[name], reading.networks as f64);
    page.put(&m::TAIL_SILENT, &[name], reading.silent_for.as_secs_f64());
    page.put(&m::TAIL_EXPIRES, &[name], seconds(reading.shift.expires()));
    if let Some(last) = reading.last_seen {
        page.put(&m::TAIL_LAST_SEEN, &[name], seconds(last));
    }
}

fn mirror(page: &mut Page, pool: &Pool) {
    let (labels, sum) = ([pool.service.as_str(), pool.color.as_str()], pool.mirrored());
    for outcome in Mirrored::ALL {
        page.put(&m::MIRROR_REQUESTS, &[labels[0], labels[1], outcome.as_str()], sum.count(outcome) as f64);
    }
    for (of, sum) in [("copy", &sum.copies), ("original", &sum.originals)] {
        page.put_latency(&m::MIRROR_DURATION, &[labels[0], labels[1], of], sum);
    }
}

fn warmth(page: &mut Page, pool: &Pool) {
    let (name, color, sum) = (pool.service.as_str(), pool.color.as_str(), pool.warmed());
    for (outcome, count) in [("opened", sum.connections), ("failed", sum.refused)] {
        page.put(&m::WARM_CONNECTIONS, &[name, color, outcome], count as f64);
    }
    for (code, count) in CODES.iter().zip(sum.codes).chain([(&"none", sum.unanswered)]) {
        page.put(&m::WARM_REQUESTS, &[name, color, code], count as f64);
    }
}

fn pool(page: &mut Page, pool: &Pool) {
    let labels = [pool.service.as_str(), pool.color.as_str()];
    let [name, color] = labels;
    for (place, code) in CODES.iter().enumerate() {
        let count: u64 = pool.sheets.iter().map(|sheet| sheet.codes[place].get()).sum();
        page.put(&m::REQUESTS, &[name, color, code], count as f64);
    }
    page.put_latency(&m::DURATION, &labels, &sum(pool.sheets.iter().map(|sheet| &sheet.latency)));
    let cut: u64 = pool.sheets.iter().map(|sheet| sheet.cut.get()).sum();
    page.put(&m::ANSWERS_CUT, &labels, cut as f64);
    let failures: u64 = pool.sheets.iter().map(|sheet| sheet.connect_failures.get()).sum();
    page.put(&m::CONNECT_FAILURES, &labels, failures as f64);
    let inside = pool.turnstile.inside();
    page.put(&m::IN_FLIGHT, &labels, inside.requests as f64);
    page.put(&m::TUNNELS, &labels, inside.tunnels as f64);
    let idle: i64 = pool.sheets.iter().map(|sheet| sheet.upstream_idle.get()).sum();
    let active: i64 = pool.sheets.iter().map(|sheet| sheet.upstream_active.get()).sum();
    page.put(&m::UPSTREAM_CONNECTIONS, &[name, color, "idle"], idle as f64);
    page.put(&m::UPSTREAM_CONNECTIONS, &[name, color, "active"], active as f64);
    let health = pool.health();
    for state in State::ALL {
        let count = health.iter().filter(|endpoint| endpoint.state == state).count();
        page.put(&m::ENDPOINTS, &[name, color, state.as_str()], count as f64);
    }
    for endpoint in health.iter() {
        let up = f64::from(u8::from(endpoint.state == State::Up));
        page.put(&m::ENDPOINT_UP, &[name, color, &endpoint.address.to_string()], up);
    }
}

fn refusals(page: &mut Page, service: &str, sheets: &[Arc<RefusalSheet>]) {
    for (number, reason) in Refusal::REASONS.iter().enumerate() {
        let count: u64 = sheets.iter().map(|sheet| sheet.reasons[number].get()).sum();
        page.put(&m::REFUSALS, &[service, reason], count as f64);
    }
}

fn sum<'a>(cells: impl IntoIterator<Item = &'a m::Latency>) -> LatencySum {
    let mut sum = LatencySum::default();
    cells.into_iter().for_each(|cell| sum.add(cell));
    sum
}
