//! A worker's own view of the table: for each pool a lane with this worker's entrance, connections and counters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::fork::{Fork, Side};
use super::guest::{Placed, Stop};
use super::mirror::Copier;
use super::refusal::Refusal;
use super::sight::Sighting;
use super::upstream::{Basin, Turn, Upstream};
use crate::metrics::{ColorSheet, MirrorSheet, RefusalSheet, WarmSheet};
use crate::names::{PerColor, ServiceName};
use crate::pool::{Eligible, EligibleCell, Endpoint, Pool};
use crate::seal::{Probe, Seal};
use crate::table::{Service, Switchboard, Table, Warming};
use crate::tail::Tail;
use crate::time::{self, Moment};
use crate::turnstile::{Entrance, Pass};

/// Everything one worker needs to find its way, none of it shared with another thread.
pub struct Lanes {
    table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    view: RefCell<Rc<View>>,
    kit: Kit,
}

/// What all lanes of one worker have in common.
struct Kit {
    worker: usize,
    basin: Basin,
    seal: Arc<Seal>,
    copier: Rc<Copier>,
}

/// One table, with this worker's lanes beside each entry.
pub struct View {
    pub table: Arc<Table>,
    ways: Vec<Ways>,
}

/// The ways to one service.
struct Ways {
    lanes: PerColor<Rc<Lane>>,
    /// Where there is more than one.
    fork: Option<Rc<Fork>>,
}

/// A request's way into a pool.
pub struct Admission<P = Pass> {
    pub lane: Rc<Lane>,
    pub pass: P,
    /// How many times the service has been switched.
    pub generation: u64,
    /// Where the service is one that may go two ways.
    pub side: Option<Box<Side>>,
}

impl Lanes {
    pub fn new(switchboard: &Switchboard, worker: usize) -> Lanes {
        let mut table = Cache::new(switchboard.cell());
        let kit = Kit { worker, basin: Basin::default(), seal: switchboard.seal(), copier: Rc::default() };
        let view = View::new(table.load().clone(), &kit, &[]);
        Lanes { table: RefCell::new(table), view: RefCell::new(Rc::new(view)), kit }
    }

    /// The table as it is now: one relaxed load where it is the one seen last.
    pub fn look(&self) -> Rc<View> {
        let mut cache = self.table.borrow_mut();
        let table = cache.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(table, &view.table) {
            *view = Rc::new(View::new(table.clone(), &self.kit, &view.ways));
        }
        view.clone()
    }

    /// The lane of the service's live color as it is now, without stepping in.
    pub fn find(&self, host: &str, path: &str) -> Result<Rc<Lane>, Refusal> {
        let view = self.look();
        let place = view.table.routes.find(host, path).ok_or(Refusal::UnknownHost)?;
        Ok(view.ways[place].lanes[view.table.entries[place].live].clone())
    }

    /// Finds the service and steps into the pool that `guest` is for, the live one where there is no choice; if that pool
    /// closed in between, looks again.
    pub fn admit(
        &self,
        host: &str,
        path: &str,
        now: Moment,
        guest: impl FnMut(&Rc<Fork>) -> Placed,
    ) -> Result<Admission, Stop> {
        self.step(host, path, guest, |_, lane| lane.enter(now))
    }

    /// The way that such a request would go, without stepping in.
    pub fn sight(&self, host: &str, path: &str, guest: impl FnMut(&Rc<Fork>) -> Placed) -> Result<Sighting, Stop> {
        let look = |table: &Table, lane: &Rc<Lane>| lane.entrance.is_open().then_some(table.version);
        let Admission { lane, pass: version, generation, .. } = self.step(host, path, guest, look)?;
        let (worker, service, color) = (lane.worker, lane.service.name.clone(), lane.pool.color);
        Ok(Sighting { worker, version, service, color, generation })
    }

    /// Whether this is the sign of a probe of the service that the proxy has sent itself.
    pub fn signed(&self, shown: &[u8], service: &ServiceName) -> bool {
        Probe::is(shown, &self.kit.seal, service.as_str(), time::wall().0)
    }

