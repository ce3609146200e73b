//! The source of names in the DNS: addresses under a name, or its SRV records and the addresses of their targets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use super::source::{Answer, Found, Source, SourceError};
use crate::config::{DiscoverFrom, DnsLookup};
use crate::names::DnsName;
use crate::wire::{self, Recursion, WireError};

pub struct Lookup {
    rules: DnsLookup,
    /// Where the system's resolvers stand.
    system: PathBuf,
    /// The place of the resolver that answered last: it is asked first, so that a dead one does not delay each question.
    first: AtomicUsize,
}

impl Lookup {
    pub fn new(rules: DnsLookup) -> Lookup {
        Lookup { rules, system: SYSTEM.into(), first: AtomicUsize::new(0) }
    }
}

impl Source for Lookup {
    fn says(&self) -> String {
        DiscoverFrom::Dns(self.rules.clone()).says()
    }

    fn ask(&self) -> BoxFuture<'_, Result<Answer, SourceError>> {
        let late = || SourceError::Unreachable(format!("no whole answer within {} s", DEADLINE.as_secs()));
        async move { timeout(DEADLINE, self.look_up()).await.unwrap_or_else(|_| Err(late())) }.boxed()
    }
}

impl Lookup {
    async fn look_up(&self) -> Result<Answer, SourceError> {
        let resolvers = match &self.rules.resolvers[..] {
            [] => system_resolvers(&self.system).await?,
            named => named.to_vec(),
        };
        match self.rules.port {
            Some(port) => self.addresses(&resolvers, port).await,
            None => self.services(&resolvers).await,
        }
    }

    async fn addresses(&self, resolvers: &[SocketAddr], port: u16) -> Result<Answer, SourceError> {
        let name = &self.rules.name;
        let Records { found, ttl, mut notes } = self.both(resolvers, name).await?;
        if !found.is_empty() {
            // What there is of one family says that there is none of the other.
            notes.clear();
        }
        let endpoints = found.into_iter().map(|ip| Found { address: SocketAddr::new(ip, port), name: None });
        Ok(Answer { endpoints: in_order(endpoints), left_out: notes, valid_for: ttl })
    }

    /// RFC 2782: those of the lowest priority; the others are for when these cannot be reached. Weights do not count.
    async fn services(&self, resolvers: &[SocketAddr]) -> Result<Answer, SourceError> {
        let Records { found, ttl, mut notes } = self.ask_for(resolvers, &self.rules.name, RecordType::SRV, srv).await?;
        let lowest = found.iter().map(|service| service.priority).min();
        let (used, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|service| Some(service.priority) == lowest);
        let spare = others.into_iter().map(|Service { priority, port, target }| {
            let target = target.to_ascii();
            let target = target.trim_end_matches('.');
            format!("{target}:{port} has priority {priority}, and there are some of {}", lowest.unwrap_or_default())
        });
        notes.extend(spare);
        let mut ports = BTreeMap::<Name, Vec<u16>>::new();
        used.into_iter().for_each(|service| ports.entry(service.target).or_default().push(service.port));
        if ports.len() > TARGETS {
            let says =
                format!("{} has {} targets, and no more than {TARGETS} are looked up", self.rules.name, ports.len());
            return Err(SourceError::Refused(says));
        }
        let targets = ports.into_iter().filter(|(target, _)| !target.is_root());
        let each = targets.map(|(target, ports)| async move {
            let name: DnsName = target.to_ascii().parse().map_err(|error| SourceError::Refused(format!("{error}")))?;
            Ok::<_, SourceError>((self.both(resolvers, &name).await?, name, ports))
        });
        let all: Vec<_> = stream::iter(each).buffered(AT_ONCE).try_collect().await?;
        let mut answer = Answer { endpoints: Vec::new(), left_out: notes, valid_for: ttl };
        for (Records { found, ttl, notes }, name, ports) in all {
            if found.is_empty() {
                answer.left_out.extend(notes);
            }
            answer.valid_for = [answer.valid_for, ttl].into_iter().flatten().min();
            let pairs = found.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port)));
            answer.endpoints.extend(pairs.map(|address| Found { address, name: Some(name.to_string()) }));
        }
        answer.endpoints = in_order(answer.endpoints);
        Ok(answer)
    }

    /// Of both families; half an answer is none.
    async fn both(&self, resolvers: &[SocketAddr], name: &DnsName) -> Result<Records<IpAddr>, SourceError> {
        let (v4, v6) = tokio::try_join!(
            self.ask_for(resolvers, name, RecordType::A, ip),
            self.ask_for(resolvers, name, RecordType::AAAA, ip),
        )?;
        Ok(Records {
            found: [v4.found, v6.found].concat(),
            ttl: [v4.ttl, v6.ttl].into_iter().flatten().min(),
            notes: [v4.notes, v6.notes].concat(),
        })
    }

    /// Asks one resolver after the other until one has an answer.
    async fn ask_for<T>(
        &self,
        resolvers: &[SocketAddr],
        name: &DnsName,
        kind: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> Result<Records<T>, SourceError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for place in (0..resolvers.len()).map(|place| (first + place) % resolvers.len()) {
            let resolver = resolvers[place];
            let failure = match wire::ask(resolver, name, kind, Recursion::Asked).await {
                Ok(answer) => match answer.metadata.response_code {
                    ResponseCode::NoError | ResponseCode::NXDomain => {
                        self.first.store(place, Ordering::Relaxed);
                        return Ok(Records::of(&answer, name, kind, read));
                    }
                    ResponseCode::Refused => SourceError::Refused(format!("resolver {resolver} refuses to answer")),
                    code => SourceError::Unreachable(format!("resolver {resolver} answers {code}")),
                },
                Err(WireError::Silent) => SourceError::Unreachable(format!("resolver {resolver} does not answer")),
                Err(error) => SourceError::Unreachable(format!("resolver {resolver} {error}")),
            };
            failures.push(failure);
        }
        let says: Vec<_> = failures.iter().map(ToString::to_string).collect();
        let says = format!("{kind} of {name}: {}", says.join("; "));
        match failures.iter().all(|failure| matches!(failure, SourceError::Refused(_))) {
            true => Err(SourceError::Refused(says)),
            false => Err(SourceError::Unreachable(says)),
        }
    }
}

