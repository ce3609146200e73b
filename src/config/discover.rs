//! `discover` of a color: where its endpoints are learned, where the file does not name them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::Share;
use super::diff;
use crate::names::DnsName;

/// How a color's endpoints are learned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Discover {
    #[serde(flatten)]
    pub from: DiscoverFrom,
    /// From one answer to the next question. A DNS answer is asked for again when its TTL is over, if that is later.
    pub interval: Duration,
    /// An answer with fewer than this share of the last good one's endpoints is not believed.
    #[serde(serialize_with = "diff::shown")]
    pub min_share: Share,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscoverFrom {
    Dns(DnsLookup),
    #[serde(rename = "opsworks")]
    OpsWorks(OpsWorksLayer),
    Ec2(Ec2Instances),
    Asg(ScalingGroup),
    TargetGroup(TargetGroup),
}

/// A name that is looked up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DnsLookup {
    pub name: DnsName,
    /// Of A and AAAA records; `None`: SRV records, which name ports themselves.
    pub port: Option<u16>,
    /// Who is asked; empty: the resolvers of the system.
    pub resolvers: Vec<SocketAddr>,
}

/// The instances of a layer of an OpsWorks stack that are online.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpsWorksLayer {
    /// The stack's id or its name, which has to be of one stack only.
    pub stack: String,
    /// The layer's short name or id; `None`: every layer.
    pub layer: Option<String>,
    pub port: u16,
}

/// The instances that run and carry all of these tags.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ec2Instances {
    /// Never empty. OpsWorks's own tags are `opsworks:stack` and `opsworks:layer:SHORT_NAME`.
    pub tags: BTreeMap<String, String>,
    pub port: u16,
}

/// The instances of an Auto Scaling group that are in service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScalingGroup {
    pub name: String,
    pub port: u16,
}

/// The targets of an ELBv2 target group, each with the port it is registered with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetGroup {
    /// Its ARN or its name.
    pub group: String,
}
