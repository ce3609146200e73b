//! Accepting: each connection finds a place, and becomes a task of the worker that it came to.

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
    let (mut silence, mut waited, mut told) = (Silence::default(), false, None::<Instant>);
    let mut deferral = Deferral::new();
    loop {
        // Whoever waits in the socket when it is told something has inherited nothing of it.
        waited |= silence.follow(&entrance, &station.proxy.edge().rules.timeouts);
        let accepted = tokio::select! {
            accepted = entrance.accept() => accepted,
            () = deferral.due() => {
                deferral.look(&entrance);
                continue;
            }
            () = station.leave.reached(Stage::Closing) => break,
            _ = &mut shut => break,
        };
        match accepted {
            Ok((arrival, peer)) => {
                waited |= silence.follow(&entrance, &station.proxy.edge().rules.timeouts);
                if waited {
                    bound(&silence, &arrival);
                }
                // Only now that somebody has come is anybody asked to make room.
                let is_shut = tokio::select! {
                    biased;
                    () = station.capacity.room(|| station.proxy.edge()) => false,
                    () = station.leave.reached(Stage::Closing) => false,
                    _ = &mut shut => true,
                };
                receive(arrival, peer, &listener, &station);
                if is_shut {
                    break;
                }
                let (more, is_last) = receive_more(&entrance, &listener, &station, waited.then_some(silence));
                waited &= !is_last;
                deferral.came(1 + more, &entrance);
            }
            // Out of descriptors, most likely: connections that end will free some.
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > ACCEPT_TOLD) {
                    tracing::warn!(listener = %listener.address, "cannot accept: {error}");
                    told = Some(Instant::now());
                }
                station.capacity.ask_for_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Some(until) = deferral.end(&entrance) {
        let all = async {
            while let Ok((arrival, peer)) = entrance.accept().await {
                receive(arrival, peer, &listener, &station);
            }
        };
        let _ = tokio::time::timeout_at(until, all).await;
    }
    entrance.shut(|arrival, peer| receive(arrival, peer, &listener, &station));
}

/// Takes what else has come by now, without waiting: under load most connections are taken here. Each is told of the
/// silence, if there is something to tell. How many they were, and whether nobody waits any more.
fn receive_more(
    entrance: &Entrance,
    listener: &Arc<Listener>,
    station: &Rc<Station>,
    silence: Option<Silence>,
) -> (usize, bool) {
    let edge = station.proxy.edge();
    for taken in 0..AT_ONCE {
        if station.capacity.is_full(&edge.rules.limits) {
            return (taken, false);
        }
        match entrance.accept_now() {
            None => return (taken, true),
            Some(Err(_)) => return (taken, false),
            Some(Ok((arrival, peer))) => {
                silence.iter().for_each(|silence| bound(silence, &arrival));
                receive(arrival, peer, listener, station);
            }
        }
    }
    (AT_ONCE, false)
}

/// Tells one that has waited of the silence.
fn bound(silence: &Silence, arrival: &Arrival) {
    arrival.options().iter().for_each(|socket| silence.bound(&**socket));
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
