//! A follower's own counts: written by it, read at a scrape.

use super::zone::{ChangeId, ZoneError};
use crate::metrics::Counter;

/// One service's.
#[derive(Default)]
pub struct Figures {
    /// In the order of [`Figures::OUTCOMES`].
    changes: [Counter; 6],
}

impl Figures {
    /// What a change can come to when it is handed in.
    pub const OUTCOMES: [&str; 6] = ["accepted", "conflict", "busy", "refused", "unreachable", "unknown"];

    /// Changes at this place of the outcomes since the proxy started.
    pub fn changes(&self, place: usize) -> u64 {
        self.changes.get(place).map_or(0, Counter::get)
    }

    pub fn count(&self, sent: &Result<ChangeId, ZoneError>) {
        let place = match sent {
            Ok(_) => 0,
            Err(ZoneError::Conflict(_)) => 1,
            Err(ZoneError::Busy(_)) => 2,
            Err(ZoneError::Refused(_)) => 3,
            Err(ZoneError::Unreachable(_)) => 4,
            Err(ZoneError::Unknown(_)) => 5,
        };
        self.changes[place].add(1);
    }
}
