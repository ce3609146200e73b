//! The keeper of a pool: checks its endpoints round by round, and is the one writer of what workers may use.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::health::{Check, EndpointHealth, Pace, State};
use super::probe::{self, Miss};
use super::{EligibleCell, Endpoint};
use crate::config;
use crate::names::Color;
use crate::time;

/// Whoever asked for a round is told here that it is over.
pub type RoundDone = oneshot::Sender<()>;

/// What a keeper is told to do, also in the middle of a round.
pub enum Order {
    Follow(Box<Follow>),
    End,
}

/// The pool's endpoints as they are to be from now on, and how they are checked.
pub struct Follow {
    terms: Terms,
    addresses: Vec<SocketAddr>,
    /// What is known already of those that join.
    newcomers: Vec<EndpointHealth>,
    done: oneshot::Sender<()>,
}

impl Follow {
    pub fn new(
        service: &config::Service,
        color: Color,
        newcomers: Vec<EndpointHealth>,
        done: oneshot::Sender<()>,
    ) -> Follow {
        Follow { terms: Terms::of(service, color), addresses: service.stacks[color].endpoints.clone(), newcomers, done }
    }
}

/// Checks the endpoints of `service` that are not among the `known` ones, before they join: a first check decides.
pub async fn meet(service: &config::Service, color: Color, known: &[EndpointHealth]) -> Vec<EndpointHealth> {
    let terms = Terms::of(service, color);
    let is_new = |address: &&SocketAddr| !known.iter().any(|endpoint| endpoint.address == **address);
    let newcomers: Vec<_> = service.stacks[color].endpoints.iter().filter(is_new).copied().collect();
    let terms = &terms;
    let checks = newcomers.into_iter().map(|address| async move {
        EndpointHealth::unknown(address).checked(terms.check(address).await, &terms.rules, Pace::Regular)
    });
    stream::iter(checks).buffered(CHECKS_AT_ONCE).collect().await
}

/// Runs as one task on the deciding runtime, for as long as the pool is in use.
pub struct Keeper {
    terms: Arc<Terms>,
    name: String,
    /// In the order of the config, as `health` is.
    endpoints: Vec<Arc<Endpoint>>,
    eligible: EligibleCell,
    health: watch::Sender<Arc<Vec<EndpointHealth>>>,
    rounds: mpsc::Receiver<RoundDone>,
    orders: mpsc::Receiver<Order>,
}

/// The other ends of a keeper.
pub struct Ends {
    pub health: watch::Receiver<Arc<Vec<EndpointHealth>>>,
    pub rounds: mpsc::Sender<RoundDone>,
    pub orders: mpsc::Sender<Order>,
}

impl Keeper {
    /// Endpoints begin as they are in `met`; those that are not there are unknown.
    pub fn new(
        service: &config::Service,
        color: Color,
        met: &[EndpointHealth],
        eligible: EligibleCell,
    ) -> (Keeper, Ends) {
        let (health, seen) = watch::channel(Arc::new(Vec::new()));
        let (ask, rounds) = mpsc::channel(ROUNDS_ASKED);
        let (tell, orders) = mpsc::channel(1);
        let terms = Arc::new(Terms::of(service, color));
        let name = format!("{} {color}", service.name);
        let mut keeper = Keeper { terms, name, endpoints: Vec::new(), eligible, health, rounds, orders };
        keeper.take_in(&service.stacks[color].endpoints, met);
        (keeper, Ends { health: seen, rounds: ask, orders: tell })
    }

    /// Checks at once, then each interval, and whenever somebody asks. Ends with its pool, or when told to.
    pub async fn run(mut self) {
        let mut terms = self.terms.clone();
        let mut ticks = terms.ticks();
        // Whoever asks while a round runs gets the next one: its answers are all younger than the question.
        let mut asked = Vec::new();
        loop {
            if !Arc::ptr_eq(&terms, &self.terms) {
                terms = self.terms.clone();
                ticks = terms.ticks();
            }
            if asked.is_empty() {
                tokio::select! {
                    _ = ticks.tick() => {}
                    first = self.rounds.recv() => match first {
                        Some(done) => asked.push(done),
                        None => return,
                    },
                    order = self.orders.recv() => match self.obey(order) {
                        Course::Ended => return,
                        Course::Over | Course::Anew => continue,
                    },
                }
            }
            let pace = if asked.is_empty() { Pace::Regular } else { Pace::Extra };
            while let Ok(done) = self.rounds.try_recv() {
                asked.push(done);
            }
            match self.round(pace).await {
                Course::Over => asked.drain(..).for_each(tell),
                Course::Anew => {}
                Course::Ended => return,
            }
        }
    }

