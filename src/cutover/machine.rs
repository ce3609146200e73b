//! The cutover as a pure machine: a state and an event give the next state and what is to be done. No clock, disk or network.
//!
//! Undecided is never success: whatever is not said to be good, in its time, goes back, and only onto a color that is
//! good now. Where neither is, nothing moves, and it waits for whichever comes first: that, or an operator.

#[cfg(test)]
mod tests;

use super::evidence::{Drained, Evidence, Switched};
use super::gate::{Gate, GateKind, GateState};
use super::judge::{Judgement, Verdict};
use super::state::{Cutover, Kind, Outline, Phase, Stop};
use super::warmed::Warmed;
use crate::config::Then;
use crate::names::Color;
use crate::pool::Readiness;
use crate::time::Timestamp;

/// What happens to a cutover from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It begins, or begins again after a restart: the phase's effects are due.
    Resume,
    /// The color is fit to go live now, or not; and the gates that say so.
    Health(Color, Readiness, Vec<Gate>),
    /// A gate as it stands now.
    Gate(Gate),
    /// The warm-up is over, with these figures; what speaks against going on, where something does.
    Warmed(Warmed, Vec<String>),
    /// What the new color's requests say of it.
    Judged(Judgement),
    /// The new color has had the share of a step of the ramp for its time.
    Ramped,
    Published(Color, Switched),
    Drained(Color, Drained),
    /// Names say what they should, or why not.
    Followed(Vec<String>),
    /// The time for getting to a verdict is over.
    DeadlinePassed,
    Abort {
        by: String,
    },
    Rollback {
        by: String,
        reason: Option<String>,
    },
    /// An operator opens the gates that wait for one, or that of this name; in a pause he says to go on.
    Approve {
        by: String,
        at: Timestamp,
        gate: Option<String>,
    },
    /// Somebody wants another switch, and names need not be waited for any longer.
    NextWish,
}

/// What is to be done about it. Each may be done twice: after a restart nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Check the color's endpoints now and say how they are.
    Check(Color, Bar),
    /// The same, after the time between two checks.
    CheckLater(Color, Bar),
    /// Ask the gate of this name.
    Ask(String),
    /// Give the color connections, and requests of the proxy's own.
    Warm(Color),
    /// Give the new color this step's share, and judge it by that.
    Weigh(u32),
    /// Let it have the share of this step of the ramp for a while.
    Ramp(u32),
    /// Let it have the share of this step, and no more is said.
    Share(u32),
    /// Make the color live, and the only one.
    Publish(Color),
    /// Wait until the color is empty.
    Drain(Color),
    /// Judge the live color by what it does.
    Judge,
    /// Go on looking at the new color where its time is over and an operator decides: only that it is bad is said.
    Guard,
    /// Have names follow.
    Follow,
}

/// How good a color has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bar {
    /// As the config asks of a color that goes live.
    Fit,
    /// It serves the most of the traffic already: it need only be alive to take the rest.
    Alive,
}

type Next = (Cutover, Vec<Effect>);

