//! Services that come, go, and answer for other hosts.

use std::time::Duration;

use serde_json::json;

use super::{checked, says, shop};
use crate::harness::{Backend, Client, Crowd, Cutover, PATIENCE, Service, Settings, WebSocket, eventually};

/// Who answers for this host and path.
async fn who(proxy: &Cutover, host: &str, path: &str) -> String {
    let answer = Client::http1(proxy).await.host(host).get(path).await;
    answer.backend().or(answer.refusal()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_service_comes_with_its_first_passing_check_and_goes_when_its_last_request_does() {
    let (_blue, _green, mut proxy) = shop(|s| s.hosts(&["shop.test"])).await;
    let (api, next) = (Backend::start("api").await, Backend::start("next").await);
    assert_eq!(who(&proxy, "api.test", "/").await, "unknown-host");
    let crowd = Crowd::of(8).think(Duration::from_millis(2)).start(&proxy);
    crowd.seen(50).await;
    let api_service = |s: Service| checked(s).hosts(&["api.test"]).blue([&api]).green([&next]);
    let answer = proxy.reload_with(|settings| settings.service("api", api_service)).await;
    assert_eq!(says(&answer), ["service.api: new"]);
    assert_eq!(who(&proxy, "api.test", "/").await, "api", "it is up as soon as the reload has returned");
    proxy.run(&["switch", "green", "api"]).await.assert_code(0);
    assert_eq!(who(&proxy, "api.test", "/").await, "next");

    let mut slow = Client::http1(&proxy).await.host("api.test");
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    next.waiting(1).await;
    proxy.reload_with(|settings| settings.without_service("api")).await;
    let checks = next.checks();
    assert_eq!(who(&proxy, "api.test", "/").await, "unknown-host");
    let unknown = proxy.run(&["switch", "blue", "api"]).await.assert_code(2);
    assert!(unknown.stderr.contains("there is shop"), "{unknown:#?}");
    next.release();
    assert_eq!(slow.await.unwrap().backend(), Some("next"));
    assert!(eventually(PATIENCE, || async { next.sockets() == 0 }).await, "its connections are closed");
    assert!(next.checks() <= checks + 1, "nobody checks it any more");

    // What it was is in the journal: it comes back with the color that was live.
    proxy.reload_with(|settings| settings.service("api", api_service)).await;
    assert_eq!(who(&proxy, "api.test", "/").await, "next");
    assert_eq!(proxy.service("api").await["generation"], 1);
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn the_tunnels_of_a_service_that_goes_have_their_time_and_then_end() {
    let (_blue, _green, mut proxy) = shop(|s| s.hosts(&["shop.test"])).await;
    let api = Backend::start("api").await;
    let service =
        |s: Service| checked(s).hosts(&["api.test"]).blue([&api]).extra("cutover", "drain = { tunnels = \"300ms\" }");
    proxy.reload_with(|settings| settings.service("api", service)).await;
    let mut tunnel = WebSocket::connect(&proxy, "api.test", "/ws").await;
    tunnel.hear().await;
    proxy.reload_with(|settings| settings.without_service("api")).await;
    tunnel.say("still there").await;
    assert_eq!(tunnel.hear().await.as_deref(), Some("still there"));
    assert_eq!(tunnel.hear().await, None, "its time is over");
    assert!(eventually(PATIENCE, || async { proxy.stderr().contains("api is gone") }).await);
}

#[tokio::test]
async fn a_service_with_a_cutover_under_way_stays() {
    let (blue, _green, mut proxy) = shop(|s| s.hosts(&["shop.test"])).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    proxy.run(&["switch", "green", "--wait", "live"]).await.assert_code(0);
    let other = Backend::start("other").await;
    let only_other = |settings: Settings| {
        settings.without_service("shop").service("other", |s| s.hosts(&["other.test"]).blue([&other]))
    };
    proxy.rewrite(only_other);
    let held = proxy.run(&["reload"]).await.assert_code(4);
    for part in ["uid 0 has held the service since", "or undo it with `cutover rollback shop`"] {
        assert!(held.stderr.contains(part), "`{part}` is missing: {held:#?}");
    }
    assert_eq!(who(&proxy, "other.test", "/").await, "unknown-host", "all of it, or nothing");
    blue.release();
    slow.await.unwrap();
    let idle = || async { proxy.service("shop").await["phase"] == "idle" };
    assert!(eventually(PATIENCE, idle).await);
    proxy.run(&["reload"]).await.assert_code(0);
    assert_eq!(
        (who(&proxy, "other.test", "/").await, who(&proxy, "shop.test", "/").await),
        ("other".into(), "unknown-host".into())
    );
}

#[tokio::test]
async fn hosts_and_paths_move_between_services_without_a_gap() {
    let (_blue, _green, mut proxy) = shop(|s| s.hosts(&["shop.test"])).await;
    let api = Backend::start("api").await;
    let crowd = Crowd::of(8).path("/api/x").think(Duration::from_millis(2)).start(&proxy);
    crowd.seen(50).await;
    let service = |s: Service| checked(s).hosts(&["shop.test"]).path("/api").blue([&api]);
    proxy.reload_with(|settings| settings.service("api", service)).await;
    let before = crowd.tally().from("blue");
    crowd.seen_more(100).await;
    let tally = crowd.stop().await;
    tally.assert_nothing_lost();
    // At most what was under way when the reload returned.
    assert!(tally.from("blue") <= before + 8 && tally.from("api") >= 50, "{tally:#?}");
    assert_eq!(who(&proxy, "shop.test", "/").await, "blue");
    let answer = proxy.reload_with(|settings| settings.service("shop", |s| s.hosts(&["b.test"]))).await;
    assert_eq!(says(&answer), ["service.shop.hosts: with b.test, without shop.test"]);
    assert_eq!(who(&proxy, "b.test", "/").await, "blue");
    assert_eq!(who(&proxy, "shop.test", "/").await, "unknown-host");
    assert_eq!(proxy.service("api").await["live"], json!("blue"));
}
