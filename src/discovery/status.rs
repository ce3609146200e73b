//! What is told about the discovery of a color: who is asked, what is believed, and why an answer is not.

use serde::{Deserialize, Serialize};

use super::judge::Member;
use super::vet::Refused;
use crate::names::{Color, ServiceName};
use crate::time::Timestamp;

/// `services[].blue.discovery` of the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub service: ServiceName,
    pub color: Color,
    /// Who is asked for what.
    pub source: String,
    pub state: State,
    /// When an answer, or none, last came.
    pub asked: Option<Timestamp>,
    /// When the last answer came that was believed.
    pub believed: Option<Timestamp>,
    /// How long ago that was, by a clock that does not jump.
    pub age_s: Option<f64>,
    /// How many endpoints it had.
    pub named: usize,
    /// Those that are to be in the pool.
    pub endpoints: Vec<Member>,
    /// What the source knows of and does not propose.
    pub left_out: Vec<String>,
    /// What it proposes and cannot be.
    pub refused: Vec<Refused>,
    /// Why the newest answer is not believed, or why there is none.
    pub error: Option<String>,
    /// Questions in a row that got no answer.
    pub failures: u32,
    /// Why the pool is not yet as it is to be.
    pub held: Option<String>,
    /// Why the journal does not know it yet.
    pub unwritten: Option<String>,
    /// When it is asked again.
    pub next: Option<Timestamp>,
}

/// How a discovery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No answer has come since the start.
    Asking,
    /// The newest answer is believed, and in force.
    Current,
    /// The newest answer is not believed.
    Doubted,
    /// There was no answer.
    Failing,
    /// The pool is not yet as it is to be.
    Held,
}

impl State {
    pub const ALL: [State; 5] = [State::Asking, State::Current, State::Doubted, State::Failing, State::Held];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Asking => "asking",
            State::Current => "current",
            State::Doubted => "doubted",
            State::Failing => "failing",
            State::Held => "held",
        }
    }
}

impl Status {
    /// Whether it tells anything new: not by its times alone, nor in other words of a failure or of what holds it back.
    pub fn tells(&self, before: &Status) -> bool {
        let essence = |status: &Status| Status {
            asked: None,
            believed: None,
            age_s: None,
            next: None,
            failures: status.failures.min(1),
            error: status.error.clone().filter(|_| status.state == State::Doubted),
            held: None,
            ..status.clone()
        };
        essence(self) != essence(before)
    }
}
