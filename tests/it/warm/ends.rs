//! How a warm-up ends otherwise than well: it fails, takes too long, is aborted, or the proxy is killed in its middle.

use serde_json::{Value, json};

use super::{GREEN, Shop};
use crate::harness::{Backend, Client, Crowd, Cutover, PATIENCE, RawBackend, Service, eventually, within};

/// Requests that wait until they are released.
const HANGING: &str = "connections = 2, requests = [\"/slow\"], for = \"10ms\", deadline = \"20m\"";

fn reasons(outcome: &Value) -> String {
    outcome["reasons"].to_string()
}

#[tokio::test]
async fn a_color_that_fails_its_warm_up_is_never_switched_to_and_the_figures_say_why() {
    let shop = Shop::with("connections = 2, requests = [\"/\"], for = \"1s\", rate = 40, deadline = \"1m\"").await;
    shop.green[0].fail_each(2);
    let crowd = Crowd::of(4).start(&shop.proxy);
    crowd.seen(50).await;
    let told = shop.proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(told.stderr.contains("nothing has changed, blue is live"), "{told:#?}");
    assert!(told.stderr.contains("warm-up of green: 11 of 44 (25.00 %) requests failed; at most 5% may"), "{told:#?}");
    assert!(told.stderr.contains(": GET /: 500, 11 times"), "{told:#?}");
    shop.assert_nothing_has_changed().await;
    let tally = crowd.stop().await;
    tally.assert_nothing_lost();
    assert_eq!(tally.from("blue"), tally.requests);
    let newest = shop.newest().await;
    assert_eq!((&newest["outcome"], &newest["warmed"]["codes"]), (&json!("aborted"), &json!([0, 33, 0, 0, 11])));
    // Once it is good it goes live.
    shop.green[0].fail_each(0);
    shop.proxy.run(&["switch", "green"]).await.assert_code(0);
}

#[tokio::test]
async fn as_many_failures_as_are_allowed_are_told_and_do_not_stop_it() {
    let warm = "connections = 2, requests = [\"/status/503\", \"/status/404\", \"/status/301\"], for = \"10ms\"";
    let shop = Shop::with(&format!("{warm}, max_error_share = \"40%\", deadline = \"1m\"")).await;
    shop.proxy.run(&["switch", "green"]).await.assert_code(0);
    let newest = shop.newest().await;
    assert_eq!(newest["warmed"]["codes"], json!([0, 0, 2, 2, 2]), "{newest:#}");
    assert_eq!(newest["warmed"]["failures"].as_array().unwrap().len(), 2, "one for each endpoint: {newest:#}");
    let metrics = shop.proxy.metrics().await;
    assert_eq!(metrics.value("cutover_warm_requests_total", &[GREEN[0], GREEN[1], ("code", "5xx")]), 2.0);
}

#[tokio::test]
async fn what_has_no_answer_by_the_deadline_has_failed() {
    let shop = Shop::with("connections = 2, requests = [\"/slow\"], for = \"10ms\", deadline = \"3s\"").await;
    let told = shop.proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(told.stderr.contains("requests failed, 2 of them not answered in time"), "{told:#?}");
    shop.assert_nothing_has_changed().await;
}

#[tokio::test]
async fn a_switch_of_protocols_is_no_answer_and_its_connection_is_not_kept_for_clients() {
    let blue = Backend::start("blue").await;
    let (green, mut told) = RawBackend::switching();
    let warm = "warm = { connections = 1, requests = [\"/\"], for = \"1s\", rate = 10, deadline = \"1m\" }";
    let service = |s: Service| s.blue([&blue]).green([&green]).health("/healthz").extra("cutover", warm);
    let proxy = Cutover::with().service("shop", service).workers(1).start().await;
    let ran = proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(ran.stderr.contains("warm-up of green: ") && ran.stderr.contains(": GET /: bad-answer, "), "{ran:#?}");
    for _ in 0..2 {
        assert!(within("the end of a connection", told.recv()).await.unwrap(), "it was used again");
    }
    assert_eq!(proxy.service("shop").await["green"]["upstream"]["idle"], 0);
}

#[tokio::test]
async fn answers_that_are_no_http_and_connections_that_end_are_failures_and_no_more() {
    let shop = Shop::with(
        "connections = 2, requests = [\"/die-midway\", \"/bytes/9000000\", \"/close\"], for = \"100ms\", rate = 200, deadline = \"1m\"",
    )
    .await;
    // Each of these has a good head, so each counts as what that says; what follows is cut off.
    shop.proxy.run(&["switch", "green"]).await.assert_code(0);
    let sent: u64 = shop.green.iter().map(|green| green.bytes_sent()).sum();
    assert!(sent < 2 * 4 * 9_000_000, "all of each was read: {sent}");
    assert_eq!(Client::http1(&shop.proxy).await.get("/").await.backend(), Some("green"));
}

