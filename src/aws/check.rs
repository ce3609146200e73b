//! Whether everything that is read at Amazon may be read with these credentials: each is tried, nothing is changed.

use std::fmt;

use serde::Serialize;

use super::Account;
use super::call::{
    CHANGE_RECORD_SETS, DESCRIBE_APPS, DESCRIBE_DEPLOYMENTS, DESCRIBE_INSTANCES, GET_CHANGE, GET_HOSTED_ZONE,
    LIST_RECORD_SETS, Operation, UPDATE_GROUP,
};
use super::failure::{Failure, verdict};
use super::opsworks;
use super::route53::call;
use super::source::{may_look_up, operations};
use super::uses::{SourceUse, StackUse, Uses, ZoneUse};
use crate::discovery::Answer;
use crate::dns::{Data, RecordSet, ZoneError};
use crate::names::{Color, DnsName, ServiceName};
use crate::stack::Kind;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// As in a policy: `route53:GetHostedZone`.
    pub permission: String,
    #[serde(flatten)]
    pub on: On,
    pub outcome: Outcome,
    /// What was found, or what to do.
    pub says: String,
}

/// What it was tried on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum On {
    Zone {
        zone: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<DnsName>,
    },
    Source {
        source: String,
        service: ServiceName,
        color: Color,
    },
    Stack {
        stack: String,
        service: ServiceName,
        color: Color,
    },
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            On::Zone { zone, .. } => zone.fmt(f),
            On::Source { source: what, service, color } | On::Stack { stack: what, service, color } => {
                write!(f, "{what} ({service}, {color})")
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Failed,
    /// It would change something.
    NotTried,
}

/// Tries everything, one after the other at the account's pace.
pub async fn try_all(account: &Account, uses: &Uses) -> Vec<Tried> {
    let mut all = Vec::new();
    for used in &uses.zones {
        all.extend(try_zone(account, used).await);
    }
    for used in &uses.sources {
        all.extend(try_source(account, used).await);
    }
    for used in &uses.stacks {
        all.extend(try_stack(account, used).await);
    }
    all
}

async fn try_zone(account: &Account, used: &ZoneUse) -> Vec<Tried> {
    let mut all = Vec::new();
    let zone = account.zone(&used.zone);
    let tried = |operation: Operation, name: Option<&DnsName>, result: Result<String, String>| {
        tried(operation, On::Zone { zone: used.zone.clone(), name: name.cloned() }, result)
    };
    let described = zone.describe().await.map_err(|error| error.to_string());
    let described = described.and_then(|info| has_all(&info.name, used));
    all.push(tried(GET_HOSTED_ZONE, None, described));
    for name in &used.names {
        let found = zone.records(name).await;
        let found = found.map(|sets| sets_say(name, &sets)).map_err(|error| error.to_string());
        all.push(tried(LIST_RECORD_SETS, Some(name), found));
    }
    let followed = may_follow_changes(account, &used.zone).await.map_err(|error| error.to_string());
    all.push(tried(GET_CHANGE, None, followed.map(|()| "changes can be followed".to_owned())));
    let not_tried = tried(CHANGE_RECORD_SETS, None, Ok(WOULD_CHANGE.to_owned()));
    all.push(Tried { outcome: Outcome::NotTried, ..not_tried });
    all
}

/// Asks what orders ask beyond what discovery does.
async fn try_stack(account: &Account, used: &StackUse) -> Vec<Tried> {
    let on = On::Stack { stack: used.site.to_string(), service: used.service.clone(), color: used.color };
    let not_tried = |operation: Operation, says: &str| Tried {
        outcome: Outcome::NotTried,
        ..tried(operation, on.clone(), Ok(says.to_owned()))
    };
    let would_change = |operation: &Operation| not_tried(*operation, WOULD_CHANGE);
    if used.site.provider == Kind::Asg {
        return vec![would_change(&UPDATE_GROUP)];
    }
    let stacks = account.opsworks(None);
    let (found, deployments) = match stacks.find(&used.site.stack).await {
        Err(error) => (tried(DESCRIBE_APPS, on.clone(), Err(error.to_string())), None),
        Ok(None) => (not_tried(DESCRIBE_APPS, "not tried: there is no such stack yet"), None),
        Ok(Some(stack)) => {
            let apps: Vec<&str> = stack.apps.iter().map(|app| app.name.as_str()).collect();
            let says =
                if apps.is_empty() { "it has no app".to_owned() } else { format!("its apps: {}", apps.join(", ")) };
            (tried(DESCRIBE_APPS, on.clone(), Ok(says)), Some(stacks.deployments(&stack).await))
        }
    };
    let deployments = deployments.map_or_else(
        || not_tried(DESCRIBE_DEPLOYMENTS, "not tried after that"),
        |listed| {
            let result = listed.map(|all| format!("it has had {} deployments", all.len()));
            tried(DESCRIBE_DEPLOYMENTS, on.clone(), result.map_err(|error| error.to_string()))
        },
    );
    [found, deployments].into_iter().chain(opsworks::CHANGES.iter().map(would_change)).collect()
}

