//! `discover` of a color: where its endpoints are learned, where the file does not name them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use toml::de::DeValue;

use super::report::{Finding, Weight, Wrong};
use super::section::Section;
use super::value::{duration, misplaced, name, name_server, share, whole};
use super::{Config, Share, diff};
use crate::names::DnsName;

/// How a color's endpoints are learned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Discover {
    /// Where it stands in the file is known, so that doubts can be shown there.
    #[serde(flatten)]
    pub from: Spanned<DiscoverFrom>,
    /// From one answer to the next question. A DNS answer is asked for again when its TTL is over, if that is later.
    pub interval: Duration,
    /// An answer with fewer than this share of the last good one's endpoints is not believed.
    #[serde(serialize_with = "diff::shown")]
    pub min_share: Share,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscoverFrom {
    Dns(DnsLookup),
    #[serde(rename = "opsworks")]
    OpsWorks(OpsWorksLayer),
    Ec2(Ec2Instances),
    Asg(ScalingGroup),
    TargetGroup(TargetGroup),
}

/// A name that is looked up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DnsLookup {
    pub name: DnsName,
    /// Of A and AAAA records; `None`: SRV records, which name ports themselves.
    pub port: Option<u16>,
    /// Who is asked; empty: the resolvers of the system.
    pub resolvers: Vec<SocketAddr>,
}

/// The instances of a layer of an OpsWorks stack that are online.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpsWorksLayer {
    /// The stack's id or its name, which has to be of one stack only.
    pub stack: String,
    /// The layer's short name or id; `None`: every layer.
    pub layer: Option<String>,
    pub port: u16,
}

/// The instances that run and carry all of these tags.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ec2Instances {
    /// Never empty. OpsWorks's own tags are `opsworks:stack` and `opsworks:layer:SHORT_NAME`.
    pub tags: BTreeMap<String, String>,
    pub port: u16,
}

/// The instances of an Auto Scaling group that are in service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScalingGroup {
    pub name: String,
    pub port: u16,
}

/// The targets of an ELBv2 target group, each with the port it is registered with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetGroup {
    /// Its ARN or its name.
    pub group: String,
}

impl Discover {
    pub fn read(mut section: Section) -> Option<Discover> {
        let page = section.page;
        let mut found = Vec::new();
        for (kind, read) in KINDS {
            let at = section.place(kind);
            // One that is not right is one all the same.
            let from = section.optional(kind).map(read);
            found.extend(at.map(|at| (kind, at, from.flatten())));
        }
        found.sort_by_key(|(_, at, _)| at.start);
        if let [(first, _, _), (second, at, _), ..] = &found[..] {
            let message = format!("`{second}` and `{first}` both say who is asked");
            page.note(at.clone(), Wrong::new(message, "remove one of the two: a color has one source of endpoints"));
        }
        if found.is_empty() {
            let kinds = KINDS.map(|(kind, _)| kind).join("`, `");
            let help = format!(
                "add one of `{kinds}`, as in `discover = {{ asg = {{ name = \"shop-green\", port = 8080 }} }}`"
            );
            page.note_absent(section.span.clone(), Wrong::new("`discover` does not say who is asked", help));
        }
        let interval = section.get("interval", duration("100ms", "24h")).unwrap_or(INTERVAL);
        let min_share = section.get("min_share", share).unwrap_or(MIN_SHARE);
        let (_, at, from) = found.into_iter().next()?;
        Some(Discover { from: Spanned::new(at, from?), interval, min_share })
    }
}

impl DiscoverFrom {
    /// Who is asked for what, as an operator would say it.
    pub fn says(&self) -> String {
        match self {
            DiscoverFrom::Dns(DnsLookup { name, port: Some(port), .. }) => {
                format!("the addresses of {name} in the DNS, with port {port}")
            }
            DiscoverFrom::Dns(DnsLookup { name, port: None, .. }) => format!("the SRV records of {name} in the DNS"),
            DiscoverFrom::OpsWorks(OpsWorksLayer { stack, layer: Some(layer), port }) => {
                format!("the online instances of layer {layer} of the OpsWorks stack {stack}, with port {port}")
            }
            DiscoverFrom::OpsWorks(OpsWorksLayer { stack, layer: None, port }) => {
                format!("the online instances of the OpsWorks stack {stack}, with port {port}")
            }
            DiscoverFrom::Ec2(Ec2Instances { tags, port }) => {
                let tags: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("the running EC2 instances tagged {}, with port {port}", tags.join(" and "))
            }
            DiscoverFrom::Asg(ScalingGroup { name, port }) => {
                format!("the instances in service of the Auto Scaling group {name}, with port {port}")
            }
            DiscoverFrom::TargetGroup(TargetGroup { group }) => format!("the targets of the target group {group}"),
        }
    }
}

