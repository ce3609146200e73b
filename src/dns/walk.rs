//! The machine walked: every state that can be reached, by every event, from every goal, and what must hold in each.

use std::collections::{HashSet, VecDeque};

use super::machine::{Effect, Event, step};
use super::plan::{after, leading, own, same};
use super::scene::rules;
use super::shift::{Evidence, Goal, Shift, Stage, Step};
use super::verify::{Heard, Proof};
use super::zone::{ChangeId, Progress, RecordSet, ZoneError};
use crate::config;
use crate::names::{Color, RecordType, Side};
use crate::time::Timestamp;

/// From, what happened, when, to, and what became due.
struct Walked {
    before: Shift,
    event: Event,
    after: Shift,
    effect: Option<Effect>,
}

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + hours * 3600).unwrap()
}

fn begun(goal: Goal) -> Shift {
    Shift {
        id: "s1".into(),
        service: "shop".parse().unwrap(),
        goal,
        to: if goal == Goal::Prepare { Side::Blue } else { Side::Green },
        live: Color::Green,
        by: "uid 0".into(),
        started: at(0),
        ended: None,
        step: Step::Lower,
        stage: Stage::Look { again: false },
        generation: 0,
        ours: Vec::new(),
        evidence: Evidence::default(),
        stopped: None,
        trouble: None,
        tries: 0,
    }
}

/// The zone in every way that a follower may find it, each with whether it may be written to without being told so.
fn zones(rules: &config::Dns) -> Vec<(Vec<RecordSet>, bool)> {
    let marked = |side, ttl| {
        let aim = super::plan::Aim::Lead(side, ttl);
        let shift = begun(Goal::Follow);
        let terms = super::plan::Terms { now: at(0), ..shift.terms(rules, "a", at(0)) };
        match super::plan::plan(rules, aim, &[], &terms) {
            super::plan::Plan::Write(draft) => after(&[], &draft.batch),
            other => panic!("{other:?}"),
        }
    };
    let mut drifted = marked(Side::Blue, 60);
    drifted.retain(|set| set.member.as_ref().is_none_or(|member| member.identifier != "proxy"));
    let foreign = leading(rules, Side::Blue, 300);
    let sides = [(Side::Blue, 60), (Side::Blue, 10), (Side::Green, 10), (Side::Green, 60)];
    let good = sides.map(|(side, ttl)| (marked(side, ttl), true));
    [(Vec::new(), true), (drifted, false), (foreign, false)].into_iter().chain(good).collect()
}

fn events(rules: &config::Dns) -> Vec<Event> {
    let errors = || {
        let says = || "so".to_owned();
        [
            ZoneError::Busy(says()),
            ZoneError::Refused(says()),
            ZoneError::Unreachable(says()),
            ZoneError::Unknown(says()),
            ZoneError::Conflict(vec![says()]),
        ]
    };
    let heard = |wrong: Option<&str>| {
        let name = "shop.example.com".parse().unwrap();
        let heard =
            Heard { server: "ns".into(), name, kind: RecordType::A, samples: 1, wrong: wrong.map(str::to_owned) };
        Event::Proved(Proof { at: at(0), heard: vec![heard] })
    };
    let mut all = vec![Event::Resume, Event::Woke, heard(None), heard(Some("blue"))];
    all.extend(zones(rules).into_iter().map(|(found, _)| Event::Read(Ok(found), "a".into())));
    all.extend(errors().map(|error| Event::Read(Err(error), "a".into())));
    all.extend(errors().map(|error| Event::Sent(Err(error))));
    all.extend(errors().map(|error| Event::Asked(Err(error))));
    all.push(Event::Sent(Ok(ChangeId("c".into()))));
    all.extend([Progress::Pending, Progress::InSync].map(|progress| Event::Asked(Ok(progress))));
    all
}

/// What decides about what comes: when something was seen, and how often, is no state of its own.
fn key(shift: &Shift) -> String {
    let stage = match &shift.stage {
        Stage::Settle { .. } => "settle".to_owned(),
        other => format!("{other:?}"),
    };
    let Evidence { ready_at, shifted_at, old_ttl, .. } = &shift.evidence;
    let seen = (ready_at.is_some(), shifted_at.is_some(), *old_ttl > Some(10));
    let tries = shift.tries >= BRINK;
    format!("{:?} {stage} {seen:?} {tries} {} {}", shift.step, shift.ours.is_empty(), shift.stopped.is_some())
}

fn walk(rules: &config::Dns, goal: Goal) -> Vec<Walked> {
    let mut known = HashSet::from([key(&begun(goal))]);
    let (mut open, mut walked) = (VecDeque::from([begun(goal)]), Vec::new());
    let events = events(rules);
    while let Some(before) = open.pop_front() {
        // Where it has stopped nothing is under way that could come to anything.
        let come = |event: &Event| before.stopped.is_none() || *event == Event::Resume;
        for event in events.iter().filter(|event| come(event)) {
            for hours in [0, 1] {
                let (after, effect) = step(&before, rules, event.clone(), at(hours));
                // Whatever has been tried once may have been tried often: that is a state of its own, without the way there.
                let often = Shift { tries: after.tries.max(BRINK), ..after.clone() };
                let states = [after.clone()].into_iter().chain((after.tries > 0).then_some(often));
                for state in states.filter(|state| known.insert(key(state))) {
                    open.push_back(state);
                }
                walked.push(Walked { before: before.clone(), event: event.clone(), after, effect });
            }
        }
        assert!(known.len() < 1_000, "{} states", known.len());
    }
    walked
}

