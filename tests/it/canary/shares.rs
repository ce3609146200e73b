//! Shares: as many go to green as should, nothing is lost on the way in or out, and a drain stays exact.

use std::time::Duration;

use cutover::names::Color;
use serde_json::{Value, json};

use super::{ask, assert_fair, bare, given, house, hundreds};
use crate::harness::{Backend, Client, Crowd, House, PATIENCE, Settings, WebSocket, eventually};

async fn switch(house: &House, to: &str) -> Value {
    let (status, answer) = house.api("POST", "/v1/services/shop/switch", json!({ "to": to })).await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "{answer}");
    answer
}

#[tokio::test]
async fn requests_without_cookies_go_to_green_in_its_share() {
    let (_blue, _green, house) = house(|s| s).await;
    for share in [500, 2_500, 9_000] {
        house.split(share).await;
        for crowd in [Crowd::of(16), Crowd::of(16).http2()] {
            let crowd = crowd.start(&house);
            hundreds(&crowd, 6).await;
            let tally = crowd.stop().await;
            tally.assert_nothing_lost();
            assert_fair(tally.from("green"), tally.requests, share);
        }
    }
}

#[tokio::test]
async fn a_share_of_nothing_reaches_nobody_and_one_of_everything_everybody() {
    let (blue, green, house) = house(|s| s).await;
    house.split(0).await;
    let mut client = Client::http1(&house).await;
    for _ in 0..50 {
        assert_eq!(ask(&mut client, None).await.backend(), Some("blue"));
    }
    house.split(10_000).await;
    for _ in 0..50 {
        assert_eq!(ask(&mut client, None).await.backend(), Some("green"));
    }
    assert_eq!((blue.requests(), green.requests()), (50, 50));
}

#[tokio::test]
async fn status_and_metrics_tell_the_shares_and_who_is_live() {
    let (_blue, _green, house) = house(|s| s).await;
    let told = async || {
        let (view, metrics) = (house.service().await, house.metrics().await);
        ["blue", "green"].map(|color| {
            let labels = [("service", "shop"), ("color", color)];
            let weight = metrics.value("cutover_weight", &labels);
            assert_eq!(view[color]["weight"], weight);
            (weight, metrics.value("cutover_live", &labels))
        })
    };
    assert_eq!(told().await, [(1.0, 1.0), (0.0, 0.0)]);
    house.split(2_500).await;
    assert_eq!(told().await, [(0.75, 1.0), (0.25, 0.0)]);
    switch(&house, "green").await;
    assert_eq!(told().await, [(0.0, 0.0), (1.0, 1.0)]);
}

#[tokio::test]
async fn a_switch_out_of_a_split_under_load_loses_nothing_and_leaves_nobody_behind() {
    let (blue, green, house) = house(|s| s).await;
    let crowds = [Crowd::of(8), Crowd::of(4).http2(), Crowd::of(16).think(Duration::from_millis(5))];
    let crowds = crowds.map(|crowd| crowd.start(&house));
    hundreds(&crowds[0], 2).await;
    for _ in 0..8 {
        for share in [0, 1_000, 5_000, 9_999] {
            house.split(share).await;
            crowds[0].seen_more(30).await;
        }
        let answer = switch(&house, "green").await;
        let at_return = blue.requests();
        assert_eq!(
            (&answer["proof"]["requests_to_old_since"], &answer["drained"]),
            (&json!(0), &json!(true)),
            "{answer}"
        );
        crowds[0].seen_more(60).await;
        assert_eq!(blue.requests(), at_return, "a request reached blue after the switch had returned");
        let answer = switch(&house, "blue").await;
        let at_return = green.requests();
        assert_eq!(answer["proof"]["requests_to_old_since"], 0, "{answer}");
        crowds[0].seen_more(60).await;
        assert_eq!(green.requests(), at_return, "a request reached green after the way back had returned");
    }
    for crowd in crowds {
        crowd.stop().await.assert_nothing_lost();
    }
}

