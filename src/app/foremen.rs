//! The foremen that run: one for each service of which a color is a stack, with what the proxy itself knows of it.

use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::accounts::Accounts;
use crate::admin::Scene;
use crate::aws::Account;
use crate::config::{Aws, Config, Service, StackRules};
use crate::cutover::Desk;
use crate::names::{Color, PerColor, ServiceName};
use crate::pool::{EndpointHealth, State};
use crate::retire::{Check, Code};
use crate::stack::{self, Endpoint, Foreman, Hands, Obstacle, Order, Outlook, Providers, Site, Verb};
use crate::time::Clock;

/// Those of the config that runs.
#[derive(Default)]
pub struct Foremen {
    running: Vec<Running>,
    may_begin: watch::Sender<bool>,
}

struct Running {
    rules: Rules,
    desk: stack::Desk,
    task: JoinHandle<()>,
}

/// All that one depends on.
#[derive(PartialEq)]
struct Rules {
    service: ServiceName,
    sites: PerColor<Option<Site>>,
    stacks: StackRules,
    aws: Aws,
}

impl Foremen {
    /// Ends those whose rules are others now, and begins what the config asks for. The journal tells the new one how far
    /// the old one had come; one whose rules are equal is not touched.
    pub async fn follow(&mut self, config: &Config, scene: &Arc<Scene>, accounts: &mut Accounts) {
        let wanted: Vec<Rules> = config.services.iter().map(|service| Rules::of(service, config)).collect();
        let (stay, gone): (Vec<_>, Vec<_>) = self.running.drain(..).partition(|it| wanted.contains(&it.rules));
        self.running = stay;
        for running in gone {
            running.task.abort();
            // What it was doing is over before another begins.
            let _ = running.task.await;
        }
        let desks = scene.desks.load_full();
        for rules in wanted.into_iter().filter(|rules| rules.has_work(scene)) {
            let desk = desks.iter().find(|desk| *desk.name() == rules.service);
            let Some(desk) = desk.filter(|_| self.running.iter().all(|it| it.rules != rules)) else { continue };
            let account = accounts.of(&config.aws, scene).await;
            let running = self.seat(desk, rules, &account, scene);
            self.running.push(running);
        }
        scene.stacks.store(Arc::new(self.running.iter().map(|running| running.desk.clone()).collect()));
    }

    /// Until then nobody does anything; orders can be handed in, and wait.
    pub fn begin(&self) {
        self.may_begin.send_replace(true);
    }

    fn seat(&self, desk: &Desk, rules: Rules, account: &Account, scene: &Arc<Scene>) -> Running {
        let role = rules.stacks.service_role_arn.as_deref();
        let hands = Hands {
            providers: Providers { opsworks: account.opsworks(role), asg: account.scaling() },
            outlook: Arc::new(View { scene: Arc::downgrade(scene), desk: desk.clone() }),
            rules: Arc::new(rules.stacks.clone()),
            clock: Clock::new(),
        };
        let (sites, has_ended) = (rules.sites.clone(), rules.aws.endpoint_url.is_none());
        let (foreman, desk) =
            Foreman::new(&rules.service, sites, has_ended, hands, &scene.journal, scene.stacks_told.clone());
        let mut may_begin = self.may_begin.subscribe();
        let task = tokio::spawn(async move {
            // An error means that the proxy is gone before it began.
            if may_begin.wait_for(|may| *may).await.is_ok() {
                foreman.run().await;
            }
        });
        Running { rules, desk, task }
    }
}

impl Rules {
    fn of(service: &Service, config: &Config) -> Rules {
        Rules {
            service: service.name.clone(),
            sites: PerColor::from_fn(|color| Site::of(&service.stacks[color])),
            stacks: service.stack_rules.clone(),
            aws: config.aws.clone(),
        }
    }

    /// A color is a stack, or was one when somebody gave an order that has not ended.
    fn has_work(&self, scene: &Scene) -> bool {
        let is_open = |order: Order| order.outcome.is_none();
        self.sites.iter().any(|(_, site)| site.is_some())
            || scene.journal.last::<Order>(&self.service).is_some_and(is_open)
    }
}

/// What the proxy knows of a service's colors.
struct View {
    scene: Weak<Scene>,
    desk: Desk,
}

impl Outlook for View {
    fn obstacles(&self, color: Color, verb: Verb) -> Vec<Obstacle> {
        let counts = |code: Code| match verb {
            Verb::Stop => true,
            // What is deployed to restarts, and whoever is inside notices.
            Verb::Prepare | Verb::Deploy => {
                matches!(code, Code::Live | Code::Cutover | Code::InFlight | Code::Tunnels | Code::DnsNames)
            }
            Verb::Clone | Verb::Start => false,
        };
        let obstacle = |check: Check| Obstacle {
            code: check.code.as_str().to_owned(),
            text: check.text,
            // Nobody who means well stops what everybody is on.
            is_final: verb == Verb::Stop && check.code == Code::Live,
        };
        let permit = self.scene.upgrade().and_then(|scene| scene.permit(&self.desk, color));
        match permit {
            Some(permit) => permit.reasons.into_iter().filter(|check| counts(check.code)).map(obstacle).collect(),
            None if counts(Code::Live) => {
                let text = format!("{} is no service of this proxy any more", self.desk.name());
                vec![Obstacle { code: "gone".to_owned(), text, is_final: true }]
            }
            None => Vec::new(),
        }
    }

    fn endpoints(&self, color: Color) -> Vec<Endpoint> {
        let health = self.desk.service().pools[color].health();
        let endpoint = |one: &EndpointHealth| Endpoint {
            ip: one.address.ip().to_string(),
            is_up: one.state == State::Up,
            says: one.says(),
        };
        health.iter().map(endpoint).collect()
    }
}
