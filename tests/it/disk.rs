//! What a disk does to the journal while the proxy serves: it hangs.

use serde_json::{Value, json};

use crate::harness::{Backend, Client, Cutover, HangingDisk, Health, PATIENCE, eventually};

/// Two services of the same two backends.
async fn shop_and_blog(rules: &str) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let proxy = Cutover::with()
        .service("shop", |s| s.blue([&blue]).green([&green]).health("/healthz").extra("cutover", rules))
        .service("blog", |s| s.hosts(&["blog.test"]).blue([&blue]).green([&green]).health("/healthz"));
    (blue, green, proxy.start().await)
}

async fn order(proxy: &Cutover, service: &str, verb: &str, body: Value) -> (u16, Value) {
    proxy.api("POST", &format!("/v1/services/{service}/{verb}"), body).await
}

async fn until_phase(proxy: &Cutover, phase: &str) {
    let there = || async { proxy.service("shop").await["phase"] == phase };
    assert!(eventually(PATIENCE, there).await, "not in {phase}: {:#}", proxy.service("shop").await);
}

#[tokio::test]
async fn while_the_disk_hangs_everything_but_what_has_to_be_written_goes_on() {
    let (_blue, green, mut proxy) = shop_and_blog("gate = [{ name = \"qa\", approve = true }]").await;
    proxy.kill9().await;
    let Some(disk) = HangingDisk::at(&proxy.state_dir()) else { return };
    proxy.restart().await;
    let (status, begun) = order(&proxy, "shop", "switch", json!({ "to": "green", "timeout": "1ms" })).await;
    assert_eq!(status, 202, "{begun}");
    until_phase(&proxy, "gates").await;

    disk.hang();
    let history = || async { proxy.api("GET", "/v1/history", Value::Null).await.1 };
    let asked = async {
        let (first, second, third) = tokio::join!(history(), history(), history());
        assert!(first == second && second == third && first[0]["id"] == begun["id"], "{first:#}");
        green.health(Health::Failing(500));
        let is_seen =
            || async { proxy.service("shop").await.pointer("/green/endpoints/0/state") == Some(&json!("down")) };
        assert!(eventually(PATIENCE, is_seen).await, "endpoints are not checked");
        assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    };
    let (approved, switched, ()) = tokio::join!(
        order(&proxy, "shop", "approve", Value::Null),
        order(&proxy, "blog", "switch", json!({ "to": "green" })),
        asked
    );
    for (status, refused) in [approved, switched] {
        let says = refused["detail"].as_str().unwrap();
        assert!(status == 507 && says.contains("has not answered") && says.contains("nothing has changed"), "{says}");
    }
    // The second word on it comes at once, and what is safe is done.
    let (status, aborted) = order(&proxy, "shop", "abort", Value::Null).await;
    assert_eq!((status, &aborted["outcome"]), (200, &json!("aborted")), "{aborted}");
    assert!(aborted["unwritten"].as_str().unwrap().contains("has not answered"), "{aborted}");

    disk.go_on();
    let is_written = || async { proxy.service("shop").await["unwritten"].is_null() };
    assert!(eventually(PATIENCE, is_written).await, "{:#}", proxy.service("shop").await);
    proxy.kill9().await;
    proxy.restart().await;
    let history = proxy.api("GET", "/v1/history", Value::Null).await.1;
    assert_eq!((history.as_array().unwrap().len(), &history[0]["outcome"]), (1, &json!("aborted")), "{history:#}");
    assert_eq!(proxy.service("blog").await["live"], "blue", "what was refused does not come true");
    proxy.kill9().await;
}
