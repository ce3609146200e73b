//! The checks, one function each: what it looks at, and what it says where that is in the way and where it is not.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::facts::{Dns, Facts, Names, RecordFacts, Served, TailFacts};
use super::{Check, Code};
use crate::names::{Color, Side};
use crate::tail::quiet;
use crate::time::{Human, Timestamp};

/// In the order in which an operator would ask.
pub fn all(facts: &Facts) -> Vec<Check> {
    if facts.live == facts.color {
        // Everything else would say the same in other words.
        return vec![live(facts)];
    }
    let of_color = [live(facts), cutover(facts), open(facts), in_flight(facts), tunnels(facts)];
    // It begins with the end of the cutover under way.
    let window = facts.cutover.is_none().then(|| rollback_window(facts));
    let of_names = facts.dns.iter().flat_map(|dns| names(facts, dns));
    of_color.into_iter().chain(window).chain(of_names).collect()
}

fn live(facts: &Facts) -> Check {
    let (live, color) = (facts.live, facts.color);
    let figures = [("live", json!(live))];
    match live == color {
        true => no(Code::Live, format!("{color} is live: switch to {} first", color.other()), figures),
        false => yes(Code::Live, format!("{live} is live"), figures),
    }
}

fn cutover(facts: &Facts) -> Check {
    match &facts.cutover {
        None => yes(Code::Cutover, "no cutover is under way", []),
        Some(cutover) => {
            let text = format!("cutover {} is under way, in phase {}", cutover.id, cutover.phase.replace('_', " "));
            no(Code::Cutover, text, [("id", json!(cutover.id)), ("phase", json!(cutover.phase))])
        }
    }
}

fn open(facts: &Facts) -> Check {
    match facts.is_open {
        true => no(Code::Open, format!("new requests can still enter {}", facts.color), []),
        false => yes(Code::Open, format!("no new request can enter {}", facts.color), []),
    }
}

fn in_flight(facts: &Facts) -> Check {
    inside(Code::InFlight, facts.in_flight, "request", facts.color)
}

fn tunnels(facts: &Facts) -> Check {
    inside(Code::Tunnels, facts.tunnels, "tunnel", facts.color)
}

fn inside(code: Code, count: u64, word: &str, color: Color) -> Check {
    let figures = [("count", json!(count))];
    match count {
        0 => yes(code, format!("no {word} is inside {color}"), figures),
        1 => no(code, format!("1 {word} is still inside {color}"), figures),
        _ => no(code, format!("{count} {word}s are still inside {color}"), figures),
    }
}

fn rollback_window(facts: &Facts) -> Check {
    let (color, window) = (facts.color, facts.rollback_window);
    let served = match facts.served {
        Served::Never => return yes(Code::RollbackWindow, format!("{color} has never served"), []),
        Served::Unknown => {
            let text = format!("{color} has served, and the journal no longer says until when");
            return no(Code::HistoryUnknown, text, []);
        }
        Served::Until(at) => at,
    };
    let over = later(served, window);
    let figures = [("served_until", json!(served)), ("window_s", json!(window.as_secs_f64()))];
    if over <= facts.now {
        let ago = Human(between(served, facts.now));
        return yes(Code::RollbackWindow, format!("{color} served last {ago} ago, and nobody went back"), figures);
    }
    let left = Human(between(facts.now, over));
    let text = format!("a rollback to {color} has to stay possible for another {left} (`rollback_window`)");
    no(Code::RollbackWindow, text, figures).until(over)
}

/// What only the names and those who obey them can tell.
fn names(facts: &Facts, dns: &Dns) -> Vec<Check> {
    let Some(names) = &dns.names else {
        let text = "what the names answer is not known yet";
        return vec![no(Code::DnsUnknown, text, [])];
    };
    let mut checks = vec![naming(facts.color, names), sync(names), expiry(facts.now, names)];
    // Where the names lead to the proxy, what comes to it has come by the right way.
    if names.wanted != Side::Proxy {
        checks.push(tail(facts.now, dns.tail.as_ref(), quiet(dns.silence, names.ttl)));
    }
    checks
}

