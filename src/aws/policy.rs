//! The least IAM policy that allows exactly what a config uses at Amazon.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::call::{CHANGE_RECORD_SETS, GET_CHANGE, GET_HOSTED_ZONE, LIST_RECORD_SETS, Operation, UPDATE_GROUP};
use super::opsworks;
use super::partition::Partition;
use super::source::operations;
use super::uses::{SourceUse, StackUse, Uses, ZoneUse};
use crate::names::DnsName;
use crate::stack::Kind;

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
    /// In this region, where the config names one.
    pub fn of(uses: &Uses, region: Option<&str>) -> Policy {
        let mut statement = of_zones(&uses.zones, Partition::of(region).name);
        statement.extend(of_sources(&uses.sources, region));
        statement.extend(of_opsworks(uses, region));
        statement.extend(of_groups(&uses.stacks, region));
        Policy { version: "2012-10-17", statement }
    }
}

/// A batch is allowed by one statement or not at all, so that each zone's has to name everything that is written there.
fn of_zones(zones: &[ZoneUse], partition: &str) -> Vec<Statement> {
    if zones.is_empty() {
        return Vec::new();
    }
    let arn = |zone: &ZoneUse| arn(partition, &zone.zone);
    let changes = format!("arn:{partition}:route53:::change/*");
    let mut statements = vec![
        allow("CutoverReadsItsZones", &[GET_HOSTED_ZONE, LIST_RECORD_SETS], zones.iter().map(arn).collect()),
        allow("CutoverFollowsItsChanges", &[GET_CHANGE], vec![changes]),
    ];
    statements.extend(zones.iter().map(|zone| Statement {
        condition: Some(condition(zone)),
        ..allow(&format!("CutoverChanges{}", zone.zone), &[CHANGE_RECORD_SETS], vec![arn(zone)])
    }));
    statements
}

/// These lists can be allowed for all there is or not at all, but in one region.
fn of_sources(sources: &[SourceUse], region: Option<&str>) -> Option<Statement> {
    let asked = asked(sources);
    let statement = anywhere("CutoverFindsItsEndpoints", &[], region);
    (!asked.is_empty()).then(|| Statement { action: asked.into_iter().collect(), ..statement })
}

fn asked(sources: &[SourceUse]) -> BTreeSet<String> {
    sources.iter().flat_map(|used| operations(&used.from)).map(Operation::to_string).collect()
}

/// The id of a clone is not known before there is one, so that these are allowed for every stack.
fn of_opsworks(uses: &Uses, region: Option<&str>) -> Vec<Statement> {
    let stacks: Vec<_> = uses.stacks.iter().filter(|used| used.site.provider == Kind::OpsWorks).collect();
    if stacks.is_empty() {
        return Vec::new();
    }
    let allowed = asked(&uses.sources);
    let looks: Vec<_> =
        opsworks::READS.into_iter().filter(|operation| !allowed.contains(&operation.to_string())).collect();
    // Without a role in the config it is the one of the stack that is cloned, whatever that is.
    let any = format!("arn:{}:iam::*:role/*", Partition::of(region).name);
    let role = |used: &&StackUse| used.service_role.clone().unwrap_or_else(|| any.clone());
    let roles: BTreeSet<String> = stacks.iter().map(role).collect();
    let passes = Statement {
        action: vec!["iam:PassRole".to_owned()],
        condition: Some(json!({ "StringEquals": { "iam:PassedToService": "opsworks.amazonaws.com" } })),
        ..allow("CutoverLetsItsClonesRun", &[], roles.into_iter().collect())
    };
    vec![
        anywhere("CutoverLooksAtItsStacks", &looks, region),
        anywhere("CutoverCarriesOutOrdersToStacks", &opsworks::CHANGES, region),
        passes,
    ]
}

fn of_groups(stacks: &[StackUse], region: Option<&str>) -> Option<Statement> {
    let partition = Partition::of(region).name;
    let arn = |used: &StackUse| {
        let (region, name) = (region.unwrap_or("*"), &used.site.stack);
        format!("arn:{partition}:autoscaling:{region}:*:autoScalingGroup:*:autoScalingGroupName/{name}")
    };
    let groups = stacks.iter().filter(|used| used.site.provider == Kind::Asg);
    let groups: BTreeSet<String> = groups.map(arn).collect();
    (!groups.is_empty()).then(|| allow("CutoverSetsCapacities", &[UPDATE_GROUP], groups.into_iter().collect()))
}

