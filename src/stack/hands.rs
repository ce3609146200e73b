//! The hands of a foreman: they look at stacks and do one thing at a time, and say what came of it. Each has a deadline.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use super::act::Act;
use super::machine::{Effect, Event};
use super::order::{Kind, Obstacle, Order, Step, Verb};
use super::plan::{Endpoint, Look};
use super::provider::{Provider, ProviderError, Stack};
use crate::config::StackRules;
use crate::names::Color;
use crate::time::{self, Clock, Timestamp};

/// What effects work with.
#[derive(Clone)]
pub struct Hands {
    pub providers: Providers,
    pub outlook: Arc<dyn Outlook>,
    pub rules: Arc<StackRules>,
    pub clock: Clock,
}

/// Who runs stacks of each kind.
#[derive(Clone)]
pub struct Providers {
    pub opsworks: Arc<dyn Provider>,
    pub asg: Arc<dyn Provider>,
}

impl Providers {
    pub fn of(&self, kind: Kind) -> &dyn Provider {
        match kind {
            Kind::OpsWorks => &*self.opsworks,
            Kind::Asg => &*self.asg,
        }
    }
}

/// What the proxy itself knows of a color.
pub trait Outlook: Send + Sync {
    /// What speaks, at this moment, against doing that to the color's stack.
    fn obstacles(&self, color: Color, verb: Verb) -> Vec<Obstacle>;

    /// Its endpoints, by the proxy's own health checks.
    fn endpoints(&self, color: Color) -> Vec<Endpoint>;
}

impl Hands {
    /// What an effect comes to.
    pub fn perform(&self, effect: Effect, order: &Order) -> BoxFuture<'static, Event> {
        let (hands, order) = (self.clone(), order.clone());
        Box::pin(async move {
            match effect {
                Effect::Look => hands.look(&order).await,
                Effect::LookLater => {
                    sleep(hands.rules.interval).await;
                    hands.look(&order).await
                }
                Effect::TryLater(tries) => {
                    sleep(time::pause(tries)).await;
                    hands.look(&order).await
                }
                Effect::Do(act) => hands.carry_out(*act, &order).await,
            }
        })
    }

    /// By when an effect has come to something.
    pub fn due(&self, effect: &Effect) -> Timestamp {
        let within = match effect {
            Effect::Look => LOOK,
            Effect::Do(_) => CALL,
            Effect::LookLater => self.rules.interval + LOOK,
            Effect::TryLater(tries) => time::longest_pause(*tries) + LOOK,
        };
        let now = self.clock.now();
        now.checked_add(within).unwrap_or(now)
    }

    async fn look(&self, order: &Order) -> Event {
        let found = timeout(LOOK, self.find(order)).await;
        let late = || ProviderError::Unreachable(format!("nothing came within {} s", LOOK.as_secs()));
        Event::Looked(found.unwrap_or_else(|_| Err(late())).map(Box::new))
    }

    /// As much as the step needs, and no more: providers are slow to give and quick to throttle.
    async fn find(&self, order: &Order) -> Result<Look, ProviderError> {
        let provider = self.providers.of(order.site.provider);
        let own = provider.find(order.stack()).await?;
        let needs_source = match order.step {
            Step::Clone => own.is_none(),
            Step::Instances => true,
            Step::Start => order.site.provider == Kind::Asg && order.evidence.capacity.is_none(),
            Step::Deploy | Step::Healthy | Step::Stop => false,
        };
        let source = match &order.source {
            Some(source) if needs_source => provider.find(source).await?,
            _ => None,
        };
        let deployments = match &own {
            Some(own) if order.step == Step::Deploy => provider.deployments(own).await?,
            _ => Vec::new(),
        };
        let endpoints = match order.step {
            Step::Healthy => self.outlook.endpoints(order.color),
            _ => Vec::new(),
        };
        Ok(Look { own, source, deployments, endpoints })
    }

    /// Does it, unless something speaks against it that nobody has overridden: that is asked at the last moment there is.
    async fn carry_out(&self, act: Act, order: &Order) -> Event {
        if act.call().is_guarded() {
            let obstacles = obstacles(&*self.outlook, order);
            if !obstacles.is_empty() {
                return Event::Barred(obstacles);
            }
        }
        let done = timeout(CALL, self.call(act, order.site.provider)).await;
        let silent = || ProviderError::Unknown(format!("nothing came within {} s", CALL.as_secs()));
        Event::Did(done.unwrap_or_else(|_| Err(silent())))
    }

    async fn call(&self, act: Act, kind: Kind) -> Result<Option<String>, ProviderError> {
        let provider = self.providers.of(kind);
        match act {
            Act::Clone { source, name } => provider.clone_stack(&source, &name).await.map(Some),
            Act::Add { stack, like } => provider.add_instance(&stack, &like).await.map(Some),
            Act::Start(instance) => provider.start_instance(&instance).await.map(|()| None),
            Act::Stop(instance) => provider.stop_instance(&instance).await.map(|()| None),
            Act::Deploy { stack, app, comment } => provider.deploy(&stack, &app, &comment).await.map(Some),
            Act::SetCapacity { stack, wanted } => provider.set_capacity(&stack, wanted).await.map(|()| None),
        }
    }

    /// Every stack there is of these kinds.
    pub async fn list(&self, kinds: &[Kind]) -> Result<Vec<(Kind, Stack)>, ProviderError> {
        let all = async {
            let mut found = Vec::new();
            for kind in kinds {
                found.extend(self.providers.of(*kind).stacks().await?.into_iter().map(|stack| (*kind, stack)));
            }
            Ok(found)
        };
        let late = || ProviderError::Unreachable(format!("nothing came within {} s", LOOK.as_secs()));
        timeout(LOOK, all).await.unwrap_or_else(|_| Err(late()))
    }
}

/// What speaks against the order and has not been overridden.
pub fn obstacles(outlook: &dyn Outlook, order: &Order) -> Vec<Obstacle> {
    let is_open = |obstacle: &Obstacle| {
        obstacle.is_final || order.force.is_none() || order.overridden.iter().all(|known| known.code != obstacle.code)
    };
    outlook.obstacles(order.color, order.verb).into_iter().filter(is_open).collect()
}

/// A call; whoever implements it has a shorter deadline of its own.
const CALL: Duration = Duration::from_secs(60);
/// Several of them.
const LOOK: Duration = Duration::from_secs(120);
