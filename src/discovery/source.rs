//! A source of endpoints, as discovery needs it: one question, one whole answer, and why there is none.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// Somebody who knows which endpoints a color has. Each call is one whole answer, however many pages that takes, with a
/// deadline of its own; what is believed of it, and when to ask again, is decided by the caller.
pub trait Source: Send + Sync {
    /// Who is asked for what, as an operator would say it: `Auto Scaling group shop-green`.
    fn says(&self) -> String;

    fn ask(&self) -> BoxFuture<'_, Result<Answer, SourceError>>;
}

/// Everything that a source knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// No address twice; in the order of their addresses, so that equal answers are equal.
    pub endpoints: Vec<Found>,
    /// What it knows of and does not propose, each with the reason: `i-0abc is pending`.
    pub left_out: Vec<String>,
    /// How long the answer holds, where the source says so.
    pub valid_for: Option<Duration>,
}

/// One endpoint that a source proposes; whether it gets requests is decided by health checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub address: SocketAddr,
    /// What the source calls it, such as an instance's id.
    pub name: Option<String>,
}

/// Why a source gave no answer; each with what it said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Too many requests: the same question may be asked again, later.
    #[error("{0}")]
    Busy(String),
    /// The same question will fail again until somebody mends permissions, credentials, the config or what it names.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached, or answered with an error of its own.
    #[error("{0}")]
    Unreachable(String),
}
