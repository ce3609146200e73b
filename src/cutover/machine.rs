//! The cutover as a pure machine: a state and an event give the next state and what is to be done. No clock, disk or network.

use serde::{Deserialize, Serialize};

use crate::journal::Topic;
use crate::names::{Color, ServiceName};
use crate::pool::Readiness;
use crate::time::Timestamp;

/// One cutover, whole: what was wished, how far it is, and what was seen on the way. The journal keeps exactly this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cutover {
    pub id: String,
    pub service: ServiceName,
    pub kind: Kind,
    pub from: Color,
    pub to: Color,
    /// Who asked: `uid 0` over the socket, `token` over TCP.
    pub by: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    pub started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
    /// The service's generation before the cutover; each publish adds one.
    pub generation: u64,
    pub phase: Phase,
    /// A rollback has been asked for and waits for the old color's health.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub returning: bool,
    pub evidence: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Switch,
    Rollback,
}

impl Topic for Cutover {
    const NAME: &'static str = "cutover";

    fn id(&self) -> &str {
        &self.id
    }

    fn service(&self) -> &ServiceName {
        &self.service
    }
}

/// How far a cutover is. Later phases stand between these; the order of the path does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new color proves its health; nothing has changed yet.
    Prepare,
    /// The table is being published.
    Switch,
    /// The new color is live; the old one empties.
    Drain,
    /// The old color is being published again.
    RollBack,
    /// The old color is live again; the new one empties.
    DrainBack,
    Done,
    Aborted,
    RolledBack,
}

/// What was seen and measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Why it did not go on, where it did not.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub switched: Option<Switched>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drained: Option<Drained>,
}

/// The switch, as it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switched {
    pub at: Timestamp,
    /// Microseconds from publishing until the last worker answered with the new table.
    pub switch_us: u64,
    pub workers: usize,
    /// How many of them answered; fewer than `workers` means that some are stuck.
    pub answered: usize,
    /// When the last request that went to the old color began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_request_to_old: Option<Timestamp>,
}

/// The drain, as it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    pub drain_ms: u64,
    /// Requests still running when their deadline passed; they were left to finish.
    pub requests_left: u64,
    /// Tunnels still open when their deadline passed; they were closed.
    pub tunnels_closed: u64,
    /// Requests that began on the old color after every worker had answered.
    pub requests_to_old_since: u64,
}

/// What happens to a cutover from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It begins, or begins again after a restart: the phase's effects are due.
    Resume,
    /// The color is fit to go live now, or not.
    Health(Color, Readiness),
    Published(Color, Switched),
    Drained(Color, Drained),
    /// The time for getting as far as the switch is over.
    DeadlinePassed,
    Abort {
        by: String,
    },
    Rollback {
        by: String,
    },
}

/// What is to be done about it. Each may be done twice: after a restart nobody knows whether it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Check the color's endpoints now and say how they are.
    Check(Color),
    /// The same, after the time between two checks.
    CheckLater(Color),
    /// Make the color live.
    Publish(Color),
    /// Wait until the color is empty.
    Drain(Color),
}

