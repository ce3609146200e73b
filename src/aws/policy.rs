//! What the config uses at Amazon, and the least IAM policy that allows exactly that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::call::{CHANGE_RECORD_SETS, GET_CHANGE, GET_HOSTED_ZONE, LIST_RECORD_SETS, Operation};
use crate::config::Config;
use crate::names::{DnsName, RecordType, ServiceName};

/// What is done in one hosted zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneUse {
    pub zone: String,
    /// The names that follow a service.
    pub names: BTreeSet<DnsName>,
    /// Whose they are: the config names each there.
    pub services: BTreeMap<DnsName, ServiceName>,
    /// Where the marks of their owners stand.
    pub marks: BTreeSet<DnsName>,
    /// Of what types sets are written there.
    pub kinds: BTreeSet<RecordType>,
}

/// Every zone of the config, each once, by its id.
pub fn zone_uses(config: &Config) -> Vec<ZoneUse> {
    let mut uses = BTreeMap::<&str, ZoneUse>::new();
    for (service, dns) in config.services.iter().filter_map(|service| Some((&service.name, service.dns.as_ref()?))) {
        let zone = uses.entry(&dns.zone).or_default();
        zone.zone.clone_from(&dns.zone);
        for record in &dns.records {
            zone.names.insert(record.name.clone());
            zone.services.insert(record.name.clone(), service.clone());
            // Names without room for one are none the config lets pass.
            zone.marks.extend(record.name.mark());
            zone.kinds.extend([record.kind, RecordType::Txt]);
        }
    }
    uses.into_values().collect()
}

/// As IAM takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: String,
    effect: &'static str,
    action: Vec<String>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Value>,
}

impl Policy {
    /// The least that allows what is done in these zones. A batch is allowed by one statement or not at all, so that each
    /// zone's has to name everything that is written there.
    pub fn of(uses: &[ZoneUse], region: Option<&str>) -> Policy {
        let partition = partition(region);
        let arn = |zone: &ZoneUse| arn(partition, &zone.zone);
        let changes = format!("arn:{partition}:route53:::change/*");
        let mut statement = vec![
            allow("CutoverReadsItsZones", &[GET_HOSTED_ZONE, LIST_RECORD_SETS], uses.iter().map(arn).collect()),
            allow("CutoverFollowsItsChanges", &[GET_CHANGE], vec![changes]),
        ];
        statement.extend(uses.iter().map(|zone| Statement {
            condition: Some(condition(zone)),
            ..allow(&format!("CutoverChanges{}", zone.zone), &[CHANGE_RECORD_SETS], vec![arn(zone)])
        }));
        Policy { version: "2012-10-17", statement }
    }
}

fn allow(sid: &str, operations: &[Operation], resource: Vec<String>) -> Statement {
    let action = operations.iter().map(Operation::to_string).collect();
    Statement { sid: sid.to_owned(), effect: "Allow", action, resource, condition: None }
}

/// These names, types and actions, and none besides.
fn condition(zone: &ZoneUse) -> Value {
    let names: Vec<String> = zone.names.union(&zone.marks).map(normalized).collect();
    json!({
        "ForAllValues:StringEquals": {
            "route53:ChangeResourceRecordSetsActions": ["CREATE", "DELETE"],
            "route53:ChangeResourceRecordSetsNormalizedRecordNames": names,
            "route53:ChangeResourceRecordSetsRecordTypes": zone.kinds,
        },
    })
}

fn arn(partition: &str, zone: &str) -> String {
    format!("arn:{partition}:route53:::hostedzone/{zone}")
}

/// China and the GovCloud are worlds of their own.
fn partition(region: Option<&str>) -> &'static str {
    match region {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// As the condition key has it: lower case, no dot at the end, and what is no letter, digit, `-` or `_` in octal.
fn normalized(name: &DnsName) -> String {
    name.as_str().replace('*', "\\052")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(id: &str, names: &[&str], kinds: &[RecordType]) -> ZoneUse {
        let names: BTreeSet<DnsName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let marks = names.iter().filter_map(|name| name.mark().ok()).collect();
        let kinds = kinds.iter().copied().collect();
        ZoneUse { zone: id.into(), names, marks, kinds, ..ZoneUse::default() }
    }

    #[test]
    fn the_policy_names_each_zone_name_and_type_and_nothing_else() {
        let uses = [
            zone("Z1", &["shop.example.com", "*.shop.example.com"], &[RecordType::A, RecordType::Txt]),
            zone("Z2", &["api.example.org"], &[RecordType::Cname, RecordType::Txt]),
        ];
        let policy = json!(Policy::of(&uses, Some("eu-west-1")));
        let statements = policy["Statement"].as_array().unwrap();
        assert_eq!(statements.len(), 4);
        assert_eq!(
            statements[0]["Resource"],
            json!(["arn:aws:route53:::hostedzone/Z1", "arn:aws:route53:::hostedzone/Z2"])
        );
        let condition = &statements[2]["Condition"]["ForAllValues:StringEquals"];
        assert_eq!(
            condition["route53:ChangeResourceRecordSetsNormalizedRecordNames"],
            json!([
                "\\052.shop.example.com",
                "_cutover._any.shop.example.com",
                "_cutover.shop.example.com",
                "shop.example.com"
            ])
        );
        assert_eq!(condition["route53:ChangeResourceRecordSetsRecordTypes"], json!(["A", "TXT"]));
        assert_eq!(condition["route53:ChangeResourceRecordSetsActions"], json!(["CREATE", "DELETE"]));
        assert_eq!(statements[3]["Resource"], json!(["arn:aws:route53:::hostedzone/Z2"]));
        assert!(!policy.to_string().contains("\"*\""), "nothing is allowed everywhere");
    }

    #[test]
    fn each_partition_has_names_of_its_own() {
        let of = |region| {
            json!(Policy::of(&[zone("Z1", &["a.test"], &[])], region))["Statement"][2]["Resource"][0].to_string()
        };
        assert_eq!(of(None), "\"arn:aws:route53:::hostedzone/Z1\"");
        assert_eq!(of(Some("cn-north-1")), "\"arn:aws-cn:route53:::hostedzone/Z1\"");
        assert_eq!(of(Some("us-gov-east-1")), "\"arn:aws-us-gov:route53:::hostedzone/Z1\"");
    }
}
