//! Endpoints that join and leave under load.

use std::time::Duration;

use serde_json::{Value, json};

use super::{checked, says, shop};
use crate::harness::{Backend, Client, Crowd, Cutover, Health, PATIENCE, Running, Service, eventually};

fn load(proxy: &Cutover) -> Running {
    Crowd::of(8).think(Duration::from_millis(2)).start(proxy)
}

async fn states(proxy: &Cutover) -> Vec<Value> {
    let service = proxy.service("shop").await;
    service["blue"]["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["state"].clone()).collect()
}

#[tokio::test]
async fn an_endpoint_that_joins_gets_traffic_with_its_first_passing_check_and_not_before() {
    let (blue, _green, mut proxy) = shop(|s| s.extra("health", "interval = \"24h\"")).await;
    let (good, bad) = (Backend::start("good").await, Backend::start("bad").await);
    bad.health(Health::Failing(503));
    let crowd = load(&proxy);
    crowd.seen(50).await;
    let all = [&blue, &good, &bad];
    let answer = proxy.reload_with(|settings| settings.service("shop", |s| s.blue(all))).await;
    assert_eq!(says(&answer).len(), 1, "{answer}");
    // Nobody checks again today: what the reload returned with is what it has seen.
    assert_eq!(states(&proxy).await, ["up", "up", "down"]);
    let quick = |s: Service| s.extra("health", "interval = \"20ms\"");
    let has_some = || async { good.requests() > 10 };
    assert!(eventually(PATIENCE, has_some).await);
    assert_eq!(bad.requests(), 0);
    bad.health(Health::Passing);
    proxy.reload_with(|settings| settings.service("shop", quick)).await;
    assert!(eventually(PATIENCE, || async { bad.requests() > 10 }).await, "{:?}", states(&proxy).await);
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn an_endpoint_that_leaves_gets_no_new_requests_and_loses_none() {
    let (blue, other) = (Backend::start("blue").await, Backend::start("other").await);
    let mut proxy = Cutover::with().service("shop", |s| checked(s).blue([&blue, &other])).start().await;
    let crowd = load(&proxy);
    crowd.seen(100).await;
    let mut slow = Vec::new();
    while other.held() < 2 {
        let mut client = Client::http1(&proxy).await;
        slow.push(tokio::spawn(async move { client.get("/slow").await }));
        let arrived = || async { blue.held() + other.held() == slow.len() };
        assert!(eventually(PATIENCE, arrived).await);
    }
    proxy.reload_with(|settings| settings.service("shop", |s| s.blue([&blue]))).await;
    let after = other.requests();
    crowd.seen_more(200).await;
    assert_eq!(other.requests(), after, "it got a request after the reload had returned");
    assert_eq!(states(&proxy).await, ["up"]);
    blue.release();
    other.release();
    for slow in slow {
        assert_eq!(slow.await.unwrap().status, 200);
    }
    crowd.stop().await.assert_nothing_lost();
    assert!(eventually(PATIENCE, || async { other.sockets() == 0 }).await, "its connections are closed");
}

#[tokio::test]
async fn all_endpoints_can_be_others_at_once_without_a_gap() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let next = [Backend::start("one").await, Backend::start("two").await];
    let crowd = load(&proxy);
    for round in 0..10 {
        crowd.seen_more(20).await;
        proxy.reload_with(|settings| settings.service("shop", |s| s.blue([&next[round % 2]]))).await;
    }
    crowd.seen_more(20).await;
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn the_live_color_cannot_lose_the_last_endpoint_that_is_up() {
    let (blue, _green, mut proxy) = shop(|s| s).await;
    let dead = Backend::start("dead").await;
    dead.health(Health::Failing(500));
    proxy.rewrite(|settings| settings.service("shop", |s| s.blue([&dead])));
    let refused = proxy.run(&["reload"]).await.assert_code(1);
    for part in ["shop: blue serves clients", "answered 500, expected 200", "nothing has changed"] {
        assert!(refused.stderr.contains(part), "`{part}` is missing: {refused:#?}");
    }
    proxy.rewrite(|settings| settings.service("shop", |s| s.blue([&blue; 0])));
    let refused = proxy.run(&["reload"]).await.assert_code(1);
    assert!(refused.stderr.contains("it would have none"), "{refused:#?}");
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    // The color that is not live may be whatever it likes.
    proxy.reload_with(|settings| settings.service("shop", |s| s.blue([&blue]).green([&dead]))).await;
    // And one that serves nobody any more has nothing to lose.
    blue.health(Health::Failing(500));
    assert!(eventually(PATIENCE, || async { states(&proxy).await == ["down"] }).await);
    let other = Backend::start("other").await;
    other.health(Health::Failing(500));
    proxy.reload_with(|settings| settings.service("shop", |s| s.blue([&other]))).await;
}

#[tokio::test]
async fn nor_can_a_color_that_has_a_share_of_the_clients() {
    let canary = "canary = [{ weight = \"50%\", for = \"200ms\" }]";
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", canary)).await;
    let paused = proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(paused.stderr.contains("waits for an operator; blue is live"), "{paused:#?}");
    let dead = Backend::start("dead").await;
    dead.health(Health::Failing(500));
    proxy.rewrite(|settings| settings.service("shop", |s| s.green([&dead])));
    let refused = proxy.run(&["reload"]).await.assert_code(1);
    assert!(refused.stderr.contains("shop: green serves clients, and no endpoint of it would be up"), "{refused:#?}");
    proxy.run(&["abort"]).await.assert_code(0);
    let idle = || async { proxy.service("shop").await["phase"] == "idle" };
    assert!(eventually(PATIENCE, idle).await, "{:#}", proxy.service("shop").await);
    proxy.run(&["reload"]).await.assert_code(0);
}

#[tokio::test]
async fn endpoints_stay_what_a_cutover_has_looked_at_until_it_has_switched() {
    let (blue, green, mut proxy) = shop(|s| s).await;
    proxy.never_rise(&green).await;
    let switch = proxy.spawn(&["switch", "green"]);
    let phase = |phase: &'static str| {
        let proxy = &proxy;
        move || async move { proxy.service("shop").await["phase"] == phase }
    };
    assert!(eventually(PATIENCE, phase("prepare")).await);

    let more = Backend::start("more").await;
    proxy.rewrite(|settings| settings.service("shop", |s| s.green([&green, &more])));
    let held = proxy.run(&["reload", "--json"]).await.assert_code(4).json();
    assert_eq!((&held["type"], &held["service"]), (&json!("urn:cutover:problem:held"), &json!("shop")), "{held}");
    proxy.run(&["abort"]).await.assert_code(0);
    switch.ended().await.assert_code(1);
    proxy.run(&["reload"]).await.assert_code(0);

    // While the old color drains, nothing rests on endpoints any more.
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    proxy.reload_with(|settings| settings.service("shop", |s| s.extra("health", "rise = 1").green([&more]))).await;
    proxy.run(&["switch", "green", "--wait", "live"]).await.assert_code(0);
    assert_eq!(proxy.service("shop").await["phase"], "drain");
    proxy.reload_with(|settings| settings.service("shop", |s| s.green([&green, &more]))).await;
    blue.release();
    assert_eq!(slow.await.unwrap().backend(), Some("blue"));
}
