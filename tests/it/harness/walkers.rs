//! Clients as they are outside: they look a name up, go where it leads, and stay there until they are told to leave.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Client, Resolver, body};

/// Which address of a record is whose: what stands behind it, and where that really is.
pub type Places = HashMap<&'static str, (&'static str, SocketAddr)>;

/// Several of them behind one resolver. None ever retries.
pub struct Walkers {
    server: SocketAddr,
    resolver: watch::Sender<Arc<Resolver>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Vec<String>>,
    at: Vec<watch::Receiver<&'static str>>,
}

impl Walkers {
    /// Their resolver asks this server for the name, and keeps every answer at least so long.
    pub fn start(count: usize, name: &'static str, server: SocketAddr, stubborn: Duration, places: &Places) -> Walkers {
        let (resolver, resolvers) = watch::channel(Arc::new(Resolver::new(server).keeps(stubborn)));
        let stop = watch::Sender::new(false);
        let (mut tasks, mut at) = (JoinSet::new(), Vec::new());
        for _ in 0..count {
            let (place, seen) = watch::channel("");
            at.push(seen);
            tasks.spawn(walk(name, places.clone(), resolvers.clone(), place, stop.subscribe()));
        }
        Walkers { server, resolver, stop, tasks, at }
    }

    /// How many are there now.
    pub fn at(&self, place: &str) -> usize {
        self.where_now().into_iter().filter(|at| *at == place).count()
    }

    pub fn where_now(&self) -> Vec<&'static str> {
        self.at.iter().map(|at| *at.borrow()).collect()
    }

    /// What their resolver has kept is gone, and it obeys from now on.
    pub fn forget(&self) {
        self.resolver.send_replace(Arc::new(Resolver::new(self.server)));
    }

    /// What was lost.
    pub async fn stop(mut self) -> Vec<String> {
        self.stop.send_replace(true);
        let mut lost = Vec::new();
        while let Some(walker) = self.tasks.join_next().await {
            lost.extend(walker.unwrap());
        }
        lost
    }
}

async fn walk(
    host: &'static str,
    places: Places,
    resolver: watch::Receiver<Arc<Resolver>>,
    place: watch::Sender<&'static str>,
    stop: watch::Receiver<bool>,
) -> Vec<String> {
    let mut lost = Vec::new();
    while !*stop.borrow() {
        let resolver = resolver.borrow().clone();
        let (name, address) = places[resolver.addresses(host).await[0].as_str()];
        let mut client = Client::http1(address).await;
        place.send_replace(name);
        while !*stop.borrow() {
            match client.try_send(Request::get("/").body(body::empty()).unwrap()).await {
                Ok(answer) if answer.status == 200 => {
                    if answer.header("connection") == Some("close") {
                        break;
                    }
                }
                Ok(answer) => lost.push(format!("{name}: {}", answer.status)),
                Err(reason) => {
                    lost.push(format!("{name}: {reason}"));
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    lost
}

/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(5);
