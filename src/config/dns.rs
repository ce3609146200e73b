//! `[service.X.dns]`: which names follow the service, what they say for each side, and how they are moved.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use toml::de::DeValue;

use super::report::Wrong;
use super::section::Section;
use super::value::{duration, misplaced, name, name_server, whole};
use crate::names::{DnsName, RecordType, Side};

/// How a service's names follow it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dns {
    /// The hosted zone's id.
    pub zone: String,
    #[serde(serialize_with = "super::diff::shown")]
    pub mode: DnsMode,
    /// Whole seconds.
    pub ttl: Duration,
    /// While names are moved; whole seconds, never above `ttl`.
    pub lower_ttl: Duration,
    #[serde(serialize_with = "super::diff::shown")]
    pub start: DnsStart,
    /// How long a cutover waits for names; then it is done without them.
    pub deadline: Duration,
    /// Who is asked for the proof; `None`: the zone's own name servers; empty: nobody.
    pub name_servers: Option<Vec<SocketAddr>>,
    #[serde(serialize_with = "super::diff::shown")]
    pub drift: Drift,
    pub tail: DnsTail,
    /// At least one; no two have the same name and type.
    #[serde(rename = "record")]
    pub records: Vec<DnsRecord>,
}

/// What is asked of those who still come to the proxy once names have moved on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DnsTail {
    /// How long nobody has to have come before a color may be retired; at least twice the TTL, whatever stands here.
    pub silence: Duration,
    /// Connections a second that are told to look the names up again; 0: none.
    pub nudge: u32,
}

impl Default for DnsTail {
    fn default() -> DnsTail {
        DnsTail { silence: Duration::from_mins(10), nudge: 10 }
    }
}

/// One name, and what it says for each side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DnsRecord {
    pub name: DnsName,
    #[serde(rename = "type")]
    pub kind: RecordType,
    pub blue: DnsTarget,
    pub green: DnsTarget,
    pub proxy: Option<DnsTarget>,
}

impl DnsRecord {
    pub fn target(&self, side: Side) -> Option<&DnsTarget> {
        match side {
            Side::Blue => Some(&self.blue),
            Side::Green => Some(&self.green),
            Side::Proxy => self.proxy.as_ref(),
        }
    }

    /// Every side that it has something to say for.
    pub fn targets(&self) -> impl Iterator<Item = (Side, &DnsTarget)> {
        Side::ALL.into_iter().filter_map(|side| Some((side, self.target(side)?)))
    }
}

/// What a name says for one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum DnsTarget {
    /// Addresses, or the one name of a CNAME; never empty.
    Values(Vec<String>),
    /// Whatever that name in that zone says: a load balancer's.
    Alias { alias: DnsName, zone: String },
}

impl DnsTarget {
    pub fn is_alias(&self) -> bool {
        matches!(self, DnsTarget::Alias { .. })
    }
}

/// What kind of record sets the names are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsMode {
    /// A set for each side under one name; the side that serves has all the weight.
    #[default]
    Weighted,
    /// One set of values, replaced as a whole.
    Simple,
    /// One alias, replaced as a whole.
    Alias,
}

/// When names begin to move after a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsStart {
    AfterDrain,
    #[default]
    AfterBake,
}

/// What is done about records that somebody else has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drift {
    /// It is said, and nothing is written.
    #[default]
    Alert,
    /// They are written again.
    Restore,
}

macro_rules! words {
    ($type:ident: $what:literal, $($variant:ident $word:literal),*) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($type::$variant => $word),* })
            }
        }

        impl $type {
            fn read(value: &DeValue) -> Result<$type, Wrong> {
                match value.as_str() {
                    $(Some($word) => Ok($type::$variant),)*
                    other => Err(Wrong::new(
                        other.map_or_else(|| misplaced(value, $what), |text| format!("`{text}` is not {}", $what)),
                        format!("write one of `{}`", [$($word),*].join("`, `")),
                    )),
                }
            }
        }
    };
}

words!(DnsMode: "a mode", Weighted "weighted", Simple "simple", Alias "alias");
words!(DnsStart: "a time to start", AfterDrain "after-drain", AfterBake "after-bake");
words!(Drift: "what to do about drift", Alert "alert", Restore "restore");

