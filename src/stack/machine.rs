//! The order as a pure machine: a state and an event give the next state and what is due. No clock, disk or network.

use std::time::Duration;

use super::act::{Act, Call};
use super::order::{Capacity, Doubt, Obstacle, Order, Outcome, Stage, Step};
use super::plan::{Look, Next, next};
use super::provider::ProviderError;
use crate::config::StackRules;
use crate::time::{Human, Timestamp};

/// What happens to it from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It begins, or goes on after a restart.
    Resume,
    Looked(Result<Box<Look>, ProviderError>),
    /// With the id of what was made, where something was.
    Did(Result<Option<String>, ProviderError>),
    /// It was not done, since this speaks against it at this moment.
    Barred(Vec<Obstacle>),
    Abort(String),
    /// The config no longer says that this is the color's stack.
    Disowned,
}

/// What is due. A look may be made twice; what is done is done once, and a look says whether it was.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Look,
    Do(Box<Act>),
    /// A look after the interval.
    LookLater,
    /// A look after a pause that grows with the number of tries.
    TryLater(u32),
}

/// One step, at that moment.
pub fn step(order: &Order, rules: &StackRules, event: Event, at: Timestamp) -> (Order, Option<Effect>) {
    let mut after = order.clone();
    if after.outcome.is_some() {
        return (after, None);
    }
    let effect = after.happen(rules, event, at);
    if after.outcome.is_some() {
        after.ended = Some(at);
        // What is still on its way outlives the order: the next one has to know.
        after.leave_in_doubt(at);
    }
    (after, effect)
}

/// By when the step has to be over.
pub fn deadline(order: &Order, rules: &StackRules) -> Timestamp {
    later(order.since, patience(order.step, rules))
}

impl Order {
    fn happen(&mut self, rules: &StackRules, event: Event, at: Timestamp) -> Option<Effect> {
        match (self.stage.clone(), event) {
            (_, Event::Resume) => {
                self.leave_in_doubt(at);
                self.tries = 0;
                Some(Effect::Look)
            }
            (_, Event::Abort(by)) => {
                self.end(Outcome::Aborted, format!("aborted by {by}; what has been done stays as it is"))
            }
            (_, Event::Disowned) => self.end(
                Outcome::Aborted,
                format!(
                    "the config no longer says that {} is {}; what has been done stays",
                    self.color, self.site.stack
                ),
            ),
            (Stage::Look, Event::Looked(Ok(look))) => self.looked(rules, &look, at),
            (Stage::Look, Event::Looked(Err(error))) => match error {
                ProviderError::Refused(says) => self.fail(says),
                error => self.try_again(rules, error.to_string(), at),
            },
            (Stage::Do(call), Event::Did(did)) => self.did(rules, call, did, at),
            (Stage::Do(_), Event::Barred(obstacles)) => self.barred(obstacles),
            (Stage::Look, Event::Did(_) | Event::Barred(_)) | (Stage::Do(_), Event::Looked(_)) => None,
        }
    }

    fn looked(&mut self, rules: &StackRules, look: &Look, at: Timestamp) -> Option<Effect> {
        if let Some(own) = &look.own {
            self.instances = own.instances.clone();
            self.evidence.stack.get_or_insert_with(|| own.id.clone());
            let is_clone = |doubt: &Doubt| doubt.call == Call::Clone { name: self.site.stack.clone() };
            self.evidence.is_cloned |= self.doubt.as_ref().is_some_and(is_clone);
        }
        match next(self, rules, look) {
            Next::Passed => self.pass(at),
            Next::Refuse(why) => self.fail(why),
            Next::Wait(says) => {
                (self.tries, self.doubt) = (0, None);
                self.wait(rules, says, Effect::LookLater, at)
            }
            Next::Do(act) => self.begin(rules, act, look, at),
        }
    }

    fn begin(&mut self, rules: &StackRules, act: Box<Act>, look: &Look, at: Timestamp) -> Option<Effect> {
        let call = act.call();
        if let Some(doubt) = self.doubt.as_ref().filter(|doubt| doubt.call == call)
            && later(doubt.since, rules.settle) > at
        {
            let says = format!("{call} got no answer, and does not show; it may yet, within {}", Human(rules.settle));
            return self.wait(rules, says, Effect::LookLater, at);
        }
        if let Some((_, says)) = self.refused.take().filter(|(refused, _)| *refused == call) {
            return self.fail(format!("{call} was refused: {says}"));
        }
        if deadline(self, rules) <= at {
            return self.late(rules, self.says.clone().unwrap_or_else(|| format!("{call} has not begun")));
        }
        if let (Act::SetCapacity { wanted, .. }, Some(found)) = (&*act, look.own.as_ref().and_then(|own| own.capacity))
        {
            let from = self.evidence.capacity.map_or(found, |capacity| capacity.from);
            self.evidence.capacity = Some(Capacity { from, to: *wanted, is_set: false });
        }
        (self.doubt, self.says) = (None, Some(format!("{call} is asked for")));
        self.stage = Stage::Do(call);
        Some(Effect::Do(act))
    }