/// A name that leads to the color sends clients there past the proxy, which cannot see them.
fn naming(color: Color, names: &Names) -> Check {
    let found = |record: &&RecordFacts| record.found.contains(&color);
    let leading: Vec<&str> = names.records.iter().filter(found).map(|record| record.name.as_str()).collect();
    let figures = [("records", json!(leading)), ("wanted", json!(names.wanted))];
    match (names.wanted == Side::from(color), leading.as_slice()) {
        (false, []) => yes(Code::DnsNames, format!("no name leads to {color}"), figures),
        (_, []) => no(Code::DnsNames, format!("the names are to lead to {color}"), figures),
        (_, leading) => {
            let (list, verb) = (leading.join(", "), if leading.len() == 1 { "leads" } else { "lead" });
            no(Code::DnsNames, format!("{list} still {verb} to {color}, past the proxy"), figures)
        }
    }
}

fn sync(names: &Names) -> Check {
    let behind = names.records.iter().filter(|record| !record.in_sync);
    let behind: Vec<&str> = behind.map(|record| record.name.as_str()).collect();
    let figures = [("records", json!(behind))];
    match behind.as_slice() {
        [] => yes(Code::DnsSync, "every name says what it is to say", figures),
        _ => {
            let trouble = names.trouble.as_ref().map_or(String::new(), |trouble| format!(": {trouble}"));
            let text = format!("not in sync: {}{trouble}; see `cutover dns status`", behind.join(", "));
            no(Code::DnsSync, text, figures)
        }
    }
}

fn expiry(now: Timestamp, names: &Names) -> Check {
    let figures = [("expires", json!(names.expires)), ("ttl_s", json!(names.ttl.as_secs_f64()))];
    match names.expires {
        Some(expires) if expires > now => {
            let left = Human(between(now, expires));
            let text = format!("resolvers may give the answer from before the shift for another {left}");
            no(Code::DnsExpiry, text, figures).until(expires)
        }
        _ => yes(Code::DnsExpiry, "no resolver that obeys still gives an earlier answer", figures),
    }
}

fn tail(now: Timestamp, tail: Option<&TailFacts>, quiet: Duration) -> Check {
    let Some(tail) = tail else {
        return no(Code::TailUnknown, "nobody counts yet what still comes through the old name", []);
    };
    let TailFacts { since, last_seen, silent_for, last_minute, connections, networks } = tail;
    let figures = [
        ("since", json!(since)),
        ("last_seen", json!(last_seen)),
        ("silent_s", json!(silent_for.as_secs_f64())),
        ("needed_s", json!(quiet.as_secs_f64())),
        ("last_minute", json!(last_minute)),
        ("connections", json!(connections)),
        ("networks", json!(networks)),
    ];
    if *silent_for >= quiet {
        let text = format!("the old name has been silent for {}", Human(*silent_for));
        return yes(Code::Tail, text, figures);
    }
    let (ago, needed) = (Human(*silent_for), Human(quiet));
    let text = match last_seen {
        Some(_) => format!(
            "the last request through the old name came {ago} ago, {last_minute} in the last minute; it has to be silent \
             for {needed}"
        ),
        None => format!("the old name has been watched for {ago}; it has to be silent for {needed}"),
    };
    no(Code::Tail, text, figures).until(later(now, quiet - *silent_for))
}

fn yes<const N: usize>(code: Code, text: impl Into<String>, figures: [(&str, Value); N]) -> Check {
    check(code, true, text.into(), figures)
}

fn no<const N: usize>(code: Code, text: impl Into<String>, figures: [(&str, Value); N]) -> Check {
    check(code, false, text.into(), figures)
}

fn check<const N: usize>(code: Code, holds: bool, text: String, figures: [(&str, Value); N]) -> Check {
    let figures: Map<String, Value> = figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Check { code, holds, text, figures, until: None }
}

impl Check {
    /// To the millisecond, and not before it is so.
    fn until(self, at: Timestamp) -> Check {
        let whole = at.as_nanosecond().rem_euclid(1_000_000) == 0;
        let millis = at.as_millisecond() + i64::from(!whole);
        Check { until: Some(Timestamp::from_millisecond(millis).unwrap_or(at)), ..self }
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}
