//! Every state that can be reached, by every course a config may ask for, with every event: what must hold in all of them.

use std::collections::{HashMap, HashSet, VecDeque};

use super::super::state::Outline;
use super::*;

fn begun(kind: Kind, outline: Outline, gates: &[Gate]) -> Cutover {
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
        asked_back: None,
        outline,
        gates: gates.to_vec(),
        step: None,
        share: None,
        paused: None,
        overdue: false,
        kept: false,
        evidence: Evidence::default(),
    }
}

fn judgement(verdict: Verdict) -> Judgement {
    let reasons = if verdict == Verdict::Good { vec![] } else { vec![format!("{verdict:?}")] };
    Judgement { verdict, requests: 9, baseline: 9, measures: vec![], reasons }
}

fn gates() -> [Gate; 2] {
    [Gate::waiting("qa", GateKind::Approval, Then::Rollback), Gate::waiting("hook", GateKind::Webhook, Then::Pause)]
}

fn events() -> Vec<Event> {
    let (at, by) = (Timestamp::UNIX_EPOCH, || "uid 0".to_owned());
    let switched = Switched {
        at,
        switch_us: 90,
        workers: 4,
        answered: 4,
        last_request_to_old: None,
        begun_on_old: Some(0),
        baseline: None,
    };
    let drained = Drained {
        drain_ms: 5,
        restarted: false,
        requests_left: 0,
        tunnels_closed: 0,
        requests_to_old_since: 0,
        probed: None,
    };
    let health = |color, readiness| Event::Health(color, readiness, vec![]);
    let of_both = Color::BOTH.into_iter().flat_map(|color| {
        [
            health(color, Readiness::Ready),
            health(color, Readiness::Rising(vec!["rising".into()])),
            health(color, Readiness::Unready(vec!["down".into()])),
            Event::Published(color, switched.clone()),
            Event::Drained(color, drained.clone()),
        ]
    });
    let of_gates = gates().into_iter().flat_map(|gate| {
        let says = Gate { says: "waits".into(), ..gate.clone() };
        [Event::Gate(says), Event::Gate(gate.decided(true, at, "yes")), Event::Gate(gate.decided(false, at, "no"))]
    });
    let verdicts = [Verdict::Watching, Verdict::Good, Verdict::Bad, Verdict::Undecided].map(judgement);
    let others = [
        Event::Resume,
        Event::Warmed(Warmed::default(), vec![]),
        Event::Warmed(Warmed::default(), vec!["cold".into()]),
        Event::Ramped,
        Event::Followed(vec![]),
        Event::DeadlinePassed,
        Event::Abort { by: by() },
        Event::Rollback { by: by(), reason: Some("errors".into()) },
        Event::Approve { by: by(), at, gate: None },
        Event::Approve { by: by(), at, gate: Some("hook".into()) },
        Event::NextWish,
    ];
    of_both.chain(of_gates).chain(verdicts.map(Event::Judged)).chain(others).collect()
}

/// From, what happened, to, and what became due.
type Step = (Cutover, Event, Cutover, Vec<Effect>);

/// Every state that can be reached from there, words aside, and every step out of each.
fn walk(from: Cutover) -> (Vec<Cutover>, Vec<Step>) {
    let (mut known, mut states, mut steps) = (HashSet::from([key(&from)]), Vec::new(), Vec::new());
    let (events, mut open) = (events(), VecDeque::from([from]));
    while let Some(state) = open.pop_front() {
        for event in &events {
            let (next, effects) = step(&state, event.clone());
            if known.insert(key(&next)) {
                open.push_back(next.clone());
            }
            steps.push((state.clone(), event.clone(), next, effects));
        }
        states.push(state);
    }
    (states, steps)
}

/// What the machine goes by: two states that differ in nothing else are one.
fn key(cutover: &Cutover) -> String {
    let Cutover { phase, returning, step, paused, overdue, kept, .. } = cutover;
    let gates: Vec<_> = cutover.gates.iter().map(|gate| gate.state).collect();
    let verdict = cutover.evidence.judged.as_ref().map(|judged| judged.verdict);
    let (is_asked, has_drained) = (cutover.asked_back.is_some(), cutover.drained().is_some());
    format!("{phase:?} {returning} {is_asked} {step:?} {paused:?} {overdue} {kept} {gates:?} {verdict:?} {has_drained}")
}

