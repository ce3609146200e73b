//! How a driver grants a wish, or says why it does not.

use super::super::desk::{Denied, Granted, Wish};
use super::super::evidence::Evidence;
use super::super::gate::{Gate, GateKind};
use super::super::machine::{self, Event};
use super::super::order::{Order, Reply, Stage};
use super::super::state::{Cutover, Kind, Outline, Phase};
use super::Driver;
use crate::config::{self, Question};
use crate::names::Color;
use crate::pool::Readiness;
use crate::time;

/// A rollback that waits for the old color's health, and who waits for the word on it.
pub struct WayBack {
    pub by: String,
    pub reason: Option<String>,
    pub from: Option<Color>,
    pub reply: Reply,
}

impl Driver {
    /// An order's turn, where it has come: not before the start is over, but for what can be answered already, and never
    /// once the proxy has been asked to end.
    pub(super) async fn take(&mut self, order: Order) {
        let stage = *self.stage.borrow();
        match &order.wish {
            Wish::Abort { .. } => {}
            _ if stage == Stage::Ending => return order.deny(Denied::Stopping),
            wish if !self.has_begun && self.begins_something(wish) => return self.queue.push(order),
            _ => {}
        }
        if let Some((wish, reply)) = order.begin() {
            self.grant(wish, reply).await;
        }
    }

    /// Whether there may be more to do about it than to answer.
    fn begins_something(&self, wish: &Wish) -> bool {
        match (wish, self.current()) {
            (Wish::Switch { .. }, Some(current)) => current.phase == Phase::Dns,
            (Wish::Approve { .. }, current) => current.is_some(),
            _ => true,
        }
    }

    pub(super) async fn grant(&mut self, wish: Wish, reply: Reply) {
        let current = self.after_names(&wish).await;
        let answer = match (wish, current) {
            // Whoever asks twice has what he wants: names are waited for, and he need not be.
            (Wish::Switch { .. }, Some(current)) if current.phase == Phase::Dns => self.already(),
            (Wish::Switch { .. }, Some(current)) => Err(Denied::Held(Box::new(current))),
            (Wish::Switch { to, by, reason }, None) => self.begin(Kind::Switch, to, by, reason).await,
            (Wish::Rollback { by, reason, from }, None) => self.go_back(by, reason, from).await,
            (Wish::Rollback { by, reason, from }, Some(current)) => {
                return self.turn_back(&current, WayBack { by, reason, from, reply }).await;
            }
            (Wish::Abort { by }, current) => self.abort(by, current).await,
            (Wish::Approve { by, gate }, Some(current)) => self.approve(current, by, gate).await,
            (Wish::Approve { .. }, None) => Err(Denied::NothingToApprove(None)),
        };
        // Whoever asked may have gone; what was begun goes on.
        let _ = reply.send(answer);
    }

    /// Ends what is under way, and takes back what waits for its turn: that would move what is to stay.
    async fn abort(&mut self, by: String, current: Option<Cutover>) -> Result<Granted, Denied> {
        let orders = self.queue.take_back(&by);
        match (current, self.live()) {
            // It is on its way to where an abort leads.
            (Some(current), _) if current.is_back() => Ok(Granted::Turned(Box::new(current))),
            (Some(current), _) if can_abort(&current) => {
                self.happen(&current.id, Event::Abort { by }).await;
                Ok(Granted::Turned(Box::new(self.newest_of(current))))
            }
            (_, Some((live, _))) if !orders.is_empty() => Ok(Granted::TakenBack { live, orders }),
            (Some(current), _) => Err(Denied::TooLate(Box::new(current))),
            (None, _) => Err(Denied::NothingToAbort),
        }
    }

    /// The cutover under way. One that only waits for names is over where somebody wants to move again.
    async fn after_names(&mut self, wish: &Wish) -> Option<Cutover> {
        let current = self.current()?;
        match wish {
            Wish::Switch { to, .. } if *to != current.to => self.after_all_names().await,
            Wish::Rollback { from, .. } if from.is_none_or(|from| from == current.left_by_rollback()) => {
                self.after_all_names().await
            }
            _ => Some(current),
        }
    }