    fn step<P>(
        &self,
        host: &str,
        path: &str,
        mut guest: impl FnMut(&Rc<Fork>) -> Placed,
        enter: impl Fn(&Table, &Rc<Lane>) -> Option<P>,
    ) -> Result<Admission<P>, Stop> {
        for _ in 0..LOOKS {
            let view = self.look();
            let place = view.table.routes.find(host, path).ok_or(Refusal::UnknownHost)?;
            let (entry, Ways { lanes, fork }) = (&view.table.entries[place], &view.ways[place]);
            let (color, side) = match fork {
                None => (entry.live, None),
                Some(fork) => guest(fork)?,
            };
            let lane = &lanes[color];
            if let Some(pass) = enter(&view.table, lane) {
                return Ok(Admission { lane: lane.clone(), pass, generation: entry.generation, side });
            }
        }
        Err(Refusal::NoColor.into())
    }

    /// The warm-ups that the table asks for now, each with the lane it is of.
    pub fn warmings(&self) -> Vec<(Arc<Warming>, Rc<Lane>)> {
        let view = self.look();
        let entries = view.table.entries.iter().zip(&view.ways);
        entries
            .filter_map(|(entry, ways)| entry.warming.clone().map(|it| (it.clone(), ways.lanes[it.to].clone())))
            .collect()
    }

    /// Closes connections to endpoints that nobody has used for their time; called once a second.
    pub fn sweep(&self) {
        for lane in self.look().ways.iter().flat_map(|ways| [&ways.lanes.blue, &ways.lanes.green]) {
            lane.sweep();
        }
    }
}

impl View {
    fn new(table: Arc<Table>, kit: &Kit, before: &[Ways]) -> View {
        let ways = table.entries.iter().enumerate().map(|(place, entry)| {
            let service = &entry.service;
            let same = |ways: &&Ways| Arc::ptr_eq(&ways.lanes.blue.pool, &service.pools.blue);
            // Most tables are a switch of one service: then each is where it was.
            let kept = before.get(place).filter(same).or_else(|| before.iter().find(same));
            let lanes = PerColor::from_fn(|color| match kept.map(|ways| &ways.lanes[color]) {
                Some(lane) if Arc::ptr_eq(&lane.service, service) => lane.clone(),
                Some(lane) => Rc::new(lane.under(service.clone())),
                None => Rc::new(Lane::new(service.clone(), service.pools[color].clone(), kit)),
            });
            Ways { fork: Fork::of(entry, &lanes, &kit.seal, &kit.copier), lanes }
        });
        View { ways: ways.collect(), table }
    }
}

/// This worker's side of one pool, under the rules the service has. Other rules make another lane on the same road.
pub struct Lane {
    pub service: Arc<Service>,
    pub pool: Arc<Pool>,
    pub sheet: Arc<ColorSheet>,
    pub refusals: Arc<RefusalSheet>,
    pub tail: Arc<Tail>,
    pub worker: usize,
    pub mirror: Arc<MirrorSheet>,
    pub warmth: Arc<WarmSheet>,
    /// Copies of requests that are on their way to this pool.
    pub copies: Rc<Cell<usize>>,
    entrance: Rc<Entrance>,
    road: Rc<Road>,
}

/// What of a lane lasts as long as its pool: the connections to its endpoints.
struct Road {
    eligible: RefCell<Cache<EligibleCell, Eligible>>,
    upstreams: RefCell<Upstreams>,
    window: Window,
    /// Seconds this road has lived: the clock its idle connections age by, so that no request reads a real one for it.
    age: Cell<u64>,
    basin: Basin,
}

/// Of hundreds of endpoints those that this worker chooses from now: as many as requests can want, and each in its time.
///
/// Were it any of a thousand, each request would find another connection, and the system's part of it is out of the
/// processor's cache by then: 12 % of all CPU, measured; 256 that are used again and again cost 3 %.
struct Window {
    first: Cell<usize>,
    turns: Cell<usize>,
}

impl Window {
    /// Workers, and proxies, begin at different places.
    fn new() -> Window {
        Window { first: Cell::new(fastrand::u32(..) as usize), turns: Cell::new(0) }
    }

