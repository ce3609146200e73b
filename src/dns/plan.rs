//! What a batch has to say: record sets as they should be, compared with those that were read. No clock, disk or network.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::mark::Mark;
use super::mark::{Owner, digest, normal};
use super::zone::{Action, Batch, Change, Data, Member, RecordSet};
use crate::config::{self, DnsMode, DnsRecord, DnsTarget};
use crate::names::{DnsName, RecordType, ServiceName, Side};
use crate::time::Timestamp;

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Everything as it is, with a TTL that is no longer than this, on the way to that side.
    Lower(u32, Side),
    /// Names lead to that side, with this TTL.
    Lead(Side, u32),
}

/// What may be done, and what is known of what was done before.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    pub service: &'a ServiceName,
    /// Records that nobody, or another service, has marked are taken over.
    pub adopt: bool,
    /// What somebody else has changed is written over.
    pub restore: bool,
    /// It is written even where it says the same already: only a change can be asked whether it has arrived.
    pub again: bool,
    /// The attempts of this proxy, as far as it remembers them; empty: it remembers none, and believes the mark.
    pub ours: &'a [String],
    /// The name of the batch that is made now.
    pub attempt: &'a str,
    pub now: Timestamp,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// The zone says so already.
    Equal,
    Write(Box<Draft>),
    Stop(Box<Objection>),
}

/// A batch that is ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub batch: Batch,
    pub generation: u64,
    /// How many seconds an answer from before may be kept.
    pub old_ttl: u32,
}

/// Why nothing is written, with what would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objection {
    pub why: Why,
    pub says: String,
    pub remedy: String,
    pub wanted: Vec<RecordSet>,
    pub found: Vec<RecordSet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There are records that are not ours.
    Foreign,
    /// Ours, and changed by somebody else.
    Drifted,
    /// Ours by name, and written by another proxy.
    Another,
    /// The provider will not have it.
    Refused,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.says, self.remedy)?;
        let mut list = |word: &str, sets: &[RecordSet]| {
            let lines: Vec<String> = sets.iter().map(ToString::to_string).collect();
            let lines = if lines.is_empty() { vec!["nothing".to_owned()] } else { lines };
            lines.iter().try_for_each(|line| write!(f, "\n  {word} {line}"))
        };
        if self.wanted.is_empty() && self.found.is_empty() {
            return Ok(());
        }
        list("wanted:", &self.wanted)?;
        list("found: ", &self.found)
    }
}

/// The record sets that lead names to that side.
pub fn leading(rules: &config::Dns, side: Side, ttl: u32) -> Vec<RecordSet> {
    rules.records.iter().flat_map(|record| record_sets(record, rules.mode, side, ttl)).collect()
}

fn record_sets(record: &DnsRecord, mode: DnsMode, to: Side, ttl: u32) -> Vec<RecordSet> {
    let set = |target: &DnsTarget, member| {
        let data = match target.clone() {
            DnsTarget::Values(values) => Data::Values { ttl, values },
            // A load balancer without a healthy target must not send clients back to the side they have just left.
            DnsTarget::Alias { alias, zone } => Data::Alias { target: alias, zone, evaluate_health: false },
        };
        RecordSet { name: record.name.clone(), kind: record.kind, member, data }
    };
    match mode {
        DnsMode::Weighted => {
            let weight = |side| if side == to { WHOLE } else { 0 };
            let member = |side: Side| Member { identifier: side.to_string(), weight: weight(side) };
            record.targets().map(|(side, target)| set(target, Some(member(side)))).collect()
        }
        DnsMode::Simple | DnsMode::Alias => record.target(to).map(|target| set(target, None)).into_iter().collect(),
    }
}

pub fn ttl(rules: &config::Dns) -> u32 {
    u32::try_from(rules.ttl.as_secs()).unwrap_or(u32::MAX)
}

pub fn lower_ttl(rules: &config::Dns) -> u32 {
    u32::try_from(rules.lower_ttl.as_secs()).unwrap_or(u32::MAX)
}

