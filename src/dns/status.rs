//! What is told about a service's names: where they lead, how far a shift is, and what stands in its way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{Objection, leading, own, same};
use super::shift::{Evidence, Goal, Shift, Stage, Step};
use super::verify::Proof;
use super::zone::RecordSet;
use crate::config;
use crate::names::{Color, DnsName, RecordType, ServiceName, Side};
use crate::tail;
use crate::time::Timestamp;

/// `services[].dns` of the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub service: ServiceName,
    pub zone: String,
    /// One of [`State::ALL`].
    pub state: State,
    /// Where names lead, or are being led.
    pub to: Side,
    /// The color that they follow.
    pub live: Color,
    /// Every record leads there, as far as is known.
    pub in_sync: bool,
    pub records: Vec<RecordStatus>,
    /// How often the zone's records have been written.
    pub generation: u64,
    /// The newest shift.
    pub shift: String,
    pub goal: Goal,
    pub by: String,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    /// Why it does not go on, or what it meets with.
    pub message: Option<String>,
    /// What was wanted beside what was found, where that is what stands in the way.
    pub objection: Option<Objection>,
    /// When all the provider's name servers led there.
    pub shifted_at: Option<Timestamp>,
    /// Seconds that an answer from before that may be kept.
    pub old_ttl: Option<u32>,
    /// When, by their TTL, answers from before that have died out.
    pub expires: Option<Timestamp>,
    pub next: Option<Next>,
    pub proof: Option<Proof>,
    /// Batches that were taken, that got no answer, and that were sent again since they did not arrive.
    pub changes: u32,
    pub doubts: u32,
    pub stranded: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordStatus {
    pub name: DnsName,
    #[serde(rename = "type")]
    pub kind: RecordType,
    pub in_sync: bool,
    /// As the zone was when it was last read; empty before that.
    pub found: Vec<RecordSet>,
}

/// What happens next, and when at the latest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Next {
    pub what: String,
    pub by: Timestamp,
}

/// What a service's names are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Lower,
    WaitOut,
    Move,
    Verify,
    Tail,
    Restore,
    Done,
    /// The TTL is low, for a switch to come.
    Prepared,
    /// Something stands in the way; see the message.
    Stopped,
}

impl State {
    pub const ALL: [State; 9] = [
        State::Lower,
        State::WaitOut,
        State::Move,
        State::Verify,
        State::Tail,
        State::Restore,
        State::Done,
        State::Prepared,
        State::Stopped,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Lower => "lower",
            State::WaitOut => "wait_out",
            State::Move => "move",
            State::Verify => "verify",
            State::Tail => "tail",
            State::Restore => "restore",
            State::Done => "done",
            State::Prepared => "prepared",
            State::Stopped => "stopped",
        }
    }

    fn of(shift: &Shift) -> State {
        match shift.step {
            _ if shift.stopped.is_some() => State::Stopped,
            Step::Lower => State::Lower,
            Step::WaitOut => State::WaitOut,
            Step::Move => State::Move,
            Step::Verify => State::Verify,
            Step::Tail => State::Tail,
            Step::Restore => State::Restore,
            Step::Done | Step::Replaced if shift.goal == Goal::Prepare => State::Prepared,
            Step::Done | Step::Replaced => State::Done,
        }
    }
}

impl Status {
    /// Nothing more happens before somebody does something, or the shift has got where it was going.
    pub fn rests(&self) -> bool {
        matches!(self.state, State::Done | State::Prepared | State::Stopped)
    }

    /// What it says to the service's tail.
    pub fn led(&self, rules: &config::Dns) -> tail::Led {
        let ttl = |seconds: u32| Duration::from_secs(seconds.into());
        let shift = |at| tail::Shift { at, ttl: self.old_ttl.map_or(rules.ttl, ttl) };
        tail::Led {
            is_past: self.to != Side::Proxy,
            in_sync: self.in_sync,
            shift: self.shifted_at.map(shift),
            otherwise: shift(self.started),
        }
    }

    /// `found` is the zone as it was last read or written.
    pub fn of(shift: &Shift, rules: &config::Dns, found: Option<&[RecordSet]>, next: Option<Next>) -> Status {
        let Evidence { shifted_at, old_ttl, proof, changes, doubts, stranded, .. } = shift.evidence.clone();
        let records: Vec<_> = rules.records.iter().map(|record| record_status(record, shift, rules, found)).collect();
        let objection = shift.stopped.as_deref().cloned();
        let says = objection.as_ref().map(|objection| format!("{}; {}", objection.says, objection.remedy));
        Status {
            service: shift.service.clone(),
            zone: rules.zone.clone(),
            state: State::of(shift),
            to: shift.to,
            live: shift.live,
            in_sync: records.iter().all(|record| record.in_sync),
            records,
            generation: shift.generation,
            shift: shift.id.clone(),
            goal: shift.goal,
            by: shift.by.clone(),
            started: shift.started,
            ended: shift.ended,
            message: says.or_else(|| shift.trouble.clone()),
            objection,
            shifted_at,
            old_ttl,
            expires: shift.expires(),
            next,
            proof,
            changes,
            doubts,
            stranded,
        }
    }
}

fn record_status(
    record: &config::DnsRecord,
    shift: &Shift,
    rules: &config::Dns,
    found: Option<&[RecordSet]>,
) -> RecordStatus {
    let is_it = |set: &&RecordSet| set.name == record.name && set.kind == record.kind;
    let found: Vec<RecordSet> = found.into_iter().flat_map(|found| own(rules, found)).filter(is_it).cloned().collect();
    let wanted = leading(rules, shift.to, 0);
    let arrived = match shift.step {
        Step::Lower | Step::WaitOut | Step::Move => false,
        Step::Verify | Step::Tail | Step::Restore | Step::Done | Step::Replaced => true,
    };
    // While it is proved anew nothing is known against it but what name servers have said.
    let proved = match &shift.evidence.proof {
        Some(proof) => proof.holds_for(&record.name, record.kind),
        None => shift.step != Step::Verify,
    };
    let in_sync = arrived && proved && same(&found, wanted.iter().filter(is_it), false);
    RecordStatus { name: record.name.clone(), kind: record.kind, in_sync, found }
}

impl Next {
    /// What a shift waits for in words; when it comes, is known to whoever waits.
    pub fn of(shift: &Shift, by: Timestamp) -> Next {
        let what = match (shift.step, &shift.stage) {
            _ if shift.stopped.is_some() => "try again",
            (Step::Lower, Stage::Settle { .. }) => "the lower TTL arrives at every name server",
            (Step::Move, Stage::Settle { .. }) => "the move arrives at every name server",
            (Step::Restore, Stage::Settle { .. }) => "the old TTL arrives at every name server",
            (Step::Lower, _) => "lower the TTL",
            (Step::WaitOut, _) => "answers with the old TTL have died out; then names move",
            (Step::Move, _) => "move the names",
            (Step::Verify, _) => "ask the name servers",
            (Step::Tail, _) => "answers from before have died out; then the TTL becomes what it was",
            (Step::Restore, _) => "write the TTL as it was",
            (Step::Done | Step::Replaced, _) => "look whether the zone still says so",
        };
        Next { what: what.to_owned(), by }
    }
}
