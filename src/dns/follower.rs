//! The follower of a service: joins the pure machine to the zone. Journal first, then the effect, then the event back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::desk::{Denied, Desk, Mail, Wish, can_lead};
use super::figures::Figures;
use super::hands::{Hands, attempt};
use super::machine::{self, Effect, Event};
use super::plan::{self, Aim, Plan, Terms, Why, plan, ttl};
use super::shift::{Evidence, Goal, Shift, Stage, Step};
use super::status::{Next, Status};
use super::zone::{RecordSet, Zone};
use crate::config::{self, Drift};
use crate::journal::{Journal, JournalError};
use crate::names::{Color, ServiceName, Side};
use crate::time::Clock;

/// The color that is live once no cutover is under way, and since what.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    pub color: Color,
    /// Such as `cutover shop-20261124T160657451Z`.
    pub by: String,
}

/// Runs as one task for each service whose names follow it, on the deciding runtime. Another takes its place where its rules
/// change: the journal is all that one needs to know of the other.
pub struct Follower {
    hands: Hands,
    journal: Arc<Journal>,
    figures: Arc<Figures>,
    live: watch::Receiver<Live>,
    mailbox: mpsc::Receiver<Mail>,
    newest: watch::Sender<Shift>,
    status: watch::Sender<Status>,
    told: broadcast::Sender<Status>,
    shift: Shift,
    /// The zone as it was last read or written.
    found: Option<Vec<RecordSet>>,
    /// What is being done; there is never a second.
    effect: Option<BoxFuture<'static, Event>>,
    /// A batch that is on its way.
    sending: Option<Box<super::Batch>>,
    next: Option<Next>,
    /// A state that could not be written down, and what is due then.
    unwritten: Option<(Shift, Option<Effect>)>,
    /// When to look whether the zone still says what it should.
    look_at: Instant,
}

impl Follower {
    /// A follower and its desk. What the journal says of an unfinished shift goes on when the follower runs.
    pub fn new(
        service: &ServiceName,
        rules: config::Dns,
        zone: Arc<dyn Zone>,
        journal: &Arc<Journal>,
        live: watch::Receiver<Live>,
        told: broadcast::Sender<Status>,
    ) -> (Follower, Desk) {
        let hands = Hands { zone, rules: Arc::new(rules), clock: Clock::new() };
        let now = live.borrow().clone();
        let shift = journal.last::<Shift>(service).filter(|shift| can_lead(&hands.rules, shift.to));
        let shift = shift.unwrap_or_else(|| {
            // The id is empty until it has been written down.
            new_shift(service, Goal::Follow, now.color.into(), &now, now.by.clone(), &hands, None)
        });
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        let (newest, seen) = watch::channel(shift.clone());
        let (status, shown) = watch::channel(Status::of(&shift, &hands.rules, None, None));
        let figures = Arc::new(Figures::default());
        let desk = Desk {
            service: service.clone(),
            figures: figures.clone(),
            hands: hands.clone(),
            mail,
            newest: seen,
            status: shown,
        };
        let follower = Follower {
            hands,
            journal: journal.clone(),
            figures,
            live,
            mailbox,
            newest,
            status,
            told,
            shift,
            found: None,
            effect: None,
            sending: None,
            next: None,
            unwritten: None,
            look_at: Instant::now(),
        };
        (follower, desk)
    }

    pub async fn run(mut self) {
        self.set_out().await;
        loop {
            let idle = self.effect.is_none() && self.unwritten.is_none() && self.shift.step.ends();
            tokio::select! {
                // In this order: whoever asks, and the color that is live, come before what is under way.
                biased;
                mail = self.mailbox.recv() => match mail {
                    Some((wish, reply)) => {
                        let answer = self.grant(wish).await;
                        // Whoever asked may have gone; what was begun goes on.
                        let _ = reply.send(answer);
                    }
                    None => return,
                },
                Ok(()) = self.live.changed() => self.follow().await,
                event = performed(&mut self.effect) => self.happen(event).await,
                () = tokio::time::sleep(CATCH_UP), if self.unwritten.is_some() => self.catch_up().await,
                () = sleep_until(self.look_at), if idle => self.start(Some(Effect::Look)),
            }
        }
    }

    /// Takes up what was under way; where nothing was, or another color is live since, begins.
    async fn set_out(&mut self) {
        let live = self.live.borrow_and_update().clone();
        let known = self.journal.find::<Shift>(&self.shift.id).is_some();
        if !known || self.shift.live != live.color {
            self.begin_surely(Goal::Follow, live.color.into(), live.by).await;
        } else {
            self.happen(Event::Resume).await;
        }
    }

    /// The color that is live has changed, or somebody says so again.
    async fn follow(&mut self) {
        let live = self.live.borrow_and_update().clone();
        // Names that were sent to the proxy by hand stay there until another color is live.
        if live.color != self.shift.live {
            self.begin_surely(Goal::Follow, live.color.into(), live.by).await;
        }
    }

