//! A driver's pause: while it lasts, no cutover begins and none goes on, so that the service can be changed under it.

use tokio::sync::oneshot;

use super::desk::Denied;
use super::state::{Cutover, Phase};
use crate::config::Drain;

/// What is about to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Endpoints come or go, since an operator says so.
    Endpoints,
    /// They come or go since a source says so, which can wait.
    Discovered,
    /// The service itself goes.
    Service,
}

/// The asking for a pause.
pub struct Ask {
    matter: Matter,
    reply: oneshot::Sender<Result<Paused, Denied>>,
}

impl Ask {
    pub fn new(matter: Matter) -> (Ask, oneshot::Receiver<Result<Paused, Denied>>) {
        let (reply, answer) = oneshot::channel();
        (Ask { matter, reply }, answer)
    }

    /// Whether the change would take the ground from under the cutover.
    pub fn disturbs(&self, cutover: &Cutover) -> bool {
        match self.matter {
            Matter::Endpoints => rests_on_endpoints(cutover),
            Matter::Discovered => rests_on_endpoints(cutover) || moves(cutover),
            Matter::Service => !cutover.phase.ends(),
        }
    }

    /// Whether the driver is to end with this pause.
    pub fn is_for_good(&self) -> bool {
        self.matter == Matter::Service
    }

    pub fn answer(self, answer: Result<Paused, Denied>) {
        // Whoever asked may have gone; then the pause is over at once.
        let _ = self.reply.send(answer);
    }
}

/// A color has been found fit, or is being looked at, and goes live on the strength of that: its endpoints have to stay
/// those that were looked at. While the old color drains, or gates are asked, nothing rests on them: it is looked at once
/// more before anything moves.
fn rests_on_endpoints(cutover: &Cutover) -> bool {
    match cutover.phase {
        Phase::Prepare | Phase::Warm | Phase::Canary | Phase::Ramp | Phase::Confirm => true,
        Phase::Switch | Phase::RollBack => true,
        Phase::Gates | Phase::Drain | Phase::Bake | Phase::Paused => cutover.returning,
        Phase::Dns | Phase::DrainBack | Phase::Done | Phase::Aborted | Phase::RolledBack => false,
    }
}

/// Traffic is about to move, or moves. A bake or names may take hours, and so may an operator's word: a color that grows
/// meanwhile has to get its endpoints.
fn moves(cutover: &Cutover) -> bool {
    matches!(cutover.phase, Phase::Gates | Phase::Drain | Phase::DrainBack)
}

/// A driver that waits. It goes on when this is dropped.
#[derive(Debug)]
pub struct Paused(oneshot::Sender<Drain>);

impl Paused {
    pub fn new() -> (Paused, oneshot::Receiver<Drain>) {
        let (over, goes_on) = oneshot::channel();
        (Paused(over), goes_on)
    }

    /// The service is out of the table: its driver gives what is left inside that time, and ends.
    pub fn end(self, drain: Drain) {
        // A driver that is gone already has ended.
        let _ = self.0.send(drain);
    }
}