/// Asks the source as discovery will. How far it came says which of its questions failed.
async fn try_source(account: &Account, used: &SourceUse) -> Vec<Tried> {
    let Some(source) = account.source(&used.from) else { return Vec::new() };
    let on = On::Source { source: source.says(), service: used.service.clone(), color: used.color };
    let operations = operations(&used.from);
    let before = operations.iter().map(|operation| account.asked(*operation)).collect::<Vec<_>>();
    let answer = source.ask().await.map_err(|error| error.to_string());
    let was_asked = |at: usize| account.asked(operations[at]) > before[at];
    let last = (0..operations.len()).rfind(|at| was_asked(*at)).unwrap_or(0);
    let mut all = Vec::new();
    for (at, operation) in operations.iter().enumerate() {
        let result = match &answer {
            _ if at < last => Ok("answered".to_owned()),
            answer if at == last => answer.as_ref().map(answer_says).map_err(String::clone),
            // Of an empty group, and after a failure, nobody has been looked up.
            _ if *operation == DESCRIBE_INSTANCES => {
                let may = may_look_up(account).await;
                may.map(|()| "instances can be looked up".to_owned()).map_err(|error| error.to_string())
            }
            _ => {
                let not_tried = tried(*operation, on.clone(), Ok("not tried after that".to_owned()));
                all.push(Tried { outcome: Outcome::NotTried, ..not_tried });
                continue;
            }
        };
        all.push(tried(*operation, on.clone(), result));
    }
    all
}

fn tried(operation: Operation, on: On, result: Result<String, String>) -> Tried {
    let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Failed };
    Tried { permission: operation.to_string(), on, outcome, says: result.unwrap_or_else(|says| says) }
}

/// The first few of each.
fn answer_says(answer: &Answer) -> String {
    let few = |all: Vec<String>| match all.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", all[..MOST_SHOWN].join(", ")),
        None => all.join(", "),
    };
    let endpoints = match &answer.endpoints[..] {
        [] => "it proposes no endpoint".to_owned(),
        some => format!("it proposes {}", few(some.iter().map(|found| found.address.to_string()).collect())),
    };
    match &answer.left_out[..] {
        [] => endpoints,
        some => format!("{endpoints}; left out: {}", few(some.to_vec())),
    }
}

/// A name elsewhere would only come to light with the first change.
fn has_all(zone: &DnsName, used: &ZoneUse) -> Result<String, String> {
    let strays: Vec<String> = used
        .services
        .iter()
        .filter(|(name, _)| !name.is_in(zone))
        .map(|(name, service)| {
            format!("`{name}` is not in this zone, which is for {zone}: correct `zone` under [service.{service}.dns], or the name")
        })
        .collect();
    if strays.is_empty() { Ok(format!("the zone is for {zone}")) } else { Err(strays.join("; ")) }
}

fn sets_say(name: &DnsName, sets: &[RecordSet]) -> String {
    if sets.is_empty() {
        return format!("nothing stands under {name} yet");
    }
    let says = |set: &RecordSet| {
        let member = set.member.as_ref().map(|member| format!(" {} of weight {}", member.identifier, member.weight));
        let data = match &set.data {
            Data::Values { ttl, values } => format!("{} for {ttl} s", values.join(", ")),
            Data::Alias { target, .. } => format!("alias of {target}"),
            Data::Foreign(what) => format!("not to be touched: {what}"),
        };
        format!("{}{} ({data})", set.kind, member.unwrap_or_default())
    };
    format!("{name}: {}", sets.iter().map(says).collect::<Vec<_>>().join("; "))
}

/// Asks for a change that there never was. Only who may ask at all is told so.
async fn may_follow_changes(account: &Account, zone: &str) -> Result<(), ZoneError> {
    let call = call(GET_CHANGE, zone);
    let request = account.shared.route53.get_change().id(NO_CHANGE);
    let send = |sent| request.customize().interceptor(sent).send();
    match account.attempt(call, account.deadline(), send).await? {
        Err(Failure::Answer(answer)) if answer.code == "NoSuchChange" => Ok(()),
        Err(failure) => Err(verdict(call, failure).into()),
        // There is none of that name; an emulator may say otherwise.
        Ok(_) => Ok(()),
    }
}

const WOULD_CHANGE: &str = "not tried, since it would change something";
const NO_CHANGE: &str = "C0CUTOVERCHECK";
const MOST_SHOWN: usize = 10;