/// The courses that a config may ask for: each phase there or not.
fn courses() -> Vec<Cutover> {
    let all = (0..64_u32).map(|bits| {
        let has = |bit: u32| bits & (1 << bit) != 0;
        let (canary, ramp) = (2 * u32::from(has(0)), 2 * u32::from(has(5)));
        let outline = Outline { warm: has(4), canary, ramp, bake: has(1), dns: has(2) };
        let gates = gates();
        begun(Kind::Switch, outline, if has(3) { &gates } else { &[] })
    });
    all.chain([begun(Kind::Rollback, Outline::default(), &[])]).collect()
}

fn whole_course() -> Cutover {
    begun(Kind::Switch, Outline { warm: true, canary: 2, ramp: 2, bake: true, dns: true }, &gates())
}

fn all_steps() -> Vec<Step> {
    courses().into_iter().flat_map(|course| walk(course).1).collect()
}

#[test]
fn every_phase_can_be_reached_and_no_state_is_unforeseen() {
    let (states, _) = walk(whole_course());
    let phases: HashSet<Phase> = states.iter().map(|state| state.phase).collect();
    assert_eq!(phases.len(), Phase::ALL.len() + Phase::OUTCOMES.len());
    assert!(states.len() < 1_000, "{} states", states.len());
    let (plain, _) = walk(begun(Kind::Switch, Outline::default(), &[]));
    let phases: HashSet<Phase> = plain.iter().map(|state| state.phase).collect();
    assert_eq!(phases.len(), 8, "what is not asked for is passed by: {phases:?}");
}

#[test]
fn what_must_hold_of_every_step_holds() {
    for (before, event, after, effects) in all_steps() {
        let step = (&before, &event);
        live_moves_only_onto_what_is_ready(step, &after, &effects);
        effects_are_of_the_right_color(step, &after, &effects);
        undecided_is_never_success(step, &after);
        deadlines_lead_back(step, &after, &effects);
        nothing_ends_before_the_old_color_is_empty(step, &after);
        pauses_are_guarded(step, &after, &effects);
        what_is_kept_is_not_asked_about_again(step, &after, &effects);
        if before.phase.ends() {
            assert_eq!((&before, effects.len()), (&after, 0), "{event:?}");
        }
        if let Event::Abort { .. } = event {
            assert_eq!(after.live(), before.live(), "{before:?}");
            assert!(before.live() == before.from || after == before, "{before:?}");
        }
    }
}

fn live_moves_only_onto_what_is_ready((before, event): (&Cutover, &Event), after: &Cutover, effects: &[Effect]) {
    if before.live() == after.live() {
        assert_eq!(after.generation(), before.generation(), "{before:?} {event:?}");
        return;
    }
    assert!(
        matches!(event, Event::Health(color, Readiness::Ready, _) if *color == after.live()),
        "{before:?} {event:?}"
    );
    assert_eq!(effects, [Effect::Publish(after.live())], "{before:?}");
    assert_eq!(after.generation(), before.generation() + 1);
}

fn effects_are_of_the_right_color((before, event): (&Cutover, &Event), after: &Cutover, effects: &[Effect]) {
    for effect in effects {
        let said = format!("{before:?} {event:?} {after:?}");
        match effect {
            Effect::Publish(color) => assert_eq!(*color, after.live(), "{said}"),
            Effect::Drain(color) => assert_ne!(*color, after.live(), "{said}"),
            Effect::Check(color, Bar::Fit) | Effect::CheckLater(color, Bar::Fit) | Effect::Warm(color) => {
                assert_ne!(*color, after.live(), "{said}");
            }
            Effect::Check(color, Bar::Alive) | Effect::CheckLater(color, Bar::Alive) => {
                assert_eq!((*color, after.live(), after.step.is_some()), (after.from, after.from, true), "{said}");
            }
            Effect::Weigh(step) => assert_eq!((after.phase, after.step), (Phase::Canary, Some(*step)), "{said}"),
            Effect::Ramp(step) => assert_eq!((after.phase, after.step), (Phase::Ramp, Some(*step)), "{said}"),
            Effect::Share(step) => assert_eq!((after.live(), after.step), (after.from, Some(*step)), "{said}"),
            Effect::Judge => assert!(after.outline.bake && after.live() == after.to, "{said}"),
            Effect::Guard => assert!(has_traffic_to_judge(after) && after.is_judged(), "{said}"),
            Effect::Ask(name) => {
                assert!(after.gates.iter().any(|gate| gate.name == *name && !gate.has_passed()), "{said}")
            }
            Effect::Follow => assert_eq!(after.phase, Phase::Dns, "{said}"),
        }
    }
}

