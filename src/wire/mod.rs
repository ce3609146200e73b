//! DNS on the wire: one question to one name server, over UDP, and over TCP where the answer does not fit.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::names::DnsName;

/// Whether a server is asked for what it holds itself, or to find the answer for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recursion {
    Asked,
    Not,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("no answer within {} s, asked {TRIES} times", WAIT.as_secs())]
    Silent,
    #[error("cannot be asked: {0}")]
    Io(String),
    #[error("the answer cannot be read: {0}")]
    Garbled(String),
}

/// Asks over UDP, from another port and with another id each time; over TCP where the answer does not fit.
pub async fn ask(
    server: SocketAddr,
    name: &DnsName,
    kind: RecordType,
    recursion: Recursion,
) -> Result<Message, WireError> {
    let garbled = |error: hickory_proto::ProtoError| WireError::Garbled(error.to_string());
    let wire_name = Name::from_ascii(format!("{name}.")).map_err(garbled)?;
    let mut last = WireError::Silent;
    for _ in 0..TRIES {
        // The id is random.
        let mut question = Message::query();
        question.metadata.recursion_desired = recursion == Recursion::Asked;
        question.add_query(Query::query(wire_name.clone(), kind));
        let bytes = question.to_vec().map_err(garbled)?;
        match timeout(WAIT, over_udp(server, &bytes, &question)).await {
            Ok(Ok(answer)) if answer.metadata.truncation => {
                let whole = timeout(WAIT, over_tcp(server, &bytes, &question)).await;
                return whole.map_err(|_| WireError::Silent)?.map_err(|error| WireError::Io(error.to_string()));
            }
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = WireError::Io(error.to_string()),
            Err(_) => last = WireError::Silent,
        }
    }
    Err(last)
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

const TRIES: u32 = 3;
const WAIT: Duration = Duration::from_secs(2);
/// A UDP answer without EDNS has 512 octets at most; whoever sends more is read all the same.
const LARGEST: usize = 4096;
