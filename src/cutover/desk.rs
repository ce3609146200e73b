//! The desk of a service: where wishes are handed in, and where everyone sees how far the cutover is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::driver::Mail;
use super::figures::Figures;
use super::follow::{Names, Told};
use super::judge::Judgement;
use super::order::Order;
use super::pause::{Ask, Matter, Paused};
use super::preview::{self, PreviewAsk, Want};
use super::recorder::Recorder;
use super::state::{Cutover, Kind, Phase};
use super::unwritten::Unwritten;
use crate::journal::Journal;
use crate::names::{Color, ServiceName};
use crate::pool::{Pool, Readiness};
use crate::seal::Invitation;
use crate::table::{Entry, Service, Switchboard};
use crate::time::Timestamp;

/// What an operator wants of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    Switch {
        to: Color,
        by: String,
        reason: Option<String>,
    },
    Rollback {
        by: String,
        reason: Option<String>,
        /// The color to leave; without it the one that is live, whichever that is by then.
        from: Option<Color>,
    },
    Abort {
        by: String,
    },
    /// To open the gates that wait for an operator, or the one of this name; to go on after a pause.
    Approve {
        by: String,
        gate: Option<String>,
    },
}

impl Wish {
    pub fn by(&self) -> &str {
        match self {
            Wish::Switch { by, .. } | Wish::Rollback { by, .. } | Wish::Abort { by } | Wish::Approve { by, .. } => by,
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wish::Switch { to, .. } => write!(f, "the switch to {to}"),
            Wish::Rollback { .. } => f.write_str("the rollback"),
            Wish::Abort { .. } => f.write_str("the abort"),
            Wish::Approve { .. } => f.write_str("the approval"),
        }
    }
}

/// What has become of a wish.
#[derive(Clone, Debug, PartialEq)]
pub enum Granted {
    /// A new cutover is under way: its outcome can be waited for.
    Begun(Box<Cutover>),
    /// The cutover that was under way is on its way back, or aborted.
    Turned(Box<Cutover>),
    /// It goes on, or waits for one thing less.
    Approved(Box<Cutover>),
    /// The color is live already: nothing to do, and nothing done.
    Already { live: Color, since: Timestamp },
    /// These orders waited for their turn, and are taken back.
    TakenBack { live: Color, orders: Vec<String> },
}

/// Why a wish is not granted. Nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Denied {
    #[error("{} has held the service since {} with cutover {} to {} ({})", .0.by, .0.started, .0.id, .0.to, .0.phase.as_str().replace('_', " "))]
    Held(Box<Cutover>),
    #[error("clients have left {from}: {live} is live since {since}")]
    Left { from: Color, live: Color, since: Timestamp },
    #[error("{}", back_already(.0))]
    BackAlready(Box<Cutover>),
    #[error("there is no cutover to abort")]
    NothingToAbort,
    #[error("{}", nothing_to_approve(.0.as_deref()))]
    NothingToApprove(Option<Box<Cutover>>),
    #[error("cutover {} has switched already, so it cannot be aborted; `cutover rollback` goes back", .0.id)]
    TooLate(Box<Cutover>),
    #[error("{color} is not healthy now: {}", reasons.join("; "))]
    Unhealthy { color: Color, reasons: Vec<String> },
    #[error(
        "{} is not healthy now, and gets everyone back as soon as it is; `cutover approve {}` goes on with {} instead: {}",
        .0.from, .0.service, .0.to, .0.evidence.reasons.join("; ")
    )]
    Stuck(Box<Cutover>),
    #[error("{0} is live: everyone sees it already")]
    LiveAlready(Color),
    #[error("{0}; nothing has changed")]
    Journal(String),
    #[error("the service has just been taken out of the config")]
    Gone,
    #[error("the proxy is stopping")]
    Stopping,
    #[error("{0} has not begun, and is dropped")]
    NotBegun(String),
    #[error("{what} was taken back by {by} before it began; nothing has changed")]
    TakenBack { what: String, by: String },
    #[error("{0} orders wait for their turn already; nothing has changed")]
    Crowded(usize),
}