/// No phase that asks is left by any answer but yes.
fn undecided_is_never_success((before, event): (&Cutover, &Event), after: &Cutover) {
    let said = format!("{before:?} {event:?} {after:?}");
    let by_operator = matches!(event, Event::Approve { .. });
    let is_good = |judged: Option<&Judgement>| judged.is_some_and(|judged| judged.verdict == Verdict::Good);
    if after.phase == Phase::Switch {
        assert!(after.gates.iter().all(Gate::has_passed), "{said}");
    }
    let passes_bake = before.live() == before.to && before.is_on_trial() && before.outline.bake;
    if passes_bake && matches!(after.phase, Phase::Dns | Phase::Done) {
        assert!(by_operator || before.kept || is_good(after.evidence.judged.as_ref()), "{said}");
    }
    if before.phase == Phase::Warm && !matches!(after.phase, Phase::Warm | Phase::Aborted) {
        assert!(matches!(event, Event::Warmed(_, against) if against.is_empty()), "{said}");
    }
    let goes_on = after.step > before.step || after.phase == Phase::Confirm;
    if before.phase == Phase::Ramp && goes_on {
        assert!(*event == Event::Ramped || is_good(after.evidence.judged.as_ref()), "{said}");
    }
    if before.phase == Phase::Canary && goes_on && before.step.is_some() {
        assert!(is_good(after.evidence.judged.as_ref()), "{said}");
    }
    if before.evidence.is_bad() && before.live() == before.to && before.is_on_trial() && after.phase != before.phase {
        let goes_on_looking = matches!(after.phase, Phase::Bake | Phase::Paused) && after.returning;
        assert!(by_operator || goes_on_looking || after.phase == Phase::RollBack, "{said}");
    }
}

/// Neither an end nor a bake comes before the drain, whatever has kept that from its end on the way.
fn nothing_ends_before_the_old_color_is_empty((before, event): (&Cutover, &Event), after: &Cutover) {
    if matches!(after.phase, Phase::Bake | Phase::Dns | Phase::Done) {
        assert!(after.drained().is_some(), "{before:?} {event:?} {after:?}");
    }
    // What was seen at the switch is what the drain counts from.
    if before.drained().is_none() && after.drained().is_some() {
        assert!(after.switched().is_some(), "{before:?} {event:?} {after:?}");
    }
}

/// The new color serves clients, and the course is one that judges.
fn has_traffic_to_judge(cutover: &Cutover) -> bool {
    let Outline { bake, canary, .. } = cutover.outline;
    if cutover.live() == cutover.to { bake } else { cutover.step.is_some() && (bake || canary > 0) }
}

/// While an operator is waited for, a new color that has traffic is looked at, and goes back where it is bad.
fn pauses_are_guarded((before, event): (&Cutover, &Event), after: &Cutover, effects: &[Effect]) {
    if after.phase != Phase::Paused || !has_traffic_to_judge(after) || after.evidence.is_bad() {
        return;
    }
    let said = format!("{before:?} {event:?} {after:?}");
    let is_new = before.phase != Phase::Paused;
    assert!(!is_new || effects.contains(&Effect::Guard), "{said}");
    // Once for each state is enough.
    if *event != Event::Resume {
        return;
    }
    assert!(step(after, Event::Resume).1.contains(&Effect::Guard), "{said}");
    for verdict in [Verdict::Watching, Verdict::Good, Verdict::Undecided] {
        assert_eq!(step(after, Event::Judged(judgement(verdict))), (after.clone(), vec![]), "{said}");
    }
    let (found, effects) = step(after, Event::Judged(judgement(Verdict::Bad)));
    assert!(found.returning && found.live() == after.live(), "{said}");
    if !after.returning {
        assert!(matches!(effects[..], [Effect::Check(color, _)] if color == after.from), "{said}");
        assert_ne!(found.phase, Phase::Paused, "whoever approves what he has not seen is not heard: {said}");
        assert_eq!(found.evidence.reasons, ["Bad"], "{said}");
    }
    let (back, _) = step(&found, Event::Health(after.from, Readiness::Ready, vec![]));
    assert_eq!(back.phase, Phase::RollBack, "{said}");
}

