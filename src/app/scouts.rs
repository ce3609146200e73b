//! The scouts that run: one for each color whose endpoints are discovered; and what a config begins with before they have
//! asked anybody.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::accounts::Accounts;
use crate::admin::Scene;
use crate::config::{Aws, Config, Discover, DiscoverFrom};
use crate::discovery::{Desk, Facts, Kept, Lookup, Proposal, Reach, Scout, Source};
use crate::journal::Journal;
use crate::names::{Color, ServiceName};

/// Those of the config that runs.
pub struct Scouts {
    running: Vec<Running>,
    /// Where they hand in what they believe.
    proposals: mpsc::Sender<Proposal>,
}

struct Running {
    rules: Discover,
    aws: Aws,
    desk: Desk,
    task: JoinHandle<()>,
}

/// Puts the endpoints that are discovered into a config that has just been read: those that run, or, of a service that does
/// not run, those that the journal has from the same source. What the file says itself goes first.
pub fn seed(mut config: Config, running: Option<&Config>, journal: &Journal) -> Config {
    for service in &mut config.services {
        let known = running.and_then(|running| running.services.iter().find(|known| known.name == service.name));
        for color in Color::BOTH {
            let Some(discover) = &service.stacks[color].discover else { continue };
            let kept = || Kept::find(journal, &service.name, color, discover.from.get_ref());
            let kept = || kept().into_iter().flat_map(|kept| kept.endpoints).map(|endpoint| endpoint.address).collect();
            let mut endpoints: Vec<SocketAddr> = known.map_or_else(kept, |known| known.stacks[color].endpoints.clone());
            endpoints.retain(|endpoint| !service.stacks[color.other()].endpoints.contains(endpoint));
            service.stacks[color].endpoints = endpoints;
        }
    }
    config
}

impl Scouts {
    /// What they hand in comes out at the other end.
    pub fn new() -> (Scouts, mpsc::Receiver<Proposal>) {
        let (proposals, handed_in) = mpsc::channel(PROPOSALS);
        (Scouts { running: Vec::new(), proposals }, handed_in)
    }

    /// Ends those whose rules are others now, and begins what the config asks for; one whose rules are equal is not touched.
    pub async fn follow(&mut self, config: &Config, scene: &Arc<Scene>, accounts: &mut Accounts) {
        let (stay, gone): (Vec<_>, Vec<_>) = self.running.drain(..).partition(|running| running.stays(config));
        self.running = stay;
        for running in gone {
            running.task.abort();
            // What it was doing is over before another begins.
            let _ = running.task.await;
        }
        let colors = config.services.iter().flat_map(|service| Color::BOTH.map(|color| (service, color)));
        for (service, color) in colors.collect::<Vec<_>>() {
            let rules = service.stacks[color].discover.as_ref();
            let Some(rules) = rules.filter(|_| !self.has(&service.name, color)) else { continue };
            let source: Arc<dyn Source> = match rules.from.get_ref() {
                DiscoverFrom::Dns(lookup) => Arc::new(Lookup::new(lookup.clone())),
                // Everybody else is at Amazon.
                from => match accounts.of(&config.aws, scene).await.source(from) {
                    Some(source) => source,
                    None => continue,
                },
            };
            let reach = Reach {
                journal: scene.journal.clone(),
                look: look(service.name.clone(), color, scene.clone()),
                proposals: self.proposals.clone(),
                told: scene.discovered.clone(),
            };
            let (scout, desk) = Scout::new(&service.name, color, rules.clone(), source, reach);
            let task = tokio::spawn(scout.run());
            self.running.push(Running { rules: rules.clone(), aws: config.aws.clone(), desk, task });
        }
        scene.scouts.store(Arc::new(self.running.iter().map(|running| running.desk.clone()).collect()));
    }

    fn has(&self, service: &ServiceName, color: Color) -> bool {
        self.running.iter().any(|running| running.desk.service == *service && running.desk.color == color)
    }
}

impl Running {
    fn stays(&self, config: &Config) -> bool {
        let service = config.services.iter().find(|service| service.name == self.desk.service);
        let rules = service.and_then(|service| service.stacks[self.desk.color].discover.as_ref());
        let asks_amazon = !matches!(self.rules.from.get_ref(), DiscoverFrom::Dns(_));
        rules == Some(&self.rules) && (!asks_amazon || config.aws == self.aws)
    }
}

/// What is true of a color now. Of a service that has just gone nothing is.
fn look(service: ServiceName, color: Color, scene: Arc<Scene>) -> Arc<dyn Fn() -> Facts + Send + Sync> {
    Arc::new(move || {
        let table = scene.switchboard.table();
        let Some(entry) = table.entry(&service) else { return Facts::default() };
        let listeners = scene.listeners.load();
        let own = listeners.iter().filter(|listener| !listener.is_shut()).map(|listener| listener.address);
        Facts {
            health: entry.service.pools[color].health(),
            others: entry.service.rules.stacks[color.other()].endpoints.clone(),
            own: own.chain(scene.admin.load().listen).collect(),
        }
    })
}

/// One for each color of many services.
const PROPOSALS: usize = 64;
