//! How many client connections there may be, in all and from one client, counted over all workers.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::FixedState;
use tokio::sync::Notify;

use crate::config::EdgeLimits;
use crate::table::Edge;

/// The count of all connections. Its locks are taken once when a connection opens and once when it closes, never by a
/// request, and two workers rarely want the same one.
pub struct Capacity {
    /// More than that there cannot be, whatever the limits say.
    most: usize,
    open: AtomicUsize,
    /// Sockets whose clients the system may hold back.
    held: AtomicUsize,
    clients: Box<[Mutex<HashMap<IpAddr, usize>>]>,
    /// Connections closed at once, since their client had too many.
    turned_away: AtomicU64,
    /// Who waits for a connection to close; without anyone nobody is told.
    waiting: AtomicUsize,
    left: Notify,
    /// Connections that carry nothing.
    idle: AtomicUsize,
    /// The longest idle connection is woken first.
    evict: Notify,
}

/// A connection's place; dropping it frees it.
pub struct Place {
    pub capacity: Arc<Capacity>,
    client: Option<IpAddr>,
}

/// Why a connection gets no place.
pub enum NoPlace {
    /// All were taken; this is one more.
    Full(Place),
    /// This client has as many as one may have.
    TooManyOfClient,
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity::within(None)
    }
}

impl Capacity {
    /// As many as so many descriptors allow: each client has one, its backend another, and some are the proxy's own.
    pub fn within(descriptors: Option<u64>) -> Capacity {
        let most = |count: u64| usize::try_from(count.saturating_sub(OWN) / 2).unwrap_or(usize::MAX).max(1);
        Capacity {
            most: descriptors.map_or(usize::MAX, most),
            open: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            clients: (0..SHARDS).map(|_| Mutex::default()).collect(),
            turned_away: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            left: Notify::new(),
            idle: AtomicUsize::new(0),
            evict: Notify::new(),
        }
    }

    /// How many there may be.
    pub fn places(&self, limits: &EdgeLimits) -> usize {
        limits.connections.min(self.most)
    }

    /// A place for a connection from `client`; a trusted one is counted with all, not with its own.
    pub fn enter(self: &Arc<Capacity>, client: IpAddr, trusted: bool, limits: &EdgeLimits) -> Result<Place, NoPlace> {
        let client = (!trusted).then(|| network(client));
        if let Some(client) = client {
            let mut clients = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
            let count = clients.entry(client).or_insert(0);
            if *count >= limits.connections_per_client {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                return Err(NoPlace::TooManyOfClient);
            }
            *count += 1;
        }
        // From here on dropping the place undoes both counts.
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        let place = Place { capacity: self.clone(), client };
        if before >= self.places(limits) { Err(NoPlace::Full(place)) } else { Ok(place) }
    }

    /// Connections closed at once, since their client had too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub fn is_full(&self, limits: &EdgeLimits) -> bool {
        self.open.load(Ordering::Acquire) >= self.places(limits)
    }

    /// Resolves when there is a place, as the limits are then; meanwhile one idle connection after the other is asked to
    /// leave, the longest first.
    pub async fn room(&self, edge: impl Fn() -> Arc<Edge>) {
        while self.is_full(&edge().rules.limits) {
            self.ask_for_room();
            let left = self.until(|open| open < self.places(&edge().rules.limits));
            // Whoever was asked may just have been spoken to.
            let _ = tokio::time::timeout(EVICTION, left).await;
        }
    }

    /// Asks the longest idle connection to leave, where there is one.
    pub fn ask_for_room(&self) {
        if self.idle.load(Ordering::Acquire) > 0 {
            self.evict.notify_one();
        }
    }

    /// The limits have changed: whoever waits for a place looks again.
    pub fn look_again(&self) {
        self.left.notify_waiters();
    }

    /// Resolves when no connection is open, and nobody takes himself for connected who is not let in yet.
    pub async fn emptied(&self) {
        self.until(|open| open == 0 && self.held.load(Ordering::SeqCst) == 0).await;
    }

    /// A connection that carries nothing waits here; resolves when it should leave, so that another finds a place.
    pub async fn evicted(&self) {
        let _idle = Counted::new(&self.idle);
        self.evict.notified().await;
    }

    async fn until(&self, done: impl Fn(usize) -> bool) {
        let _waiting = Counted::new(&self.waiting);
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if done(self.open.load(Ordering::SeqCst)) {
                return;
            }
            left.await;
        }
    }

    /// There are fewer.
    fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.left.notify_waiters();
        }
    }

    fn shard(&self, client: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        &self.clients[FixedState::default().hash_one(client) as usize % SHARDS]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            let mut clients = self.capacity.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
            match clients.get_mut(&client) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(clients.remove(&client)),
            }
        }
        self.capacity.open.fetch_sub(1, Ordering::SeqCst);
        self.capacity.tell();
    }
}

/// A listening socket whose clients the system may hold back.
pub struct Held(Arc<Capacity>);

impl Held {
    pub fn of(capacity: &Arc<Capacity>) -> Held {
        capacity.held.fetch_add(1, Ordering::SeqCst);
        Held(capacity.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
        self.0.tell();
    }
}

/// One more, for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl Counted<'_> {
    fn new(count: &AtomicUsize) -> Counted<'_> {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whoever has one IPv6 address has a /64 of them (RFC 6177), so that is what counts as one client.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

const SHARDS: usize = 64;
/// Descriptors for what is not a client's: listeners, checks, the journal, operators.
const OWN: u64 = 64;
/// What one idle connection has to leave in before another is asked.
const EVICTION: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, connections_per_client: usize) -> EdgeLimits {
        EdgeLimits { connections, connections_per_client, ..EdgeLimits::default() }
    }

    #[test]
    fn one_client_cannot_take_all_places() {
        let capacity = Arc::new(Capacity::default());
        let enter = |client: &str, trusted| capacity.enter(client.parse().unwrap(), trusted, &limits(5, 2)).ok();
        let (a, _b) = (enter("192.0.2.1", false).unwrap(), enter("::ffff:192.0.2.1", false).unwrap());
        assert!(enter("192.0.2.1", false).is_none());
        assert_eq!(capacity.turned_away(), 1);
        let _other = enter("192.0.2.2", false).unwrap();
        let _trusted = enter("192.0.2.1", true).unwrap();
        drop(a);
        let _again = enter("192.0.2.1", false).unwrap();
        let _last = enter("192.0.2.3", false).unwrap();
        assert!(capacity.is_full(&limits(5, 2)));
        assert!(matches!(capacity.enter([192, 0, 2, 4].into(), false, &limits(5, 2)), Err(NoPlace::Full(_))));
    }

    #[test]
    fn there_are_no_more_places_than_descriptors_allow() {
        let places = |descriptors| Capacity::within(descriptors).places(&limits(20_000, 1));
        assert_eq!([None, Some(1 << 20), Some(1024), Some(200), Some(0)].map(places), [20_000, 20_000, 480, 68, 1]);
    }

    #[test]
    fn a_v6_client_is_its_whole_network_and_is_forgotten_with_its_last_connection() {
        let capacity = Arc::new(Capacity::default());
        let enter = |client: &str| capacity.enter(client.parse().unwrap(), false, &limits(10, 1)).ok();
        let one = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::2").is_none() && enter("2001:db8:0:1::1").is_some());
        drop(one);
        assert!(capacity.clients.iter().all(|shard| shard.lock().unwrap().is_empty()));
        assert!(enter("2001:db8::2").is_some());
    }
}