/// The next state, and what is due. An event that means nothing in this state changes nothing.
pub fn step(cutover: &Cutover, event: Event) -> (Cutover, Vec<Effect>) {
    use Phase::*;
    let stay = |effects: Vec<Effect>| (cutover.clone(), effects);
    let go = |phase, effects: Vec<Effect>| (Cutover { phase, returning: false, ..cutover.clone() }, effects);
    let (from, to) = (cutover.from, cutover.to);
    match (cutover.phase, event) {
        (Prepare, Event::Resume) => stay(vec![Effect::Check(to)]),
        (Prepare, Event::Health(color, readiness)) if color == to => match readiness {
            Readiness::Ready => go(Switch, vec![Effect::Publish(to)]),
            Readiness::Rising(reasons) => wait_for_health(cutover, reasons),
            Readiness::Unready(reasons) => abort(cutover, reasons),
        },
        (Prepare, Event::DeadlinePassed) => {
            let mut reasons = vec!["the deadline passed before the switch".to_owned()];
            reasons.extend(cutover.evidence.reasons.iter().cloned());
            abort(cutover, reasons)
        }
        (Prepare, Event::Abort { by }) => abort(cutover, vec![format!("aborted by {by}")]),
        (Prepare, Event::Rollback { by }) if cutover.kind == Kind::Switch => {
            abort(cutover, vec![format!("rolled back by {by} before the switch")])
        }

        (Switch, Event::Resume) => stay(vec![Effect::Publish(to)]),
        (Switch, Event::Published(color, switched)) if color == to => drain(cutover, Drain, switched, from),

        (Drain, Event::Resume) if cutover.returning => stay(vec![Effect::Drain(from), Effect::Check(from)]),
        (Drain, Event::Resume) => stay(vec![Effect::Drain(from)]),
        (Drain, Event::Drained(color, drained)) if color == from => end(cutover, drained),
        (Drain, Event::Rollback { .. }) if cutover.kind == Kind::Switch && !cutover.returning => {
            (Cutover { returning: true, ..cutover.clone() }, vec![Effect::Check(from)])
        }
        (Drain, Event::Health(color, readiness)) if cutover.returning && color == from => match readiness {
            Readiness::Ready => go(RollBack, vec![Effect::Publish(from)]),
            Readiness::Rising(_) | Readiness::Unready(_) => go(Drain, vec![]),
        },

        (RollBack, Event::Resume) => stay(vec![Effect::Publish(from)]),
        (RollBack, Event::Published(color, switched)) if color == from => drain(cutover, DrainBack, switched, to),

        (DrainBack, Event::Resume) => stay(vec![Effect::Drain(to)]),
        (DrainBack, Event::Drained(color, drained)) if color == to => end(cutover, drained),

        _ => stay(vec![]),
    }
}

impl Cutover {
    /// The color that serves while the cutover is in this state, and after it where this is its last.
    pub fn live(&self) -> Color {
        match self.phase {
            Phase::Prepare | Phase::Aborted | Phase::RollBack | Phase::DrainBack => self.from,
            Phase::RolledBack => self.from,
            Phase::Switch | Phase::Drain | Phase::Done => self.to,
        }
    }

    /// The service's generation in this state.
    pub fn generation(&self) -> u64 {
        let publishes = match self.phase {
            Phase::Prepare | Phase::Aborted => 0,
            Phase::Switch | Phase::Drain | Phase::Done => 1,
            Phase::RollBack | Phase::DrainBack | Phase::RolledBack => 2,
        };
        self.generation + publishes
    }

    /// How it ended, as one of [`Phase::OUTCOMES`]; `None` while it has not. A rollback that got where it was meant to
    /// go has rolled back.
    pub fn outcome(&self) -> Option<Phase> {
        match (self.kind, self.phase) {
            (Kind::Rollback, Phase::Done) => Some(Phase::RolledBack),
            (_, phase) => Some(phase).filter(|phase| phase.ends()),
        }
    }

    /// It has got where it was meant to go.
    pub fn succeeded(&self) -> bool {
        self.phase == Phase::Done
    }
}

impl Phase {
    /// The phases a service can be seen in, `idle` aside.
    pub const ALL: [Phase; 5] = [Phase::Prepare, Phase::Switch, Phase::Drain, Phase::RollBack, Phase::DrainBack];
    pub const OUTCOMES: [Phase; 3] = [Phase::Done, Phase::Aborted, Phase::RolledBack];

    pub fn ends(self) -> bool {
        Phase::OUTCOMES.contains(&self)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Switch => "switch",
            Phase::Drain => "drain",
            Phase::RollBack => "roll_back",
            Phase::DrainBack => "drain_back",
            Phase::Done => "done",
            Phase::Aborted => "aborted",
            Phase::RolledBack => "rolled_back",
        }
    }
}

/// The checks under way may still bring enough endpoints up; until then the reasons are there to be read.
fn wait_for_health(cutover: &Cutover, reasons: Vec<String>) -> (Cutover, Vec<Effect>) {
    let evidence = Evidence { reasons, ..cutover.evidence.clone() };
    (Cutover { evidence, ..cutover.clone() }, vec![Effect::CheckLater(cutover.to)])
}