    /// The cutover under way, unless it only waits for names: then it is over.
    pub(super) async fn after_all_names(&mut self) -> Option<Cutover> {
        let current = self.current()?;
        if current.phase == Phase::Dns {
            self.happen(&current.id, Event::NextWish).await;
        }
        self.current()
    }

    fn live(&self) -> Option<(Color, time::Timestamp)> {
        self.switchboard.table().entry(&self.service.name).map(|entry| (entry.live, entry.since))
    }

    fn already(&self) -> Result<Granted, Denied> {
        self.live().map(|(live, since)| Granted::Already { live, since }).ok_or(Denied::Stopping)
    }

    fn newest_of(&self, known: Cutover) -> Cutover {
        self.newest.borrow().clone().unwrap_or(known)
    }

    async fn begin(&mut self, kind: Kind, to: Color, by: String, reason: Option<String>) -> Result<Granted, Denied> {
        let table = self.switchboard.table();
        let entry = table.entry(&self.service.name).ok_or(Denied::Stopping)?;
        if entry.live == to {
            return Ok(Granted::Already { live: to, since: entry.since });
        }
        let draft = draft(&entry.service.rules, kind, to, by);
        let cutover = Cutover { id: self.new_id(&draft.id), reason, generation: entry.generation, ..draft };
        self.catch_up().await.map_err(|error| Denied::Journal(error.to_string()))?;
        self.write(&cutover).await.map_err(|error| Denied::Journal(error.to_string()))?;
        self.set_deadline(&cutover);
        self.tell(&cutover);
        let (_, effects) = machine::step(&cutover, Event::Resume);
        effects.into_iter().for_each(|effect| self.start(&cutover.id, effect));
        Ok(Granted::Begun(Box::new(cutover)))
    }

    /// The draft's, and a number more where a clock is too coarse, or was set back.
    fn new_id(&self, plain: &str) -> String {
        let plain = plain.to_owned();
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let mut ids = std::iter::once(plain.clone()).chain(numbered);
        ids.find(|id| self.journal.find::<Cutover>(id).is_none()).unwrap_or(plain)
    }

    /// A rollback where no cutover is under way. Two operators who both want to go back must not cancel each other out.
    async fn go_back(&mut self, by: String, reason: Option<String>, from: Option<Color>) -> Result<Granted, Denied> {
        let (live, since) = self.live().ok_or(Denied::Stopping)?;
        if let Some(from) = from.filter(|from| *from != live) {
            return Err(Denied::Left { from, live, since });
        }
        if from.is_none()
            && let Some(back) = self.last_move().filter(|last| last.is_back_just_now(time::now()))
        {
            return Err(Denied::BackAlready(Box::new(back)));
        }
        self.begin(Kind::Rollback, live.other(), by, reason).await
    }

    /// The newest cutover but for rollbacks that came to nothing.
    fn last_move(&self) -> Option<Cutover> {
        let past: Vec<Cutover> = self.journal.history(Some(&self.service.name));
        past.into_iter().find(|past| past.kind == Kind::Switch || past.succeeded())
    }

    /// A rollback while a cutover is under way: before the switch it is an abort; after it, the old color's health
    /// decides, and the answer waits for that. One that goes back already is joined.
    async fn turn_back(&mut self, current: &Cutover, back: WayBack) {
        let wish = Event::Rollback { by: back.by.clone(), reason: back.reason.clone() };
        if let Some(answer) = self.without_a_turn(current, back.from) {
            let _ = back.reply.send(answer);
            return;
        }
        if !self.returning.is_empty() {
            self.returning.push(back);
            return;
        }
        if current.live() == current.to {
            match self.happen_written(current, wish).await {
                Ok(()) => self.returning.push(back),
                Err(denied) => drop(back.reply.send(Err(denied))),
            }
            return;
        }
        if current.phase == Phase::Paused && current.returning {
            // It wants to already, and goes as soon as it can.
            let _ = back.reply.send(Err(Denied::Stuck(Box::new(current.clone()))));
            return;
        }
        self.happen(&current.id, wish).await;
        let newest = self.newest_of(current.clone());
        let _ = back.reply.send(Ok(Granted::Turned(Box::new(newest))));
    }

