//! The plan of a reload: everything that can fail or has to be waited for, done before anything is changed.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::build::{Draft, Met};
use super::reload::blocking;
use super::running::Running;
use crate::access_log::{AccessError, AccessLog};
use crate::admin::{ReloadError, Scene};
use crate::config::{self, Config, clash};
use crate::cutover::{Matter, Paused};
use crate::names::Color;
use crate::pool::{self, EndpointHealth, State};
use crate::proxy::{ListenError, Listener};
use crate::table::{Entry, Service, Table};

/// What is ready to be changed. Dropping it changes nothing.
pub struct Plan {
    pub to: Running,
    /// In the order of the config.
    pub services: Vec<Fate>,
    /// Whether the workers need another table.
    pub needs_table: bool,
    pub opened: Vec<Opened>,
    /// Where the access log is to be another one, or none any more.
    pub access_log: Option<Option<Arc<AccessLog>>>,
    /// Services that are taken out, with their drivers, which wait.
    pub gone: Vec<(Arc<Service>, Paused)>,
    /// The drivers of services that get other endpoints: they go on when this is dropped.
    pub waiting: Vec<Paused>,
}

/// What becomes of a service.
pub enum Fate {
    Stays(Arc<Service>),
    /// The same service under other rules.
    Changes(Arc<Service>, Met),
    Begins(Draft),
}

/// A listener that is bound, with a socket for each worker.
pub type Opened = (Arc<Listener>, Vec<TcpListener>);

impl Plan {
    /// `matter` is why endpoints come or go, where they do.
    pub async fn make(
        mut to: Running,
        from: &Config,
        scene: &Scene,
        workers: usize,
        matter: Matter,
    ) -> Result<Plan, ReloadError> {
        // Who is in the way is said before anyone waits for endpoints; then it is made sure of.
        drop(pause(&to.config.services, scene, matter).await?);
        let met = meet(&to.config.services, &scene.switchboard.table()).await;
        let Pauses { gone, waiting } = pause(&to.config.services, scene, matter).await?;
        let table = scene.switchboard.table();
        for (rules, met) in to.config.services.iter().zip(&met) {
            table.entry(&rules.name).map_or(Ok(()), |entry| keeps_serving(entry, rules, met))?;
        }
        let both = to.config.services.iter().zip(met);
        let services: Vec<_> = both.map(|(rules, met)| Fate::of(rules, met, &table, workers)).collect();
        let needs_table =
            !gone.is_empty() || from.edge != to.config.edge || !services.iter().all(|it| matches!(it, Fate::Stays(_)));
        let opened = bind(&mut to, from, workers).await?;
        let access_log = open_log(&to.config, from, workers).await?;
        Ok(Plan { to, services, needs_table, opened, access_log, gone, waiting })
    }
}

impl Fate {
    fn of(rules: &config::Service, met: Met, table: &Table, workers: usize) -> Fate {
        match table.entry(&rules.name) {
            Some(Entry { service, .. }) if service.rules == *rules => Fate::Stays(service.clone()),
            Some(Entry { service, .. }) => Fate::Changes(Arc::new(service.under(rules.clone())), met),
            None => Fate::Begins(Draft::new(rules, &met, workers)),
        }
    }
}

#[derive(Default)]
struct Pauses {
    gone: Vec<(Arc<Service>, Paused)>,
    waiting: Vec<Paused>,
}

/// Has the drivers wait whose services go, or get other endpoints.
async fn pause(services: &[config::Service], scene: &Scene, matter: Matter) -> Result<Pauses, ReloadError> {
    let mut pauses = Pauses::default();
    for desk in scene.desks.load_full().iter() {
        let service = desk.service();
        let denied = |denied| ReloadError::Denied { service: desk.name().clone(), denied };
        match services.iter().find(|rules| rules.name == *desk.name()) {
            None => pauses.gone.push((service, desk.pause(Matter::Service).await.map_err(denied)?)),
            Some(rules) if has_others(&service.rules, rules) => {
                pauses.waiting.push(desk.pause(matter).await.map_err(denied)?);
            }
            Some(_) => {}
        }
    }
    Ok(pauses)
}