fn all(rules: &config::Dns) -> Vec<Walked> {
    let goals = [Goal::Follow, Goal::Sync, Goal::Prepare, Goal::Adopt];
    goals.into_iter().flat_map(|goal| walk(rules, goal)).collect()
}

fn asking() -> config::Dns {
    config::Dns { name_servers: None, ..rules("") }
}

#[test]
fn what_has_ended_stays_and_what_has_not_always_waits_for_something() {
    for Walked { before, event, after, effect } in all(&asking()) {
        if before.step.ends() {
            assert_eq!((key(&before), None), (key(&after), effect), "{event:?}");
        } else if effect.is_none() && !after.step.ends() {
            assert_eq!(before, after, "{event:?} leaves it waiting for nothing");
        } else {
            assert_eq!(effect.is_none(), after.step.ends(), "{event:?}");
            assert_eq!(after.stopped.is_some(), effect == Some(Effect::Rest), "{event:?} {after:?}");
        }
        assert_eq!(after.step.ends(), after.ended.is_some());
    }
}

#[test]
fn steps_follow_one_another_and_none_is_taken_back() {
    let place = |step: Step| Step::ALL.iter().position(|known| *known == step).unwrap();
    for Walked { before, event, after, .. } in all(&asking()) {
        assert!(place(after.step) >= place(before.step), "{:?} {event:?} {:?}", before.step, after.step);
        if after.step == Step::Tail {
            assert!(after.evidence.shifted_at.is_some(), "{event:?}");
        }
        if before.evidence.shifted_at != after.evidence.shifted_at {
            assert_eq!((before.step, event), (Step::Move, Event::Asked(Ok(Progress::InSync))));
        }
    }
}

#[test]
fn nothing_is_sent_that_the_journal_does_not_know_of_and_nothing_twice() {
    for Walked { before, event, after, effect } in all(&asking()) {
        let Some(Effect::Send(_)) = effect else { continue };
        assert!(matches!(event, Event::Read(Ok(_), _)), "only what was just read is written over: {event:?}");
        assert_eq!((after.stage.clone(), after.ours.last().map(String::as_str)), (Stage::Send, Some("a")));
        assert!(after.moved(&before));
    }
}

#[test]
fn names_move_in_one_step_only_and_lead_there_from_then_on() {
    let rules = asking();
    for Walked { event, after: shift, effect, .. } in all(&rules) {
        let (Some(Effect::Send(batch)), Event::Read(Ok(found), _)) = (effect, event) else { continue };
        let then = after(&found, &batch);
        let led = same(own(&rules, &then), &leading(&rules, shift.to, 0), false);
        match shift.step {
            Step::Lower => assert!(same(own(&rules, &found), own(&rules, &then), false), "{shift:?}"),
            Step::Move | Step::Restore => assert!(led, "{shift:?}"),
            step => panic!("{step:?} writes"),
        }
    }
}

#[test]
fn what_is_not_ours_is_written_over_only_where_somebody_said_so() {
    let rules = asking();
    let not_ours: Vec<_> = zones(&rules).into_iter().filter(|(_, ours)| !ours).map(|(found, _)| found).collect();
    let [drifted, foreign] = &not_ours[..] else { panic!() };
    for Walked { event, after, effect, .. } in all(&rules) {
        let (Some(Effect::Send(_)), Event::Read(Ok(found), _)) = (effect, event) else { continue };
        let may = match after.goal {
            Goal::Adopt => true,
            Goal::Sync | Goal::Restore => found != *foreign,
            Goal::Follow | Goal::Prepare => found != *foreign && found != *drifted,
        };
        assert!(may, "{:?} writes over {found:?}", after.goal);
    }
}

#[test]
fn a_restart_repeats_what_was_waited_for_and_sends_nothing() {
    for Walked { before, event, after, effect } in all(&asking()) {
        if event != Event::Resume || before.step.ends() {
            continue;
        }
        assert_eq!((before.step, &before.evidence), (after.step, &after.evidence));
        let expected = match (before.step, &before.stage) {
            (Step::WaitOut | Step::Tail, _) => matches!(effect, Some(Effect::Wake(_))),
            (Step::Verify, _) => effect == Some(Effect::Prove),
            (_, Stage::Settle { change, .. }) => effect == Some(Effect::Ask(change.clone())),
            _ => effect == Some(Effect::Look),
        };
        assert!(expected, "{before:?}: {effect:?}");
    }
}

#[test]
fn from_every_state_there_is_a_way_to_the_end() {
    for goal in [Goal::Follow, Goal::Prepare, Goal::Adopt] {
        let walked = walk(&asking(), goal);
        let ways: HashSet<[String; 2]> = walked.iter().map(|it| [key(&it.before), key(&it.after)]).collect();
        let mut ends: HashSet<String> =
            walked.iter().filter(|it| it.after.step.ends()).map(|it| key(&it.after)).collect();
        loop {
            let known = ends.len();
            let more: Vec<String> =
                ways.iter().filter(|[_, after]| ends.contains(after)).map(|[before, _]| before.clone()).collect();
            ends.extend(more);
            if ends.len() == known {
                break;
            }
        }
        for Walked { before, .. } in &walked {
            assert!(ends.contains(&key(before)), "{before:?} never ends");
        }
    }
}

/// From here on the next conflict in a row is taken for good: all that the number of tries decides about what comes.
const BRINK: u32 = 4;
