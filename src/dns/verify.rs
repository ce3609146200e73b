//! The proof: what every name server answers, compared with what was written, and shares with weights.

use std::net::SocketAddr;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use super::ask::{Reply, ask, locate};
use super::mark::normal;
use super::zone::{Data, NameServer, RecordSet};
use crate::names::{DnsName, RecordType};
use crate::time::Timestamp;

/// What all of them answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    pub at: Timestamp,
    pub heard: Vec<Heard>,
}

/// What one name server says of one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    pub server: String,
    pub name: DnsName,
    #[serde(rename = "type")]
    pub kind: RecordType,
    /// How often it was asked.
    pub samples: u32,
    /// What is wrong; `None`: it says what was written.
    pub wrong: Option<String>,
}

impl Proof {
    /// What is not as it should be, in sentences.
    pub fn wrong(&self) -> Vec<String> {
        let says = |heard: &Heard| {
            let Heard { server, name, kind, wrong, .. } = heard;
            wrong.as_ref().map(|wrong| format!("name server {server}: {name} {kind}: {wrong}"))
        };
        self.heard.iter().filter_map(says).collect()
    }

    pub fn holds_for(&self, name: &DnsName, kind: RecordType) -> bool {
        self.heard.iter().filter(|heard| heard.name == *name && heard.kind == kind).all(|heard| heard.wrong.is_none())
    }
}

/// Asks each of them for each record, the servers side by side, each server one question after the other.
pub async fn prove(servers: &[NameServer], written: &[RecordSet], at: Timestamp) -> Proof {
    let records = records(written);
    let ask_all = |server: &NameServer| {
        let (server, records) = (server.clone(), records.clone());
        async move { hear(&server, &records).await }
    };
    let heard: Vec<_> =
        stream::iter(servers.iter().map(ask_all).collect::<Vec<_>>()).buffered(SERVERS_AT_ONCE).collect().await;
    Proof { at, heard: heard.into_iter().flatten().collect() }
}

/// A name and type with all its sets.
type Written = (DnsName, RecordType, Vec<RecordSet>);

fn records(written: &[RecordSet]) -> Vec<Written> {
    let mut records: Vec<Written> = Vec::new();
    for set in written {
        match records.iter_mut().find(|(name, kind, _)| *name == set.name && *kind == set.kind) {
            Some((_, _, sets)) => sets.push(set.clone()),
            None => records.push((set.name.clone(), set.kind, vec![set.clone()])),
        }
    }
    records
}

async fn hear(server: &NameServer, records: &[Written]) -> Vec<Heard> {
    let located = locate(server).await.map_err(|error| error.to_string());
    let mut heard = Vec::new();
    for (name, kind, sets) in records {
        let samples = samples(sets);
        let wrong = match &located {
            Ok(address) => sample(*address, &name.example(), *kind, sets, samples).await.err(),
            Err(error) => Some(error.clone()),
        };
        heard.push(Heard { server: server.to_string(), name: name.clone(), kind: *kind, samples, wrong });
    }
    heard
}

async fn sample(
    server: SocketAddr,
    name: &DnsName,
    kind: RecordType,
    sets: &[RecordSet],
    samples: u32,
) -> Result<(), String> {
    let mut replies = Vec::new();
    for _ in 0..samples {
        let reply = ask(server, name, kind).await.map_err(|error| error.to_string())?;
        judge_one(sets, &reply)?;
        replies.push(reply);
    }
    judge_shares(sets, &replies)
}

/// How often to ask: a share is seen in many answers, a single set in two.
fn samples(sets: &[RecordSet]) -> u32 {
    match sets {
        [_] => 2,
        _ if sets.iter().filter(|set| weight(set) > 0).count() > 1 => 64,
        _ => 16,
    }
}

fn weight(set: &RecordSet) -> u32 {
    set.member.as_ref().map_or(1, |member| u32::from(member.weight))
}

/// Whether the set can have given this answer. Of an alias it is known only that there is one.
fn gives(set: &RecordSet, reply: &Reply) -> bool {
    match &normal(set).data {
        Data::Values { values, .. } => *values == reply.values,
        Data::Alias { .. } => !reply.values.is_empty(),
        Data::Foreign(_) => false,
    }
}

/// Whether one answer is one that was written, with the TTL that was written.
fn judge_one(sets: &[RecordSet], reply: &Reply) -> Result<(), String> {
    let says = if reply.values.is_empty() { "nothing".to_owned() } else { reply.values.join(", ") };
    let all_zero = sets.iter().all(|set| weight(set) == 0);
    let mut given = sets.iter().filter(|set| gives(set, reply));
    let Some(set) = given.clone().find(|set| weight(set) > 0 || all_zero) else {
        return Err(match given.next().and_then(|set| set.member.as_ref()) {
            Some(member) => format!("answers {says}, which is {} and has no weight", member.identifier),
            None => format!("answers {says}"),
        });
    };
    match set.data {
        Data::Values { ttl, .. } if ttl != reply.ttl => {
            Err(format!("answers with a TTL of {} s where {ttl} s was written", reply.ttl))
        }
        _ => Ok(()),
    }
}

