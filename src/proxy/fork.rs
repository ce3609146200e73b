//! A fork: what a worker knows of a service that may go two ways, and what becomes of a request that came to it.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header, request};

use super::forward::Outgoing;
use super::headers::{self, Vetted};
use super::lanes::Lane;
use super::mirror::{Copier, Pair};
use crate::config::Sticky;
use crate::names::{Color, PerColor};
use crate::seal::{Invitation, Seal};
use crate::table::{Entry, Preview, Service, Split};
use crate::time::Moment;

/// One for each service that is split, has been previewed, or says in its config that it may be; made anew with each table.
pub struct Fork {
    pub live: Color,
    pub split: Option<Split>,
    pub preview: Option<Preview>,
    pub service: Arc<Service>,
    pub seal: Arc<Seal>,
    /// The names of the badge's cookie and of the invitation's.
    pub badge: String,
    pub invitation: String,
    pub header: Option<HeaderName>,
    pub other: Rc<Lane>,
    copier: Rc<Copier>,
}

impl Fork {
    pub fn of(entry: &Entry, lanes: &PerColor<Rc<Lane>>, seal: &Arc<Seal>, copier: &Rc<Copier>) -> Option<Rc<Fork>> {
        let rules = &entry.service.rules.cutover;
        // Where it may come to that, what clients bring from the last time is kept from backends in between as well.
        let may_be = !rules.canary.is_empty() || !rules.ramp.is_zero() || rules.mirror.is_some();
        let may_be = may_be || !rules.preview.from.is_empty();
        if entry.split.is_none() && entry.preview.is_none() && !may_be && !entry.invited {
            return None;
        }
        let (name, Sticky { header, cookie, .. }) = (&entry.service.name, &rules.sticky);
        Some(Rc::new(Fork {
            live: entry.live,
            split: entry.split,
            preview: entry.preview,
            badge: cookie.clone().unwrap_or_else(|| format!("cutover-{name}")),
            invitation: format!("cutover-preview-{name}"),
            header: header.as_ref().and_then(|name| name.parse().ok()),
            service: entry.service.clone(),
            seal: seal.clone(),
            other: lanes[entry.live.other()].clone(),
            copier: copier.clone(),
        }))
    }

    /// Whether the other color has clients: a share of them, or those who are invited.
    pub fn is_open(&self) -> bool {
        self.split.is_some() || self.preview.is_some()
    }

    /// Whether the invitation leads to where it says: to a preview, or to what is live, as everything does.
    pub fn admits(&self, invitation: &Invitation) -> bool {
        invitation.to == self.live || self.preview.is_some_and(|preview| preview.welcomes(invitation))
    }

    /// A cookie of the proxy's own: for this service's paths, out of scripts' reach, not sent along by other sites' forms.
    pub fn cookie(&self, name: &str, value: &str, seconds: u64, is_secure: bool) -> Option<HeaderValue> {
        let (path, secure) = (self.service.rules.path.as_str(), if is_secure { "; Secure" } else { "" });
        let text = format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::from_str(&text).ok()
    }
}

/// What a fork has made of one request.
pub struct Side {
    fork: Rc<Fork>,
    /// The cookie that the client is given.
    pub cookie: Option<HeaderValue>,
    /// A field of the request decided.
    pub varies: bool,
    /// The color that is previewed.
    pub previewed: Option<Color>,
    pair: Option<Rc<Pair>>,
}

impl Side {
    pub fn new(fork: &Rc<Fork>) -> Box<Side> {
        Box::new(Side { fork: fork.clone(), cookie: None, varies: false, previewed: None, pair: None })
    }

    /// The head as a backend may see it, where it is not so already.
    pub fn cleaned(&self, head: &request::Parts, vetted: &mut Vetted) -> Option<Box<request::Parts>> {
        headers::without_cookies(head, [&self.fork.badge, &self.fork.invitation], vetted)
    }

    /// Hands in a copy of a request that goes to the live color, where it is one of those to be copied.
    pub fn mirror(&mut self, request: &Outgoing<'_>, lane: &Lane) {
        let Some(rules) = &self.fork.service.rules.cutover.mirror else { return };
        let is_one = self.fork.split.is_some()
            && lane.pool.color == self.fork.live
            && !request.vetted.websocket
            && rules.methods.iter().any(|method| *method == request.head.method.as_str());
        if is_one && fastrand::u16(..10_000) < rules.share.0 {
            self.pair = self.fork.copier.copy(&self.fork.other, request, rules);
        }
    }

    /// The answer's head is there: it is compared, and the client told what it has to know.
    pub fn answered(self, status: u16, begun: Moment, headers: &mut HeaderMap) {
        if let Some(pair) = &self.pair {
            pair.original(status, Moment::now().since(begun));
        }
        if let Some(header) = self.fork.header.as_ref().filter(|_| self.varies) {
            headers.append(header::VARY, HeaderValue::from_name(header.clone()));
        }
        if let Some(cookie) = self.cookie {
            headers::make_private(headers);
            headers.append(header::SET_COOKIE, cookie);
        }
        if let Some(color) = self.previewed {
            headers::make_fleeting(headers);
            if self.fork.service.rules.cutover.preview.mark {
                headers.insert(headers::COLOR, HeaderValue::from_static(color.as_str()));
            }
        }
    }
}