    async fn round(&mut self, pace: Pace) -> Course {
        let mut answers = HashMap::new();
        let addresses: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let terms = self.terms.clone();
        let checks = addresses.into_iter().map(move |address| {
            let terms = terms.clone();
            async move { (address, terms.check(address).await) }
        });
        let mut checks = stream::iter(checks).buffer_unordered(CHECKS_AT_ONCE);
        loop {
            tokio::select! {
                answer = checks.next() => match answer {
                    Some((address, check)) => drop(answers.insert(address, check)),
                    None => break,
                },
                order = self.orders.recv() => match self.obey(order) {
                    Course::Over => {}
                    // Answers to what is not asked any more count for nothing.
                    course => return course,
                },
            }
        }
        self.settle(answers, pace);
        Course::Over
    }

    fn obey(&mut self, order: Option<Order>) -> Course {
        let Some(Order::Follow(follow)) = order else { return Course::Ended };
        let Follow { terms, addresses, newcomers, done } = *follow;
        let same = self.endpoints.iter().map(|endpoint| endpoint.address).eq(addresses.iter().copied());
        if !same {
            self.take_in(&addresses, &newcomers);
        }
        let changed = *self.terms != terms;
        if changed {
            self.terms = Arc::new(terms);
        }
        tell(done);
        if changed { Course::Anew } else { Course::Over }
    }

    /// Endpoints that stay are the same as before, with everything that is known of them.
    fn take_in(&mut self, addresses: &[SocketAddr], newcomers: &[EndpointHealth]) {
        let before = self.health.borrow().clone();
        let one = |address: &SocketAddr| match before.iter().position(|endpoint| endpoint.address == *address) {
            Some(place) => (self.endpoints[place].clone(), before[place].clone()),
            None => {
                let met = newcomers.iter().find(|endpoint| endpoint.address == *address).cloned();
                let health = met.unwrap_or_else(|| EndpointHealth::unknown(*address));
                (Arc::new(Endpoint { address: *address }), health)
            }
        };
        let (endpoints, health): (Vec<_>, Vec<_>) = addresses.iter().map(one).unzip();
        self.endpoints = endpoints;
        self.publish(health);
    }

    /// Takes in what a round has found; endpoints may have come and gone meanwhile.
    fn settle(&self, mut answers: HashMap<SocketAddr, Check>, pace: Pace) {
        let before = self.health.borrow().clone();
        let after = before.iter().map(|endpoint| match answers.remove(&endpoint.address) {
            Some(check) => endpoint.clone().checked(check, &self.terms.rules, pace),
            None => endpoint.clone(),
        });
        let after: Vec<_> = after.collect();
        for (old, new) in before.iter().zip(&after) {
            if old.state != new.state {
                tracing::info!(pool = %self.name, from = old.state.as_str(), "endpoint {}", new.says());
            }
        }
        self.publish(after);
    }

    fn publish(&self, after: Vec<EndpointHealth>) {
        let both = self.endpoints.iter().zip(&after);
        let up: Vec<_> = both.filter(|(_, health)| health.state == State::Up).map(|(endpoint, _)| endpoint).collect();
        let is_same = |(old, new): (&Arc<Endpoint>, &&Arc<Endpoint>)| Arc::ptr_eq(old, new);
        let now = self.eligible.load();
        // An equal answer touches nothing: workers would look through all of it again.
        if now.len() != up.len() || !now.iter().zip(&up).all(is_same) {
            self.eligible.store(Arc::new(up.into_iter().cloned().collect()));
        }
        self.health.send_replace(Arc::new(after));
    }
}

/// Whoever does not wait any more is no matter: what he asked for has been done all the same.
fn tell(done: oneshot::Sender<()>) {
    let _ = done.send(());
}

/// How a round, or an order in it, ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Over,
    /// What is checked, or how, has changed: a round has to begin anew.
    Anew,
    Ended,
}

/// How endpoints are checked.
#[derive(PartialEq)]
struct Terms {
    rules: config::Health,
    /// What a check asks for; left out: the endpoint's own address.
    host: Option<String>,
    /// What the color's answers name as their stack, where they have to.
    stack: Option<String>,
}

impl Terms {
    fn of(service: &config::Service, color: Color) -> Terms {
        Terms {
            rules: service.health.clone(),
            host: service.own_host().map(str::to_owned),
            stack: service.stacks[color].stack.clone(),
        }
    }

