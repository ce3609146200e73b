//! An authoritative name server over any records: UDP and TCP, weighted answers, truncation, and the vices of real ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::route53::Set;

/// What a server answers from; asked anew for each question.
type Source = Arc<dyn Fn() -> Vec<Set> + Send + Sync>;

/// One server; dropping it ends it.
pub struct NameServer {
    pub address: SocketAddr,
    inside: Arc<Inside>,
    tasks: [JoinHandle<()>; 2],
}

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Manner {
    Proper,
    /// Answers nobody.
    Silent,
    /// Answers, but not as one who is in charge of the zone.
    Lame,
    /// Cuts every answer over UDP, so that it is asked over TCP.
    Truncating,
    /// Sends an answer to another question first, as a forger would.
    Forged,
    Refusing,
    /// Answers that it could not find out.
    Failing,
}

struct Inside {
    source: Source,
    manner: AtomicU8,
    asked: AtomicUsize,
    over_tcp: AtomicUsize,
}

impl NameServer {
    pub async fn start(source: impl Fn() -> Vec<Set> + Send + Sync + 'static) -> NameServer {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let inside = Arc::new(Inside {
            source: Arc::new(source),
            manner: AtomicU8::new(0),
            asked: AtomicUsize::new(0),
            over_tcp: AtomicUsize::new(0),
        });
        let tasks = [tokio::spawn(over_udp(udp, inside.clone())), tokio::spawn(over_tcp(tcp, inside.clone()))];
        NameServer { address, inside, tasks }
    }

    pub fn behave(&self, manner: Manner) {
        self.inside.manner.store(manner as u8, Ordering::Relaxed);
    }

    pub fn asked(&self) -> usize {
        self.inside.asked.load(Ordering::Relaxed)
    }

    pub fn asked_over_tcp(&self) -> usize {
        self.inside.over_tcp.load(Ordering::Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The same port for both.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn over_udp(socket: UdpSocket, inside: Arc<Inside>) {
    let mut buffer = [0; 512];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        if inside.is(Manner::Silent) {
            continue;
        }
        let answer = inside.answer(&question);
        if inside.is(Manner::Forged) {
            let mut forged = Message::response(question.metadata.id.wrapping_add(1), question.metadata.op_code);
            forged.add_queries(question.queries.clone());
            socket.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
        }
        let bytes = answer.to_vec().unwrap();
        let bytes = match bytes.len() > 512 || inside.is(Manner::Truncating) {
            true => answer.truncate().to_vec().unwrap(),
            false => bytes,
        };
        let _ = socket.send_to(&bytes, client).await;
    }
}

async fn over_tcp(listener: TcpListener, inside: Arc<Inside>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Whoever hangs up in the middle has asked nothing.
        let _ = converse(stream, &inside).await;
    }
}

async fn converse(mut stream: TcpStream, inside: &Inside) -> std::io::Result<()> {
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    let Ok(question) = Message::from_vec(&bytes) else { return Ok(()) };
    inside.over_tcp.fetch_add(1, Ordering::Relaxed);
    let answer = inside.answer(&question).to_vec().unwrap();
    stream.write_u16(answer.len() as u16).await?;
    stream.write_all(&answer).await
}

impl Inside {
    fn is(&self, manner: Manner) -> bool {
        self.manner.load(Ordering::Relaxed) == manner as u8
    }

    fn answer(&self, question: &Message) -> Message {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_queries(question.queries.clone());
        answer.metadata.authoritative = !self.is(Manner::Lame);
        let code = [(Manner::Refusing, ResponseCode::Refused), (Manner::Failing, ResponseCode::ServFail)];
        if let Some((_, code)) = code.into_iter().find(|(manner, _)| self.is(*manner)) {
            answer.metadata.response_code = code;
            return answer;
        }
        for query in &question.queries {
            let sets = (self.source)();
            let (known, records) = look_up(&sets, query.name(), query.query_type());
            answer.metadata.response_code = if known { ResponseCode::NoError } else { ResponseCode::NXDomain };
            answer.add_answers(records);
        }
        answer
    }
}

/// Whether the name is known, and one of its sets of that type, chosen by weight; a wildcard's where there is no other.
pub fn look_up(sets: &[Set], name: &Name, kind: RecordType) -> (bool, Vec<Record>) {
    let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let at = |wanted: &str| sets.iter().filter(|set| plain(&set.name) == wanted).cloned().collect::<Vec<_>>();
    let mut found = at(&text);
    if found.is_empty()
        && let Some((_, rest)) = text.split_once('.')
    {
        found = at(&format!("*.{rest}"));
    }
    let of_kind: Vec<&Set> = found.iter().filter(|set| set.kind == kind.to_string()).collect();
    let records = chosen(&of_kind).map(|set| records(set, name, kind)).unwrap_or_default();
    (!found.is_empty(), records)
}

fn chosen<'a>(sets: &[&'a Set]) -> Option<&'a Set> {
    let weight = |set: &Set| set.weight.unwrap_or(1);
    let total: u64 = sets.iter().map(|set| weight(set)).sum();
    if total == 0 {
        return fastrand::choice(sets.iter().copied());
    }
    let mut left = fastrand::u64(0..total);
    sets.iter().copied().find(|set| {
        let is_it = left < weight(set);
        left = left.saturating_sub(weight(set));
        is_it
    })
}

fn records(set: &Set, name: &Name, kind: RecordType) -> Vec<Record> {
    let ttl = set.ttl.map_or(60, |ttl| ttl as u32);
    let data = |value: &String| match kind {
        RecordType::A => value.parse().ok().map(|ip| RData::A(rdata::A(ip))),
        RecordType::AAAA => value.parse().ok().map(|ip| RData::AAAA(rdata::AAAA(ip))),
        RecordType::CNAME => Name::from_ascii(value).ok().map(|name| RData::CNAME(rdata::CNAME(name))),
        RecordType::SRV => srv(value),
        RecordType::TXT => Some(RData::TXT(rdata::TXT::new(vec![value.trim_matches('"').to_owned()]))),
        _ => None,
    };
    let values = match &set.alias {
        Some(_) => vec!["192.0.2.80".to_owned()],
        None => set.values.clone(),
    };
    values.iter().filter_map(data).map(|data| Record::from_rdata(name.clone(), ttl, data)).collect()
}

/// `PRIORITY WEIGHT PORT TARGET`.
fn srv(value: &str) -> Option<RData> {
    let mut words = value.split(' ');
    let mut number = || words.next()?.parse::<u16>().ok();
    let (priority, weight, port) = (number()?, number()?, number()?);
    Some(RData::SRV(rdata::SRV::new(priority, weight, port, Name::from_ascii(words.next()?).ok()?)))
}

fn plain(listed: &str) -> String {
    listed.trim_end_matches('.').replace("\\052", "*")
}
