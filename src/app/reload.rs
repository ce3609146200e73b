//! The reload: reads the config anew, plans what can fail, and only then changes what runs. One after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::followers::Followers;
use super::plan::Plan;
use super::renew::Renewals;
use super::running::{Running, Step};
use super::watch::{self, Watch};
use crate::admin::{AskReload, ChangeView, ReloadError, Reloaded, Scene};
use crate::config::{Config, Finding, Mistake, Report};
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
    pub workers: usize,
    pub watch: Watch,
    pub notifier: Notifier,
}

impl Reloader {
    pub async fn run(mut self, mut asks: mpsc::Receiver<AskReload>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask).await,
                    None => return,
                },
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
        let Step { to, changes, needs_restart } = self.running.step(config);
        let looks = looks(&to.config).await;
        let renewals = Renewals::find(&self.running.config, &to.config, &self.scene).await?;
        let is_other = !changes.is_empty();
        let changes: Vec<_> = changes.into_iter().map(ChangeView::from).chain(renewals.says.clone()).collect();
        let mut workers_answered = None;
        let outcome = match (changes.is_empty(), dry_run) {
            (true, _) => "unchanged",
            (false, true) => "would_apply",
            (false, false) => {
                if is_other {
                    let plan = Plan::make(to, &self.running.config, &self.scene, self.workers).await?;
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
            warnings: report.warnings.iter().map(|warning| says(&report, warning)).collect(),
            table_version: self.scene.switchboard.table().version,
            workers: self.workers,
            workers_answered,
        })
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

/// A mistake or a warning on one line.
fn says(report: &Report, mistake: &Mistake) -> String {
    let Mistake { line, column, message, help, .. } = mistake;
    format!("{}:{line}:{column}: {message}: {}", report.path, help.as_deref().unwrap_or_default())
}

/// How often the files are looked at. They are read when they look the same twice.
const LOOK: Duration = Duration::from_secs(2);
