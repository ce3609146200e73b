//! `POST /v1/reload`: has the config file read anew, and says what came of it. What is known of the file stands here too.

use std::path::PathBuf;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::AdminError;
use crate::access_log::AccessError;
use crate::config::{Change, Mistake, Report};
use crate::cutover::Denied;
use crate::metrics::Counter;
use crate::names::{Color, ServiceName};
use crate::proxy::{ListenError, TlsError};
use crate::time::{self, Timestamp};

/// An order to whoever can reload.
pub struct AskReload {
    pub by: String,
    /// Only say what would change.
    pub dry_run: bool,
    /// Nobody may be listening any more.
    pub reply: oneshot::Sender<Result<Reloaded, ReloadError>>,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// `applied`; `unchanged` where there was nothing to do; `would_apply` where it was only asked for.
    pub outcome: String,
    pub file: String,
    pub at: Timestamp,
    pub by: String,
    pub changes: Vec<ChangeView>,
    /// What only a start reads, and therefore is as it was.
    pub needs_restart: Vec<ChangeView>,
    /// What is right but doubtful in the file.
    pub warnings: Vec<String>,
    /// The table that every worker reads now.
    pub table_version: u64,
    pub workers: usize,
    /// Where a table was published: how many have answered with it.
    pub workers_answered: Option<usize>,
}

/// One thing that says something else now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeView {
    pub key: String,
    pub from: Value,
    pub to: Value,
    /// The same for people.
    pub says: String,
}

/// Why the config was not taken over. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("{0}")]
    Config(Box<Report>),
    #[error("{service}: {denied}")]
    Denied { service: ServiceName, denied: Denied },
    #[error(
        "{service}: {color} serves clients, and no endpoint of it would be up: {}; add one that is, or have the other \
         color serve them first",
        reasons.join("; ")
    )]
    Bereft { service: ServiceName, color: Color, reasons: Vec<String> },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    AccessLog(#[from] AccessError),
    #[error(transparent)]
    Token(#[from] AdminError),
    #[error("this proxy was not started from a file, so there is none to read anew")]
    NoFile,
    #[error("the proxy is stopping")]
    Stopping,
}

impl ReloadError {
    /// On one line, and without the lines of the file: everyone who may look at the status sees it.
    fn brief(&self) -> String {
        let ReloadError::Config(report) = self else { return self.to_string() };
        let more = match report.mistakes.len() {
            0 | 1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        report.mistakes.first().map_or(report.path.clone(), |Mistake { line, column, message, .. }| {
            format!("{}:{line}:{column}: {message}{more}", report.path)
        })
    }
}

/// What is known of the config that runs. Written by whoever reloads; read by status and metrics.
pub struct ConfigState {
    view: ArcSwap<ConfigView>,
    /// In the order of [`ConfigState::OUTCOMES`].
    counts: [Counter; 3],
    told: broadcast::Sender<ReloadTold>,
}

/// What listeners to events hear of a reload.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadTold {
    pub at: Timestamp,
    pub by: String,
    /// `applied`, `unchanged` or `refused`.
    pub outcome: String,
    /// What says something else now, for people.
    pub changes: Vec<String>,
    /// Why it was refused.
    pub why: Option<String>,
}

/// In the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigView {
    pub file: Option<String>,
    /// When the file was last read and found to say what runs since then.
    pub loaded: Timestamp,
    /// Why the last reload was refused, if it was.
    pub refused: Option<RefusedReload>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedReload {
    pub at: Timestamp,
    pub by: String,
    pub why: String,
}

/// Hands in the order and waits for what comes of it.
pub async fn ask(orders: &mpsc::Sender<AskReload>, by: String, dry_run: bool) -> Result<Reloaded, ReloadError> {
    let (reply, answer) = oneshot::channel();
    orders.send(AskReload { by, dry_run, reply }).await.map_err(|_| ReloadError::Stopping)?;
    answer.await.map_err(|_| ReloadError::Stopping)?
}

impl ConfigState {
    pub const OUTCOMES: [&str; 3] = ["applied", "unchanged", "refused"];

    pub fn new(file: Option<PathBuf>) -> ConfigState {
        let file = file.map(|file| file.display().to_string());
        let view = ConfigView { file, loaded: time::now(), refused: None };
        ConfigState { view: ArcSwap::from_pointee(view), counts: Default::default(), told: broadcast::channel(HEARD).0 }
    }

    pub fn view(&self) -> ConfigView {
        (*self.view.load_full()).clone()
    }

    /// Every reload from now on.
    pub fn told(&self) -> broadcast::Receiver<ReloadTold> {
        self.told.subscribe()
    }

    /// How many reloads have ended so, by the place of the outcome.
    pub fn count(&self, place: usize) -> u64 {
        self.counts[place].get()
    }

    /// A reload by `by` has ended.
    pub fn note(&self, by: &str, result: &Result<Reloaded, ReloadError>) {
        let view = self.view();
        let told = ReloadTold::of(by, result);
        let view = match result {
            Ok(_) => ConfigView { loaded: told.at, refused: None, ..view },
            Err(_) => {
                let why = told.why.clone().unwrap_or_default();
                ConfigView { refused: Some(RefusedReload { at: told.at, by: by.to_owned(), why }), ..view }
            }
        };
        if let Some(place) = ConfigState::OUTCOMES.iter().position(|known| *known == told.outcome) {
            self.counts[place].add(1);
            self.view.store(view.into());
            // Nobody may be listening.
            let _ = self.told.send(told);
        }
    }
}

impl ReloadTold {
    fn of(by: &str, result: &Result<Reloaded, ReloadError>) -> ReloadTold {
        let by = by.to_owned();
        match result {
            Ok(Reloaded { outcome, at, changes, .. }) => {
                let changes = changes.iter().map(|change| change.says.clone()).collect();
                ReloadTold { at: *at, by, outcome: outcome.clone(), changes, why: None }
            }
            Err(error) => {
                let (outcome, why) = ("refused".to_owned(), Some(error.brief()));
                ReloadTold { at: time::now(), by, outcome, changes: Vec::new(), why }
            }
        }
    }
}

impl ChangeView {
    /// The key says the same, and what it names is another: a certificate, a token.
    pub fn renewed(key: String, what: &str) -> ChangeView {
        ChangeView { says: format!("{key}: {what}"), key, from: Value::Null, to: Value::Null }
    }
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> ChangeView {
        let says = change.to_string();
        ChangeView { key: change.key, from: change.from, to: change.to, says }
    }
}

/// Reloads that a slow listener may fall behind before it misses some.
const HEARD: usize = 64;