/// The next state, and what is due. An event that means nothing in this state changes nothing.
pub fn step(cutover: &Cutover, event: Event) -> Next {
    use Phase::*;
    match (cutover.phase, event) {
        (_, Event::Resume) => (cutover.clone(), due(cutover)),
        (Prepare | Confirm, Event::Health(color, readiness, gates)) if color == cutover.to && !cutover.returning => {
            prepared(cutover, readiness, gates)
        }
        (Gates, Event::Gate(gate)) => gated(cutover, gate),
        (Warm, Event::Warmed(warmed, against)) => warmed_up(cutover, warmed, against),
        (Canary | Ramp, Event::Judged(judged)) if !cutover.returning => weighed(cutover, judged),
        // Said of its pause, just as an operator let it go on.
        (Confirm, Event::Judged(judged)) if judged.verdict == Verdict::Bad && !cutover.returning => {
            weighed(cutover, judged)
        }
        (Ramp, Event::Ramped) if !cutover.returning => enter(cutover.clone(), after(cutover, Ramp)),
        (Switch, Event::Published(color, switched)) if color == cutover.to => drain(cutover, Drain, switched),
        (Drain, Event::Drained(color, drained)) if color == cutover.from => {
            let evidence = Evidence { drained: Some(drained), ..cutover.evidence.clone() };
            emptied(&Cutover { evidence, ..cutover.clone() })
        }
        (Drain | Bake, Event::Judged(judged)) if cutover.outline.bake && !cutover.kept => baked(cutover, judged),
        (Paused, Event::Judged(judged)) if judged.verdict == Verdict::Bad => found_bad(cutover, judged),
        (_, Event::Health(color, readiness, _)) if cutover.returning && color == cutover.from => {
            looked_back(cutover, readiness)
        }
        (RollBack, Event::Published(color, switched)) if color == cutover.from => drain(cutover, DrainBack, switched),
        (DrainBack, Event::Drained(color, drained)) if color == cutover.to => end(cutover, RolledBack, drained),
        (Dns, Event::Followed(reasons)) => follow(cutover, reasons),
        (Dns, Event::NextWish) => follow(cutover, vec!["somebody moved on before all names had followed".into()]),
        (_, Event::DeadlinePassed) => overdue(cutover),
        (_, Event::Abort { by }) if cutover.live() == cutover.from => undo(cutover, vec![format!("aborted by {by}")]),
        (_, Event::Rollback { by, reason }) if cutover.kind == Kind::Switch => {
            rollback(cutover, &by, reason.as_deref())
        }
        (Gates | Paused, Event::Approve { by, at, gate }) => approve(cutover, &by, at, gate.as_deref()),
        _ => (cutover.clone(), vec![]),
    }
}

/// What is due in a state: on entering it, and after a restart in it.
fn due(cutover: &Cutover) -> Vec<Effect> {
    let (from, to) = (cutover.from, cutover.to);
    let mut effects = match cutover.phase {
        Phase::Prepare => vec![Effect::Check(to, Bar::Fit)],
        Phase::Gates => {
            let open = cutover.gates.iter().filter(|gate| !gate.is_own() && gate.state == GateState::Waiting);
            open.map(|gate| Effect::Ask(gate.name.clone())).collect()
        }
        Phase::Warm => vec![Effect::Warm(to)],
        Phase::Canary => cutover.step.map(Effect::Weigh).into_iter().collect(),
        Phase::Ramp => cutover.step.map(Effect::Ramp).into_iter().collect(),
        Phase::Confirm if cutover.returning => share(cutover),
        Phase::Confirm => [share(cutover), vec![Effect::Check(to, Bar::Fit)]].concat(),
        Phase::Paused => [share(cutover), guard(cutover)].concat(),
        Phase::Switch => vec![Effect::Publish(to)],
        Phase::Drain if is_to_bake(cutover) => vec![Effect::Drain(from), Effect::Judge],
        Phase::Drain => vec![Effect::Drain(from)],
        Phase::Bake => vec![Effect::Judge],
        Phase::Dns => vec![Effect::Follow],
        Phase::RollBack => vec![Effect::Publish(from)],
        Phase::DrainBack => vec![Effect::Drain(to)],
        Phase::Done | Phase::Aborted | Phase::RolledBack => vec![],
    };
    if cutover.returning {
        effects.push(Effect::Check(from, bar(cutover)));
    }
    effects
}

/// A share that has been given stays given, also over a restart: no client comes back by chance.
fn share(cutover: &Cutover) -> Vec<Effect> {
    cutover.step.map(Effect::Share).into_iter().collect()
}

