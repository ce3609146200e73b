//! The whole proxy as one value: built from a config, started in order, stopped in reverse.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::admin::{Admin, AdminError, Scene};
use crate::config::{self, Config, EdgeTimeouts};
use crate::cutover::{Driver, Journal, JournalError};
use crate::metrics::RefusalSheet;
use crate::names::{Color, PerColor};
use crate::pool::{Keeper, Pool};
use crate::proxy::{Capacity, ListenError, Listener, Refusal, Workers};
use crate::table::{Edge, Entry, Routes, Service, Switchboard, Table};
use crate::time;

/// A running proxy.
pub struct App {
    workers: Workers,
    admin: Admin,
    /// The real addresses of the listeners, in the order of the config.
    pub listeners: Vec<Arc<Listener>>,
}

impl App {
    /// Builds every room and starts it. Must be called on the deciding runtime, where everything but the workers runs.
    ///
    /// What can fail on what stands outside comes first and in an order that leaves nothing half done: the journal,
    /// then the sockets. Only then does anything run.
    pub async fn start(config: &Config, workers: usize) -> Result<App, AppError> {
        let journal = Journal::open(&config.state.dir)?;
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            let (listener, sockets) = Listener::bind(listener, workers)?;
            listeners.push((Arc::new(listener), sockets));
        }
        let known: Vec<Arc<Listener>> = listeners.iter().map(|(listener, _)| listener.clone()).collect();

        let sheets = || (0..workers).map(|_| Arc::new(RefusalSheet::new(Refusal::REASONS.len())));
        let (services, keepers): (Vec<_>, Vec<_>) =
            config.services.iter().map(|service| build(service, workers, sheets().collect())).unzip();
        let table = Table {
            version: 1,
            edge: Arc::new(Edge::new(config)),
            routes: Arc::new(Routes::new(&config.services)),
            entries: services.iter().map(|service| entry(service, &journal)).collect(),
        };
        let switchboard = Arc::new(Switchboard::new(table, workers));
        let nowhere: Vec<Arc<RefusalSheet>> = sheets().collect();

        let (told, _) = broadcast::channel(EVENTS);
        let driven = services.iter().map(|service| Driver::new(service, &switchboard, &journal, told.clone()));
        let (drivers, desks): (Vec<_>, Vec<_>) = driven.unzip();
        let scene =
            Scene { desks, journal, listeners: known.clone(), nowhere: nowhere.clone(), told, started: time::now() };
        let capacity = Arc::new(Capacity::default());
        let admin = Admin::start(&config.admin, scene).await?;
        let workers = Workers::start(&switchboard, &nowhere, listeners, capacity).map_err(AppError::Workers)?;
        keepers.into_iter().flatten().for_each(|keeper| drop(tokio::spawn(keeper.run())));
        drivers.into_iter().for_each(|driver| drop(tokio::spawn(driver.run())));
        Ok(App { workers, admin, listeners: known })
    }

    /// Where the admin API listens on TCP, if it does.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.address
    }

    /// Tells clients to leave and lets every request finish that is under way, as long as `times` allows: whether all did.
    pub async fn stop(self, times: &EdgeTimeouts) -> bool {
        self.admin.leave();
        let finished = self.workers.stop(times).await;
        self.admin.stop();
        finished
    }
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("the workers cannot be started: {0}")]
    Workers(#[source] std::io::Error),
}

fn build(config: &config::Service, workers: usize, refusals: Box<[Arc<RefusalSheet>]>) -> (Arc<Service>, Vec<Keeper>) {
    let mut keepers = Vec::new();
    let pools = PerColor::from_fn(|color| {
        let (pool, keeper) = Pool::new(config, color, workers);
        keepers.push(keeper);
        pool
    });
    let service = Service { name: config.name.clone(), rules: config.clone(), pools, refusals };
    (Arc::new(service), keepers)
}

/// The live color is what the journal says; a service it has never heard of begins with blue.
fn entry(service: &Arc<Service>, journal: &Journal) -> Entry {
    let (live, generation, since) = match journal.last(&service.name) {
        Some(cutover) => (cutover.live(), cutover.generation(), cutover.ended.unwrap_or(cutover.started)),
        None => (Color::Blue, 0, time::now()),
    };
    Entry { service: service.clone(), live, generation, since }
}

/// Events that a slow listener may fall behind before it misses some.
const EVENTS: usize = 1024;
