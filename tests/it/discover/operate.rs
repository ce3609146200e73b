//! `cutover discover`, the status, metrics and events.

use serde_json::json;

use super::stage::{Stage, addresses, sorted, ups};
use crate::harness::{Backend, Manner, within};

#[tokio::test]
async fn a_rehearsal_shows_what_would_change_and_an_order_changes_it() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut stage = Stage::of(&[&a], &[]).await;
    // Nobody asks by himself now, for the answer is good for an hour.
    let keys = stage.records.keys().replace("100ms", "1h");
    stage.proxy.reload_with(|s| s.service("shop", |s| s.discover("blue", &keys))).await;
    stage.until("current", |blue| blue["discovery"]["state"] == "current").await;
    stage.records.say(&[&a, &b]);
    let rehearsed = stage.proxy.run(&["discover", "--dry-run"]).await.assert_code(0);
    let plus = format!("  + {}  at-127-0-0-1.test", sorted(&[&b])[0]);
    for part in ["the SRV records of _http._tcp.shop.test in the DNS: would be taken over", &plus] {
        assert!(rehearsed.stdout.contains(part), "`{part}` is missing: {rehearsed:#?}");
    }
    assert_eq!(addresses(&stage.blue().await), sorted(&[&a]));
    let done = stage.proxy.run(&["discover", "shop", "--color", "blue", "--json"]).await.assert_code(0).json();
    assert_eq!((&done["heard"][0]["outcome"], &done["heard"][0]["joins"]), (&json!("applied"), &json!(sorted(&[&b]))));
    assert_eq!(ups(&stage.blue().await), sorted(&[&a, &b]), "who joins has been checked");

    // Fewer, and passing: an operator's word is needed.
    let (c, d) = (Backend::start("c").await, Backend::start("d").await);
    stage.records.say(&[&a, &b, &c, &d]);
    stage.proxy.run(&["discover"]).await.assert_code(0);
    stage.records.say(&[&d]);
    let doubted = stage.proxy.run(&["discover"]).await.assert_code(1);
    for part in ["not believed", "has 1 of 4 endpoints", "--accept", "not in the answer, and stays"] {
        assert!(doubted.stdout.contains(part), "`{part}` is missing: {doubted:#?}");
    }
    let status = stage.proxy.run(&["status"]).await.assert_code(0);
    assert!(status.stdout.contains("which are not believed"), "{status:#?}");
    let accepted = stage.proxy.run(&["discover", "--accept"]).await.assert_code(0);
    assert!(accepted.stdout.contains(": taken over") && accepted.stdout.contains("  - "), "{accepted:#?}");
    assert_eq!(addresses(&stage.blue().await), sorted(&[&d]));

    stage.records.server.behave(Manner::Failing);
    let failed = stage.proxy.run(&["discover"]).await.assert_code(1);
    assert!(failed.stdout.contains("no answer") && failed.stdout.contains("answers Server Failure"), "{failed:#?}");
    stage.proxy.run(&["discover", "--color", "green"]).await.assert_code(2);
    stage.proxy.run(&["discover", "nobody"]).await.assert_code(2);
}

#[tokio::test]
async fn a_live_color_is_not_emptied_even_by_an_operator() {
    let a = Backend::start("a").await;
    let stage = Stage::of(&[&a], &[]).await;
    stage.records.say(&[]);
    let heard = stage.ask(json!({ "accept": true })).await;
    assert_eq!(heard["outcome"], "held", "{heard:#}");
    assert!(heard["why"].as_str().unwrap().contains("it would have none"), "{heard:#}");
    assert_eq!(ups(&stage.blue().await), sorted(&[&a]));
    stage.records.say(&[&a]);
    stage.until("current", |blue| blue["discovery"]["state"] == "current").await;
}

#[tokio::test]
async fn only_who_may_write_has_a_source_asked() {
    let a = Backend::start("a").await;
    let stage = Stage::of(&[&a], &[]).await;
    let path = "/v1/services/shop/discover";
    let proxy = &stage.proxy;
    assert_eq!(proxy.api_tcp("POST", path, json!({ "dry_run": true }), None).await.0, 401);
    assert_eq!(proxy.api_tcp("POST", path, json!({ "dry_run": true }), Some(proxy.token())).await.0, 200);
    assert_eq!(proxy.api("POST", path, json!({ "dry-run": true })).await.0, 400);
    let (status, known) = proxy.api_tcp("GET", path, json!(null), None).await;
    assert_eq!((status, &known["service"], &known["green"]), (200, &json!("shop"), &json!(null)));
    assert_eq!(known["blue"]["endpoints"][0]["standing"], "named", "{known:#}");
}

#[tokio::test]
async fn metrics_and_events_tell_of_answers() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let stage = Stage::of(&[&a, &b], &[]).await;
    let (_client, mut events) = stage.proxy.watch("/v1/events").await;
    stage.behaves(Manner::Failing).await;
    stage.behaves(Manner::Proper).await;
    stage.records.say(&[]);
    stage.ask(json!({})).await;
    stage.until("doubted", |blue| blue["discovery"]["state"] == "doubted").await;
    let metrics = stage.proxy.metrics().await;
    let blue = [("service", "shop"), ("color", "blue")];
    let answers =
        |result| metrics.value("cutover_discovery_answers_total", &[&blue[..], &[("result", result)]].concat());
    assert!(answers("believed") >= 2.0 && answers("unreachable") >= 1.0 && answers("empty") >= 1.0);
    assert_eq!(answers("shrunk"), 0.0);
    assert_eq!(metrics.value("cutover_discovery_state", &[("state", "doubted")]), 1.0);
    assert_eq!(metrics.value("cutover_discovery_endpoints", &[("standing", "named")]), 2.0);
    assert!(metrics.value("cutover_discovery_age_seconds", &blue) >= 0.0);
    let mut text = String::new();
    while !(text.contains("\"state\":\"failing\"") && text.contains("\"state\":\"doubted\"")) {
        let piece = within("the next event", events.chunk()).await.expect("events go on");
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(text.contains("event: discovery"), "{text}");
}
