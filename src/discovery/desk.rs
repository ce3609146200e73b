//! The desk of a scout: where it is asked to look now, and where everyone sees what it knows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::figures::Figures;
use super::source::Found;
use super::status::Status;
use super::vet::Refused;
use crate::names::{Color, ServiceName};
use crate::time::Moment;

/// An operator wants the source asked now.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Only say what would change.
    pub dry_run: bool,
    /// Believe the answer, whatever it is, and let everyone go whom it does not name.
    pub accept: bool,
    pub by: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    pub color: Color,
    /// Who was asked for what.
    pub source: String,
    pub outcome: Outcome,
    /// The endpoints that were proposed and can be some.
    pub answer: Vec<Found>,
    pub left_out: Vec<String>,
    pub refused: Vec<Refused>,
    /// Those that come into the pool, and those that go out of it, or would.
    pub joins: Vec<SocketAddr>,
    pub leaves: Vec<SocketAddr>,
    /// Those that stay though the answer does not name them.
    pub stays: Vec<SocketAddr>,
    /// Why the answer is not believed or not in force, or why there is none.
    pub why: Option<String>,
}

/// What an answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The pool is as the answer says already.
    Unchanged,
    Applied,
    WouldApply,
    /// It is not believed: nobody goes.
    Doubted,
    /// It is believed, and the pool cannot be changed now.
    Held,
    /// There is none.
    Failed,
}

impl Outcome {
    /// The source was heard, and what it says is so or would be.
    pub fn is_good(self) -> bool {
        matches!(self, Outcome::Unchanged | Outcome::Applied | Outcome::WouldApply)
    }
}

/// Why nobody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the color's `discover` has just been taken out of the config, or is another one now")]
pub struct Gone;

/// An order and who waits for what comes of it.
pub type Mail = (Order, oneshot::Sender<Heard>);

/// A status, and how old the last good answer was at one moment.
pub type Seen = (Status, Option<(Duration, Moment)>);

/// One color's; clones hand in at the same one.
#[derive(Clone)]
pub struct Desk {
    pub service: ServiceName,
    pub color: Color,
    pub figures: Arc<Figures>,
    pub(super) mail: mpsc::Sender<Mail>,
    pub(super) seen: watch::Receiver<Seen>,
}

impl Desk {
    pub fn status(&self) -> Status {
        let (status, age) = self.seen.borrow().clone();
        let age = age.map(|(age, at)| age + Moment::now().since(at));
        Status { age_s: age.map(|age| age.as_secs_f64()), ..status }
    }

    /// Has the source asked, and waits for what comes of it.
    pub async fn ask(&self, order: Order) -> Result<Heard, Gone> {
        let (reply, answer) = oneshot::channel();
        self.mail.send((order, reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
