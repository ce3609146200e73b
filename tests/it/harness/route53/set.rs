//! One record set as the fake keeps it: read from XML, written as XML, and with Route 53's order.

use std::net::{Ipv4Addr, Ipv6Addr};

use roxmltree::Node;

use super::answer::{Wrong, element};

/// Everything that is stored counts when one is deleted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    /// In lower case, `*` as `\052`, with a dot at its end.
    pub name: String,
    pub kind: String,
    pub identifier: Option<String>,
    pub weight: Option<u64>,
    pub region: Option<String>,
    pub failover: Option<String>,
    pub multivalue: Option<String>,
    pub health_check: Option<String>,
    pub ttl: Option<u64>,
    pub values: Vec<String>,
    pub alias: Option<Alias>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    pub zone: String,
    pub target: String,
    pub evaluate_health: bool,
}

impl Set {
    /// A simple one.
    pub fn new(name: &str, kind: &str, ttl: u64, values: &[&str]) -> Set {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Set { name: normal(name), kind: kind.to_owned(), ttl: Some(ttl), values, ..Set::default() }
    }

    pub fn weighted(mut self, identifier: &str, weight: u64) -> Set {
        self.identifier = Some(identifier.to_owned());
        self.weight = Some(weight);
        self
    }

    /// As people write the name.
    pub fn host(&self) -> String {
        self.name.trim_end_matches('.').replace("\\052", "*")
    }

    pub fn parse(node: Node) -> Result<Set, Wrong> {
        let text = |name: &str| child(node, name).and_then(|found| found.text()).map(|text| text.trim().to_owned());
        let number = |name: &str| {
            text(name).map(|text| text.parse().map_err(|_| Wrong::input(&format!("{name} '{text}' is no number"))))
        };
        let missing = |name| Wrong::input(&format!("Invalid XML ; cvc-complex-type: {name} is missing"));
        let records = child(node, "ResourceRecords").into_iter().flat_map(|all| all.children());
        let values = records.filter_map(|record| child(record, "Value")?.text().map(str::to_owned)).collect();
        let alias = child(node, "AliasTarget").map(|alias| {
            let text = |name| child(alias, name).and_then(|found| found.text()).unwrap_or_default().to_owned();
            Alias {
                zone: text("HostedZoneId"),
                target: normal(&text("DNSName")),
                evaluate_health: text("EvaluateTargetHealth") == "true",
            }
        });
        Ok(Set {
            name: normal(&text("Name").ok_or_else(|| missing("Name"))?),
            kind: text("Type").ok_or_else(|| missing("Type"))?,
            identifier: text("SetIdentifier"),
            weight: number("Weight").transpose()?,
            region: text("Region"),
            failover: text("Failover"),
            multivalue: text("MultiValueAnswer"),
            health_check: text("HealthCheckId"),
            ttl: number("TTL").transpose()?,
            values,
            alias,
        })
    }

    /// What can be wrong with one that has to be whole, whatever else there is.
    pub fn check(&self) -> Result<(), Wrong> {
        let routed = [self.weight.is_some(), self.region.is_some(), self.failover.is_some(), self.multivalue.is_some()];
        let policies = routed.iter().filter(|on| **on).count();
        let Set { name, kind, identifier, .. } = self;
        let invalid = |what: &str| {
            Err(Wrong::input(&format!(
                "Invalid request: {what} in Change with [Name={name}, Type={kind}, SetIdentifier={}]",
                identifier.as_deref().unwrap_or("null")
            )))
        };
        match (self.identifier.is_some(), policies) {
            (true, 1) | (false, 0) => {}
            (true, _) => return invalid("Expected exactly one of [Weight, Region, Failover, MultiValueAnswer]"),
            (false, _) => return invalid("Missing field 'SetIdentifier'"),
        }
        if self.weight.is_some_and(|weight| weight > 255) {
            return invalid("Weight must be from 0 to 255");
        }
        match (&self.alias, self.ttl, self.values.is_empty()) {
            (Some(_), None, true) | (None, Some(0..=2_147_483_647), false) => Ok(()),
            _ => invalid(
                "Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found none or more",
            ),
        }
    }

    /// What is wrong with its values.
    pub fn flaws(&self) -> Vec<String> {
        let fatal = |problem: &str, value: &str| {
            format!("Invalid Resource Record: FATAL problem: {problem} encountered with '{value}'")
        };
        let flaw = |value: &String| match self.kind.as_str() {
            "A" if value.parse::<Ipv4Addr>().is_err() => {
                Some(fatal("ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address)", value))
            }
            "AAAA" if value.parse::<Ipv6Addr>().is_err() => {
                Some(fatal("AAAARRDATAIllegalIPv6Address (Value is not a valid IPv6 address)", value))
            }
            "TXT" if !(value.len() >= 2 && value.starts_with('"') && value.ends_with('"')) => {
                Some(fatal("InvalidCharacterString (Value should be enclosed in quotation marks)", value))
            }
            _ => None,
        };
        self.values.iter().filter_map(flaw).collect()
    }

    pub fn is(&self, name: &str, kind: &str, identifier: Option<&str>) -> bool {
        self.name == name && self.kind == kind && self.identifier.as_deref() == identifier
    }

    /// `[name='..', type='A', set identifier='blue']`.
    pub fn says(&self) -> String {
        let identifier = self.identifier.as_ref().map(|it| format!(", set identifier='{it}'")).unwrap_or_default();
        format!("[name='{}', type='{}'{identifier}]", self.name, self.kind)
    }

    pub fn xml(&self) -> String {
        let may =
            |name: &str, value: &Option<String>| value.as_ref().map(|text| element(name, text)).unwrap_or_default();
        let records: String = self
            .values
            .iter()
            .map(|value| format!("<ResourceRecord>{}</ResourceRecord>", element("Value", value)))
            .collect();
        let records =
            if records.is_empty() { String::new() } else { format!("<ResourceRecords>{records}</ResourceRecords>") };
        let alias = self.alias.as_ref().map(|alias| {
            format!(
                "<AliasTarget>{}{}{}</AliasTarget>",
                element("HostedZoneId", &alias.zone),
                element("DNSName", &alias.target),
                element("EvaluateTargetHealth", &alias.evaluate_health.to_string())
            )
        });
        [
            "<ResourceRecordSet>".to_owned(),
            element("Name", &self.name),
            element("Type", &self.kind),
            may("SetIdentifier", &self.identifier),
            may("Weight", &self.weight.map(|weight| weight.to_string())),
            may("Region", &self.region),
            may("Failover", &self.failover),
            may("MultiValueAnswer", &self.multivalue),
            may("TTL", &self.ttl.map(|ttl| ttl.to_string())),
            records,
            alias.unwrap_or_default(),
            may("HealthCheckId", &self.health_check),
            "</ResourceRecordSet>".to_owned(),
        ]
        .concat()
    }

    /// Route 53 lists by the labels of the name from the last to the first, then by type, then by identifier.
    pub fn place(&self) -> (Vec<String>, String, String) {
        place(&self.name, &self.kind, self.identifier.as_deref().unwrap_or_default())
    }
}

pub fn place(name: &str, kind: &str, identifier: &str) -> (Vec<String>, String, String) {
    let labels = normal(name).trim_end_matches('.').split('.').rev().map(str::to_owned).collect();
    (labels, kind.to_owned(), identifier.to_owned())
}

/// A name as it is stored.
pub fn normal(name: &str) -> String {
    let name = name.trim_end_matches('.').to_lowercase().replace('*', "\\052");
    format!("{name}.")
}

/// The element of that name right below.
pub fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.tag_name().name() == name)
}
