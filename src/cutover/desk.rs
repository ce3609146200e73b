//! The desk of a service: where wishes are handed in, and where everyone sees how far the cutover is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::driver::Mail;
use super::figures::Figures;
use super::machine::{Cutover, Phase};
use super::pause::{Ask, Matter, Paused};
use super::preview::{PreviewAsk, Want};
use crate::config::Drain;
use crate::journal::Journal;
use crate::names::{Color, ServiceName};
use crate::pool::Readiness;
use crate::table::{Entry, Preview, Service, Switchboard};
use crate::time::{Human, Timestamp};

/// What an operator wants of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    Switch { to: Color, by: String, reason: Option<String> },
    Rollback { by: String, reason: Option<String> },
    Abort { by: String },
}

/// What has become of a wish.
#[derive(Clone, Debug, PartialEq)]
pub enum Granted {
    /// A new cutover is under way: its outcome can be waited for.
    Begun(Box<Cutover>),
    /// The cutover that was under way is on its way back, or aborted.
    Turned(Box<Cutover>),
    /// The color is live already: nothing to do, and nothing done.
    Already { live: Color, since: Timestamp },
}

/// Why a wish is not granted. Nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Denied {
    #[error("{} has held the service since {} with cutover {} to {} ({})", .0.by, .0.started, .0.id, .0.to, .0.phase.as_str())]
    Held(Box<Cutover>),
    #[error("there is no cutover to abort")]
    NothingToAbort,
    #[error("cutover {} has switched already, so it cannot be aborted; `cutover rollback` goes back", .0.id)]
    TooLate(Box<Cutover>),
    #[error("{color} is not healthy now: {}", reasons.join("; "))]
    Unhealthy { color: Color, reasons: Vec<String> },
    #[error("{0} is live: everyone sees it already")]
    LiveAlready(Color),
    #[error("{0}; nothing has changed")]
    Journal(String),
    #[error("the service has just been taken out of the config")]
    Gone,
    #[error("the proxy is stopping")]
    Stopping,
}

/// How far a cutover should be before the one who waits for it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The new color is live on every worker.
    Live,
    /// The old color is empty, or its deadline has passed.
    Drained,
}

/// One service's desk; clones hand in at the same one.
#[derive(Clone)]
pub struct Desk {
    pub(super) service: Arc<Service>,
    pub figures: Arc<Figures>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) journal: Arc<Journal>,
    pub(super) mail: mpsc::Sender<Mail>,
    /// The newest cutover; it stays here when it has ended.
    pub(super) newest: watch::Receiver<Option<Cutover>>,
}

impl Desk {
    pub fn name(&self) -> &ServiceName {
        &self.service.name
    }

    /// The service as it is now.
    pub fn service(&self) -> Arc<Service> {
        self.switchboard.newest(&self.service)
    }

    /// Has the driver wait while the service is changed; not where that would disturb a cutover.
    pub async fn pause(&self, matter: Matter) -> Result<Paused, Denied> {
        let (ask, answer) = Ask::new(matter);
        self.mail.send(Mail::Pause(ask)).await.map_err(|_| Denied::Gone)?;
        answer.await.map_err(|_| Denied::Gone)?
    }

    /// Opens the color that is not live to those who are invited, until the preview expires or is closed, or the service
    /// is switched; `None` closes it.
    pub async fn preview(&self, preview: Option<Preview>) -> Result<(), Denied> {
        let (ask, answer) = PreviewAsk::new(preview.map_or(Want::Close, Want::Open));
        self.mail.send(Mail::Preview(ask)).await.map_err(|_| Denied::Stopping)?;
        answer.await.map_err(|_| Denied::Stopping)?
    }

    /// Hands in a wish and waits for the word on it, which comes at once except for a rollback, whose color is checked.
    pub async fn ask(&self, wish: Wish) -> Result<Granted, Denied> {
        let (reply, answer) = oneshot::channel();
        self.mail.send(Mail::Wish(wish, reply)).await.map_err(|_| Denied::Stopping)?;
        answer.await.map_err(|_| Denied::Stopping)?
    }

    /// The cutover `begun` once it is as far as that from where it was then, or has ended; `None` where `within` is over
    /// first.
    pub async fn outcome(&self, begun: &Cutover, until: Until, within: Duration) -> Option<Cutover> {
        let is_live = |cutover: &Cutover| {
            matches!(cutover.phase, Phase::Drain | Phase::DrainBack) && cutover.generation() > begun.generation()
        };
        let reached = |cutover: &Cutover| cutover.phase.ends() || until == Until::Live && is_live(cutover);
        let mut newest = self.newest.clone();
        let wait =
            newest.wait_for(|newest| newest.as_ref().is_some_and(|newest| newest.id != begun.id || reached(newest)));
        let seen = tokio::time::timeout(within, wait).await.ok()?.ok()?.clone();
        // Where a later one has taken its place, this one has ended, and the journal knows how.
        seen.filter(|cutover| cutover.id == begun.id).or_else(|| self.journal.find(&begun.id))
    }

    /// For whoever wants to hear of each state of a cutover.
    pub fn watch(&self) -> watch::Receiver<Option<Cutover>> {
        self.newest.clone()
    }

    /// The newest cutover, which may have ended.
    pub fn newest(&self) -> Option<Cutover> {
        self.newest.borrow().clone()
    }

    /// The cutover that is under way.
    pub fn current(&self) -> Option<Cutover> {
        self.newest.borrow().clone().filter(|cutover| !cutover.phase.ends())
    }

    /// What the table says about the service now.
    pub fn entry(&self) -> Option<Entry> {
        self.switchboard.table().entry(self.name()).cloned()
    }

    /// What `switch` would do now, step by step, with a fresh look at the color's health. Changes nothing.
    pub async fn rehearse(&self, to: Color) -> Plan {
        let service = self.service();
        let (rules, pools) = (&service.rules.cutover, &service.pools);
        let live = self.entry().map_or(to.other(), |entry| entry.live);
        if live != to {
            pools[to].check_now().await;
        }
        let old = pools[to.other()].turnstile.inside();
        let reasons = match (live == to, pools[to].readiness(rules.min_healthy)) {
            (true, _) => vec![format!("{to} is live already: nothing to do")],
            (false, Readiness::Ready) => Vec::new(),
            (false, Readiness::Rising(reasons) | Readiness::Unready(reasons)) => reasons,
        };
        let held = self.current().map(|cutover| Denied::Held(Box::new(cutover)).to_string());
        let Drain { requests, tunnels } = &rules.drain;
        let (all, name, other) = (pools[to].health().len(), to.as_str(), to.other());
        let steps = vec![
            format!(
                "prepare: check the {all} endpoints of {name} now; {} of them must be up",
                rules.min_healthy.of(all)
            ),
            format!("switch: publish {name} to every worker, then close {other}"),
            format!("drain: wait up to {} for the requests inside {other}: {} now", Human(*requests), old.requests),
            format!("drain: wait up to {} for its tunnels: {} now; then close them", Human(*tunnels), old.tunnels),
        ];
        let would_switch = reasons.is_empty() && held.is_none();
        Plan { service: self.name().to_string(), live, to, would_switch, reasons, held, steps }
    }
}

/// What a switch would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub service: String,
    pub live: Color,
    pub to: Color,
    pub would_switch: bool,
    /// Why it would not, where it would not.
    pub reasons: Vec<String>,
    /// Who holds the service, where somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    pub steps: Vec<String>,
}
