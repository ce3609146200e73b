//! The retire permit: whether a color may be terminated, judged on facts alone. No clock, disk or network.

mod checks;
mod facts;
mod names;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::facts::{Dns, Facts, Names, RecordFacts, Served, TailFacts, UnderWay};
use crate::names::{Color, ServiceName};
use crate::time::Timestamp;

/// May this color be terminated? What is not known is a no.
pub fn judge(facts: &Facts) -> Permit {
    let checks = checks::all(facts);
    let (grounds, reasons): (Vec<Check>, Vec<Check>) = checks.into_iter().partition(|check| check.holds);
    // Only where every wait has an end is the last of them when it could be over.
    let ends: Option<Vec<Timestamp>> = reasons.iter().map(|reason| reason.until).collect();
    Permit {
        service: facts.service.clone(),
        color: facts.color,
        may: reasons.is_empty(),
        at: facts.now,
        until: ends.and_then(|ends| ends.into_iter().max()),
        reasons,
        grounds,
    }
}

/// The answer: a yes is one for the moment it was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Permit {
    pub service: ServiceName,
    pub color: Color,
    pub may: bool,
    pub at: Timestamp,
    /// When it could become a yes at the earliest, where time is all that is missing.
    pub until: Option<Timestamp>,
    /// Why not. Empty where it may.
    pub reasons: Vec<Check>,
    /// What was looked at and is as it should be.
    pub grounds: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub code: Code,
    /// Nothing here is in the way.
    pub holds: bool,
    /// The same for people.
    pub text: String,
    pub figures: Map<String, Value>,
    /// When it could be over, where that is a matter of time.
    pub until: Option<Timestamp>,
}

/// What is looked at. The words are promises: scripts branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The color is live.
    Live,
    /// A cutover is under way.
    Cutover,
    /// New requests can still enter the color.
    Open,
    InFlight,
    Tunnels,
    /// Somebody may still want to go back.
    RollbackWindow,
    /// When the color served last is not known.
    HistoryUnknown,
    /// What the names answer is not known.
    DnsUnknown,
    /// A name leads to the color, or is to.
    DnsNames,
    /// A name does not say everywhere what it is to say.
    DnsSync,
    /// Resolvers may still give the answer that was there before.
    DnsExpiry,
    /// What still comes through the old name is not counted.
    TailUnknown,
    /// Requests still come through the old name.
    Tail,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Live => "live",
            Code::Cutover => "cutover",
            Code::Open => "open",
            Code::InFlight => "in-flight",
            Code::Tunnels => "tunnels",
            Code::RollbackWindow => "rollback-window",
            Code::HistoryUnknown => "history-unknown",
            Code::DnsUnknown => "dns-unknown",
            Code::DnsNames => "dns-names",
            Code::DnsSync => "dns-sync",
            Code::DnsExpiry => "dns-expiry",
            Code::TailUnknown => "tail-unknown",
            Code::Tail => "tail",
        }
    }
}