/// What one or two answers hold.
struct Records<T> {
    found: Vec<T>,
    /// The shortest of those that led there.
    ttl: Option<Duration>,
    /// Why there is nothing, where there is nothing.
    notes: Vec<String>,
}

impl<T> Records<T> {
    /// A resolver has followed aliases, and what it found stands behind them.
    fn of(answer: &Message, name: &DnsName, kind: RecordType, read: fn(&RData) -> Option<T>) -> Records<T> {
        let found: Vec<T> = answer.answers.iter().filter_map(|record| read(&record.data)).collect();
        let ttl = answer.answers.iter().map(|record| record.ttl).min().filter(|_| !found.is_empty());
        let note = match answer.metadata.response_code {
            ResponseCode::NXDomain => format!("{name} does not exist"),
            _ => format!("{name} has no {kind} record"),
        };
        let notes = if found.is_empty() { vec![note] } else { Vec::new() };
        Records { found, ttl: ttl.map(|seconds| Duration::from_secs(seconds.into())), notes }
    }
}

struct Service {
    priority: u16,
    port: u16,
    target: Name,
}

fn srv(data: &RData) -> Option<Service> {
    match data {
        RData::SRV(srv) => Some(Service { priority: srv.priority, port: srv.port, target: srv.target.to_lowercase() }),
        _ => None,
    }
}

fn ip(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(ip) => Some(ip.0.into()),
        RData::AAAA(ip) => Some(ip.0.into()),
        _ => None,
    }
}

fn in_order(found: impl IntoIterator<Item = Found>) -> Vec<Found> {
    let by_address: BTreeMap<SocketAddr, Found> = found.into_iter().map(|one| (one.address, one)).collect();
    by_address.into_values().collect()
}

/// Read with each question, since the system's resolvers may become others.
async fn system_resolvers(file: &Path) -> Result<Vec<SocketAddr>, SourceError> {
    let text = tokio::fs::read_to_string(file).await;
    let path = file.display();
    let text = text.map_err(|error| SourceError::Refused(format!("{path} cannot be read: {error}")))?;
    let found: Vec<_> = text.lines().filter_map(resolver).take(RESOLVERS).collect();
    match found.is_empty() {
        true => Err(SourceError::Refused(format!("{path} names no resolver; name them as `resolvers`"))),
        false => Ok(found),
    }
}

fn resolver(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    let ip = words.next().filter(|word| *word == "nameserver").and(words.next())?;
    Some(SocketAddr::new(ip.parse().ok()?, PORT))
}

const SYSTEM: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// As many as the C library reads.
const RESOLVERS: usize = 3;
/// Everything together.
const DEADLINE: Duration = Duration::from_secs(30);
/// Targets of SRV records, and how many are looked up at one time.
const TARGETS: usize = 1000;
const AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_resolvers_of_the_system_are_read_as_the_c_library_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let read = async |text: &str| {
            std::fs::write(&file, text).unwrap();
            system_resolvers(&file).await
        };
        let text = "# nameserver 10.0.0.9\nsearch internal\nnameserver 10.0.0.2\nnameserver\tfd00::2 # second\n\
                    nameserver somewhere\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        let expected = ["10.0.0.2:53", "[fd00::2]:53", "10.0.0.3:53"].map(|address| address.parse().unwrap());
        assert_eq!(read(text).await, Ok(expected.to_vec()));
        let none = read("search internal\n").await.unwrap_err();
        assert!(none.to_string().contains("names no resolver"), "{none}");
        let gone = system_resolvers(&folder.path().join("gone")).await.unwrap_err();
        assert!(matches!(gone, SourceError::Refused(_)), "{gone}");
    }
}
