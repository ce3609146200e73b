//! The driver of a service: joins the pure machine to the world. Journal first, then the effect, then the event back.

mod grant;

pub use self::grant::draft;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use self::grant::WayBack;
use super::desk::{Denied, Desk, Wish};
use super::evidence::Evidence;
use super::figures::Figures;
use super::hands::Hands;
use super::machine::{self, Effect, Event};
use super::order::{Order, Queue, Stage};
use super::pause::{Ask, Paused};
use super::preview::{Opened, PreviewAsk, Want, moment, wake_at_the_end};
use super::recorder::Recorder;
use super::share;
use super::state::{Cutover, Phase};
use super::unwritten::Unwritten;
use crate::config::Drain;
use crate::journal::{Journal, JournalError};
use crate::names::Color;
use crate::proxy::Listeners;
use crate::table::{Service, Switchboard};
use crate::time::{self, Timestamp};

/// What comes into a driver's mailbox.
pub enum Mail {
    Order(Order),
    /// Something happened to the cutover with this id.
    Event(String, Event),
    /// Somebody is about to change the service.
    Pause(Ask),
    /// The color that is not live is to be seen by some, or no longer.
    Preview(PreviewAsk),
}

/// What the world is told about a cutover: each state it enters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub at: Timestamp,
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
    stage: watch::Receiver<Stage>,
    /// The start is over. Before that nothing moves: what a cutover under way measures are clients, and an entry has one
    /// warm-up at a time.
    has_begun: bool,
    /// Orders that wait for that.
    queue: Queue,
    /// The rollbacks that wait for the old color's health.
    returning: Vec<WayBack>,
    /// When the time for getting as far as the switch is over.
    deadline: Option<Instant>,
    /// What could not be written down; nothing new begins before it is.
    unwritten: watch::Sender<Option<Unwritten>>,
    /// When a preview was opened or closed the last time.
    previewed: Timestamp,
    /// The effects of the present phase. They end with it: a drain must not outlive the color's way back.
    effects: JoinSet<()>,
    /// The check that is to come, of which there is one at most.
    later: Option<AbortHandle>,
    hands: Hands,
}

impl Driver {
    /// A driver and its desk. An unfinished cutover in the journal goes on when the driver runs.
    pub fn new(
        service: &Arc<Service>,
        switchboard: &Arc<Switchboard>,
        journal: &Arc<Journal>,
        listeners: &Arc<Listeners>,
        told: broadcast::Sender<Told>,
        stage: watch::Receiver<Stage>,
    ) -> (Driver, Desk) {
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        let (newest, seen) = watch::channel(journal.last(&service.name));
        let figures = Arc::new(Figures::default());
        let (trial, judged) = watch::channel(None);
        let (unwritten, untold) = watch::channel(None);
        let names = Arc::new(watch::Sender::new(None));
        let hands = Hands {
            service: service.clone(),
            switchboard: switchboard.clone(),
            listeners: listeners.clone(),
            recorder: Recorder::new(service.pools.clone()),
            trial: Arc::new(trial),
            watched: Arc::default(),
            ramped: Arc::default(),
            names: names.subscribe(),
            mail: mail.clone(),
        };
        let desk = Desk {
            service: service.clone(),
            figures: figures.clone(),
            switchboard: switchboard.clone(),
            journal: journal.clone(),
            mail: mail.clone(),
            newest: seen,
            trial: judged,
            unwritten: untold,
            names,
            recorder: hands.recorder.clone(),
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
            stage,
            has_begun: false,
            queue: Queue::default(),
            returning: Vec::new(),
            deadline: None,
            unwritten,
            previewed: journal.last(&service.name).map_or(Timestamp::MIN, |opened: Opened| opened.at),
            effects: JoinSet::new(),
            later: None,
            hands,
        };
        (driver, desk)
    }

