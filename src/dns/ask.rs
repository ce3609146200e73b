//! Asks one name server one question, itself: no resolver stands between, so that no cache answers in its place.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType as WireType};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::zone::NameServer;
use crate::names::{DnsName, RecordType};
use crate::wire::{self, Recursion, WireError};

/// What a name server says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Sorted; empty: the name has nothing of that type.
    pub values: Vec<String>,
    /// The shortest of them.
    pub ttl: u32,
}

/// Why there is no answer to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("cannot be found: {0}")]
    Nowhere(String),
    #[error("answers {0}")]
    Code(String),
    #[error("does not speak for the zone: its answer is not authoritative")]
    NotAuthoritative,
}

/// Where a name server is. A name is looked up by the system, whose resolver may keep it as long as it likes: the
/// addresses of a zone's name servers do not move with the service.
pub async fn locate(server: &NameServer) -> Result<SocketAddr, AskError> {
    match server {
        NameServer::At(address) => Ok(*address),
        NameServer::Named(name) => {
            let nowhere = |why: &str| AskError::Nowhere(why.to_owned());
            let looked_up = timeout(LOOK_UP, lookup_host((name.as_str(), PORT))).await;
            let mut found = looked_up
                .map_err(|_| nowhere("its name was not looked up in time"))?
                .map_err(|error| nowhere(&error.to_string()))?;
            found.next().ok_or_else(|| nowhere("its name has no address"))
        }
    }
}

/// Asks the server itself for what it holds.
pub async fn ask(server: SocketAddr, name: &DnsName, kind: RecordType) -> Result<Reply, AskError> {
    let wire_kind = match kind {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Cname => WireType::CNAME,
        RecordType::Txt => WireType::TXT,
    };
    read(&wire::ask(server, name, wire_kind, Recursion::Not).await?, kind)
}

fn read(answer: &Message, kind: RecordType) -> Result<Reply, AskError> {
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        code => return Err(AskError::Code(code.to_string())),
    }
    if !answer.metadata.authoritative {
        return Err(AskError::NotAuthoritative);
    }
    let value = |data: &RData| match (data, kind) {
        (RData::A(ip), RecordType::A) => Some(ip.to_string()),
        (RData::AAAA(ip), RecordType::Aaaa) => Some(ip.to_string()),
        (RData::CNAME(name), RecordType::Cname) => Some(name.to_ascii().trim_end_matches('.').to_ascii_lowercase()),
        (RData::TXT(text), RecordType::Txt) => Some(text.to_string()),
        _ => None,
    };
    let found = answer.answers.iter().filter_map(|record| Some((value(&record.data)?, record.ttl)));
    let (mut values, ttls): (Vec<_>, Vec<_>) = found.unzip();
    values.sort_unstable();
    Ok(Reply { values, ttl: ttls.into_iter().min().unwrap_or(0) })
}

const PORT: u16 = 53;
const LOOK_UP: Duration = Duration::from_secs(5);
