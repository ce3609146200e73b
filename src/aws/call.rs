//! What is asked of Amazon: every operation there is, by the name it has in IAM policies, and what it is asked about.

use std::fmt;

/// Something that Amazon can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub service: Service,
    pub name: &'static str,
    /// Whether something would be different afterwards.
    pub changes: bool,
}

impl Operation {
    const fn read(service: Service, name: &'static str) -> Operation {
        Operation { service, name, changes: false }
    }

    const fn change(service: Service, name: &'static str) -> Operation {
        Operation { service, name, changes: true }
    }
}

/// As in a policy: `route53:GetHostedZone`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service.prefix(), self.name)
    }
}

/// Each is counted by Amazon apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Route53,
    Ec2,
    AutoScaling,
    LoadBalancing,
    OpsWorks,
}

impl Service {
    /// As actions in policies begin, and as metrics name it.
    pub const fn prefix(self) -> &'static str {
        match self {
            Service::Route53 => "route53",
            Service::Ec2 => "ec2",
            Service::AutoScaling => "autoscaling",
            Service::LoadBalancing => "elasticloadbalancing",
            Service::OpsWorks => "opsworks",
        }
    }

    /// Whether each region has one of its own, which knows nothing of the others.
    pub const fn is_regional(self) -> bool {
        !matches!(self, Service::Route53)
    }
}

/// One request, as far as it decides what a failure means.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub operation: Operation,
    pub subject: Subject<'a>,
}

/// What is asked about, as an operator would say it, and where the config names it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// `hosted zone`
    pub kind: &'static str,
    pub name: &'a str,
    /// The key that is to be corrected where there is no such thing.
    pub key: &'static str,
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

pub const GET_HOSTED_ZONE: Operation = Operation::read(Service::Route53, "GetHostedZone");
pub const LIST_RECORD_SETS: Operation = Operation::read(Service::Route53, "ListResourceRecordSets");
pub const CHANGE_RECORD_SETS: Operation = Operation::change(Service::Route53, "ChangeResourceRecordSets");
pub const GET_CHANGE: Operation = Operation::read(Service::Route53, "GetChange");

pub const DESCRIBE_INSTANCES: Operation = Operation::read(Service::Ec2, "DescribeInstances");
pub const DESCRIBE_GROUPS: Operation = Operation::read(Service::AutoScaling, "DescribeAutoScalingGroups");
pub const UPDATE_GROUP: Operation = Operation::change(Service::AutoScaling, "UpdateAutoScalingGroup");
pub const DESCRIBE_TARGET_GROUPS: Operation = Operation::read(Service::LoadBalancing, "DescribeTargetGroups");
pub const DESCRIBE_TARGET_HEALTH: Operation = Operation::read(Service::LoadBalancing, "DescribeTargetHealth");

pub const DESCRIBE_STACKS: Operation = Operation::read(Service::OpsWorks, "DescribeStacks");
pub const DESCRIBE_LAYERS: Operation = Operation::read(Service::OpsWorks, "DescribeLayers");
pub const DESCRIBE_STACK_INSTANCES: Operation = Operation::read(Service::OpsWorks, "DescribeInstances");
pub const DESCRIBE_APPS: Operation = Operation::read(Service::OpsWorks, "DescribeApps");
pub const DESCRIBE_DEPLOYMENTS: Operation = Operation::read(Service::OpsWorks, "DescribeDeployments");
pub const CLONE_STACK: Operation = Operation::change(Service::OpsWorks, "CloneStack");
pub const CREATE_INSTANCE: Operation = Operation::change(Service::OpsWorks, "CreateInstance");
pub const START_INSTANCE: Operation = Operation::change(Service::OpsWorks, "StartInstance");
pub const STOP_INSTANCE: Operation = Operation::change(Service::OpsWorks, "StopInstance");
pub const CREATE_DEPLOYMENT: Operation = Operation::change(Service::OpsWorks, "CreateDeployment");

/// Every operation: what is not among them is not counted.
pub const OPERATIONS: &[Operation] = &[
    GET_HOSTED_ZONE,
    LIST_RECORD_SETS,
    CHANGE_RECORD_SETS,
    GET_CHANGE,
    DESCRIBE_INSTANCES,
    DESCRIBE_GROUPS,
    UPDATE_GROUP,
    DESCRIBE_TARGET_GROUPS,
    DESCRIBE_TARGET_HEALTH,
    DESCRIBE_STACKS,
    DESCRIBE_LAYERS,
    DESCRIBE_STACK_INSTANCES,
    DESCRIBE_APPS,
    DESCRIBE_DEPLOYMENTS,
    CLONE_STACK,
    CREATE_INSTANCE,
    START_INSTANCE,
    STOP_INSTANCE,
    CREATE_DEPLOYMENT,
];
