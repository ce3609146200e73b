//! The shift as a pure machine: a state and an event give the next state and what is due. No clock, disk or network.

use std::collections::BTreeSet;
use std::time::Duration;

use super::plan::{self, Aim, Draft, Mark, Objection, Plan, Terms, Why, lower_ttl, plan, ttl};
use super::shift::{Goal, Shift, Stage, Step, later};
use super::verify::Proof;
use super::zone::{Batch, ChangeId, Progress, RecordSet, ZoneError};
use crate::config;
use crate::time::Timestamp;

/// What happens to it from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It begins, or goes on after a restart or a stop.
    Resume,
    /// The zone was read; with the name for a new attempt.
    Read(Result<Vec<RecordSet>, ZoneError>, String),
    Sent(Result<ChangeId, ZoneError>),
    Asked(Result<Progress, ZoneError>),
    Proved(Proof),
    /// The time that was waited for has come.
    Woke,
}

/// What is due. Each may be done twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Look,
    /// Sent once: it is not known whether it was, only whether it got there.
    Send(Box<Batch>),
    Ask(ChangeId),
    Prove,
    Wake(Timestamp),
    /// The effect after a pause that grows with the number of tries.
    Later(Box<Effect>, u32),
    /// Nothing until somebody asks, or so long has passed.
    Rest,
}

/// One step, at that moment.
pub fn step(shift: &Shift, rules: &config::Dns, event: Event, at: Timestamp) -> (Shift, Option<Effect>) {
    let mut next = shift.clone();
    let effect = next.happen(rules, event, at);
    if next.step.ends() && next.ended.is_none() {
        next.ended = Some(at);
    }
    (next, effect)
}

impl Shift {
    fn happen(&mut self, rules: &config::Dns, event: Event, at: Timestamp) -> Option<Effect> {
        use Stage::{Doubt, Look, Send, Settle};
        match (self.step, self.stage.clone(), event) {
            (Step::Done | Step::Replaced, ..) => None,
            (_, _, Event::Resume) => self.resume(rules, at),

            (Step::Lower | Step::Move | Step::Restore, Look { .. } | Doubt, Event::Read(read, attempt)) => match read {
                Ok(found) => self.read(rules, &found, &attempt, at),
                Err(error) => self.failed(&error, Effect::Look),
            },
            (Step::Lower | Step::Move | Step::Restore, Send, Event::Sent(sent)) => self.sent(sent, at),
            (Step::Lower | Step::Move | Step::Restore, Settle { change, since }, Event::Asked(asked)) => {
                self.asked(rules, asked, change, since, at)
            }

            (Step::WaitOut, _, Event::Woke) => match self.evidence.ready_at.filter(|ready| *ready > at) {
                Some(ready) => Some(Effect::Wake(ready)),
                None => self.look(Step::Move),
            },
            (Step::Verify, _, Event::Proved(proof)) => self.proved(proof, at),
            (Step::Tail, _, Event::Woke) => match self.expires().filter(|expires| *expires > at) {
                Some(expires) => Some(Effect::Wake(expires)),
                None => self.look(Step::Restore),
            },
            _ => None,
        }
    }

    fn resume(&mut self, rules: &config::Dns, at: Timestamp) -> Option<Effect> {
        (self.stopped, self.trouble, self.tries) = (None, None, 0);
        match self.step {
            Step::Lower | Step::Move | Step::Restore => {
                // Nobody knows whether it was sent.
                if self.stage == Stage::Send {
                    self.stage = Stage::Doubt;
                }
                Some(match &self.stage {
                    Stage::Settle { change, .. } => Effect::Ask(change.clone()),
                    Stage::Look { .. } | Stage::Doubt | Stage::Send => Effect::Look,
                })
            }
            Step::Verify if asks_nobody(rules) => self.after_proof(at),
            Step::Verify => Some(Effect::Prove),
            Step::WaitOut => Some(Effect::Wake(self.evidence.ready_at.unwrap_or(at))),
            Step::Tail => Some(Effect::Wake(self.expires().unwrap_or(at))),
            Step::Done | Step::Replaced => None,
        }
    }

    fn look(&mut self, step: Step) -> Option<Effect> {
        (self.step, self.stage) = (step, Stage::Look { again: false });
        (self.tries, self.trouble) = (0, None);
        Some(Effect::Look)
    }