/// Once an operator has said to keep the new color, only an operator takes it back.
fn what_is_kept_is_not_asked_about_again((before, event): (&Cutover, &Event), after: &Cutover, effects: &[Effect]) {
    let said = || format!("{before:?} {event:?} {after:?}");
    if let Event::Approve { .. } = event
        && before.phase == Phase::Paused
        && before.live() == before.to
        && before != after
    {
        let phase = if before.drained().is_none() { Phase::Drain } else { after.phase };
        assert_eq!((after.kept, after.returning, after.phase), (true, false, phase), "{}", said());
        assert!(after.evidence.reasons[0].contains("says to keep green, although: "), "{}", said());
    }
    if !after.kept {
        return;
    }
    assert!(
        !matches!(after.phase, Phase::Paused | Phase::Bake) && !after.is_on_trial() && !after.must_return(),
        "{}",
        said()
    );
    assert!(!effects.contains(&Effect::Judge) && !effects.contains(&Effect::Guard), "{}", said());
    let is_told = after.evidence.reasons.iter().any(|reason| reason.contains("says to keep green, although: "));
    assert!(is_told, "{}", said());
    if before.kept && after.live() != before.live() {
        assert!(before.asked_back.is_some(), "{}", said());
    }
}

fn deadlines_lead_back((before, event): (&Cutover, &Event), after: &Cutover, effects: &[Effect]) {
    if *event != Event::DeadlinePassed {
        return;
    }
    let leads_back = after.phase == Phase::Aborted || after.returning || after.overdue;
    assert_eq!(
        leads_back,
        before.is_on_trial() || before.phase == Phase::Aborted || before.returning || before.overdue,
        "{before:?}"
    );
    // Once is enough, and what is on its way back stays on it.
    let (again, _) = step(after, Event::DeadlinePassed);
    assert_eq!(again, *after, "{before:?} {effects:?}");
}

#[test]
fn a_restart_repeats_the_phase_and_changes_nothing() {
    for (before, event, after, effects) in all_steps() {
        let resumed = step(&after, Event::Resume);
        assert_eq!(resumed.0, after);
        // What is due on entering a state is what a restart in it makes due again.
        if before.phase != after.phase && event != Event::Resume {
            let repeated: HashSet<_> = resumed.1.iter().collect();
            let later = |effect: &Effect| matches!(effect, Effect::CheckLater(..));
            let lost: Vec<_> = effects.iter().filter(|effect| !later(effect) && !repeated.contains(effect)).collect();
            assert!(lost.is_empty(), "{before:?} {event:?}: {lost:?} is not repeated");
        }
        // Nobody is waited for but an operator.
        let waits_for_operator = after.phase == Phase::Paused && !after.returning;
        let waits = resumed.1.iter().all(|effect| matches!(effect, Effect::Share(_) | Effect::Guard));
        assert_eq!(waits, after.phase.ends() || waits_for_operator, "{after:?}");
    }
}

#[test]
fn from_every_state_there_is_a_way_to_an_end() {
    let (states, steps) = walk(whole_course());
    let name = key;
    let mut into: HashMap<String, Vec<String>> = HashMap::new();
    for (before, _, after, _) in &steps {
        into.entry(name(after)).or_default().push(name(before));
    }
    let mut ending: HashSet<String> = HashSet::new();
    let mut open: Vec<String> = states.iter().filter(|state| state.phase.ends()).map(name).collect();
    while let Some(state) = open.pop() {
        if ending.insert(state.clone()) {
            open.extend(into.get(&state).into_iter().flatten().cloned());
        }
    }
    for state in &states {
        assert!(ending.contains(&name(state)), "{state:?} never ends");
    }
}

#[test]
fn a_rollback_cannot_be_rolled_back() {
    for (before, event, after, effects) in walk(begun(Kind::Rollback, Outline::default(), &[])).1 {
        if matches!(event, Event::Rollback { .. }) {
            assert_eq!((before, effects), (after, vec![]));
        }
    }
}