    /// Two different places of `count`, which is at least two, while so many requests are under way.
    fn two(&self, count: usize, requests: usize) -> (usize, usize) {
        let size = count.min(FEWEST.max(requests * FOR_EACH));
        let a = fastrand::usize(..size);
        let b = (a + fastrand::usize(1..size)) % size;
        if size == count {
            return (a, b);
        }
        let turns = self.turns.get() + 1;
        self.turns.set(turns % STAY);
        self.first.set((self.first.get() + turns / STAY) % count);
        ((self.first.get() + a) % count, (self.first.get() + b) % count)
    }
}

#[derive(Default)]
struct Upstreams {
    made_from: Option<Eligible>,
    list: Vec<Rc<Upstream>>,
    /// Some have come up later than others, and do not get their whole share yet.
    is_uneven: bool,
}

impl Lane {
    fn new(service: Arc<Service>, pool: Arc<Pool>, kit: &Kit) -> Lane {
        let worker = kit.worker;
        Lane {
            sheet: pool.sheets[worker].clone(),
            refusals: service.refusals[worker].clone(),
            tail: service.tail.clone(),
            worker,
            mirror: pool.mirrors[worker].clone(),
            warmth: pool.warmth[worker].clone(),
            copies: Rc::default(),
            entrance: Entrance::new(pool.turnstile.clone(), worker),
            road: Rc::new(Road {
                eligible: RefCell::new(Cache::new(pool.eligible.clone())),
                upstreams: RefCell::default(),
                window: Window::new(),
                age: Cell::new(0),
                basin: kit.basin.clone(),
            }),
            service,
            pool,
        }
    }

    /// The same lane under other rules. Requests that are under way keep the rules they began with.
    fn under(&self, service: Arc<Service>) -> Lane {
        Lane {
            service,
            pool: self.pool.clone(),
            sheet: self.sheet.clone(),
            refusals: self.refusals.clone(),
            tail: self.tail.clone(),
            worker: self.worker,
            mirror: self.mirror.clone(),
            warmth: self.warmth.clone(),
            copies: self.copies.clone(),
            entrance: self.entrance.clone(),
            road: self.road.clone(),
        }
    }

    /// Steps into the pool; `None` where it is closed.
    pub fn enter(&self, now: Moment) -> Option<Pass> {
        self.entrance.enter(now)
    }

    /// A turn at the less busy of two random endpoints of the window, at none of `tried`; `None` where there is no other.
    ///
    /// Busy counts this worker's requests only: a count for all workers would be a cache line they fight over.
    pub fn choose(&self, tried: &[Rc<Upstream>]) -> Option<Turn> {
        self.refresh();
        let upstreams = self.road.upstreams.borrow();
        let list = upstreams.list.as_slice();
        let untried = |upstream: &&Rc<Upstream>| !tried.iter().any(|other| Rc::ptr_eq(other, upstream));
        let better = match list.len() {
            0 => return None,
            1 => &list[0],
            count => {
                let (a, b) = self.road.window.two(count, self.entrance.requests());
                match upstreams.is_uneven {
                    false if list[b].busy() < list[a].busy() => &list[b],
                    false => &list[a],
                    true => self.warmer(&list[a], &list[b]),
                }
            }
        };
        Some(better).filter(untried).or_else(|| list.iter().find(untried)).map(Upstream::turn)
    }

    /// Of two of which one may have come up just now: each by how warm it is, but a cold one never where it is busier.
    fn warmer<'u>(&self, a: &'u Rc<Upstream>, b: &'u Rc<Upstream>) -> &'u Rc<Upstream> {
        let warmth = |upstream: &Upstream| upstream.warmth(self.age(), self.slow_start());
        let (cold, warm) = if warmth(a) < warmth(b) { (a, b) } else { (b, a) };
        let (less, more) = (warmth(cold), warmth(warm));
        if less < more {
            let is_its_turn = fastrand::f32() * (less + more) < less;
            return if is_its_turn && cold.busy() <= warm.busy() { cold } else { warm };
        }
        if b.busy() < a.busy() { b } else { a }
    }

