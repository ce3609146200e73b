//! The machine walked: every state that can be reached, by every event, from every verb, and what must hold in each.

use std::collections::{HashSet, VecDeque};

use super::act::Call;
use super::machine::{Effect, Event, step};
use super::order::{Doubt, Evidence, Kind, Order, Outcome, Stage, Step, Verb};
use super::plan::{Endpoint, Look};
use super::provider::{Deployment, DeploymentState, InstanceState, ProviderError, Stack, Wanted};
use super::scene::{group, obstacle, sites, stack};
use crate::config::StackRules;
use crate::names::Color;
use crate::time::Timestamp;

/// From, what happened, to, and what became due.
struct Walked {
    before: Order,
    event: Event,
    after: Order,
    effect: Option<Effect>,
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + minutes * 60).unwrap()
}

fn begun(verb: Verb, kind: Kind, force: bool) -> Option<Order> {
    Some(Order {
        id: "shop-stack-1".into(),
        service: "shop".parse().unwrap(),
        verb,
        color: Color::Green,
        site: sites(kind)[Color::Green].clone().unwrap(),
        source: Some("shop-blue".into()),
        by: "uid 0".into(),
        reason: None,
        force: force.then(|| "we know".into()),
        overridden: Vec::new(),
        started: at(0),
        ended: None,
        outcome: None,
        why: None,
        step: *verb.steps(kind).first()?,
        since: at(0),
        stage: Stage::Look,
        doubt: None,
        evidence: Evidence::default(),
        says: None,
        instances: Vec::new(),
        tries: 0,
        refused: None,
    })
}

/// Green in every way that a foreman may find it.
fn greens(kind: Kind) -> Vec<Option<Stack>> {
    let wanted = |desired| Wanted { min: 0, desired, max: 4 };
    if kind == Kind::Asg {
        let with = |desired, state| {
            let mut instances = stack("shop-green", &["web1"]).instances;
            instances[0].state = state;
            Some(Stack { instances, ..group("shop-green", wanted(desired)) })
        };
        let states = [InstanceState::Starting, InstanceState::Online, InstanceState::Stopping, InstanceState::Gone];
        let all = states.into_iter().flat_map(|state| [with(0, state), with(1, state)]);
        return all.chain([None, Some(group("shop-green", wanted(0)))]).collect();
    }
    let with = |state, hosts: &[&str]| {
        let mut stack = stack("shop-green", hosts);
        stack.instances.iter_mut().for_each(|instance| instance.state = state);
        Some(stack)
    };
    let states = [
        InstanceState::Stopped,
        InstanceState::Starting,
        InstanceState::Online,
        InstanceState::Stopping,
        InstanceState::Failed,
        InstanceState::Gone,
    ];
    let all = states.into_iter().flat_map(|state| [with(state, &["web1"]), with(state, &["web1", "web2"])]);
    all.chain([None, with(InstanceState::Online, &[])]).collect()
}

fn events(kind: Kind) -> Vec<Event> {
    let errors = || {
        let says = || "so".to_owned();
        [
            ProviderError::Busy(says()),
            ProviderError::Refused(says()),
            ProviderError::Unreachable(says()),
            ProviderError::Unknown(says()),
        ]
    };
    let blue = match kind {
        Kind::OpsWorks => stack("shop-blue", &["web1", "web2"]),
        Kind::Asg => group("shop-blue", Wanted { min: 1, desired: 1, max: 2 }),
    };
    let deployments =
        [None, Some(DeploymentState::Running), Some(DeploymentState::Successful), Some(DeploymentState::Failed)];
    let mut all = vec![Event::Resume, Event::Abort("uid 7".into()), Event::Disowned];
    for own in greens(kind) {
        for state in deployments {
            for is_up in [false, true] {
                let comment = "cutover shop-stack-1".to_owned();
                let deployments = state.map(|state| Deployment { id: "d".into(), comment: comment.clone(), state });
                let address = own.iter().flat_map(|own| &own.instances).find_map(|one| one.address.clone());
                let endpoint = address.map(|ip| Endpoint { ip, is_up, says: "so".into() });
                let (source, deployments) = (Some(blue.clone()), deployments.into_iter().collect());
                let endpoints = endpoint.into_iter().collect();
                all.push(Event::Looked(Ok(Box::new(Look { own: own.clone(), source, deployments, endpoints }))));
            }
        }
    }
    all.push(Event::Looked(Ok(Box::default())));
    all.extend(errors().map(|error| Event::Looked(Err(error))));
    all.extend(errors().map(|error| Event::Did(Err(error))));
    all.extend([None, Some("made".to_owned())].map(|id| Event::Did(Ok(id))));
    all.push(Event::Barred(vec![obstacle("tail", false)]));
    all.push(Event::Barred(vec![obstacle("live", true)]));
    all
}

