//! Asks one name server one question, itself: no resolver stands between, so that no cache answers in its place.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType as WireType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::zone::NameServer;
use crate::names::{DnsName, RecordType};

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
    #[error("no answer within {} s, asked {TRIES} times", WAIT.as_secs())]
    Silent,
    #[error("cannot be asked: {0}")]
    Io(String),
    #[error("the answer cannot be read: {0}")]
    Garbled(String),
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
            let looked_up = timeout(LOOK_UP, lookup_host((name.as_str(), PORT))).await;
            let mut found =
                looked_up.map_err(|_| AskError::Silent)?.map_err(|error| AskError::Io(error.to_string()))?;
            found.next().ok_or_else(|| AskError::Io(format!("{name} has no address")))
        }
    }
}

/// Asks over UDP, from another port and with another id each time; over TCP where the answer does not fit.
pub async fn ask(server: SocketAddr, name: &DnsName, kind: RecordType) -> Result<Reply, AskError> {
    let wire_name = Name::from_ascii(format!("{name}.")).map_err(|error| AskError::Garbled(error.to_string()))?;
    let mut last = AskError::Silent;
    for _ in 0..TRIES {
        let question = question(&wire_name, kind);
        let bytes = question.to_vec().map_err(|error| AskError::Garbled(error.to_string()))?;
        match timeout(WAIT, over_udp(server, &bytes, &question)).await {
            Ok(Ok(answer)) if answer.metadata.truncation => {
                let whole = timeout(WAIT, over_tcp(server, &bytes, &question)).await;
                return read(
                    &whole.map_err(|_| AskError::Silent)?.map_err(|error| AskError::Io(error.to_string()))?,
                    kind,
                );
            }
            Ok(Ok(answer)) => return read(&answer, kind),
            Ok(Err(error)) => last = AskError::Io(error.to_string()),
            Err(_) => last = AskError::Silent,
        }
    }
    Err(last)
}

fn question(name: &Name, kind: RecordType) -> Message {
    let kind = match kind {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Cname => WireType::CNAME,
        RecordType::Txt => WireType::TXT,
    };
    // The id is random; recursion is not asked for, since the server is to answer from what it holds.
    let mut message = Message::query();
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name.clone(), kind));
    message
}

/// The socket is connected, so that the system takes answers from this server only; it has a port that it chose at random.
async fn over_udp(server: SocketAddr, bytes: &[u8], question: &Message) -> io::Result<Message> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What is no answer to this question may be a forgery, and the answer is still to come.
        if let Some(answer) = Message::from_vec(&buffer[..length]).ok().filter(|answer| answers(answer, question)) {
            return Ok(answer);
        }
    }
}

/// RFC 1035, section 4.2.2: each message behind its length.
async fn over_tcp(server: SocketAddr, bytes: &[u8], question: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
    match answers(&answer, question) {
        true => Ok(answer),
        false => Err(io::Error::other("it answers another question")),
    }
}

fn answers(answer: &Message, question: &Message) -> bool {
    use hickory_proto::op::MessageType::Response;
    let meta = &answer.metadata;
    meta.id == question.metadata.id && meta.message_type == Response && answer.queries == question.queries
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
const TRIES: u32 = 3;
const WAIT: Duration = Duration::from_secs(2);
const LOOK_UP: Duration = Duration::from_secs(5);
/// A UDP answer without EDNS has 512 octets at most; whoever sends more is read all the same.
const LARGEST: usize = 4096;