    /// In seconds, which is how exactly ages are known.
    fn slow_start(&self) -> u64 {
        self.service.rules.health.slow_start.as_secs_f64().ceil() as u64
    }

    /// A turn at this very endpoint; `None` where it is not up any more.
    pub fn turn_at(&self, endpoint: &Arc<Endpoint>) -> Option<Turn> {
        self.refresh();
        self.road.upstreams.borrow().list.iter().find(|upstream| upstream.is_of(endpoint)).map(Upstream::turn)
    }

    pub fn age(&self) -> u64 {
        self.road.age.get()
    }

    fn sweep(&self) {
        self.road.age.set(self.age() + 1);
        self.refresh();
        let keep = self.service.rules.timeouts.upstream_idle.as_secs().max(1);
        let mut upstreams = self.road.upstreams.borrow_mut();
        upstreams.list.iter().for_each(|upstream| upstream.sweep(self.age(), keep));
        upstreams.is_uneven = self.is_uneven(&upstreams.list);
    }

    fn is_uneven(&self, list: &[Rc<Upstream>]) -> bool {
        let mut warmth = list.iter().map(|upstream| upstream.warmth(self.age(), self.slow_start()));
        let first = warmth.next();
        warmth.any(|other| Some(other) != first)
    }

    /// Follows the pool's endpoints; those that stay keep their connections.
    fn refresh(&self) {
        let mut cache = self.road.eligible.borrow_mut();
        let eligible = cache.load();
        let mut upstreams = self.road.upstreams.borrow_mut();
        if upstreams.made_from.as_ref().is_some_and(|made_from| Arc::ptr_eq(made_from, eligible)) {
            return;
        }
        let kept = |endpoint: &Arc<Endpoint>| upstreams.list.iter().find(|upstream| upstream.is_of(endpoint)).cloned();
        let basin = &self.road.basin;
        let new =
            |endpoint: &Arc<Endpoint>| Upstream::new(endpoint.clone(), self.age(), self.sheet.clone(), basin.clone());
        let make = |endpoint: &Arc<Endpoint>| Rc::new(new(endpoint));
        let list: Vec<_> = eligible.iter().map(|endpoint| kept(endpoint).unwrap_or_else(|| make(endpoint))).collect();
        *upstreams = Upstreams { made_from: Some(eligible.clone()), is_uneven: self.is_uneven(&list), list };
    }
}

