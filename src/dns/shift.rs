//! A shift as the journal keeps it: why names are moved, how far that is, and what was seen on the way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Objection;
use super::verify::Proof;
use super::zone::ChangeId;
use crate::journal::Topic;
use crate::names::{Color, ServiceName, Side};
use crate::time::Timestamp;

/// One bringing of names to where they should lead, whole: why, how far it is, and what was seen. The journal keeps this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    pub id: String,
    pub service: ServiceName,
    pub goal: Goal,
    pub to: Side,
    /// The color that was live when it began: names stay where they were sent until another is.
    pub live: Color,
    pub by: String,
    pub started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
    pub step: Step,
    pub stage: Stage,
    /// The zone's, as far as it is known.
    pub generation: u64,
    /// The newest attempts of this proxy, by which it knows its own marks.
    pub ours: Vec<String>,
    pub evidence: Evidence,
    /// Why nothing is written until somebody has looked, or a long time has passed.
    #[serde(skip)]
    pub stopped: Option<Box<Objection>>,
    /// What the provider or the name servers said last, where that was nothing good.
    #[serde(skip)]
    pub trouble: Option<String>,
    /// Tries in a row that brought nothing.
    #[serde(skip)]
    pub tries: u32,
}

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Names go where the service went, or where a new config says.
    Follow,
    /// An operator wants them there now, over whatever has been changed.
    Sync,
    /// Only the TTL is lowered, ahead of a switch.
    Prepare,
    /// Records that are there already are taken over.
    Adopt,
    /// Somebody has changed what is ours, and it is put back.
    Restore,
}

/// How far it is, in the order of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The TTL is lowered, so that the way there and back is short.
    Lower,
    /// Answers with the old TTL die out.
    WaitOut,
    /// Names are led to the other side.
    Move,
    /// Every name server is asked.
    Verify,
    /// Answers from before the move die out.
    Tail,
    /// The TTL becomes what it was.
    Restore,
    Done,
    /// Another has taken its place.
    Replaced,
}

/// How far a change is, in steps that write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The zone is read. `again`: what stands there is written once more, since a change that cannot be asked for, or has
    /// not arrived for long, is known to have arrived once a later one has.
    Look {
        #[serde(default)]
        again: bool,
    },
    /// A batch is on its way. After a restart, or without an answer, only the zone can tell whether it got there.
    Send,
    /// No answer came.
    Doubt,
    /// It was taken; name servers learn of it.
    Settle { change: ChangeId, since: Timestamp },
}

/// What was seen and measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Seconds that answers could be kept before the TTL was lowered, and when that had arrived everywhere.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lowered_from: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lowered_at: Option<Timestamp>,
    /// When answers with the old TTL have died out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready_at: Option<Timestamp>,
    /// When every name server of the provider led there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shifted_at: Option<Timestamp>,
    /// Seconds that an answer from before that may be kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old_ttl: Option<u32>,
    /// What name servers answered last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof: Option<Proof>,
    /// Batches that were taken.
    #[serde(default)]
    pub changes: u32,
    /// Batches that got no answer, and those that were sent again since they did not arrive.
    #[serde(default)]
    pub doubts: u32,
    #[serde(default)]
    pub stranded: u32,
}

impl Shift {
    /// When, by their TTL, answers from before the move have died out.
    pub fn expires(&self) -> Option<Timestamp> {
        Some(later(self.evidence.shifted_at?, self.evidence.old_ttl?))
    }

    /// Whether the journal has to know of this state: a restart would otherwise do something else.
    pub fn moved(&self, before: &Shift) -> bool {
        (self.step, &self.stage, &self.ours, &self.evidence)
            != (before.step, &before.stage, &before.ours, &before.evidence)
    }
}

impl Topic for Shift {
    const NAME: &'static str = "dns";

    fn id(&self) -> &str {
        &self.id
    }

    fn service(&self) -> &ServiceName {
        &self.service
    }
}

impl Step {
    pub const ALL: [Step; 8] =
        [Step::Lower, Step::WaitOut, Step::Move, Step::Verify, Step::Tail, Step::Restore, Step::Done, Step::Replaced];

    pub fn ends(self) -> bool {
        matches!(self, Step::Done | Step::Replaced)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Step::Lower => "lower",
            Step::WaitOut => "wait_out",
            Step::Move => "move",
            Step::Verify => "verify",
            Step::Tail => "tail",
            Step::Restore => "restore",
            Step::Done => "done",
            Step::Replaced => "replaced",
        }
    }
}

impl Goal {
    pub fn as_str(self) -> &'static str {
        match self {
            Goal::Follow => "follow",
            Goal::Sync => "sync",
            Goal::Prepare => "prepare",
            Goal::Adopt => "adopt",
            Goal::Restore => "restore",
        }
    }
}

/// A moment so many seconds behind another.
pub fn later(at: Timestamp, seconds: u32) -> Timestamp {
    at.checked_add(Duration::from_secs(u64::from(seconds))).unwrap_or(at)
}
