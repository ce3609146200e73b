//! The desk of a service's names: where wishes are handed in, where a plan is made, and where everyone sees how far it is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::figures::Figures;
use super::hands::{Hands, attempt};
use super::plan::{self, Aim, Objection, Plan, Terms, lower_ttl, plan, ttl};
use super::shift::{Goal, Shift};
use super::status::Status;
use super::zone::{Batch, ZoneError};
use crate::config;
use crate::names::{Color, ServiceName, Side};

/// What an operator wants of a service's names.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub goal: Goal,
    /// Left out: where the service is.
    pub to: Option<Side>,
    pub by: String,
}

/// Why a wish is not granted. Nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Denied {
    #[error("the records of {0} say nothing for the proxy; add `proxy` to each `[[service.{0}.dns.record]]`")]
    NoProxy(ServiceName),
    #[error(
        "names are being moved to {0} just now, with a low TTL already; wait for that, or see `cutover dns status`"
    )]
    Moving(Side),
    #[error("{0}; nothing has changed")]
    Journal(String),
    #[error("the zone cannot be read: {0}")]
    Zone(#[from] ZoneError),
    #[error("the service's names have just been taken out of the config, or given other rules")]
    Gone,
}

/// A wish and who waits for the word on it: the id of the shift that has begun.
pub type Mail = (Wish, oneshot::Sender<Result<String, Denied>>);

/// One service's; clones hand in at the same one.
#[derive(Clone)]
pub struct Desk {
    pub service: ServiceName,
    pub figures: Arc<Figures>,
    pub(super) hands: Hands,
    pub(super) mail: mpsc::Sender<Mail>,
    pub(super) newest: watch::Receiver<Shift>,
    pub(super) status: watch::Receiver<Status>,
}

impl Desk {
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// For whoever wants to hear of each state.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    pub fn rules(&self) -> &config::Dns {
        &self.hands.rules
    }

    /// Hands in a wish: the id of the shift that is under way now.
    pub async fn ask(&self, wish: Wish) -> Result<String, Denied> {
        let (reply, answer) = oneshot::channel();
        self.mail.send((wish, reply)).await.map_err(|_| Denied::Gone)?;
        answer.await.map_err(|_| Denied::Gone)?
    }

    /// The status once the shift rests or another has taken its place; whether it did `within` that time.
    pub async fn outcome(&self, shift: &str, within: Duration) -> (Status, bool) {
        let mut status = self.status.clone();
        let rests = |status: &Status| status.shift != shift || status.rests();
        let over = tokio::time::timeout(within, status.wait_for(rests)).await;
        let rested = over.is_ok_and(|seen| seen.is_ok());
        (self.status(), rested)
    }

    /// What would be written to bring names to a side, batch by batch. Reads the zone and changes nothing.
    pub async fn plan(&self, to: Option<Side>) -> Result<Preview, Denied> {
        let shift = self.newest.borrow().clone();
        let to = to.unwrap_or(shift.to);
        if !can_lead(&self.hands.rules, to) {
            return Err(Denied::NoProxy(self.service.clone()));
        }
        let found = self.hands.look().await?;
        Ok(preview(&Shift { to, ..shift }, &self.hands, found))
    }

    /// The same for a switch that may come to that color.
    pub async fn plan_switch(&self, to: Color) -> Result<Preview, Denied> {
        self.plan(Some(Side::from(to))).await
    }
}

/// Whether every record has something to say for that side.
pub fn can_lead(rules: &config::Dns, side: Side) -> bool {
    rules.records.iter().all(|record| record.target(side).is_some())
}

/// What would be written, in the order in which it would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    pub service: ServiceName,
    pub zone: String,
    pub to: Side,
    /// Empty: the zone says so already.
    pub batches: Vec<Written>,
    /// Why nothing would be written.
    pub objection: Option<Objection>,
}

/// A batch as it would be sent. Attempt and time of its marks are chosen when it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// `lower`, `move` or `restore`.
    pub step: String,
    pub batch: Batch,
}

fn preview(shift: &Shift, hands: &Hands, mut found: Vec<super::RecordSet>) -> Preview {
    let (rules, to) = (&*hands.rules, shift.to);
    let mut preview =
        Preview { service: shift.service.clone(), zone: rules.zone.clone(), to, batches: Vec::new(), objection: None };
    let leads = plan::same(plan::own(rules, &found), &plan::leading(rules, to, 0), false);
    let whole = [
        ("lower", Aim::Lower(lower_ttl(rules), to)),
        ("move", Aim::Lead(to, lower_ttl(rules))),
        ("restore", Aim::Lead(to, ttl(rules))),
    ];
    let mut ours = shift.ours.clone();
    // Names that lead there already only get the TTL that they should have.
    for (step, aim) in &whole[if leads { 2 } else { 0 }..] {
        let (known, attempt) = (ours.clone(), attempt());
        let terms = Terms { ours: &known, ..shift.terms(rules, &attempt, hands.clock.now()) };
        match plan(rules, *aim, &found, &terms) {
            Plan::Equal => {}
            Plan::Stop(objection) => {
                preview.objection = Some(*objection);
                break;
            }
            Plan::Write(draft) => {
                found = plan::after(&found, &draft.batch);
                ours.push(attempt);
                preview.batches.push(Written { step: (*step).to_owned(), batch: draft.batch });
            }
        }
    }
    preview
}