/// An operator may be long in coming, and the new color has traffic meanwhile. What is known to be bad need not be found so
/// again.
fn guard(cutover: &Cutover) -> Vec<Effect> {
    let Outline { bake, canary, .. } = cutover.outline;
    let is_judged = match cutover.paused {
        Some(Stop::Bake) => bake,
        Some(Stop::Canary) => bake || canary > 0,
        Some(Stop::Gates) | None => false,
    };
    if is_judged && !cutover.evidence.is_bad() { vec![Effect::Guard] } else { vec![] }
}

/// It has yet to be said, of all of the traffic, that the new color is good.
fn is_to_bake(cutover: &Cutover) -> bool {
    cutover.outline.bake && !cutover.kept && !cutover.evidence.is_good()
}

/// Into the phase, with all that is due there.
fn enter(cutover: Cutover, phase: Phase) -> Next {
    let paused = cutover.paused.filter(|_| phase == Phase::Paused);
    let step = match phase {
        Phase::Canary | Phase::Ramp => Some(next_step(&cutover)),
        // From here on the new color has all of it, and the table no shares.
        Phase::Switch => None,
        _ => cutover.step,
    };
    let next = Cutover { phase, paused, step, ..cutover };
    let effects = due(&next);
    (next, effects)
}

/// The step that follows the one it is at, of the canary and the ramp together.
fn next_step(cutover: &Cutover) -> u32 {
    cutover.step.map_or(0, |step| step + 1)
}

/// The phase that follows this one in a cutover of this outline.
fn after(cutover: &Cutover, phase: Phase) -> Phase {
    let has_gates = cutover.gates.iter().any(|gate| !gate.is_own());
    let (next, canary, ramp) = (next_step(cutover), cutover.outline.canary, cutover.outline.ramp);
    match phase {
        Phase::Prepare if has_gates => Phase::Gates,
        Phase::Prepare | Phase::Gates if cutover.outline.warm => Phase::Warm,
        Phase::Prepare | Phase::Gates | Phase::Warm | Phase::Canary if next < canary => Phase::Canary,
        Phase::Prepare | Phase::Gates | Phase::Warm | Phase::Canary | Phase::Ramp if next < canary + ramp => {
            Phase::Ramp
        }
        // Nothing has taken long enough to look again.
        Phase::Prepare => Phase::Switch,
        Phase::Gates | Phase::Warm | Phase::Canary | Phase::Ramp => Phase::Confirm,
        Phase::Confirm => Phase::Switch,
        Phase::Switch => Phase::Drain,
        Phase::Drain if is_to_bake(cutover) => Phase::Bake,
        Phase::Drain | Phase::Bake if cutover.outline.dns => Phase::Dns,
        _ => Phase::Done,
    }
}

fn prepared(cutover: &Cutover, readiness: Readiness, gates: Vec<Gate>) -> Next {
    let mut next = cutover.clone();
    next.gates.retain(|known| !known.is_own());
    next.gates.splice(0..0, gates);
    match readiness {
        Readiness::Ready => {
            next.evidence.reasons.clear();
            let phase = after(&next, cutover.phase);
            enter(next, phase)
        }
        // The checks under way may still bring enough endpoints up; until then the reasons are there to be read.
        Readiness::Rising(reasons) => (with_reasons(&next, reasons), vec![Effect::CheckLater(cutover.to, Bar::Fit)]),
        Readiness::Unready(reasons) => undo(&next, reasons),
    }
}

fn gated(cutover: &Cutover, gate: Gate) -> Next {
    let mut next = cutover.clone();
    let Some(known) = next.gates.iter_mut().find(|known| known.name == gate.name && known.kind == gate.kind) else {
        return (next, vec![]);
    };
    // What has been decided stays decided.
    if known.state != GateState::Waiting {
        return (next, vec![]);
    }
    *known = gate.clone();
    let reason = format!("gate {}: {}", gate.name, gate.says);
    next.evidence.reasons = waiting_for(&next.gates);
    match (gate.state, gate.then) {
        (GateState::Waiting, _) => (next, vec![]),
        (GateState::Passed, _) => open(next),
        (GateState::Refused, Then::Pause) => pause(&next, Stop::Gates, vec![reason]),
        (GateState::Refused, Then::Rollback | Then::Abort) => undo(&next, vec![reason]),
    }
}

