//! A pool: one color of one service. Its endpoints, their health, and who is inside.

mod health;
mod keeper;
mod probe;
pub mod shortage;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::health::{Check, EndpointHealth, Pace, Readiness, State};
use self::keeper::{Ends, Follow, Order};
pub use self::keeper::{Keeper, meet};
use crate::config;
use crate::metrics::{ColorSheet, MirrorSheet, MirrorSum, WarmSheet, WarmSum};
use crate::names::{Color, ServiceName};
use crate::turnstile::Turnstile;

/// One color of one service, shared by both planes.
pub struct Pool {
    pub service: ServiceName,
    pub color: Color,
    pub turnstile: Arc<Turnstile>,
    /// One for each worker.
    pub sheets: Box<[Arc<ColorSheet>]>,
    /// Of the copies of requests for this color; one for each worker.
    pub mirrors: Box<[Arc<MirrorSheet>]>,
    /// Of what it has been given to warm up; one for each worker.
    pub warmth: Box<[Arc<WarmSheet>]>,
    /// The endpoints a request may be sent to. Written by the keeper alone, and only when it differs.
    pub eligible: EligibleCell,
    health: watch::Receiver<Arc<Vec<EndpointHealth>>>,
    rounds: mpsc::Sender<keeper::RoundDone>,
    orders: mpsc::Sender<keeper::Order>,
    cut: watch::Sender<u64>,
}

/// The endpoints that are up, as both planes share them.
pub type Eligible = Arc<Vec<Arc<Endpoint>>>;
/// Where they are published; a worker keeps a cached look at it.
pub type EligibleCell = Arc<ArcSwap<Vec<Arc<Endpoint>>>>;

/// Where requests go: it keeps its identity for as long as its address stays in the pool.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
}

impl Pool {
    /// A closed pool, and the keeper that will check its endpoints once it runs. Those that have been met already come
    /// with what is known of them; the others are unknown.
    pub fn new(service: &config::Service, color: Color, met: &[EndpointHealth], workers: usize) -> (Arc<Pool>, Keeper) {
        let eligible = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let (keeper, Ends { health, rounds, orders }) = Keeper::new(service, color, met, eligible.clone());
        let pool = Pool {
            service: service.name.clone(),
            color,
            turnstile: Arc::new(Turnstile::new(workers)),
            sheets: (0..workers).map(|_| Arc::default()).collect(),
            mirrors: (0..workers).map(|_| Arc::default()).collect(),
            warmth: (0..workers).map(|_| Arc::default()).collect(),
            eligible,
            health,
            rounds,
            orders,
            cut: watch::Sender::new(0),
        };
        (Arc::new(pool), keeper)
    }

    /// What is known of every endpoint, in the order of the config.
    pub fn health(&self) -> Arc<Vec<EndpointHealth>> {
        self.health.borrow().clone()
    }

    /// What became of the copies of requests for this color, since the start.
    pub fn mirrored(&self) -> MirrorSum {
        let mut sum = MirrorSum::default();
        self.mirrors.iter().for_each(|sheet| sum.add(sheet));
        sum
    }

    /// What it has been given to warm up, since the start.
    pub fn warmed(&self) -> WarmSum {
        let mut sum = WarmSum::default();
        self.warmth.iter().for_each(|sheet| sum.add(sheet));
        sum
    }

    /// May this pool go live? Judged on what is known now.
    pub fn readiness(&self, min_healthy: config::Share) -> Readiness {
        health::readiness(&self.health.borrow(), min_healthy)
    }

    /// How many endpoints are up, with the newest check agreeing.
    pub fn good(&self) -> usize {
        health::good(&self.health.borrow())
    }

    /// Resolves once every endpoint has been checked; at once where there is none.
    pub async fn checked(&self) {
        let mut health = self.health.clone();
        // An error means that the keeper is gone, and then nothing will be checked any more.
        let _ = health.wait_for(|all| all.iter().all(|endpoint| endpoint.state != State::Unknown)).await;
    }

    /// Checks every endpoint once more, now, and resolves when the answers are in.
    pub async fn check_now(&self) {
        let (done, answered) = oneshot::channel();
        if self.rounds.send(done).await.is_ok() {
            // The keeper has ended where there is no answer: what is known now is all that will be known.
            let _ = answered.await;
        }
    }

    /// Takes over the service's endpoints and rules, also in the middle of a round. Endpoints that stay are not touched;
    /// those that join are as they have been `met`. When this returns, the next look of any worker finds them.
    pub async fn follow(&self, service: &config::Service, met: Vec<EndpointHealth>) {
        let (done, answered) = oneshot::channel();
        if self.orders.send(Order::Follow(Box::new(Follow::new(service, self.color, met, done)))).await.is_ok() {
            let _ = answered.await;
        }
    }

    /// Ends the checks: the pool is out of use. Requests inside it go on.
    pub async fn retire(&self) {
        // Where the keeper has ended already that is as good.
        let _ = self.orders.send(Order::End).await;
    }

    /// Closes every tunnel that is open now.
    pub fn cut_tunnels(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Resolves when [`Pool::cut_tunnels`] is called after this was made.
    pub fn tunnel_cut(&self) -> impl Future<Output = ()> + use<> {
        let mut cuts = self.cut.subscribe();
        async move {
            // An error means that the pool itself is gone, and a tunnel of no pool has to end as well.
            let _ = cuts.changed().await;
        }
    }
}