    /// What a rollback comes to that does not turn this cutover.
    fn without_a_turn(&self, current: &Cutover, from: Option<Color>) -> Option<Result<Granted, Denied>> {
        let held = || Err(Denied::Held(Box::new(current.clone())));
        // Before a switch nobody has been led to the new color, unless that has a share.
        let is_left = current.kind == Kind::Switch && current.comes_to_its_switch() && current.share.is_none();
        if let Some(from) = from.filter(|from| is_left || *from != current.left_by_rollback()) {
            let left = self.live().filter(|(live, _)| *live != from);
            return Some(left.map_or_else(held, |(live, since)| Err(Denied::Left { from, live, since })));
        }
        match current.kind {
            Kind::Rollback => Some(Ok(Granted::Begun(Box::new(current.clone())))),
            Kind::Switch if current.is_back() => Some(Ok(Granted::Turned(Box::new(current.clone())))),
            Kind::Switch if current.phase == Phase::Switch => Some(held()),
            Kind::Switch => None,
        }
    }

    async fn approve(&mut self, current: Cutover, by: String, gate: Option<String>) -> Result<Granted, Denied> {
        let event = Event::Approve { by, at: time::now(), gate };
        if machine::step(&current, event.clone()).0 == current {
            return Err(Denied::NothingToApprove(Some(Box::new(current))));
        }
        self.happen_written(&current, event).await?;
        Ok(Granted::Approved(Box::new(self.newest_of(current))))
    }

    /// Whoever asked to go back learns whether that is possible.
    pub(super) fn answer_rollback(&mut self, cutover: &Cutover, event: &Event) {
        if !cutover.returning {
            return;
        }
        let answer = match event {
            Event::Health(color, Readiness::Ready, _) if *color == cutover.from => {
                Ok(Granted::Turned(Box::new(cutover.clone())))
            }
            Event::Health(color, Readiness::Rising(reasons) | Readiness::Unready(reasons), _)
                if *color == cutover.from =>
            {
                match self.current().filter(|now| now.phase == Phase::Paused && now.returning) {
                    Some(stuck) => Err(Denied::Stuck(Box::new(stuck))),
                    None => Err(Denied::Unhealthy { color: cutover.from, reasons: reasons.clone() }),
                }
            }
            _ => return,
        };
        for back in self.returning.drain(..) {
            let _ = back.reply.send(answer.clone());
        }
    }
}

/// Nothing has switched yet.
fn can_abort(cutover: &Cutover) -> bool {
    cutover.live() == cutover.from && (cutover.kind == Kind::Switch || cutover.phase == Phase::Prepare)
}

/// A cutover as it begins by these rules: its id names service and time.
pub fn draft(rules: &config::Service, kind: Kind, to: Color, by: String) -> Cutover {
    let started = time::now();
    let (outline, gates) = course(kind, rules);
    Cutover {
        id: format!("{}-{}", rules.name, started.strftime("%Y%m%dT%H%M%S%3fZ")),
        service: rules.name.clone(),
        kind,
        from: to.other(),
        to,
        by,
        reason: None,
        started,
        ended: None,
        generation: 0,
        phase: Phase::Prepare,
        returning: false,
        asked_back: None,
        outline,
        gates,
        step: None,
        share: None,
        paused: None,
        overdue: false,
        kept: false,
        evidence: Evidence::default(),
    }
}

/// What a cutover goes through by these rules. Nobody asks whether to go back, and nothing is tried out on the way.
fn course(kind: Kind, service: &config::Service) -> (Outline, Vec<Gate>) {
    let rules = &service.cutover;
    if kind == Kind::Rollback {
        return (Outline::default(), Vec::new());
    }
    let outline = Outline {
        warm: rules.warm.is_some(),
        canary: u32::try_from(rules.canary.len()).unwrap_or(u32::MAX),
        ramp: if rules.ramp.is_zero() { 0 } else { RAMP_STEPS },
        bake: rules.bake.is_some(),
        dns: service.dns.is_some(),
    };
    let gate = |rules: &config::GateRules| {
        let kind = match rules.question {
            Question::Approve => GateKind::Approval,
            Question::Webhook { .. } => GateKind::Webhook,
            Question::Run { .. } => GateKind::Command,
        };
        Gate::waiting(&rules.name, kind, rules.then)
    };
    (outline, rules.gates.iter().map(gate).collect())
}

/// The share of a ramp rises in so many steps, each written down before it is given: after a crash no client comes back.
const RAMP_STEPS: u32 = 10;
