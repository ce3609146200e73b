//! A guest: who asks, at a fork, and which way the request goes. Invitations come first, then what the client is known by.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request};

use super::body::Answer;
use super::converse::Visitor;
use super::fork::{Fork, Side};
use super::headers;
use super::record::Record;
use super::refusal::Refusal;
use super::sight::Sighting;
use crate::names::Color;
use crate::seal::{Badge, Invitation};
use crate::table::Split;
use crate::time;

/// A request at a fork. Where the table changes while it looks for its way, it stays the same guest.
pub struct Guest<'r> {
    head: &'r request::Parts,
    visitor: &'r Visitor,
    record: &'r mut Record,
    /// Given out to a client that has none.
    fresh: Option<Badge>,
}

/// The way a request goes, and what else becomes of it.
pub type Placed = Result<(Color, Option<Box<Side>>), Stop>;

/// Why a request goes to no backend.
#[derive(Debug)]
pub enum Stop {
    Refused(Refusal),
    /// The client is sent to the same place without its invitation, which it keeps as a cookie from then on.
    Elsewhere(Box<Redirect>),
    /// It was a probe of the proxy's own.
    Seen(Box<Sighting>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl<'r> Guest<'r> {
    pub fn new(head: &'r request::Parts, visitor: &'r Visitor, record: &'r mut Record) -> Guest<'r> {
        Guest { head, visitor, record, fresh: None }
    }

    /// The way that this request goes.
    pub fn place(&mut self, fork: &Rc<Fork>) -> Placed {
        let mut side = Side::new(fork);
        side.previewed = self.invited(fork).inspect_err(|_| self.record.addressed(&fork.other))?;
        let color = match (side.previewed, fork.split) {
            (Some(color), _) => color,
            (None, Some(split)) if self.takes(split, fork, &mut side) => split.to,
            (None, _) => fork.live,
        };
        Ok((color, Some(side)))
    }

    /// The color that this client is invited to see. An invitation that a request shows and that is not good is refused:
    /// who follows a link or runs a check must not take one color for the other.
    fn invited(&self, fork: &Fork) -> Result<Option<Color>, Stop> {
        if let Some(shown) = self.head.headers.get(headers::PREVIEW) {
            return Ok(Some(self.read(shown.as_bytes(), fork)?.to));
        }
        if let Some(shown) = headers::parameter(&self.head.uri, headers::PREVIEW.as_str()) {
            let invitation = self.read(shown.as_bytes(), fork)?;
            return Err(Stop::Elsewhere(Box::new(self.redirect(invitation, shown, fork))));
        }
        if !fork.is_open() {
            return Ok(None);
        }
        let other = fork.live.other();
        let is_invited = headers::cookies(&self.head.headers, &fork.invitation)
            .filter_map(|shown| Invitation::read(shown, &fork.seal, fork.service.name.as_str(), now()))
            .any(|invitation| invitation.to == other && fork.admits(&invitation));
        Ok((is_invited || self.is_near(fork)).then_some(other))
    }

    fn read(&self, shown: &[u8], fork: &Fork) -> Result<Invitation, Refusal> {
        let read = Invitation::read(shown, &fork.seal, fork.service.name.as_str(), now());
        read.filter(|invitation| fork.admits(invitation)).ok_or(Refusal::PreviewOver)
    }

    fn redirect(&self, invitation: Invitation, shown: &str, fork: &Fork) -> Redirect {
        let left = invitation.left(now()).unsigned_abs();
        Redirect {
            location: headers::without_parameter(&self.head.uri, headers::PREVIEW.as_str()),
            cookie: fork.cookie(&fork.invitation, shown, left, self.is_secure()),
        }
    }

    /// Whether the client is in one of the networks that need no link.
    fn is_near(&self, fork: &Fork) -> bool {
        let near = &fork.service.rules.cutover.preview.from;
        !near.is_empty() && self.address().is_some_and(|address| near.iter().any(|it| it.contains(&address)))
    }

    /// Whether this client belongs to the split's share. Who is known by nothing is given a badge, on either side.
    fn takes(&mut self, split: Split, fork: &Fork, side: &mut Side) -> bool {
        if let Some(name) = &fork.header {
            side.varies = true;
            if let Some(value) = self.head.headers.get(name) {
                return split.takes(value.as_bytes());
            }
        }
        let (now, service) = (now(), fork.service.name.as_str());
        let max_age = fork.service.rules.cutover.sticky.max_age;
        let mut shown = headers::cookies(&self.head.headers, &fork.badge);
        let (badge, given) = match shown.find_map(|shown| Badge::read(shown, &fork.seal, service)) {
            Some(badge) => (badge, badge.renewed(now, max_age)),
            None => {
                let fresh = *self.fresh.get_or_insert_with(|| Badge::new(fastrand::u64(..), now));
                (fresh, Some(fresh))
            }
        };
        let cookie = |badge: Badge| {
            fork.cookie(&fork.badge, &badge.write(&fork.seal, service), max_age.as_secs(), self.is_secure())
        };
        side.cookie = given.and_then(cookie);
        split.takes(&badge.client())
    }

    /// Whether the client came by HTTPS, to us or to a proxy that is trusted in this.
    fn is_secure(&self) -> bool {
        let client = &self.visitor.client;
        let told = self.head.headers.get(headers::X_FORWARDED_PROTO).filter(|_| client.trusted);
        told.unwrap_or(&client.proto) == "https"
    }

    /// The client's own address: behind trusted proxies the last one they name that is none of theirs.
    fn address(&self) -> Option<IpAddr> {
        let client = &self.visitor.client;
        let peer = ip(client.address.to_str().ok()?)?;
        if !client.trusted {
            return Some(peer);
        }
        let lines = self.head.headers.get_all(headers::X_FORWARDED_FOR);
        let mut named: Vec<&str> = Vec::new();
        for line in lines {
            named.extend(line.to_str().ok()?.split(',').map(str::trim));
        }
        let trusted = &self.visitor.edge.rules.trusted_proxies;
        for text in named.into_iter().rev() {
            // What cannot be read hides who stands behind it.
            let address = ip(text)?;
            if !trusted.iter().any(|network| network.contains(&address)) {
                return Some(address);
            }
        }
        Some(peer)
    }
}

/// Where a link's invitation is exchanged for a cookie.
#[derive(Debug)]
pub struct Redirect {
    location: String,
    cookie: Option<HeaderValue>,
}

impl Redirect {
    pub fn response(self) -> Response<Answer> {
        let mut response = Response::new(Answer::own(Bytes::new()));
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        let headers = response.headers_mut();
        headers.extend(HeaderValue::from_str(&self.location).ok().map(|location| (header::LOCATION, location)));
        headers.extend(self.cookie.map(|cookie| (header::SET_COOKIE, cookie)));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // The link must not go on to the next page's host.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

/// An address as proxies write it: some add the port.
fn ip(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// In seconds since 1970.
fn now() -> i64 {
    time::wall().0
}
