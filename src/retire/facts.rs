//! What the permit rests on, gathered by whoever asks.

use std::time::Duration;

use crate::names::{Color, ServiceName, Side};
use crate::time::Timestamp;

/// Everything that is known of a color that somebody wants to terminate.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub service: ServiceName,
    pub color: Color,
    pub now: Timestamp,
    pub live: Color,
    pub cutover: Option<UnderWay>,
    /// New requests can step into the color.
    pub is_open: bool,
    pub in_flight: u64,
    pub tunnels: u64,
    pub served: Served,
    /// How long after it served last somebody may still want to go back to it.
    pub rollback_window: Duration,
    /// Nothing where the service has no names to look after.
    pub dns: Option<Dns>,
}

/// A cutover under way.
#[derive(Clone, Debug, PartialEq)]
pub struct UnderWay {
    pub id: String,
    pub phase: String,
}

/// When the color served last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    Never,
    /// The cutover that took traffic from it ended then.
    Until(Timestamp),
    /// It has served, and nothing is left that says until when.
    Unknown,
}

/// What is known of the service's names, and of who still comes through old answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Nothing where they have not been read yet.
    pub names: Option<Names>,
    /// Nothing where nobody counts.
    pub tail: Option<TailFacts>,
    /// How long the tail has to be silent at least.
    pub silence: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    /// Where they are to lead.
    pub wanted: Side,
    pub records: Vec<RecordFacts>,
    /// Why they do not say what they are to say, where that is known.
    pub trouble: Option<String>,
    /// Until then resolvers may give the answer that was there before; nothing where there was no other.
    pub expires: Option<Timestamp>,
    /// How long resolvers may keep that answer.
    pub ttl: Duration,
}

/// One name and type.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordFacts {
    pub name: String,
    /// It says everywhere what it is to say.
    pub in_sync: bool,
    /// The colors it was found to lead to, however seldom.
    pub found: Vec<Color>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TailFacts {
    /// Counting began here.
    pub since: Timestamp,
    pub last_seen: Option<Timestamp>,
    pub silent_for: Duration,
    pub last_minute: u64,
    pub connections: u64,
    pub networks: u64,
}