/// What decides about what comes: how often, and when exactly, is no state of its own.
fn key(order: &Order) -> String {
    let Order { step, stage, doubt, overridden, outcome, evidence, refused, .. } = order;
    let doubt = doubt.as_ref().map(|doubt| &doubt.call);
    let Evidence { added, started, stopped, deployment, capacity, stack, .. } = evidence;
    let sets = [added, started, stopped].map(|names| names.iter().collect::<std::collections::BTreeSet<_>>());
    let refused = refused.as_ref().map(|(call, _)| call);
    format!(
        "{step:?} {stage:?} {doubt:?} {} {outcome:?} {refused:?} {sets:?} {} {capacity:?} {}",
        overridden.len(),
        deployment.is_some(),
        stack.is_some(),
    )
}

fn walk(begun: Order) -> Vec<Walked> {
    let (rules, events) = (StackRules::default(), events(begun.site.provider));
    let mut known = HashSet::from([key(&begun)]);
    let (mut open, mut walked) = (VecDeque::from([begun]), Vec::new());
    while let Some(before) = open.pop_front() {
        for event in events.iter().filter(|event| can_come(&before, event)) {
            for minutes in [0, 5, 60] {
                let now = before.since.checked_add(std::time::Duration::from_secs(minutes * 60)).unwrap();
                let (after, effect) = step(&before, &rules, event.clone(), now);
                if known.insert(key(&after)) {
                    // Time goes on from the same moment in every state: how late it is, is tried in each.
                    open.push_back(after.clone());
                }
                walked.push(Walked { before: before.clone(), event: event.clone(), after, effect });
            }
        }
        assert!(known.len() < 5_000, "{} states", known.len());
    }
    walked
}

/// A look finds only what its step needs.
fn can_come(before: &Order, event: &Event) -> bool {
    let Event::Looked(Ok(look)) = event else { return true };
    (before.step == Step::Deploy || look.deployments.is_empty())
        && (before.step == Step::Healthy || look.endpoints.iter().all(|endpoint| endpoint.is_up))
}

fn all() -> Vec<Walked> {
    let kinds = [Kind::OpsWorks, Kind::Asg];
    let begun = kinds.into_iter().flat_map(|kind| {
        let forced = [(Verb::Stop, true), (Verb::Deploy, true)];
        let verbs = Verb::ALL.map(|verb| (verb, false)).into_iter().chain(forced);
        verbs.filter_map(move |(verb, force)| begun(verb, kind, force))
    });
    begun.flat_map(walk).collect()
}

#[test]
fn the_machine_keeps_its_promises_in_every_state() {
    let walked = all();
    assert!(walked.len() > 5_000, "{}", walked.len());
    for it in &walked {
        what_has_ended_stays_and_what_has_not_waits_for_something(it);
        steps_follow_one_another(it);
        nothing_is_done_that_a_look_did_not_ask_for(it);
        a_call_in_doubt_is_not_made_again_before_its_time(it);
        what_was_done_once_is_not_done_again(it);
        an_end_says_why(it);
        a_restart_changes_nothing_but_what_is_known(it);
        nobody_is_overruled_without_a_reason(it);
    }
    from_every_state_there_is_a_way_to_the_end(&walked);
}

fn what_has_ended_stays_and_what_has_not_waits_for_something(Walked { before, event, after, effect }: &Walked) {
    match (before.outcome, after.outcome) {
        (Some(_), _) => assert_eq!((before, None), (after, effect.as_ref()), "{event:?}"),
        (None, Some(_)) => assert_eq!((effect, after.ended.is_some()), (&None, true), "{event:?}"),
        // An answer to what nobody asked is no answer.
        (None, None) if effect.is_none() => assert_eq!(before, after, "{event:?} leaves it waiting for nothing"),
        (None, None) => {
            let does = matches!(effect, Some(Effect::Do(_)));
            assert_eq!(does, matches!(after.stage, Stage::Do(_)), "{event:?} {after:?}");
        }
    }
}

