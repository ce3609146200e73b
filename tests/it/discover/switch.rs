//! Answers while a service is switched, and while its config is read anew.

use serde_json::json;

use super::stage::{NAME, Records, Stage, addresses, checked, sorted, standing, until, ups};
use crate::harness::{Backend, Client, Cutover, Manner};

#[tokio::test]
async fn an_answer_waits_until_a_switch_has_drained_the_old_color() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let green = Backend::start("green").await;
    let stage = Stage::of(&[&a], &[&green]).await;
    let mut client = Client::http1(&stage.proxy).await;
    let slow = tokio::spawn(async move { client.get("/slow").await });
    a.waiting(1).await;
    stage.proxy.run(&["switch", "green", "--wait", "live"]).await.assert_code(0);
    assert_eq!(stage.proxy.service("shop").await["phase"], "drain");
    let table = stage.proxy.status().await["table_version"].clone();

    stage.records.say(&[&a, &b]);
    let heard = stage.ask(json!({})).await;
    assert_eq!(heard["outcome"], "held", "{heard:#}");
    assert!(heard["why"].as_str().unwrap().contains("uid 0 has held the service since"), "{heard:#}");
    stage.asked_more(10).await;
    let blue = stage.blue().await;
    assert_eq!((&blue["discovery"]["state"], addresses(&blue)), (&json!("held"), sorted(&[&a])), "{blue:#}");
    assert_eq!(stage.proxy.status().await["table_version"], table);

    a.release();
    assert_eq!(slow.await.unwrap().backend(), Some("a"));
    stage.until_serving(&[&a, &b]).await;
    stage.until("current", |blue| blue["discovery"]["state"] == "current").await;
}

#[tokio::test]
async fn a_reload_keeps_what_is_discovered_and_touches_no_scout_that_is_equal() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut stage = Stage::of(&[&a, &b], &[]).await;
    // With the name server silent, whoever had to ask would know nothing.
    stage.records.server.behave(Manner::Silent);
    let answer = stage.proxy.reload_with(|s| s.service("shop", |s| s.extra("timeouts", "body = \"90s\""))).await;
    assert_eq!(answer["changes"].as_array().unwrap().len(), 1, "{answer:#}");
    stage.until_serving(&[&a, &b]).await;
    let again = stage.proxy.reload().await.1;
    assert_eq!(again["outcome"], "unchanged", "{again:#}");

    // Another pace is another scout, which begins with what is there.
    let keys = stage.records.keys().replace("100ms", "200ms");
    let answer = stage.proxy.reload_with(|s| s.service("shop", |s| s.discover("blue", &keys))).await;
    assert_eq!(answer["changes"][0]["says"], "service.shop.blue.discover.interval: 100ms → 200ms");
    let blue = stage.blue().await;
    assert_eq!(standing(&blue["discovery"], "named"), sorted(&[&a, &b]), "{blue:#}");

    // Named again in the file, they are what the file says.
    stage.proxy.reload_with(|s| s.service("shop", |s| s.blue([&b]))).await;
    let blue = stage.blue().await;
    assert_eq!((&blue["discovery"], addresses(&blue)), (&json!(null), sorted(&[&b])), "{blue:#}");
    let (status, problem) = stage.proxy.api("POST", "/v1/services/shop/discover", json!({})).await;
    assert!(status == 404 && problem["detail"].as_str().unwrap().contains("not discovered"), "{problem}");
}

#[tokio::test]
async fn endpoints_of_the_file_stay_until_a_source_has_answered_that_takes_their_place() {
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let records = Records::of(&[]).await;
    let mut proxy = Cutover::with().service("shop", |s| checked(s).blue([&old])).start().await;
    proxy.reload_with(|s| s.service("shop", |s| s.discover("blue", &records.keys()))).await;
    let blue = until(&proxy, "blue", "doubted", |blue| blue["discovery"]["state"] == "doubted").await;
    assert_eq!((standing(&blue["discovery"], "inherited"), ups(&blue)), (sorted(&[&old]), sorted(&[&old])));
    // A live color does not lose its last endpoint that is up to one that is not.
    new.health(crate::harness::Health::Failing(500));
    records.say(&[&new]);
    let blue = until(&proxy, "blue", "held", |blue| blue["discovery"]["state"] == "held").await;
    assert!(blue["discovery"]["held"].as_str().unwrap().contains("no endpoint of it would be up"), "{blue:#}");
    assert_eq!(addresses(&blue), sorted(&[&old]));
    new.health(crate::harness::Health::Passing);
    until(&proxy, "blue", "the new one", |blue| addresses(blue) == sorted(&[&new])).await;
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("new"));
}

#[tokio::test]
async fn both_colors_can_be_discovered_and_never_have_the_same_endpoint() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let (blue, green) = (Records::of(&[&a]).await, Records::of(&[&b]).await);
    let service = |s| checked(s).discover("blue", &blue.keys()).discover("green", &green.keys());
    let proxy = Cutover::with().service("shop", service).start().await;
    until(&proxy, "green", "up", |green| ups(green) == sorted(&[&b])).await;
    green.say(&[&a, &b]);
    let refused = |color: &serde_json::Value| color["discovery"]["refused"][0]["address"] == sorted(&[&a])[0];
    until(&proxy, "green", "refused a", refused).await;
    let status = proxy.service("shop").await;
    assert_eq!((addresses(&status["blue"]), addresses(&status["green"])), (sorted(&[&a]), sorted(&[&b])));
    assert!(blue.keys().contains(NAME));
}