    pub async fn run(mut self) {
        // Its turns come also while mail does, however often that is.
        let mut again = tokio::time::interval(CATCH_UP);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.deadline;
            let passed = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = Stage::after_start(&mut self.stage), if !self.has_begun => self.take_up().await,
                mail = self.mailbox.recv() => match mail {
                    Some(Mail::Order(order)) => self.take(order).await,
                    Some(Mail::Event(id, event)) => self.happen(&id, event).await,
                    Some(Mail::Preview(ask)) => self.preview(ask).await,
                    Some(Mail::Pause(ask)) => if let Some(drain) = self.pause(ask).await {
                        return self.end(&drain).await;
                    },
                    None => return,
                },
                _ = again.tick(), if self.unwritten.borrow().is_some() => {
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

    /// The start is over: an unfinished cutover goes on, and the orders that have waited have their turn.
    async fn take_up(&mut self) {
        self.has_begun = true;
        // It ends with the last who holds the recorder: this driver and its effects.
        tokio::spawn(Recorder::run(Arc::downgrade(&self.hands.recorder)));
        if let Some(cutover) = self.current() {
            tracing::info!(id = %cutover.id, phase = cutover.phase.as_str(), "an unfinished cutover goes on");
            self.set_deadline(&cutover);
            let (_, effects) = machine::step(&cutover, Event::Resume);
            effects.into_iter().for_each(|effect| self.start(&cutover.id, effect));
        }
        for order in self.queue.take() {
            self.take(order).await;
        }
    }

    /// Waits while the service is changed, unless that would take the ground from under a cutover. Wishes and events wait
    /// as well. Comes back with how long to drain where the service is gone.
    async fn pause(&mut self, ask: Ask) -> Option<Drain> {
        // A service that goes needs no names any more.
        let current = if ask.is_for_good() { self.after_all_names().await } else { self.current() };
        let denied = match current.filter(|cutover| ask.disturbs(cutover)) {
            Some(cutover) => Some(Denied::Held(Box::new(cutover))),
            None if ask.is_for_good() => self.catch_up().await.err().map(|error| Denied::Journal(error.to_string())),
            None => None,
        };
        let (paused, goes_on) = Paused::new();
        ask.answer(denied.map_or(Ok(paused), Err));
        goes_on.await.ok()
    }

    /// Opens or closes a preview. Only a driver does, so that none is opened behind the back of a drain.
    async fn preview(&mut self, ask: PreviewAsk) {
        let at = moment(self.previewed);
        self.previewed = at;
        let done = self.change_preview(ask.want, at).await;
        ask.answer(done.map(|()| at));
    }

    async fn change_preview(&self, want: Want, at: Timestamp) -> Result<(), Denied> {
        let (table, name) = (self.switchboard.table(), &self.service.name);
        let entry = table.entry(name).ok_or(Denied::Gone)?;
        let Some(preview) = want.decide(entry, self.current(), at)? else { return Ok(()) };
        if preview.is_some()
            && let Err(error) = self.journal.append(&Opened::new(name, at)).await
        {
            if !entry.invited {
                return Err(Denied::Journal(error.to_string()));
            }
            // That some have been invited is known; the moment matters only to a clock that is set back.
            tracing::warn!("{error}; links of now may lead to a preview that is opened after a restart");
        }
        self.switchboard.preview(name, preview).await;
        preview.into_iter().for_each(|open| wake_at_the_end(open, self.mail.downgrade()));
        Ok(())
    }

    /// The service is out of the table, and no cutover is under way: what is inside its pools is given its time.
    async fn end(mut self, drain: &Drain) {
        self.mailbox.close();
        while let Some(mail) = self.mailbox.recv().await {
            match mail {
                Mail::Order(order) => order.deny(Denied::Gone),
                Mail::Pause(ask) => ask.answer(Err(Denied::Gone)),
                Mail::Preview(ask) => ask.answer(Err(Denied::Gone)),
                Mail::Event(..) => {}
            }
        }
        let hands = &self.hands;
        let (blue, green) = tokio::join!(hands.drain(Color::Blue, drain, 0), hands.drain(Color::Green, drain, 0));
        let (requests, tunnels) =
            (blue.requests_left + green.requests_left, blue.tunnels_closed + green.tunnels_closed);
        let name = &self.service.name;
        tracing::info!("{name} is gone: {requests} requests are left to finish, {tunnels} tunnels were closed");
    }

    fn current(&self) -> Option<Cutover> {
        self.newest.borrow().clone().filter(|cutover| !cutover.phase.ends())
    }

    /// One step: the machine decides, the journal is written, and only then do the effects begin.
    async fn happen(&mut self, id: &str, event: Event) {
        let Some(cutover) = self.current().filter(|cutover| cutover.id == id) else { return };
        self.measure(&cutover, &event);
        let (next, effects) = self.step(&cutover, event.clone());
        if next == cutover && effects.is_empty() {
            return;
        }
        match self.keep(&cutover, &next).await {
            Ok(()) => self.enter(next, effects).await,
            Err(error) => self.go_on_unwritten(cutover.clone(), next, effects, &error).await,
        }
        // Not before it is written down: what could not be has been answered as that.
        self.answer_rollback(&cutover, &event);
        if self.current().is_none_or(|current| current.phase == Phase::Dns) {
            // The drain ended while the old color's health was asked for: the way back is a cutover of its own.
            for WayBack { by, reason, from, reply } in std::mem::take(&mut self.returning) {
                Box::pin(self.grant(Wish::Rollback { by, reason, from }, reply)).await;
            }
        }
    }

    /// As `happen`, for what an operator wants and what can wait for the disk: where it cannot be written down it is not
    /// done. Done all the same, it would be undone by a restart; refused, it must not come true by one.
    async fn happen_written(&mut self, cutover: &Cutover, event: Event) -> Result<(), Denied> {
        let (next, effects) = self.step(cutover, event);
        let kept = self.keep(cutover, &next).await;
        kept.inspect_err(|error| tracing::error!(id = %cutover.id, "{error}"))
            .map_err(|error| Denied::Journal(error.to_string()))?;
        self.enter(next, effects).await;
        Ok(())
    }

    /// What the machine says, with the share that a new step begins with, and with an end what is known only then.
    fn step(&self, cutover: &Cutover, event: Event) -> (Cutover, Vec<Effect>) {
        let (mut next, effects) = machine::step(cutover, event);
        if next.step != cutover.step {
            next.share = share::of_step(&next, &self.switchboard.newest(&self.service).rules.cutover.canary);
        }
        if next.phase.ends() {
            next.ended = Some(time::now());
            next.evidence.flight = next.switched().map(|_| Box::new(self.hands.recorder.flight()));
        }
        (next, effects)
    }

    /// Reasons that change while it waits are told, not written: the journal is for what a restart has to know.
    async fn keep(&mut self, cutover: &Cutover, next: &Cutover) -> Result<(), JournalError> {
        if next.differs_for_good(cutover) { self.write(next).await } else { Ok(()) }
    }

    async fn enter(&mut self, next: Cutover, effects: Vec<Effect>) {
        let is_warm_up_over = next.phase != Phase::Warm && self.current().is_some_and(|it| it.phase == Phase::Warm);
        if self.has_begun && is_warm_up_over {
            self.end_warm_up(next.to).await;
        }
        if self.current().is_some_and(|cutover| (cutover.phase, cutover.step) != (next.phase, next.step)) {
            self.effects.abort_all();
        }
        while self.effects.try_join_next().is_some() {}
        if !next.is_on_trial() || next.overdue {
            self.deadline = None;
        }
        if !next.is_judged() {
            self.hands.trial.send_replace(None);
        }
        if next.phase.ends() {
            self.figures.count_end(&next);
        }
        let id = next.id.clone();
        // What waits is looked at again and again, and only what is other by now is news.
        let is_news = self.newest.borrow().as_ref() != Some(&next);
        if is_news {
            self.tell(&next);
        }
        effects.into_iter().for_each(|effect| self.start(&id, effect));
    }

    /// Closes the color that was warmed up. What warms it is over before that, so that nothing opens it again.
    async fn end_warm_up(&mut self, color: Color) {
        self.effects.shutdown().await;
        self.switchboard.warm(&self.service.name, None).await;
        self.figures.count_from(color, self.service.pools[color].turnstile.entries().count);
    }

    /// The disk is gone, or full with the journal's reserve used up. Before the switch that ends the cutover, with nothing
    /// changed or its share taken back; after it, traffic has moved, so the way on is the only safe one, and a restart
    /// repeats it from what the journal last heard. So it does with a way back: that somebody wants it is on disk, or else
    /// it was not begun (`happen_written`), or it is wanted because the new color is bad, and that would show again.
    async fn go_on_unwritten(&mut self, cutover: Cutover, next: Cutover, effects: Vec<Effect>, error: &JournalError) {
        tracing::error!(id = %cutover.id, "{error}");
        if cutover.live() == cutover.from && !cutover.is_back() {
            let mut reasons = vec![error.to_string()];
            reasons.extend(next.evidence.reasons.clone());
            let evidence = Evidence { reasons, ..cutover.evidence.clone() };
            let (phase, ended) = match cutover.step {
                None => (Phase::Aborted, Some(time::now())),
                Some(_) => (Phase::RollBack, None),
            };
            let undone = Cutover { phase, ended, paused: None, returning: false, evidence, ..cutover };
            self.remember(&undone, error);
            let effects = if ended.is_some() { Vec::new() } else { vec![Effect::Publish(undone.from)] };
            return self.enter(undone, effects).await;
        }
        self.remember(&next, error);
        self.enter(next, effects).await;
    }

    fn remember(&self, cutover: &Cutover, error: &JournalError) {
        self.unwritten.send_replace(Some(Unwritten { cutover: cutover.clone(), why: error.to_string() }));
    }

    /// What is newer than what could not be written says all that that would have.
    async fn write(&mut self, cutover: &Cutover) -> Result<(), JournalError> {
        self.journal.append(cutover).await?;
        let is_said = |unwritten: &mut Unwritten| unwritten.cutover.id == cutover.id;
        self.unwritten.send_if_modified(|unwritten| unwritten.take_if(is_said).is_some());
        Ok(())
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
        self.deadline = (cutover.is_on_trial() && !cutover.overdue).then(|| Instant::now() + left);
    }

    /// Writes down what could not be written down. Until then a restart would take the cutover up as it was before.
    async fn catch_up(&mut self) -> Result<(), JournalError> {
        let unwritten = self.unwritten.borrow().clone();
        match unwritten {
            Some(unwritten) => self.write(&unwritten.cutover).await,
            None => Ok(()),
        }
    }

    fn measure(&self, cutover: &Cutover, event: &Event) {
        match event {
            Event::Published(color, switched) => self.figures.count_switch(switched, color.other()),
            Event::Judged(judged) => self.figures.count_verdict(cutover.to, judged.verdict),
            Event::Drained(color, drained) => self.figures.count_drain(*color, drained),
            _ => {}
        }
    }

    /// Begins an effect beside the driver; what comes of it arrives in the mailbox. Before the driver has begun it does not:
    /// then it begins with what the cutover goes on with.
    fn start(&mut self, id: &str, effect: Effect) {
        if !self.has_begun {
            return;
        }
        let Some(cutover) = self.newest.borrow().clone() else { return };
        let (hands, mail, id) = (self.hands.clone(), self.mail.clone(), id.to_owned());
        let is_later = matches!(effect, Effect::CheckLater(..));
        let begun = self.effects.spawn(async move {
            if let Some(event) = hands.perform(effect, &cutover).await {
                // The driver ends only with its service, and no cutover is under way then.
                let _ = mail.send(Mail::Event(id, event)).await;
            }
        });
        if is_later && let Some(earlier) = self.later.replace(begun) {
            earlier.abort();
        }
    }
}

/// Orders and events that may wait at a driver.
const MAILBOX: usize = 64;
/// Between two tries to write down what could not be.
const CATCH_UP: Duration = Duration::from_secs(1);