fn abort(cutover: &Cutover, reasons: Vec<String>) -> (Cutover, Vec<Effect>) {
    let evidence = Evidence { reasons, ..cutover.evidence.clone() };
    (Cutover { phase: Phase::Aborted, evidence, ..cutover.clone() }, vec![])
}

/// Somebody serves from here on, so what is left is to empty the color that no longer does.
fn drain(cutover: &Cutover, phase: Phase, switched: Switched, old: Color) -> (Cutover, Vec<Effect>) {
    let evidence = Evidence { switched: Some(switched), ..Evidence::default() };
    (Cutover { phase, evidence, ..cutover.clone() }, vec![Effect::Drain(old)])
}

fn end(cutover: &Cutover, drained: Drained) -> (Cutover, Vec<Effect>) {
    let phase = if cutover.phase == Phase::DrainBack { Phase::RolledBack } else { Phase::Done };
    let evidence = Evidence { drained: Some(drained), ..cutover.evidence.clone() };
    (Cutover { phase, returning: false, evidence, ..cutover.clone() }, vec![])
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet, VecDeque};

    use super::*;

    fn begun(kind: Kind) -> Cutover {
        Cutover {
            id: "c1".into(),
            service: "shop".parse().unwrap(),
            kind,
            from: Color::Blue,
            to: Color::Green,
            by: "uid 0".into(),
            reason: None,
            started: Timestamp::UNIX_EPOCH,
            ended: None,
            generation: 7,
            phase: Phase::Prepare,
            returning: false,
            evidence: Evidence::default(),
        }
    }

    fn events() -> Vec<Event> {
        let switched =
            Switched { at: Timestamp::UNIX_EPOCH, switch_us: 90, workers: 4, answered: 4, last_request_to_old: None };
        let drained = Drained { drain_ms: 5, requests_left: 0, tunnels_closed: 0, requests_to_old_since: 0 };
        let of_both = Color::BOTH.into_iter().flat_map(|color| {
            [
                Event::Health(color, Readiness::Ready),
                Event::Health(color, Readiness::Rising(vec!["rising".into()])),
                Event::Health(color, Readiness::Unready(vec!["down".into()])),
                Event::Published(color, switched.clone()),
                Event::Drained(color, drained.clone()),
            ]
        });
        let by = || "uid 0".to_owned();
        let others = [Event::Resume, Event::DeadlinePassed, Event::Abort { by: by() }, Event::Rollback { by: by() }];
        of_both.chain(others).collect()
    }

    /// From, what happened, to, and what became due.
    type Step = (Cutover, Event, Cutover, Vec<Effect>);

    /// Every state that can be reached, and every step between two of them.
    fn walk(kind: Kind) -> (Vec<Cutover>, Vec<Step>) {
        let (mut states, mut steps) = (vec![begun(kind)], Vec::new());
        let mut open = VecDeque::from([begun(kind)]);
        while let Some(state) = open.pop_front() {
            for event in events() {
                let (next, effects) = step(&state, event.clone());
                if !states.contains(&next) {
                    states.push(next.clone());
                    open.push_back(next.clone());
                }
                steps.push((state.clone(), event, next, effects));
            }
        }
        (states, steps)
    }

    fn all_steps() -> Vec<Step> {
        [Kind::Switch, Kind::Rollback].into_iter().flat_map(|kind| walk(kind).1).collect()
    }

    #[test]
    fn every_phase_can_be_reached_and_no_state_is_unforeseen() {
        let (states, _) = walk(Kind::Switch);
        let phases: HashSet<Phase> = states.iter().map(|state| state.phase).collect();
        assert_eq!(phases.len(), Phase::ALL.len() + Phase::OUTCOMES.len());
        assert!(states.len() < 40, "{} states", states.len());
    }

    #[test]
    fn the_live_color_changes_only_together_with_a_publish_and_only_onto_a_color_that_is_ready() {
        for (before, event, after, effects) in all_steps() {
            if before.live() != after.live() {
                assert_eq!(event, Event::Health(after.live(), Readiness::Ready), "{before:?}");
                assert_eq!(effects, [Effect::Publish(after.live())], "{before:?}");
                assert_eq!(after.generation(), before.generation() + 1);
            } else {
                assert_eq!(after.generation(), before.generation(), "{before:?} {event:?}");
            }
        }
    }

    #[test]
    fn what_is_published_is_live_and_what_is_drained_is_not() {
        for (before, event, after, effects) in all_steps() {
            for effect in effects {
                match effect {
                    Effect::Publish(color) => assert_eq!(color, after.live(), "{before:?} {event:?}"),
                    Effect::Drain(color) => assert_ne!(color, after.live(), "{before:?} {event:?}"),
                    Effect::Check(color) | Effect::CheckLater(color) => assert_ne!(color, after.live(), "{before:?}"),
                }
            }
        }
    }

    #[test]
    fn an_ended_cutover_stays_as_it_is() {
        for (before, event, after, effects) in all_steps() {
            if before.phase.ends() {
                assert_eq!(before, after, "{event:?}");
                assert_eq!(effects, [], "{event:?}");
            }
        }
    }

    #[test]
    fn a_restart_repeats_the_phase_and_changes_nothing() {
        // What is due on entering a state is what a restart in it makes due again.
        let mut due: HashMap<String, HashSet<Effect>> = HashMap::new();
        for (before, event, after, effects) in all_steps() {
            let entered = before.phase != after.phase || before.returning != after.returning;
            if entered && !after.phase.ends() {
                due.entry(format!("{:?} {}", after.phase, after.returning)).or_default().extend(effects);
            } else if event == Event::Resume {
                assert_eq!(before, after);
                assert_eq!(effects.is_empty(), before.phase.ends());
            }
        }
        for (before, event, _, effects) in all_steps() {
            if let (Event::Resume, Some(due)) = (event, due.get(&format!("{:?} {}", before.phase, before.returning))) {
                let effects = HashSet::from_iter(effects);
                assert!(due.is_subset(&effects), "{before:?}: {due:?} is due, {effects:?} is repeated");
            }
        }
    }

    #[test]
    fn from_every_state_there_is_a_way_to_an_end() {
        let (states, steps) = walk(Kind::Switch);
        let mut ending: Vec<&Cutover> = states.iter().filter(|state| state.phase.ends()).collect();
        loop {
            let more: Vec<&Cutover> = steps
                .iter()
                .filter(|(before, _, after, _)| ending.contains(&after) && !ending.contains(&before))
                .map(|(before, ..)| before)
                .collect();
            if more.is_empty() {
                break;
            }
            ending.extend(more);
        }
        for state in &states {
            assert!(ending.contains(&state), "{state:?} never ends");
        }
    }

    #[test]
    fn before_the_switch_an_abort_changes_nothing_and_after_it_only_a_rollback_goes_back() {
        let abort = Event::Abort { by: "uid 0".into() };
        for (before, event, after, _) in all_steps() {
            if event == abort {
                let aborted = before.phase == Phase::Prepare;
                assert_eq!(after.phase, if aborted { Phase::Aborted } else { before.phase });
                assert_eq!(after.live(), before.live());
            }
        }
    }

    #[test]
    fn a_rollback_cannot_be_rolled_back() {
        for (before, event, after, effects) in walk(Kind::Rollback).1 {
            if matches!(event, Event::Rollback { .. }) {
                assert_eq!((before, effects), (after, vec![]));
            }
        }
    }

    #[test]
    fn a_rollback_onto_a_color_that_is_not_ready_leaves_the_drain_as_it_was() {
        for (before, event, after, effects) in all_steps() {
            let not_ready = |readiness: &Readiness| *readiness != Readiness::Ready;
            let of_old = |color: &Color| *color == before.from;
            if before.returning && matches!(&event, Event::Health(color, r) if of_old(color) && not_ready(r)) {
                assert_eq!((after.phase, after.returning), (Phase::Drain, false));
                assert_eq!(effects, []);
            }
        }
    }
}