/// Of so many endpoints any may be chosen at any time.
const FEWEST: usize = 64;
/// Endpoints in the window for each request under way, so that of two one is most often free.
const FOR_EACH: usize = 4;
/// Requests before the window moves on by one endpoint.
const STAY: usize = 16;
/// A pool closes once for each switch, so a request that finds this many closed in a row sees no working table.
const LOOKS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::names::Color;

    /// A lane whose endpoints take ten seconds to get their whole share; each sweep of it is a second.
    fn lane() -> Lane {
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[service.shop]\nblue.endpoints = [\"127.0.0.1:1\"]\n\
            health.slow_start = \"10s\"";
        let config = Config::parse(text, std::path::Path::new("")).unwrap_or_else(|report| panic!("{report}"));
        let rules = config.services[0].clone();
        let pools = PerColor::from_fn(|color| Pool::new(&rules, color, &[], 1).0);
        let refusals = Box::new([Arc::new(RefusalSheet::new(1))]);
        let service = Service { name: rules.name.clone(), pools, refusals, tail: Arc::new(Tail::new(1)), rules };
        let kit = Kit { worker: 0, basin: Basin::default(), seal: Arc::new(Seal::temporary()), copier: Rc::default() };
        let pool = service.pools[Color::Blue].clone();
        Lane::new(Arc::new(service), pool, &kit)
    }

    fn endpoints(count: u16) -> Vec<Arc<Endpoint>> {
        (1..=count).map(|port| Arc::new(Endpoint { address: ([127, 0, 0, 1], port).into() })).collect()
    }

    /// How many of a thousand turns, one after the other, are at the last endpoint.
    fn at_the_last(lane: &Lane, last: &Arc<Endpoint>) -> usize {
        (0..1000).filter(|_| lane.choose(&[]).unwrap().upstream().is_of(last)).count()
    }

    #[test]
    fn the_share_of_an_endpoint_that_comes_up_later_rises_over_its_slow_start() {
        fastrand::seed(7);
        let (lane, all) = (lane(), endpoints(2));
        lane.pool.eligible.store(Arc::new(all[..1].to_vec()));
        (0..10).for_each(|_| lane.sweep());
        lane.pool.eligible.store(Arc::new(all.clone()));
        // Beside one that is warm: a share of 1 in 11, then 5 in 15, then the half.
        let mut shares = Vec::new();
        for _ in 0..3 {
            shares.push(at_the_last(&lane, &all[1]));
            (0..5).for_each(|_| lane.sweep());
        }
        let near = |share: usize, of: usize| share.abs_diff(of) < 75;
        assert!(near(shares[0], 91) && near(shares[1], 333) && near(shares[2], 500), "{shares:?}");
        assert!(!lane.road.upstreams.borrow().is_uneven, "nothing is left to be looked at");
    }

    #[test]
    fn a_cold_endpoint_that_is_busier_gets_nothing_and_one_that_is_alone_gets_all() {
        let (lane, all) = (lane(), endpoints(2));
        lane.pool.eligible.store(Arc::new(all[1..].to_vec()));
        assert_eq!(at_the_last(&lane, &all[1]), 1000);
        (0..10).for_each(|_| lane.sweep());
        lane.pool.eligible.store(Arc::new(all.clone()));
        let busy = lane.turn_at(&all[0]).unwrap();
        assert_eq!(at_the_last(&lane, &all[0]), 0);
        drop(busy);
        assert!(at_the_last(&lane, &all[0]) > 0);
    }

    #[test]
    fn of_a_thousand_endpoints_few_are_used_at_a_time_and_all_alike_in_the_end() {
        fastrand::seed(7);
        let (window, mut turns) = (Window::new(), vec![0; 1000]);
        let used = |turns: &[usize]| turns.iter().filter(|turns| **turns > 0).count();
        let choose = |turns: &mut [usize], times: usize| (0..times).for_each(|_| turns[window.two(1000, 1).0] += 1);
        choose(&mut turns, 800);
        let (few, most) = (FEWEST / 2, FEWEST + 800 / STAY);
        assert!((few..=most).contains(&used(&turns)), "{}", used(&turns));
        // Five times round: 80 each, within five of what chance makes of that.
        choose(&mut turns, 79_200);
        assert!(turns.iter().all(|turns| turns.abs_diff(80) < 45), "{:?}", (turns.iter().min(), turns.iter().max()));
    }

    #[test]
    fn the_window_is_as_wide_as_the_requests_under_way_need_and_never_twice_at_one_endpoint() {
        fastrand::seed(7);
        for (count, requests, size) in [(2, 1, 2), (64, 1, 64), (65, 1, 64), (1000, 64, 256), (1000, 400, 1000)] {
            let window = Window::new();
            let pairs: Vec<_> = (0..20_000).map(|_| window.two(count, requests)).collect();
            assert!(pairs.iter().all(|(a, b)| a != b && *a < count && *b < count), "{count} {requests}");
            // How far into the list they reach from where the window stands, before it has moved by one.
            let window = Window { first: Cell::new(0), turns: Cell::new(0) };
            let reach = (0..20_000).map(|_| (window.turns.set(0), window.two(count, requests).0).1).max();
            assert_eq!(reach, Some(size - 1), "{count} {requests}");
        }
    }

    #[test]
    fn endpoints_that_come_up_together_share_alike_from_the_first_turn_on() {
        let (lane, all) = (lane(), endpoints(2));
        lane.pool.eligible.store(Arc::new(all.clone()));
        assert!(at_the_last(&lane, &all[1]).abs_diff(500) < 80);
        assert!(!lane.road.upstreams.borrow().is_uneven);
    }
}