    async fn grant(&mut self, wish: Wish) -> Result<String, Denied> {
        let Wish { goal, to, by } = wish;
        let live = self.live.borrow().color;
        let to = match goal {
            Goal::Prepare => self.shift.to,
            _ => to.unwrap_or(live.into()),
        };
        if !can_lead(&self.hands.rules, to) {
            return Err(Denied::NoProxy(self.shift.service.clone()));
        }
        let under_way = !self.shift.step.ends() && self.unwritten.is_none();
        if goal == Goal::Prepare && under_way && self.shift.stopped.is_none() {
            return Err(Denied::Moving(self.shift.to));
        }
        let same = self.shift.goal == goal && self.shift.to == to;
        if under_way && same {
            // What waits for a later try is tried now.
            self.happen(Event::Resume).await;
            return Ok(self.shift.id.clone());
        }
        self.begin(goal, to, by).await.map_err(|error| Denied::Journal(error.to_string()))?;
        Ok(self.shift.id.clone())
    }

    /// Begins another shift in place of what is under way; where it cannot be written down, that goes on.
    async fn begin(&mut self, goal: Goal, to: Side, by: String) -> Result<(), JournalError> {
        let next = self.another(goal, to, by);
        self.journal.append(&next).await?;
        self.take_its_place(next).await;
        Ok(())
    }

    /// As `begin`, and where it cannot be written down it is tried until it can.
    async fn begin_surely(&mut self, goal: Goal, to: Side, by: String) {
        let next = self.another(goal, to, by);
        match self.journal.append(&next).await {
            Ok(()) => self.take_its_place(next).await,
            Err(error) => self.hold(next, Some(Effect::Look), &error),
        }
    }

    fn another(&self, goal: Goal, to: Side, by: String) -> Shift {
        let (live, service) = (self.live.borrow().clone(), &self.shift.service);
        // How long ago names were led there is known from the last shift that moved any.
        let mut shifts = self.journal.history::<Shift>(Some(service)).into_iter();
        let moved = shifts.find(|shift| shift.evidence.shifted_at.is_some());
        new_shift(service, goal, to, &live, by, &self.hands, Some((&self.shift, moved.as_ref())))
    }

    async fn take_its_place(&mut self, next: Shift) {
        let known = self.journal.find::<Shift>(&self.shift.id).is_some();
        if !self.shift.step.ends() && known {
            let replaced = Shift { step: Step::Replaced, ended: Some(next.started), ..self.shift.clone() };
            if let Err(error) = self.journal.append(&replaced).await {
                tracing::warn!(id = %replaced.id, "the end of a shift that another has replaced: {error}");
            }
        }
        self.unwritten = None;
        self.enter(next, Some(Effect::Look));
    }

    /// The disk is full or gone: nothing is done that is not written down.
    fn hold(&mut self, next: Shift, effect: Option<Effect>, error: &JournalError) {
        tracing::error!(id = %next.id, "{error}");
        self.shift.trouble = Some(error.to_string());
        self.effect = None;
        self.tell();
        self.unwritten = Some((next, effect));
    }

    /// One step: the machine decides, the journal is written, and only then does the effect begin.
    async fn happen(&mut self, event: Event) {
        self.effect = None;
        self.remember(&event);
        if self.shift.step.ends() {
            return self.look_over(event).await;
        }
        let (next, effect) = machine::step(&self.shift, &self.hands.rules, event, self.hands.clock.now());
        if next.moved(&self.shift)
            && let Err(error) = self.journal.append(&next).await
        {
            return self.hold(next, effect, &error);
        }
        self.enter(next, effect);
    }

    /// What the zone is known to hold.
    fn remember(&mut self, event: &Event) {
        match event {
            Event::Read(Ok(found), _) => self.found = Some(found.clone()),
            Event::Sent(sent) => {
                self.figures.count(sent);
                if let (Ok(_), Some(batch), Some(found)) = (sent, self.sending.take(), &self.found) {
                    self.found = Some(plan::after(found, &batch));
                }
            }
            _ => {}
        }
    }

    /// Nothing is under way: whether the zone still says what it should.
    async fn look_over(&mut self, event: Event) {
        self.look_at = Instant::now() + LOOK;
        let (found, attempt) = match event {
            Event::Read(Ok(found), attempt) => (found, attempt),
            Event::Read(Err(error), _) => {
                self.shift.trouble = Some(format!("the zone cannot be looked at: {error}"));
                return self.enter(self.shift.clone(), None);
            }
            // A restart: the first look is due at once.
            _ => {
                self.look_at = Instant::now();
                return self.tell();
            }
        };
        let rules = self.hands.rules.clone();
        let aim = match self.shift.goal {
            Goal::Prepare => Aim::Lead(self.shift.to, plan::longest_values_ttl(plan::own(&rules, &found))),
            _ => Aim::Lead(self.shift.to, ttl(&rules)),
        };
        let terms = self.shift.terms(&rules, &attempt, self.hands.clock.now());
        match plan(&rules, aim, &found, &Terms { adopt: false, restore: false, ..terms }) {
            Plan::Equal => (self.shift.stopped, self.shift.trouble) = (None, None),
            Plan::Stop(objection) if rules.drift == Drift::Restore && objection.why != Why::Foreign => {
                return self.begin_surely(Goal::Restore, self.shift.to, objection.says).await;
            }
            Plan::Stop(objection) => self.shift.stopped = Some(objection),
            Plan::Write(_) => {
                return self.begin_surely(Goal::Follow, self.shift.to, "config".to_owned()).await;
            }
        }
        self.enter(self.shift.clone(), None);
    }