/// What is right but doubtful, wherever something is discovered.
pub fn doubts(config: &Config) -> Vec<Finding> {
    let discovers = config.services.iter().flat_map(|service| service.stacks.iter()).map(|(_, stack)| &stack.discover);
    let is_gone = |from: &&Spanned<DiscoverFrom>| {
        matches!(from.get_ref(), DiscoverFrom::OpsWorks(_)) && config.aws.endpoint_url.is_none()
    };
    let finding = |from: &Spanned<DiscoverFrom>| {
        let wrong = Wrong::new(OPSWORKS_ENDED, IN_ITS_PLACE);
        Finding { at: from.span(), weight: Weight::Warning, wrong }
    };
    discovers.flatten().map(|discover| &discover.from).filter(is_gone).map(finding).collect()
}

/// What is said wherever OpsWorks is asked for and nobody would answer.
pub fn opsworks_ended() -> String {
    format!("{OPSWORKS_ENDED}; {IN_ITS_PLACE}")
}

type Read = fn(Section) -> Option<DiscoverFrom>;

/// Everybody who can be asked, by the key.
const KINDS: [(&str, Read); 5] =
    [("dns", dns), ("opsworks", opsworks), ("ec2", ec2), ("asg", asg), ("target_group", target_group)];

fn dns(mut section: Section) -> Option<DiscoverFrom> {
    let name = section.require("name", "\"shop.internal\"", looked_up);
    let port = section.get("port", port);
    let resolvers = section.list("resolvers", name_server).into_iter().map(Spanned::into_inner).collect();
    Some(DiscoverFrom::Dns(DnsLookup { name: name?, port, resolvers }))
}

fn opsworks(mut section: Section) -> Option<DiscoverFrom> {
    let stack = section.require("stack", "\"shop-green\"", text);
    let layer = section.get("layer", text);
    let port = section.require("port", "8080", port);
    Some(DiscoverFrom::OpsWorks(OpsWorksLayer { stack: stack?, layer, port: port? }))
}

fn ec2(mut section: Section) -> Option<DiscoverFrom> {
    let help = "add `tags = { role = \"shop-green\" }`: an instance has to carry all of them";
    section.demand("tags", Wrong::new("no tags: every instance of the account would be an endpoint", help));
    let tags = section.texts("tags", text);
    let port = section.require("port", "8080", port);
    (!tags.is_empty()).then_some(DiscoverFrom::Ec2(Ec2Instances { tags, port: port? }))
}

fn asg(mut section: Section) -> Option<DiscoverFrom> {
    let name = section.require("name", "\"shop-green\"", text);
    let port = section.require("port", "8080", port);
    Some(DiscoverFrom::Asg(ScalingGroup { name: name?, port: port? }))
}

fn target_group(mut section: Section) -> Option<DiscoverFrom> {
    let group = section.require("group", "\"shop-green\"", text);
    Some(DiscoverFrom::TargetGroup(TargetGroup { group: group? }))
}

fn port(value: &DeValue) -> Result<u16, Wrong> {
    whole(1..=65_535)(value)
}

/// A name that is looked up is one, not many.
fn looked_up(value: &DeValue) -> Result<DnsName, Wrong> {
    let found: DnsName = name(value)?;
    match found.as_str().strip_prefix("*.") {
        Some(rest) => {
            let message = format!("`{found}` stands for many names, and one is looked up");
            Err(Wrong::new(message, format!("write one, such as `\"shop.{rest}\"`")))
        }
        None => Ok(found),
    }
}

/// What Amazon calls something: up to 255 characters, spaces among them.
pub fn text(value: &DeValue) -> Result<String, Wrong> {
    let help = "write it as AWS shows it, without spaces at its ends";
    let text = value.as_str().ok_or_else(|| Wrong::new(misplaced(value, "a name"), help))?;
    let is_good = (1..=255).contains(&text.chars().count()) && text.trim() == text && !text.contains(char::is_control);
    if is_good { Ok(text.to_owned()) } else { Err(Wrong::new(format!("`{text}` is not a name"), help)) }
}

const INTERVAL: Duration = Duration::from_secs(10);
const MIN_SHARE: Share = Share(5_000);
const OPSWORKS_ENDED: &str = "AWS ended OpsWorks Stacks on 26 May 2024, and nobody answers there any more";
const IN_ITS_PLACE: &str = "use an Auto Scaling group, `asg`, which takes orders too; or `ec2` with the tags that OpsWorks gave its \
                            instances, such as `tags = { \"opsworks:stack\" = \"shop\" }`, or `target_group`; for an emulator or a \
                            compatible service say where it is, `endpoint_url` under [aws]";
