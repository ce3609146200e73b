//! The clients: each has one connection for the whole soak, sends every request once, and knows who should answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cutover::time::Moment;
use tokio::net::TcpStream;

use super::Soak;
use super::client::{Answer, Client};

/// What the clients and the operator share.
#[derive(Default)]
pub struct Score {
    /// How many switches have been asked for and how many have returned: 2 n while n are done and none is under way.
    step: AtomicU32,
    over: AtomicBool,
    seen: Mutex<Seen>,
}

/// What the clients have seen since it was last taken.
#[derive(Default)]
pub struct Seen {
    /// Of the quick requests that ended well.
    pub micros: Vec<u32>,
    pub slow: u64,
    pub lost: u64,
    /// Requests that began after a switch had returned and reached the old color.
    pub late: u64,
    /// The first few.
    pub reasons: Vec<String>,
}

impl Score {
    /// A switch is asked for, or has returned.
    pub fn step(&self) {
        self.step.fetch_add(1, SeqCst);
    }

    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().expect("no client panics while it counts"))
    }

    fn count(&self, kind: Kind, before: u32, took: Duration, answer: std::io::Result<Answer>) -> bool {
        let mut seen = self.seen.lock().expect("no client panics while it counts");
        let problem = match &answer {
            Err(error) => Some(error.to_string()),
            Ok(answer) if answer.status != 200 => Some(format!("answered {}", answer.status)),
            // A new connection would be needed next time.
            Ok(answer) if answer.closes => Some("told to close".to_owned()),
            Ok(_) => None,
        };
        match (problem, kind) {
            (Some(reason), _) => {
                seen.lost += 1;
                seen.reason(format!("{kind:?}: {reason}"));
                return false;
            }
            (None, Kind::Quick) => seen.micros.push(took.as_micros() as u32),
            (None, Kind::Slow) => seen.slow += 1,
        }
        let stack = answer.map(|answer| answer.stack).unwrap_or_default();
        // Where the next switch was asked for meanwhile, either may have answered.
        let settled = before.is_multiple_of(2) && self.step.load(SeqCst) == before;
        if settled && stack != live_after(before / 2) {
            seen.late += 1;
            seen.reason(format!("{kind:?}: {stack} answered a request that began after switch {}", before / 2));
        }
        true
    }
}

impl Seen {
    fn reason(&mut self, reason: String) {
        if self.reasons.len() < REASONS {
            self.reasons.push(reason);
        }
    }
}

/// The color that serves after so many switches.
pub fn live_after(switches: u32) -> &'static str {
    if switches.is_multiple_of(2) { "blue" } else { "green" }
}

/// All clients, on a thread of their own.
pub struct Load {
    pub score: Arc<Score>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Quick,
    Slow,
}

impl Load {
    pub fn start(soak: &Soak, proxy: SocketAddr) -> anyhow::Result<Load> {
        let score = Arc::new(Score::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (clients, slow, think, theirs) = (soak.clients, soak.slow, soak.think(), score.clone());
        let thread = thread::spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            for _ in 0..clients {
                tasks.spawn_local(visit(proxy, Kind::Quick, think, theirs.clone()));
            }
            for _ in 0..slow {
                tasks.spawn_local(visit(proxy, Kind::Slow, think, theirs.clone()));
            }
            runtime.block_on(tasks);
        });
        Ok(Load { score, thread })
    }

    /// Lets every client finish its request.
    pub fn stop(self) -> Seen {
        self.score.over.store(true, SeqCst);
        self.thread.join().expect("no client panics");
        self.score.take()
    }
}

/// One client: it opens its connection once, and after a failure it is gone, as what it would do next proves nothing.
async fn visit(proxy: SocketAddr, kind: Kind, think: Duration, score: Arc<Score>) {
    let path = match kind {
        Kind::Quick => "/",
        Kind::Slow => "/slow",
    };
    let mut client: Option<Client<TcpStream>> = None;
    while !score.over.load(SeqCst) {
        let (before, begun) = (score.step.load(SeqCst), Moment::now());
        let answer = match tokio::time::timeout(PATIENCE, ask(&mut client, proxy, path)).await {
            Ok(answer) => answer,
            Err(late) => Err(late.into()),
        };
        if !score.count(kind, before, Moment::now().since(begun), answer) {
            return;
        }
        tokio::time::sleep(think.mul_f32(fastrand::f32())).await;
    }
}

async fn ask(client: &mut Option<Client<TcpStream>>, proxy: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let client = match client {
        Some(client) => client,
        none => none.insert(Client::connect(proxy, path).await?),
    };
    client.ask().await
}

/// Nothing here takes longer than a second and a half, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(15);
const REASONS: usize = 10;
