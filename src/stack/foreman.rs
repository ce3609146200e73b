//! The foreman of a service's stacks: joins the pure machine to the provider. Journal first, then the effect, then the event back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, watch};

use super::desk::{Denied, Desk, Mail, Wish};
use super::figures::Figures;
use super::hands::{Hands, obstacles};
use super::machine::{self, Effect, Event, deadline};
use super::order::{Evidence, Kind, Order, Outcome, Site, Stage, Verb};
use super::status::{OrderView, Status};
use crate::config::opsworks_ended;
use crate::journal::{Journal, JournalError};
use crate::names::{Color, PerColor, ServiceName};
use crate::time::Timestamp;

/// Runs as one task for each service that has a stack, on the deciding runtime. Another takes its place where its rules
/// change: the journal is all that one needs to know of the other.
pub struct Foreman {
    service: ServiceName,
    sites: PerColor<Option<Site>>,
    /// Nobody answers where OpsWorks was.
    has_ended: bool,
    hands: Hands,
    journal: Arc<Journal>,
    figures: Arc<Figures>,
    mailbox: mpsc::Receiver<Mail>,
    status: watch::Sender<Status>,
    told: broadcast::Sender<Status>,
    /// The newest.
    order: Option<Order>,
    /// What is being done; there is never a second.
    effect: Option<BoxFuture<'static, Event>>,
    /// A state that could not be written down, and what is due then.
    unwritten: Option<(Order, Option<Effect>)>,
}

impl Foreman {
    /// A foreman and its desk. An order that the journal knows to be unfinished goes on when the foreman runs.
    pub fn new(
        service: &ServiceName,
        sites: PerColor<Option<Site>>,
        has_ended: bool,
        hands: Hands,
        journal: &Arc<Journal>,
        told: broadcast::Sender<Status>,
    ) -> (Foreman, Desk) {
        let order = journal.last::<Order>(service);
        let is_opsworks = |site: &Site| site.provider == Kind::OpsWorks;
        let has_ended = has_ended && sites.iter().any(|(_, site)| site.as_ref().is_some_and(is_opsworks));
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        let view = order.as_ref().map(|order| OrderView::of(order, deadline(order, &hands.rules)));
        let message = has_ended.then(opsworks_ended);
        let first = Status { service: service.clone(), sites: sites.clone(), message, order: view };
        let (status, shown) = watch::channel(first);
        let figures = Arc::new(Figures::default());
        let desk = Desk {
            service: service.clone(),
            sites: sites.clone(),
            figures: figures.clone(),
            has_ended,
            hands: hands.clone(),
            journal: journal.clone(),
            mail,
            status: shown,
        };
        let (service, journal) = (service.clone(), journal.clone());
        let (effect, unwritten) = (None, None);
        let foreman = Foreman {
            service,
            sites,
            has_ended,
            hands,
            journal,
            figures,
            mailbox,
            status,
            told,
            order,
            effect,
            unwritten,
        };
        (foreman, desk)
    }

    pub async fn run(mut self) {
        self.set_out().await;
        loop {
            tokio::select! {
                // In this order: whoever asks comes before what is under way.
                biased;
                mail = self.mailbox.recv() => match mail {
                    Some((wish, reply)) => {
                        let answer = self.grant(wish).await;
                        // Whoever asked may have gone; what was begun goes on.
                        let _ = reply.send(answer);
                    }
                    None => return,
                },
                event = performed(&mut self.effect) => self.happen(event).await,
                () = tokio::time::sleep(CATCH_UP), if self.unwritten.is_some() => self.catch_up().await,
            }
        }
    }

    /// Takes up what was under way, where the config still says that it is about this stack.
    async fn set_out(&mut self) {
        let Some(order) = self.order.as_ref().filter(|order| order.outcome.is_none()) else { return };
        let owns = self.sites[order.color].as_ref() == Some(&order.site);
        self.happen(if owns { Event::Resume } else { Event::Disowned }).await;
    }

    async fn grant(&mut self, wish: Wish) -> Result<Order, Denied> {
        match wish {
            Wish::Abort { by } => self.abort(by).await,
            Wish::Order { verb, color, by, reason, force } => {
                let draft = self.draft(verb, color, by, reason, force)?;
                self.journal.append(&draft).await.map_err(|error| Denied::Journal(error.to_string()))?;
                self.unwritten = None;
                self.order = Some(draft.clone());
                self.log(&draft);
                self.start(Some(Effect::Look));
                Ok(draft)
            }
        }
    }

