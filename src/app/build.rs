//! A service and its tasks, built alike at the start and by a reload.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::config;
use crate::cutover::{Cutover, Desk, Driver, Opened, Stage, Told, given};
use crate::journal::Journal;
use crate::metrics::RefusalSheet;
use crate::names::{Color, PerColor};
use crate::pool::{EndpointHealth, Keeper, Pool};
use crate::proxy::{Listeners, Refusal};
use crate::table::{Entry, Service, Switchboard};
use crate::tail::Tail;
use crate::time;

/// What is known of the endpoints of both colors before they join.
pub type Met = PerColor<Vec<EndpointHealth>>;

/// A service that nobody drives yet.
pub struct Draft {
    pub service: Arc<Service>,
    keepers: Vec<Keeper>,
}

/// What a service keeps running: its keepers and its driver.
pub struct Tasks {
    keepers: Vec<Keeper>,
    driver: Driver,
}

impl Draft {
    pub fn new(rules: &config::Service, met: &Met, workers: usize) -> Draft {
        let mut keepers = Vec::new();
        let pools = PerColor::from_fn(|color| {
            let (pool, keeper) = Pool::new(rules, color, &met[color], workers);
            keepers.push(keeper);
            pool
        });
        let (refusals, tail) = (sheets(workers), Arc::new(Tail::new(workers)));
        let service = Service { name: rules.name.clone(), rules: rules.clone(), pools, refusals, tail };
        Draft { service: Arc::new(service), keepers }
    }

    /// The live color is what the journal says, and so are the share that the other one has been given and whether anybody has
    /// been invited; a service it has never heard of begins with blue. Live it has been since the newest cutover that moved
    /// traffic, or for as long as is known.
    pub fn entry(&self, journal: &Journal) -> Entry {
        let history = journal.history::<Cutover>(Some(&self.service.name));
        let since = history.iter().find_map(Cutover::since).or(history.last().map(|oldest| oldest.started));
        let last = history.first();
        let split = last.and_then(|last| given(last, &self.service.rules.cutover.canary));
        let (live, generation) = last.map_or((Color::Blue, 0), |last| (last.live(), last.generation()));
        let since = since.unwrap_or_else(time::now);
        let invited = journal.last::<Opened>(&self.service.name).is_some();
        Entry { split, invited, ..Entry::new(self.service.clone(), live, generation, since) }
    }

    /// Its desk, and the tasks that have to run for it.
    pub fn seat(
        self,
        switchboard: &Arc<Switchboard>,
        journal: &Arc<Journal>,
        listeners: &Arc<Listeners>,
        told: &broadcast::Sender<Told>,
        stage: watch::Receiver<Stage>,
    ) -> (Desk, Tasks) {
        let (driver, desk) = Driver::new(&self.service, switchboard, journal, listeners, told.clone(), stage);
        (desk, Tasks { keepers: self.keepers, driver })
    }
}

impl Tasks {
    /// Begins to check endpoints.
    pub fn check(&mut self) {
        self.keepers.drain(..).for_each(|keeper| drop(tokio::spawn(keeper.run())));
    }

    /// Begins to take orders; a cutover that was under way goes on once the start is over.
    pub fn drive(self) {
        drop(tokio::spawn(self.driver.run()));
    }
}

/// One for each worker.
pub fn sheets(workers: usize) -> Box<[Arc<RefusalSheet>]> {
    (0..workers).map(|_| Arc::new(RefusalSheet::new(Refusal::REASONS.len()))).collect()
}
