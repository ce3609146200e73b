//! What a look at a stack asks for: one thing to do, something to wait for, the next step, or an end. Pure.

use super::act::Act;
use super::order::{Capacity, Order, Step, Verb};
use super::provider::{App, Deployment, DeploymentState, Instance, InstanceState, Stack, Wanted};
use crate::config::StackRules;

/// What was found; of what the step does not need, nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// The color's stack.
    pub own: Option<Stack>,
    /// The other color's.
    pub source: Option<Stack>,
    pub deployments: Vec<Deployment>,
    /// The color's endpoints, as the proxy itself sees them.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of the color, by the proxy's own health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Without the port: this is what instances and endpoints have in common.
    pub ip: String,
    pub is_up: bool,
    /// Such as `10.0.0.3:80 is down: connection refused`.
    pub says: String,
}

/// What is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    Do(Box<Act>),
    /// For this, and then it is looked again.
    Wait(String),
    /// The step has got where it was going.
    Passed,
    /// It never will: why, and what to do.
    Refuse(String),
}

/// What the step needs, as things stand.
pub fn next(order: &Order, rules: &StackRules, look: &Look) -> Next {
    let Order { step, site, color, .. } = order;
    let Some(own) = &look.own else {
        return match step {
            Step::Clone => clone(order, rules, look),
            _ if order.evidence.stack.is_some() => {
                Next::Refuse(format!("the stack {} is gone; look who has deleted it", site.stack))
            }
            _ => Next::Refuse(format!(
                "there is no {} `{}`: does the config say the right name for {color}?{}",
                site.provider.word(),
                site.stack,
                remedy(order)
            )),
        };
    };
    // Whatever was done to it would be done to the other color too, which may be live.
    if order.source.as_ref().is_some_and(|source| *source == own.id || *source == own.name) {
        return Next::Refuse(format!("blue and green are one stack, {}: give each its own in the config", own.name));
    }
    match (step, own.capacity) {
        (Step::Clone, _) => Next::Passed,
        (Step::Instances, _) => instances(order, own, look.source.as_ref()),
        (Step::Start, None) => start(order, own),
        (Step::Start, Some(capacity)) => grow(order, own, capacity, look.source.as_ref()),
        (Step::Deploy, _) => deploy(order, rules, own, &look.deployments),
        (Step::Healthy, _) => healthy(order, own, &look.endpoints),
        (Step::Stop, None) => stop(order, own),
        (Step::Stop, Some(capacity)) => shrink(own, capacity),
    }
}

/// The app that is deployed: the one that the config names, or the only one there is.
pub fn app<'a>(stack: &'a Stack, rules: &StackRules) -> Result<&'a App, String> {
    let names = || stack.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", ");
    match (&rules.app, stack.apps.as_slice()) {
        (_, []) => Err(format!("the stack {} has no app: add one, and give the order again", stack.name)),
        (Some(wanted), apps) => apps.iter().find(|app| app.name == *wanted || app.id == *wanted).ok_or_else(|| {
            format!("the stack {} has no app `{wanted}`, as the config wants it; it has {}", stack.name, names())
        }),
        (None, [only]) => Ok(only),
        (None, _) => {
            let stack = &stack.name;
            Err(format!("the stack {stack} has several apps, {}: say which one with `app` under `stacks`", names()))
        }
    }
}

fn remedy(order: &Order) -> String {
    let can = order.source.is_some() && !Verb::Clone.steps(order.site.provider).is_empty();
    match can {
        true => format!(" `cutover stack prepare {}` makes one like the other color's", order.color),
        false => String::new(),
    }
}

fn clone(order: &Order, rules: &StackRules, look: &Look) -> Next {
    let name = &order.site.stack;
    if order.evidence.stack.is_some() {
        return Next::Wait(format!("{name} has been cloned and does not show yet"));
    }
    let Some(source) = &look.source else {
        return Next::Refuse(match &order.source {
            Some(source) => format!("there is neither `{name}` nor `{source}`, which it would be cloned from"),
            None => format!("there is no stack `{name}`, and the other color is none that it could be cloned from"),
        });
    };
    if is_id(name) {
        return Next::Refuse(format!(
            "there is no stack with the id {name}, and one that is cloned gets another id: write the name that it is to \
             have in the config"
        ));
    }
    // What cannot be deployed in the end need not be begun.
    if order.steps().contains(&Step::Deploy)
        && let Err(why) = app(source, rules)
    {
        return Next::Refuse(why);
    }
    Next::Do(Box::new(Act::Clone { source: source.clone(), name: name.clone() }))
}

