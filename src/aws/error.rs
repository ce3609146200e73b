//! What a call to Amazon that brought nothing means to whoever made it, in the words of each room that makes calls.

use crate::discovery::SourceError;
use crate::dns::ZoneError;
use crate::stack::ProviderError;

/// Nothing that may have been done is ever called anything but unknown or a conflict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// What was asked does not fit what is stored, for each of these reasons. Nothing was done.
    #[error("refused whole: {}", .0.join("; "))]
    Conflict(Vec<String>),
    /// The same call may be made again, later.
    #[error("{0}")]
    Busy(String),
    /// The same call will fail again until somebody mends permissions, credentials, the config or what it names.
    #[error("{0}")]
    Refused(String),
    /// Nothing was done; a read may be made again.
    #[error("{0}")]
    Unreachable(String),
    /// It may or may not have been done: looking tells.
    #[error("{0}")]
    Unknown(String),
}

impl CallError {
    /// The label under which it is counted.
    pub fn result(&self) -> &'static str {
        match self {
            CallError::Conflict(_) => "conflict",
            CallError::Busy(_) => "busy",
            CallError::Refused(_) => "refused",
            CallError::Unreachable(_) => "unreachable",
            CallError::Unknown(_) => "unknown",
        }
    }
}

impl From<CallError> for ZoneError {
    fn from(error: CallError) -> ZoneError {
        match error {
            CallError::Conflict(messages) => ZoneError::Conflict(messages),
            CallError::Busy(says) => ZoneError::Busy(says),
            CallError::Refused(says) => ZoneError::Refused(says),
            CallError::Unreachable(says) => ZoneError::Unreachable(says),
            CallError::Unknown(says) => ZoneError::Unknown(says),
        }
    }
}

impl From<CallError> for SourceError {
    fn from(error: CallError) -> SourceError {
        match error {
            CallError::Busy(says) => SourceError::Busy(says),
            CallError::Conflict(_) | CallError::Refused(_) => SourceError::Refused(error.to_string()),
            // A source changes nothing, so that nothing is left to find out.
            CallError::Unreachable(says) | CallError::Unknown(says) => SourceError::Unreachable(says),
        }
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> ProviderError {
        match error {
            CallError::Busy(says) => ProviderError::Busy(says),
            CallError::Conflict(_) | CallError::Refused(_) => ProviderError::Refused(error.to_string()),
            CallError::Unreachable(says) => ProviderError::Unreachable(says),
            CallError::Unknown(says) => ProviderError::Unknown(says),
        }
    }
}

/// Every result there is.
pub const RESULTS: &[&str] = &["ok", "conflict", "busy", "refused", "unreachable", "unknown"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_room_is_told_the_same_in_words_of_its_own() {
        let says = || "because".to_owned();
        let table = [
            (CallError::Busy(says()), ZoneError::Busy(says()), SourceError::Busy(says()), ProviderError::Busy(says())),
            (
                CallError::Refused(says()),
                ZoneError::Refused(says()),
                SourceError::Refused(says()),
                ProviderError::Refused(says()),
            ),
            (
                CallError::Unreachable(says()),
                ZoneError::Unreachable(says()),
                SourceError::Unreachable(says()),
                ProviderError::Unreachable(says()),
            ),
            (
                CallError::Unknown(says()),
                ZoneError::Unknown(says()),
                SourceError::Unreachable(says()),
                ProviderError::Unknown(says()),
            ),
        ];
        for (error, zone, source, provider) in table {
            assert!(RESULTS.contains(&error.result()));
            assert_eq!((ZoneError::from(error.clone()), SourceError::from(error.clone())), (zone, source));
            assert_eq!(ProviderError::from(error), provider);
        }
        let conflict = CallError::Conflict(vec!["one".into(), "two".into()]);
        assert_eq!(ZoneError::from(conflict.clone()), ZoneError::Conflict(vec!["one".into(), "two".into()]));
        assert_eq!(ProviderError::from(conflict).to_string(), "refused whole: one; two");
    }
}