/// A record as it is claimed by a service: no other may have it.
pub struct DnsClaim {
    pub service: String,
    pub zone: String,
    pub name: DnsName,
    pub kind: RecordType,
}

impl DnsClaim {
    /// Two of one type, or one that is a CNAME beside anything else (RFC 1034, section 3.6.2).
    pub fn clashes(&self, other: &DnsClaim) -> bool {
        let cname = self.kind == RecordType::Cname || other.kind == RecordType::Cname;
        self.zone == other.zone && self.name == other.name && (self.kind == other.kind || cname)
    }

    pub fn says(&self, earlier: &DnsClaim, line: usize) -> Wrong {
        let DnsClaim { service, name, kind, .. } = self;
        let of = match earlier.service == *service {
            true => String::new(),
            false => format!(" of `{}`", earlier.service),
        };
        let (message, help) = match earlier.kind == *kind {
            true => (format!("the {kind} record `{name}` stands here for the second time"), "remove one of the two"),
            false => (
                format!("`{name}` would be a CNAME and have another record beside it"),
                "a CNAME stands alone: use A and AAAA, or another name",
            ),
        };
        Wrong::new(message, format!("{help}; the first{of} is on line {line}"))
    }
}

impl Dns {
    /// Reads the section; what it claims is added to `claims`.
    pub fn read(mut section: Section, service: &str, claims: &mut Vec<Spanned<DnsClaim>>) -> Option<Dns> {
        let page = section.page;
        let zone = section.require("zone", "\"Z0123456789ABC\"", zone);
        let mode = section.get("mode", DnsMode::read).unwrap_or_default();
        let (ttl, lower_ttl) = ttls(&mut section, mode);
        let start = section.get("start", DnsStart::read).unwrap_or_default();
        let deadline = section.get("deadline", duration("0s", "24h")).unwrap_or(DEADLINE);
        let drift = section.get("drift", Drift::read).unwrap_or_default();
        let tail = tail(section.section("tail"));
        let servers = section.list("name_servers", name_server).into_iter().map(Spanned::into_inner).collect();
        let name_servers = section.place("name_servers").map(|_| servers);
        let help = format!("add `[[{}.record]]` with `name`, `type`, `blue` and `green`", section.name);
        section.demand("record", Wrong::new("no record: no name would follow the service", help));
        let mut records = Vec::new();
        for record in section.sections("record") {
            let at = record.place("name").unwrap_or(record.span.clone());
            let Some(record) = read_record(record, mode) else { continue };
            let (name, kind) = (record.name.clone(), record.kind);
            // Where the zone is not known, neither is what stands there.
            let claim = |zone| DnsClaim { service: service.to_owned(), zone, name, kind };
            claims.extend(zone.clone().map(|zone| Spanned::new(at, claim(zone))));
            records.push(record);
        }
        let aliases = !records.is_empty() && records.iter().all(|record: &DnsRecord| record.blue.is_alias());
        for key in ["ttl", "lower_ttl"] {
            if let Some(at) = section.place(key).filter(|_| aliases) {
                let message = format!("`{key}` says nothing here: every record is an alias");
                page.note(at, Wrong::new(message, "remove it: an alias has the TTL of what it stands for"));
            }
        }
        too_much(&section, &records);
        Some(Dns { zone: zone?, mode, ttl, lower_ttl, start, deadline, name_servers, drift, tail, records })
    }
}

fn tail(mut section: Section) -> DnsTail {
    let default = DnsTail::default();
    DnsTail {
        silence: section.get("silence", duration("0s", "720h")).unwrap_or(default.silence),
        nudge: section.get("nudge", whole(0..=100_000)).unwrap_or(default.nudge),
    }
}

fn ttls(section: &mut Section, mode: DnsMode) -> (Duration, Duration) {
    let ttl = section.get("ttl", seconds).unwrap_or(TTL);
    let lower = section.get("lower_ttl", seconds);
    if let (Some(lower), Some(at)) = (lower, section.place("lower_ttl"))
        && lower > ttl
        && mode != DnsMode::Alias
    {
        let message = "`lower_ttl` is above `ttl`: it is what `ttl` is lowered to while names are moved";
        section.page.note(at, Wrong::new(message, format!("write at most `\"{}s\"`", ttl.as_secs())));
    }
    (ttl, lower.unwrap_or(LOWER_TTL).min(ttl))
}

