//! The probes after a switch: the proxy asks itself through its own listeners, as a client would, which color each worker sees.
//!
//! A connection falls to whichever worker the kernel gives it, so connections are opened until each has answered. A probe
//! is routed by the worker's own table as any request is, and no backend hears of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::evidence::Probed;
use crate::config;
use crate::names::{Color, HostPattern};
use crate::proxy::{Listener, PROBE, Sighting};
use crate::seal::{self, Seal};
use crate::time::{self, Human};

/// What every worker is expected to see.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub live: Color,
    pub generation: u64,
    pub workers: usize,
}

/// Asks through each of the listeners that are open. Takes [`PATIENCE`] at the most.
pub async fn probe(listeners: &[Arc<Listener>], service: &config::Service, seal: &Seal, expected: Expected) -> Probed {
    let begun = Instant::now();
    let open = listeners.iter().filter(|listener| !listener.is_shut());
    let doors = open.map(|listener| (listener.address, Door::of(listener, service, seal)));
    let heard = join_all(doors.map(|(address, door)| ask_all(address, door, expected))).await;
    sum_up(&heard, expected, u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// What was heard through one listener.
#[derive(Debug)]
struct Heard {
    listener: SocketAddr,
    probes: u64,
    /// By worker; what is not as expected stays.
    seen: BTreeMap<usize, Sighting>,
    /// Why the last probe that came to nothing did.
    failed: Option<String>,
}

/// Opens connections to the listener until each worker has answered there, or no more is to be expected.
async fn ask_all(listener: SocketAddr, door: Result<Door, String>, expected: Expected) -> Heard {
    let mut heard = Heard { listener, probes: 0, seen: BTreeMap::new(), failed: None };
    let door = match door {
        Ok(door) => Arc::new(door),
        Err(why) => return Heard { failed: Some(why), ..heard },
    };
    let (mut under_way, mut left) = (FuturesUnordered::new(), most_probes(expected.workers));
    let all = async {
        loop {
            while heard.seen.len() < expected.workers && under_way.len() < AT_ONCE.min(left) {
                under_way.push(door.clone().ask_in_time());
            }
            // Those that have been sent are heard to their end, so that no worker is hung up on.
            let Some(answer) = under_way.next().await else { return };
            heard.note(answer, expected);
            left -= 1;
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        heard.failed.get_or_insert_with(|| format!("there was no more time than {}", Human(PATIENCE)));
    }
    heard
}

impl Heard {
    fn note(&mut self, answer: Result<Sighting, String>, expected: Expected) {
        self.probes += 1;
        match answer {
            Ok(seen) if seen.worker < expected.workers => {
                // One that was astray once is a finding, whatever it says later.
                let known = self.seen.entry(seen.worker).or_insert_with(|| seen.clone());
                if !expected.is_met_by(&seen) {
                    *known = seen;
                }
            }
            Ok(seen) => self.failed = Some(format!("a worker {} answered that there is not", seen.worker)),
            Err(why) => self.failed = Some(why),
        }
    }
}

impl Expected {
    fn is_met_by(&self, seen: &Sighting) -> bool {
        seen.color == self.live && seen.generation == self.generation
    }
}

/// What all of it comes to.
fn sum_up(heard: &[Heard], expected: Expected, took_ms: u64) -> Probed {
    let Expected { workers, .. } = expected;
    let reached = || heard.iter().filter(|heard| !heard.seen.is_empty());
    let probed = |worker: &usize| reached().count() > 0 && reached().all(|heard| heard.seen.contains_key(worker));
    let is_astray = |worker| {
        let mut seen = reached().filter_map(|heard| Some((heard.listener, heard.seen.get(&worker)?)));
        seen.find(|(_, seen)| !expected.is_met_by(seen)).map(|(listener, seen)| {
            let Sighting { color, generation, version, .. } = seen;
            format!("worker {worker} leads to {color} through {listener}, by generation {generation} (table {version})")
        })
    };
    let mut colors = reached().flat_map(|heard| heard.seen.values().map(|seen| seen.color));
    let first = colors.next();
    Probed {
        workers,
        probed: (0..workers).filter(probed).count(),
        saw: first.filter(|first| colors.all(|color| color == *first)),
        listeners: reached().count(),
        probes: heard.iter().map(|heard| heard.probes).sum(),
        took_ms,
        astray: (0..workers).filter_map(is_astray).collect(),
        unproved: heard.iter().filter_map(|heard| heard.misses(workers)).collect(),
    }
}

impl Heard {
    /// What could not be found out through this listener, and why.
    fn misses(&self, workers: usize) -> Option<String> {
        let Heard { listener, probes, seen, failed } = self;
        let why = failed.as_ref().map_or(String::new(), |why| format!(": {why}"));
        let missing = (0..workers).filter(|worker| !seen.contains_key(worker)).map(|worker| worker.to_string());
        let missing: Vec<String> = missing.collect();
        match (missing.is_empty(), seen.is_empty()) {
            (true, _) => None,
            (false, true) => Some(format!("{listener} could not be asked{why}")),
            (false, false) => {
                let missing = missing.join(", ");
                Some(format!("of {probes} probes through {listener} none came to worker {missing}{why}"))
            }
        }
    }
}

/// How a listener is reached from here, and with which question.
struct Door {
    address: SocketAddr,
    host: String,
    path: String,
    sign: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Door {
    fn of(listener: &Listener, service: &config::Service, seal: &Seal) -> Result<Door, String> {
        let (host, path) = (host_of(service), service.path.as_str().to_owned());
        let sign = seal::Probe::new(time::wall().0).write(seal, service.name.as_str());
        let tls = match listener.identity() {
            None => None,
            Some(identity) => {
                let client = Arc::new(identity.client().map_err(|error| error.to_string())?);
                let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(bare).map_err(|error| format!("{host} is no name for TLS: {error}"))?;
                Some((TlsConnector::from(client), name))
            }
        };
        Ok(Door { address: reachable(listener.address), host, path, sign, tls })
    }

    async fn ask_in_time(self: Arc<Door>) -> Result<Sighting, String> {
        let asked = tokio::time::timeout(PATIENCE_OF_ONE, self.ask()).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {}", Human(PATIENCE_OF_ONE))))
    }

    async fn ask(&self) -> Result<Sighting, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| format!("cannot connect: {error}"))?;
        let request = Request::get(&self.path)
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, concat!("cutover-probe/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .header(PROBE, &self.sign)
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let (status, body) = match &self.tls {
            None => exchange(stream, request).await?,
            Some((connector, name)) => {
                let greeted = connector.connect(name.clone(), stream).await;
                exchange(greeted.map_err(|error| format!("the TLS handshake failed: {error}"))?, request).await?
            }
        };
        let text = || String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).trim_end().to_owned();
        let no_sighting = |_| format!("answered {status}, and not which color it sees: {}", text());
        serde_json::from_slice(&body).map_err(no_sighting)
    }
}

/// An address that stands for all of the machine's is reached by its loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut reachable = address;
    reachable.set_ip(ip);
    reachable
}

/// A host that is the service's: one it names, one below what it names, or one that nobody can have (RFC 6761, 6.4).
fn host_of(service: &config::Service) -> String {
    let exact = service.hosts.iter().find(|host| matches!(host, HostPattern::Exact(_)));
    match exact.or(service.hosts.first()) {
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Below(suffix)) => format!("{LABEL}.{suffix}"),
        None => format!("{LABEL}.invalid"),
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("broken answer: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut exchange = pin!(async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        Ok((status, body.map_err(|error| format!("broken answer: {error}"))?.to_bytes()))
    });
    // Driven beside the request and dropped with it. It may end in the same moment as the answer arrives.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

/// Of so many probes none misses one of `workers` by chance but once in ten million times.
fn most_probes(workers: usize) -> usize {
    workers * (16 + workers.max(1).ilog2() as usize)
}

/// The first label of hosts made up for a probe.
const LABEL: &str = "cutover-probe";
/// For all probes through one listener. Only one that takes connections and says nothing makes a switch wait so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// For one of them: a worker that is no more than busy answers in time.
const PATIENCE_OF_ONE: Duration = Duration::from_secs(4);
/// Probes under way at one listener.
const AT_ONCE: usize = 4;
/// Bytes; an answer of ours has a hundred.
const LONGEST_ANSWER: usize = 4096;
/// Bytes that are shown of one that is none of ours.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const EXPECTED: Expected = Expected { live: Color::Green, generation: 3, workers: 2 };

    fn sighting(worker: usize, color: Color, generation: u64) -> String {
        let seen = Sighting { worker, version: 7, service: "shop".parse().unwrap(), color, generation };
        serde_json::to_string(&seen).unwrap()
    }

    /// What comes of asking a listener whose connections are answered with these bodies in turn, again and again.
    async fn probed(bodies: Vec<String>) -> Probed {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let turn = AtomicUsize::new(0);
        let serve = async {
            loop {
                let (mut stream, _) = socket.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                let body = &bodies[turn.fetch_add(1, Ordering::Relaxed) % bodies.len()];
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        };
        let text = |text: &str| text.to_owned();
        let door = Door { address, host: text("shop.test"), path: text("/"), sign: text("x"), tls: None };
        tokio::select! {
            heard = ask_all(address, Ok(door), EXPECTED) => sum_up(&[heard], EXPECTED, 3),
            () = serve => unreachable!(),
        }
    }

    #[tokio::test]
    async fn every_worker_is_waited_for_and_no_longer_than_that() {
        let probed = probed(vec![sighting(0, Color::Green, 3), sighting(1, Color::Green, 3)]).await;
        assert_eq!((probed.workers, probed.probed, probed.saw, probed.listeners), (2, 2, Some(Color::Green), 1));
        assert!(probed.probes <= 2 + AT_ONCE as u64 && probed.astray.is_empty() && probed.unproved.is_empty());
        assert_eq!(probed.by_sight(), [2, 0, 0]);
    }

    #[tokio::test]
    async fn a_worker_that_leads_elsewhere_is_a_finding_even_if_it_comes_round() {
        let two = [sighting(1, Color::Blue, 2), sighting(1, Color::Green, 3), sighting(0, Color::Green, 3)];
        let probed = probed(two.to_vec()).await;
        assert_eq!((probed.probed, probed.saw, probed.by_sight()), (2, None, [1, 1, 0]));
        assert!(probed.astray[0].starts_with("worker 1 leads to blue through 127.0.0.1:"), "{probed:?}");
        let stale = super::tests::probed(vec![sighting(0, Color::Green, 1), sighting(1, Color::Green, 3)]).await;
        assert_eq!(
            (stale.saw, stale.astray.len()),
            (Some(Color::Green), 1),
            "the color of another switch proves nothing"
        );
    }

    #[tokio::test]
    async fn what_could_not_be_asked_is_said_and_proves_nothing() {
        let one = probed(vec![sighting(0, Color::Green, 3)]).await;
        assert_eq!((one.probed, one.saw, one.by_sight()), (1, Some(Color::Green), [1, 0, 1]));
        assert!(one.unproved[0].starts_with("of 34 probes through 127.0.0.1:"), "{one:?}");
        assert!(one.unproved[0].ends_with(" none came to worker 1"), "{one:?}");
        let none = probed(vec!["a page".to_owned()]).await;
        assert_eq!((none.probed, none.saw, none.listeners, none.by_sight()), (0, None, 0, [0, 0, 2]));
        assert!(none.unproved[0].ends_with("answered 200 OK, and not which color it sees: a page"), "{none:?}");
        let stranger = probed(vec![sighting(9, Color::Green, 3)]).await;
        assert!(stranger.unproved[0].ends_with("a worker 9 answered that there is not"), "{stranger:?}");
        let heard = ask_all(reachable("0.0.0.0:1".parse().unwrap()), Err("no door".to_owned()), EXPECTED).await;
        assert_eq!(sum_up(&[heard], EXPECTED, 0).unproved, ["127.0.0.1:1 could not be asked: no door"]);
    }

    #[test]
    fn of_two_listeners_a_worker_has_to_answer_through_both() {
        let heard = |workers: &[usize]| Heard {
            listener: "127.0.0.1:80".parse().unwrap(),
            probes: 9,
            seen: workers
                .iter()
                .map(|it| (*it, serde_json::from_str(&sighting(*it, Color::Green, 3)).unwrap()))
                .collect(),
            failed: None,
        };
        let of = |all: &[&[usize]]| sum_up(&all.iter().map(|one| heard(one)).collect::<Vec<_>>(), EXPECTED, 0);
        assert_eq!((of(&[&[0, 1], &[0, 1]]).probed, of(&[&[0, 1], &[1]]).probed), (2, 1));
        let through_one = of(&[&[0, 1], &[]]);
        assert_eq!((through_one.probed, through_one.listeners, through_one.unproved.len()), (2, 1, 1));
    }
}
