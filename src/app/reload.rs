//! The reload: reads the config anew, plans what can fail, and only then changes what runs. One after the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::accounts::Accounts;
use super::followers::Followers;
use super::foremen::Foremen;
use super::plan::Plan;
use super::renew::Renewals;
use super::running::{Running, Step};
use super::scouts::{self, Scouts};
use super::watch::{self, Watch};
use crate::admin::{AskReload, ChangeView, ReloadError, Reloaded, Scene};
use crate::config::{Config, Finding, Mistake, Report, diff};
use crate::cutover::{Cutover, Matter};
use crate::discovery::{NotNow, Proposal};
use crate::names::{Color, ServiceName};
use crate::process::{Notifier, status};
use crate::proxy::{Doors, Purpose, inspect};
use crate::time;

/// Runs as one task on the deciding runtime, and is the only one that changes what runs.
pub struct Reloader {
    /// Left out: the config is from nowhere that could be read again.
    pub file: Option<PathBuf>,
    pub running: Running,
    pub scene: Arc<Scene>,
    pub doors: Doors,
    pub followers: Followers,
    pub scouts: Scouts,
    pub foremen: Foremen,
    pub accounts: Accounts,
    pub workers: usize,
    pub watch: Watch,
    pub notifier: Notifier,
}

impl Reloader {
    pub async fn run(mut self, mut asks: mpsc::Receiver<AskReload>, mut proposals: mpsc::Receiver<Proposal>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask).await,
                    None => return,
                },
                // It never ends: the scouts have its other end from here.
                Some(proposal) = proposals.recv() => self.settle(proposal).await,
                _ = ticks.tick() => {
                    self.forget_emptied();
                    self.look().await;
                }
            }
        }
    }

    async fn answer(&mut self, AskReload { by, dry_run, reply }: AskReload) {
        let result = match dry_run {
            true => self.reload(&by, dry_run).await,
            false => {
                let reloading = self.notifier.reloading();
                let result = self.reload(&by, dry_run).await;
                tell(&by, &result);
                self.scene.config.note(&by, &result);
                reloading.ended(status(&self.scene.switchboard.table()));
                result
            }
        };
        // Whoever asked may have gone; what was done is done.
        let _ = reply.send(result);
    }

    async fn reload(&mut self, by: &str, dry_run: bool) -> Result<Reloaded, ReloadError> {
        let file = self.file.clone().ok_or(ReloadError::NoFile)?;
        let path = file.display().to_string();
        let (config, report) = read(file).await?;
        let config = scouts::seed(config, Some(&self.running.config), &self.scene.journal);
        let Step { to, changes, needs_restart } = self.running.step(config);
        let looks = looks(&to.config).await;
        let renewals = Renewals::find(&self.running.config, &to.config, &self.scene).await?;
        let is_other = !changes.is_empty();
        let changes: Vec<_> = changes.into_iter().map(ChangeView::from).chain(renewals.says.clone()).collect();
        let mut workers_answered = None;
        let mut warnings: Vec<_> = report.warnings.iter().map(|warning| says(&report, warning)).collect();
        // As it is before the change, whose own effects may move it on.
        warnings.extend(self.scene.desks.load().iter().filter_map(|desk| keeps_its_course(&desk.current()?, &changes)));
        let outcome = match (changes.is_empty(), dry_run) {
            (true, _) => "unchanged",
            (false, true) => "would_apply",
            (false, false) => {
                if is_other {
                    let plan = self.plan(to, Matter::Endpoints).await?;
                    workers_answered = self.apply(plan).await.map(|published| published.answered);
                }
                renewals.apply(&self.scene);
                "applied"
            }
        };
        if !dry_run {
            self.watch.were_read(looks);
        }
        Ok(Reloaded {
            outcome: outcome.to_owned(),
            file: path,
            at: time::now(),
            by: by.to_owned(),
            changes,
            needs_restart: needs_restart.into_iter().map(ChangeView::from).collect(),
            warnings,
            table_version: self.scene.switchboard.table().version,
            workers: self.workers,
            workers_answered,
        })
    }

    async fn plan(&self, to: Running, matter: Matter) -> Result<Plan, ReloadError> {
        Plan::make(to, &self.running.config, &self.scene, self.workers, matter).await
    }

    /// Gives a color the endpoints that its scout believes in: what runs is the config with them in it, and becomes another
    /// one as by a reload.
    async fn settle(&mut self, proposal: Proposal) {
        let Proposal { service, color, endpoints, reply } = proposal;
        let mut to = self.running.clone();
        let known = to.config.services.iter_mut().find(|known| known.name == service);
        let settled = match known {
            Some(rules) if rules.stacks[color].discover.is_some() => {
                // Both colors may have been told of it at one time, and then the first has it.
                let taken = |endpoint: &&SocketAddr| rules.stacks[color.other()].endpoints.contains(endpoint);
                match endpoints.iter().find(taken) {
                    Some(endpoint) => Err(NotNow(format!("{endpoint} is an endpoint of {}", color.other()))),
                    None => {
                        rules.stacks[color].endpoints = endpoints;
                        self.take_over(to, &service, color).await
                    }
                }
            }
            _ => Err(NotNow("its endpoints are not discovered any more".to_owned())),
        };
        // Whoever asked may have gone; what was done is done.
        let _ = reply.send(settled);
    }

    async fn take_over(&mut self, to: Running, service: &ServiceName, color: Color) -> Result<(), NotNow> {
        let changes = diff(&self.running.config, &to.config);
        let plan = self.plan(to, Matter::Discovered).await.map_err(|error| NotNow(error.to_string()))?;
        self.apply(plan).await;
        changes.iter().for_each(|change| tracing::info!(%service, %color, "discovered: {change}"));
        Ok(())
    }

    /// Takes over certificates and keys that have become others, without being told.
    async fn look(&mut self) {
        let config = &self.running.config;
        if !self.watch.is_due(looks(config).await) {
            return;
        }
        match Renewals::find(config, config, &self.scene).await {
            Ok(renewals) => {
                renewals.says.iter().for_each(|change| tracing::info!("{}", change.says));
                renewals.apply(&self.scene);
            }
            Err(error) => tracing::warn!("{error}; what was read before stays in use"),
        }
    }

    /// Listeners that are shut are known for as long as they have connections.
    fn forget_emptied(&self) {
        let known = self.scene.listeners.load_full();
        if known.iter().any(|listener| listener.is_shut() && listener.open() == 0) {
            let kept = known.iter().filter(|listener| !listener.is_shut() || listener.open() > 0);
            self.scene.listeners.store(Arc::new(kept.cloned().collect()));
        }
    }
}