fn read_record(mut section: Section, mode: DnsMode) -> Option<DnsRecord> {
    let page = section.page;
    let found = section.require("name", "\"shop.example.com\"", record_name);
    let kind = section.require("type", "\"A\"", record_type);
    let mut target = |key: &'static str| read_target(&mut section, key, kind, mode);
    let (blue, green, proxy) = (target("blue"), target("green"), target("proxy"));
    for key in ["blue", "green"] {
        if section.place(key).is_none() {
            let message = format!("`{key}` is missing in `{}`", section.name);
            let wrong = Wrong::new(message, format!("add `{key} = [\"198.51.100.10\"]`: what the name says for {key}"));
            page.note_absent(section.span.clone(), wrong);
        }
    }
    let (name, kind, blue, green) = (found?, kind?, blue?, green?);
    let at = |key| section.place(key).unwrap_or(section.span.clone());
    if blue == green {
        let wrong = Wrong::new("`green` says the same as `blue`: nothing would move", "write what differs");
        page.note(at("green"), wrong);
    }
    let record = DnsRecord { name, kind, blue, green, proxy };
    for (side, target) in record.targets() {
        if mode == DnsMode::Weighted && target.is_alias() != record.blue.is_alias() {
            let message = format!("`{side}` and `blue` are of two kinds: a set has values or aliases, not both");
            page.note(at(side.as_str()), Wrong::new(message, "write all of them as values, or all as aliases"));
        }
        if matches!(target, DnsTarget::Values(values) if kind == RecordType::Cname && values.contains(&record.name.to_string()))
        {
            let wrong = Wrong::new(format!("`{}` would be a CNAME of itself", record.name), "write another name");
            page.note(at(side.as_str()), wrong);
        }
    }
    Some(record)
}

fn read_target(section: &mut Section, key: &'static str, kind: Option<RecordType>, mode: DnsMode) -> Option<DnsTarget> {
    let (page, at) = (section.page, section.place(key)?);
    let is_alias = section.is_section(key);
    let wrong_mode = match (mode, is_alias) {
        (DnsMode::Alias, false) => Some(("an alias", "`{ alias = \"..\", zone = \"Z..\" }`, or another mode")),
        (DnsMode::Simple, true) => Some(("values", "values, or `mode = \"alias\"`")),
        _ => None,
    };
    if let Some((what, help)) = wrong_mode {
        let message = format!("`{key}` has to be {what} where the mode is `{mode}`");
        page.note(at.clone(), Wrong::new(message, format!("write {help}")));
    }
    if is_alias {
        if kind == Some(RecordType::Cname) {
            let wrong = Wrong::new("an alias cannot be of type CNAME", "write `type = \"A\"`, and another for AAAA");
            page.note(at, wrong);
        }
        let mut alias = section.section(key);
        let target = alias.require("alias", "\"dualstack.blue.elb.amazonaws.com\"", name);
        let zone = alias.require("zone", "\"Z32O12XQLNTSW2\"", zone);
        return Some(DnsTarget::Alias { alias: target?, zone: zone? });
    }
    let empty = section.is_empty(key);
    section.demand(key, Wrong::new(format!("`{key}` has no value"), "write what the name says for it"));
    let values = section.list(key, |value| record_value(value, kind));
    page.compare(&values, PartialEq::eq, |_, later, line| {
        let message = format!("`{later}` stands here for the second time");
        Wrong::new(message, format!("remove one of the two; the first is on line {line}"))
    });
    if kind == Some(RecordType::Cname)
        && let Some(second) = values.get(1)
    {
        let wrong = Wrong::new("a CNAME has one value", "remove the others, or use A and AAAA records");
        page.note(second.span(), wrong);
    }
    (!empty && !values.is_empty()).then(|| DnsTarget::Values(values.into_iter().map(Spanned::into_inner).collect()))
}