fn instances(order: &Order, own: &Stack, source: Option<&Stack>) -> Next {
    let is_there = |like: &Instance| own.instances.iter().any(|own| own.name == like.name && is_left(own));
    let like = |source: &Stack| source.instances.iter().find(|like| is_left(like) && !is_there(like)).cloned();
    match source.and_then(like) {
        None => Next::Passed,
        Some(like) if order.evidence.added.contains(&like.name) => {
            Next::Wait(format!("{} has been added and does not show yet", like.name))
        }
        Some(like) => Next::Do(Box::new(Act::Add { stack: own.clone(), like })),
    }
}

fn start(order: &Order, own: &Stack) -> Next {
    let all: Vec<&Instance> = own.instances.iter().filter(|one| is_left(one) && !one.is_automatic).collect();
    if own.instances.iter().all(|one| !is_left(one)) {
        return Next::Refuse(format!("the stack {} has no instances: add some, and give the order again", own.name));
    }
    if let Some(failed) = failed(&all) {
        return Next::Refuse(format!(
            "{failed}; look at its log at the provider, repair or delete it there, and give the order again"
        ));
    }
    let stopped = |one: &&&Instance| one.state == InstanceState::Stopped && !order.evidence.started.contains(&one.id);
    if let Some(stopped) = all.iter().find(stopped) {
        return Next::Do(Box::new(Act::Start((*stopped).clone())));
    }
    wait_for(&all, &[InstanceState::Online], "online")
}

fn stop(order: &Order, own: &Stack) -> Next {
    let all: Vec<&Instance> = own.instances.iter().filter(|one| is_left(one)).collect();
    let is_asked = |one: &&&Instance| order.evidence.stopped.contains(&one.id);
    let failed: Vec<&Instance> =
        all.iter().filter(|one| one.state == InstanceState::Failed && is_asked(one)).copied().collect();
    if let Some(failed) = self::failed(&failed) {
        return Next::Refuse(format!("{failed}; stop it at the provider, and give the order again"));
    }
    // What has failed may still run, and comes last: where it cannot be stopped, the others are.
    for state in [InstanceState::Online, InstanceState::Failed] {
        if let Some(running) = all.iter().find(|one| one.state == state && !is_asked(one)) {
            return Next::Do(Box::new(Act::Stop((*running).clone())));
        }
    }
    wait_for(&all, &[InstanceState::Stopped], "stopped")
}

/// A group is to have at least what the other color's has now, and never less than it has itself.
fn grow(order: &Order, own: &Stack, found: Wanted, source: Option<&Stack>) -> Next {
    let wanted = match (order.evidence.capacity, source.and_then(|source| source.capacity)) {
        (Some(Capacity { to, .. }), _) => to,
        (None, like) => {
            let like = like.unwrap_or(found);
            let desired = found.desired.max(like.desired);
            Wanted { min: found.min.max(like.min), desired, max: found.max.max(desired) }
        }
    };
    if wanted.desired == 0 {
        let name = &own.name;
        return Next::Refuse(format!(
            "the group {name} is to have no instances, and the other color gives no example: set its desired capacity"
        ));
    }
    let is_set = order.evidence.capacity.is_some_and(|capacity| capacity.is_set);
    if !is_set && found != wanted {
        return Next::Do(Box::new(Act::SetCapacity { stack: own.clone(), wanted }));
    }
    let online = own.instances.iter().filter(|one| one.state == InstanceState::Online).count();
    // The group itself replaces what fails.
    match u32::try_from(online).is_ok_and(|online| online >= wanted.desired) {
        true => Next::Passed,
        false => Next::Wait(format!(
            "{online} of {} instances are in service{}",
            wanted.desired,
            listed(own.instances.iter().filter(|one| is_left(one) && one.state != InstanceState::Online))
        )),
    }
}

fn shrink(own: &Stack, found: Wanted) -> Next {
    let wanted = Wanted { min: 0, desired: 0, max: found.max };
    if found != wanted {
        return Next::Do(Box::new(Act::SetCapacity { stack: own.clone(), wanted }));
    }
    wait_for(&own.instances.iter().filter(|one| is_left(one)).collect::<Vec<_>>(), &[], "gone")
}

