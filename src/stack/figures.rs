//! A foreman's own counts: written by it, read at a scrape.

use super::order::{Order, Outcome, Step};
use crate::metrics::Counter;
use crate::names::{Color, PerColor};

/// One service's.
#[derive(Default)]
pub struct Figures {
    /// By step, then by outcome.
    steps: PerColor<[[Counter; Outcome::ALL.len()]; Step::ALL.len()]>,
}

impl Figures {
    /// Steps of orders that ended so, since the proxy started.
    pub fn steps(&self, color: Color, step: Step, outcome: Outcome) -> u64 {
        self.steps[color][step as usize][outcome as usize].get()
    }

    /// Counts each step that is over.
    pub fn count(&self, before: &Order, after: &Order) {
        let add = |step: Step, outcome: Outcome| self.steps[after.color][step as usize][outcome as usize].add(1);
        if before.step != after.step {
            add(before.step, Outcome::Done);
        }
        if before.outcome.is_none() {
            after.outcome.into_iter().for_each(|outcome| add(after.step, outcome));
        }
    }
}