/// The names that have to be read for a plan: the records' own, their marks', and where external-dns puts its.
pub fn names(rules: &config::Dns) -> BTreeSet<DnsName> {
    let of = |record: &DnsRecord| {
        let theirs = format!("{}-{}", record.kind.as_str().to_ascii_lowercase(), record.name);
        [Some(record.name.clone()), record.name.mark().ok(), theirs.parse().ok()]
    };
    rules.records.iter().flat_map(of).flatten().collect()
}

/// The sets among those found that the config's records stand for.
pub fn own<'a>(rules: &'a config::Dns, found: &'a [RecordSet]) -> impl Iterator<Item = &'a RecordSet> {
    let is_own = |set: &&RecordSet| rules.records.iter().any(|it| it.name == set.name && it.kind == set.kind);
    found.iter().filter(is_own)
}

/// Whether sets say the same, in whatever order, and with whatever TTL where `ttl` does not count.
pub fn same<'a>(
    one: impl IntoIterator<Item = &'a RecordSet>,
    other: impl IntoIterator<Item = &'a RecordSet>,
    ttl_counts: bool,
) -> bool {
    let normal = |set: &RecordSet| {
        let mut set = normal(set);
        match &mut set.data {
            Data::Values { ttl, .. } if !ttl_counts => *ttl = 0,
            _ => {}
        }
        set
    };
    let digest = |sets: Vec<RecordSet>| digest(&sets);
    digest(one.into_iter().map(normal).collect()) == digest(other.into_iter().map(normal).collect())
}

/// How many seconds an answer may be kept that comes from these.
pub fn longest_ttl<'a>(sets: impl IntoIterator<Item = &'a RecordSet>) -> u32 {
    let ttl = |set: &RecordSet| match set.data {
        Data::Values { ttl, .. } => ttl,
        Data::Alias { .. } | Data::Foreign(_) => ALIAS_TTL,
    };
    sets.into_iter().map(ttl).max().unwrap_or(0)
}

/// The TTL of those that have one of their own.
pub fn longest_values_ttl<'a>(sets: impl IntoIterator<Item = &'a RecordSet>) -> u32 {
    longest_ttl(sets.into_iter().filter(|set| matches!(set.data, Data::Values { .. })))
}

/// The zone as it is once the batch has been applied.
pub fn after(found: &[RecordSet], batch: &Batch) -> Vec<RecordSet> {
    let of = |action| batch.changes.iter().filter(move |change| change.action == action).map(|change| &change.set);
    let gone = |set: &RecordSet| of(Action::Delete).any(|deleted| deleted == set);
    found.iter().filter(|set| !gone(set)).chain(of(Action::Create)).cloned().collect()
}

/// The marks of ours that were found.
pub fn marks(service: &ServiceName, found: &[RecordSet]) -> Vec<Mark> {
    let mark = |set: &RecordSet| match Owner::of(set) {
        Owner::Cutover(mark) if set.kind == RecordType::Txt && mark.service == *service => Some(mark),
        _ => None,
    };
    found.iter().filter_map(mark).collect()
}

/// Compares and decides.
pub fn plan(rules: &config::Dns, aim: Aim, found: &[RecordSet], terms: &Terms) -> Plan {
    let wanted = match aim {
        Aim::Lead(side, ttl) => leading(rules, side, ttl),
        Aim::Lower(most, _) => own(rules, found).map(|set| lowered(set, most)).collect(),
    };
    let mut marked = true;
    for name in rules.records.iter().map(|record| &record.name).collect::<BTreeSet<_>>() {
        match judge(rules, name, found, terms) {
            Ok(known) => marked &= known,
            Err(no) => {
                // Where it all leads to, also where it would only be the TTL now.
                let wanted = if let Aim::Lower(_, to) = aim { leading(rules, to, ttl(rules)) } else { wanted };
                return Plan::Stop(Box::new(no.objection(name, &wanted, found)));
            }
        }
    }
    let equal = same(own(rules, found), &wanted, true);
    // What is only to be lowered and is low already needs no mark for that.
    let settled = equal && (marked || matches!(aim, Aim::Lower(..)));
    if settled && !terms.again || wanted.is_empty() {
        return Plan::Equal;
    }
    Plan::Write(Box::new(draft(rules, aim, wanted, found, terms)))
}

