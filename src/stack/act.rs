//! One thing that is done to a stack: as it is asked of the provider, and as the journal remembers it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::provider::{App, Instance, Stack, Wanted};

/// What is asked of the provider, with all that it takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Clone { source: Stack, name: String },
    Add { stack: Stack, like: Instance },
    Start(Instance),
    Stop(Instance),
    Deploy { stack: Stack, app: App, comment: String },
    SetCapacity { stack: Stack, wanted: Wanted },
}

impl Act {
    /// By what it is told from any other.
    pub fn call(&self) -> Call {
        match self {
            Act::Clone { name, .. } => Call::Clone { name: name.clone() },
            Act::Add { stack, like } => Call::Add { stack: stack.id.clone(), host: like.name.clone() },
            Act::Start(instance) => Call::Start { id: instance.id.clone(), host: instance.name.clone() },
            Act::Stop(instance) => Call::Stop { id: instance.id.clone(), host: instance.name.clone() },
            Act::Deploy { app, comment, .. } => Call::Deploy { app: app.name.clone(), comment: comment.clone() },
            Act::SetCapacity { stack, wanted } => Call::SetCapacity { stack: stack.id.clone(), wanted: *wanted },
        }
    }
}

/// The same in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Clone { name: String },
    Add { stack: String, host: String },
    Start { id: String, host: String },
    Stop { id: String, host: String },
    Deploy { app: String, comment: String },
    SetCapacity { stack: String, wanted: Wanted },
}

impl Call {
    /// Whether it is done only where nothing speaks against it at that moment.
    pub fn is_guarded(&self) -> bool {
        match self {
            Call::Stop { .. } | Call::Deploy { .. } => true,
            Call::SetCapacity { wanted, .. } => wanted.desired == 0,
            Call::Clone { .. } | Call::Add { .. } | Call::Start { .. } => false,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Clone { name } => write!(f, "the cloning of {name}"),
            Call::Add { host, .. } => write!(f, "the adding of {host}"),
            Call::Start { host, .. } => write!(f, "the start of {host}"),
            Call::Stop { host, .. } => write!(f, "the stop of {host}"),
            Call::Deploy { app, .. } => write!(f, "the deployment of {app}"),
            Call::SetCapacity { wanted, .. } => write!(f, "the setting of its capacity ({wanted})"),
        }
    }
}
