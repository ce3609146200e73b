//! A hosted zone, as the follower needs it: record sets in it, batches that change it, and why one did not.

use std::fmt;
use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::names::{DnsName, RecordType};

/// Where records live. Implemented by whoever speaks to the provider; each call is one attempt with a deadline of its own,
/// and what to do about an error is decided by the caller.
pub trait Zone: Send + Sync {
    /// Who it is: asked once, and to find out whether the zone can be read at all.
    fn describe(&self) -> BoxFuture<'_, Result<ZoneInfo, ZoneError>>;

    /// Every record set of exactly this name, of all types and members, however many pages that takes.
    fn records<'a>(&'a self, name: &'a DnsName) -> BoxFuture<'a, Result<Vec<RecordSet>, ZoneError>>;

    /// Applies the batch whole or not at all.
    fn change<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<ChangeId, ZoneError>>;

    /// Has every one of the provider's name servers heard of that change?
    fn progress<'a>(&'a self, change: &'a ChangeId) -> BoxFuture<'a, Result<Progress, ZoneError>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneInfo {
    /// The domain that the zone is for.
    pub name: DnsName,
    /// The zone's own name servers, as host names.
    pub name_servers: Vec<DnsName>,
}

/// One record set, exactly as it is stored: what is deleted has to match in every part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordSet {
    pub name: DnsName,
    #[serde(rename = "type")]
    pub kind: RecordType,
    /// One of several weighted sets with this name and type; `None`: the only one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub member: Option<Member>,
    pub data: Data,
}

/// `shop.example.com A [green, weight 100] 60 s: 198.51.100.20`
impl fmt::Display for RecordSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)?;
        if let Some(Member { identifier, weight }) = &self.member {
            write!(f, " [{identifier}, weight {weight}]")?;
        }
        match &self.data {
            Data::Values { ttl, values } => write!(f, " {ttl} s: {}", values.join(", ")),
            Data::Alias { target, zone, evaluate_health } => {
                let health = if *evaluate_health { ", as its health says" } else { "" };
                write!(f, " alias of {target} in {zone}{health}")
            }
            Data::Foreign(what) => write!(f, ": {what}"),
        }
    }
}

/// Which of the weighted sets it is. The share of answers is the weight by the sum of all; all zero means all equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    pub identifier: String,
    pub weight: u8,
}

/// What a record set answers with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// The values as the provider writes them (TXT in quotes), and how many seconds resolvers may keep them.
    Values { ttl: u32, values: Vec<String> },
    /// What another name in that zone answers with; its TTL too.
    Alias { target: DnsName, zone: String, evaluate_health: bool },
    /// Something that is never written here, such as a geolocation or failover routing policy, or a health check: what makes it so.
    Foreign(String),
}

/// Changes that are applied together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Stands in the provider's own history.
    pub comment: String,
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub action: Action,
    pub set: RecordSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Refused where the set exists.
    Create,
    /// Refused where the set does not exist exactly so.
    Delete,
}

/// What the provider calls a batch that it has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Pending,
    InSync,
}

/// Why a call to the provider brought nothing; each with what it said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// The batch does not fit what is stored: something has changed since it was read. Nothing was applied.
    #[error("the change was refused whole: {}", .0.join("; "))]
    Conflict(Vec<String>),
    /// Too many requests, or another change is under way: the same call may be made again, later.
    #[error("the provider asks to wait: {0}")]
    Busy(String),
    /// The same call will fail again until somebody mends permissions, credentials, the config or the zone.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached or answered with an error of its own. A read may be made again.
    #[error("{0}")]
    Unreachable(String),
    /// The change may or may not have been applied: reading back tells.
    #[error("no answer came, so the change may or may not have been made: {0}")]
    Unknown(String),
}

/// A name server to ask directly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NameServer {
    /// One of the zone's own, whose address has to be looked up.
    Named(DnsName),
    At(SocketAddr),
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameServer::Named(name) => name.fmt(f),
            NameServer::At(address) => address.fmt(f),
        }
    }
}
