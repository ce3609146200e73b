//! The demo's course: one switch after another, each watched from outside, at the stacks.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::show::Show;
use super::{Deadline, Stage};
use crate::admin::{Outcome, Proof};
use crate::names::Color;
use crate::time::{Moment, Timestamp};

pub struct Course<'a> {
    stage: &'a Stage,
    show: &'a Show,
    deadline: Deadline,
    moves: Vec<Move>,
}

/// One switch: what the command returned, and what the stacks saw.
#[derive(Clone, Debug, Serialize)]
pub struct Move {
    pub from: Color,
    pub to: Color,
    pub switch_us: u64,
    pub drain_ms: u64,
    pub workers: usize,
    /// When the last request began on the old color's stack, by its own clock.
    pub last_request_to_old: Option<Timestamp>,
    /// Microseconds from then until the command returned.
    pub quiet_us: u64,
    /// Requests that began on the old color's stack from the command's return to the next command.
    pub requests_to_old_since: u64,
    /// What is not as it should be.
    pub reasons: Vec<String>,
    #[serde(skip)]
    returned: Moment,
    #[serde(skip)]
    started_before: u64,
}

impl<'a> Course<'a> {
    pub fn new(stage: &'a Stage, show: &'a Show, deadline: Deadline) -> Course<'a> {
        Course { stage, show, deadline, moves: Vec::new() }
    }

    /// Switches to and fro for about `time`, with the last command back before its end: that switch is watched as well.
    pub async fn run(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        let least = (time.as_secs() / 2).clamp(2, LEAST) as usize;
        sleep(BETWEEN).await;
        self.rehearse(Color::Green).await?;
        let mut to = Color::Green;
        while self.moves.len() < least || Instant::now() + DRAIN < end {
            self.switch(to).await?;
            to = to.other();
            sleep(BETWEEN).await;
        }
        sleep_until(end).await;
        Ok(())
    }

    /// Call it when no client sends any more: then all that could reach an old color has.
    pub fn end(mut self) -> Vec<Move> {
        self.settle();
        self.moves
    }

    async fn rehearse(&self, to: Color) -> anyhow::Result<()> {
        let rehearsal = self.stage.operator.rehearse(to);
        let would_switch = self.deadline.meet("the dry run has not returned", rehearsal).await?;
        ensure!(would_switch, "the dry run says that the proxy would not switch to {to}");
        let reached = self.stage.stacks.of[to].tally.started();
        ensure!(reached == 0, "the dry run changed something: {reached} requests have reached {to}");
        Ok(())
    }

    async fn switch(&mut self, to: Color) -> anyhow::Result<()> {
        self.settle();
        self.show.begins(to);
        let switching = self.stage.operator.switch(to);
        let outcome = self.deadline.meet(&format!("the switch to {to} has not returned"), switching).await?;
        let returned = Moment::now();
        let tally = &self.stage.stacks.of[to.other()].tally;
        let (started_before, inside) = (tally.started(), tally.inside());
        let mut reasons = complaints(&outcome);
        if inside > 0 {
            reasons.push(format!("{} still carried {inside} requests when the command returned", to.other()));
        }
        let last = tally.last();
        let done = Move {
            from: outcome.from,
            to,
            switch_us: outcome.switch_us.unwrap_or_default(),
            drain_ms: outcome.drain_ms.unwrap_or_default(),
            workers: outcome.proof.map_or(0, |proof| proof.workers),
            last_request_to_old: last.map(Moment::timestamp),
            quiet_us: last.map_or(0, |last| returned.since(last).as_micros() as u64),
            requests_to_old_since: 0,
            reasons,
            returned,
            started_before,
        };
        self.show.ended(&done);
        self.moves.push(done);
        Ok(())
    }

    /// Counts what the old color of the last switch has been sent since its command returned.
    fn settle(&mut self) {
        let Some(last) = self.moves.last_mut() else { return };
        let tally = &self.stage.stacks.of[last.from].tally;
        // A request could slip in between the command's return and the look at the count; its time would tell.
        let slipped_in = u64::from(tally.last().is_some_and(|begun| begun > last.returned));
        last.requests_to_old_since = slipped_in.max(tally.started() - last.started_before);
        if last.requests_to_old_since > 0 {
            let Move { requests_to_old_since: since, from, to, .. } = last;
            last.reasons.push(format!("{since} requests began on {from} after the switch to {to} had returned"));
        }
    }
}

/// What the proxy itself says was not right about the switch.
fn complaints(outcome: &Outcome) -> Vec<String> {
    let mut reasons = outcome.reasons.clone();
    let to = outcome.to;
    if outcome.outcome.as_deref() != Some("done") {
        reasons.push(format!("the switch to {to} ended as {:?}", outcome.outcome));
    }
    if outcome.requests_left + outcome.tunnels_closed > 0 {
        let (left, closed) = (outcome.requests_left, outcome.tunnels_closed);
        reasons.push(format!("the switch to {to} left {left} requests behind and cut {closed} WebSockets"));
    }
    let Some(proof) = &outcome.proof else {
        reasons.push(format!("the switch to {to} came without a proof"));
        return reasons;
    };
    let Proof { requests_to_old_since: since, workers_answered: answered, workers, .. } = proof;
    if *since > 0 || answered < workers {
        let proof = format!("{since} requests to the old color since, {answered} of {workers} workers answered");
        reasons.push(format!("the switch to {to} was not clean by its own proof: {proof}"));
    }
    reasons
}

/// Traffic flows for so long before each switch.
const BETWEEN: Duration = Duration::from_millis(350);
/// What a drain takes at most: the longest slow request, and some.
const DRAIN: Duration = Duration::from_millis(1700);
/// Switches in a demo of the usual length, however slow the machine is.
const LEAST: u64 = 6;