/// On everything of its kind, in this region.
fn anywhere(sid: &str, operations: &[Operation], region: Option<&str>) -> Statement {
    let condition = region.map(|region| json!({ "StringEquals": { "aws:RequestedRegion": region } }));
    Statement { condition, ..allow(sid, operations, vec!["*".to_owned()]) }
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

/// As the condition key has it: lower case, no dot at the end, and what is no letter, digit, `-` or `_` in octal.
fn normalized(name: &DnsName) -> String {
    name.as_str().replace('*', "\\052")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DiscoverFrom, Ec2Instances, OpsWorksLayer, ScalingGroup, TargetGroup};
    use crate::names::{Color, RecordType};
    use crate::stack::Site;

    fn zone(id: &str, names: &[&str], kinds: &[RecordType]) -> ZoneUse {
        let names: BTreeSet<DnsName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let marks = names.iter().filter_map(|name| name.mark().ok()).collect();
        let kinds = kinds.iter().copied().collect();
        ZoneUse { zone: id.into(), names, marks, kinds, ..ZoneUse::default() }
    }

    #[test]
    fn the_policy_names_each_zone_name_and_type_and_nothing_else() {
        let zones = vec![
            zone("Z1", &["shop.example.com", "*.shop.example.com"], &[RecordType::A, RecordType::Txt]),
            zone("Z2", &["api.example.org"], &[RecordType::Cname, RecordType::Txt]),
        ];
        let policy = json!(Policy::of(&Uses { zones, ..Uses::default() }, Some("eu-west-1")));
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
            let uses = Uses { zones: vec![zone("Z1", &["a.test"], &[])], ..Uses::default() };
            json!(Policy::of(&uses, region))["Statement"][2]["Resource"][0].to_string()
        };
        assert_eq!(of(None), "\"arn:aws:route53:::hostedzone/Z1\"");
        assert_eq!(of(Some("cn-north-1")), "\"arn:aws-cn:route53:::hostedzone/Z1\"");
        assert_eq!(of(Some("us-gov-east-1")), "\"arn:aws-us-gov:route53:::hostedzone/Z1\"");
    }

    #[test]
    fn sources_may_read_what_they_ask_for_and_no_more() {
        let of = |from: &[DiscoverFrom], region| {
            let source = |from: &DiscoverFrom| SourceUse {
                service: "shop".parse().unwrap(),
                color: Color::Green,
                from: from.clone(),
            };
            let uses = Uses { sources: from.iter().map(source).collect(), ..Uses::default() };
            json!(Policy::of(&uses, region))["Statement"].clone()
        };
        let ec2 = DiscoverFrom::Ec2(Ec2Instances { tags: [("a".into(), "b".into())].into(), port: 80 });
        let asg = DiscoverFrom::Asg(ScalingGroup { name: "shop".into(), port: 80 });
        let group = DiscoverFrom::TargetGroup(TargetGroup { group: "shop".into() });
        let layer = |layer: Option<&str>| {
            DiscoverFrom::OpsWorks(OpsWorksLayer { stack: "shop".into(), layer: layer.map(str::to_owned), port: 80 })
        };
        let everywhere = json!([{
            "Sid": "CutoverFindsItsEndpoints", "Effect": "Allow", "Action": ["ec2:DescribeInstances"], "Resource": ["*"],
        }]);
        assert_eq!(of(&[ec2.clone(), ec2.clone()], None), everywhere);
        let statement = of(&[asg, group, ec2], Some("eu-west-1"));
        let actions = json!([
            "autoscaling:DescribeAutoScalingGroups",
            "ec2:DescribeInstances",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetHealth"
        ]);
        assert_eq!(statement[0]["Action"], actions);
        assert_eq!(statement[0]["Condition"], json!({ "StringEquals": { "aws:RequestedRegion": "eu-west-1" } }));
        let whole = json!(["opsworks:DescribeInstances", "opsworks:DescribeStacks"]);
        assert_eq!(of(&[layer(None)], None)[0]["Action"], whole);
        assert_eq!(of(&[layer(Some("rails-app"))], None)[0]["Action"][1], "opsworks:DescribeLayers");
        assert_eq!(of(&[], None), json!([]));
    }

    #[test]
    fn orders_may_do_what_they_do_and_pass_on_one_role() {
        let used = |provider, stack: &str, service_role: Option<&str>| StackUse {
            service: "shop".parse().unwrap(),
            color: Color::Green,
            site: Site { provider, stack: stack.into(), layer: None },
            service_role: service_role.map(str::to_owned),
        };
        let of = |stacks: Vec<StackUse>| json!(Policy::of(&Uses { stacks, ..Uses::default() }, Some("eu-west-1")));
        let role = "arn:aws:iam::123456789012:role/opsworks";
        let policy =
            of(vec![used(Kind::OpsWorks, "shop-blue", Some(role)), used(Kind::OpsWorks, "shop-green", Some(role))]);
        let [looks, orders, passes] = &policy["Statement"].as_array().unwrap()[..] else { panic!("{policy}") };
        assert_eq!(looks["Action"].as_array().unwrap().len(), 5);
        assert_eq!(orders["Action"].as_array().unwrap().len(), 5);
        assert!(orders["Action"].as_array().unwrap().contains(&json!("opsworks:CloneStack")));
        assert_eq!(orders["Condition"], json!({ "StringEquals": { "aws:RequestedRegion": "eu-west-1" } }));
        assert_eq!((&passes["Action"], &passes["Resource"]), (&json!(["iam:PassRole"]), &json!([role])));
        assert_eq!(passes["Condition"]["StringEquals"]["iam:PassedToService"], "opsworks.amazonaws.com");
        let any = of(vec![used(Kind::OpsWorks, "shop-blue", None)]);
        assert_eq!(any["Statement"][2]["Resource"], json!(["arn:aws:iam::*:role/*"]));

        let policy = of(vec![used(Kind::Asg, "shop-blue", None), used(Kind::Asg, "shop-green", None)]);
        let [sets] = &policy["Statement"].as_array().unwrap()[..] else { panic!("{policy}") };
        assert_eq!(sets["Action"], json!(["autoscaling:UpdateAutoScalingGroup"]));
        let arn = "arn:aws:autoscaling:eu-west-1:*:autoScalingGroup:*:autoScalingGroupName";
        assert_eq!(sets["Resource"], json!([format!("{arn}/shop-blue"), format!("{arn}/shop-green")]));
        assert!(!format!("{policy}{any}").contains("Delete"), "nothing is ever deleted");
    }
}
