//! The desk of a service's stacks: where orders are handed in, where stacks are listed, and where everyone sees how far it is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::figures::Figures;
use super::hands::Hands;
use super::order::{Kind, Obstacle, Order, Site, Verb};
use super::provider::{ProviderError, Stack};
use super::status::{OrderView, Status};
use crate::config::opsworks_ended;
use crate::journal::Journal;
use crate::names::{Color, PerColor, ServiceName};

/// What an operator wants of a service's stacks.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    Order { verb: Verb, color: Color, by: String, reason: Option<String>, force: Option<String> },
    Abort { by: String },
}

/// Why a wish is not granted. Nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Denied {
    #[error(
        "{} has held the stacks of {} since {} with order {} to {} {}; see `cutover stack status`, or end it with `cutover \
         stack abort`",
        .0.by, .0.service, .0.started, .0.id, .0.verb.as_str(), .0.color
    )]
    Held(Box<Order>),
    #[error(
        "the endpoints of {color} are not learned from a stack: write `discover = {{ opsworks = {{ stack = \"..\", port = 80 }} }}` \
         or `{{ asg = {{ name = \"..\", port = 80 }} }}` under `[service.{service}.{color}]`"
    )]
    NoStack { service: ServiceName, color: Color },
    #[error("{}", opsworks_ended())]
    Ended,
    #[error(
        "the Auto Scaling group {} is not to be {}: {}", .0.stack, if *.1 == Verb::Clone { "cloned" } else { "deployed to" },
        if *.1 == Verb::Clone {
            "make a group of that name with the tool that made the other one, then `cutover stack prepare`"
        } else {
            "its instances come up with what its launch template says; give that a new version, then `cutover stack prepare`"
        }
    )]
    NotOfGroups(Site, Verb),
    #[error("{}", barred(*.verb, *.color, .obstacles))]
    Barred { verb: Verb, color: Color, obstacles: Vec<Obstacle> },
    #[error("there is no order to abort")]
    NothingToAbort,
    #[error("{0}; nothing has changed")]
    Journal(String),
    #[error("the stacks cannot be listed: {0}")]
    Provider(#[from] ProviderError),
    #[error("the service's stacks have just been taken out of the config, or given other rules: try again")]
    Gone,
}

fn barred(verb: Verb, color: Color, obstacles: &[Obstacle]) -> String {
    let texts: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.text.as_str()).collect();
    let force = match obstacles.iter().any(|obstacle| obstacle.is_final) {
        true => "",
        false => "; `--force REASON` overrides that",
    };
    match verb {
        Verb::Stop => format!("{color} must not be stopped: {}{force}", texts.join("; ")),
        _ => format!("{color} must not be deployed to: {}{force}", texts.join("; ")),
    }
}

/// A wish and who waits for the word on it: the order that has begun, or been aborted.
pub type Mail = (Wish, oneshot::Sender<Result<Order, Denied>>);

/// One service's; clones hand in at the same one.
#[derive(Clone)]
pub struct Desk {
    pub service: ServiceName,
    pub sites: PerColor<Option<Site>>,
    pub figures: Arc<Figures>,
    pub(super) has_ended: bool,
    pub(super) hands: Hands,
    pub(super) journal: Arc<Journal>,
    pub(super) mail: mpsc::Sender<Mail>,
    pub(super) status: watch::Receiver<Status>,
}

/// A stack of the account, and whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub provider: Kind,
    #[serde(flatten)]
    pub stack: Stack,
    /// The color of this service that it is.
    pub color: Option<Color>,
}

impl Desk {
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Hands in a wish: the order that has begun, or that has been aborted.
    pub async fn ask(&self, wish: Wish) -> Result<Order, Denied> {
        let (reply, answer) = oneshot::channel();
        self.mail.send((wish, reply)).await.map_err(|_| Denied::Gone)?;
        answer.await.map_err(|_| Denied::Gone)?
    }

    /// The order once it has ended; nothing where it has not `within` that time.
    pub async fn outcome(&self, order: &Order, within: Duration) -> Option<Order> {
        let mut status = self.status.clone();
        let is_over = |status: &Status| {
            status.order.as_ref().is_some_and(|view| view.order.id != order.id || view.order.outcome.is_some())
        };
        // An error means that another looks after the stacks now; the journal is the same.
        let _ = tokio::time::timeout(within, status.wait_for(is_over)).await.ok()?;
        self.journal.find::<Order>(&order.id).filter(|order| order.outcome.is_some())
    }

    /// As it is told: an order that is the newest with what the moment knows of it.
    pub fn view(&self, order: Order) -> OrderView {
        let newest = self.status().order.filter(|newest| newest.order.id == order.id);
        newest.unwrap_or_else(|| OrderView { says: None, deadline: None, instances: Vec::new(), order })
    }

    /// The newest orders first.
    pub fn history(&self) -> Vec<Order> {
        self.journal.history::<Order>(Some(&self.service))
    }

    /// Every stack there is where the colors' are. Asks the provider and changes nothing.
    pub async fn list(&self) -> Result<Vec<Listed>, Denied> {
        let mut kinds: Vec<Kind> = self.sites.iter().filter_map(|(_, site)| Some(site.as_ref()?.provider)).collect();
        kinds.dedup();
        if self.has_ended && kinds.contains(&Kind::OpsWorks) {
            return Err(Denied::Ended);
        }
        let found = self.hands.list(&kinds).await?;
        let is_of = |site: &Option<Site>, kind: Kind, stack: &Stack| {
            let names = [&stack.name, &stack.id];
            site.as_ref().is_some_and(|site| site.provider == kind && names.contains(&&site.stack))
        };
        let color = |kind, stack: &Stack| self.sites.iter().find(|(_, site)| is_of(site, kind, stack)).map(|it| it.0);
        Ok(found
            .into_iter()
            .map(|(provider, stack)| Listed { provider, color: color(provider, &stack), stack })
            .collect())
    }
}