/// Compares how often each answer came with its weight. With the weights as written, a share this far off would come up
/// less than once in a million times: that is the bound, by the binomial distribution, for each side of it.
fn judge_shares(sets: &[RecordSet], replies: &[Reply]) -> Result<(), String> {
    let total: u32 = sets.iter().map(weight).sum();
    let aliases = sets.iter().any(|set| matches!(set.data, Data::Alias { .. }));
    if aliases || total == 0 {
        return Ok(());
    }
    for set in sets {
        // Sets that say the same are one answer.
        let alike = sets.iter().filter(|other| normal(other).data == normal(set).data);
        let share = f64::from(alike.map(weight).sum::<u32>()) / f64::from(total);
        let seen = replies.iter().filter(|reply| gives(set, reply)).count();
        if is_unlikely(seen, replies.len(), share) {
            let member = set.member.as_ref().map_or(set.kind.as_str(), |member| &member.identifier);
            let percent = share * 100.0;
            return Err(format!("{member} came {seen} times of {}, and its weight is {percent:.0} %", replies.len()));
        }
    }
    Ok(())
}

/// Whether `seen` of `asked`, or one yet farther from `share`, has a probability below one in a million.
fn is_unlikely(seen: usize, asked: usize, share: f64) -> bool {
    let probability = |times: usize| {
        let (rest, log) = ((asked - times) as f64, |p: f64, n: f64| if n == 0.0 { 0.0 } else { n * p.ln() });
        let ways: f64 = (1..=times).map(|i| ((asked - times + i) as f64 / i as f64).ln()).sum();
        (ways + log(share, times as f64) + log(1.0 - share, rest)).exp()
    };
    let at_most: f64 = (0..=seen).map(probability).sum();
    let at_least: f64 = (seen..=asked).map(probability).sum();
    at_most.min(at_least) < UNLIKELY
}

const SERVERS_AT_ONCE: usize = 8;
const UNLIKELY: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::super::zone::Member;
    use super::*;

    fn set(identifier: &str, weight: u8, value: &str) -> RecordSet {
        RecordSet {
            name: "shop.example.com".parse().unwrap(),
            kind: RecordType::A,
            member: Some(Member { identifier: identifier.into(), weight }),
            data: Data::Values { ttl: 10, values: vec![value.into()] },
        }
    }

    fn reply(value: &str) -> Reply {
        Reply { values: vec![value.into()], ttl: 10 }
    }

    #[test]
    fn an_answer_is_one_that_was_written_and_has_weight() {
        let sets = [set("blue", 0, "10.0.0.1"), set("green", 100, "10.0.0.2")];
        assert_eq!(judge_one(&sets, &reply("10.0.0.2")), Ok(()));
        let blue = judge_one(&sets, &reply("10.0.0.1")).unwrap_err();
        assert_eq!(blue, "answers 10.0.0.1, which is blue and has no weight");
        assert_eq!(judge_one(&sets, &reply("10.0.0.9")).unwrap_err(), "answers 10.0.0.9");
        assert_eq!(judge_one(&sets, &Reply { values: vec![], ttl: 0 }).unwrap_err(), "answers nothing");
        let stale = judge_one(&sets, &Reply { ttl: 60, ..reply("10.0.0.2") }).unwrap_err();
        assert_eq!(stale, "answers with a TTL of 60 s where 10 s was written");
    }

    #[test]
    fn of_an_alias_it_is_known_only_that_it_answers() {
        let alias = Data::Alias { target: "elb.test".parse().unwrap(), zone: "Z1".into(), evaluate_health: false };
        let sets = [RecordSet { member: None, data: alias, ..set("blue", 0, "") }];
        assert_eq!(judge_one(&sets, &Reply { ttl: 37, ..reply("192.0.2.7") }), Ok(()));
        assert!(judge_one(&sets, &Reply { values: vec![], ttl: 0 }).is_err());
    }

    #[test]
    fn shares_are_compared_with_weights_as_strictly_as_chance_allows() {
        let sets = [set("blue", 25, "10.0.0.1"), set("green", 75, "10.0.0.2")];
        let of = |blue: usize| [vec![reply("10.0.0.1"); blue], vec![reply("10.0.0.2"); 64 - blue]].concat();
        for likely in [8, 16, 24] {
            assert_eq!(judge_shares(&sets, &of(likely)), Ok(()), "{likely}");
        }
        for unlikely in [0, 1, 40, 64] {
            assert!(judge_shares(&sets, &of(unlikely)).is_err(), "{unlikely}");
        }
        assert!(judge_shares(&[set("blue", 0, "10.0.0.1"), set("green", 1, "10.0.0.2")], &of(1)).is_err());
        assert_eq!(judge_shares(&[set("blue", 0, "10.0.0.1"), set("green", 0, "10.0.0.2")], &of(1)), Ok(()));
    }

    #[test]
    fn the_bound_is_the_tail_of_the_binomial_distribution() {
        // 0.5^20 is just below one in a million, 0.5^19 just above.
        assert!(is_unlikely(0, 20, 0.5) && is_unlikely(20, 20, 0.5));
        assert!(!is_unlikely(0, 19, 0.5) && !is_unlikely(10, 20, 0.5));
        assert!(!is_unlikely(0, 20, 0.0) && is_unlikely(1, 20, 0.0));
        assert!(!is_unlikely(20, 20, 1.0) && is_unlikely(19, 20, 1.0));
    }
}
