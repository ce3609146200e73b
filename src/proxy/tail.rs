//! What a service's tail hears of a request, and whose connection is told to leave, so that its client looks the name up again.

use std::net::IpAddr;

use http::HeaderMap;

use super::converse::Visitor;
use super::headers;
use super::lanes::Lane;
use crate::time::Moment;

/// A request has come by way of a name that has moved on.
#[cold]
pub fn hear(lane: &Lane, visitor: &Visitor, fields: &HeaderMap, now: Moment) {
    let Some(span) = lane.tail.span() else { return };
    let is_first = span.meets(&visitor.known);
    // Who stands behind a proxy in front of us may be another with each request.
    let client = (is_first || visitor.client.trusted).then(|| client(visitor, fields)).flatten();
    span.hear(lane.worker, is_first, client, now);
    // Once is enough: the connection ends with what it carries.
    if !visitor.is_told.get() && span.takes_turn(lane.worker, lane.tail.rate(), visitor.born, now) {
        visitor.is_told.set(true);
    }
}

/// Who has sent it: the peer, or, where proxies stand in front whose word counts, the last one whom they name and who is
/// none of them.
fn client(visitor: &Visitor, fields: &HeaderMap) -> Option<IpAddr> {
    let peer = || visitor.client.address.to_str().ok()?.parse().ok();
    if !visitor.client.trusted {
        return peer();
    }
    let trusted = &visitor.edge.rules.trusted_proxies;
    let is_one = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
    headers::forwarded_for(fields).filter(|ip| !is_one(ip)).last().or_else(peer)
}
