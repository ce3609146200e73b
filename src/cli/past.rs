//! `cutover history show`: all that has been kept of one cutover.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::{Table, presets};

use super::progress::count;
use super::status::{in_words, trial_says, warmed_says};
use super::verdict::{DRAIN_UNKNOWN, in_millis, probed_says, ways_on};
use crate::admin::{Outcome, Past};
use crate::cutover::{Flight, Frame, SecondOf};
use crate::names::Color;
use crate::time::{Human, Timestamp};

/// All of it, for people. Writing to a String cannot fail.
pub fn page(past: &Past) -> String {
    let Outcome { service, from, to, live, .. } = &past.outcome;
    let outcome = past.outcome.outcome.as_deref().unwrap_or(&past.outcome.phase);
    let id = past.outcome.id.as_deref().unwrap_or("-");
    let mut text = format!("{service}: {from} → {to}: {}; {live} is live (cutover {id})\n", in_words(outcome));
    let or_none = |time: Option<Timestamp>| {
        time.map_or("-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string())
    };
    let why = past.outcome.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let _ = writeln!(text, "  asked for by {}{why}", past.outcome.by.as_deref().unwrap_or("-"));
    let _ = writeln!(text, "  from {} to {}", or_none(past.outcome.started), or_none(past.outcome.ended));
    for gate in &past.outcome.gates {
        let at = gate.at.map_or(String::new(), |at| format!(" at {}", at.strftime("%H:%M:%SZ")));
        let _ = writeln!(text, "  gate {} {}{at}: {}", gate.name, gate.state.as_str(), gate.says);
    }
    if let Some(warmed) = &past.outcome.warmed {
        text.push_str(&warmed_says(warmed, *to));
    }
    if let (Some(micros), Some(proof)) = (past.outcome.switch_us, &past.outcome.proof) {
        let (at, took) = (or_none(Some(proof.switched)), Human(Duration::from_micros(micros)));
        let drain = past.outcome.drain_ms.map_or(String::new(), |drain| match past.outcome.requests_left {
            _ if past.outcome.restarted => format!("; {DRAIN_UNKNOWN}"),
            0 => format!("; drained in {}", in_millis(drain)),
            left => format!("; not drained in {}, {} left to finish", in_millis(drain), count(left, "request")),
        });
        let (back, old) = (if live == from { " back" } else { "" }, live.other());
        let since = proof.requests_to_old_since;
        let _ = writeln!(text, "  switched{back} at {at} in {took}{drain}; requests to {old} since: {since}");
        for line in proof.probed.iter().flat_map(probed_says) {
            let _ = writeln!(text, "  {line}");
        }
    }
    if let Some(judged) = &past.outcome.judged {
        text.push_str(&trial_says(judged, *to));
    }
    let failures = past.outcome.warmed.as_ref().map_or(&[][..], |warmed| &warmed.failures);
    for reason in past.outcome.reasons.iter().filter(|reason| !failures.contains(reason)) {
        let _ = writeln!(text, "  {reason}");
    }
    if let Some(unwritten) = &past.outcome.unwritten {
        let _ = writeln!(text, "  {unwritten}");
    }
    if past.outcome.phase == "paused" {
        for way in ways_on(service, *from, *live, past.outcome.returning) {
            let _ = writeln!(text, "  {way}");
        }
    }
    if let Some(flight) = &past.flight {
        text.push_str(&flight_says(flight));
    }
    text.trim_end().to_owned()
}

fn flight_says(flight: &Flight) -> String {
    let mut text = String::new();
    let or_none =
        |time: Option<Timestamp>| time.map_or("none".to_owned(), |time| time.strftime("%H:%M:%S%.6fZ").to_string());
    for (color, span) in flight.requests.iter() {
        let _ = writeln!(text, "  first request to {color}: {}; the last: {}", or_none(span.first), or_none(span.last));
    }
    if flight.seconds.is_empty() {
        return text;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let of = |color: Color| [&format!("{color}: requests"), "errors", "inside", "p50", "p99"].map(str::to_owned);
    let header = ["second".to_owned()].into_iter().chain(Color::BOTH.into_iter().flat_map(of));
    table.set_header(header.collect::<Vec<_>>());
    // Before its first request and behind its last a service says nothing.
    let is_idle = |second: &&Frame| second.colors.iter().all(|(_, did)| *did == SecondOf::default());
    let behind = flight.seconds.iter().rposition(|second| !is_idle(&second)).map_or(0, |last| last + 1);
    for second in flight.seconds[..behind].iter().skip_while(is_idle) {
        let both = second.colors.iter().flat_map(|(_, did)| columns(did));
        table.add_row([second.at.strftime("%H:%M:%S").to_string()].into_iter().chain(both).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((2, 0));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    text + &lines.join("\n")
}

fn columns(did: &SecondOf) -> [String; 5] {
    let micros =
        |micros: Option<u64>| micros.map_or("-".to_owned(), |micros| Human(Duration::from_micros(micros)).to_string());
    [did.requests.to_string(), did.errors.to_string(), did.inside.to_string(), micros(did.p50_us), micros(did.p99_us)]
}
