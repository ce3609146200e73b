//! The phase of a cutover in which names follow: when they begin to move, and that nothing waits for them but who wants to.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Stage, ZONE};
use crate::harness::{Client, eventually};

/// Judges for as long as the story likes: it needs so many requests, and has an hour for them.
const BAKE: &str =
    "deadline = \"3h\"\nbake = { for = \"100ms\", extend = \"1h\", min_requests = 40, max_slowdown = \"600%\" }";

/// A shop whose names lead to blue and are at rest.
async fn settled(cutover: &str, dns: &str) -> Stage {
    let describe = |service: crate::harness::Service| service.extra("cutover", cutover).extra("dns", dns);
    let stage = Stage::start(describe, |_| {}).await;
    stage.until_at("blue").await;
    stage
}

async fn until_phase(stage: &Stage, phase: &str) -> Value {
    let there = || async { stage.proxy.service("shop").await["phase"] == phase };
    assert!(eventually(LONG, there).await, "not in {phase}: {:#}", stage.proxy.service("shop").await);
    stage.proxy.service("shop").await
}

/// Cutovers, the newest first.
async fn history(stage: &Stage) -> Value {
    stage.proxy.api("GET", "/v1/history", Value::Null).await.1
}

#[tokio::test]
async fn names_move_once_the_new_color_has_been_found_good_and_whoever_wants_to_waits_for_them() {
    let stage = settled(BAKE, "start = \"after-bake\"").await;
    let plan = stage.proxy.run(&["switch", "green", "--dry-run"]).await.assert_code(0).stdout;
    let waits = format!("dns: wait up to 30m 00s until the records in zone {ZONE} (1) lead to green");
    assert!(plan.contains(&waits), "{plan}");
    let done = stage.proxy.spawn(&["switch", "green", "--wait", "done", "--json"]);
    until_phase(&stage, "bake").await;
    stage.route53.pending_for(usize::MAX);
    let before = jiff::Timestamp::now();
    let mut client = Client::http1(&stage.proxy).await;
    for _ in 0..60 {
        assert_eq!(client.get("/").await.backend(), Some("green"));
    }
    let service = until_phase(&stage, "dns").await;
    assert!(service["cutover"]["way_back"]["is_safe"].is_boolean(), "it can still go back: {service:#}");
    stage.route53.pending_for(0);
    stage.route53.sync();
    let answer = done.ended_within(LONG).await.assert_code(0).json();
    assert_eq!((&answer["outcome"], &answer["reasons"]), (&json!("done"), &json!([])), "{answer:#}");
    let dns = stage.dns().await;
    assert_eq!((&dns["to"], &dns["in_sync"]), (&json!("green"), &json!(true)), "{dns:#}");
    let started: jiff::Timestamp = dns["started"].as_str().unwrap().parse().unwrap();
    assert!(started > before, "they began at {started}, and green was not good before {before}");
    for server in 0..4 {
        assert_eq!(stage.seen_at(server).await.len(), 2, "green's at server {server}");
    }
}

#[tokio::test]
async fn names_may_move_while_the_new_color_is_judged_and_go_back_with_it() {
    let stage = settled(BAKE, "start = \"after-drain\"").await;
    stage.proxy.run(&["switch", "green"]).await.assert_code(0);
    stage.until_at("green").await;
    assert_eq!(stage.proxy.service("shop").await["phase"], "bake");
    stage.proxy.run(&["rollback"]).await.assert_code(0);
    stage.until_at("blue").await;
    let last = history(&stage).await[0].clone();
    assert_eq!((&last["outcome"], &last["live"]), (&json!("rolled_back"), &json!("blue")), "{last:#}");
}