fn deploy(order: &Order, rules: &StackRules, own: &Stack, deployments: &[Deployment]) -> Next {
    let app = match app(own, rules) {
        Ok(app) => app,
        Err(why) => return Next::Refuse(why),
    };
    match deployments.iter().find(|deployment| deployment.comment.starts_with(&order.mark())) {
        Some(Deployment { state: DeploymentState::Successful, .. }) => Next::Passed,
        Some(Deployment { id, state: DeploymentState::Running, .. }) => {
            Next::Wait(format!("{} is being deployed (deployment {id})", app.name))
        }
        Some(Deployment { id, state: DeploymentState::Failed, .. }) => Next::Refuse(format!(
            "the deployment {id} of {} failed; look at its log at the provider, and give the order again",
            app.name
        )),
        None if order.evidence.deployment.is_some() => Next::Wait("the deployment does not show yet".to_owned()),
        None if !own.instances.iter().any(|one| one.state == InstanceState::Online) => Next::Refuse(format!(
            "no instance of {} is online, and only those are deployed to: `cutover stack start {}`",
            own.name, order.color
        )),
        None => Next::Do(Box::new(Act::Deploy { stack: own.clone(), app: app.clone(), comment: order.comment() })),
    }
}

/// Every instance that is online has to be an endpoint that passes its checks, and there has to be one.
fn healthy(order: &Order, own: &Stack, endpoints: &[Endpoint]) -> Next {
    let online = || own.instances.iter().filter(|one| one.state == InstanceState::Online);
    // A layer that goes by its id is told from the others by nobody here: then all of them count.
    let layer = order.site.layer.as_ref().filter(|layer| own.instances.iter().any(|one| one.layers.contains(layer)));
    let is_of_layer = |one: &&Instance| layer.is_none_or(|layer| one.layers.contains(layer));
    let ours: Vec<&Instance> = online().filter(is_of_layer).collect();
    let of = |one: &Instance| endpoints.iter().filter(|it| one.address.as_ref() == Some(&it.ip)).collect::<Vec<_>>();
    let unknown = ours.iter().filter(|one| of(one).is_empty()).map(|one| match &one.address {
        Some(address) => format!("{} ({address}) is not discovered yet", one.name),
        None => format!("{} has no address yet", one.name),
    });
    // An endpoint of the color that is no instance of this stack is not of this order.
    let down = ours.iter().flat_map(|one| of(one)).filter(|endpoint| !endpoint.is_up).map(|it| it.says.clone());
    let missing: Vec<String> = unknown.chain(down).collect();
    match (ours.is_empty(), missing.is_empty()) {
        (true, _) => Next::Wait("no instance is online".to_owned()),
        (false, true) => Next::Passed,
        (false, false) => Next::Wait(missing.join("; ")),
    }
}

/// Nothing, once all are in one of these states.
fn wait_for(all: &[&Instance], states: &[InstanceState], word: &str) -> Next {
    let missing: Vec<&Instance> = all.iter().filter(|one| !states.contains(&one.state)).copied().collect();
    match missing.len() {
        0 => Next::Passed,
        left => Next::Wait(format!(
            "{} of {} instances are {word}{}",
            all.len() - left,
            all.len(),
            listed(missing.into_iter())
        )),
    }
}

fn failed(all: &[&Instance]) -> Option<String> {
    let failed: Vec<String> = all
        .iter()
        .filter(|one| one.state == InstanceState::Failed)
        .map(|one| format!("{} is {}", one.name, one.says))
        .collect();
    (!failed.is_empty()).then(|| failed.join(", "))
}

fn listed<'a>(instances: impl Iterator<Item = &'a Instance>) -> String {
    let all: Vec<String> = instances.map(|one| format!("{} is {}", one.name, one.says)).collect();
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len() {
        0 => String::new(),
        count if count > SHOWN => format!(": {shown}, and {} more", count - SHOWN),
        _ => format!(": {shown}"),
    }
}

fn is_left(instance: &Instance) -> bool {
    instance.state != InstanceState::Gone
}

/// As OpsWorks writes one: 8-4-4-4-12 hexadecimal digits.
fn is_id(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Instances that are named in one sentence.
const SHOWN: usize = 8;
