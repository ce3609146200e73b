//! The permit proved whole: every combination of facts, and what each says.

use std::time::Duration;

use super::*;
use crate::names::Side;

const MINUTE: Duration = Duration::from_secs(60);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// A color that nothing speaks for any more.
fn free() -> Facts {
    Facts {
        service: "shop".parse().unwrap(),
        color: Color::Blue,
        now: at(0),
        live: Color::Green,
        cutover: None,
        is_open: false,
        in_flight: 0,
        tunnels: 0,
        served: Served::Until(at(-3600)),
        rollback_window: 30 * MINUTE,
        dns: Some(Dns {
            names: Some(Names {
                wanted: Side::Green,
                records: vec![
                    RecordFacts { name: "shop.test A".into(), in_sync: true, found: vec![Color::Green] },
                    RecordFacts { name: "shop.test AAAA".into(), in_sync: true, found: vec![] },
                ],
                trouble: None,
                expires: Some(at(-1800)),
                ttl: MINUTE,
            }),
            tail: Some(TailFacts {
                since: at(-1800),
                last_seen: Some(at(-600)),
                silent_for: 10 * MINUTE,
                last_minute: 0,
                connections: 4,
                networks: 2,
            }),
            silence: 10 * MINUTE,
        }),
    }
}

/// Its names, and its tail, to be spoilt.
fn dns(facts: &mut Facts) -> &mut Dns {
    facts.dns.as_mut().unwrap()
}

fn codes(facts: &Facts) -> Vec<&'static str> {
    judge(facts).reasons.iter().map(|reason| reason.code.as_str()).collect()
}

