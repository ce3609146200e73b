//! The driver of a service: joins the pure machine to the world. Journal first, then the effect, then the event back.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::desk::{Denied, Desk, Granted, Wish};
use super::figures::Figures;
use super::hands::Hands;
use super::machine::{self, Cutover, Effect, Event, Evidence, Kind, Phase};
use super::pause::{Ask, Paused};
use super::preview::{PreviewAsk, wake_at_the_end};
use crate::config::Drain;
use crate::journal::{Journal, JournalError};
use crate::names::Color;
use crate::pool::Readiness;
use crate::table::{Service, Switchboard};
use crate::time;

/// What comes into a driver's mailbox.
pub enum Mail {
    Wish(Wish, Reply),
    /// Something happened to the cutover with this id.
    Event(String, Event),
    /// Somebody is about to change the service.
    Pause(Ask),
    /// The color that is not live is to be seen by some, or no longer.
    Preview(PreviewAsk),
}

pub type Reply = oneshot::Sender<Result<Granted, Denied>>;

/// What the world is told about a cutover: each state it enters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub at: time::Timestamp,
    pub cutover: Cutover,
}

/// Runs as one task for each service, on the deciding runtime.
pub struct Driver {
    service: Arc<Service>,
    switchboard: Arc<Switchboard>,
    journal: Arc<Journal>,
    figures: Arc<Figures>,
    mailbox: mpsc::Receiver<Mail>,
    /// For effects to report to.
    mail: mpsc::Sender<Mail>,
    newest: watch::Sender<Option<Cutover>>,
    told: broadcast::Sender<Told>,
    /// The rollback that waits for the old color's health.
    returning: Option<WayBack>,
    /// When the time for getting as far as the switch is over.
    deadline: Option<Instant>,
    /// An end that could not be written down; nothing new begins before it is.
    unwritten: Option<Cutover>,
    /// The effects of the present phase. They end with it: a drain must not outlive the color's way back.
    effects: JoinSet<()>,
}

impl Driver {
    /// A driver and its desk. An unfinished cutover in the journal goes on when the driver runs.
    pub fn new(
        service: &Arc<Service>,
        switchboard: &Arc<Switchboard>,
        journal: &Arc<Journal>,
        told: broadcast::Sender<Told>,
    ) -> (Driver, Desk) {
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        let (newest, seen) = watch::channel(journal.last(&service.name));
        let figures = Arc::new(Figures::default());
        let desk = Desk {
            service: service.clone(),
            figures: figures.clone(),
            switchboard: switchboard.clone(),
            journal: journal.clone(),
            mail: mail.clone(),
            newest: seen,
        };
        let driver = Driver {
            service: service.clone(),
            switchboard: switchboard.clone(),
            journal: journal.clone(),
            figures,
            mailbox,
            mail,
            newest,
            told,
            returning: None,
            deadline: None,
            unwritten: None,
            effects: JoinSet::new(),
        };
        (driver, desk)
    }

