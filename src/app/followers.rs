//! The followers that run: one for each service whose config names records, and whoever tells it which color is live.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::accounts::Accounts;
use crate::admin::Scene;
use crate::aws::Account;
use crate::config::{Aws, Config, Dns, DnsStart, DnsTail};
use crate::cutover::{Cutover, Desk, Phase};
use crate::dns::{self, Follower, Live};
use crate::names::{Color, ServiceName};
use crate::tail::{Keeper, Led};

/// Those of the config that runs.
#[derive(Default)]
pub struct Followers {
    running: Vec<Running>,
}

struct Running {
    service: ServiceName,
    rules: Dns,
    aws: Aws,
    desk: dns::Desk,
    tasks: [JoinHandle<()>; 2],
}

impl Followers {
    /// Ends those whose rules are others now, and begins what the config asks for. The journal tells the new one how far
    /// the old one had come; one whose rules are equal is not touched.
    pub async fn follow(&mut self, config: &Config, scene: &Scene, accounts: &mut Accounts) {
        let stays = |running: &Running| {
            let service = config.services.iter().find(|service| service.name == running.service);
            service.is_some_and(|service| service.dns.as_ref() == Some(&running.rules)) && running.aws == config.aws
        };
        let (stay, gone): (Vec<_>, Vec<_>) = self.running.drain(..).partition(stays);
        self.running = stay;
        for running in gone {
            running.end().await;
        }
        let desks = scene.desks.load_full();
        for (service, rules) in config.services.iter().filter_map(|service| Some((service, service.dns.as_ref()?))) {
            let desk = desks.iter().find(|desk| *desk.name() == service.name);
            let Some(desk) = desk.filter(|_| self.running.iter().all(|it| it.service != service.name)) else {
                continue;
            };
            let account = accounts.of(&config.aws, scene).await;
            self.running.push(begin(desk, rules, config, &account, scene));
        }
        for desk in desks.iter() {
            let names = self.running.iter().find(|running| running.service == *desk.name());
            desk.named_by(names.map(|running| running.desk.watch()));
        }
        scene.names.store(Arc::new(self.running.iter().map(|running| running.desk.clone()).collect()));
    }
}

fn begin(desk: &Desk, rules: &Dns, config: &Config, account: &Account, scene: &Scene) -> Running {
    let (live, seen) = watch::channel(settled(desk, rules.start));
    let zone = account.zone(&rules.zone);
    let service = desk.name().clone();
    let (follower, names) =
        Follower::new(&service, rules.clone(), zone, &scene.journal, seen, scene.names_told.clone());
    let tasks = [tokio::spawn(follower.run()), tokio::spawn(tell(desk.clone(), rules.start, live))];
    // It ends by itself, behind the follower.
    tokio::spawn(keeper(desk, &names, scene).run());
    Running { service, rules: rules.clone(), aws: config.aws.clone(), desk: names, tasks }
}

/// Arms the service's tail as the names lead.
fn keeper(
    desk: &Desk,
    names: &dns::Desk,
    scene: &Scene,
) -> Keeper<dns::Status, impl Fn(&dns::Status) -> Led + use<>, impl Fn() -> Option<DnsTail> + use<>> {
    let (of, rules) = (desk.clone(), names.rules().clone());
    Keeper {
        service: desk.name().clone(),
        tail: desk.service().tail.clone(),
        status: names.watch(),
        led: move |status: &dns::Status| status.led(&rules),
        rules: move || of.service().rules.dns.as_ref().map(|rules| rules.tail.clone()),
        told: scene.tails.clone(),
    }
}

impl Running {
    async fn end(self) {
        for task in self.tasks {
            task.abort();
            // What it was doing is over before another begins.
            let _ = task.await;
        }
    }
}

/// Tells a follower of each cutover that has come so far that names may follow.
async fn tell(desk: Desk, start: DnsStart, live: watch::Sender<Live>) {
    let mut newest = desk.watch();
    loop {
        newest.borrow_and_update();
        let now = settled(&desk, start);
        live.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
        if newest.changed().await.is_err() {
            return;
        }
    }
}

/// The color that names follow: none that may yet be turned around, unless the config lets them move while it is judged.
fn settled(desk: &Desk, start: DnsStart) -> Live {
    let says = |cutover: &Cutover| format!("cutover {}", cutover.id);
    match desk.newest() {
        Some(cutover) if is_settled(&cutover, start) => Live { color: cutover.live(), by: says(&cutover) },
        Some(cutover) => Live { color: cutover.from, by: says(&cutover) },
        None => Live { color: desk.entry().map_or(Color::Blue, |entry| entry.live), by: "start".to_owned() },
    }
}

/// Whether names may go where this cutover went. On its way back they always may: where it came from is good.
fn is_settled(cutover: &Cutover, start: DnsStart) -> bool {
    match start {
        _ if cutover.phase.ends() || cutover.phase == Phase::Dns => true,
        DnsStart::AfterBake => false,
        // What has been drained has nobody inside, whoever may yet be sent there again.
        DnsStart::AfterDrain => cutover.drained().is_some(),
    }
}