/// Through, if every gate is open.
fn open(next: Cutover) -> Next {
    if next.gates.iter().all(Gate::has_passed) {
        let phase = after(&next, Phase::Gates);
        return enter(next, phase);
    }
    (next, vec![])
}

fn waiting_for(gates: &[Gate]) -> Vec<String> {
    let waiting = gates.iter().filter(|gate| gate.state == GateState::Waiting);
    waiting.map(|gate| format!("gate {}: {}", gate.name, gate.says)).collect()
}

/// What has not been answered well enough by the proxy's own requests is not shown to a client.
fn warmed_up(cutover: &Cutover, warmed: Warmed, against: Vec<String>) -> Next {
    let evidence = Evidence { warmed: Some(warmed), ..cutover.evidence.clone() };
    let next = Cutover { evidence, ..cutover.clone() };
    if !against.is_empty() {
        return undo(&next, against);
    }
    let phase = after(&next, Phase::Warm);
    enter(next, phase)
}

/// A step of a canary or a ramp is over, or cannot go on.
fn weighed(cutover: &Cutover, judged: Judgement) -> Next {
    let reasons = judged.reasons.clone();
    let next = judged_as(cutover, judged);
    match next.evidence.judged.as_ref().map(|judged| judged.verdict) {
        Some(Verdict::Good) => {
            let phase = after(&next, Phase::Canary);
            enter(next, phase)
        }
        Some(Verdict::Bad) => undo(&next, reasons),
        Some(Verdict::Undecided) => pause(&next, Stop::Canary, reasons),
        Some(Verdict::Watching) | None => (with_reasons(&next, reasons), vec![]),
    }
}

/// The new color has been judged by all of the traffic. It is watched from the switch on, also while the old one empties.
fn baked(cutover: &Cutover, judged: Judgement) -> Next {
    // While the way back is being looked at, only what makes it certain counts. Where an operator has no more than asked, the
    // rest is remembered until he has his answer.
    if cutover.returning && judged.verdict != Verdict::Bad {
        return if cutover.must_return() { (cutover.clone(), vec![]) } else { remembered(cutover, judged) };
    }
    let reasons = judged.reasons.clone();
    let next = judged_as(cutover, judged.clone());
    match judged.verdict {
        Verdict::Bad if cutover.returning => (with_reasons(&next, reasons), vec![]),
        Verdict::Bad => turn(with_reasons(&next, reasons)),
        Verdict::Good if cutover.phase == Phase::Bake => {
            let phase = after(&next, Phase::Bake);
            enter(with_reasons(&next, vec![]), phase)
        }
        Verdict::Undecided if cutover.phase == Phase::Bake => pause(&next, Stop::Bake, reasons),
        // The drain is not over: what has been found is remembered until it is.
        _ => remembered(cutover, judged),
    }
}

/// What is undecided before the old color is empty may yet turn out to be bad.
fn remembered(cutover: &Cutover, judged: Judgement) -> Next {
    let is_open = judged.verdict == Verdict::Undecided && cutover.phase == Phase::Drain;
    let reasons = judged.reasons.clone();
    let effects = if is_open { vec![Effect::Guard] } else { vec![] };
    (with_reasons(&judged_as(cutover, judged), reasons), effects)
}

/// The new color is bad, and nobody has said how to go on: then the pause is over, as if it had been found so before.
fn found_bad(cutover: &Cutover, judged: Judgement) -> Next {
    let in_phase = |phase| Cutover { phase, paused: None, ..cutover.clone() };
    match (cutover.paused, cutover.returning) {
        (Some(Stop::Canary), false) => weighed(&in_phase(Phase::Canary), judged),
        (Some(Stop::Bake), false) => baked(&in_phase(Phase::Bake), judged),
        // Its way back is being looked at, and is certain from here on.
        (Some(Stop::Bake), true) => baked(cutover, judged),
        // A share is taken back for certain whatever is said.
        _ => (cutover.clone(), vec![]),
    }
}

