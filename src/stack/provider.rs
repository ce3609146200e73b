//! A provider of stacks, as the steps need it: what there is, what is to be done, and why it was not.

use std::fmt;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// Who runs stacks: OpsWorks, or Auto Scaling groups. Each call is one attempt with a deadline of its own (a list may take
/// several pages). Nothing here is ever deleted.
pub trait Provider: Send + Sync {
    /// Every stack of the account in this region, with what is in it.
    fn stacks(&self) -> BoxFuture<'_, Result<Vec<Stack>, ProviderError>>;

    /// The one stack of this id or name, with what is in it. `None`: there is none.
    fn find<'a>(&'a self, stack: &'a str) -> BoxFuture<'a, Result<Option<Stack>, ProviderError>>;

    /// A new stack like `source`, with its layers, apps, permissions and network, and without instances: its id.
    fn clone_stack<'a>(&'a self, source: &'a Stack, name: &'a str) -> BoxFuture<'a, Result<String, ProviderError>>;

    /// A new instance in `stack` like this one of another stack: its id.
    fn add_instance<'a>(&'a self, stack: &'a Stack, like: &'a Instance)
    -> BoxFuture<'a, Result<String, ProviderError>>;

    fn start_instance<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<(), ProviderError>>;

    fn stop_instance<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<(), ProviderError>>;

    /// Begins to deploy the app to every instance of the stack that is online, under a comment by which it is found again:
    /// the deployment's id.
    fn deploy<'a>(
        &'a self,
        stack: &'a Stack,
        app: &'a App,
        comment: &'a str,
    ) -> BoxFuture<'a, Result<String, ProviderError>>;

    /// The stack's deployments, newest first.
    fn deployments<'a>(&'a self, stack: &'a Stack) -> BoxFuture<'a, Result<Vec<Deployment>, ProviderError>>;

    /// Sets how many instances there are to be, where the provider starts and stops them by itself.
    fn set_capacity<'a>(&'a self, stack: &'a Stack, wanted: Wanted) -> BoxFuture<'a, Result<(), ProviderError>>;
}

/// A stack with what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    pub id: String,
    pub name: String,
    pub apps: Vec<App>,
    /// In the order of their names.
    pub instances: Vec<Instance>,
    /// `None`: instances are started and stopped one by one.
    pub capacity: Option<Wanted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub id: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: String,
    /// Its host name, which is one of a kind within its stack.
    pub name: String,
    /// The short names of its layers.
    pub layers: Vec<String>,
    pub address: Option<String>,
    pub state: InstanceState,
    /// The provider's own word for the state.
    pub says: String,
    /// It is started and stopped by the provider itself, by load or by the hour: nobody else starts it or waits for it.
    pub is_automatic: bool,
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It can be started.
    Stopped,
    /// On its way up; nothing to do but wait.
    Starting,
    Online,
    /// On its way down; nothing to do but wait.
    Stopping,
    /// It came up wrong, or got lost: an operator has to look.
    Failed,
    /// It is gone for good.
    Gone,
}

/// How many instances a group is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub min: u32,
    pub desired: u32,
    pub max: u32,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { min, desired, max } = self;
        write!(f, "min {min}, desired {desired}, max {max}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: String,
    /// What was said when it was begun: by this it is found again.
    pub comment: String,
    pub state: DeploymentState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    Running,
    Successful,
    Failed,
}

/// Why a call to the provider brought nothing; each with what it said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Too many requests, or something else is under way: the same call may be made again, later.
    #[error("the provider asks to wait: {0}")]
    Busy(String),
    /// The same call will fail again until somebody mends permissions, credentials, the config or the stack.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached or answered with an error of its own. Nothing was done.
    #[error("{0}")]
    Unreachable(String),
    /// It may or may not have been done, or be done yet: looking tells.
    #[error("no answer came, so it may or may not have been done: {0}")]
    Unknown(String),
}