fn steps_follow_one_another(Walked { before, event, after, .. }: &Walked) {
    let place = |order: &Order| order.steps().iter().position(|step| *step == order.step).unwrap();
    assert!((place(before)..=place(before) + 1).contains(&place(after)), "{event:?}");
    if after.outcome == Some(Outcome::Done) {
        assert_eq!(place(after) + 1, after.steps().len());
    }
    if before.step != after.step {
        assert!(matches!(event, Event::Looked(Ok(_))), "only what was seen ends a step: {event:?}");
    }
}

fn nothing_is_done_that_a_look_did_not_ask_for(Walked { before, event, after, effect }: &Walked) {
    let Some(Effect::Do(act)) = effect else { return };
    assert!(matches!(event, Event::Looked(Ok(_))), "{event:?}");
    assert_eq!(after.stage, Stage::Do(act.call()));
    assert!(after.moved(before), "the journal knows before it is done");
}

fn a_call_in_doubt_is_not_made_again_before_its_time(Walked { before, after, effect, .. }: &Walked) {
    if let (Some(Doubt { call, .. }), Some(Effect::Do(act))) = (&before.doubt, effect)
        && act.call() == *call
    {
        // The walk looks at once, after five minutes and after an hour; the doubt is over after one.
        assert_eq!(after.doubt, None);
    }
    let left = matches!((&before.stage, &after.stage), (Stage::Do(_), Stage::Look));
    if left && after.outcome == Some(Outcome::Aborted) {
        let Stage::Do(call) = &before.stage else { panic!() };
        assert_eq!(after.doubt.as_ref().map(|doubt| &doubt.call), Some(call), "the next order has to know");
    }
}

fn what_was_done_once_is_not_done_again(Walked { before, effect, .. }: &Walked) {
    let Some(Effect::Do(act)) = effect else { return };
    let Evidence { added, started, stopped, deployment, is_cloned, .. } = &before.evidence;
    let was_done = match act.call() {
        Call::Clone { .. } => *is_cloned,
        Call::Add { host, .. } => added.contains(&host),
        Call::Start { id, .. } => started.contains(&id),
        Call::Stop { id, .. } => stopped.contains(&id),
        Call::Deploy { .. } => deployment.is_some(),
        Call::SetCapacity { .. } => false,
    };
    assert!(!was_done, "{:?} after {:?}", act.call(), before.evidence);
}

fn an_end_says_why(Walked { after, .. }: &Walked) {
    match after.outcome {
        Some(Outcome::Failed | Outcome::Aborted) => assert!(after.why.as_ref().is_some_and(|why| why.len() > 1)),
        Some(Outcome::Done) | None => assert_eq!(after.why, None),
    }
}

fn a_restart_changes_nothing_but_what_is_known(Walked { before, event, after, effect }: &Walked) {
    if *event == Event::Resume && before.outcome.is_none() {
        assert_eq!((before.step, &before.evidence, &Some(Effect::Look)), (after.step, &after.evidence, effect));
    }
}

fn nobody_is_overruled_without_a_reason(Walked { before, after, .. }: &Walked) {
    if before.overridden != after.overridden {
        assert!(after.force.is_some() && after.overridden.iter().all(|obstacle| !obstacle.is_final));
    }
}

fn from_every_state_there_is_a_way_to_the_end(walked: &[Walked]) {
    let whole =
        |order: &Order| format!("{:?} {:?} {} {}", order.verb, order.site.provider, order.force.is_some(), key(order));
    let ways: HashSet<[String; 2]> = walked.iter().map(|it| [whole(&it.before), whole(&it.after)]).collect();
    let is_end = |it: &&Walked| it.after.outcome.is_some() && !matches!(it.event, Event::Abort(_) | Event::Disowned);
    let mut ends: HashSet<String> = walked.iter().filter(is_end).map(|it| whole(&it.after)).collect();
    loop {
        let more: Vec<String> = ways
            .iter()
            .filter(|[before, after]| ends.contains(after) && !ends.contains(before))
            .map(|[before, _]| before.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        ends.extend(more);
    }
    for Walked { before, .. } in walked {
        assert!(ends.contains(&whole(before)), "{before:?} never ends");
    }
}
