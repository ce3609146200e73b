//! A warm-up under way: who is to open which connections and to ask what when, and what has failed so far.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::{Warm, WarmRequest};
use crate::metrics::WarmSum;
use crate::names::Color;
use crate::pool::{Eligible, Pool};
use crate::time::{Moment, Timestamp};

/// Shared by whoever ordered it and the workers, each of which does its part.
pub struct Warming {
    pub to: Color,
    pub rules: Warm,
    /// Those that were up when it began; one that comes up later is not warmed up.
    pub endpoints: Eligible,
    pub begun: Moment,
    /// What the pool had been given before.
    pub before: WarmSum,
    workers: usize,
    /// Workers that have not done their part yet.
    left: AtomicUsize,
    done: Notify,
    /// What has failed and how often. Only what goes wrong in a warm-up takes the lock, no client's request.
    failures: Mutex<BTreeMap<String, u64>>,
}

/// One worker's part of what one endpoint is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Kept connections, and requests at one time.
    pub connections: usize,
    /// Its place among those who ask this endpoint, of so many.
    turn: usize,
    askers: usize,
}

impl Warming {
    /// Of the endpoints of this pool that are up.
    pub fn of(pool: &Pool, rules: Warm) -> Warming {
        let warming = Warming::new(pool.color, rules, pool.eligible.load_full(), pool.warmth.len());
        Warming { before: pool.warmed(), ..warming }
    }

    fn new(to: Color, rules: Warm, endpoints: Eligible, workers: usize) -> Warming {
        let (begun, before, left) = (Moment::now(), WarmSum::default(), AtomicUsize::new(workers));
        Warming { to, rules, endpoints, begun, before, workers, left, done: Notify::new(), failures: Mutex::default() }
    }

    /// When all of it has to be over.
    pub fn until(&self) -> Timestamp {
        let begun = self.begun.timestamp();
        begun.checked_add(self.rules.deadline).unwrap_or(begun)
    }

    /// Kept connections that there are to be.
    pub fn connections(&self) -> u64 {
        (self.endpoints.len() * self.rules.connections) as u64
    }

    /// Requests that there are to be.
    pub fn requests(&self) -> u64 {
        self.endpoints.len() as u64 * self.rules.requests_each()
    }

    /// The worker's part of the endpoint at this place of `endpoints`; `None`: others do all of it. Each endpoint begins
    /// with another worker, so that none has more to do than the others.
    pub fn part(&self, worker: usize, place: usize) -> Option<Part> {
        let (all, workers) = (self.rules.connections, self.workers);
        let turn = (worker + workers - place % workers) % workers;
        let connections = all / workers + usize::from(turn < all % workers);
        (connections > 0).then(|| Part { connections, turn, askers: all.min(workers) })
    }

    /// The requests of a part, in their order: when each is due, counted from the first connection, and what it is.
    pub fn asked(&self, part: Part) -> impl Iterator<Item = (Duration, &WarmRequest)> {
        let (rules, each) = (&self.rules, self.rules.requests_each());
        let numbers = (part.turn as u64..each).step_by(part.askers);
        numbers.filter_map(move |number| {
            let place = usize::try_from(number).ok()? % rules.requests.len().max(1);
            Some((rules.due(number), rules.requests.get(place)?))
        })
    }

    /// Something has failed once more.
    pub fn failed(&self, what: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = failures.contains_key(&what) || failures.len() < MOST_FAILURES;
        *failures.entry(if is_known { what } else { OTHERS.to_owned() }).or_default() += 1;
    }

    /// What has failed, what did so most often first.
    pub fn failures(&self) -> Vec<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = failures.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let times = |count| if count == 1 { "once".to_owned() } else { format!("{count} times") };
        all.into_iter().map(|(what, count)| format!("{what}, {}", times(*count))).collect()
    }

    /// A worker has done its part.
    pub fn part_done(&self) {
        self.left.fetch_sub(1, Ordering::AcqRel);
        self.done.notify_waiters();
    }

    /// Resolves when every worker has done its part.
    pub async fn over(&self) {
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.left.load(Ordering::Acquire) == 0 {
                return;
            }
            done.await;
        }
    }
}

/// Different failures that are told apart.
const MOST_FAILURES: usize = 8;
const OTHERS: &str = "others";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{AtStart, Share};
    use crate::pool::Endpoint;

    fn warming(connections: usize, requests: usize, workers: usize) -> Warming {
        let target = |number| WarmRequest { headless: false, target: format!("/{number}") };
        let rules = Warm {
            connections,
            requests: (0..requests).map(target).collect(),
            lasts: Duration::from_secs(10),
            rate: 20,
            max_error_share: Share(0),
            deadline: Duration::from_secs(30),
            https: false,
            at_start: AtStart::All,
        };
        let endpoint = |port| Arc::new(Endpoint { address: ([10, 0, 0, 1], port).into() });
        Warming::new(Color::Green, rules, Arc::new((1..4).map(endpoint).collect()), workers)
    }

    #[test]
    fn the_parts_of_all_workers_are_what_was_asked_for_and_none_has_much_more_than_another() {
        for (connections, workers) in [(1, 1), (8, 2), (8, 3), (2, 4), (1, 4), (5, 4)] {
            let warming = warming(connections, 2, workers);
            let mut of_worker = vec![0; workers];
            for place in 0..3 {
                let (mut opened, mut asked) = (0, Vec::new());
                for (worker, parts) in of_worker.iter_mut().enumerate() {
                    let Some(part) = warming.part(worker, place) else { continue };
                    opened += part.connections;
                    *parts += part.connections;
                    asked.extend(warming.asked(part).map(|(due, request)| (due, request.target.clone())));
                }
                assert_eq!(opened, connections);
                asked.sort();
                assert_eq!(asked.len() as u64, warming.rules.requests_each());
                let of = |target: &str| asked.iter().filter(|(_, asked)| asked == target).count();
                assert_eq!((of("/0"), of("/1")), (55, 55));
            }
            let (least, most) = (of_worker.iter().min().unwrap(), of_worker.iter().max().unwrap());
            assert!(most - least <= 1, "{of_worker:?}");
        }
    }

    #[test]
    fn each_request_is_asked_at_least_once_and_without_any_only_connections_are_opened() {
        assert_eq!(warming(8, 500, 2).rules.requests_each(), 500);
        let none = warming(8, 0, 2);
        assert_eq!((none.requests(), none.connections()), (0, 24));
        assert_eq!(none.asked(none.part(0, 0).unwrap()).count(), 0);
    }

    #[test]
    fn failures_are_told_by_how_often_and_only_so_many_are_told_apart() {
        let warming = warming(1, 1, 1);
        (0..20).for_each(|number| warming.failed(format!("failure {number}")));
        (0..3).for_each(|_| warming.failed("failure 3".to_owned()));
        let told = warming.failures();
        assert_eq!((told.len(), &*told[0], &*told[1]), (9, "others, 12 times", "failure 3, 4 times"));
    }

    #[tokio::test]
    async fn it_is_over_when_every_worker_has_done_its_part() {
        let warming = Arc::new(warming(1, 1, 2));
        warming.part_done();
        let theirs = warming.clone();
        let waits = tokio::spawn(async move { theirs.over().await });
        warming.part_done();
        waits.await.unwrap();
        warming.over().await;
    }
}
