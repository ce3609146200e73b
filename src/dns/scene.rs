//! What stories of a follower begin with: a zone in memory, a journal, and a follower that runs on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use super::follower::{Follower, Live};
use super::mark::Owner;
use super::memory::Memory;
use super::plan::{leading, longest_ttl, own, same};
use super::shift::Goal;
use super::zone::{Action, RecordSet};
use super::{Denied, Desk, State, Status, Wish};
use crate::config::{self, Config};
use crate::journal::Journal;
use crate::names::{Color, Side};

/// The rules of a service with two names of three kinds; more lines may be added.
pub fn rules(more: &str) -> config::Dns {
    let text = format!(
        "[[listener]]\naddress = \"0.0.0.0:80\"\n[service.shop]\nblue.endpoints = [\"10.0.0.1:80\"]\n\
         [service.shop.dns]\nzone = \"Z1\"\nname_servers = []\n{more}\n\
         [[service.shop.dns.record]]\nname = \"shop.example.com\"\ntype = \"A\"\n\
         blue = [\"198.51.100.1\"]\ngreen = [\"198.51.100.2\", \"198.51.100.3\"]\nproxy = [\"198.51.100.9\"]\n\
         [[service.shop.dns.record]]\nname = \"*.shop.example.com\"\ntype = \"CNAME\"\n\
         blue = [\"b.example.net\"]\ngreen = [\"g.example.net\"]\nproxy = [\"p.example.net\"]\n"
    );
    let config = Config::parse(&text, Path::new("")).unwrap_or_else(|report| panic!("{report}"));
    config.services[0].dns.clone().unwrap()
}

/// A follower that runs, and what it runs with.
pub struct Run {
    pub desk: Desk,
    pub live: watch::Sender<Live>,
    pub journal: Option<Arc<Journal>>,
    pub task: JoinHandle<()>,
}

pub struct Scene {
    pub zone: Arc<Memory>,
    pub folder: tempfile::TempDir,
    pub rules: config::Dns,
}

impl Scene {
    pub fn new(rules: config::Dns, sets: Vec<RecordSet>) -> Scene {
        Scene { zone: Arc::new(Memory::new(sets)), folder: tempfile::tempdir().unwrap(), rules }
    }

    pub fn run(&self, live: Color) -> Run {
        self.run_with(live, Journal::open(self.folder.path(), &[]).unwrap())
    }

    pub fn run_with(&self, color: Color, journal: Arc<Journal>) -> Run {
        let (live, seen) = watch::channel(Live { color, by: "start".into() });
        let (told, _) = broadcast::channel(64);
        let service = "shop".parse().unwrap();
        let zone = self.zone.clone();
        let (follower, desk) = Follower::new(&service, self.rules.clone(), zone, &journal, seen, told);
        Run { desk, live, journal: Some(journal), task: tokio::spawn(follower.run()) }
    }

    /// Brought to blue from nothing, and at rest.
    pub async fn settled(rules: config::Dns) -> (Scene, Run) {
        let scene = Scene::new(rules, Vec::new());
        let run = scene.run(Color::Blue);
        run.until("at rest", |status| status.state == State::Done).await;
        (scene, run)
    }

    pub fn leads(&self, side: Side) -> bool {
        let (sets, rules) = (self.zone.sets(), &self.rules);
        same(own(rules, &sets), &leading(rules, side, 0), false)
    }

    pub fn ttl(&self) -> u32 {
        longest_ttl(own(&self.rules, &self.zone.sets()))
    }

    /// What the zone's history must be, whatever has happened: each batch one generation more than the one before, each
    /// with every set of every name, and never a name that leads nowhere.
    pub fn assert_sane(&self) {
        for (generation, batch) in (1..).zip(self.zone.batches()) {
            let made: Vec<_> =
                batch.changes.iter().filter(|it| it.action == Action::Create).map(|it| &it.set).collect();
            let marks = made.iter().filter_map(|set| match Owner::of(set) {
                Owner::Cutover(mark) => Some(mark.generation),
                _ => None,
            });
            for mark in marks {
                assert_eq!(mark, generation, "{batch:#?}");
            }
            let sides = Side::ALL.into_iter().filter(|side| {
                let made: Vec<RecordSet> = made.iter().map(|set| (*set).clone()).collect();
                same(own(&self.rules, &made), &leading(&self.rules, *side, 0), false)
            });
            assert_eq!(sides.count(), 1, "{batch:#?}");
        }
    }
}

impl Run {
    pub async fn until(&self, what: &str, holds: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.desk.watch();
        let seen = tokio::time::timeout(Duration::from_secs(7200), status.wait_for(holds)).await;
        match seen {
            Ok(Ok(seen)) => seen.clone(),
            _ => panic!("waited for {what}: {:#?}", self.desk.status()),
        }
    }

    pub fn switch(&self, color: Color) {
        self.live.send_replace(Live { color, by: format!("cutover to {color}") });
    }

    pub async fn until_at(&self, to: Side) -> Status {
        self.until("there", |status| status.to == to && status.state == State::Done && status.in_sync).await
    }

    pub async fn ask(&self, goal: Goal, to: Option<Side>) -> Result<String, Denied> {
        self.desk.ask(Wish { goal, to, by: "uid 0".into() }).await
    }

    /// Ends as a killed process does.
    pub async fn kill(mut self) {
        self.task.abort();
        let _ = self.task.await;
        let journal = self.journal.take();
        drop(self.desk);
        // What was being written when it was killed holds the journal until it is written.
        while journal.as_ref().is_some_and(|journal| Arc::strong_count(journal) > 1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