/// Each way in which one thing is in the way, and what it is called.
type Spoil = (fn(&mut Facts), &'static str);
const SPOILS: [Spoil; 12] = [
    (|facts| facts.cutover = Some(UnderWay { id: "shop-1".into(), phase: "drain_back".into() }), "cutover"),
    (|facts| facts.is_open = true, "open"),
    (|facts| facts.in_flight = 3, "in-flight"),
    (|facts| facts.tunnels = 1, "tunnels"),
    (|facts| facts.served = Served::Until(at(-60)), "rollback-window"),
    (|facts| facts.served = Served::Unknown, "history-unknown"),
    (|facts| names_of(facts).records[1].found.push(Color::Blue), "dns-names"),
    (|facts| names_of(facts).records[0].in_sync = false, "dns-sync"),
    (|facts| names_of(facts).expires = Some(at(1)), "dns-expiry"),
    (|facts| dns(facts).tail.as_mut().unwrap().silent_for = MINUTE, "tail"),
    (|facts| dns(facts).tail = None, "tail-unknown"),
    (|facts| dns(facts).names = None, "dns-unknown"),
];

fn names_of(facts: &mut Facts) -> &mut Names {
    dns(facts).names.as_mut().unwrap()
}

#[test]
fn a_color_that_nothing_speaks_for_may_go_and_the_grounds_say_all_that_was_looked_at() {
    let permit = judge(&free());
    assert!(permit.may && permit.reasons.is_empty() && permit.until.is_none(), "{permit:#?}");
    let grounds: Vec<_> = permit.grounds.iter().map(|ground| ground.code.as_str()).collect();
    let all = [
        "live",
        "cutover",
        "open",
        "in-flight",
        "tunnels",
        "rollback-window",
        "dns-names",
        "dns-sync",
        "dns-expiry",
        "tail",
    ];
    assert_eq!(grounds, all);
}

#[test]
fn each_thing_in_the_way_is_a_no_of_its_own_and_all_of_them_together_are_all_told() {
    // What is not known, or not over, hides what would be said of it otherwise.
    let hides = |code: &str| match code {
        "cutover" => &["rollback-window", "history-unknown"][..],
        "history-unknown" => &["rollback-window"],
        "tail-unknown" => &["tail"],
        "dns-unknown" => &["dns-names", "dns-sync", "dns-expiry", "tail", "tail-unknown"],
        _ => &[],
    };
    for spoiled in 0_u32..1 << SPOILS.len() {
        let chosen = || (0..SPOILS.len()).filter(move |place| spoiled & 1 << place != 0).map(|place| SPOILS[place]);
        let mut facts = free();
        chosen().for_each(|(spoil, _)| spoil(&mut facts));
        let hidden: Vec<&str> = chosen().flat_map(|(_, code)| hides(code)).copied().collect();
        let mut expected: Vec<&str> = chosen().map(|(_, code)| code).filter(|code| !hidden.contains(code)).collect();
        let mut found = codes(&facts);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{facts:#?}");
        assert_eq!(judge(&facts).may, spoiled == 0);
        // The live color may never go, whatever else is so.
        facts.live = facts.color;
        assert_eq!(codes(&facts), ["live"]);
        // Without names of its own a service's permit rests on the rest.
        let bare = Facts { dns: None, live: Color::Green, ..facts };
        let rest = found.iter().filter(|code| !code.starts_with("dns") && !code.starts_with("tail")).count();
        assert_eq!(codes(&bare).len(), rest);
    }
}

#[test]
fn a_color_that_names_are_to_lead_to_may_not_go_before_they_do() {
    let mut facts = free();
    names_of(&mut facts).wanted = Side::Blue;
    assert_eq!(codes(&facts), ["dns-names"]);
}

#[test]
fn where_the_names_lead_to_the_proxy_nothing_that_comes_there_is_a_tail() {
    let mut facts = free();
    names_of(&mut facts).wanted = Side::Proxy;
    names_of(&mut facts).records[0].found.clear();
    dns(&mut facts).tail = None;
    assert!(judge(&facts).may);
    names_of(&mut facts).expires = Some(at(5));
    assert_eq!(codes(&facts), ["dns-expiry"], "an answer from before may still lead to blue");
}

#[test]
fn the_silence_is_the_longer_of_the_configured_one_and_two_ttls() {
    for (ttl, silence, silent, may) in
        [(60, 600, 599, false), (60, 600, 600, true), (400, 600, 799, false), (400, 600, 800, true)]
    {
        let mut facts = free();
        names_of(&mut facts).ttl = Duration::from_secs(ttl);
        dns(&mut facts).silence = Duration::from_secs(silence);
        dns(&mut facts).tail.as_mut().unwrap().silent_for = Duration::from_secs(silent);
        assert_eq!(judge(&facts).may, may, "ttl {ttl}, silence {silence}, silent for {silent}");
    }
}

#[test]
fn windows_are_over_at_their_very_end_and_say_when_that_is() {
    let mut facts = free();
    facts.served = Served::Until(at(-1799));
    names_of(&mut facts).expires = Some(at(20));
    let permit = judge(&facts);
    let ends: Vec<_> = permit.reasons.iter().map(|reason| (reason.code, reason.until)).collect();
    assert_eq!(ends, [(Code::RollbackWindow, Some(at(1))), (Code::DnsExpiry, Some(at(20)))]);
    assert_eq!(permit.until, Some(at(20)), "time is all that is missing");
    assert!(judge(&Facts { now: at(20), ..facts.clone() }).may);
    facts.in_flight = 1;
    assert_eq!(judge(&facts).until, None, "a request may take as long as it may");
}

#[test]
fn a_clock_that_was_set_back_permits_nothing_early() {
    let facts = Facts { served: Served::Until(at(100_000)), ..free() };
    assert_eq!(codes(&facts), ["rollback-window"]);
}

#[test]
fn what_has_never_served_has_nothing_to_go_back_to() {
    assert!(judge(&Facts { served: Served::Never, ..free() }).may);
}

#[test]
fn it_is_json_for_scripts() {
    let mut facts = free();
    facts.tunnels = 2;
    let json = serde_json::to_value(judge(&facts)).unwrap();
    assert_eq!(json["may"], false);
    assert_eq!(json["reasons"][0]["code"], "tunnels");
    assert_eq!(json["reasons"][0]["figures"]["count"], 2);
    assert_eq!(serde_json::from_value::<Permit>(json).unwrap(), judge(&facts));
    for code in SPOILS.map(|(_, code)| code) {
        let read: Code = serde_json::from_value(code.into()).unwrap();
        assert_eq!(read.as_str(), code);
    }
}