    fn did(
        &mut self,
        rules: &StackRules,
        call: Call,
        did: Result<Option<String>, ProviderError>,
        at: Timestamp,
    ) -> Option<Effect> {
        self.stage = Stage::Look;
        match did {
            Ok(id) => {
                self.note(call, id);
                (self.tries, self.says, self.refused) = (0, None, None);
                Some(Effect::Look)
            }
            Err(ProviderError::Refused(says)) => {
                // Somebody may have done it in between, and looking again shows that.
                self.refused = Some((call, says));
                Some(Effect::Look)
            }
            Err(error @ ProviderError::Unknown(_)) => {
                self.evidence.doubts += 1;
                self.doubt = Some(Doubt { call, since: at });
                self.try_again(rules, error.to_string(), at)
            }
            Err(error @ (ProviderError::Busy(_) | ProviderError::Unreachable(_))) => {
                self.try_again(rules, error.to_string(), at)
            }
        }
    }

    /// What has been done is not done again, however long it takes to show.
    fn note(&mut self, call: Call, id: Option<String>) {
        let evidence = &mut self.evidence;
        match call {
            Call::Clone { .. } => (evidence.stack, evidence.is_cloned) = (id, true),
            Call::Add { host, .. } => evidence.added.push(host),
            Call::Start { id, .. } => evidence.started.push(id),
            Call::Stop { id, .. } => evidence.stopped.push(id),
            Call::Deploy { .. } => evidence.deployment = id,
            Call::SetCapacity { .. } => evidence.capacity.iter_mut().for_each(|capacity| capacity.is_set = true),
        }
    }

    fn barred(&mut self, obstacles: Vec<Obstacle>) -> Option<Effect> {
        self.stage = Stage::Look;
        if self.force.is_none() || obstacles.iter().any(|obstacle| obstacle.is_final) {
            let texts: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.text.as_str()).collect();
            return self.fail(texts.join("; "));
        }
        let known = |obstacle: &Obstacle| self.overridden.iter().any(|known| known.code == obstacle.code);
        let new: Vec<Obstacle> = obstacles.iter().filter(|obstacle| !known(obstacle)).cloned().collect();
        self.overridden.extend(new);
        Some(Effect::Look)
    }

    fn pass(&mut self, at: Timestamp) -> Option<Effect> {
        (self.tries, self.doubt, self.says, self.refused) = (0, None, None, None);
        let mut rest = self.steps().iter().skip_while(|step| **step != self.step);
        match rest.nth(1) {
            Some(step) => {
                (self.step, self.since) = (*step, at);
                Some(Effect::Look)
            }
            None => {
                self.outcome = Some(Outcome::Done);
                None
            }
        }
    }

    fn try_again(&mut self, rules: &StackRules, says: String, at: Timestamp) -> Option<Effect> {
        self.tries += 1;
        self.wait(rules, says, Effect::TryLater(self.tries), at)
    }

    fn wait(&mut self, rules: &StackRules, says: String, effect: Effect, at: Timestamp) -> Option<Effect> {
        if deadline(self, rules) <= at {
            return self.late(rules, says);
        }
        self.says = Some(says);
        Some(effect)
    }

    fn late(&mut self, rules: &StackRules, says: String) -> Option<Effect> {
        let within = Human(patience(self.step, rules));
        self.fail(format!("its step `{}` was not over within {within}: {says}", self.step.as_str()))
    }

    fn fail(&mut self, why: String) -> Option<Effect> {
        self.end(Outcome::Failed, why)
    }

    fn end(&mut self, outcome: Outcome, why: String) -> Option<Effect> {
        (self.outcome, self.why, self.says) = (Some(outcome), Some(why), None);
        None
    }

    /// Nobody knows whether what was on its way was received.
    fn leave_in_doubt(&mut self, at: Timestamp) {
        if let Stage::Do(call) = &self.stage {
            self.doubt = Some(Doubt { call: call.clone(), since: at });
            self.stage = Stage::Look;
        }
    }
}

fn patience(step: Step, rules: &StackRules) -> Duration {
    let times = &rules.timeouts;
    match step {
        Step::Clone | Step::Instances => times.clone,
        Step::Start => times.online,
        Step::Deploy => times.deploy,
        Step::Healthy => times.healthy,
        Step::Stop => times.stop,
    }
}

fn later(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(at)
}
