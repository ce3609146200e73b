//! A worker's own view of the table: for each pool a lane with this worker's entrance, connections and counters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::refusal::Refusal;
use super::upstream::{Basin, Turn, Upstream};
use crate::metrics::{ColorSheet, RefusalSheet};
use crate::names::PerColor;
use crate::pool::{Eligible, EligibleCell, Endpoint, Pool};
use crate::table::{Entry, Service, Switchboard, Table};
use crate::tail::Tail;
use crate::time::Moment;
use crate::turnstile::{Entrance, Pass};

/// Everything one worker needs to find its way, none of it shared with another thread.
pub struct Lanes {
    worker: usize,
    basin: Basin,
    table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    view: RefCell<Rc<View>>,
}

/// One table, with this worker's lanes beside each entry.
pub struct View {
    pub table: Arc<Table>,
    lanes: Vec<PerColor<Rc<Lane>>>,
}

/// A request's way into a pool.
pub struct Admission {
    pub lane: Rc<Lane>,
    pub pass: Pass,
    /// How many times the service has been switched.
    pub generation: u64,
}

impl Lanes {
    pub fn new(switchboard: &Switchboard, worker: usize) -> Lanes {
        let mut table = Cache::new(switchboard.cell());
        let basin = Basin::default();
        let view = View::new(table.load().clone(), worker, &basin, &[]);
        Lanes { worker, basin, table: RefCell::new(table), view: RefCell::new(Rc::new(view)) }
    }

    /// The table as it is now: one relaxed load where it is the one seen last.
    pub fn look(&self) -> Rc<View> {
        let mut cache = self.table.borrow_mut();
        let table = cache.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(table, &view.table) {
            *view = Rc::new(View::new(table.clone(), self.worker, &self.basin, &view.lanes));
        }
        view.clone()
    }

    /// The lane of the service's live color as it is now, without stepping in.
    pub fn find(&self, host: &str, path: &str) -> Result<Rc<Lane>, Refusal> {
        let view = self.look();
        let place = view.table.routes.find(host, path).ok_or(Refusal::UnknownHost)?;
        Ok(view.lanes[place][view.table.entries[place].live].clone())
    }

    /// Finds the service and steps into its live pool; if that pool closed in between, looks again.
    pub fn admit(&self, host: &str, path: &str, now: Moment) -> Result<Admission, Refusal> {
        for _ in 0..LOOKS {
            let view = self.look();
            let place = view.table.routes.find(host, path).ok_or(Refusal::UnknownHost)?;
            let entry = &view.table.entries[place];
            let lane = &view.lanes[place][entry.live];
            if let Some(pass) = lane.entrance.enter(now) {
                return Ok(Admission { lane: lane.clone(), pass, generation: entry.generation });
            }
        }
        Err(Refusal::NoColor)
    }

    /// Closes connections to endpoints that nobody has used for their time; called once a second.
    pub fn sweep(&self) {
        for lane in self.look().lanes.iter().flat_map(|pair| [&pair.blue, &pair.green]) {
            lane.sweep();
        }
    }
}

impl View {
    fn new(table: Arc<Table>, worker: usize, basin: &Basin, before: &[PerColor<Rc<Lane>>]) -> View {
        let lanes = table.entries.iter().enumerate().map(|(place, Entry { service, .. })| {
            let same = |pair: &&PerColor<Rc<Lane>>| Arc::ptr_eq(&pair.blue.pool, &service.pools.blue);
            // Most tables are a switch of one service: then each is where it was.
            let kept = before.get(place).filter(same).or_else(|| before.iter().find(same));
            PerColor::from_fn(|color| match kept.map(|pair| &pair[color]) {
                Some(lane) if Arc::ptr_eq(&lane.service, service) => lane.clone(),
                Some(lane) => Rc::new(lane.under(service.clone())),
                None => Rc::new(Lane::new(service.clone(), service.pools[color].clone(), worker, basin)),
            })
        });
        View { lanes: lanes.collect(), table }
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
    entrance: Rc<Entrance>,
    road: Rc<Road>,
}

/// What of a lane lasts as long as its pool: the connections to its endpoints.
struct Road {
    eligible: RefCell<Cache<EligibleCell, Eligible>>,
    upstreams: RefCell<Upstreams>,
    /// Seconds this road has lived: the clock its idle connections age by, so that no request reads a real one for it.
    age: Cell<u64>,
    basin: Basin,
}

#[derive(Default)]
struct Upstreams {
    made_from: Option<Eligible>,
    list: Vec<Rc<Upstream>>,
}

impl Lane {
    fn new(service: Arc<Service>, pool: Arc<Pool>, worker: usize, basin: &Basin) -> Lane {
        Lane {
            sheet: pool.sheets[worker].clone(),
            refusals: service.refusals[worker].clone(),
            tail: service.tail.clone(),
            worker,
            entrance: Entrance::new(pool.turnstile.clone(), worker),
            road: Rc::new(Road {
                eligible: RefCell::new(Cache::new(pool.eligible.clone())),
                upstreams: RefCell::default(),
                age: Cell::new(0),
                basin: basin.clone(),
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
            entrance: self.entrance.clone(),
            road: self.road.clone(),
        }
    }

    /// A turn at the less busy of two random endpoints, at none of `tried`; `None` where there is no other.
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
                let a = fastrand::usize(..count);
                let b = (a + fastrand::usize(1..count)) % count;
                if list[b].busy() < list[a].busy() { &list[b] } else { &list[a] }
            }
        };
        Some(better).filter(untried).or_else(|| list.iter().find(untried)).map(Upstream::turn)
    }

    pub fn age(&self) -> u64 {
        self.road.age.get()
    }

    fn sweep(&self) {
        self.road.age.set(self.age() + 1);
        self.refresh();
        let keep = self.service.rules.timeouts.upstream_idle.as_secs().max(1);
        self.road.upstreams.borrow().list.iter().for_each(|upstream| upstream.sweep(self.age(), keep));
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
        let make = |endpoint: &Arc<Endpoint>| Upstream::new(endpoint.clone(), self.sheet.clone(), basin.clone());
        let list = eligible.iter().map(|endpoint| kept(endpoint).unwrap_or_else(|| Rc::new(make(endpoint)))).collect();
        *upstreams = Upstreams { made_from: Some(eligible.clone()), list };
    }
}

/// A pool closes once for each switch, so a request that finds this many closed in a row sees no working table.
const LOOKS: usize = 16;
