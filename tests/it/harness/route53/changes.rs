//! A batch: read whole, tried on a copy of the zone, refused with everything that is wrong with it, or applied whole.

use roxmltree::{Document, Node};

use super::answer::Wrong;
use super::set::{Set, child};

/// The zone's sets after the batch, in their order.
pub fn apply(zone: &str, sets: &[Set], body: &[u8]) -> Result<Vec<Set>, Wrong> {
    let changes = read(body)?;
    let mut after = sets.to_vec();
    let mut wrong = oversize(&changes);
    wrong.extend(twice(&changes));
    // In their order, so that what makes room has to come before what needs it.
    for (action, set) in &changes {
        set.check()?;
        wrong.extend(set.flaws());
        match tried(zone, &mut after, *action, set) {
            Ok(()) => {}
            Err(message) => wrong.push(message),
        }
    }
    after.sort_by_key(Set::place);
    if wrong.is_empty() { Ok(after) } else { Err(Wrong::batch(wrong)) }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Create,
    Delete,
    Upsert,
}

fn read(body: &[u8]) -> Result<Vec<(Action, Set)>, Wrong> {
    let text = std::str::from_utf8(body).map_err(|error| Wrong::input(&error.to_string()))?;
    let document = Document::parse(text).map_err(|error| Wrong::input(&format!("Invalid XML ; {error}")))?;
    let changes = document.descendants().filter(|node| node.tag_name().name() == "Change");
    let changes: Vec<_> = changes.map(change).collect::<Result<_, _>>()?;
    if changes.is_empty() {
        return Err(Wrong::input("1 validation error detected: the batch has no changes"));
    }
    Ok(changes)
}

fn change(node: Node) -> Result<(Action, Set), Wrong> {
    let action = match child(node, "Action").and_then(|action| action.text()) {
        Some("CREATE") => Action::Create,
        Some("DELETE") => Action::Delete,
        Some("UPSERT") => Action::Upsert,
        other => return Err(Wrong::input(&format!("Invalid XML ; action {other:?}"))),
    };
    let set = child(node, "ResourceRecordSet").ok_or_else(|| Wrong::input("Invalid XML ; no ResourceRecordSet"))?;
    Ok((action, Set::parse(set)?))
}

/// 1,000 records and 32,000 characters of values; UPSERT counts twice.
fn oversize(changes: &[(Action, Set)]) -> Vec<String> {
    let weigh = |of: fn(&Set) -> usize| -> usize {
        changes.iter().map(|(action, set)| of(set) * if *action == Action::Upsert { 2 } else { 1 }).sum()
    };
    let records = weigh(|set| set.values.len().max(1));
    let characters = weigh(|set| set.values.iter().map(String::len).sum());
    let mut wrong = Vec::new();
    if records > 1_000 {
        wrong.push("Number of records limit of 1000 exceeded.".to_owned());
    }
    if characters > 32_000 {
        wrong.push("Number of characters limit of 32000 exceeded.".to_owned());
    }
    wrong
}

fn twice(changes: &[(Action, Set)]) -> Vec<String> {
    let same =
        |(a, x): &(Action, Set), (b, y): &(Action, Set)| a == b && x.is(&y.name, &y.kind, y.identifier.as_deref());
    let again = changes.iter().enumerate().filter(|(n, change)| changes[..*n].iter().any(|other| same(change, other)));
    again
        .map(|(_, (_, set))| {
            format!(
                "The request contains an invalid set of changes for a resource record set '{} {}'",
                set.kind, set.name
            )
        })
        .collect()
}

fn tried(zone: &str, sets: &mut Vec<Set>, action: Action, set: &Set) -> Result<(), String> {
    let at = sets.iter().position(|it| it.is(&set.name, &set.kind, set.identifier.as_deref()));
    match (action, at) {
        (Action::Create, Some(_)) => {
            Err(format!("Tried to create resource record set {} but it already exists", set.says()))
        }
        (Action::Delete, None) => {
            Err(format!("Tried to delete resource record set {} but it was not found", set.says()))
        }
        (Action::Delete, Some(at)) if sets[at] != *set => Err(format!(
            "Tried to delete resource record set {} but the values provided do not match the current values",
            set.says()
        )),
        (Action::Delete, Some(_)) if set.name == zone && matches!(set.kind.as_str(), "NS" | "SOA") => Err(format!(
            "A HostedZone must contain {} of type {}",
            if set.kind == "NS" { "at least one NS record" } else { "exactly one SOA record" },
            set.kind
        )),
        (Action::Delete, Some(at)) => {
            sets.remove(at);
            Ok(())
        }
        (Action::Create | Action::Upsert, at) => {
            if let Some(at) = at {
                sets.remove(at);
            }
            fits(zone, sets, set)?;
            sets.push(set.clone());
            Ok(())
        }
    }
}

/// Whether it can stand beside the others.
fn fits(zone: &str, sets: &[Set], set: &Set) -> Result<(), String> {
    let Set { name, kind, .. } = set;
    if name != zone && !name.ends_with(&format!(".{zone}")) {
        return Err(format!("RRSet with DNS name {name} is not permitted in zone {zone}"));
    }
    let beside: Vec<&Set> = sets.iter().filter(|other| other.name == *name).collect();
    if kind == "CNAME" && name == zone {
        return Err(format!("RRSet of type CNAME with DNS name {name} is not permitted at apex in zone {zone}"));
    }
    if kind == "CNAME" && beside.iter().any(|other| other.kind != "CNAME") {
        return Err(format!(
            "RRSet of type CNAME with DNS name {name} is not permitted as it conflicts with other records with the same \
             DNS name in zone {zone}"
        ));
    }
    if kind != "CNAME" && beside.iter().any(|other| other.kind == "CNAME") {
        return Err(format!(
            "RRSet of type {kind} with DNS name {name} is not permitted because a conflicting RRSet of type CNAME with the \
             same DNS name already exists in zone {zone}"
        ));
    }
    if kind == "CNAME" && set.values.len() > 1 {
        return Err(format!("RRSet of type CNAME with DNS name {name} has more than one value"));
    }
    fits_members(set, beside.into_iter().filter(|other| other.kind == *kind))
}

fn fits_members<'a>(set: &Set, members: impl Iterator<Item = &'a Set>) -> Result<(), String> {
    let members: Vec<&Set> = members.collect();
    let identifier = set.identifier.as_ref().map(|it| format!(", SetIdentifier {it}")).unwrap_or_default();
    let says = format!("RRSet with DNS name {}, type {}{identifier} cannot be created", set.name, set.kind);
    let policy = |set: &Set| match set {
        Set { weight: Some(_), .. } => "weighted",
        Set { identifier: Some(_), .. } => "routed",
        _ => "simple",
    };
    if let Some(other) = members.iter().find(|other| policy(other) != policy(set)) {
        return Err(format!("{says} as a {} set exists with the same name and type", policy(other)));
    }
    if policy(set) == "weighted"
        && members.iter().any(|other| other.ttl.is_some() && set.ttl.is_some() && other.ttl != set.ttl)
    {
        return Err(format!("{says} as weighted sets must contain the same TTL"));
    }
    if members.len() >= 100 {
        return Err(format!("{says} as there are 100 of them"));
    }
    Ok(())
}
