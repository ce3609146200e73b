//! The mark of who owns a name: a TXT record below it, written and deleted together with the record sets it speaks for.

use std::collections::HashMap;

use super::zone::{Data, RecordSet};
use crate::names::{DnsName, RecordType, ServiceName};
use crate::time::Timestamp;

/// One name's mark. Since every batch deletes the mark that was read and makes another, of two writers one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub service: ServiceName,
    /// One more with each batch.
    pub generation: u64,
    /// Unlike that of any other batch: whoever got no answer knows by it whether his was applied.
    pub attempt: String,
    pub written: Timestamp,
    /// From when it was written, answers from before could live so many seconds.
    pub before: u32,
    /// Of the record sets it speaks for, so that a change by anybody else shows.
    pub digest: u32,
}

/// What a TXT record says about who owns a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Cutover(Mark),
    /// Somebody else, or a version that is not understood here.
    Other(String),
    /// Nobody: the text is about something else.
    Nobody,
}

impl Mark {
    /// The record set that says it.
    pub fn set(&self, name: &DnsName) -> RecordSet {
        let Mark { service, generation, attempt, written, before, digest } = self;
        let text = format!(
            "\"{OURS}{VERSION},service={service},generation={generation},attempt={attempt},written={},before={before},digest={digest:08x}\"",
            written.as_second()
        );
        RecordSet {
            // The config has seen to it that there is room; without, the provider refuses a name that is none.
            name: name.mark().unwrap_or_else(|_| name.clone()),
            kind: RecordType::Txt,
            member: None,
            data: Data::Values { ttl: TTL, values: vec![text] },
        }
    }

    /// When answers from before it was written have died out everywhere; `spread` is what name servers may take to learn
    /// of a change.
    pub fn settled(&self, spread: std::time::Duration) -> Timestamp {
        let lives = std::time::Duration::from_secs(u64::from(self.before)) + spread;
        self.written.checked_add(lives).unwrap_or(self.written)
    }

    fn read(text: &str) -> Option<Mark> {
        let fields: HashMap<&str, &str> = text.split(',').filter_map(|field| field.split_once('=')).collect();
        let get = |key: &str| fields.get(key).copied();
        Some(Mark {
            service: get("service")?.parse().ok()?,
            generation: get("generation")?.parse().ok()?,
            attempt: get("attempt")?.to_owned(),
            written: Timestamp::from_second(get("written")?.parse().ok()?).ok()?,
            before: get("before")?.parse().ok()?,
            digest: u32::from_str_radix(get("digest")?, 16).ok()?,
        })
    }
}

impl Owner {
    /// What this record set says, which may stand at a mark's place or beside the name itself.
    pub fn of(set: &RecordSet) -> Owner {
        let Data::Values { values, .. } = &set.data else { return Owner::Nobody };
        let texts: Vec<&str> = values.iter().map(|value| value.trim_matches('"')).collect();
        let Some(text) = texts.iter().find(|text| text.starts_with(HERITAGE)) else { return Owner::Nobody };
        match (text.strip_prefix(OURS), texts.len()) {
            (Some(rest), 1) => match rest.strip_prefix(VERSION).and_then(Mark::read) {
                Some(mark) => Owner::Cutover(mark),
                None => Owner::Other((*text).to_owned()),
            },
            _ => Owner::Other((*text).to_owned()),
        }
    }
}

/// The same for the same record sets, in whatever order they and their values are listed.
pub fn digest<'a>(sets: impl IntoIterator<Item = &'a RecordSet>) -> u32 {
    let mut lines: Vec<String> =
        sets.into_iter().map(|set| serde_json::to_string(&normal(set)).unwrap_or_default()).collect();
    lines.sort_unstable();
    crc32c::crc32c(lines.join("\n").as_bytes())
}

/// A set as it compares: values in one order and one spelling.
pub fn normal(set: &RecordSet) -> RecordSet {
    let mut set = set.clone();
    if let Data::Values { values, .. } = &mut set.data {
        let spelling = |value: &String| match set.kind {
            RecordType::Cname => value.trim_end_matches('.').to_ascii_lowercase(),
            RecordType::Aaaa => value.parse().map_or_else(|_| value.clone(), |ip: std::net::Ipv6Addr| ip.to_string()),
            RecordType::A | RecordType::Txt => value.clone(),
        };
        *values = values.iter().map(spelling).collect();
        values.sort_unstable();
    }
    set
}

/// As others mark what is theirs (external-dns), so that they leave alone what is ours.
const HERITAGE: &str = "heritage=";
const OURS: &str = "heritage=cutover,";
const VERSION: &str = "v=1";
/// Nobody but operators looks a mark up.
const TTL: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            service: "shop".parse().unwrap(),
            generation: 7,
            attempt: "3f09".into(),
            written: Timestamp::from_second(1_700_000_000).unwrap(),
            before: 60,
            digest: 0xa1,
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_fits_into_one_string() {
        let set = mark().set(&"shop.example.com".parse().unwrap());
        assert_eq!(set.name.as_str(), "_cutover.shop.example.com");
        assert_eq!(Owner::of(&set), Owner::Cutover(mark()));
        let service = "s".repeat(63).parse().unwrap();
        let longest = Mark { service, generation: u64::MAX, attempt: "f".repeat(16), before: u32::MAX, ..mark() };
        let Data::Values { values, .. } = longest.set(&"a.b".parse().unwrap()).data else { panic!() };
        assert!(values[0].len() <= 257, "RFC 1035, section 3.3: 255 octets, and two quotes: {}", values[0].len());
    }

    #[test]
    fn what_others_say_is_theirs_and_what_says_nothing_of_it_is_nobodys() {
        let set = |values: &[&str]| RecordSet {
            name: "shop.example.com".parse().unwrap(),
            kind: RecordType::Txt,
            member: None,
            data: Data::Values { ttl: 300, values: values.iter().map(|value| format!("\"{value}\"")).collect() },
        };
        assert_eq!(Owner::of(&set(&["v=spf1 -all"])), Owner::Nobody);
        for other in [
            "heritage=external-dns,external-dns/owner=default",
            "heritage=cutover,v=2,service=shop",
            "heritage=cutover,v=1,service=shop",
            "heritage=cutover,v=1,service=NOT,generation=1,attempt=a,written=1,before=1,digest=1",
        ] {
            assert_eq!(Owner::of(&set(&[other])), Owner::Other(other.into()));
            assert_eq!(Owner::of(&set(&["v=spf1 -all", other])), Owner::Other(other.into()));
        }
    }

    #[test]
    fn a_digest_is_of_what_a_set_says_and_not_of_how_it_is_listed() {
        let set = |kind, values: &[&str]| RecordSet {
            name: "a.b".parse().unwrap(),
            kind,
            member: None,
            data: Data::Values { ttl: 60, values: values.iter().map(|value| (*value).to_owned()).collect() },
        };
        let (one, other) = (set(RecordType::A, &["10.0.0.1", "10.0.0.2"]), set(RecordType::Cname, &["x.y"]));
        let turned = set(RecordType::A, &["10.0.0.2", "10.0.0.1"]);
        assert_eq!(digest([&one, &other]), digest([&set(RecordType::Cname, &["X.y."]), &turned]));
        assert_ne!(digest([&one]), digest([&set(RecordType::A, &["10.0.0.1"])]));
        assert_ne!(digest([&one]), digest([]));
    }
}
