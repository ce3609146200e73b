//! The proof: each name server is asked itself, and none is believed that does not speak for the zone.

use cutover::dns::{Data, Heard, Member, NameServer as Whom, RecordSet, prove};
use cutover::names::RecordType;
use cutover::time;

use super::stage::Stage;
use crate::harness::route53::Set;
use crate::harness::{Manner, NameServer};

fn green(weight: u64, values: &[&str]) -> Set {
    Set::new("shop.example.com", "A", 10, values).weighted("green", weight)
}

fn blue(weight: u64) -> Set {
    Set::new("shop.example.com", "A", 10, &["198.51.100.1"]).weighted("blue", weight)
}

/// As it was written.
fn written(sets: &[Set]) -> Vec<RecordSet> {
    let set = |set: &Set| RecordSet {
        name: set.host().parse().unwrap(),
        kind: match set.kind.as_str() {
            "A" => RecordType::A,
            "AAAA" => RecordType::Aaaa,
            _ => RecordType::Cname,
        },
        member: set.identifier.clone().map(|identifier| Member { identifier, weight: set.weight.unwrap() as u8 }),
        data: Data::Values { ttl: set.ttl.unwrap() as u32, values: set.values.clone() },
    };
    sets.iter().map(set).collect()
}

async fn hear(server: &NameServer, sets: &[Set]) -> Heard {
    let proof = prove(&[Whom::At(server.address)], &written(sets), time::now()).await;
    let [heard] = &proof.heard[..] else { panic!("{proof:#?}") };
    heard.clone()
}

#[tokio::test]
async fn a_server_is_asked_often_and_must_speak_for_the_zone() {
    let sets = vec![blue(0), green(100, &["198.51.100.2"])];
    let serves = sets.clone();
    let server = NameServer::start(move || serves.clone()).await;
    for (manner, wrong) in [
        (Manner::Proper, None),
        (Manner::Truncating, None),
        (Manner::Forged, None),
        (Manner::Lame, Some("does not speak for the zone: its answer is not authoritative")),
        (Manner::Refusing, Some("answers Query Refused")),
        (Manner::Silent, Some("no answer within 2 s, asked 3 times")),
    ] {
        server.behave(manner);
        let heard = hear(&server, &sets).await;
        assert_eq!(heard.wrong.as_deref(), wrong, "{manner:?}");
    }
    assert!(server.asked() >= 3 * 16);
    assert_eq!(server.asked_over_tcp(), 16, "a cut answer is asked for over TCP");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_comes_whole_over_tcp() {
    let many: Vec<String> = (1..=60).map(|n| format!("198.51.100.{n}")).collect();
    let sets = vec![Set::new("shop.example.com", "A", 10, &many.iter().map(String::as_str).collect::<Vec<_>>())];
    let serves = sets.clone();
    let server = NameServer::start(move || serves.clone()).await;
    assert_eq!(hear(&server, &sets).await.wrong, None);
    assert_eq!(server.asked_over_tcp(), 2);
}

#[tokio::test]
async fn shares_are_those_of_the_weights() {
    let (sets, other) = (vec![blue(25), green(75, &["198.51.100.2"])], vec![blue(75), green(25, &["198.51.100.2"])]);
    let serves = sets.clone();
    let server = NameServer::start(move || serves.clone()).await;
    assert_eq!(hear(&server, &sets).await.wrong, None);
    let wrong = hear(&server, &other).await.wrong.unwrap();
    assert!(wrong.contains("times of 64, and its weight is"), "{wrong}");
}

#[tokio::test]
async fn names_of_every_kind_are_asked_for_wildcards_by_one_of_theirs() {
    let sets = vec![
        Set::new("*.shop.example.com", "CNAME", 10, &["green.example.net"]),
        Set::new("shop.example.com", "AAAA", 10, &["2001:db8::2"]),
    ];
    let serves = sets.clone();
    let server = NameServer::start(move || serves.clone()).await;
    let proof = prove(&[Whom::At(server.address)], &written(&sets), time::now()).await;
    assert_eq!(proof.wrong(), Vec::<String>::new());
    assert_eq!(proof.heard.len(), 2);
}

#[tokio::test]
async fn one_server_that_is_behind_keeps_names_from_being_in_sync() {
    let stage = Stage::settled().await;
    stage.servers[2].behave(Manner::Lame);
    stage.switch("green").await;
    let dns = stage.until("unproved", |dns| dns["state"] == "verify" && dns["message"].is_string()).await;
    let says = format!("name server {}: shop.example.com A: does not speak for the zone", stage.servers[2].address);
    assert!(dns["message"].as_str().unwrap().contains(&says), "{dns:#}");
    assert_eq!((&dns["in_sync"], &dns["records"][0]["in_sync"]), (&false.into(), &false.into()));
    stage.servers[2].behave(Manner::Proper);
    let dns = stage.until_at("green").await;
    assert_eq!(dns["proof"]["heard"].as_array().unwrap().len(), 4);
}
