//! What each endpoint gets, that the first clients profit from it, and that it counts for nothing else.

use std::collections::BTreeSet;

use serde_json::json;

use super::{GREEN, Shop};
use crate::harness::Client;

/// 22 requests to each endpoint, over a second.
const ALL: &str = "connections = 4, requests = [\"/\", \"HEAD /head?x=1\"], for = \"1s\", rate = 40, deadline = \"1m\"";

#[tokio::test]
async fn each_endpoint_gets_what_was_asked_for_and_the_first_clients_find_its_connections_open() {
    let shop = Shop::with(ALL).await;
    let told = shop.proxy.run(&["switch", "green", "--wait", "live"]).await.assert_code(0);
    assert!(told.stdout.contains("green was warmed up in ") && told.stdout.contains(": 8 connections, 44 requests"));
    for green in &shop.green {
        assert_eq!((green.requests(), green.accepted(), green.connections()), (22, 4, 4));
        let heads = green.heads();
        let asked = |method: &str, target: &str| {
            heads.iter().filter(|head| head.method == method && head.target == target).count()
        };
        assert_eq!((asked("GET", "/"), asked("HEAD", "/head?x=1")), (11, 11));
        for head in &heads {
            let field = |name| head.header(name).unwrap_or_default();
            assert_eq!((field("host"), field("cutover-warm")), ("shop.test".to_owned(), "1".to_owned()));
            assert_eq!((field("x-forwarded-proto"), field("x-forwarded-host")), ("http".into(), "shop.test".into()));
            assert!(field("user-agent").starts_with("cutover-warm/") && field("x-request-id").len() == 32, "{head:?}");
        }
        let ids: BTreeSet<_> = heads.iter().map(|head| head.header("x-request-id")).collect();
        assert_eq!(ids.len(), 22, "each is a request of its own");
    }
    // Whichever worker a client gets, and whichever endpoint that chooses.
    for _ in 0..10 {
        let mut client = Client::http1(&shop.proxy).await;
        for _ in 0..5 {
            assert_eq!(client.get("/").await.backend(), Some("green"));
        }
    }
    let accepted: Vec<usize> = shop.green.iter().map(|green| green.accepted()).collect();
    assert_eq!(accepted, [4, 4], "a client had to wait for a connect");

    let metrics = shop.proxy.metrics().await;
    let of = |name, label| metrics.value(name, &[GREEN[0], GREEN[1], label]);
    assert_eq!(of("cutover_warm_connections_total", ("outcome", "opened")), 8.0);
    assert_eq!(of("cutover_warm_connections_total", ("outcome", "failed")), 0.0);
    assert_eq!(of("cutover_warm_requests_total", ("code", "2xx")), 44.0);
    assert_eq!(metrics.value("cutover_requests_total", &GREEN), 50.0, "clients' requests alone");
    let newest = shop.newest().await;
    let warmed = &newest["warmed"];
    assert_eq!(
        (&warmed["connections"], &warmed["codes"], &warmed["unanswered"]),
        (&json!(8), &json!([0, 44, 0, 0, 0]), &json!(0))
    );
    let shown = shop.proxy.run(&["history", "show", newest["id"].as_str().unwrap()]).await.assert_code(0);
    assert!(shown.stdout.contains("warm-up of green: 2 endpoints in "), "{}", shown.stdout);
    assert!(shown.stdout.contains(": 8 of 8 connections, 44 of 44 requests, 0 failed"), "{}", shown.stdout);
}

#[tokio::test]
async fn without_requests_only_connections_are_opened_and_fewer_than_there_are_workers_are_shared_out() {
    let shop = Shop::with("connections = 1").await;
    shop.proxy.run(&["switch", "green"]).await.assert_code(0);
    let service = shop.service().await;
    assert_eq!(service["green"]["upstream"], json!({ "idle": 2, "active": 0 }), "one to each: {service:#}");
    assert_eq!(shop.green.iter().map(|green| green.requests()).sum::<usize>(), 0);
    assert_eq!(shop.newest().await["warmed"]["of_requests"], 0);
}

#[tokio::test]
async fn where_no_warm_up_is_asked_for_there_is_none() {
    let shop = Shop::described(|service| service).await;
    shop.proxy.run(&["switch", "green"]).await.assert_code(0);
    assert_eq!(shop.green.iter().map(|green| green.requests()).sum::<usize>(), 0);
    assert_eq!(shop.newest().await["warmed"], json!(null));
    let journal = std::fs::read_to_string(shop.proxy.state_dir().join("journal.jsonl")).unwrap();
    assert!(!journal.contains("warm"), "{journal}");
}

#[tokio::test]
async fn a_rehearsal_tells_of_it_and_does_none_of_it() {
    let shop = Shop::with(ALL).await;
    let plan = shop.proxy.run(&["switch", "green", "--dry-run"]).await.assert_code(0);
    let step = "warm: give each of the 2 endpoints of green that are up 4 connections, then 22 requests over 1 s";
    assert!(plan.stdout.contains(step), "{}", plan.stdout);
    assert_eq!(shop.green.iter().map(|green| green.requests()).sum::<usize>(), 0);
    let config = shop.proxy.config_file();
    let checked = crate::harness::cutover(&["check", "--config", config.to_str().unwrap()]).await.assert_code(0);
    let says = "give each endpoint of the new color 4 connections and 22 requests (GET /, HEAD /head?x=1) over 1 s";
    assert!(checked.stdout.contains(says), "{}", checked.stdout);
}

#[tokio::test]
async fn no_verdict_is_made_of_it() {
    let canary = "canary = [{ weight = \"1%\", for = \"200ms\" }]";
    let shop = Shop::described(|service| service.extra("cutover", &format!("warm = {{ {ALL} }}\n{canary}"))).await;
    let told = shop.proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(told.stderr.contains("0 requests so far") && told.stderr.contains("blue is live"), "{told:#?}");
    assert_eq!(shop.green.iter().map(|green| green.requests()).sum::<usize>(), 44);
}
