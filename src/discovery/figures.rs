//! A scout's own counts: written by it, read at a scrape.

use super::judge::Belief;
use super::source::SourceError;
use crate::metrics::Counter;

/// One color's.
#[derive(Default)]
pub struct Figures {
    /// In the order of [`Figures::RESULTS`].
    answers: [Counter; 6],
}

impl Figures {
    /// What a question can come to.
    pub const RESULTS: [&str; 6] = ["believed", "empty", "shrunk", "busy", "refused", "unreachable"];

    /// Questions that came to the result at this place since the scout set out.
    pub fn answers(&self, place: usize) -> u64 {
        self.answers.get(place).map_or(0, Counter::get)
    }

    pub fn count(&self, result: Result<Belief, &SourceError>) {
        let place = match result {
            Ok(Belief::Believed) => 0,
            Ok(Belief::Empty) => 1,
            Ok(Belief::Shrunk { .. }) => 2,
            Err(SourceError::Busy(_)) => 3,
            Err(SourceError::Refused(_)) => 4,
            Err(SourceError::Unreachable(_)) => 5,
        };
        self.answers[place].add(1);
    }
}
