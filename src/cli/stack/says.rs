//! What is said of stacks, and of orders to them, to people.

use crate::cli::out;
use crate::cli::status::{clock, since};
use crate::names::Color;
use crate::stack::{InstanceState, Kind, Listed, Order, OrderView, Outcome, Site, Status as Stacks, Step};
use crate::time::{Human, Timestamp};

/// What an order is at, in one line.
pub fn step(view: &OrderView, now: Timestamp) -> String {
    let Order { service, verb, color, step, started, .. } = &view.order;
    let says = view.says.as_ref().map(|says| format!(": {says}")).unwrap_or_default();
    let (verb, step) = (verb.as_str(), step.as_str());
    format!("{service}: {verb} {color}: {step}{says}; {}", Human(since(*started, now)))
}

/// Which stack is whose, and the newest order.
pub fn status(stacks: &Stacks, now: Timestamp) -> String {
    let mut text = String::new();
    for (color, site) in stacks.sites.iter() {
        let site = site.as_ref().map_or("no stack".to_owned(), Site::to_string);
        text.push_str(&format!("{}: {color} is {site}\n", stacks.service));
    }
    text.extend(stacks.message.as_ref().map(|message| format!("{message}\n")));
    match &stacks.order {
        Some(view) => text.push_str(&order(view, now)),
        None => text.push_str("There has been no order yet."),
    }
    text
}

/// All of an order, for people.
pub fn order(view: &OrderView, now: Timestamp) -> String {
    let OrderView { order, says, deadline, instances } = view;
    let Order { id, service, verb, color, site, by, reason, started, ended, outcome, .. } = order;
    let lasts = Human(since(*started, ended.unwrap_or(now)));
    let state = match outcome {
        None => format!("begun {lasts} ago"),
        Some(outcome) => format!("{} after {lasts}", outcome.as_str()),
    };
    let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let verb = verb.as_str();
    let mut text = format!("{service}: {verb} {color} ({site}), {state}, by {by}{why} (order {id})");
    for step in order.steps() {
        let (mark, is_now) = mark(order, *step);
        let says = says.as_ref().filter(|_| is_now).map(|says| format!("  {says}")).unwrap_or_default();
        let by = deadline.filter(|_| is_now).map(|by| format!("  (until {})", clock(by))).unwrap_or_default();
        text.push_str(format!("\n  {mark} {:<9}{says}{by}", step.as_str()).trim_end());
    }
    for instance in instances.iter().filter(|instance| instance.state != InstanceState::Gone) {
        let address = instance.address.as_deref().unwrap_or("-");
        text.push_str(&format!("\n      {}  {}  {address}", instance.name, instance.says));
    }
    if let Some(force) = &order.force {
        text.push_str(&format!("\n  forced: {force}"));
        order.overridden.iter().for_each(|it| text.push_str(&format!("\n    over {}: {}", it.code, it.text)));
    }
    if let Some(capacity) = &order.evidence.capacity {
        text.push_str(&format!("\n  capacity: {}, before that {}", capacity.to, capacity.from));
    }
    text.extend(order.why.as_ref().map(|why| format!("\n  {why}")));
    text
}

/// The sign of a step, and whether the order is at it.
fn mark(order: &Order, step: Step) -> (&'static str, bool) {
    let place = |step: Step| order.steps().iter().position(|known| *known == step);
    match (place(step).cmp(&place(order.step)), order.outcome) {
        (std::cmp::Ordering::Less, _) | (_, Some(Outcome::Done)) => ("✓", false),
        (std::cmp::Ordering::Equal, None) => ("▸", true),
        (std::cmp::Ordering::Equal, Some(_)) => ("✗", false),
        (std::cmp::Ordering::Greater, _) => ("·", false),
    }
}

/// A line for each stack.
pub fn list(stacks: &[Listed]) -> String {
    if stacks.is_empty() {
        return "There is no stack.".to_owned();
    }
    let row = |listed: &Listed| {
        let Listed { provider, stack, color } = listed;
        let online = stack.instances.iter().filter(|instance| instance.state == InstanceState::Online).count();
        let left = stack.instances.iter().filter(|instance| instance.state != InstanceState::Gone).count();
        let apps: Vec<&str> = stack.apps.iter().map(|app| app.name.as_str()).collect();
        let what = match (&stack.capacity, apps.is_empty()) {
            (Some(capacity), _) => capacity.to_string(),
            (None, true) => "-".to_owned(),
            (None, false) => apps.join(", "),
        };
        let kind = match provider {
            Kind::OpsWorks => "opsworks",
            Kind::Asg => "asg",
        };
        let color = color.map_or("-", Color::as_str).to_owned();
        [kind.to_owned(), stack.name.clone(), color, format!("{online} of {left} online"), what, stack.id.clone()]
    };
    out::headed(out::columns(
        &["provider", "stack", "color", "instances", "apps, or size", "id"],
        stacks.iter().map(row),
    ))
}

/// A line for each order.
pub fn history(orders: &[Order]) -> String {
    let row = |order: &Order| {
        let Order { verb, color, site, by, reason, force, started, ended, outcome, why, step, .. } = order;
        let outcome = outcome.map_or_else(|| format!("in {}", step.as_str()), |outcome| outcome.as_str().to_owned());
        let lasts = ended.map_or("-".to_owned(), |ended| Human(since(*started, ended)).to_string());
        let force = force.as_ref().map(|force| format!("forced: {force}"));
        let why: Vec<&str> = [reason, &force, why].into_iter().flatten().map(String::as_str).collect();
        let what = format!("{} {color}", verb.as_str());
        let at = started.strftime("%Y-%m-%d %H:%M:%S").to_string();
        [at, what, site.stack.clone(), outcome, lasts, by.clone(), why.join("; ")]
    };
    out::headed(out::columns(
        &["started (UTC)", "order", "stack", "outcome", "time", "by", "why"],
        orders.iter().map(row),
    ))
}

/// The newest order, in one line of the whole status.
pub fn summary(stacks: &Stacks) -> Option<String> {
    let view = stacks.order.as_ref()?;
    let Order { verb, color, step, outcome, .. } = &view.order;
    let so = outcome.map_or_else(|| step.as_str(), Outcome::as_str);
    let says = view.says.as_ref().or(view.order.why.as_ref()).map(|says| format!(": {says}")).unwrap_or_default();
    Some(format!("  stack: {} {color}: {so}{says}\n", verb.as_str()))
}