#[tokio::test]
async fn when_a_split_ends_nobody_enters_green_any_more_and_who_is_inside_is_waited_for() {
    let (_blue, green, house) = house(|s| s).await;
    house.split(10_000).await;
    let mut slow = Client::http1(&house).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    green.waiting(1).await;
    let crowd = Crowd::of(32).start(&house);
    house.split(5_000).await;
    hundreds(&crowd, 3).await;
    house.end_split().await;
    let pool = house.pool(Color::Green);
    let (entries, at_return) = (pool.turnstile.entries().count, pool.turnstile.inside().requests);
    assert!(at_return >= 1, "the slow one is still inside");
    hundreds(&crowd, 3).await;
    assert_eq!(pool.turnstile.entries().count, entries, "somebody entered after the end");
    assert_eq!(pool.turnstile.inside().requests, 1, "and only the slow one is left");
    green.release();
    assert_eq!(slow.await.unwrap().backend(), Some("green"));
    tokio::time::timeout(PATIENCE, pool.turnstile.requests_gone()).await.unwrap();
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_reload_in_the_middle_of_a_split_moves_nobody() {
    let (_blue, _green, mut house) = house(|s| s).await;
    house.split(5_000).await;
    let mut client = Client::http1(&house).await;
    let mut known = Vec::new();
    for _ in 0..40 {
        let answer = ask(&mut client, None).await;
        known.push((given(&answer, "cutover-shop").unwrap(), answer.backend().unwrap().to_owned()));
    }
    assert!(known.iter().any(|(_, side)| side == "blue") && known.iter().any(|(_, side)| side == "green"));
    let crowd = Crowd::of(8).start(&house);
    house.reload_with(|settings| settings.service("shop", |s| s.extra("timeouts", "body = \"7s\""))).await;
    assert!(house.entry().split.is_some());
    for (cookie, side) in &known {
        assert_eq!(ask(&mut client, Some(cookie)).await.backend(), Some(side.as_str()));
    }
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_tunnel_stays_on_its_side_when_the_split_ends() {
    let (_blue, _green, house) = house(|s| s).await;
    house.split(10_000).await;
    let mut socket = WebSocket::connect(&house, "shop.test", "/ws").await;
    assert_eq!(socket.hear().await.as_deref(), Some("green"));
    house.end_split().await;
    let inside = house.pool(Color::Green).turnstile.inside();
    assert_eq!((inside.requests, inside.tunnels), (0, 1));
    socket.say("still here").await;
    assert_eq!(socket.hear().await.as_deref(), Some("still here"));
    let mut other = WebSocket::connect(&house, "shop.test", "/ws").await;
    assert_eq!(other.hear().await.as_deref(), Some("blue"));
}

#[tokio::test]
async fn a_request_that_is_tried_again_stays_on_its_side() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let dead = Backend::start("dead").await;
    let checks = "interval = \"1h\"\ntimeout = \"10s\"";
    let service =
        |s: crate::harness::Service| s.health("/healthz").blue([&blue]).green([&green, &dead]).extra("health", checks);
    let house = House::start(Settings::new().service("shop", service)).await;
    let up = || async { house.pool(Color::Green).eligible.load().len() == 2 };
    assert!(eventually(PATIENCE, up).await);
    // Its checks are an hour apart, so that it counts as up.
    dead.stop_listening().await;
    house.split(10_000).await;
    for _ in 0..40 {
        let mut client = Client::http1(&house).await;
        assert_eq!(ask(&mut client, None).await.backend(), Some("green"));
    }
    green.close_after(1);
    let mut client = Client::http2(&house).await;
    for _ in 0..40 {
        assert_eq!(client.send(bare(http::Request::get("/"))).await.backend(), Some("green"));
    }
    assert_eq!(blue.requests(), 0, "what green could not answer at first went to blue");
}