    fn enter(&mut self, next: Shift, effect: Option<Effect>) {
        let says = next.step != self.shift.step || next.id != self.shift.id || next.stopped != self.shift.stopped;
        self.shift = next;
        if says {
            self.log();
        }
        if self.shift.step.ends() && effect.is_none() {
            // What ended behind a restart may have ended without a look at the zone.
            let known = self.found.is_some();
            self.look_at = if known { self.look_at.max(Instant::now() + LOOK) } else { Instant::now() };
        }
        self.start(effect);
    }

    /// Begins an effect, and tells the world what is waited for now.
    fn start(&mut self, effect: Option<Effect>) {
        let idle = effect.is_none().then(|| self.hands.clock.now().checked_add(LOOK).ok()).flatten();
        let by = effect.as_ref().map(|effect| self.hands.deadline(effect)).or(idle);
        let by = match (&self.shift.stage, &effect) {
            (Stage::Settle { since, .. }, Some(Effect::Ask(_) | Effect::Later(..))) => {
                since.checked_add(machine::STRANDED).ok().or(by)
            }
            _ => by,
        };
        self.next = by.map(|by| Next::of(&self.shift, by));
        self.sending = match &effect {
            Some(Effect::Send(batch)) => Some(batch.clone()),
            _ => None,
        };
        self.effect = effect.map(|effect| self.hands.perform(effect, self.shift.to));
        self.tell();
    }

    /// Writes down what could not be, and goes on from there.
    async fn catch_up(&mut self) {
        let Some((next, effect)) = self.unwritten.take() else { return };
        match self.journal.append(&next).await {
            Ok(()) => self.enter(next, effect),
            Err(_) => self.unwritten = Some((next, effect)),
        }
    }

    fn log(&self) {
        let Shift { id, to, step, stopped, by, .. } = &self.shift;
        match stopped {
            Some(objection) => tracing::warn!(id = %id, to = to.as_str(), "names stay as they are: {objection}"),
            None => tracing::info!(id = %id, to = to.as_str(), by = %by, "dns {}", step.as_str()),
        }
    }

    fn tell(&self) {
        let status = Status::of(&self.shift, &self.hands.rules, self.found.as_deref(), self.next.clone());
        self.newest.send_replace(self.shift.clone());
        if *self.status.borrow() != status {
            self.status.send_replace(status.clone());
            // An error means that nobody listens just now.
            let _ = self.told.send(status);
        }
    }
}

/// A shift that begins; what is known of its own marks and of when names were moved it has from those before it.
fn new_shift(
    service: &ServiceName,
    goal: Goal,
    to: Side,
    live: &Live,
    by: String,
    hands: &Hands,
    before: Option<(&Shift, Option<&Shift>)>,
) -> Shift {
    let started = hands.clock.now();
    let id = format!("{service}-dns-{}-{}", started.strftime("%Y%m%dT%H%M%S%3fZ"), &attempt()[..4]);
    let (last, moved) = before.unzip();
    let prepared = last.filter(|last| last.goal == Goal::Prepare && last.step == Step::Done);
    let moved = moved.flatten().filter(|shift| shift.to == to).map(|shift| &shift.evidence);
    let evidence = Evidence {
        shifted_at: moved.and_then(|evidence| evidence.shifted_at),
        old_ttl: moved.and_then(|evidence| evidence.old_ttl),
        ready_at: prepared.and_then(|last| last.evidence.ready_at),
        ..Evidence::default()
    };
    Shift {
        id,
        service: service.clone(),
        goal,
        to,
        live: live.color,
        by,
        started,
        ended: None,
        step: Step::Lower,
        stage: Stage::Look { again: false },
        generation: last.map_or(0, |last| last.generation),
        ours: last.map_or(Vec::new(), |last| last.ours.clone()),
        evidence,
        stopped: None,
        trouble: None,
        tries: 0,
    }
}

async fn performed(effect: &mut Option<BoxFuture<'static, Event>>) -> Event {
    match effect {
        Some(effect) => effect.await,
        None => std::future::pending().await,
    }
}

/// Wishes that may wait.
const MAILBOX: usize = 16;
/// Between two looks whether the zone still says what it should.
const LOOK: Duration = Duration::from_mins(5);
/// Between two tries to write down what could not be.
const CATCH_UP: Duration = Duration::from_secs(1);
