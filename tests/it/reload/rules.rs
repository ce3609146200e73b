//! Limits, timers, health and cutover rules: what is under way keeps those it began with.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::{checked, shop};
use crate::harness::{Address, Backend, Client, Crowd, Cutover, Health, PATIENCE, Settings, eventually};

#[tokio::test]
async fn a_changed_limit_holds_for_the_next_request_on_the_same_connection() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let mut client = Client::http1(&proxy).await;
    assert_eq!(client.post("/echo", "x".repeat(2000)).await.status, 200);
    proxy.reload_with(|settings| settings.service("shop", |s| s.extra("limits", "request_body = \"1KiB\""))).await;
    assert_eq!(client.post("/echo", "x".repeat(1000)).await.status, 200);
    assert_eq!(client.post("/echo", "x".repeat(2000)).await.refusal(), Some("body-too-large"));
}

#[tokio::test]
async fn a_changed_timer_holds_for_the_next_request_and_one_under_way_keeps_its_own() {
    let (blue, _green, mut proxy) = shop(|s| s).await;
    let mut early = Client::http1(&proxy).await;
    let early = tokio::spawn(async move { early.get("/slow").await });
    blue.waiting(1).await;
    proxy.reload_with(|settings| settings.service("shop", |s| s.extra("timeouts", "first_byte = \"30ms\""))).await;
    let late = Client::http1(&proxy).await.get("/slow").await;
    assert_eq!(late.refusal(), Some("first-byte-timeout"));
    blue.release();
    assert_eq!(early.await.unwrap().status, 200);
}

#[tokio::test]
async fn other_rules_leave_upstream_connections_and_counters_alone() {
    let (blue, _green, mut proxy) = shop(|s| s).await;
    let mut client = Client::http1(&proxy).await;
    client.get("/").await;
    let accepted = blue.accepted();
    for round in 0..5 {
        let timer = format!("body = \"{}s\"", 70 + round);
        proxy.reload_with(|settings| settings.service("shop", |s| s.extra("timeouts", &timer))).await;
        client.get("/").await;
    }
    assert_eq!(blue.accepted(), accepted, "one connection has carried them all");
    let served = proxy.metrics().await.value("cutover_requests_total", &[("service", "shop"), ("color", "blue")]);
    assert_eq!(served, 6.0);
}

async fn until_connections(proxy: &Cutover, count: usize) {
    let there = || async { proxy.status().await["listeners"][0]["connections"] == count };
    assert!(eventually(PATIENCE, there).await, "there are not {count} connections");
}

#[tokio::test]
async fn edge_limits_hold_for_the_next_connection_and_places_for_who_waits_for_one() {
    let blue = Backend::start("blue").await;
    // Two workers would take one more between them.
    let mut proxy = Cutover::with().service("shop", |s| checked(s).blue([&blue])).workers(1).start().await;
    let long = format!("/{}", "x".repeat(100));
    let mut old = Client::http1(&proxy).await;
    assert_eq!(old.get(&long).await.status, 200);
    proxy.reload_with(|settings| settings.section("edge.limits", "target = \"64B\"")).await;
    assert_eq!(Client::http1(&proxy).await.get(&long).await.refusal(), Some("target-too-long"));
    assert_eq!(old.get(&long).await.status, 200);

    // Two that are busy take both places; who comes then waits, and is let in as soon as there are more.
    drop(old);
    until_connections(&proxy, 0).await;
    proxy.reload_with(|settings| settings.section("edge.limits", "connections = 2")).await;
    let ask = |path: &'static str| {
        let address = proxy.address();
        tokio::spawn(async move { Client::http1(address).await.get(path).await.status })
    };
    let busy = [ask("/slow"), ask("/slow")];
    blue.waiting(2).await;
    let waiting = ask("/");
    let served = || async { waiting.is_finished() };
    assert!(!eventually(Duration::from_millis(100), served).await, "it has a place");
    proxy.reload_with(|settings| settings.section("edge.limits", "connections = 4")).await;
    assert_eq!(waiting.await.unwrap(), 200);
    blue.release();
    for busy in busy {
        assert_eq!(busy.await.unwrap(), 200);
    }
}

