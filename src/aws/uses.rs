//! What a config makes the proxy do at Amazon: what is to be allowed, and what can be tried.

use std::collections::{BTreeMap, BTreeSet};

use super::source::operations;
use crate::config::{self, Config, DiscoverFrom};
use crate::names::{Color, DnsName, RecordType, ServiceName};
use crate::stack::Site;

/// Everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Uses {
    /// Each zone once, by its id.
    pub zones: Vec<ZoneUse>,
    pub sources: Vec<SourceUse>,
    pub stacks: Vec<StackUse>,
}

impl Uses {
    pub fn of(config: &Config) -> Uses {
        Uses { zones: zones(config), sources: sources(config), stacks: stacks(config) }
    }

    pub fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.sources.is_empty()
    }
}

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

/// Whose stack may be looked after by orders, as `cutover stack` gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct StackUse {
    pub service: ServiceName,
    pub color: Color,
    pub site: Site,
    /// What clones are run as, where the config says so.
    pub service_role: Option<String>,
}

/// Whose endpoints are learned from Amazon, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceUse {
    pub service: ServiceName,
    pub color: Color,
    pub from: DiscoverFrom,
}

fn zones(config: &Config) -> Vec<ZoneUse> {
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

fn sources(config: &Config) -> Vec<SourceUse> {
    let mut uses = Vec::new();
    for service in &config.services {
        for (color, stack) in service.stacks.iter() {
            let from = stack.discover.as_ref().map(|discover| discover.from.get_ref());
            let from = from.filter(|from| !operations(from).is_empty()).cloned();
            uses.extend(from.map(|from| SourceUse { service: service.name.clone(), color, from }));
        }
    }
    uses
}

/// A stack that endpoints are learned from is one that can be ordered about.
fn stacks(config: &Config) -> Vec<StackUse> {
    let of = |service: &config::Service, color, stack| {
        let (name, role) = (service.name.clone(), service.stack_rules.service_role_arn.clone());
        Some(StackUse { service: name, color, site: Site::of(stack)?, service_role: role })
    };
    let all = config.services.iter();
    all.flat_map(|service| service.stacks.iter().filter_map(move |(color, stack)| of(service, color, stack))).collect()
}
