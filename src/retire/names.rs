//! What the permit takes from the status of a service's names: where each was found to lead.

use std::time::Duration;

use super::facts::{Names, RecordFacts};
use crate::config::{self, DnsTarget};
use crate::dns::{Data, RecordSet, RecordStatus, Status};
use crate::names::{Color, Side};

impl Names {
    /// Nothing where the zone has not been read yet.
    pub fn of(status: &Status, rules: &config::Dns) -> Option<Names> {
        if !status.in_sync && status.records.iter().all(|record| record.found.is_empty()) {
            return None;
        }
        let ttl = status.old_ttl.map_or(rules.ttl, |seconds| Duration::from_secs(seconds.into()));
        Some(Names {
            wanted: status.to,
            records: status.records.iter().map(|record| record_facts(record, rules)).collect(),
            trouble: status.message.clone(),
            expires: status.expires,
            ttl,
        })
    }
}

fn record_facts(record: &RecordStatus, rules: &config::Dns) -> RecordFacts {
    let rule = rules.records.iter().find(|rule| rule.name == record.name && rule.kind == record.kind);
    let target = |color: Color| rule.and_then(|rule| rule.target(Side::from(color)));
    let leads = |color: &Color| target(*color).is_some_and(|target| leads_to(&record.found, target));
    RecordFacts {
        name: format!("{} {}", record.name, record.kind),
        in_sync: record.in_sync,
        found: Color::BOTH.into_iter().filter(leads).collect(),
    }
}

/// Whether anybody may be answered with something of that target. Where all weights are zero, all sets are answered with.
fn leads_to(found: &[RecordSet], target: &DnsTarget) -> bool {
    let weight = |set: &RecordSet| set.member.as_ref().map(|member| member.weight);
    let all_equal = found.iter().all(|set| weight(set).unwrap_or_default() == 0);
    let is_answered = |set: &&RecordSet| all_equal || weight(set).is_none_or(|weight| weight > 0);
    found.iter().filter(is_answered).any(|set| says(&set.data, target))
}

fn says(data: &Data, target: &DnsTarget) -> bool {
    match (data, target) {
        (Data::Values { values, .. }, DnsTarget::Values(ours)) => values.iter().any(|value| ours.contains(value)),
        (Data::Alias { target, zone, .. }, DnsTarget::Alias { alias, zone: ours }) => target == alias && zone == ours,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Member;
    use crate::names::{DnsName, RecordType};

    fn set(member: Option<(&str, u8)>, data: Data) -> RecordSet {
        let member = member.map(|(identifier, weight)| Member { identifier: identifier.into(), weight });
        RecordSet { name: "shop.test".parse().unwrap(), kind: RecordType::A, member, data }
    }

    fn values(values: &[&str]) -> Data {
        Data::Values { ttl: 60, values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    #[test]
    fn a_name_leads_where_any_answer_may() {
        let blue = DnsTarget::Values(vec!["192.0.2.1".into(), "192.0.2.2".into()]);
        let (of_blue, of_green) = (|| values(&["192.0.2.2"]), || values(&["192.0.2.9"]));
        let weighted = |one, other| [set(Some(("blue", one)), of_blue()), set(Some(("green", other)), of_green())];
        assert!(leads_to(&weighted(255, 0), &blue));
        assert!(!leads_to(&weighted(0, 255), &blue));
        assert!(leads_to(&weighted(1, 255), &blue), "however seldom");
        assert!(leads_to(&weighted(0, 0), &blue), "all zero means all equal");
        assert!(leads_to(&[set(None, values(&["192.0.2.9", "192.0.2.1"]))], &blue), "one of several values");
        assert!(!leads_to(&[set(None, of_green())], &blue));
        assert!(!leads_to(&[], &blue));
        let (alias, zone): (DnsName, _) = ("blue.elb.test".parse().unwrap(), "Z1".to_owned());
        let stored = Data::Alias { target: alias.clone(), zone: zone.clone(), evaluate_health: false };
        assert!(leads_to(&[set(None, stored.clone())], &DnsTarget::Alias { alias: alias.clone(), zone }));
        assert!(!leads_to(&[set(None, stored)], &DnsTarget::Alias { alias, zone: "Z2".into() }));
    }
}
