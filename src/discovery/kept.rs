//! What the journal keeps of a color's endpoints, so that a start waits for no source.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::judge::{Known, Member, Standing};
use crate::config::DiscoverFrom;
use crate::journal::{Journal, Topic};
use crate::names::{Color, ServiceName};
use crate::time::Timestamp;

/// The endpoints of one color, as they were last known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub id: String,
    pub service: ServiceName,
    pub color: Color,
    /// Who was asked, as the config said it: of another source it says nothing.
    pub from: Value,
    /// When the last answer came that was believed and brought anything new.
    pub at: Timestamp,
    /// How many endpoints that answer had.
    pub named: usize,
    pub endpoints: Vec<KeptEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptEndpoint {
    pub address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

impl Kept {
    /// What this source last said, if it was ever believed.
    pub fn find(journal: &Journal, service: &ServiceName, color: Color, from: &DiscoverFrom) -> Option<Kept> {
        journal.find(&id(service, color)).filter(|kept: &Kept| kept.from == as_value(from))
    }

    /// Those that wait for their source's first answer were not said by it.
    pub fn of(known: &Known, service: &ServiceName, color: Color, from: &DiscoverFrom, at: Timestamp) -> Kept {
        let own = known.members.iter().filter(|member| member.standing != Standing::Inherited);
        let endpoint = |member: &Member| KeptEndpoint { address: member.address, name: member.name.clone() };
        Kept {
            id: id(service, color),
            service: service.clone(),
            color,
            from: as_value(from),
            at,
            named: known.named,
            endpoints: own.map(endpoint).collect(),
        }
    }

    /// Whether both say the same, whenever they say it.
    pub fn says(&self, other: &Kept) -> bool {
        (&self.from, self.named, &self.endpoints) == (&other.from, other.named, &other.endpoints)
    }
}

impl Topic for Kept {
    const NAME: &'static str = "discovery";

    fn id(&self) -> &str {
        &self.id
    }

    fn service(&self) -> &ServiceName {
        &self.service
    }
}

fn id(service: &ServiceName, color: Color) -> String {
    format!("{service}-{color}")
}

fn as_value(from: &DiscoverFrom) -> Value {
    // What cannot be told is equal to nothing that is kept.
    serde_json::to_value(from).unwrap_or_default()
}