fn lowered(set: &RecordSet, most: u32) -> RecordSet {
    let mut set = set.clone();
    if let Data::Values { ttl, .. } = &mut set.data {
        *ttl = most.min(*ttl);
    }
    set
}

/// Why what stands at a name must not be changed.
struct No {
    why: Why,
    says: String,
    remedy: &'static str,
}

impl No {
    fn objection(self, name: &DnsName, wanted: &[RecordSet], found: &[RecordSet]) -> Objection {
        let at = |set: &&RecordSet| set.name == *name || name.mark().is_ok_and(|mark| mark == set.name);
        let of = |sets: &[RecordSet]| sets.iter().filter(at).cloned().collect();
        Objection {
            why: self.why,
            says: self.says,
            remedy: self.remedy.to_owned(),
            wanted: of(wanted),
            found: of(found),
        }
    }
}

fn no(why: Why, says: String, remedy: &'static str) -> Result<bool, No> {
    Err(No { why, says, remedy })
}

/// Whether what stands at the name may be changed: with a mark of ours that speaks for it, or not marked at all.
fn judge(rules: &config::Dns, name: &DnsName, found: &[RecordSet], terms: &Terms) -> Result<bool, No> {
    let place = name.mark().ok();
    let texts = || found.iter().filter(|set| set.kind == RecordType::Txt);
    for set in texts().filter(|set| Some(&set.name) != place.as_ref() && of_name(name, &set.name)) {
        if let Owner::Other(text) = Owner::of(set) {
            let says = format!("{name} belongs to somebody else, who says so at {}: {text}", set.name);
            return no(Why::Foreign, says, LEAVE);
        }
    }
    let here: Vec<&RecordSet> = own(rules, found).filter(|set| set.name == *name).collect();
    can_stand(rules, name, found, &here)?;
    let mark = texts().find(|set| Some(&set.name) == place.as_ref());
    speaks(mark.map(Owner::of), name, here, terms)
}

/// Whether what else there is at the name leaves room for the config's records.
fn can_stand(rules: &config::Dns, name: &DnsName, found: &[RecordSet], here: &[&RecordSet]) -> Result<bool, No> {
    for set in found.iter().filter(|set| set.name == *name) {
        if let Data::Foreign(what) = &set.data
            && set.kind != RecordType::Txt
        {
            return no(Why::Foreign, format!("the {} record {name} has {what}", set.kind), UNKNOWN);
        }
        let cname = set.kind == RecordType::Cname || here.iter().any(|set| set.kind == RecordType::Cname);
        let wants_cname = rules.records.iter().any(|it| it.name == *name && it.kind == RecordType::Cname);
        if (cname || wants_cname) && !here.contains(&set) {
            let says = format!("{name} has a {} record, and a CNAME stands alone", set.kind);
            return no(Why::Foreign, says, UNKNOWN);
        }
    }
    Ok(true)
}

/// Whether it is marked, and the mark, if there is one, speaks for what stands `here`.
fn speaks(mark: Option<Owner>, name: &DnsName, here: Vec<&RecordSet>, terms: &Terms) -> Result<bool, No> {
    use Why::{Another, Drifted, Foreign};
    match mark {
        None if here.is_empty() || terms.adopt => Ok(false),
        None => no(Foreign, format!("{name} exists, and nothing says that it is ours"), ADOPT),
        Some(Owner::Other(text)) => no(Foreign, format!("{name} is marked as somebody else's: {text}"), LEAVE),
        Some(Owner::Nobody) => no(Foreign, format!("there is a TXT record where the mark of {name} belongs"), UNKNOWN),
        Some(Owner::Cutover(_)) if terms.adopt => Ok(true),
        Some(Owner::Cutover(mark)) if mark.service != *terms.service => {
            no(Foreign, format!("{name} belongs to the service {} of a Cutover", mark.service), ADOPT)
        }
        Some(Owner::Cutover(_)) if terms.restore => Ok(true),
        Some(Owner::Cutover(mark)) if mark.digest != digest(here) => {
            no(Drifted, format!("somebody has changed {name} since generation {}", mark.generation), WRITE_OVER)
        }
        Some(Owner::Cutover(mark)) if !terms.ours.is_empty() && !terms.ours.contains(&mark.attempt) => {
            no(Another, format!("another proxy has written generation {} of {name}", mark.generation), WRITE_OVER)
        }
        Some(Owner::Cutover(_)) => Ok(true),
    }
}

