//! What can be no endpoint, whoever proposes it: pure, but for the one question whether an address is this machine's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::source::Found;
use crate::names::Color;
use crate::pool::{EndpointHealth, State};

/// The proxy around a color, as it is at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Of the endpoints that are in the pool.
    pub health: Arc<Vec<EndpointHealth>>,
    /// The endpoints of the other color.
    pub others: Vec<SocketAddr>,
    /// Where this proxy listens itself.
    pub own: Vec<SocketAddr>,
}

impl Facts {
    /// Nobody uses it: it fails its checks, or is in no pool.
    pub fn has_failed(&self, address: &SocketAddr) -> bool {
        let known = self.health.iter().find(|endpoint| endpoint.address == *address);
        known.is_none_or(|endpoint| endpoint.state == State::Down)
    }

    pub fn in_pool(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.health.iter().map(|endpoint| endpoint.address)
    }
}

/// An address that is not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub address: SocketAddr,
    pub why: String,
}

/// Those that can be endpoints, in order and each once, and those that cannot.
pub fn vet(found: Vec<Found>, color: Color, facts: &Facts) -> (Vec<Found>, Vec<Refused>) {
    let each = found.into_iter().map(|one| {
        let address = SocketAddr::new(one.address.ip().to_canonical(), one.address.port());
        (address, Found { address, ..one })
    });
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for one in each.collect::<BTreeMap<_, _>>().into_values() {
        match why_not(one.address, color, facts) {
            None => good.push(one),
            Some(why) => refused.push(Refused { address: one.address, why }),
        }
    }
    (good, refused)
}

fn why_not(address: SocketAddr, color: Color, facts: &Facts) -> Option<String> {
    let ip = address.ip();
    let (is_link_local, is_broadcast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.is_broadcast()),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), false),
    };
    match () {
        () if address.port() == 0 => Some("nobody can be reached at port 0".to_owned()),
        () if ip.is_unspecified() => Some("it is no machine's address".to_owned()),
        () if ip.is_multicast() || is_broadcast => Some("it is the address of many".to_owned()),
        () if is_link_local => Some("it means another machine on each network (link-local)".to_owned()),
        () if facts.others.contains(&address) => {
            let other = color.other();
            Some(format!("it is an endpoint of {other}: `cutover status` shows whether it lingers there"))
        }
        () => {
            let own = facts.own.iter().find(|own| is_own(own, &address))?;
            Some(format!("this proxy itself listens there ({own})"))
        }
    }
}

fn is_own(own: &SocketAddr, address: &SocketAddr) -> bool {
    let everywhere = own.ip().is_unspecified() && (own.is_ipv6() || address.is_ipv4());
    own.port() == address.port() && (own.ip() == address.ip() || everywhere && is_here(address.ip()))
}

/// Whether the address is one of this machine's: only then it can be bound.
fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_backend_is_refused_with_the_reason() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let facts = Facts {
            others: vec![address("10.0.2.1:80")],
            own: ["0.0.0.0:8080", "10.0.0.9:443", "[::]:9000"].map(address).to_vec(),
            ..Facts::default()
        };
        for (text, reason) in [
            ("10.0.0.1:0", "port 0"),
            ("0.0.0.0:80", "no machine's"),
            ("[::]:80", "no machine's"),
            ("224.0.0.1:80", "of many"),
            ("[ff02::1]:80", "of many"),
            ("255.255.255.255:80", "of many"),
            ("169.254.169.254:80", "link-local"),
            ("[fe80::1]:80", "link-local"),
            ("10.0.2.1:80", "an endpoint of green"),
            ("[::ffff:10.0.2.1]:80", "an endpoint of green"),
            ("10.0.0.9:443", "listens there (10.0.0.9:443)"),
            ("127.0.0.1:8080", "listens there (0.0.0.0:8080)"),
            ("127.0.0.1:9000", "listens there ([::]:9000)"),
        ] {
            let (good, refused) = vet(vec![Found { address: address(text), name: None }], Color::Blue, &facts);
            assert!(good.is_empty() && refused[0].why.contains(reason), "{text}: {refused:?}");
        }
        // Another machine may well have the port that is listened on here.
        let good = ["10.0.0.1:8080", "192.0.2.7:443", "127.0.0.1:80", "[2001:db8::1]:80", "[::ffff:10.0.0.7]:80"];
        let found = good.iter().chain(&good).map(|text| Found { address: address(text), name: None }).collect();
        let (vetted, refused) = vet(found, Color::Blue, &facts);
        let in_order = ["10.0.0.1:8080", "10.0.0.7:80", "127.0.0.1:80", "192.0.2.7:443", "[2001:db8::1]:80"];
        assert_eq!(vetted.iter().map(|one| one.address).collect::<Vec<_>>(), in_order.map(address));
        assert!(refused.is_empty(), "{refused:?}");
    }
}