/// Waits until blue's one endpoint is in this state.
async fn until_blue_is(proxy: &Cutover, state: &str) {
    let there = || async { proxy.service("shop").await["blue"]["endpoints"][0]["state"] == state };
    assert!(eventually(PATIENCE, there).await, "it is not {state}");
}

#[tokio::test]
async fn other_health_rules_keep_what_is_known_of_endpoints() {
    let (blue, _green, mut proxy) = shop(|s| s.extra("health", "interval = \"24h\"")).await;
    let health = |lines: &'static str| move |settings: Settings| settings.service("shop", |s| s.extra("health", lines));
    proxy.reload_with(health("fall = 3\npath = \"/status/500\"")).await;
    let endpoint = proxy.service("shop").await["blue"]["endpoints"][0].clone();
    assert_eq!(endpoint["state"], "up", "one check has failed, or none yet");
    proxy.reload_with(health("interval = \"20ms\"")).await;
    until_blue_is(&proxy, "down").await;
    proxy.reload_with(health("rise = 1\npath = \"/healthz\"")).await;
    until_blue_is(&proxy, "up").await;
    blue.health(Health::Failing(500));
    until_blue_is(&proxy, "down").await;
}

#[tokio::test]
async fn the_next_cutover_follows_the_new_rules() {
    let (blue, _green, mut proxy) = shop(|s| s).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    proxy
        .reload_with(|settings| settings.service("shop", |s| s.extra("cutover", "drain = { requests = \"10ms\" }")))
        .await;
    let left = proxy.run(&["switch", "green", "--json"]).await.json();
    assert_eq!((&left["live"], &left["requests_left"]), (&json!("green"), &json!(1)), "{left}");
    blue.release();
    slow.await.unwrap();
    // Half of blue is nobody: not enough until that is.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    proxy.reload_with(|settings| settings.service("shop", |s| s.blue([blue.address(), nobody]))).await;
    proxy.run(&["switch", "blue"]).await.assert_code(1);
    proxy.reload_with(|settings| settings.service("shop", |s| s.extra("cutover", "min_healthy = \"50%\""))).await;
    proxy.run(&["switch", "blue"]).await.assert_code(0);
}

#[tokio::test]
async fn a_cutover_under_way_keeps_its_gates_and_the_reload_says_so() {
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", "gate = [{ name = \"qa\", approve = true }]")).await;
    let switch = proxy.spawn(&["switch", "green"]);
    let waits = || async { proxy.service("shop").await["phase"] == "gates" };
    assert!(eventually(PATIENCE, waits).await, "{:#}", proxy.service("shop").await);
    let gone = proxy.reload_with(|settings| settings.service("shop", |s| s.extra("cutover", "gate = []"))).await;
    let warning = gone["warnings"][0].as_str().unwrap();
    assert!(warning.contains("is in its phase gates and keeps the gates"), "{gone:#}");
    let other = proxy.reload_with(|settings| settings.service("shop", |s| s.extra("timeouts", "body = \"90s\""))).await;
    assert_eq!(other["warnings"], json!([]));
    proxy.run(&["approve", "--gate", "qa"]).await.assert_code(0);
    switch.ended().await.assert_code(0);
}

#[tokio::test]
async fn reloads_and_switches_meet_without_a_loss() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let crowd = Crowd::of(8).think(Duration::from_millis(2)).start(&proxy);
    crowd.seen(50).await;
    for round in 0..20_usize {
        let to = ["green", "blue"][round % 2];
        let switch = proxy.spawn(&["switch", to]);
        let timer = format!("body = \"{}s\"", 70 + round);
        proxy.reload_with(|settings| settings.service("shop", |s| s.extra("timeouts", &timer))).await;
        switch.ended().await.assert_code(0);
    }
    let (status, service) = (proxy.status().await, proxy.service("shop").await);
    assert_eq!(status["table_version"], 41, "one for each of both, and the first");
    assert_eq!(
        (&service["live"], &service["generation"], &service["cutover"]),
        (&json!("blue"), &json!(20), &Value::Null)
    );
    crowd.stop().await.assert_nothing_lost();
}