/// How far a cutover should be before the one who waits for it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The new color is live on every worker.
    Live,
    /// The old color is empty, or its deadline has passed.
    Drained,
    /// All of it: the new color is good, and names follow.
    Done,
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
    /// How the new color does, while it is judged.
    pub(super) trial: watch::Receiver<Option<Judgement>>,
    pub(super) unwritten: watch::Receiver<Option<Unwritten>>,
    pub(super) names: Arc<Names>,
    pub(super) recorder: Arc<Recorder>,
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

    /// Opens the color that is not live to those who have the invitation that comes back, until that expires, previews are
    /// ended, or the service is switched.
    pub async fn preview(&self, to: Color, until: Timestamp) -> Result<Invitation, Denied> {
        let opened = self.ask_for(Want::Open { to, until }).await?;
        Ok(Invitation::new(to, opened, until))
    }

    /// Whoever has been invited is no longer.
    pub async fn end_previews(&self) -> Result<(), Denied> {
        self.ask_for(Want::Close).await.map(drop)
    }

    async fn ask_for(&self, want: Want) -> preview::Answer {
        let (ask, answer) = PreviewAsk::new(want);
        self.mail.send(Mail::Preview(ask)).await.map_err(|_| Denied::Stopping)?;
        answer.await.map_err(|_| Denied::Stopping)?
    }

    /// Hands in a wish and waits for the word on it, which comes at once except for a rollback, whose color is checked, and
    /// before clients are let in. Where `within` is over before its turn, or this is dropped, it never begins; `None` where
    /// it has begun and there is no word on it yet.
    pub async fn ask(&self, wish: Wish, within: Duration) -> Result<Option<Granted>, Denied> {
        let (what, asked) = (wish.to_string(), Instant::now());
        let (order, mut turn) = Order::new(wish);
        let taken = async {
            self.mail.send(Mail::Order(order)).await.map_err(|_| Denied::Stopping)?;
            (&mut turn).await.map_err(|_| Denied::Stopping)
        };
        let word = match timeout(within, taken).await {
            Ok(word) => word?,
            Err(_) => {
                turn.close();
                // It may have come at this moment.
                turn.try_recv().map_err(|_| Denied::NotBegun(what))?
            }
        };
        match timeout(within.saturating_sub(asked.elapsed()), word).await {
            Ok(word) => word.map_err(|_| Denied::Stopping)?.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The cutover `begun` once it is as far as that from where it was then, or has ended, or waits for an operator;
    /// `None` where `within` is over first.
    pub async fn outcome(&self, begun: &Cutover, until: Until, within: Duration) -> Option<Cutover> {
        let reached = |cutover: &Cutover| cutover.phase.ends() || is_as_far(cutover, begun, until);
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

    /// The cutover as it is by now: what is only told, such as reasons to wait, is not written down.
    pub fn as_told(&self, written: Cutover) -> Cutover {
        let Some(mut told) = self.newest().filter(|told| told.id == written.id) else { return written };
        told.evidence.judged = self.trial().or(told.evidence.judged);
        told
    }

    /// The newest cutover, which may have ended.
    pub fn newest(&self) -> Option<Cutover> {
        self.newest.borrow().clone()
    }

    /// How the new color does, while it is judged.
    pub fn trial(&self) -> Option<Judgement> {
        self.trial.borrow().clone()
    }

    /// What a restart would not know yet.
    pub fn unwritten(&self) -> Option<Unwritten> {
        self.unwritten.borrow().clone()
    }

    /// Says who looks after the service's names now, `None` where nobody does.
    pub fn named_by(&self, told: Option<Told>) {
        self.names.send_replace(told);
    }

    /// Whether it would be safe to go back from where this cutover is, once it has switched.
    pub fn way_back(&self, cutover: &Cutover) -> Option<WayBack> {
        let is_there = matches!(cutover.phase, Phase::Drain | Phase::Bake | Phase::Dns | Phase::Paused);
        (is_there && cutover.live() == cutover.to).then(|| WayBack::of(&self.service(), cutover.from))
    }

    /// The cutover that is under way.
    pub fn current(&self) -> Option<Cutover> {
        self.newest.borrow().clone().filter(|cutover| !cutover.phase.ends())
    }

    /// What the table says about the service now.
    pub fn entry(&self) -> Option<Entry> {
        self.switchboard.table().entry(self.name()).cloned()
    }
}

/// Whether one who waits until then need wait no longer.
fn is_as_far(cutover: &Cutover, begun: &Cutover, until: Until) -> bool {
    // Whoever joins a rollback may have come behind its switch.
    let has_moved = cutover.generation() > begun.generation() || cutover.kind == Kind::Rollback;
    match cutover.phase {
        Phase::DrainBack => until == Until::Live,
        Phase::Drain => until == Until::Live && has_moved,
        Phase::Bake | Phase::Dns => until != Until::Done && has_moved,
        // Whoever waits may be the operator it waits for.
        Phase::Paused => begun.phase != Phase::Paused,
        _ => false,
    }
}

/// Who was quicker, and how to go on nevertheless.
fn back_already(cutover: &Cutover) -> String {
    let Cutover { id, service, by, to, ended, .. } = cutover;
    let (live, ended) = (cutover.live(), ended.unwrap_or(cutover.started));
    let what = match cutover.kind {
        Kind::Rollback => format!("{by} went back to it with cutover {id}, which ended {ended}"),
        Kind::Switch => {
            let outcome = cutover.phase.as_str().replace('_', " ");
            let why = cutover.evidence.reasons.join("; ");
            format!("cutover {id} of {by} to {to} was {outcome} at {ended}: {why}")
        }
    };
    format!("{live} is live already: {what}; to leave it all the same: `cutover rollback {service} --from {live}`")
}

fn nothing_to_approve(current: Option<&Cutover>) -> String {
    match current {
        None => "there is no cutover to approve".to_owned(),
        Some(cutover) => {
            let id = &cutover.id;
            match cutover.to_approve().map(|gate| gate.name.as_str()).collect::<Vec<_>>().as_slice() {
                [] => format!("cutover {id} waits for no operator's word {}", waits_for(cutover)),
                names => {
                    let names = names.join(", ");
                    format!("cutover {id} waits for no operator's word at a gate of that name; it does at {names}")
                }
            }
        }
    }
}

/// What it waits for instead, and what can be done about it.
fn waits_for(cutover: &Cutover) -> String {
    let Cutover { service, from, asked_back, .. } = cutover;
    match (cutover.phase, asked_back) {
        (Phase::Paused, Some(asked)) => {
            format!("just now: it was {asked}, and {from} is being checked; see `cutover status {service}`")
        }
        (Phase::Paused, None) => {
            format!("at a gate; it is paused for another reason, and `cutover approve {service}` goes on all the same")
        }
        (phase, _) => {
            let phase = phase.as_str().replace('_', " ");
            let why = match cutover.evidence.reasons.as_slice() {
                [] => String::new(),
                reasons => format!(" ({})", reasons.join("; ")),
            };
            let end = if cutover.comes_to_its_switch() { "abort" } else { "rollback" };
            format!(
                "now: it is in its phase {phase}{why}; follow it with `cutover status {service} --watch`, or undo it with \
                 `cutover {end} {service}`"
            )
        }
    }
}

/// The way back, as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WayBack {
    pub is_safe: bool,
    /// What speaks against it.
    pub reasons: Vec<String>,
}

impl WayBack {
    /// The old color has to be good, as large as the new one, and warm.
    fn of(service: &Service, old: Color) -> WayBack {
        let (pool, new) = (&service.pools[old], &service.pools[old.other()]);
        let mut reasons = match pool.readiness(service.rules.cutover.min_healthy) {
            Readiness::Ready => Vec::new(),
            Readiness::Rising(reasons) | Readiness::Unready(reasons) => reasons,
        };
        let (good, needed) = (pool.good(), new.good());
        if good < needed {
            reasons.push(format!("{good} endpoints of {old} are healthy, and {needed} of {}", old.other()));
        }
        let kept = |pool: &Pool| {
            pool.sheets.iter().map(|sheet| sheet.upstream_idle.get() + sheet.upstream_active.get()).sum::<i64>()
        };
        if kept(pool) == 0 && kept(new) > 0 {
            reasons.push(format!("{old} is cold: no connection to it is left"));
        }
        WayBack { is_safe: reasons.is_empty(), reasons }
    }
}