/// The old color is empty, or its time to get there is over.
fn emptied(cutover: &Cutover) -> Next {
    if cutover.evidence.is_undecided() && !cutover.kept {
        return pause(cutover, Stop::Bake, cutover.evidence.reasons.clone());
    }
    let phase = after(cutover, Phase::Drain);
    // A way back that is still being looked at goes on being looked at, unless nothing is left that it could turn.
    let returning = cutover.returning && phase == Phase::Bake;
    let asked_back = cutover.asked_back.clone().filter(|_| returning);
    let is_told = phase == Phase::Bake || cutover.kept;
    let reasons = if is_told { cutover.evidence.reasons.clone() } else { Vec::new() };
    enter(with_reasons(&Cutover { returning, asked_back, ..cutover.clone() }, reasons), phase)
}

/// The word on the old color, while the way back is wanted.
fn looked_back(cutover: &Cutover, readiness: Readiness) -> Next {
    let later = vec![Effect::CheckLater(cutover.from, bar(cutover))];
    let asked = cutover.asked_back.iter();
    // Whoever asked for it learns that it is not to be had; what goes back later does so without his word.
    let cutover = &Cutover { asked_back: None, ..cutover.clone() };
    match (readiness, cutover.phase) {
        (Readiness::Ready, _) => {
            let reasons = asked.chain(&cutover.evidence.reasons).cloned().collect();
            enter(with_reasons(&Cutover { returning: false, ..cutover.clone() }, reasons), Phase::RollBack)
        }
        // Nothing moves while neither is good; the first moment at which the old color is takes everyone back.
        (Readiness::Rising(reasons) | Readiness::Unready(reasons), Phase::Paused) if is_stuck(cutover) => {
            (with_reasons(cutover, both(cutover, &reasons)), later)
        }
        (Readiness::Rising(reasons) | Readiness::Unready(reasons), Phase::Canary | Phase::Ramp | Phase::Confirm) => {
            stuck(cutover, Stop::Canary, &reasons)
        }
        (Readiness::Rising(reasons) | Readiness::Unready(reasons), _) if cutover.must_return() => {
            stuck(cutover, Stop::Bake, &reasons)
        }
        // Only an operator wanted it, and he has been told. What has been found of the new color meanwhile holds.
        (Readiness::Rising(_) | Readiness::Unready(_), phase) => {
            let next = Cutover { returning: false, ..cutover.clone() };
            match next.evidence.judged.clone().filter(|_| phase == Phase::Bake) {
                Some(judged) => baked(&next, judged),
                None => (next, vec![]),
            }
        }
    }
}

/// Whether the way back out of this pause is wanted by more than an operator's question.
fn is_stuck(cutover: &Cutover) -> bool {
    cutover.must_return() || cutover.paused == Some(Stop::Canary)
}

/// The way back is wanted, and the old color is no better.
fn stuck(cutover: &Cutover, at: Stop, reasons: &[String]) -> Next {
    let evidence = Evidence { reasons: both(cutover, reasons), ..cutover.evidence.clone() };
    let next = Cutover { phase: Phase::Paused, paused: Some(at), returning: true, evidence, ..cutover.clone() };
    let effects = [guard(&next), vec![Effect::CheckLater(cutover.from, bar(cutover))]].concat();
    (next, effects)
}

/// Why it wants to go back, and why it cannot.
fn both(cutover: &Cutover, reasons: &[String]) -> Vec<String> {
    let prefix = neither(cutover);
    let known = cutover.evidence.reasons.iter().filter(|reason| !reason.starts_with(&prefix));
    known.cloned().chain([format!("{prefix}{}", reasons.join("; "))]).collect()
}

/// How the reason begins for which it cannot go back.
fn neither(cutover: &Cutover) -> String {
    format!("{} is not good either: ", cutover.from)
}