/// All of a service's records are written in one batch, which has its limits at Route 53: with every set deleted and
/// made anew, 1,000 records and 32,000 characters.
fn too_much(section: &Section, records: &[DnsRecord]) {
    let values = |target: &DnsTarget| match target {
        DnsTarget::Values(values) => (values.len(), values.iter().map(String::len).sum::<usize>()),
        DnsTarget::Alias { alias, .. } => (1, alias.as_str().len()),
    };
    let sets = records.iter().flat_map(DnsRecord::targets).map(|(_, target)| values(target));
    let (count, characters) =
        sets.fold((records.len(), MARK * records.len()), |all, one| (all.0 + one.0, all.1 + one.1));
    if count * 2 > BATCH_RECORDS || characters * 2 > BATCH_CHARACTERS {
        let message = format!("{} records are more than one change may hold", records.len());
        let wrong = Wrong::new(message, "a service's names are moved together: give some of them to another service");
        section.page.note(section.span.clone(), wrong);
    }
}

fn seconds(value: &DeValue) -> Result<Duration, Wrong> {
    let found = duration("1s", "24h")(value)?;
    if found.subsec_millis() != 0 {
        let message = format!("`{}` is no whole number of seconds", value.as_str().unwrap_or_default());
        return Err(Wrong::new(message, "a TTL counts in seconds: write `\"60s\"`"));
    }
    Ok(found)
}

fn zone(value: &DeValue) -> Result<String, Wrong> {
    let text = value.as_str().unwrap_or_default();
    let plain = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if plain && (1..=32).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    let message =
        value.as_str().map_or_else(|| misplaced(value, "a zone's id"), |_| format!("`{text}` is not a zone's id"));
    Err(Wrong::new(message, "write the id of the hosted zone, such as `\"Z0123456789ABC\"`, not its name"))
}

/// The mark of who owns the name stands below it, so there has to be room for that.
fn record_name(value: &DeValue) -> Result<DnsName, Wrong> {
    let found: DnsName = name(value)?;
    found.mark().map(|_| found.clone()).map_err(|_| {
        let message = format!("`{found}` is too long: the mark of its owner stands under `_cutover.` before it");
        Wrong::new(message, "write a name of at most 240 characters")
    })
}

fn record_type(value: &DeValue) -> Result<RecordType, Wrong> {
    match value.as_str() {
        Some("A") => Ok(RecordType::A),
        Some("AAAA") => Ok(RecordType::Aaaa),
        Some("CNAME") => Ok(RecordType::Cname),
        other => Err(Wrong::new(
            other.map_or_else(
                || misplaced(value, "a type of record"),
                |text| format!("`{text}` is not a type of record that is written here"),
            ),
            "write `\"A\"`, `\"AAAA\"` or `\"CNAME\"`",
        )),
    }
}

/// One value, in the one way in which it is written.
fn record_value(value: &DeValue, kind: Option<RecordType>) -> Result<String, Wrong> {
    fn ip<T: FromStr + fmt::Display>(text: &str, what: &str, example: &str) -> Result<String, Wrong> {
        let found = text.parse::<T>().map(|ip| ip.to_string());
        found.map_err(|_| {
            let help = match text.parse::<IpAddr>() {
                Ok(ip) if ip.is_ipv6() => "that belongs into a record of type AAAA".to_owned(),
                Ok(_) => "that belongs into a record of type A".to_owned(),
                Err(_) => format!("write one such as `\"{example}\"`, without a port"),
            };
            Wrong::new(format!("`{text}` is not {what}"), help)
        })
    }
    let Some(text) = value.as_str() else {
        return Err(Wrong::new(misplaced(value, "a text"), "write each value in quotes"));
    };
    match kind {
        Some(RecordType::A) => ip::<Ipv4Addr>(text, "an IPv4 address", "198.51.100.10"),
        Some(RecordType::Aaaa) => ip::<Ipv6Addr>(text, "an IPv6 address", "2001:db8::10"),
        Some(RecordType::Cname) if text.parse::<IpAddr>().is_ok() => {
            Err(Wrong::new(format!("`{text}` is an address, and a CNAME stands for a name"), "use type A or AAAA"))
        }
        Some(RecordType::Cname) => name::<DnsName>(value).map(|name| name.to_string()),
        // What it should be is not known; the type has been noted.
        Some(RecordType::Txt) | None => Ok(text.to_owned()),
    }
}

const TTL: Duration = Duration::from_secs(60);
const LOWER_TTL: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_mins(30);
const BATCH_RECORDS: usize = 1_000;
const BATCH_CHARACTERS: usize = 32_000;
/// Characters of a mark, at most.
const MARK: usize = 250;
