//! The retire permit as scripts ask for it: yes or no with reasons, that a restart does not forget and that can be waited for.

use http::Request;
use serde_json::{Value, json};

use crate::harness::{Backend, Client, Cutover, PATIENCE, Service, WebSocket, body, eventually};

async fn shop(describe: impl FnOnce(Service) -> Service) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| describe(s.blue([&blue]).green([&green]).health("/healthz"));
    let proxy = Cutover::with().service("shop", service).start().await;
    (blue, green, proxy)
}

fn no_window(service: Service) -> Service {
    service.extra("cutover", "rollback_window = \"0s\"")
}

async fn permit(proxy: &Cutover, color: &str) -> Value {
    let (status, permit) = proxy.api("GET", &format!("/v1/services/shop/retire/{color}"), Value::Null).await;
    assert_eq!(status, 200, "{permit}");
    permit
}

fn codes(permit: &Value) -> Vec<&str> {
    let reasons = permit["reasons"].as_array().unwrap_or_else(|| panic!("{permit}"));
    assert_eq!(permit["may"], reasons.is_empty(), "{permit}");
    reasons.iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_live_color_may_not_go_and_the_other_may_once_nothing_speaks_for_it() {
    let (_blue, _green, proxy) = shop(no_window).await;
    Client::http1(&proxy).await.get("/").await;
    let live = proxy.run(&["retire", "blue"]).await.assert_code(1);
    assert!(live.stdout.contains("blue must not be retired") && live.stdout.contains("switch to green"), "{live:#?}");
    let idle = proxy.run(&["retire", "green", "shop"]).await.assert_code(0);
    assert!(idle.stdout.contains("green may be retired") && idle.stdout.contains("has never served"), "{idle:#?}");
    proxy.run(&["switch", "green"]).await.assert_code(0);
    let yes = proxy.run(&["retire", "blue", "--json"]).await.assert_code(0).json();
    assert_eq!((&yes["may"], &yes["service"], &yes["color"]), (&json!(true), &json!("shop"), &json!("blue")));
    assert!(yes["at"].is_string() && yes["grounds"][0]["code"] == "live", "{yes}");
    let no = proxy.run(&["retire", "green", "--json"]).await.assert_code(1).json();
    assert_eq!(codes(&no), ["live"]);
    assert_eq!(no["reasons"][0]["figures"]["live"], "green", "{no}");
}

#[tokio::test]
async fn a_request_left_behind_by_the_drain_is_waited_for() {
    let (blue, _green, proxy) =
        shop(|s| no_window(s).extra("cutover", "drain = { requests = \"0s\", tunnels = \"0s\" }")).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    proxy.run(&["switch", "green"]).await;
    assert_eq!(codes(&permit(&proxy, "blue").await), ["in-flight"]);
    let late = proxy.run(&["retire", "blue", "--wait", "--timeout", "100ms"]).await.assert_code(1);
    assert!(late.stdout.contains("1 request is still inside blue"), "{late:#?}");
    let waiting = proxy.spawn(&["retire", "blue", "--wait"]);
    blue.release();
    assert_eq!(slow.await.unwrap().status, 200);
    waiting.ended().await.assert_code(0);
}

#[tokio::test]
async fn while_a_tunnel_keeps_the_cutover_under_way_both_are_told() {
    let (_blue, _green, proxy) = shop(no_window).await;
    let mut tunnel = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    tunnel.hear().await;
    proxy.run(&["switch", "green", "--wait", "live"]).await.assert_code(0);
    let permit = permit(&proxy, "blue").await;
    assert_eq!(codes(&permit), ["cutover", "tunnels"]);
    assert_eq!(permit["reasons"][0]["figures"]["phase"], "drain", "{permit}");
    assert_eq!(permit["reasons"][1]["figures"]["count"], 1, "{permit}");
    let waiting = proxy.spawn(&["retire", "blue", "--wait"]);
    tunnel.close().await;
    waiting.ended().await.assert_code(0);
}

#[tokio::test]
async fn the_window_for_a_rollback_outlives_a_restart_and_follows_the_config() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    proxy.run(&["switch", "green"]).await.assert_code(0);
    let before = permit(&proxy, "blue").await;
    assert_eq!(codes(&before), ["rollback-window"]);
    assert_eq!(before["reasons"][0]["figures"]["window_s"], 1800.0);
    assert!(before["until"].is_string(), "time is all that is missing: {before}");
    proxy.restart().await;
    let after = permit(&proxy, "blue").await;
    assert_eq!((codes(&after), &after["until"]), (vec!["rollback-window"], &before["until"]));
    let told = proxy.reload_with(|settings| settings.service("shop", no_window)).await;
    assert_eq!(told["changes"][0]["says"], "service.shop.cutover.rollback_window: 30m → 0s");
    assert_eq!(codes(&permit(&proxy, "blue").await), Vec::<&str>::new());
}

#[tokio::test]
async fn everyone_who_may_look_may_ask_and_a_wrong_question_is_told_so() {
    let (_blue, _green, proxy) = shop(no_window).await;
    let ask = |path: &'static str| proxy.api_tcp("GET", path, Value::Null, None);
    assert_eq!(ask("/v1/services/shop/retire/green").await.0, 200);
    let (status, problem) = ask("/v1/services/shop/retire/red").await;
    assert_eq!(status, 400, "{problem}");
    assert_eq!(ask("/v1/services/shopp/retire/blue").await.0, 404);
    proxy.run(&["retire", "red"]).await.assert_code(2);
    proxy.run(&["retire", "blue", "shopp"]).await.assert_code(2);
    proxy.run(&["retire", "blue", "--timeout", "1s"]).await.assert_code(2);
}

#[tokio::test]
async fn a_wait_outlives_a_restart_of_the_proxy() {
    let (blue, _green, mut proxy) =
        shop(|s| no_window(s).extra("cutover", "drain = { requests = \"0s\", tunnels = \"0s\" }")).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.try_send(Request::get("/slow").body(body::empty()).unwrap()).await });
    blue.waiting(1).await;
    proxy.run(&["switch", "green"]).await;
    let waiting = proxy.spawn(&["retire", "blue", "--wait"]);
    let waits = || async { waiting.stderr().contains("1 request is still inside blue") };
    assert!(eventually(PATIENCE, waits).await, "{}", waiting.stderr());
    proxy.kill9().await;
    proxy.restart().await;
    drop(slow);
    waiting.ended().await.assert_code(0);
}