    /// The order as it begins, if nothing speaks against that.
    fn draft(
        &self,
        verb: Verb,
        color: Color,
        by: String,
        reason: Option<String>,
        force: Option<String>,
    ) -> Result<Order, Denied> {
        if let Some(holder) = self.order.as_ref().filter(|order| order.outcome.is_none()) {
            return Err(Denied::Held(Box::new(holder.clone())));
        }
        let service = self.service.clone();
        let site = self.sites[color].clone().ok_or(Denied::NoStack { service: service.clone(), color })?;
        if site.provider == Kind::OpsWorks && self.has_ended {
            return Err(Denied::Ended);
        }
        let Some(step) = verb.steps(site.provider).first().copied() else {
            return Err(Denied::NotOfGroups(site, verb));
        };
        let other = self.sites[color.other()].as_ref().filter(|other| other.provider == site.provider);
        let started = self.hands.clock.now();
        let mut order = Order {
            id: id(&service, started),
            source: other.map(|other| other.stack.clone()),
            service,
            verb,
            color,
            site,
            by,
            reason,
            force,
            overridden: Vec::new(),
            started,
            ended: None,
            outcome: None,
            why: None,
            step,
            since: started,
            stage: Stage::Look,
            // What the order before this one left on its way may still arrive.
            doubt: self.order.as_ref().and_then(|last| last.doubt.clone()),
            evidence: Evidence::default(),
            says: None,
            instances: Vec::new(),
            tries: 0,
            refused: None,
        };
        let obstacles = obstacles(&*self.hands.outlook, &order);
        if obstacles.iter().any(|obstacle| obstacle.is_final) || order.force.is_none() && !obstacles.is_empty() {
            return Err(Denied::Barred { verb, color, obstacles });
        }
        order.overridden = obstacles;
        Ok(order)
    }

    async fn abort(&mut self, by: String) -> Result<Order, Denied> {
        let current = self.order.as_ref().filter(|order| order.outcome.is_none()).ok_or(if self.has_ended {
            Denied::Ended
        } else {
            Denied::NothingToAbort
        })?;
        let (ended, _) = machine::step(current, &self.hands.rules, Event::Abort(by), self.hands.clock.now());
        // What is under way goes on where its end cannot be written down.
        self.journal.append(&ended).await.map_err(|error| Denied::Journal(error.to_string()))?;
        self.unwritten = None;
        self.enter(ended.clone(), None);
        Ok(ended)
    }

    /// One step: the machine decides, the journal is written, and only then does the effect begin.
    async fn happen(&mut self, event: Event) {
        self.effect = None;
        let Some(order) = &self.order else { return };
        let (next, effect) = machine::step(order, &self.hands.rules, event, self.hands.clock.now());
        if next.moved(order)
            && let Err(error) = self.journal.append(&next).await
        {
            return self.hold(next, effect, &error);
        }
        self.enter(next, effect);
    }

    fn enter(&mut self, next: Order, effect: Option<Effect>) {
        if let Some(before) = &self.order {
            self.figures.count(before, &next);
            if (before.step, before.outcome) != (next.step, next.outcome) {
                self.log(&next);
            }
        }
        self.order = Some(next);
        self.start(effect);
    }

    fn start(&mut self, effect: Option<Effect>) {
        self.effect = match (&self.order, effect) {
            (Some(order), Some(effect)) => Some(self.hands.perform(effect, order)),
            _ => None,
        };
        self.tell();
    }

    /// The disk is full or gone: nothing is done that is not written down.
    fn hold(&mut self, next: Order, effect: Option<Effect>, error: &JournalError) {
        tracing::error!(id = %next.id, "{error}");
        if let Some(order) = &mut self.order {
            order.says = Some(error.to_string());
        }
        self.tell();
        self.unwritten = Some((next, effect));
    }

    /// Writes down what could not be, and goes on from there.
    async fn catch_up(&mut self) {
        let Some((next, effect)) = self.unwritten.take() else { return };
        match self.journal.append(&next).await {
            Ok(()) => self.enter(next, effect),
            Err(_) => self.unwritten = Some((next, effect)),
        }
    }

    fn log(&self, order: &Order) {
        let Order { id, verb, color, site, by, step, outcome, why, force, .. } = order;
        let (verb, why) = (verb.as_str(), why.as_deref().unwrap_or_default());
        match outcome {
            None => {
                tracing::info!(id = %id, by = %by, force = force.as_deref(), "{verb} {color} ({site}): {}", step.as_str())
            }
            Some(Outcome::Done) => tracing::info!(id = %id, "{verb} {color} ({site}): done"),
            Some(outcome) => tracing::warn!(id = %id, "{verb} {color} ({site}): {}: {why}", outcome.as_str()),
        }
    }

    fn tell(&self) {
        let order = self.order.as_ref().map(|order| OrderView::of(order, deadline(order, &self.hands.rules)));
        let message = self.has_ended.then(opsworks_ended);
        let status = Status { service: self.service.clone(), sites: self.sites.clone(), message, order };
        if *self.status.borrow() != status {
            self.status.send_replace(status.clone());
            // An error means that nobody listens just now.
            let _ = self.told.send(status);
        }
    }
}

fn id(service: &ServiceName, at: Timestamp) -> String {
    format!("{service}-stack-{}-{:04x}", at.strftime("%Y%m%dT%H%M%S%3fZ"), fastrand::u16(..))
}

async fn performed(effect: &mut Option<BoxFuture<'static, Event>>) -> Event {
    match effect {
        Some(effect) => effect.await,
        None => std::future::pending().await,
    }
}

/// Wishes that may wait.
const MAILBOX: usize = 16;
/// Between two tries to write down what could not be.
const CATCH_UP: Duration = Duration::from_secs(1);
