//! The whole proxy as one value: built from a config, started in order, stopped in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::access_log::{AccessError, AccessLog};
use crate::admin::{Admin, AdminError, Scene};
use crate::config::{self, Config, EdgeTimeouts};
use crate::cutover::{Driver, Journal, JournalError, Told};
use crate::metrics::RefusalSheet;
use crate::names::{Color, PerColor};
use crate::pool::{Keeper, Pool};
use crate::process::{InheritError, Inherited, Notifier, status, watch};
use crate::proxy::{Capacity, ListenError, Listener, Refusal, Workers};
use crate::table::{Edge, Entry, Routes, Service, Switchboard, Table};
use crate::time;

/// A running proxy.
pub struct App {
    workers: Workers,
    admin: Admin,
    switchboard: Arc<Switchboard>,
    told: broadcast::Sender<Told>,
    /// Where the config asks for one.
    pub access_log: Option<Arc<AccessLog>>,
    /// The real addresses of the listeners, in the order of the config.
    pub listeners: Vec<Arc<Listener>>,
}

impl App {
    /// Builds every room and starts it. Must be called on the deciding runtime, where everything but the workers runs.
    ///
    /// What can fail on what stands outside comes first and in an order that leaves nothing half done: the journal,
    /// then the sockets, then the access log. Only then does anything run.
    pub async fn start(config: &Config, workers: usize, inherited: Inherited) -> Result<App, AppError> {
        let journal = Journal::open(&config.state.dir)?;
        let handed = inherited.share_out(config)?;
        let mut listeners = Vec::new();
        for (listener, sockets) in config.listeners.iter().zip(&handed.listeners) {
            let (listener, sockets) = Listener::bind(listener, workers, sockets)?;
            listeners.push((Arc::new(listener), sockets));
        }
        let access_log = config.access_log.as_ref().map(|log| AccessLog::open(log, workers)).transpose()?;
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
        let capacity = Arc::new(Capacity::default());
        let scene = Scene {
            desks,
            journal,
            listeners: known.clone(),
            nowhere: nowhere.clone(),
            capacity: capacity.clone(),
            access_log: access_log.clone(),
            told: told.clone(),
            started: time::now(),
        };
        let admin = Admin::start(&config.admin, scene, handed.admin).await?;
        keepers.into_iter().flatten().for_each(|keeper| drop(tokio::spawn(keeper.run())));
        first_checks(&switchboard.table()).await;
        let workers = Workers::start(&switchboard, &nowhere, listeners, capacity, access_log.as_ref());
        let workers = workers.map_err(AppError::Workers)?;
        drivers.into_iter().for_each(|driver| drop(tokio::spawn(driver.run())));
        Ok(App { workers, admin, switchboard, told, access_log, listeners: known })
    }

    /// Says that the proxy serves once every worker has answered, and from then on who is live and that all still answer.
    pub async fn report(&self, notifier: &Notifier, watchdog: Option<Duration>) -> Result<JoinHandle<()>, AppError> {
        let missing = self.switchboard.roll_call(BEGINNING).await;
        if let Some(worker) = missing.first() {
            return Err(AppError::Stuck { worker: *worker });
        }
        notifier.ready(&status(&self.switchboard.table()));
        Ok(tokio::spawn(watch(notifier.clone(), self.switchboard.clone(), self.told.subscribe(), watchdog)))
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
    AccessLog(#[from] AccessError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error("the workers cannot be started: {0}")]
    Workers(#[source] std::io::Error),
    #[error("worker {worker} has been started and does not answer")]
    Stuck { worker: usize },
}

fn build(config: &config::Service, workers: usize, refusals: Box<[Arc<RefusalSheet>]>) -> (Arc<Service>, Vec<Keeper>) {
    let mut keepers = Vec::new();
    let pools = PerColor::from_fn(|color| {
        let (pool, keeper) = Pool::new(config, color, &[], workers);
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

/// Whoever connects before the live endpoints have been checked waits in the socket, and is not told that there are none.
async fn first_checks(table: &Table) {
    let all = async {
        for entry in &table.entries {
            entry.service.pools[entry.live].checked().await;
        }
    };
    // Those that take longer must not keep others waiting.
    let _ = tokio::time::timeout(FIRST_CHECKS, all).await;
}

const FIRST_CHECKS: Duration = Duration::from_secs(2);
/// How long the workers may take to come to work.
const BEGINNING: Duration = Duration::from_secs(10);
/// Events that a slow listener may fall behind before it misses some.
const EVENTS: usize = 1024;
