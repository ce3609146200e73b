//! The groundwork of a start: what it takes from outside, and what it builds of that and the config, with nothing running yet.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use super::build::{Draft, Met, Tasks, sheets};
use super::{AppError, scouts};
use crate::access_log::{AccessLog, Shelf};
use crate::admin::{AskReload, ConfigState, Scene, Token};
use crate::aws::Account;
use crate::config::{Config, EdgeLimits};
use crate::cutover::{Cutover, Stage};
use crate::journal::{Journal, JournalError, Vital};
use crate::process::{self, Handed, Inherited};
use crate::proxy::{Capacity, Listener, Listeners};
use crate::seal::Seal;
use crate::table::{Edge, Routes, Switchboard, Table};
use crate::time;

pub struct Groundwork {
    /// With the endpoints that the journal knows of.
    pub config: Config,
    pub scene: Arc<Scene>,
    /// In the order of the config.
    pub sockets: Vec<(Arc<Listener>, Vec<TcpListener>)>,
    /// The admin socket, where it is inherited.
    pub admin: Option<UnixListener>,
    /// In the order of the config.
    pub tasks: Vec<Tasks>,
    pub asks: mpsc::Receiver<AskReload>,
}

impl Groundwork {
    /// `file` is what a reload reads again, if there is one.
    pub async fn lay(
        config: &Config,
        workers: usize,
        file: Option<PathBuf>,
        inherited: Inherited,
    ) -> Result<Groundwork, AppError> {
        Ok(Taken::from_outside(config, workers, inherited).await?.build(workers, file))
    }
}

/// What stands outside, in an order in which a start that fails leaves nothing half done.
struct Taken {
    config: Config,
    journal: Arc<Journal>,
    seal: Seal,
    sockets: Vec<(Arc<Listener>, Vec<TcpListener>)>,
    admin: Option<UnixListener>,
    access_log: Arc<Shelf>,
    token: Option<Token>,
}

impl Taken {
    async fn from_outside(config: &Config, workers: usize, inherited: Inherited) -> Result<Taken, AppError> {
        let journal = journal(&config.state.dir).await?;
        let seal = Seal::open(&config.state.dir)?;
        let config = scouts::seed(config.clone(), None, &journal);
        let Handed { listeners, admin } = inherited.share_out(&config)?;
        let mut sockets = Vec::new();
        for (listener, handed) in config.listeners.iter().zip(&listeners) {
            let (listener, bound) = Listener::bind(listener, workers, handed)?;
            sockets.push((Arc::new(listener), bound));
        }
        let access_log = config.access_log.as_ref().map(|log| AccessLog::open(log, workers)).transpose()?;
        let access_log = Arc::new(Shelf::new(access_log));
        let token = config.admin.token_file.as_deref().map(Token::read).transpose()?;
        Ok(Taken { config, journal, seal, sockets, admin, access_log, token })
    }

    fn build(self, workers: usize, file: Option<PathBuf>) -> Groundwork {
        let Taken { config, journal, seal, sockets, admin, access_log, token } = self;
        let services = config.services.iter().map(|service| Draft::new(service, &Met::default(), workers));
        let services: Vec<Draft> = services.collect();
        let table = Table {
            version: 1,
            edge: Arc::new(Edge::new(&config)),
            routes: Arc::new(Routes::new(&config.services)),
            entries: services.iter().map(|service| service.entry(&journal)).collect(),
        };
        let switchboard = Arc::new(Switchboard::new(table, workers).sealed(seal));
        let (told, _) = broadcast::channel(EVENTS);
        let listeners = sockets.iter().map(|(listener, _)| listener.clone()).collect();
        let listeners = Arc::new(Listeners::from_pointee(listeners));
        let stage = watch::Sender::new(Stage::Starting);
        let seat = |service: Draft| service.seat(&switchboard, &journal, &listeners, &told, stage.subscribe());
        let (desks, tasks): (Vec<_>, Vec<_>) = services.into_iter().map(seat).unzip();
        let (reload, asks) = mpsc::channel(RELOADS);
        let scene = Scene {
            desks: ArcSwap::from_pointee(desks),
            switchboard,
            journal,
            listeners,
            config: ConfigState::new(file),
            admin: ArcSwap::from_pointee(config.admin.clone()),
            reload,
            token: ArcSwapOption::from_pointee(token),
            nowhere: sheets(workers).into_vec(),
            capacity: Arc::new(capacity(&config.edge.limits)),
            access_log,
            aws: Arc::new(Account::sheet()),
            names: ArcSwap::default(),
            names_told: broadcast::channel(EVENTS).0,
            scouts: ArcSwap::default(),
            discovered: broadcast::channel(EVENTS).0,
            stacks: ArcSwap::default(),
            stacks_told: broadcast::channel(EVENTS).0,
            told,
            tails: broadcast::channel(EVENTS).0,
            stage,
            started: time::now(),
        };
        Groundwork { config, scene: Arc::new(scene), sockets, admin, tasks, asks }
    }
}

/// As many places for clients as there are to be, or as open files allow; that is said where it is less.
fn capacity(limits: &EdgeLimits) -> Capacity {
    let files = process::open_files();
    let capacity = Capacity::within(files);
    let (wanted, places) = (limits.connections, capacity.places(limits));
    if let Some(files) = files.filter(|_| places < wanted) {
        tracing::warn!(
            "{files} open files are allowed, which is room for {places} of the {wanted} client connections of \
             `edge.limits.connections`: raise LimitNOFILE= of the unit, or `ulimit -n`"
        );
    }
    capacity
}

/// A proxy that has been killed holds its journal for as long as the kernel takes to let go of its memory, and a command
/// that it was about to start until that is the command. Whoever starts the next one right behind it need not know.
async fn journal(dir: &Path) -> Result<Arc<Journal>, JournalError> {
    let until = Instant::now() + LETTING_GO;
    loop {
        match Journal::open(dir, &[Vital::topic::<Cutover>()]) {
            Err(JournalError::Locked { .. }) if Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
            opened => return opened,
        }
    }
}

/// How long another proxy may hold the journal before it is one that goes on.
const LETTING_GO: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Events that a slow listener may fall behind before it misses some.
const EVENTS: usize = 1024;
/// Reloads that may be asked for and not yet begun; whoever asks beyond that waits.
const RELOADS: usize = 16;