/// Reads the file and what it names. The deciding runtime is small, so it is not it that waits for a disk.
async fn read(file: PathBuf) -> Result<(Config, Report), ReloadError> {
    fn look(config: &Config) -> Vec<Finding> {
        inspect(config, Purpose::Serve, time::now())
    }
    let read = blocking(move || Config::load_with(&file, look)).await;
    read.map_err(|report| ReloadError::Config(Box::new(report)))
}

async fn looks(config: &Config) -> watch::Looks {
    let files = watch::files(config);
    if files.is_empty() { Vec::new() } else { blocking(move || watch::look(&files)).await }
}

pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

fn tell(by: &str, result: &Result<Reloaded, ReloadError>) {
    match result {
        Ok(Reloaded { outcome, file, changes, needs_restart, warnings, .. }) => {
            tracing::info!(changes = changes.len(), "reload by {by}: {file} is {outcome}");
            changes.iter().for_each(|change| tracing::info!("{}", change.says));
            needs_restart.iter().for_each(|change| tracing::warn!("{}: only a restart changes this", change.says));
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        Err(ReloadError::Config(report)) => {
            tracing::error!("reload by {by} refused, nothing has changed: {} is not right", report.path);
            report.mistakes.iter().for_each(|mistake| tracing::error!("{}", says(report, mistake)));
        }
        Err(error) => tracing::error!("reload by {by} refused, nothing has changed: {error}"),
    }
}

/// What a cutover that is under way makes of other rules for cutovers, where there are such.
fn keeps_its_course(cutover: &Cutover, changes: &[ChangeView]) -> Option<String> {
    let Cutover { id, service, phase, .. } = cutover;
    let section = format!("service.{service}.cutover.");
    let is_of_the_course = |change: &ChangeView| {
        let key = change.key.strip_prefix(&section)?.split('.').next()?;
        COURSE.contains(&key).then_some(())
    };
    changes.iter().find_map(is_of_the_course)?;
    let phase = phase.as_str().replace('_', " ");
    Some(format!(
        "{service}: cutover {id} is in its phase {phase} and keeps the gates, the number of steps and the deadline that it \
         began with; only how a later step goes is as the file says now"
    ))
}

/// A mistake or a warning on one line.
fn says(report: &Report, mistake: &Mistake) -> String {
    let Mistake { line, column, message, help, .. } = mistake;
    format!("{}:{line}:{column}: {message}: {}", report.path, help.as_deref().unwrap_or_default())
}

/// What a cutover's course is made of, under [service.X.cutover].
const COURSE: [&str; 6] = ["gate", "warm", "canary", "ramp", "bake", "deadline"];
/// How often the files are looked at. They are read when they look the same twice.
const LOOK: Duration = Duration::from_secs(2);