/// The one deadline: what has not been said to be good by now is undone.
fn overdue(cutover: &Cutover) -> Next {
    let goes_back = cutover.returning && (cutover.live() == cutover.from || cutover.must_return());
    if !cutover.is_on_trial() || cutover.overdue || goes_back {
        return (cutover.clone(), vec![]);
    }
    let next = Cutover { overdue: true, ..cutover.clone() };
    let late = if cutover.live() == cutover.from { BEFORE_SWITCH } else { BEFORE_VERDICT };
    let mut reasons = vec![late.to_owned()];
    reasons.extend(cutover.evidence.reasons.iter().cloned());
    match cutover.phase {
        // Published it will be; then it goes back.
        Phase::Switch => (with_reasons(&next, reasons), vec![]),
        Phase::Drain | Phase::Bake | Phase::Paused if cutover.live() == cutover.to => {
            turn(with_reasons(&next, reasons))
        }
        _ => undo(&Cutover { overdue: false, ..next }, reasons),
    }
}

/// Names never decide whether it is done.
fn follow(cutover: &Cutover, reasons: Vec<String>) -> Next {
    let all = cutover.evidence.reasons.iter().cloned().chain(reasons).collect();
    enter(with_reasons(cutover, all), Phase::Done)
}

fn rollback(cutover: &Cutover, by: &str, reason: Option<&str>) -> Next {
    let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let asked_back = Some(format!("rolled back by {by}{why}"));
    match cutover.phase {
        Phase::Prepare | Phase::Gates | Phase::Warm | Phase::Canary | Phase::Ramp | Phase::Confirm => {
            undo(cutover, vec![format!("rolled back by {by} before the switch{why}")])
        }
        Phase::Paused if cutover.live() == cutover.from => {
            undo(cutover, vec![format!("rolled back by {by} before the switch{why}")])
        }
        Phase::Drain | Phase::Bake if !cutover.returning => turn(Cutover { asked_back, ..cutover.clone() }),
        // One that cannot go back is looked at again at once.
        Phase::Paused => turn(Cutover { asked_back, ..cutover.clone() }),
        _ => (cutover.clone(), vec![]),
    }
}

fn approve(cutover: &Cutover, by: &str, at: Timestamp, gate: Option<&str>) -> Next {
    let mut next = Cutover { returning: false, asked_back: None, ..cutover.clone() };
    let named = |known: &Gate| gate.is_none_or(|name| known.name == name);
    match (cutover.phase, cutover.paused) {
        // Who names a gate means no more than that gate.
        (Phase::Paused, Some(Stop::Canary | Stop::Bake)) if gate.is_some() => (cutover.clone(), vec![]),
        // Also where the way back is wanted and not to be had: the old color may be worse by now.
        (Phase::Paused, Some(Stop::Canary)) => {
            next.evidence.judged.take_if(|judged| judged.verdict == Verdict::Bad);
            let phase = after(&next, Phase::Canary);
            enter(with_reasons(&next, vec![]), phase)
        }
        // Whoever says so has seen what speaks against it; but who has asked to go back before him gets his answer first.
        (Phase::Paused, Some(Stop::Bake)) if cutover.asked_back.is_none() => {
            // Where the old color was not empty when it paused, it has to be first.
            let phase = if next.drained().is_none() { Phase::Drain } else { after(&next, Phase::Bake) };
            next.kept = true;
            let reasons =
                vec![format!("{by} says to keep {}, although: {}", next.to, next.evidence.reasons.join("; "))];
            enter(with_reasons(&next, reasons), phase)
        }
        (Phase::Paused, Some(Stop::Gates)) => {
            let waived = |gate: &Gate| gate.decided(true, at, format!("waived by {by}, although: {}", gate.says));
            let refused = next.gates.iter_mut().filter(|gate| gate.state == GateState::Refused && named(gate));
            refused.for_each(|gate| *gate = waived(gate));
            if next.gates.iter().any(|gate| gate.state == GateState::Refused) {
                return (next, vec![]);
            }
            next.evidence.reasons.clear();
            if next.gates.iter().all(Gate::has_passed) { open(next) } else { enter(next, Phase::Gates) }
        }
        (Phase::Gates, _) => {
            let asked = |gate: &&mut Gate| gate.kind == GateKind::Approval && gate.state == GateState::Waiting;
            let approved = next.gates.iter_mut().filter(asked).filter(|gate| named(gate));
            approved.for_each(|gate| *gate = gate.decided(true, at, format!("approved by {by}")));
            next.evidence.reasons = waiting_for(&next.gates);
            open(next)
        }
        _ => (cutover.clone(), vec![]),
    }
}

