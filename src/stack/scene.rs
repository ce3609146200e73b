//! What stories of a foreman begin with: a provider in memory, a journal, and a foreman that runs on them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::desk::{Denied, Desk, Wish};
use super::foreman::Foreman;
use super::hands::{Hands, Providers};
use super::memory::Memory;
use super::order::{Kind, Obstacle, Order, Outcome, Site, Verb};
use super::provider::{App, Instance, InstanceState, Stack, Wanted};
use super::status::Status;
use crate::config::StackRules;
use crate::journal::Journal;
use crate::names::{Color, PerColor};
use crate::time::Clock;

/// A stack with an app and instances of these names, all online.
pub fn stack(name: &str, hosts: &[&str]) -> Stack {
    let instance = |(number, host): (usize, &&str)| Instance {
        id: format!("{name}-{host}"),
        name: (*host).to_owned(),
        layers: vec!["app".to_owned()],
        address: Some(format!("10.1.{}.{number}", name.len())),
        state: InstanceState::Online,
        says: "online".to_owned(),
        is_automatic: false,
    };
    let instances = hosts.iter().enumerate().map(instance).collect();
    let apps = vec![App { id: format!("{name}-app"), name: "shop".to_owned() }];
    Stack { id: format!("{name}-id"), name: name.to_owned(), apps, instances, capacity: None }
}

/// A group without instances.
pub fn group(name: &str, wanted: Wanted) -> Stack {
    let (id, name) = (name.to_owned(), name.to_owned());
    Stack { id, name, apps: Vec::new(), instances: Vec::new(), capacity: Some(wanted) }
}

pub fn sites(provider: Kind) -> PerColor<Option<Site>> {
    let site = |color: Color| Site { provider, stack: format!("shop-{color}"), layer: None };
    PerColor::from_fn(|color| Some(site(color)))
}

pub fn obstacle(code: &str, is_final: bool) -> Obstacle {
    Obstacle { code: code.to_owned(), text: format!("{code} speaks against it"), is_final }
}

/// A foreman that runs, and what it runs with.
pub struct Run {
    pub desk: Desk,
    pub journal: Option<Arc<Journal>>,
    pub task: JoinHandle<()>,
}

pub struct Scene {
    pub provider: Arc<Memory>,
    pub folder: tempfile::TempDir,
    pub rules: StackRules,
    pub sites: PerColor<Option<Site>>,
}

impl Scene {
    pub fn new(stacks: Vec<Stack>, kind: Kind) -> Scene {
        Scene {
            provider: Arc::new(Memory::with(stacks)),
            folder: tempfile::tempdir().unwrap(),
            rules: StackRules::default(),
            sites: sites(kind),
        }
    }

    /// A blue stack with two instances, and no green one.
    pub fn blue_only() -> Scene {
        Scene::new(vec![stack("shop-blue", &["web1", "web2"])], Kind::OpsWorks)
    }

    pub fn run(&self) -> Run {
        let journal = Journal::open(self.folder.path(), &[]).unwrap();
        let providers = Providers { opsworks: self.provider.clone(), asg: self.provider.clone() };
        let outlook = self.provider.clone();
        let hands = Hands { providers, outlook, rules: Arc::new(self.rules.clone()), clock: Clock::new() };
        let (told, _) = broadcast::channel(64);
        let service = "shop".parse().unwrap();
        let (foreman, desk) = Foreman::new(&service, self.sites.clone(), false, hands, &journal, told);
        Run { desk, journal: Some(journal), task: tokio::spawn(foreman.run()) }
    }

    /// Green is what blue is, and each thing was done once.
    pub fn assert_prepared(&self, what: &str) {
        let green = self.provider.stack("shop-green");
        let mut names: Vec<&str> = green.instances.iter().map(|instance| instance.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["web1", "web2"], "{what}");
        assert!(green.instances.iter().all(|instance| instance.state == InstanceState::Online), "{what}: {green:#?}");
        let mut done = self.provider.done();
        done.sort_unstable();
        let once = ["add web1", "add web2", "clone shop-green", "deploy shop", "start web1", "start web2"];
        assert_eq!(done, once, "{what}");
    }
}

impl Run {
    pub async fn until(&self, what: &str, holds: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.desk.status.clone();
        let seen = tokio::time::timeout(Duration::from_secs(7200), status.wait_for(holds)).await;
        match seen {
            Ok(Ok(seen)) => seen.clone(),
            _ => panic!("waited for {what}: {:#?}", self.desk.status()),
        }
    }

    /// The newest order, once it has ended.
    pub async fn ended(&self) -> Order {
        let ended = |status: &Status| status.order.as_ref().is_some_and(|view| view.order.outcome.is_some());
        self.until("an end", ended).await.order.unwrap().order
    }

    pub async fn done(&self) -> Order {
        let order = self.ended().await;
        assert_eq!(order.outcome, Some(Outcome::Done), "{order:#?}");
        order
    }

    /// The newest order has failed, for a reason with these words.
    pub async fn failed(&self, words: &str) -> Order {
        let order = self.ended().await;
        assert_eq!(order.outcome, Some(Outcome::Failed), "{order:#?}");
        assert!(order.why.as_ref().unwrap().contains(words), "{words}: {:?}", order.why);
        order
    }

    pub async fn order(&self, verb: Verb, color: Color) -> Result<Order, Denied> {
        self.desk.ask(wish(verb, color, None)).await
    }

    pub async fn force(&self, verb: Verb, color: Color) -> Result<Order, Denied> {
        self.desk.ask(wish(verb, color, Some("we know"))).await
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

fn wish(verb: Verb, color: Color, force: Option<&str>) -> Wish {
    Wish::Order { verb, color, by: "uid 0".into(), reason: None, force: force.map(str::to_owned) }
}
