//! Accepting: each connection finds a place, and becomes a task of the worker that it came to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Proxy;
use super::arrival::{Arrival, Entrance};
use super::capacity::{Capacity, NoPlace, Place};
use super::converse::{self, Visitor};
use super::deferral::Deferral;
use super::greet::{greet, hear};
use super::headers::Client;
use super::leave::{Leave, Stage};
use super::listen::Listener;
use super::loss::Loss;
use super::silence::Silence;
use crate::config;
use crate::metrics::ConnectionSheet;

/// What the connections of one listener share at one worker.
pub struct Station {
    pub worker: usize,
    pub proxy: Rc<Proxy>,
    pub leave: Rc<Leave>,
    pub capacity: Arc<Capacity>,
}

/// Accepts on one worker's socket until the worker leaves or the listener is shut; every connection becomes a task of
/// the same worker.
pub async fn accept(
    entrance: Entrance,
    listener: Arc<Listener>,
    station: Rc<Station>,
    mut shut: oneshot::Receiver<()>,
) {
    let (leave, mut is_shut) = (station.leave.clone(), false);
    let mut usher = Usher::new(entrance, listener, station);
    while !is_shut || usher.deferral.holds() {
        usher.follow();
        let accepted = tokio::select! {
            accepted = usher.entrance.accept() => accepted,
            () = usher.deferral.due() => {
                usher.deferral.look(&usher.entrance);
                continue;
            }
            () = leave.reached(Stage::Telling), if !usher.deferral.is_over() => {
                usher.deferral.stop(&usher.entrance);
                continue;
            }
            () = leave.reached(Stage::Closing) => break,
            _ = &mut shut, if !is_shut => {
                is_shut = true;
                continue;
            }
        };
        let (arrival, peer) = match accepted {
            Ok(arrived) => arrived,
            Err(error) => {
                usher.fails(&error).await;
                continue;
            }
        };
        // Only now that somebody has come is anybody asked to make room.
        tokio::select! {
            biased;
            () = usher.station.capacity.room(|| usher.station.proxy.edge()) => {}
            () = leave.reached(Stage::Closing) => {}
            _ = &mut shut, if !is_shut => is_shut = true,
            () = usher.deferral.due(), if is_shut => usher.deferral.look(&usher.entrance),
        }
        usher.follow();
        usher.receives(arrival, peer);
        usher.receives_more();
    }
    // Who has been let in by the system already would be turned away with the socket.
    usher.entrance.shut(|arrival, peer| receive(arrival, peer, &usher.listener, &usher.station));
}

/// Who lets in, at one worker, whoever comes by one listener.
struct Usher {
    entrance: Entrance,
    listener: Arc<Listener>,
    station: Rc<Station>,
    silence: Silence,
    /// Whoever waits in the socket when it is told something has inherited nothing of it, and has to be told apart.
    is_unsaid: bool,
    deferral: Deferral,
    /// When it was last told that nobody can be let in.
    told: Option<Instant>,
}

impl Usher {
    fn new(entrance: Entrance, listener: Arc<Listener>, station: Rc<Station>) -> Usher {
        let deferral = Deferral::new(station.capacity.clone(), &entrance);
        Usher { entrance, listener, station, silence: Silence::default(), is_unsaid: false, deferral, told: None }
    }

    /// Takes over what a reload has changed.
    fn follow(&mut self) {
        self.is_unsaid |= self.silence.follow(&self.entrance, &self.station.proxy.edge().rules.timeouts);
    }

    fn receives(&self, arrival: Arrival, peer: SocketAddr) {
        if self.is_unsaid {
            arrival.options().iter().for_each(|socket| self.silence.bound(&**socket));
        }
        receive(arrival, peer, &self.listener, &self.station);
    }

    /// Takes what else has come by now, without waiting: under load most connections are taken here.
    fn receives_more(&mut self) {
        let edge = self.station.proxy.edge();
        let mut came = 1;
        while came <= AT_ONCE && !self.station.capacity.is_full(&edge.rules.limits) {
            match self.entrance.accept_now() {
                Some(Ok((arrival, peer))) => self.receives(arrival, peer),
                // Out of descriptors, for one: the next who is waited for will tell.
                Some(Err(_)) => break,
                None => {
                    self.is_unsaid = false;
                    break;
                }
            }
            came += 1;
        }
        self.deferral.came(came, &self.entrance);
    }

    /// Out of descriptors, most likely: connections that end will free some.
    async fn fails(&mut self, error: &io::Error) {
        if self.told.is_none_or(|told| told.elapsed() > ACCEPT_TOLD) {
            tracing::warn!(listener = %self.listener.address, "cannot accept: {error}");
            self.told = Some(Instant::now());
        }
        self.station.capacity.ask_for_room();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn receive(arrival: Arrival, peer: SocketAddr, listener: &Arc<Listener>, station: &Rc<Station>) {
    let edge = station.proxy.edge();
    let ip = peer.ip().to_canonical();
    let trusted = edge.rules.trusted_proxies.iter().any(|network| network.contains(&ip));
    let place = match station.capacity.enter(ip, trusted, &edge.rules.limits) {
        // Between the look and the step another worker took the last place: one more is no harm.
        Ok(place) | Err(NoPlace::Full(place)) => place,
        Err(NoPlace::TooManyOfClient) => {
            listener.sheets[station.worker].lost[Loss::TooMany.number()].add(1);
            return;
        }
    };
    let open = Open::new(listener.sheets[station.worker].clone(), place);
    let (station, identity) = (station.clone(), listener.identity());
    let client = client(ip, identity.is_some(), listener.port.clone(), trusted, edge.rules.clone());
    let visitor = Visitor::new(client, edge, station.leave.clone(), open);
    // Two kinds of tasks, so that cleartext connections are not as large as those over TLS; in boxes, since the runtime moves
    // a task about six times.
    match identity {
        None => drop(tokio::task::spawn_local(Box::pin(async move {
            let Some((stream, ahead, visitor)) = Box::pin(hear(arrival, visitor, &station)).await else { return };
            converse::hold(stream, ahead, visitor, &station).await;
        }))),
        Some(identity) => drop(tokio::task::spawn_local(Box::pin(async move {
            let Some((stream, visitor)) = Box::pin(greet(arrival, visitor, &station, identity)).await else { return };
            converse::hold(stream, Vec::new(), visitor, &station).await;
        }))),
    }
}

/// The client as backends are told of it.
fn client(ip: IpAddr, tls: bool, port: HeaderValue, trusted: bool, edge: Arc<config::Edge>) -> Client {
    let address = HeaderValue::try_from(text(ip)).unwrap_or(HeaderValue::from_static(""));
    Client::new(address, HeaderValue::from_static(if tls { "https" } else { "http" }), port, trusted, edge)
}

/// An address as text. A formatter takes ten times as long, which is a twentieth of a connection for one request.
fn text(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip else { return ip.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in ip.octets().into_iter().enumerate() {
        text.push_str(if place == 0 { "" } else { "." });
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

/// One open connection, counted.
pub struct Open {
    pub sheet: Arc<ConnectionSheet>,
    place: Place,
}

impl Open {
    fn new(sheet: Arc<ConnectionSheet>, place: Place) -> Open {
        sheet.open.change(1);
        Open { sheet, place }
    }

    pub fn capacity(&self) -> Arc<Capacity> {
        self.place.capacity.clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.sheet.open.change(-1);
    }
}

/// Connections taken in one turn, so that those there are get theirs.
const AT_ONCE: usize = 16;
/// How long nobody is accepted where the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often it is told.
const ACCEPT_TOLD: Duration = Duration::from_secs(10);
