//! The whole proxy as one value: built from a config, started in order, changed by reloads, stopped in reverse.

mod accounts;
mod apply;
mod build;
mod followers;
mod foremen;
mod groundwork;
mod plan;
mod reload;
mod renew;
mod running;
mod scouts;
mod warmth;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::accounts::Accounts;
use self::build::Tasks;
use self::followers::Followers;
use self::foremen::Foremen;
use self::groundwork::Groundwork;
use self::reload::Reloader;
use self::running::Running;
use self::scouts::Scouts;
use self::warmth::{Cold, warm_up};
use self::watch::Watch;
use crate::access_log::{AccessError, Shelf};
use crate::admin::{Admin, AdminError, AskReload, Scene};
use crate::config::{Config, EdgeTimeouts};
use crate::cutover::{Desk, Stage};
use crate::journal::{Journal, JournalError};
use crate::process::{InheritError, Inherited, Notifier, status, watch};
use crate::proxy::{ListenError, Listener, Workers};
use crate::seal::SealError;
use crate::table::{Switchboard, Table};

/// A running proxy.
pub struct App {
    workers: Workers,
    admin: Admin,
    scene: Arc<Scene>,
    /// Where lines about requests go.
    pub access_log: Arc<Shelf>,
    /// The real addresses of the listeners it was started with, in the order of the config.
    pub listeners: Vec<Arc<Listener>>,
}

/// What a proxy has from whoever starts it.
#[derive(Default)]
pub struct Outside {
    /// What a reload reads again, if the config is from a file.
    pub file: Option<PathBuf>,
    pub inherited: Inherited,
    pub notifier: Notifier,
}

impl App {
    /// Builds every room and starts it. Must be called on the deciding runtime, where everything but the workers runs.
    ///
    /// What can fail on what stands outside comes first, in an order that leaves nothing half done. Only then does anything
    /// run. Clients wait in the sockets until what is live has been checked and warmed up; `hurry` lets them in at once.
    pub async fn start(
        config: &Config,
        workers: usize,
        outside: Outside,
        hurry: impl Future<Output = ()>,
    ) -> Result<App, AppError> {
        let Outside { file, inherited, notifier } = outside;
        let groundwork = Groundwork::lay(config, workers, file.clone(), inherited).await?;
        let Groundwork { config, scene, sockets, admin, mut tasks, asks } = groundwork;
        let listeners: Vec<_> = sockets.iter().map(|(listener, _)| listener.clone()).collect();
        // Whoever is let in must not be told that a color is no stack.
        let (mut foremen, mut accounts) = (Foremen::default(), Accounts::default());
        foremen.follow(&config, &scene, &mut accounts).await;
        let admin = Admin::start(&config.admin, scene.clone(), admin).await?;
        tasks.iter_mut().for_each(Tasks::check);
        first_checks(&scene.switchboard.table()).await;
        let crew = crew(&scene).map_err(AppError::Workers)?;
        tasks.into_iter().for_each(Tasks::drive);
        let cold = scene.switchboard.table().entries.iter().filter_map(Cold::at_start).collect();
        let is_to_end = warm_up(&scene.switchboard, cold, &notifier, hurry).await;
        let doors = crew.doors();
        for (listener, sockets) in sockets {
            doors.open(&listener, sockets).await;
        }
        scene.stage.send_replace(if is_to_end { Stage::Ending } else { Stage::Serving });
        let mut followers = Followers::default();
        followers.follow(&config, &scene, &mut accounts).await;
        foremen.begin();
        let (mut scouts, proposals) = Scouts::new();
        scouts.follow(&config, &scene, &mut accounts).await;
        let running = Running::new(&config, listeners.iter().map(|listener| listener.address), admin.address);
        let watch = Watch::default();
        let reloader = Reloader {
            file,
            running,
            scene: scene.clone(),
            doors,
            followers,
            foremen,
            scouts,
            accounts,
            workers,
            watch,
            notifier,
        };
        tokio::spawn(reloader.run(asks, proposals));
        tokio::spawn(Journal::watch(Arc::downgrade(&scene.journal)));
        Ok(App { workers: crew, admin, access_log: scene.access_log.clone(), scene, listeners })
    }

    /// Says that the proxy serves once every worker has answered, and from then on who is live and that all still answer.
    pub async fn report(&self, notifier: &Notifier, watchdog: Option<Duration>) -> Result<JoinHandle<()>, AppError> {
        let switchboard = &self.scene.switchboard;
        let missing = switchboard.roll_call(BEGINNING).await;
        if let Some(worker) = missing.first() {
            return Err(AppError::Stuck { worker: *worker });
        }
        notifier.ready(&status(&switchboard.table()));
        Ok(tokio::spawn(watch(notifier.clone(), switchboard.clone(), self.scene.told.subscribe(), watchdog)))
    }

    /// Where the admin API listens on TCP, if it does.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.address
    }

    /// What the workers read their table from, for who holds the proxy as a value.
    pub fn switchboard(&self) -> &Arc<Switchboard> {
        &self.scene.switchboard
    }

    /// Has the config file read anew. What comes of it stands in the log.
    pub fn reload(&self, by: &str) {
        let (reply, _) = oneshot::channel();
        // Where so many wait already that there is no room, the file will be read after this all the same.
        let _ = self.scene.reload.try_send(AskReload { by: by.to_owned(), dry_run: false, reply });
    }

    /// What the end takes, by the config that runs now.
    pub fn ending(&self) -> EdgeTimeouts {
        self.scene.switchboard.table().edge.rules.timeouts.clone()
    }

    /// What the next start will not know, since it could not be written down; also asked once the proxy has stopped.
    pub fn unwritten(&self) -> impl Fn() -> Vec<String> + use<> {
        let scene = self.scene.clone();
        move || {
            let desks = scene.desks.load();
            desks.iter().filter_map(Desk::unwritten).map(|unwritten| unwritten.to_string()).collect()
        }
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
    Seal(#[from] SealError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    AccessLog(#[from] AccessError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error("the workers cannot be started: {0}")]
    Workers(#[source] io::Error),
    #[error("worker {worker} has been started and does not answer")]
    Stuck { worker: usize },
}

fn crew(scene: &Scene) -> io::Result<Workers> {
    Workers::start(&scene.switchboard, &scene.nowhere, scene.capacity.clone(), scene.access_log.current())
}

/// Whoever connects before the endpoints have been checked that requests go to waits in the socket, and is not told that
/// there are none.
async fn first_checks(table: &Table) {
    let all = async {
        for entry in &table.entries {
            for pool in entry.pools(true) {
                pool.checked().await;
            }
        }
    };
    // Those that take longer must not keep others waiting.
    let _ = tokio::time::timeout(FIRST_CHECKS, all).await;
}

const FIRST_CHECKS: Duration = Duration::from_secs(2);
/// How long the workers may take to come to work.
const BEGINNING: Duration = Duration::from_secs(10);
