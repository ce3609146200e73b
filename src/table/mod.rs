//! The table: which service a request is for, and which color serves it now.

mod routes;
mod split;
mod switchboard;
mod warming;

use std::sync::Arc;
use std::time::Duration;

pub use self::routes::Routes;
pub use self::split::{Preview, Split};
#[cfg(test)]
pub use self::switchboard::tests::worker as test_worker;
pub use self::switchboard::{Published, Seat, Switchboard};
pub use self::warming::{Part, Warming};
use crate::config::{self, Share};
use crate::metrics::RefusalSheet;
use crate::names::{Color, PerColor, ServiceName};
use crate::pool::Pool;
use crate::tail::Tail;
use crate::time::Timestamp;

/// What every worker reads for every request. It never changes: a change is another table.
pub struct Table {
    /// Grows with every table, whichever service it was published for.
    pub version: u64,
    pub edge: Arc<Edge>,
    pub routes: Arc<Routes>,
    /// In the order of the config; `routes` speaks of places in this list.
    pub entries: Vec<Entry>,
}

/// What connections are held to that belong to no service yet.
pub struct Edge {
    pub rules: Arc<config::Edge>,
    /// How long a connection may be without a request.
    pub idle: Duration,
    /// How long a head may take from its first byte to its last.
    pub head: Duration,
}

impl Edge {
    /// A connection belongs to no service before its first head is read, so the most patient service decides.
    pub fn new(config: &config::Config) -> Edge {
        let longest = |of: fn(&config::Timeouts) -> Duration| {
            config.services.iter().map(|service| of(&service.timeouts)).max().unwrap_or_default()
        };
        Edge {
            rules: Arc::new(config.edge.clone()),
            idle: longest(|timeouts| timeouts.idle),
            head: longest(|timeouts| timeouts.head),
        }
    }
}

/// One service in the table.
#[derive(Clone)]
pub struct Entry {
    pub service: Arc<Service>,
    pub live: Color,
    /// How many times this service has been switched.
    pub generation: u64,
    pub since: Timestamp,
    /// This and the preview are of the other color, and open its pool. A restart begins with the split of its cutover alone.
    pub split: Option<Split>,
    pub preview: Option<Preview>,
    /// Of either color. It opens a pool to nobody but the proxy's own requests.
    pub warming: Option<Arc<Warming>>,
    /// There has been a preview, if only before a restart: some may come with an invitation that is over.
    pub invited: bool,
}

impl Entry {
    /// Only the live color is open.
    pub fn new(service: Arc<Service>, live: Color, generation: u64, since: Timestamp) -> Entry {
        Entry { service, live, generation, since, split: None, preview: None, warming: None, invited: false }
    }

    /// The colors that a client without an invitation may be led to, the live one first.
    pub fn led_to(&self) -> impl Iterator<Item = Color> {
        std::iter::once(self.live).chain(self.split.map(|split| split.to))
    }

    /// Whether new requests may enter the color's pool.
    pub fn opens(&self, color: Color) -> bool {
        let is_warmed = self.warming.as_ref().is_some_and(|warming| warming.to == color);
        color == self.live || self.split.is_some() || self.preview.is_some() || is_warmed
    }

    /// The pools new requests may enter, or those they may not.
    pub fn pools(&self, open: bool) -> impl Iterator<Item = &Arc<Pool>> {
        self.service.pools.iter().filter(move |(color, _)| self.opens(*color) == open).map(|(_, pool)| pool)
    }

    /// The color's share of clients.
    pub fn weight(&self, color: Color) -> Share {
        let other = self.split.map_or(Share(0), |split| split.share);
        if color == self.live { Share(Share::ALL.0 - other.0) } else { other }
    }
}

/// What a service is, apart from which color is live.
pub struct Service {
    pub name: ServiceName,
    pub rules: config::Service,
    pub pools: PerColor<Arc<Pool>>,
    /// One for each worker.
    pub refusals: Box<[Arc<RefusalSheet>]>,
    /// What comes through names that have moved on.
    pub tail: Arc<Tail>,
}

impl Service {
    /// The same service under other rules: who is inside, what is counted and what is known of its endpoints stays.
    pub fn under(&self, rules: config::Service) -> Service {
        let (pools, refusals, tail) = (self.pools.clone(), self.refusals.clone(), self.tail.clone());
        Service { name: self.name.clone(), rules, pools, refusals, tail }
    }
}

impl Table {
    /// Nothing to serve.
    #[cfg(test)]
    pub fn empty() -> Table {
        let edge = Edge { rules: Arc::default(), idle: Duration::ZERO, head: Duration::ZERO };
        Table { version: 1, edge: Arc::new(edge), routes: Arc::new(Routes::new(&[])), entries: Vec::new() }
    }

    pub fn entry(&self, service: &ServiceName) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.service.name == *service)
    }
}
