//! Whether everything that is read at Amazon may be read with these credentials: each is tried, nothing is changed.

use serde::Serialize;

use super::Account;
use super::call::{CHANGE_RECORD_SETS, GET_CHANGE, GET_HOSTED_ZONE, LIST_RECORD_SETS, Operation};
use super::failure::{Failure, verdict};
use super::policy::ZoneUse;
use super::route53::call;
use crate::dns::{Data, RecordSet, ZoneError};
use crate::names::DnsName;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// As in a policy: `route53:GetHostedZone`.
    pub permission: String,
    /// What it was tried on: the zone, and the name where there is one.
    pub zone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<DnsName>,
    pub outcome: Outcome,
    /// What was found, or what to do.
    pub says: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Failed,
    /// It would change something.
    NotTried,
}

/// Tries every zone and name, one after the other at the account's pace.
pub async fn try_all(account: &Account, uses: &[ZoneUse]) -> Vec<Tried> {
    let mut all = Vec::new();
    for used in uses {
        let zone = account.zone(&used.zone);
        let tried = |operation: Operation, name: Option<&DnsName>, result: Result<String, String>| Tried {
            permission: operation.to_string(),
            zone: used.zone.clone(),
            name: name.cloned(),
            outcome: if result.is_ok() { Outcome::Ok } else { Outcome::Failed },
            says: result.unwrap_or_else(|says| says),
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
        let not_tried = tried(CHANGE_RECORD_SETS, None, Ok("not tried, since it would change something".to_owned()));
        all.push(Tried { outcome: Outcome::NotTried, ..not_tried });
    }
    all
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

const NO_CHANGE: &str = "C0CUTOVERCHECK";
