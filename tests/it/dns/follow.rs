//! The way of names behind a switch, with the provider well, dead and dying.

use std::time::Duration;

use serde_json::Value;

use super::stage::{Stage, ZONE};
use crate::harness::{Client, PATIENCE, Resolver, Service, eventually};

const BLUE: [&str; 1] = ["198.51.100.1"];
const GREEN: [&str; 2] = ["198.51.100.2", "198.51.100.3"];

#[tokio::test]
async fn names_follow_a_switch_to_every_name_server_and_back() {
    let stage = Stage::settled().await;
    assert_eq!(stage.seen_at(2).await, BLUE);
    let (_client, mut events) = stage.proxy.watch("/v1/events").await;
    stage.route53.pending_for(usize::MAX);
    stage.switch("green").await;
    assert_eq!(stage.seen_at(0).await, BLUE, "the switch does not wait for names");
    stage.route53.pending_for(0);
    stage.route53.sync();
    let dns = stage.until_at("green").await;
    for server in 0..4 {
        assert_eq!(stage.seen_at(server).await, GREEN);
    }
    assert!(dns["by"].as_str().unwrap().starts_with("cutover shop-"), "{dns:#}");
    let (shifted, expires) = (dns["shifted_at"].as_str().unwrap(), dns["expires"].as_str().unwrap());
    assert!(shifted < expires, "{dns:#}");
    assert_eq!(dns["old_ttl"], 1);
    let mut states = String::new();
    while !states.contains("\"state\":\"done\",\"to\":\"green\"") {
        states.push_str(std::str::from_utf8(&events.chunk().await.unwrap()).unwrap());
    }
    for state in ["lower", "wait_out", "move", "verify", "restore"] {
        assert!(states.contains(&format!("\"state\":\"{state}\"")), "{state} is not in {states}");
    }
    let metrics = stage.proxy.metrics().await;
    let record = [("service", "shop"), ("record", "shop.example.com A")];
    assert_eq!(metrics.value("cutover_dns_in_sync", &record), 1.0);
    let accepted = [("service", "shop"), ("outcome", "accepted")];
    assert!(metrics.value("cutover_dns_changes_total", &accepted) >= 4.0, "made, lowered, moved, restored");

    stage.proxy.run(&["rollback"]).await.assert_code(0);
    stage.until_at("blue").await;
    assert_eq!(stage.seen_at(3).await, BLUE);
}

#[tokio::test]
async fn names_wait_for_the_bake_or_go_ahead_of_it_and_turn_around_with_it() {
    for (start, side) in [("after-bake", "blue"), ("after-drain", "green")] {
        let describe = |service: Service| {
            let service = service.extra("cutover", "bake = { for = \"10m\", min_requests = 1000000 }");
            service.extra("dns", &format!("start = \"{start}\""))
        };
        let stage = Stage::start(describe, |_| {}).await;
        stage.until_at("blue").await;
        stage.switch("green").await;
        stage.until_at(side).await;
        assert_eq!(stage.proxy.service("shop").await["phase"], "bake");
        stage.proxy.run(&["rollback"]).await.assert_code(0);
        stage.until_at("blue").await;
        assert_eq!(stage.seen_at(0).await, BLUE);
    }
}

#[tokio::test]
async fn a_dead_provider_changes_nothing_of_the_switch_and_names_follow_when_it_is_back() {
    let stage = Stage::settled().await;
    let mut client = Client::http1(&stage.proxy).await;
    assert_eq!(client.get("/").await.backend(), Some("blue"));
    let well = stage.switch("green").await;
    stage.until_at("green").await;

    stage.route53.fail("*", usize::MAX, 503, "ServiceUnavailable", "the control plane is away");
    // It stays dead until the switch has returned: who waited for it would wait for ever.
    let dead = stage.switch("blue").await;
    for (answer, live) in [(&well, "green"), (&dead, "blue")] {
        assert_eq!((&answer["drained"], &answer["live"]), (&true.into(), &live.into()), "{answer:#}");
    }
    assert_eq!(client.get("/").await.backend(), Some("blue"));
    let dns = stage.until("in trouble", |dns| dns["message"].is_string()).await;
    assert!(dns["message"].as_str().unwrap().contains("the control plane is away"), "{dns:#}");
    assert_eq!((&dns["to"], &dns["in_sync"]), (&"blue".into(), &false.into()));
    assert_eq!(stage.seen_at(0).await, GREEN);

    stage.route53.mend();
    stage.until_at("blue").await;
    assert_eq!(stage.seen_at(0).await, BLUE);
}