    pub async fn run(mut self) {
        if let Some(cutover) = self.current() {
            tracing::info!(id = %cutover.id, phase = cutover.phase.as_str(), "an unfinished cutover goes on");
            self.set_deadline(&cutover);
            let (_, effects) = machine::step(&cutover, Event::Resume);
            effects.into_iter().for_each(|effect| self.start(&cutover.id, effect));
        }
        loop {
            let deadline = self.deadline;
            let passed = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                mail = self.mailbox.recv() => match mail {
                    Some(Mail::Wish(wish, reply)) => self.grant(wish, reply).await,
                    Some(Mail::Event(id, event)) => self.happen(&id, event).await,
                    Some(Mail::Preview(ask)) => self.preview(ask).await,
                    Some(Mail::Pause(ask)) => if let Some(drain) = self.pause(ask).await {
                        return self.end(&drain).await;
                    },
                    None => return,
                },
                () = tokio::time::sleep(CATCH_UP), if self.unwritten.is_some() => {
                    // Said when it first happened; it is tried until there is room again.
                    let _ = self.catch_up().await;
                }
                () = passed => {
                    self.deadline = None;
                    if let Some(cutover) = self.current() {
                        self.happen(&cutover.id, Event::DeadlinePassed).await;
                    }
                }
            }
        }
    }

    /// Waits while the service is changed, unless that would take the ground from under a cutover. Wishes and events wait
    /// as well. Comes back with how long to drain where the service is gone.
    async fn pause(&mut self, ask: Ask) -> Option<Drain> {
        let denied = match self.current().filter(|cutover| ask.disturbs(cutover)) {
            Some(cutover) => Some(Denied::Held(Box::new(cutover))),
            None if ask.is_for_good() => self.catch_up().await.err().map(|error| Denied::Journal(error.to_string())),
            None => None,
        };
        let (paused, goes_on) = Paused::new();
        ask.answer(denied.map_or(Ok(paused), Err));
        goes_on.await.ok()
    }

    /// Opens or closes a preview. Only a driver does, so that none is opened behind the back of a drain.
    async fn preview(&self, ask: PreviewAsk) {
        let table = self.switchboard.table();
        let decided = table.entry(&self.service.name).ok_or(Denied::Gone);
        let decided = decided.and_then(|entry| ask.want.decide(entry, self.current()));
        if let Ok(Some(preview)) = decided {
            self.switchboard.preview(&self.service.name, preview).await;
            preview.into_iter().for_each(|open| wake_at_the_end(open, self.mail.downgrade()));
        }
        ask.answer(decided.map(|_| ()));
    }

    /// The service is out of the table, and no cutover is under way: what is inside its pools is given its time.
    async fn end(mut self, drain: &Drain) {
        self.mailbox.close();
        while let Some(mail) = self.mailbox.recv().await {
            match mail {
                Mail::Wish(_, reply) => drop(reply.send(Err(Denied::Gone))),
                Mail::Pause(ask) => ask.answer(Err(Denied::Gone)),
                Mail::Preview(ask) => ask.answer(Err(Denied::Gone)),
                Mail::Event(..) => {}
            }
        }
        let hands = self.hands();
        let (blue, green) = tokio::join!(hands.drain(Color::Blue, drain), hands.drain(Color::Green, drain));
        let (requests, tunnels) =
            (blue.requests_left + green.requests_left, blue.tunnels_closed + green.tunnels_closed);
        let name = &self.service.name;
        tracing::info!("{name} is gone: {requests} requests are left to finish, {tunnels} tunnels were closed");
    }

    fn current(&self) -> Option<Cutover> {
        self.newest.borrow().clone().filter(|cutover| !cutover.phase.ends())
    }

    async fn grant(&mut self, wish: Wish, reply: Reply) {
        let current = self.current();
        let answer = match (wish, current) {
            (Wish::Switch { .. }, Some(current)) => Err(Denied::Held(Box::new(current))),
            (Wish::Switch { to, by, reason }, None) => self.begin(Kind::Switch, to, by, reason).await,
            (Wish::Rollback { by, reason }, None) => match self.live() {
                Some((live, _)) => self.begin(Kind::Rollback, live.other(), by, reason).await,
                None => Err(Denied::Stopping),
            },
            (Wish::Rollback { by, reason }, Some(current)) => {
                return self.turn_back(&current, WayBack { by, reason, reply }).await;
            }
            (Wish::Abort { .. }, None) => Err(Denied::NothingToAbort),
            (Wish::Abort { by }, Some(current)) if current.phase == Phase::Prepare => {
                self.happen(&current.id, Event::Abort { by }).await;
                Ok(Granted::Turned(Box::new(self.newest.borrow().clone().unwrap_or(current))))
            }
            (Wish::Abort { .. }, Some(current)) => Err(Denied::TooLate(Box::new(current))),
        };
        // Whoever asked may have gone; what was begun goes on.
        let _ = reply.send(answer);
    }

    fn live(&self) -> Option<(Color, time::Timestamp)> {
        self.switchboard.table().entry(&self.service.name).map(|entry| (entry.live, entry.since))
    }

    async fn begin(&mut self, kind: Kind, to: Color, by: String, reason: Option<String>) -> Result<Granted, Denied> {
        let table = self.switchboard.table();
        let entry = table.entry(&self.service.name).ok_or(Denied::Stopping)?;
        if entry.live == to {
            return Ok(Granted::Already { live: to, since: entry.since });
        }
        let started = time::now();
        let cutover = Cutover {
            id: self.new_id(started),
            service: self.service.name.clone(),
            kind,
            from: entry.live,
            to,
            by,
            reason,
            started,
            ended: None,
            generation: entry.generation,
            phase: Phase::Prepare,
            returning: false,
            evidence: Evidence::default(),
        };
        self.catch_up().await.map_err(|error| Denied::Journal(error.to_string()))?;
        self.write(&cutover).await.map_err(|error| Denied::Journal(error.to_string()))?;
        self.set_deadline(&cutover);
        self.tell(&cutover);
        let (_, effects) = machine::step(&cutover, Event::Resume);
        effects.into_iter().for_each(|effect| self.start(&cutover.id, effect));
        Ok(Granted::Begun(Box::new(cutover)))
    }

    /// Names service and time; a number more where a clock is too coarse, or was set back.
    fn new_id(&self, started: time::Timestamp) -> String {
        let plain = format!("{}-{}", self.service.name, started.strftime("%Y%m%dT%H%M%S%3fZ"));
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let mut ids = std::iter::once(plain.clone()).chain(numbered);
        ids.find(|id| self.journal.find::<Cutover>(id).is_none()).unwrap_or(plain)
    }

    /// A rollback while a cutover is under way: before the switch it is an abort; while draining, the old color's
    /// health decides, and the answer waits for that.
    async fn turn_back(&mut self, current: &Cutover, back: WayBack) {
        let by = back.by.clone();
        // Two operators who both want to go back must not cancel each other out.
        let is_switch = current.kind == Kind::Switch;
        let can_turn = is_switch && matches!(current.phase, Phase::Prepare | Phase::Drain) && !current.returning;
        if !can_turn {
            let _ = back.reply.send(Err(Denied::Held(Box::new(current.clone()))));
            return;
        }
        if current.phase == Phase::Drain {
            self.returning = Some(back);
            self.happen(&current.id, Event::Rollback { by }).await;
            return;
        }
        self.happen(&current.id, Event::Rollback { by }).await;
        let newest = self.newest.borrow().clone();
        let _ = back.reply.send(Ok(Granted::Turned(Box::new(newest.unwrap_or_else(|| current.clone())))));
    }

    /// One step: the machine decides, the journal is written, and only then do the effects begin.
    async fn happen(&mut self, id: &str, event: Event) {
        let Some(cutover) = self.current().filter(|cutover| cutover.id == id) else { return };
        self.measure(&event);
        let (mut next, effects) = machine::step(&cutover, event.clone());
        if next == cutover && effects.is_empty() {
            return;
        }
        if next.phase.ends() {
            next.ended = Some(time::now());
        }
        // Reasons that change while it waits are told, not written: the journal is for what a restart has to know.
        let moved = next.phase != cutover.phase || next.returning != cutover.returning;
        if moved && let Err(error) = self.write(&next).await {
            self.go_on_unwritten(cutover.clone(), next, effects, &error);
        } else {
            self.enter(next, effects);
        }
        // Not before it is written down: what could not be has been answered as that.
        self.answer_rollback(&cutover, &event);
        if self.current().is_none()
            && let Some(WayBack { by, reason, reply }) = self.returning.take()
        {
            // The drain ended while the old color's health was asked for: the way back is a cutover of its own.
            Box::pin(self.grant(Wish::Rollback { by, reason }, reply)).await;
        }
    }

    fn enter(&mut self, next: Cutover, effects: Vec<Effect>) {
        if self.current().is_some_and(|cutover| cutover.phase != next.phase) {
            self.effects.abort_all();
        }
        while self.effects.try_join_next().is_some() {}
        if next.phase != Phase::Prepare {
            self.deadline = None;
        }
        if next.phase.ends() {
            self.figures.count_end(&next);
        }
        let id = next.id.clone();
        self.tell(&next);
        effects.into_iter().for_each(|effect| self.start(&id, effect));
    }

    /// The disk is full or gone. Before the switch that ends the cutover, with nothing changed; after it, traffic has
    /// moved, so the way on is the only safe one, and a restart repeats it from what the journal last heard.
    fn go_on_unwritten(&mut self, cutover: Cutover, next: Cutover, effects: Vec<Effect>, error: &JournalError) {
        tracing::error!(id = %cutover.id, "{error}");
        if cutover.phase == Phase::Prepare {
            let mut reasons = vec![error.to_string()];
            reasons.extend(next.evidence.reasons.clone());
            let evidence = Evidence { reasons, ..Evidence::default() };
            let aborted = Cutover { phase: Phase::Aborted, ended: Some(time::now()), evidence, ..cutover };
            self.unwritten = Some(aborted.clone());
            return self.enter(aborted, Vec::new());
        }
        if effects.iter().any(|effect| matches!(effect, Effect::Publish(_))) {
            // A way back that cannot be written down is not taken: after a restart it would not have happened.
            if let Some(back) = self.returning.take() {
                let _ = back.reply.send(Err(Denied::Journal(error.to_string())));
            }
            return self.enter(Cutover { returning: false, ..cutover }, Vec::new());
        }
        if next.phase.ends() {
            self.unwritten = Some(next.clone());
        }
        self.enter(next, effects);
    }

    async fn write(&self, cutover: &Cutover) -> Result<(), JournalError> {
        let (journal, cutover) = (self.journal.clone(), cutover.clone());
        let written = tokio::task::spawn_blocking(move || journal.append(&cutover));
        written.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    fn tell(&self, cutover: &Cutover) {
        tracing::info!(
            id = %cutover.id,
            from = cutover.from.as_str(),
            to = cutover.to.as_str(),
            by = %cutover.by,
            reasons = ?cutover.evidence.reasons,
            "{}",
            cutover.phase.as_str()
        );
        self.newest.send_replace(Some(cutover.clone()));
        // An error means that nobody listens just now.
        let _ = self.told.send(Told { at: time::now(), cutover: cutover.clone() });
    }

    /// Counted from when it was wished for, also over a restart: an old wish must not come true by surprise.
    fn set_deadline(&mut self, cutover: &Cutover) {
        let gone = Duration::try_from(time::now().duration_since(cutover.started)).unwrap_or_default();
        let rules = &self.switchboard.newest(&self.service).rules;
        let left = rules.cutover.deadline.saturating_sub(gone);
        self.deadline = (cutover.phase == Phase::Prepare).then(|| Instant::now() + left);
    }

    /// Writes down the end that could not be written down. Until then a restart would take the cutover up again.
    async fn catch_up(&mut self) -> Result<(), JournalError> {
        if let Some(unwritten) = &self.unwritten {
            self.write(unwritten).await?;
            self.unwritten = None;
        }
        Ok(())
    }

    fn measure(&self, event: &Event) {
        match event {
            Event::Published(_, switched) => self.figures.count_switch(switched),
            Event::Drained(color, drained) => self.figures.count_drain(*color, drained),
            _ => {}
        }
    }

    /// Whoever asked to go back learns whether that is possible.
    fn answer_rollback(&mut self, cutover: &Cutover, event: &Event) {
        if !cutover.returning {
            return;
        }
        let answer = match event {
            Event::Health(_, Readiness::Ready) => Ok(Granted::Turned(Box::new(cutover.clone()))),
            Event::Health(_, Readiness::Rising(reasons) | Readiness::Unready(reasons)) => {
                Err(Denied::Unhealthy { color: cutover.from, reasons: reasons.clone() })
            }
            _ => return,
        };
        if let Some(back) = self.returning.take() {
            let _ = back.reply.send(answer);
        }
    }

    /// Begins an effect beside the driver; what comes of it arrives in the mailbox.
    fn start(&mut self, id: &str, effect: Effect) {
        let hands = self.hands();
        let (mail, id) = (self.mail.clone(), id.to_owned());
        let generation = self.newest.borrow().as_ref().map_or(0, Cutover::generation);
        self.effects.spawn(async move {
            let event = hands.perform(effect, generation).await;
            // The driver ends only with its service, and no cutover is under way then.
            let _ = mail.send(Mail::Event(id, event)).await;
        });
    }

    fn hands(&self) -> Hands {
        Hands { service: self.service.clone(), switchboard: self.switchboard.clone() }
    }
}

/// A rollback asked for while its cutover drains, and who waits for the word on it.
struct WayBack {
    by: String,
    reason: Option<String>,
    reply: Reply,
}

/// Wishes and events that may wait at a driver.
const MAILBOX: usize = 64;
/// Between two tries to write down what could not be.
const CATCH_UP: Duration = Duration::from_secs(1);
