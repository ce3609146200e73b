//! An order as the journal keeps it: what somebody wants of a color's stack, how far that is, and what has been done.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::act::Call;
use super::provider::{Instance, Wanted};
use crate::config::{self, DiscoverFrom, OpsWorksLayer, ScalingGroup};
use crate::journal::Topic;
use crate::names::{Color, ServiceName};
use crate::time::Timestamp;

/// One order, whole: why, how far it is, and what it has done. The journal keeps this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub id: String,
    pub service: ServiceName,
    pub verb: Verb,
    pub color: Color,
    #[serde(flatten)]
    pub site: Site,
    /// The other color's stack, where the same provider runs it: what is missing is made like it.
    pub source: Option<String>,
    pub by: String,
    pub reason: Option<String>,
    /// Why it is carried out over what speaks against it.
    pub force: Option<String>,
    /// What spoke against it, each time when it was looked at.
    #[serde(default)]
    pub overridden: Vec<Obstacle>,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    /// How it has ended.
    pub outcome: Option<Outcome>,
    /// Why it has not ended well, and what to do.
    pub why: Option<String>,
    pub step: Step,
    /// When the step began: its deadline counts from here.
    pub since: Timestamp,
    pub stage: Stage,
    /// A call that may yet take effect, of this order or of the one before it.
    pub doubt: Option<Doubt>,
    #[serde(default)]
    pub evidence: Evidence,
    /// What is waited for, or what the provider said last.
    #[serde(skip)]
    pub says: Option<String>,
    /// The stack's, as they were when it was looked at last.
    #[serde(skip)]
    pub instances: Vec<Instance>,
    /// Tries in a row that brought nothing.
    #[serde(skip)]
    pub tries: u32,
    /// A call that was refused, and in what words: believed where a fresh look asks for it again.
    #[serde(skip)]
    pub refused: Option<(Call, String)>,
}

/// What is wanted of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Everything from nothing to healthy endpoints.
    Prepare,
    /// A stack like the other color's, with instances that do not run yet.
    Clone,
    Start,
    Deploy,
    Stop,
}

/// Whose stacks they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    OpsWorks,
    Asg,
}

/// Which stack is a color's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub provider: Kind,
    /// Its name, or its id.
    pub stack: String,
    /// The one whose instances are the color's endpoints; `None`: each of them.
    pub layer: Option<String>,
}

/// How far an order is, in the order of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// There is a stack.
    Clone,
    /// It has the instances that the other color's has.
    Instances,
    /// They are online.
    Start,
    /// The app is deployed to them.
    Deploy,
    /// The proxy's own health checks pass.
    Healthy,
    /// Nothing runs any more.
    Stop,
}

/// Where a step is: each looks first, then does one thing, then looks again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Look,
    /// On its way. After a restart, or without an answer, only a look can tell whether it was done.
    Do(Call),
}

/// A call of which nobody knows whether it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub call: Call,
    pub since: Timestamp,
}

/// How an order has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Failed,
    Aborted,
}

/// Something that speaks against touching a color's stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// A word for programs, as the retire permit has them.
    pub code: String,
    pub text: String,
    /// No reason is good enough to override it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

/// What has been done, so that it is not done again before it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The stack's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stack: Option<String>,
    /// It was made by this order.
    #[serde(default)]
    pub is_cloned: bool,
    /// Host names of instances that were added.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub added: Vec<String>,
    /// Ids of instances that were started, and that were stopped.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub started: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub stopped: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deployment: Option<String>,
    /// How many instances there were to be before, and since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub capacity: Option<Capacity>,
    /// Calls that got no answer.
    #[serde(default)]
    pub doubts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub from: Wanted,
    pub to: Wanted,
    /// The provider has taken it.
    pub is_set: bool,
}

impl Order {
    /// What its deployment is begun with.
    pub fn comment(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{}{reason}", self.mark()).chars().take(COMMENT).collect()
    }

    /// What its deployment is found again by: no other order's comment begins so.
    pub fn mark(&self) -> String {
        format!("cutover {}", self.id)
    }

    /// By what the stack is found: by its id, once that is known.
    pub fn stack(&self) -> &str {
        self.evidence.stack.as_ref().unwrap_or(&self.site.stack)
    }

    pub fn steps(&self) -> &'static [Step] {
        self.verb.steps(self.site.provider)
    }

    /// Whether the journal has to know of this state: a restart would otherwise do something else.
    pub fn moved(&self, before: &Order) -> bool {
        let of = |order: &Order| {
            let Order { step, stage, doubt, overridden, outcome, evidence, .. } = order.clone();
            (step, stage, doubt, overridden, outcome, evidence)
        };
        of(self) != of(before)
    }
}

impl Topic for Order {
    const NAME: &'static str = "stack";

    fn id(&self) -> &str {
        &self.id
    }

    fn service(&self) -> &ServiceName {
        &self.service
    }
}

impl Verb {
    pub const ALL: [Verb; 5] = [Verb::Prepare, Verb::Clone, Verb::Start, Verb::Deploy, Verb::Stop];

    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Prepare => "prepare",
            Verb::Clone => "clone",
            Verb::Start => "start",
            Verb::Deploy => "deploy",
            Verb::Stop => "stop",
        }
    }

    /// Its steps; empty where such a stack knows nothing of the kind.
    pub fn steps(self, of: Kind) -> &'static [Step] {
        match (self, of) {
            (Verb::Prepare, Kind::OpsWorks) => {
                &[Step::Clone, Step::Instances, Step::Start, Step::Deploy, Step::Healthy]
            }
            (Verb::Clone, Kind::OpsWorks) => &[Step::Clone, Step::Instances],
            (Verb::Start, Kind::OpsWorks) => &[Step::Start],
            (Verb::Deploy, Kind::OpsWorks) => &[Step::Deploy],
            // What a group starts comes with its app.
            (Verb::Prepare | Verb::Start, Kind::Asg) => &[Step::Start, Step::Healthy],
            (Verb::Clone | Verb::Deploy, Kind::Asg) => &[],
            (Verb::Stop, _) => &[Step::Stop],
        }
    }
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::OpsWorks => "OpsWorks stack",
            Kind::Asg => "Auto Scaling group",
        }
    }
}

impl Site {
    /// The color's, where its endpoints are learned from a stack.
    pub fn of(color: &config::Stack) -> Option<Site> {
        let (provider, stack, layer) = match color.discover.as_ref()?.from.get_ref() {
            DiscoverFrom::OpsWorks(OpsWorksLayer { stack, layer, .. }) => (Kind::OpsWorks, stack, layer.clone()),
            DiscoverFrom::Asg(ScalingGroup { name, .. }) => (Kind::Asg, name, None),
            DiscoverFrom::Dns(_) | DiscoverFrom::Ec2(_) | DiscoverFrom::TargetGroup(_) => return None,
        };
        Some(Site { provider, stack: stack.clone(), layer })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {}", self.provider.word(), self.stack)
    }
}

impl Step {
    pub const ALL: [Step; 6] = [Step::Clone, Step::Instances, Step::Start, Step::Deploy, Step::Healthy, Step::Stop];

    pub fn as_str(self) -> &'static str {
        match self {
            Step::Clone => "clone",
            Step::Instances => "instances",
            Step::Start => "start",
            Step::Deploy => "deploy",
            Step::Healthy => "healthy",
            Step::Stop => "stop",
        }
    }
}

impl Outcome {
    pub const ALL: [Outcome; 3] = [Outcome::Done, Outcome::Failed, Outcome::Aborted];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Aborted => "aborted",
        }
    }
}

/// Characters of a comment: providers take so many.
const COMMENT: usize = 255;