#[tokio::test]
async fn with_the_provider_dead_a_cutover_is_done_in_its_time_and_says_what_is_left() {
    let mut stage = settled("", "deadline = \"2s\"").await;
    stage.route53.fail("*", usize::MAX, 503, "ServiceUnavailable", "the control plane is away");
    let ran = stage.proxy.spawn(&["switch", "green", "--wait", "done", "--json"]).ended_within(LONG).await;
    let answer = ran.assert_code(0).json();
    assert_eq!((&answer["outcome"], &answer["live"]), (&json!("done"), &json!("green")), "{answer:#}");
    let reason = answer["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("names did not lead to green within 2 s"), "{answer:#}");
    assert!(reason.contains("the control plane is away"), "{answer:#}");
    assert_eq!(Client::http1(&stage.proxy).await.get("/").await.backend(), Some("green"));
    stage.route53.mend();
    stage.until_at("green").await;

    // What will not come by itself is not waited for at all.
    stage.route53.deny("ChangeResourceRecordSets");
    stage.proxy.reload_with(|settings| settings.service("shop", |s| s.extra("dns", "deadline = \"24h\""))).await;
    let ran = stage.proxy.spawn(&["switch", "blue", "--wait", "done", "--json"]).ended_within(LONG).await;
    let answer = ran.assert_code(0).json();
    assert!(answer["reasons"][0].as_str().unwrap().starts_with("names stay as they are: "), "{answer:#}");
}

#[tokio::test]
async fn whoever_wants_to_move_on_need_not_wait_for_names() {
    let stage = settled("", "deadline = \"24h\"").await;
    stage.route53.pending_for(usize::MAX);
    let moved_on = json!(["somebody moved on before all names had followed"]);
    let first = stage.proxy.run(&["switch", "green"]).await.assert_code(0);
    assert!(first.stdout.contains("names follow"), "{first:#?}");
    until_phase(&stage, "dns").await;
    stage.proxy.run(&["abort"]).await.assert_code(1);
    let again = stage.proxy.run(&["switch", "green"]).await.assert_code(0);
    assert!(again.stdout.contains("green is live already"), "{again:#?}");
    stage.proxy.run(&["rollback", "--from", "blue"]).await.assert_code(4);
    assert_eq!(stage.proxy.service("shop").await["phase"], "dns", "names are waited for all the same");
    stage.proxy.run(&["switch", "blue"]).await.assert_code(0);
    let past = history(&stage).await;
    assert_eq!((&past[1]["outcome"], &past[1]["reasons"]), (&json!("done"), &moved_on), "{past:#}");

    until_phase(&stage, "dns").await;
    stage.proxy.run(&["rollback"]).await.assert_code(0);
    let past = history(&stage).await;
    assert_eq!((&past[1]["outcome"], &past[1]["reasons"]), (&json!("done"), &moved_on), "{past:#}");
    assert_eq!((&past[0]["outcome"], &past[0]["live"]), (&json!("rolled_back"), &json!("green")), "{past:#}");
    stage.until("sent after the last word", |dns| dns["to"] == "green").await;
}

#[tokio::test]
async fn killed_while_names_follow_it_goes_on_waiting_for_them() {
    let mut stage = settled("", "deadline = \"24h\"").await;
    stage.route53.pending_for(usize::MAX);
    stage.switch("green").await;
    let id = until_phase(&stage, "dns").await["cutover"]["id"].clone();
    let shift = stage.until("on their way", |dns| dns["to"] == "green").await["shift"].clone();
    stage.proxy.kill9().await;
    stage.proxy.restart().await;
    let service = stage.proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["live"]), (&json!("dns"), &json!("green")), "{service:#}");
    assert_eq!(service["cutover"]["id"], id, "{service:#}");
    stage.route53.pending_for(0);
    stage.route53.sync();
    let dns = stage.until_at("green").await;
    assert_eq!(dns["shift"], shift, "{dns:#}");
    until_phase(&stage, "idle").await;
    let past = history(&stage).await;
    assert_eq!(
        (&past[0]["id"], &past[0]["outcome"], &past[0]["reasons"]),
        (&id, &json!("done"), &json!([])),
        "{past:#}"
    );
}

const LONG: Duration = Duration::from_secs(90);
