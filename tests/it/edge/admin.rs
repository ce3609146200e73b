//! The admin API is held to limits too: slow and many operators shut nobody out, and what they may bring is bounded.

use futures_util::future::join_all;

use super::held;
use crate::harness::{Backend, Raw, Settings};

fn admin(blue: &Backend, limits: &str, timeouts: &str) -> Settings {
    held(blue, "", "", "").section("admin.limits", limits).section("admin.timeouts", timeouts)
}

#[tokio::test]
async fn who_holds_every_place_over_tcp_keeps_nobody_from_the_socket() {
    let blue = Backend::start("blue").await;
    let mut proxy = admin(&blue, "connections = 2", "idle = \"60s\"").start().await;
    let held = [Raw::connect(proxy.admin_address()).await, Raw::connect(proxy.admin_address()).await];
    let mut third = Raw::saying(proxy.admin_address(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(proxy.status().await["services"][0]["live"], "blue", "over the socket");
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), third.head()).await.is_err(), "it has to wait");
    // More may be allowed at any time.
    proxy.reload_with(|s| s.section("admin.limits", "connections = 3")).await;
    assert_eq!(third.answer().await.status, 200);
    drop(held);
}

#[tokio::test]
async fn an_operator_who_dawdles_is_let_go() {
    let blue = Backend::start("blue").await;
    // On a busy machine a client may need some of it to say anything at all.
    let proxy = admin(&blue, "", "idle = \"1s\"").start().await;
    let beginnings = ["", "GET /v1/status HTTP/1.1\r\nHo", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"];
    let begun = beginnings.map(async |beginning| {
        let mut raw = Raw::connect(proxy.admin_address()).await;
        if raw.try_write(beginning).await {
            raw.until_closed().await;
        }
    });
    let half = async {
        let mut raw = Raw::connect(proxy.admin_address()).await;
        raw.write("POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{").await;
        assert_eq!(raw.answer().await.status, 408);
    };
    tokio::join!(join_all(begun), half);
}

#[tokio::test]
async fn an_order_is_only_so_long() {
    let blue = Backend::start("blue").await;
    let proxy = admin(&blue, "body = \"4KiB\"", "").start().await;
    let long = serde_json::json!({ "reason": "x".repeat(5000) });
    for (status, problem) in [
        proxy.api("POST", "/v1/services/shop/rollback", long.clone()).await,
        proxy.api_tcp("POST", "/v1/services/shop/rollback", long, Some(proxy.token())).await,
    ] {
        assert_eq!((status, &problem["type"]), (413, &"urn:cutover:problem:too-large".into()));
    }
}

#[tokio::test]
async fn who_listens_to_events_hears_of_reloads_and_that_the_proxy_lives() {
    let blue = Backend::start("blue").await;
    let mut proxy = admin(&blue, "", "events = \"50ms\"").start().await;
    let (_client, mut events) = proxy.watch("/v1/events").await;
    proxy.reload_with(|s| s.section("edge.limits", "fields = 99")).await;
    proxy.reload().await;
    let mut heard = String::new();
    while heard.matches("event: reload").count() < 2 || !heard.contains("\n:\n\n") {
        heard += &String::from_utf8_lossy(&events.chunk().await.expect("the stream goes on"));
    }
    assert!(heard.contains("\"outcome\":\"applied\",\"changes\":[\"edge.limits.fields: 100 → 99\"]"), "{heard}");
    assert!(heard.contains("\"outcome\":\"unchanged\""), "{heard}");
    proxy.rewrite(|s| s.section("edge.limits", "fields = 0"));
    assert_eq!(proxy.reload().await.0, 422);
    while !heard.contains("\"outcome\":\"refused\"") {
        heard += &String::from_utf8_lossy(&events.chunk().await.expect("the stream goes on"));
    }
    assert!(heard.contains("is not a whole number from 1 to 1000"), "{heard}");
}