#[tokio::test]
async fn what_the_provider_will_never_allow_is_said_and_not_tried_again_and_again() {
    let stage = Stage::settled().await;
    stage.route53.deny("ChangeResourceRecordSets");
    let before = stage.route53.count("ChangeResourceRecordSets");
    stage.switch("green").await;
    let dns = stage.until("stopped", |dns| dns["state"] == "stopped").await;
    assert!(dns["message"].as_str().unwrap().contains("is not authorized to perform"), "{dns:#}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.route53.count("ChangeResourceRecordSets"), before + 1);
    stage.route53.mend();
    stage.run(&["dns", "sync"]).await.assert_code(0);
    assert_eq!(stage.seen_at(1).await, GREEN);
}

#[tokio::test]
async fn a_name_that_has_no_place_in_the_zone_is_said_at_once() {
    let record =
        "record = [{ name = \"shop.example.org\", type = \"A\", blue = [\"192.0.2.1\"], green = [\"192.0.2.2\"] }]";
    let stage = Stage::start(|service| service.extra("dns", record), |_| {}).await;
    let dns = stage.until("stopped", |dns| dns["state"] == "stopped").await;
    let says = dns["message"].as_str().unwrap();
    assert!(says.contains("shop.example.org. is not permitted in zone example.com."), "{says}");
    assert!(says.contains("correct `zone`, or `name` and `type` of the record"), "{says}");
    assert_eq!(stage.route53.count("ChangeResourceRecordSets"), 1, "nothing else that it could read would help");
}

#[tokio::test]
async fn killed_on_the_way_it_goes_on_where_it_was() {
    let mut stage = Stage::settled().await;
    stage.route53.pending_for(usize::MAX);
    stage.switch("green").await;
    for step in ["lower", "move", "restore"] {
        let arrives = |dns: &Value| dns["next"]["what"].as_str().is_some_and(|what| what.contains("arrives"));
        let dns = stage.until(step, |dns| dns["state"] == step && arrives(dns)).await;
        stage.proxy.kill9().await;
        stage.proxy.restart().await;
        let again = stage.until("taken up", |again| again["shift"].is_string()).await;
        assert_eq!(again["shift"], dns["shift"], "it is the same shift");
        stage.route53.sync();
    }
    stage.until_at("green").await;
    let before = stage.route53.count("ChangeResourceRecordSets");
    stage.proxy.restart().await;
    stage.until_at("green").await;
    assert_eq!(stage.route53.count("ChangeResourceRecordSets"), before, "what is equal is not written");
}

#[tokio::test]
async fn a_resolver_that_disobeys_leads_to_the_old_color_longer_than_the_ttl() {
    let stage = Stage::settled().await;
    let server = stage.servers[0].address;
    let (good, stubborn) = (Resolver::new(server), Resolver::new(server).keeps(Duration::from_secs(3600)));
    assert_eq!((good.addresses("shop.example.com").await, stubborn.addresses("shop.example.com").await), {
        let blue: Vec<String> = BLUE.map(str::to_owned).to_vec();
        (blue.clone(), blue)
    });
    stage.switch("green").await;
    stage.until_at("green").await;
    let obeys = || async { good.addresses("shop.example.com").await == GREEN };
    assert!(eventually(PATIENCE, obeys).await, "its answer has expired");
    assert_eq!(stubborn.addresses("shop.example.com").await, BLUE);
    assert_eq!(stage.route53.records(ZONE).iter().filter(|set| set.kind == "A").count(), 3);
}