/// Nothing has been switched: it ends here, or takes back the share that the new color has.
fn undo(cutover: &Cutover, reasons: Vec<String>) -> Next {
    let next = with_reasons(cutover, reasons);
    match cutover.phase {
        Phase::Aborted | Phase::RollBack | Phase::DrainBack | Phase::RolledBack => (cutover.clone(), vec![]),
        _ if cutover.step.is_none() => enter(Cutover { returning: false, ..next }, Phase::Aborted),
        _ if cutover.returning => {
            // Why it cannot yet holds as before.
            let prefix = neither(cutover);
            let kept = cutover.evidence.reasons.iter().filter(|reason| reason.starts_with(&prefix));
            let reasons = next.evidence.reasons.iter().chain(kept).cloned().collect();
            (with_reasons(&next, reasons), vec![])
        }
        _ => turn(next),
    }
}

/// The way back is wanted: the old color's health decides.
fn turn(cutover: Cutover) -> Next {
    let check = Effect::Check(cutover.from, bar(&cutover));
    (Cutover { returning: true, ..cutover }, vec![check])
}

fn bar(cutover: &Cutover) -> Bar {
    if cutover.step.is_some() { Bar::Alive } else { Bar::Fit }
}

fn pause(cutover: &Cutover, at: Stop, reasons: Vec<String>) -> Next {
    let next = with_reasons(&Cutover { paused: Some(at), ..cutover.clone() }, reasons);
    enter(next, Phase::Paused)
}

/// Somebody serves from here on, so what is left is to empty the color that no longer does.
fn drain(cutover: &Cutover, phase: Phase, switched: Switched) -> Next {
    // Why it went back is still why; of how the new color did nothing new is known.
    let (reasons, judged) = match phase {
        Phase::DrainBack => (cutover.evidence.reasons.clone(), cutover.evidence.judged.clone()),
        _ if cutover.overdue => (cutover.evidence.reasons.clone(), None),
        _ => (Vec::new(), None),
    };
    let warmed = cutover.evidence.warmed.clone();
    let evidence = Evidence { warmed, switched: Some(switched), reasons, judged, ..Evidence::default() };
    let returning = phase == Phase::Drain && cutover.overdue;
    enter(Cutover { evidence, returning, ..cutover.clone() }, phase)
}

fn end(cutover: &Cutover, phase: Phase, drained: Drained) -> Next {
    let evidence = Evidence { drained: Some(drained), ..cutover.evidence.clone() };
    enter(Cutover { returning: false, evidence, ..cutover.clone() }, phase)
}

fn judged_as(cutover: &Cutover, judged: Judgement) -> Cutover {
    let evidence = Evidence { judged: Some(judged), ..cutover.evidence.clone() };
    Cutover { evidence, ..cutover.clone() }
}

fn with_reasons(cutover: &Cutover, reasons: Vec<String>) -> Cutover {
    let evidence = Evidence { reasons, ..cutover.evidence.clone() };
    Cutover { evidence, ..cutover.clone() }
}

const BEFORE_SWITCH: &str = "the deadline passed before the switch";
const BEFORE_VERDICT: &str = "the deadline passed before it could be said that the new color is good";