/// Whether endpoints come or go; their order is no matter.
fn has_others(old: &config::Service, new: &config::Service) -> bool {
    let endpoints = |of: &config::Service, color| of.stacks[color].endpoints.iter().copied().collect::<BTreeSet<_>>();
    Color::BOTH.into_iter().any(|color| endpoints(old, color) != endpoints(new, color))
}

/// Checks every endpoint that would join, so that it comes with a state, and traffic with its first passing check.
async fn meet(services: &[config::Service], table: &Table) -> Vec<Met> {
    let each: Vec<_> = services.iter().map(|rules| meet_one(rules, table.entry(&rules.name))).collect();
    stream::iter(each).buffered(SERVICES_AT_ONCE).collect().await
}

async fn meet_one(rules: &config::Service, entry: Option<&Entry>) -> Met {
    if entry.is_some_and(|entry| entry.service.rules == *rules) {
        return Met::default();
    }
    let known = |color| entry.map(|entry| entry.service.pools[color].health()).unwrap_or_default();
    let known = Met::from_fn(|color| known(color).to_vec());
    let meet = |color| pool::meet(rules, color, &known[color]);
    let (blue, green) = tokio::join!(meet(Color::Blue), meet(Color::Green));
    Met { blue, green }
}

/// A color that serves clients, all of them or a share, must have an endpoint that is up afterwards too.
fn keeps_serving(entry: &Entry, rules: &config::Service, met: &Met) -> Result<(), ReloadError> {
    entry.led_to().try_for_each(|color| color_keeps_serving(color, entry, rules, met))
}

fn color_keeps_serving(color: Color, entry: &Entry, rules: &config::Service, met: &Met) -> Result<(), ReloadError> {
    let health = entry.service.pools[color].health();
    let is_up = |endpoint: &&EndpointHealth| endpoint.state == State::Up;
    let stays = |endpoint: &&EndpointHealth| rules.stacks[color].endpoints.contains(&endpoint.address);
    let serves = health.iter().any(|endpoint| is_up(&endpoint));
    let after = || health.iter().filter(stays).chain(&met[color]);
    if !serves || after().any(|endpoint| is_up(&endpoint)) {
        return Ok(());
    }
    let reasons: Vec<String> = after().map(EndpointHealth::says).collect();
    let reasons = if reasons.is_empty() { vec!["it would have none".to_owned()] } else { reasons };
    Err(ReloadError::Bereft { service: rules.name.clone(), color, reasons })
}

/// Binds what is new. One that overlaps with a listener that goes is bound beside it: they follow without a gap.
async fn bind(to: &mut Running, from: &Config, workers: usize) -> Result<Vec<Opened>, ListenError> {
    let leaving = from.listeners.iter().map(|listener| listener.address);
    let leaving: Vec<_> = leaving.filter(|address| !listens(&to.config, address)).collect();
    let mut opened = Vec::new();
    for (place, listener) in to.config.listeners.clone().into_iter().enumerate() {
        if listens(from, &listener.address) {
            continue;
        }
        let beside = leaving.iter().any(|address| clash(address, &listener.address));
        let bind = move || match beside {
            true => Listener::bind_beside(&listener, workers),
            false => Listener::bind(&listener, workers, &[]),
        };
        let (listener, sockets) = blocking(bind).await?;
        to.got(place, listener.address);
        opened.push((Arc::new(listener), sockets));
    }
    Ok(opened)
}

/// Opens the access log where it is to be another one.
async fn open_log(to: &Config, from: &Config, workers: usize) -> Result<Option<Option<Arc<AccessLog>>>, AccessError> {
    if to.access_log == from.access_log {
        return Ok(None);
    }
    let Some(log) = to.access_log.clone() else { return Ok(Some(None)) };
    blocking(move || AccessLog::open(&log, workers)).await.map(|log| Some(Some(log)))
}

fn listens(config: &Config, address: &SocketAddr) -> bool {
    config.listeners.iter().any(|listener| listener.address == *address)
}

/// Services whose endpoints are checked at one time.
const SERVICES_AT_ONCE: usize = 16;