    fn read(&mut self, rules: &config::Dns, found: &[RecordSet], attempt: &str, at: Timestamp) -> Option<Effect> {
        self.stopped = None;
        let leads = self.leads(rules, found);
        if self.step == Step::Lower && self.goal != Goal::Prepare && leads {
            (self.step, self.stage) = (Step::Move, Stage::Look { again: false });
        }
        let marks = plan::marks(&self.service, found);
        let again = match self.stage {
            Stage::Doubt => self.ours.last().is_some_and(|attempt| stands(&marks, attempt)),
            Stage::Look { again } => again,
            Stage::Send | Stage::Settle { .. } => false,
        };
        if self.ours.is_empty() {
            // Who remembers nothing believes the marks that he finds, and none that comes later.
            self.ours.extend(marks.iter().map(|mark| mark.attempt.clone()).collect::<BTreeSet<_>>());
        }
        self.generation = marks.iter().map(|mark| mark.generation).max().unwrap_or(self.generation);
        let terms = Terms { again, ..self.terms(rules, attempt, at) };
        match plan(rules, self.aim(rules, found, leads), found, &terms) {
            Plan::Stop(objection) => self.stop(objection),
            Plan::Equal => self.nothing_to_write(&marks, rules, at),
            Plan::Write(draft) => self.send(*draft, &marks, attempt),
        }
    }

    fn send(&mut self, draft: Draft, marks: &[Mark], attempt: &str) -> Option<Effect> {
        match self.step {
            Step::Lower => self.evidence.lowered_from = Some(draft.old_ttl),
            Step::Move => self.evidence.old_ttl = Some(draft.old_ttl),
            _ => {}
        }
        self.stage = Stage::Send;
        self.ours.push(attempt.to_owned());
        // However many came to nothing since, what stands in the zone stays known.
        let too_many = self.ours.len().saturating_sub(REMEMBERED);
        let gone: Vec<String> = self.ours.iter().filter(|ours| !stands(marks, ours)).take(too_many).cloned().collect();
        self.ours.retain(|ours| !gone.contains(ours));
        Some(Effect::Send(Box::new(draft.batch)))
    }

    /// What the zone is compared with where nothing is under way: what this shift left behind.
    pub fn terms<'a>(&'a self, rules: &config::Dns, attempt: &'a str, now: Timestamp) -> Terms<'a> {
        Terms {
            service: &self.service,
            adopt: self.goal == Goal::Adopt,
            restore: matches!(self.goal, Goal::Sync | Goal::Restore) || rules.drift == config::Drift::Restore,
            again: false,
            ours: &self.ours,
            attempt,
            now,
        }
    }

    fn leads(&self, rules: &config::Dns, found: &[RecordSet]) -> bool {
        plan::same(plan::own(rules, found), &plan::leading(rules, self.to, 0), false)
    }

    fn aim(&self, rules: &config::Dns, found: &[RecordSet], leads: bool) -> Aim {
        match self.step {
            Step::Lower => Aim::Lower(lower_ttl(rules), self.to),
            // What leads there already is left with the TTL that it has until the last step.
            Step::Move if leads => Aim::Lead(self.to, plan::longest_values_ttl(plan::own(rules, found))),
            // Where there was nothing, there is nowhere to go back to.
            Step::Move if plan::own(rules, found).next().is_none() => Aim::Lead(self.to, ttl(rules)),
            Step::Move => Aim::Lead(self.to, lower_ttl(rules)),
            _ => Aim::Lead(self.to, ttl(rules)),
        }
    }

    fn nothing_to_write(&mut self, marks: &[Mark], rules: &config::Dns, at: Timestamp) -> Option<Effect> {
        let slow = |mark: &&Mark| mark.before > lower_ttl(rules);
        let settled = marks.iter().filter(slow).map(|mark| mark.settled(SPREAD)).max();
        // Whoever has lowered it knows when that had arrived; a mark only says when it was sent.
        let settled = self.evidence.ready_at.or(settled).filter(|settled| *settled > at);
        match self.step {
            Step::Lower if self.goal == Goal::Prepare => {
                self.evidence.ready_at = Some(settled.unwrap_or(at));
                self.end()
            }
            Step::Lower => match settled {
                Some(ready) => self.wait_out(ready),
                None => self.look(Step::Move),
            },
            Step::Move => self.verify(rules, at),
            _ => self.end(),
        }
    }

    fn wait_out(&mut self, ready: Timestamp) -> Option<Effect> {
        (self.step, self.evidence.ready_at) = (Step::WaitOut, Some(ready));
        Some(Effect::Wake(ready))
    }

    fn verify(&mut self, rules: &config::Dns, at: Timestamp) -> Option<Effect> {
        (self.step, self.tries, self.trouble) = (Step::Verify, 0, None);
        match asks_nobody(rules) {
            true => self.after_proof(at),
            false => Some(Effect::Prove),
        }
    }

    fn end(&mut self) -> Option<Effect> {
        (self.step, self.tries, self.trouble, self.stopped) = (Step::Done, 0, None, None);
        None
    }

    fn sent(&mut self, sent: Result<ChangeId, ZoneError>, at: Timestamp) -> Option<Effect> {
        match sent {
            Ok(change) => {
                (self.tries, self.trouble) = (0, None);
                self.evidence.changes += 1;
                self.generation += 1;
                self.stage = Stage::Settle { change: change.clone(), since: at };
                Some(Effect::Ask(change))
            }
            Err(error @ (ZoneError::Unknown(_) | ZoneError::Unreachable(_))) => {
                self.stage = Stage::Doubt;
                self.evidence.doubts += 1;
                self.failed(&error, Effect::Look)
            }
            Err(error) => {
                self.stage = Stage::Look { again: false };
                self.failed(&error, Effect::Look)
            }
        }
    }

