//! Record sets between Route 53's words and ours.

use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::{
    self as r53, AliasTarget, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType,
};

use crate::dns::{Action, Batch, Change, Data, Member, RecordSet};
use crate::names::{DnsName, RecordType};

/// One of a list, as ours; nothing where its type is none that is written here.
pub fn from_aws(set: &ResourceRecordSet, name: &DnsName) -> Option<RecordSet> {
    let kind = match set.r#type() {
        RrType::A => RecordType::A,
        RrType::Aaaa => RecordType::Aaaa,
        RrType::Cname => RecordType::Cname,
        RrType::Txt => RecordType::Txt,
        _ => return None,
    };
    let identifier = set.set_identifier();
    let weight = set.weight().map(u8::try_from);
    let member = match (identifier, weight) {
        (Some(identifier), Some(Ok(weight))) => Some(Member { identifier: identifier.to_owned(), weight }),
        _ => None,
    };
    let data = match foreign(set, member.is_some()) {
        Some(what) => Data::Foreign(what),
        None => data(set),
    };
    Some(RecordSet { name: name.clone(), kind, member, data })
}

/// The batch as Route 53 takes it.
pub fn to_aws(batch: &Batch) -> Result<ChangeBatch, BuildError> {
    // A comment has at most 256 characters.
    let comment: String = batch.comment.chars().take(256).collect();
    let changes = batch.changes.iter().map(change).collect::<Result<Vec<_>, _>>()?;
    ChangeBatch::builder().comment(comment).set_changes(Some(changes)).build()
}

/// The name of a listed set: with a dot at its end, and everything but letters, digits, `-` and `_` in octal.
pub fn name(listed: &str) -> Option<DnsName> {
    let plain = match listed.strip_prefix("\\052.") {
        Some(rest) => format!("*.{rest}"),
        None => listed.to_owned(),
    };
    plain.parse().ok()
}

/// What Route 53 would refuse for its size, said without asking it: the same batch would never fit.
pub fn oversize(batch: &Batch) -> Option<String> {
    let values = |change: &Change| match &change.set.data {
        Data::Values { values, .. } => (values.len(), values.iter().map(String::len).sum()),
        Data::Alias { .. } | Data::Foreign(_) => (1, 0),
    };
    let (records, characters) = batch.changes.iter().map(values).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    match (records, characters) {
        (MOST_RECORDS.., _) => Some(format!("{records} records in one change; Route 53 takes at most 1000")),
        (_, MOST_CHARACTERS..) => {
            Some(format!("{characters} characters of values in one change; Route 53 takes at most 32000"))
        }
        _ => None,
    }
}

/// What makes this a set that is never written here.
fn foreign(set: &ResourceRecordSet, weighted: bool) -> Option<String> {
    let says = |what: &str, value: Option<&str>| value.map(|value| format!("{what} {value}"));
    says("traffic policy", set.traffic_policy_instance_id())
        .or_else(|| says("failover routing,", set.failover().map(|it| it.as_str())))
        .or_else(|| says("latency routing, region", set.region().map(|it| it.as_str())))
        .or_else(|| set.geo_location().map(|_| "geolocation routing".to_owned()))
        .or_else(|| set.geo_proximity_location().map(|_| "geoproximity routing".to_owned()))
        .or_else(|| set.cidr_routing_config().map(|_| "IP-based routing".to_owned()))
        .or_else(|| set.multi_value_answer().filter(|on| *on).map(|_| "multivalue answers".to_owned()))
        .or_else(|| says("health check", set.health_check_id()))
        .or_else(|| says("set identifier without a weight from 0 to 255,", set.set_identifier().filter(|_| !weighted)))
}

fn data(set: &ResourceRecordSet) -> Data {
    if let Some(alias) = set.alias_target() {
        return match alias.dns_name().parse() {
            Ok(target) => Data::Alias {
                target,
                zone: alias.hosted_zone_id().to_owned(),
                evaluate_health: alias.evaluate_target_health(),
            },
            Err(_) => Data::Foreign(format!("alias to {}", alias.dns_name())),
        };
    }
    match set.ttl().map(u32::try_from) {
        Some(Ok(ttl)) => Data::Values {
            ttl,
            values: set.resource_records().iter().map(|record| record.value().to_owned()).collect(),
        },
        _ => Data::Foreign("neither TTL nor alias".to_owned()),
    }
}

fn change(change: &Change) -> Result<r53::Change, BuildError> {
    let action = match change.action {
        Action::Create => ChangeAction::Create,
        Action::Delete => ChangeAction::Delete,
    };
    r53::Change::builder().action(action).resource_record_set(record_set(&change.set)?).build()
}

