//! Many clients at once that never retry: each request lost is counted, with the reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Address, Client, Raw, body, within};

/// What kind of crowd it is; `start` sets it loose.
#[derive(Clone)]
pub struct Crowd {
    clients: usize,
    http2: bool,
    host: String,
    path: String,
    think: Option<Duration>,
}

impl Crowd {
    pub fn of(clients: usize) -> Crowd {
        Crowd { clients, http2: false, host: "shop.test".to_owned(), path: "/".to_owned(), think: None }
    }

    /// Each client a connection of HTTP/2 instead of HTTP/1.1.
    pub fn http2(self) -> Crowd {
        Crowd { http2: true, ..self }
    }

    pub fn host(self, host: &str) -> Crowd {
        Crowd { host: host.to_owned(), ..self }
    }

    pub fn path(self, path: &str) -> Crowd {
        Crowd { path: path.to_owned(), ..self }
    }

    /// How long each client rests between an answer and its next request.
    pub fn think(self, pause: Duration) -> Crowd {
        Crowd { think: Some(pause), ..self }
    }

    pub fn start(self, address: impl Address) -> Running {
        let (stop, done) = (watch::Sender::new(false), watch::Sender::new(0));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let member =
                Member { crowd: self.clone(), tally: tally.clone(), done: done.clone(), address: address.address() };
            clients.spawn(member.ask_until(stop.subscribe()));
        }
        Running { stop, done, tally, clients }
    }
}

/// A crowd at work.
pub struct Running {
    stop: watch::Sender<bool>,
    done: watch::Sender<usize>,
    tally: Arc<Mutex<Tally>>,
    clients: JoinSet<()>,
}

impl Running {
    /// Resolves when `n` requests in all have ended, well or not.
    pub async fn seen(&self, n: usize) {
        let _ = within(&format!("a crowd to see {n} answers"), self.done.subscribe().wait_for(|done| *done >= n)).await;
    }

    /// Resolves when `n` requests more have ended.
    pub async fn seen_more(&self, n: usize) {
        let now = *self.done.borrow();
        self.seen(now + n).await;
    }

    /// The figures so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Lets each client finish its request, and adds everything up.
    pub async fn stop(mut self) -> Tally {
        self.stop.send_replace(true);
        within("a crowd to go home", async { while self.clients.join_next().await.is_some() {} }).await;
        self.tally()
    }
}

/// What a crowd has seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections made so far: one for each client, as long as none is closed.
    pub connections: usize,
    pub requests: usize,
    pub failures: usize,
    /// The first ten.
    pub reasons: Vec<String>,
    pub backends: BTreeMap<String, usize>,
    pub statuses: BTreeMap<u16, usize>,
}

impl Tally {
    /// Fails the story unless every request got a 200.
    pub fn assert_nothing_lost(&self) {
        let all_well = self.failures == 0 && self.statuses.keys().all(|status| *status == 200);
        assert!(all_well && self.requests > 0, "{self:#?}");
    }

    /// How many answers came from this backend.
    pub fn from(&self, backend: &str) -> usize {
        self.backends.get(backend).copied().unwrap_or(0)
    }

    fn add(&mut self, outcome: Result<(u16, Option<String>), String>) {
        self.requests += 1;
        match outcome {
            Ok((status, backend)) => {
                *self.statuses.entry(status).or_default() += 1;
                *self.backends.entry(backend.unwrap_or_default()).or_default() += 1;
            }
            Err(reason) => {
                self.failures += 1;
                if self.reasons.len() < 10 {
                    self.reasons.push(reason);
                }
            }
        }
    }
}

struct Member {
    crowd: Crowd,
    tally: Arc<Mutex<Tally>>,
    done: watch::Sender<usize>,
    address: SocketAddr,
}

impl Member {
    async fn ask_until(self, mut stop: watch::Receiver<bool>) {
        let mut client = None;
        while !*stop.borrow() {
            let outcome = self.ask(&mut client).await;
            let rest = if outcome.is_err() { Some(AFTER_A_FAILURE) } else { self.crowd.think };
            self.tally.lock().unwrap().add(outcome);
            self.done.send_modify(|done| *done += 1);
            if let Some(rest) = rest {
                let _ = tokio::time::timeout(rest, stop.wait_for(|stop| *stop)).await;
            }
        }
    }

    /// One request on the connection there is; only after a failure, or the other side's `Connection: close`, a new one.
    async fn ask(&self, client: &mut Option<Client>) -> Result<(u16, Option<String>), String> {
        let mut it = match client.take() {
            Some(it) => it,
            None => self.connect().await?,
        };
        let answer = it.try_send(Request::get(&self.crowd.path).body(body::empty()).unwrap()).await?;
        if answer.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
            *client = Some(it);
        }
        Ok((answer.status, answer.backend().map(str::to_owned)))
    }
}

impl Member {
    async fn connect(&self) -> Result<Client, String> {
        self.tally.lock().unwrap().connections += 1;
        let connected = match self.crowd.http2 {
            true => Client::try_http2(self.address).await,
            false => Client::try_http1(self.address).await,
        };
        Ok(connected?.host(&self.crowd.host))
    }
}

/// So that clients of a dead proxy do not spin.
const AFTER_A_FAILURE: Duration = Duration::from_millis(5);

/// Thousands of connections, each for one request, as fast as they come: so many that the proxy may have the system hold
/// back who says nothing.
pub async fn rush(address: impl Address) {
    let address = address.address();
    let clients = (0..8).map(|_| async move {
        for _ in 0..500 {
            let mut raw = Raw::saying(address, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
            assert_eq!(raw.answer().await.status, 200);
            raw.until_closed().await;
        }
    });
    futures_util::future::join_all(clients).await;
}