    fn asked(
        &mut self,
        rules: &config::Dns,
        asked: Result<Progress, ZoneError>,
        change: ChangeId,
        since: Timestamp,
        at: Timestamp,
    ) -> Option<Effect> {
        let stranded = is_past(since, STRANDED, at);
        match asked {
            Ok(Progress::InSync) => self.arrived(rules, at),
            Err(error @ (ZoneError::Refused(_) | ZoneError::Conflict(_))) => self.failed(&error, Effect::Ask(change)),
            _ if stranded => {
                self.evidence.stranded += 1;
                self.stage = Stage::Look { again: true };
                self.trouble = Some(format!("change {} has not arrived for long, and is sent again", change.0));
                Some(Effect::Look)
            }
            Ok(Progress::Pending) => {
                (self.tries, self.trouble) = (0, None);
                Some(Effect::Later(Box::new(Effect::Ask(change)), ASK_AGAIN))
            }
            Err(error) => self.failed(&error, Effect::Ask(change)),
        }
    }

    /// Every name server of the provider has the change.
    fn arrived(&mut self, rules: &config::Dns, at: Timestamp) -> Option<Effect> {
        match self.step {
            Step::Lower => {
                let ready = later(at, self.evidence.lowered_from.unwrap_or(0));
                (self.evidence.lowered_at, self.evidence.ready_at) = (Some(at), Some(ready));
                if self.goal == Goal::Prepare { self.end() } else { self.wait_out(ready) }
            }
            Step::Move => {
                self.evidence.shifted_at = Some(at);
                self.verify(rules, at)
            }
            _ => self.end(),
        }
    }

    fn proved(&mut self, proof: Proof, at: Timestamp) -> Option<Effect> {
        let wrong = proof.wrong();
        self.evidence.proof = Some(proof);
        if wrong.is_empty() {
            return self.after_proof(at);
        }
        self.tries += 1;
        self.trouble = Some(wrong.join("; "));
        Some(Effect::Later(Box::new(Effect::Prove), self.tries))
    }

    fn after_proof(&mut self, at: Timestamp) -> Option<Effect> {
        (self.tries, self.trouble) = (0, None);
        match self.expires().filter(|expires| *expires > at) {
            Some(expires) => {
                self.step = Step::Tail;
                Some(Effect::Wake(expires))
            }
            None => self.look(Step::Restore),
        }
    }

    fn failed(&mut self, error: &ZoneError, again: Effect) -> Option<Effect> {
        self.tries += 1;
        let is_final = match error {
            ZoneError::Refused(_) => true,
            // Somebody may have written in between, and reading again shows it; a batch that never fits is another thing.
            ZoneError::Conflict(_) => self.tries >= CONFLICTS,
            ZoneError::Busy(_) | ZoneError::Unreachable(_) | ZoneError::Unknown(_) => false,
        };
        if is_final {
            let remedy = "nothing is written until that is mended; `cutover dns sync` tries again at once".to_owned();
            let (wanted, found) = (Vec::new(), Vec::new());
            return self.stop(Box::new(Objection {
                why: Why::Refused,
                says: error.to_string(),
                remedy,
                wanted,
                found,
            }));
        }
        self.trouble = Some(error.to_string());
        Some(Effect::Later(Box::new(again), self.tries))
    }

    fn stop(&mut self, objection: Box<Objection>) -> Option<Effect> {
        self.tries = 0;
        self.stopped = Some(objection);
        Some(Effect::Rest)
    }
}

fn asks_nobody(rules: &config::Dns) -> bool {
    rules.name_servers.as_ref().is_some_and(Vec::is_empty)
}

/// Whether the batch of that attempt is one that the zone's marks speak of.
fn stands(marks: &[Mark], attempt: &str) -> bool {
    marks.iter().any(|mark| mark.attempt == attempt)
}

fn is_past(since: Timestamp, patience: Duration, at: Timestamp) -> bool {
    Duration::try_from(at.duration_since(since)).is_ok_and(|gone| gone > patience)
}

/// What name servers may take to learn of a change, where it was not waited for (AWS: mostly within 60 s).
const SPREAD: Duration = Duration::from_secs(60);
/// A change that has not arrived by then is sent again.
pub const STRANDED: Duration = Duration::from_secs(300);
/// Attempts whose marks are known again.
const REMEMBERED: usize = 8;
/// Batches in a row that did not fit what had just been read.
const CONFLICTS: u32 = 5;
/// The pause between two questions whether a change has arrived, as a number of tries: a few seconds.
const ASK_AGAIN: u32 = 3;
