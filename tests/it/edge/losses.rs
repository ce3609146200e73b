//! What never became a request is seen all the same: connections that are lost are counted, each with its reason.

use std::time::Duration;

use super::held;
use crate::harness::frames::{DATA, END_STREAM, Frames, HEADERS, PING, RST_STREAM, frame};
use crate::harness::{Backend, Ca, Client, Cutover, PATIENCE, Raw, eventually};

/// Resolves when so many connections of the listener at `place` have been lost for this reason, and no other of them.
async fn lost(proxy: &Cutover, place: usize, reason: &str, count: f64) {
    let listener = proxy.address_of(place).to_string();
    let labels = [("listener", &*listener), ("reason", reason)];
    let value = || async { proxy.metrics().await.value("cutover_connections_lost_total", &labels) };
    assert!(eventually(PATIENCE, || async { value().await == count }).await, "{reason}: {}", value().await);
}

#[tokio::test]
async fn each_way_to_lose_a_connection_is_counted_by_its_reason() {
    let blue = Backend::start("blue").await;
    let ca = Ca::new();
    let hasty = held(&blue, "", "opening = \"100ms\"\nhandshake = \"100ms\"", "").tls(&ca, &["shop.test"]);
    let hasty = hasty.start().await;
    Raw::connect(&hasty).await.until_closed().await;
    lost(&hasty, 0, "silent", 1.0).await;
    Raw::connect(hasty.tls_address()).await.until_closed().await;
    lost(&hasty, 1, "handshake-slow", 1.0).await;

    let proxy = held(&blue, "http2_controls = 50", "send = \"200ms\"", "").tls(&ca, &["shop.test"]).start().await;
    let mut raw = Raw::saying(&proxy, "HELO mail.test\r\nMAIL FROM:<a@b.test> SIZE=1\r\n").await;
    raw.until_closed().await;
    let mut raw = Raw::saying(&proxy, "EHLO mail test\r\n").await;
    raw.until_closed().await;
    lost(&proxy, 0, "foreign", 1.0).await;
    let mut raw = Raw::saying(proxy.tls_address(), "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    raw.until_closed().await;
    lost(&proxy, 1, "handshake-failed", 1.0).await;
    let mut client = Frames::connect(&proxy).await;
    while client.bytes(&frame(PING, 0, 0, b"12345678")).await {}
    lost(&proxy, 0, "flood", 1.0).await;
    let mut client = Frames::connect(&proxy).await;
    client.send(DATA, 0, 0, b"on no stream").await;
    client.until_closed().await;
    lost(&proxy, 0, "broken", 1.0).await;
    let _raw = Raw::saying(&proxy, "GET /bytes/67108864 HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    lost(&proxy, 0, "slow-reader", 1.0).await;
    // Whoever comes, looks and goes is not lost.
    drop((Raw::connect(&proxy).await, Raw::connect(proxy.tls_address()).await));
    assert_eq!(Client::http1(&proxy).await.get("/").await.status, 200);
    lost(&proxy, 1, "handshake-failed", 1.0).await;
}

#[tokio::test]
async fn whoever_has_too_many_or_makes_room_is_counted() {
    let blue = Backend::start("blue").await;
    for (limits, reason) in [("connections_per_client = 2", "too-many"), ("connections = 2", "made-room")] {
        let proxy = held(&blue, limits, "park = \"20ms\"", "").start().await;
        let _some = [Raw::connect(&proxy).await, Raw::connect(&proxy).await];
        let _more = Raw::connect(&proxy).await;
        lost(&proxy, 0, reason, 1.0).await;
    }
}

#[tokio::test]
async fn resets_are_counted_for_who_sent_them() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let mut client = Frames::connect(&proxy).await;
    client.request(1, "GET", "/slow", END_STREAM).await;
    blue.waiting(1).await;
    client.send(RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;
    client.send(HEADERS, 4 | END_STREAM, 3, &crate::harness::frames::field(":path", "/")).await;
    client.until(|frame| frame.kind == RST_STREAM).await.expect("a reset");
    let listener = proxy.address().to_string();
    for by in ["client", "proxy"] {
        let labels = [("listener", &*listener), ("by", by)];
        let count = || async { proxy.metrics().await.value("cutover_http2_resets_total", &labels) };
        assert!(eventually(PATIENCE, || async { count().await == 1.0 }).await, "{by}: {}", count().await);
    }
}

#[tokio::test]
async fn clients_that_vanish_without_a_word_are_noticed() {
    let blue = Backend::start("blue").await;
    // The idle and the slow have clocks of their own: here only the system's can ring.
    let timeouts = "probe = \"1s\"\nsend = \"1s\"";
    let proxy = held(&blue, "", timeouts, "idle = \"10m\"").start().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut gone = Vec::new();
    for (path, fields) in [("/", ""), ("/events", ""), ("/ws", upgrade)] {
        let mut raw = Raw::saying(&proxy, format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n")).await;
        // With the answer comes the acknowledgement: what is left of it would be asked for again, and seem alive.
        raw.head().await;
        gone.push(raw);
    }
    blue.waiting(1).await;
    gone.iter().for_each(Raw::vanish);
    lost(&proxy, 0, "vanished", 3.0).await;
    assert!(eventually(PATIENCE, || async { blue.connections() <= 1 }).await, "only the kept one stays");
    assert_eq!(super::open(&proxy).await, 0.0);
    drop(gone);
}

#[tokio::test]
async fn a_client_that_is_there_and_says_nothing_is_not_lost() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "probe = \"1s\"\nsend = \"1s\"", "idle = \"10m\"").start().await;
    let mut raw = Raw::saying(&proxy, "GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    blue.waiting(1).await;
    // What must not happen is given more than the time in which it would.
    tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
    blue.release();
    assert_eq!(raw.answer().await.status, 200);
}

/// Nothing more is heard of a client whose last request has come, but that he goes.
#[tokio::test]
async fn whoever_goes_while_his_last_request_is_under_way_frees_its_backend() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    // At once, and when the runtime has been told of his socket.
    for stays in [0, 200].map(Duration::from_millis) {
        let client = Raw::saying(&proxy, "GET /slow HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
        blue.waiting(1).await;
        tokio::time::sleep(stays).await;
        drop(client);
        assert!(eventually(PATIENCE, || async { blue.held() == 0 }).await, "the backend still works for nobody");
    }
}