#[test]
fn who_asked_for_the_way_back_and_why_is_told_where_it_is_taken_and_forgotten_where_it_is_not() {
    let mut seen = 0;
    for (before, event, after, _) in all_steps() {
        if !matches!(event, Event::Rollback { .. }) || after.asked_back.is_none() || before.asked_back.is_some() {
            continue;
        }
        let told = |readiness| step(&after, Event::Health(after.from, readiness, vec![])).0;
        let back = told(Readiness::Ready);
        assert_eq!((back.phase, &back.evidence.reasons[0][..]), (Phase::RollBack, "rolled back by uid 0: errors"));
        assert_eq!(told(Readiness::Unready(vec!["down".into()])).asked_back, None, "{after:?}");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn while_neither_color_is_good_nothing_moves_and_the_first_good_moment_takes_everyone_back() {
    let mut seen = 0;
    for (before, event, after, effects) in all_steps() {
        let not_ready = matches!(&event, Event::Health(color, readiness, _) if *color == before.from && *readiness != Readiness::Ready);
        if !before.returning || !not_ready {
            continue;
        }
        assert_eq!(after.live(), before.live());
        if before.must_return() || before.step.is_some() {
            assert_eq!((after.phase, after.returning), (Phase::Paused, true), "{before:?}");
            let (last, others) = effects.split_last().unwrap();
            assert!(matches!(last, Effect::CheckLater(color, _) if *color == before.from), "{before:?}");
            assert!(others.iter().all(|effect| *effect == Effect::Guard), "{before:?}");
            assert!(
                after.evidence.reasons.iter().any(|reason| reason.contains("blue is not good either")),
                "{after:?}"
            );
            let ready = Event::Health(before.from, Readiness::Ready, vec![]);
            assert_eq!(step(&after, ready).0.phase, Phase::RollBack, "{after:?}");
            seen += 1;
        } else {
            let found = before.evidence.judged.as_ref().filter(|_| before.phase == Phase::Bake).cloned();
            let asked_no_more = Cutover { returning: false, asked_back: None, ..before.clone() };
            let as_if_found_then = found.map(|judged| step(&asked_no_more, Event::Judged(judged)));
            assert_eq!((after, effects), as_if_found_then.unwrap_or((asked_no_more, vec![])), "{before:?}");
        }
    }
    assert!(seen > 10, "{seen}");
}

/// Takes these steps, one after the other.
fn take(course: &Cutover, events: &[Event]) -> Cutover {
    events.iter().fold(course.clone(), |cutover, event| step(&cutover, event.clone()).0)
}

#[test]
fn the_whole_course_is_gone_step_by_step() {
    let (at, ready) = (Timestamp::UNIX_EPOCH, || Event::Health(Color::Green, Readiness::Ready, vec![]));
    let pass = |place: usize| Event::Gate(gates()[place].decided(true, at, "yes"));
    let Event::Published(_, switched) = events().into_iter().nth(3).unwrap() else { panic!("not published") };
    let Event::Drained(_, drained) = events().into_iter().nth(4).unwrap() else { panic!("not drained") };
    let good = || Event::Judged(judgement(Verdict::Good));
    let mut cutover = whole_course();
    let mut phases = Vec::new();
    for event in [
        ready(),
        pass(1),
        Event::Approve { by: "uid 0".into(), at, gate: None },
        Event::Warmed(Warmed::default(), vec![]),
        good(),
        good(),
        Event::Ramped,
        Event::Ramped,
        ready(),
        Event::Published(Color::Green, switched),
        Event::Drained(Color::Blue, drained),
        good(),
        Event::Followed(vec![]),
    ] {
        cutover = take(&cutover, &[event]);
        phases.push(cutover.phase);
    }
    use Phase::*;
    assert_eq!(phases, [Gates, Gates, Warm, Canary, Canary, Ramp, Ramp, Confirm, Switch, Drain, Bake, Dns, Done]);
    assert_eq!((cutover.generation(), cutover.live()), (8, Color::Green));
}

#[test]
fn a_journal_of_before_is_read_as_what_it_meant() {
    let line = r#"{"id":"c1","service":"shop","kind":"switch","from":"blue","to":"green","by":"uid 0",
        "started":"1970-01-01T00:00:00Z","generation":7,"phase":"prepare","evidence":{}}"#;
    let read: Cutover = serde_json::from_str(line).unwrap();
    assert_eq!(read, begun(Kind::Switch, Outline::default(), &[]));
    let told = serde_json::to_string(&read).unwrap();
    assert!(!told.contains("outline") && !told.contains("gates") && !told.contains("overdue"), "{told}");
}

/// A cutover that bakes, at the beginning of its drain.
fn draining() -> Cutover {
    let course = begun(Kind::Switch, Outline { bake: true, ..Outline::default() }, &[]);
    let Event::Published(_, switched) = events().into_iter().nth(3).unwrap() else { panic!("not published") };
    let ready = Event::Health(Color::Green, Readiness::Ready, vec![]);
    take(&course, &[ready, Event::Published(Color::Green, switched)])
}

#[test]
fn one_that_pauses_in_its_drain_is_drained_once_an_operator_keeps_it() {
    let Event::Drained(_, drained) = events().into_iter().nth(4).unwrap() else { panic!("not drained") };
    let (down, at) =
        (Event::Health(Color::Blue, Readiness::Unready(vec!["down".into()]), vec![]), Timestamp::UNIX_EPOCH);
    let approve = Event::Approve { by: "uid 0".into(), at, gate: None };
    for bad in [Event::Judged(judgement(Verdict::Bad)), Event::DeadlinePassed] {
        let paused = take(&draining(), &[bad.clone(), down.clone()]);
        assert_eq!((paused.phase, paused.paused, paused.drained()), (Phase::Paused, Some(Stop::Bake), None));
        let (kept, effects) = step(&paused, approve.clone());
        assert_eq!((kept.phase, effects), (Phase::Drain, vec![Effect::Drain(Color::Blue)]), "{bad:?}");
        assert_eq!(kept.switched(), draining().switched(), "what is counted from is known still");
        let done = take(&kept, &[Event::DeadlinePassed, bad, Event::Drained(Color::Blue, drained.clone())]);
        assert_eq!((done.phase, done.drained()), (Phase::Done, Some(&drained)));
        assert_eq!(done.evidence.reasons, kept.evidence.reasons);
    }
}

#[test]
fn who_approves_a_gate_by_its_name_lets_nothing_else_go_on() {
    let at = Timestamp::UNIX_EPOCH;
    let approve = |gate: &str| Event::Approve { by: "uid 0".into(), at, gate: Some(gate.into()) };
    let course = begun(Kind::Switch, Outline { canary: 1, ..Outline::default() }, &[]);
    let ready = Event::Health(Color::Green, Readiness::Ready, vec![]);
    let canary = take(&course, &[ready, Event::Judged(judgement(Verdict::Undecided))]);
    let bake = take(&draining(), &[Event::Judged(judgement(Verdict::Undecided)), events()[4].clone()]);
    for paused in [canary, bake] {
        assert_eq!(paused.phase, Phase::Paused);
        assert_eq!(step(&paused, approve("qa")), (paused, vec![]));
    }
}

#[test]
fn an_abort_of_one_that_cannot_go_back_still_says_why_it_cannot() {
    let course = begun(Kind::Switch, Outline { canary: 1, ..Outline::default() }, &[]);
    let health = |color, readiness| Event::Health(color, readiness, vec![]);
    let events = [
        health(Color::Green, Readiness::Ready),
        Event::Judged(judgement(Verdict::Bad)),
        health(Color::Blue, Readiness::Unready(vec!["down".into()])),
        Event::Abort { by: "uid 0".into() },
    ];
    let stuck = take(&course, &events);
    assert_eq!((stuck.phase, stuck.returning), (Phase::Paused, true));
    assert_eq!(stuck.evidence.reasons, ["aborted by uid 0", "blue is not good either: down"]);
}

#[test]
fn what_is_found_bad_just_as_an_operator_lets_it_go_on_is_not_lost() {
    let course = begun(Kind::Switch, Outline { canary: 1, ..Outline::default() }, &[]);
    let (ready, at) = (Event::Health(Color::Green, Readiness::Ready, vec![]), Timestamp::UNIX_EPOCH);
    let paused = take(&course, &[ready, Event::Judged(judgement(Verdict::Undecided))]);
    let (approve, bad) =
        (Event::Approve { by: "uid 0".into(), at, gate: None }, Event::Judged(judgement(Verdict::Bad)));
    assert_eq!(paused.phase, Phase::Paused);
    for (events, phase) in [([&approve, &bad], Phase::Confirm), ([&bad, &approve], Phase::Canary)] {
        let turned = events.into_iter().fold(paused.clone(), |cutover, event| step(&cutover, event.clone()).0);
        assert_eq!((turned.phase, turned.returning), (phase, true));
        assert_eq!(turned.evidence.reasons, ["Bad"]);
    }
}

#[test]
fn one_that_is_undecided_before_the_old_color_is_empty_is_looked_at_until_an_operator_comes() {
    let (undecided, effects) = step(&draining(), Event::Judged(judgement(Verdict::Undecided)));
    assert_eq!((undecided.phase, effects), (Phase::Drain, vec![Effect::Guard]));
    let (turned, effects) = step(&undecided, Event::Judged(judgement(Verdict::Bad)));
    assert_eq!((turned.phase, turned.returning), (Phase::Drain, true));
    assert_eq!(effects, [Effect::Check(Color::Blue, Bar::Fit)]);
}