    fn ticks(&self) -> Interval {
        let mut ticks = tokio::time::interval(self.rules.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    async fn check(&self, address: SocketAddr) -> Check {
        let own = address.to_string();
        let host = self.host.as_deref().unwrap_or(&own);
        let answer = probe::probe(address, host, self.stack.as_deref(), &self.rules).await;
        let (counts, answer) = match answer {
            Ok(passed) => (true, Ok(passed)),
            Err(Miss::Failed(why)) => (true, Err(why)),
            Err(Miss::Unasked(why)) => (false, Err(why)),
        };
        Check { at: time::now(), answer, counts }
    }
}

/// Rounds that may be asked for and not yet begun; whoever asks beyond that waits.
const ROUNDS_ASKED: usize = 16;
/// Checks under way at one time, so that a pool of a thousand endpoints is no burst of a thousand connects.
const CHECKS_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::super::Pool;
    use super::*;
    use crate::config::{Config, Service};

    /// Somebody who takes connections and never says anything.
    fn silent() -> (TcpListener, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn closed() -> SocketAddr {
        silent().1
    }

    /// Checked once, and then only when asked: each test says itself when.
    fn service(endpoints: &[SocketAddr], health: &str) -> Service {
        let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        let text = format!(
            "[[listener]]\naddress = \"0.0.0.0:80\"\n[service.shop.health]\ninterval = \"24h\"\n{health}\n\
            [service.shop.blue]\nendpoints = {endpoints:?}\n[service.shop.green]\nendpoints = [\"127.0.0.1:1\"]"
        );
        Config::parse(&text, std::path::Path::new("")).unwrap_or_else(|report| panic!("{report}")).services.remove(0)
    }

    /// A pool of these whose keeper runs.
    fn running(service: &Service) -> Arc<Pool> {
        let (pool, keeper) = Pool::new(service, Color::Blue, &[], 1);
        tokio::spawn(keeper.run());
        pool
    }

    fn states(pool: &Pool) -> Vec<State> {
        pool.health().iter().map(|endpoint| endpoint.state).collect()
    }

    #[tokio::test]
    async fn endpoints_that_stay_keep_their_identity_and_those_that_join_come_as_they_were_met() {
        let ((_a, a), (_b, b), (_c, c)) = (silent(), silent(), silent());
        let pool = running(&service(&[a, b], ""));
        // Its first round, and one that was asked for, in whichever order.
        while states(&pool) != [State::Up, State::Up] {
            pool.check_now().await;
        }
        let (before, known) = (pool.eligible.load_full(), pool.health());
        pool.follow(&service(&[a, b], ""), Vec::new()).await;
        assert!(Arc::ptr_eq(&before, &pool.eligible.load_full()), "nothing has changed, and nothing is touched");

        let next = service(&[closed(), b, c], "");
        let met = meet(&next, Color::Blue, &known).await;
        assert_eq!(met.iter().map(|endpoint| endpoint.state).collect::<Vec<_>>(), [State::Down, State::Up]);
        pool.follow(&next, met).await;
        assert_eq!(states(&pool), [State::Down, State::Up, State::Up]);
        let after = pool.eligible.load_full();
        assert_eq!(after.iter().map(|endpoint| endpoint.address).collect::<Vec<_>>(), [b, c]);
        assert!(Arc::ptr_eq(&before[1], &after[0]), "it is the same endpoint, so its connections are");
    }

    #[tokio::test]
    async fn orders_are_obeyed_in_the_middle_of_a_round_that_hangs() {
        let ((_a, a), (_b, b)) = (silent(), silent());
        let hanging = "path = \"/healthz\"\ntimeout = \"60s\"";
        let pool = running(&service(&[a, b], hanging));
        // Its first round hangs from now on; whoever asks waits for the next.
        let asking = tokio::spawn({
            let pool = pool.clone();
            async move { pool.check_now().await }
        });
        pool.follow(&service(&[b], hanging), Vec::new()).await;
        assert_eq!((states(&pool), pool.health()[0].address), (vec![State::Unknown], b));
        // Other rules give up the round, and who has asked gets an answer by them.
        pool.follow(&service(&[b], ""), Vec::new()).await;
        asking.await.unwrap();
        assert_eq!(states(&pool), [State::Up]);
        pool.retire().await;
        tokio::time::timeout(Duration::from_secs(10), pool.orders.closed()).await.expect("the keeper has ended");
        pool.check_now().await;
    }
}