#[tokio::test]
async fn an_abort_in_the_middle_ends_it_with_whatever_is_under_way() {
    let shop = Shop::with(HANGING).await;
    shop.begin().await;
    shop.until_phase("warm").await;
    shop.green[0].waiting(1).await;
    shop.green[1].waiting(1).await;
    let service = shop.service().await;
    assert_eq!((&service["live"], &service["green"]["in_flight"]), (&json!("blue"), &json!(2)), "{service:#}");
    assert_eq!(service["cutover"]["warmed"]["connections"], 4, "{service:#}");
    let shown = shop.proxy.run(&["status"]).await.assert_code(0);
    assert!(shown.stdout.contains("4 of 4 connections, 0 of 2 requests"), "{}", shown.stdout);
    let metrics = shop.proxy.metrics().await;
    assert_eq!(metrics.value("cutover_phase", &[("service", "shop"), ("phase", "warm")]), 1.0);
    assert_eq!(metrics.value("cutover_requests_to_old_since_switch", &[("service", "shop")]), 0.0);
    assert_eq!(Client::http1(&shop.proxy).await.get("/").await.backend(), Some("blue"));

    shop.proxy.run(&["abort"]).await.assert_code(0);
    shop.assert_nothing_has_changed().await;
    let newest = shop.newest().await;
    assert!(newest["outcome"] == "aborted" && reasons(&newest).contains("aborted by uid 0"), "{newest:#}");
    // The next one begins it anew.
    shop.begin().await;
    shop.until_phase("warm").await;
    until_switched(&shop).await;
}

#[tokio::test]
async fn killed_in_its_middle_it_begins_anew_and_blue_serves_meanwhile() {
    let mut shop = Shop::with(HANGING).await;
    shop.begin().await;
    shop.until_phase("warm").await;
    shop.green[0].waiting(1).await;
    shop.proxy.kill9().await;
    shop.proxy.restart().await;
    shop.until_phase("warm").await;
    assert_eq!(Client::http1(&shop.proxy).await.get("/").await.backend(), Some("blue"));
    until_switched(&shop).await;
    assert_eq!(Client::http1(&shop.proxy).await.get("/").await.backend(), Some("green"));
}

#[tokio::test]
async fn the_cutovers_deadline_ends_it_too() {
    let shop = Shop::described(|service| {
        let warm = HANGING.replace("20m", "2h");
        service.extra("cutover", &format!("warm = {{ {warm} }}\ndeadline = \"1s\""))
    })
    .await;
    let told = shop.proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(told.stderr.contains("the deadline passed before the switch"), "{told:#?}");
    shop.assert_nothing_has_changed().await;
}

#[tokio::test]
async fn while_it_lasts_no_endpoint_comes_or_goes_and_the_proxy_can_end() {
    let mut shop = Shop::with(HANGING).await;
    shop.begin().await;
    shop.until_phase("warm").await;
    shop.green[0].waiting(1).await;
    shop.green[1].waiting(1).await;
    let first = &shop.green[0];
    shop.proxy.rewrite(|settings| settings.service("shop", |service| service.green([first])));
    let (status, problem) = shop.proxy.reload().await;
    assert!(status == 409 && problem.to_string().contains("(warm)"), "{problem:#}");
    shop.proxy.rewrite(|settings| settings.service("shop", |service| service.green(&shop.green)));
    // What else changes does not touch it.
    let limits = "request_body = \"1MiB\"";
    shop.proxy.reload_with(|settings| settings.service("shop", |service| service.extra("limits", limits))).await;
    assert_eq!(shop.service().await["phase"], "warm");
    assert_eq!(shop.service().await["green"]["in_flight"], 2);
    // Who waited for the warm-up would wait longer than anybody's patience.
    assert_eq!(shop.proxy.terminate().await.code, 0);
}

/// Lets whatever waits go, again and again, until green is live.
async fn until_switched(shop: &Shop) {
    let done = || async {
        shop.green.iter().for_each(|green| green.release());
        shop.service().await["phase"] == "idle"
    };
    assert!(eventually(PATIENCE, done).await, "{:#}", shop.service().await);
    assert_eq!(shop.service().await["live"], "green", "{:#}", shop.newest().await);
}