fn record_set(set: &RecordSet) -> Result<ResourceRecordSet, BuildError> {
    let builder = ResourceRecordSet::builder().name(format!("{}.", set.name)).r#type(RrType::from(set.kind.as_str()));
    let builder = builder
        .set_set_identifier(set.member.as_ref().map(|member| member.identifier.clone()))
        .set_weight(set.member.as_ref().map(|member| i64::from(member.weight)));
    match &set.data {
        Data::Values { ttl, values } => {
            let records = values.iter().map(|value| ResourceRecord::builder().value(value).build());
            builder.ttl(i64::from(*ttl)).set_resource_records(Some(records.collect::<Result<Vec<_>, _>>()?)).build()
        }
        Data::Alias { target, zone, evaluate_health } => {
            let alias = AliasTarget::builder().dns_name(format!("{target}.")).hosted_zone_id(zone);
            builder.alias_target(alias.evaluate_target_health(*evaluate_health).build()?).build()
        }
        // Amazon refuses it, since it says nothing; whoever asks for this has not looked at what was read.
        Data::Foreign(_) => builder.build(),
    }
}

const MOST_RECORDS: usize = 1_001;
const MOST_CHARACTERS: usize = 32_001;

#[cfg(test)]
mod tests {
    use aws_sdk_route53::types::builders::ResourceRecordSetBuilder;
    use aws_sdk_route53::types::{GeoLocation, ResourceRecordSetFailover, ResourceRecordSetRegion};

    use super::*;

    fn shop() -> DnsName {
        "shop.example.com".parse().unwrap()
    }

    fn plain() -> ResourceRecordSetBuilder {
        let record = ResourceRecord::builder().value("192.0.2.1").build().unwrap();
        ResourceRecordSet::builder().name("shop.example.com.").r#type(RrType::A).ttl(60).resource_records(record)
    }

    fn read(set: ResourceRecordSetBuilder) -> RecordSet {
        from_aws(&set.build().unwrap(), &shop()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let values = Data::Values { ttl: 60, values: vec!["192.0.2.1".into(), "192.0.2.2".into()] };
        let alias = Data::Alias { target: "lb.example.net".parse().unwrap(), zone: "Z2".into(), evaluate_health: true };
        let member = Some(Member { identifier: "blue".into(), weight: 255 });
        for kind in [RecordType::A, RecordType::Aaaa, RecordType::Cname, RecordType::Txt] {
            for (member, data) in
                [(None, values.clone()), (member.clone(), values.clone()), (member.clone(), alias.clone())]
            {
                let set = RecordSet { name: shop(), kind, member, data };
                assert_eq!(from_aws(&record_set(&set).unwrap(), &shop()), Some(set));
            }
        }
    }

    #[test]
    fn whatever_else_decides_about_a_set_makes_it_foreign() {
        let in_set = |set: ResourceRecordSetBuilder| set.set_identifier("one");
        for (set, what) in [
            (in_set(plain()).failover(ResourceRecordSetFailover::Primary), "failover routing, PRIMARY"),
            (in_set(plain()).region(ResourceRecordSetRegion::EuWest1), "latency routing, region eu-west-1"),
            (in_set(plain()).geo_location(GeoLocation::builder().build()), "geolocation routing"),
            (in_set(plain()).multi_value_answer(true), "multivalue answers"),
            (in_set(plain()).weight(1).health_check_id("h1"), "health check h1"),
            (plain().health_check_id("h1"), "health check h1"),
            (plain().traffic_policy_instance_id("t1"), "traffic policy t1"),
            (in_set(plain()).weight(256), "set identifier without a weight from 0 to 255, one"),
            (plain().set_ttl(None), "neither TTL nor alias"),
        ] {
            assert_eq!(read(set).data, Data::Foreign(what.into()));
        }
        let mail = plain().r#type(RrType::Mx).build().unwrap();
        assert_eq!(from_aws(&mail, &shop()), None);
    }

    #[test]
    fn listed_names_are_ours() {
        assert_eq!(name("shop.example.com."), Some(shop()));
        assert_eq!(name("\\052.example.com.").unwrap().as_str(), "*.example.com");
        assert_eq!(name("a\\100b.example.com."), None, "one that we never write");
    }

    #[test]
    fn a_batch_that_can_never_fit_is_known_as_such() {
        let set = |values: Vec<String>| RecordSet {
            name: shop(),
            kind: RecordType::A,
            member: None,
            data: Data::Values { ttl: 1, values },
        };
        let batch = |values| Batch {
            comment: String::new(),
            changes: vec![Change { action: Action::Create, set: set(values) }],
        };
        assert_eq!(oversize(&batch(vec![String::new(); 1_000])), None);
        assert!(oversize(&batch(vec![String::new(); 1_001])).unwrap().contains("1001 records"));
        assert_eq!(oversize(&batch(vec!["x".repeat(32_000)])), None);
        assert!(oversize(&batch(vec!["x".repeat(32_001)])).unwrap().contains("32001 characters"));
    }
}
