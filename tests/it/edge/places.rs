//! Places for connections: so many for each client, so many in all, and the idle make room.

use std::collections::HashSet;
use std::time::Duration;

use super::{held, open};
use crate::harness::frames::{END_STREAM, Frames, HEADERS};
use crate::harness::{Backend, Client, PATIENCE, Raw, eventually};

#[tokio::test]
async fn one_client_has_only_so_many_places() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "connections_per_client = 3", "", "").start().await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Raw::connect(&proxy).await);
    }
    assert_eq!(Raw::connect(&proxy).await.until_closed().await, b"");
    assert!(proxy.metrics().await.value("cutover_connections_turned_away_total", &[]) >= 1.0);
    let raw = &mut open[2];
    raw.write("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200, "who is in stays in");
}

#[tokio::test]
async fn who_has_no_descriptors_left_calls_no_endpoint_down() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let (mut client, mut operator) = (Client::http1(&proxy).await, proxy.operator().await);
    assert_eq!(client.get("/").await.status, 200);
    proxy
        .without_descriptors(async {
            // More checks than it takes to call an endpoint down, none of which could be made.
            let unmade = async {
                let mut unmade = HashSet::new();
                while unmade.len() < 5 {
                    let status = operator.get("/v1/status").await.json();
                    let endpoint = &status["services"][0]["blue"]["endpoints"][0];
                    assert_eq!(endpoint["state"], "up", "{endpoint}");
                    let check = &endpoint["last_check"];
                    if check["answer"] == "it could not be asked: too many open files here" {
                        unmade.insert(check["at"].to_string());
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, unmade).await.expect("no check can be made");
            assert_eq!(client.get("/").await.status, 200, "on connections that are there");
        })
        .await;
    assert_eq!(proxy.service("shop").await["blue"]["endpoints"][0]["state"], "up");
}

#[tokio::test]
async fn a_trusted_proxy_has_as_many_as_it_needs() {
    let blue = Backend::start("blue").await;
    let settings = held(&blue, "connections_per_client = 3", "", "");
    let proxy = settings.section("edge", "trusted_proxies = [\"127.0.0.1\"]").start().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::http1(&proxy).await);
    }
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn whoever_does_nothing_makes_room_for_who_does() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "connections = 8", "", "head = \"60s\"").start().await;
    let (mut silent, mut idle, mut idle2) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2 {
        let mut client = Client::http1(&proxy).await;
        assert_eq!(client.get("/").await.status, 200);
        idle.push(client);
        let mut client = Frames::connect(&proxy).await;
        client.request(1, "GET", "/", END_STREAM).await;
        client.until(|frame| frame.kind == HEADERS).await.expect("an answer");
        idle2.push(client);
        silent.extend([Raw::connect(&proxy).await, Raw::saying(&proxy, "GET / HTTP/1.1\r\n").await]);
    }
    // All eight places are taken; each of these needs one, and keeps it with a request under way.
    let mut busy = Vec::new();
    for waiting in 1..=8 {
        busy.push(Raw::saying(&proxy, "GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n").await);
        blue.waiting(waiting).await;
    }
    blue.release();
    for raw in &mut busy {
        assert_eq!(raw.answer().await.status, 200);
    }
}

#[tokio::test]
async fn who_stops_in_the_middle_of_a_body_makes_room_too() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "connections = 4", "park = \"50ms\"", "").start().await;
    // Two of which nobody but the proxy knows yet, and two that a backend reads already.
    for (framing, begun) in [("Content-Length: 200000", 10), ("Transfer-Encoding: chunked", 100_000)] {
        let mut halves = Vec::new();
        for half in 1..=4 {
            let mut raw = Raw::connect(&proxy).await;
            let (body, chunk) = ("x".repeat(begun), if framing.starts_with('T') { "30d40\r\n" } else { "" });
            raw.write(format!("POST /echo HTTP/1.1\r\nHost: shop.test\r\n{framing}\r\n\r\n{chunk}{body}")).await;
            halves.push(raw);
            assert!(eventually(PATIENCE, || async { open(&proxy).await == f64::from(half) }).await);
        }
        let mut client = Client::http1(&proxy).await;
        assert_eq!(client.get("/").await.status, 200, "{framing}");
        assert_eq!(halves[0].answer().await.status, 408, "the longest of them: {framing}");
        drop((client, halves));
        assert!(eventually(PATIENCE, || async { open(&proxy).await == 0.0 }).await);
    }
}

#[tokio::test]
async fn a_body_that_goes_on_coming_keeps_its_place() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "connections = 1", "park = \"100ms\"", "").start().await;
    let mut upload = Raw::saying(&proxy, "POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 40\r\n\r\n").await;
    let mut waits = Raw::saying(&proxy, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    for _ in 0..40 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        upload.write("x").await;
    }
    assert_eq!(upload.answer().await.status, 200);
    assert_eq!(waits.answer().await.status, 200, "now that the other is done");
}
