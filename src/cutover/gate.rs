//! A gate: something that has to hold before the switch, and how it stands.

use serde::{Deserialize, Serialize};

use crate::config::Then;
use crate::time::Timestamp;

/// One gate of one cutover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    pub name: String,
    pub kind: GateKind,
    pub state: GateState,
    /// When it was decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Timestamp>,
    /// What spoke for it, or against it, or what it waits for.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub says: String,
    /// What becomes of the cutover if it does not open.
    #[serde(default)]
    pub then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateKind {
    /// Enough of the color's endpoints are up, with the right answers.
    Health,
    /// As many are up as the live color has, or a share of that.
    Capacity,
    /// Somebody is asked over HTTP.
    Webhook,
    /// A command is run.
    Command,
    /// An operator says so.
    Approval,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// Not decided.
    Waiting,
    Passed,
    Refused,
}

impl Gate {
    pub fn waiting(name: &str, kind: GateKind, then: Then) -> Gate {
        Gate { name: name.to_owned(), kind, state: GateState::Waiting, at: None, says: String::new(), then }
    }

    /// The same gate, decided.
    pub fn decided(&self, passed: bool, at: Timestamp, says: impl Into<String>) -> Gate {
        let state = if passed { GateState::Passed } else { GateState::Refused };
        Gate { state, at: Some(at), says: says.into(), ..self.clone() }
    }

    pub fn has_passed(&self) -> bool {
        self.state == GateState::Passed
    }

    /// Looked at by the phases that prove health, not asked for in the phase of the gates.
    pub fn is_own(&self) -> bool {
        matches!(self.kind, GateKind::Health | GateKind::Capacity)
    }
}

impl GateKind {
    pub fn as_str(self) -> &'static str {
        match self {
            GateKind::Health => "health",
            GateKind::Capacity => "capacity",
            GateKind::Webhook => "webhook",
            GateKind::Command => "command",
            GateKind::Approval => "approval",
        }
    }
}

impl GateState {
    pub const ALL: [GateState; 3] = [GateState::Waiting, GateState::Passed, GateState::Refused];

    pub fn as_str(self) -> &'static str {
        match self {
            GateState::Waiting => "waiting",
            GateState::Passed => "passed",
            GateState::Refused => "refused",
        }
    }
}