/// The name itself, or a name of external-dns for it, such as `a-shop.example.com`.
fn of_name(name: &DnsName, at: &DnsName) -> bool {
    let theirs = |kind: &str| at.as_str().strip_prefix(kind).is_some_and(|rest| rest == name.as_str());
    at == name || ["a-", "aaaa-", "cname-"].into_iter().any(theirs)
}

/// Deletes everything as it was found, marks first, and makes everything anew: where anything has changed meanwhile, the
/// provider refuses the whole.
fn draft(rules: &config::Dns, aim: Aim, wanted: Vec<RecordSet>, found: &[RecordSet], terms: &Terms) -> Draft {
    let names: BTreeSet<&DnsName> = rules.records.iter().map(|record| &record.name).collect();
    let places: BTreeSet<DnsName> = names.iter().filter_map(|name| name.mark().ok()).collect();
    let known = found.iter().filter(|set| set.kind == RecordType::Txt && places.contains(&set.name));
    let old: Vec<Mark> = known.clone().filter_map(|set| Owner::of(set).mark()).collect();
    let generation = old.iter().map(|mark| mark.generation).max().unwrap_or(0) + 1;
    let old_ttl = longest_ttl(own(rules, found));
    // What still lives from before the batch before this one lives on behind it.
    let left = |mark: &Mark| {
        let gone = terms.now.as_second().saturating_sub(mark.written.as_second());
        u32::try_from(i64::from(mark.before).saturating_sub(gone)).unwrap_or(0)
    };
    let before = old.iter().map(left).max().unwrap_or(0).max(old_ttl);
    let mark = |name: &&DnsName| {
        let digest = digest(wanted.iter().filter(|set| set.name == **name));
        let (service, attempt) = (terms.service.clone(), terms.attempt.to_owned());
        Mark { service, generation, attempt, written: terms.now, before, digest }.set(name)
    };
    let marks: Vec<RecordSet> =
        names.iter().filter(|name| wanted.iter().any(|set| set.name == ***name)).map(mark).collect();
    let delete = |set: &RecordSet| Change { action: Action::Delete, set: set.clone() };
    let create = |set: RecordSet| Change { action: Action::Create, set };
    let mut gone: Vec<&RecordSet> = known.chain(own(rules, found)).collect();
    // In an order that does not depend on how the zone lists them.
    gone.sort_by_key(|set| (&set.name, set.kind, set.member.as_ref().map(|member| &member.identifier)));
    let changes = gone.into_iter().map(delete).chain(marks.into_iter().chain(wanted).map(create)).collect();
    let says = match aim {
        Aim::Lower(ttl, _) => format!("TTL {ttl} s"),
        Aim::Lead(side, ttl) => format!("{side}, TTL {ttl} s"),
    };
    let comment = format!("cutover {}: {says}, generation {generation}", terms.service);
    Draft { batch: Batch { comment, changes }, generation, old_ttl }
}

impl Owner {
    fn mark(self) -> Option<Mark> {
        match self {
            Owner::Cutover(mark) => Some(mark),
            Owner::Other(_) | Owner::Nobody => None,
        }
    }
}

/// The whole weight of a set. Never are all weights zero: that would mean that all are alike.
const WHOLE: u8 = 100;
/// What Route 53 gives an alias of a load balancer.
const ALIAS_TTL: u32 = 60;
const ADOPT: &str = "`cutover dns adopt` takes it over";
const LEAVE: &str = "have its owner give it up first, or take the name out of the config";
const UNKNOWN: &str = "remove that first, or take the name out of the config";
const WRITE_OVER: &str = "put it back, or `cutover dns sync` writes it over";
