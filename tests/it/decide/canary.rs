//! Canary steps: each judged beside the old color, onward only if good, and taken back whole where not.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use super::{begin, ended, order, reasons, shop, until_phase};
use crate::harness::body::{self, Body};
use crate::harness::{Backend, Client, Crowd, Cutover, Health, PATIENCE, eventually};

const STEPS: &str = "canary = [{ weight = \"30%\", for = \"2s\" }, { weight = \"60%\", for = \"2s\" }]";
const LONG: &str = "canary = [{ weight = \"50%\", for = \"20m\" }]";

#[tokio::test]
async fn shares_grow_step_by_step_and_end_with_the_switch() {
    let lax = "bake = { for = \"100ms\", extend = \"1h\", min_requests = 1 }";
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", &format!("{STEPS}\n{lax}"))).await;
    // Fewer than a hundred come to blue, which is too little to hold green's speed against: that is the machine's here.
    let crowd = Crowd::of(6).think(Duration::from_millis(300)).start(&proxy);
    crowd.seen(10).await;
    let done = proxy.spawn(&["switch", "green", "--wait", "done", "--json"]);
    let mut weights = Vec::new();
    while weights.last() != Some(&1.0) {
        let service = proxy.service("shop").await;
        let weight = service["green"]["weight"].as_f64().unwrap();
        assert_eq!(service["live"], if weight < 1.0 { "blue" } else { "green" }, "{service}");
        weights.push(weight);
    }
    weights.dedup();
    // Whether a step is seen is a matter of luck; what is seen must be right.
    assert!(weights.is_sorted() && weights.iter().all(|weight| [0.0, 0.3, 0.6, 1.0].contains(weight)), "{weights:?}");
    let answer = done.ended().await.assert_code(0).json();
    assert_eq!((&answer["outcome"], &answer["generation"]), (&json!("done"), &json!(1)), "{answer}");
    let journal = std::fs::read_to_string(proxy.state_dir().join("journal.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut steps: Vec<_> = lines.filter_map(|line| line["cutover"]["step"].as_u64()).collect();
    steps.dedup();
    assert_eq!(steps, [0, 1], "{journal}");
    assert!(green.requests() > 0);
    crowd.stop().await.assert_nothing_lost();
    assert_eq!(proxy.service("shop").await["green"]["weight"], 1.0);
}

#[tokio::test]
async fn a_bad_canary_is_taken_back_whole_before_anyone_else_sees_it() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", LONG)).await;
    let crowd = Crowd::of(32).think(Duration::from_millis(5)).start(&proxy);
    crowd.seen(200).await;
    green.fail_each(3);
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green", "wait": "done" })).await;
    assert_eq!(
        (status, &problem["outcome"], &problem["generation"]),
        (409, &json!("rolled_back"), &json!(0)),
        "{problem}"
    );
    assert!(reasons(&problem).contains("requests failed: "), "{problem}");
    let (before, service) = (green.requests(), proxy.service("shop").await);
    assert_eq!((&service["green"]["weight"], &service["blue"]["weight"]), (&json!(0.0), &json!(1.0)), "{service}");
    crowd.seen_more(100).await;
    assert_eq!(green.requests(), before, "a request reached green after its share had been taken back");
    crowd.stop().await;
}

#[tokio::test]
async fn an_abort_takes_the_share_back_and_a_crash_gives_it_again() {
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", LONG)).await;
    begin(&proxy).await;
    until_phase(&proxy, "canary").await;
    proxy.kill9().await;
    proxy.restart().await;
    let shared = || async { proxy.service("shop").await["green"]["weight"] == 0.5 };
    assert!(eventually(PATIENCE, shared).await, "{}", proxy.service("shop").await);
    proxy.run(&["abort"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("rolled_back"), &json!("blue")), "{history}");
    assert!(reasons(&history).contains("aborted by uid 0"), "{history}");
    for _ in 0..20 {
        assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    }
    assert_eq!(order(&proxy, "abort", Value::Null).await.0, 409);
}

/// A canary that an operator wants to end, while blue can take nobody.
async fn stuck() -> (Backend, Backend, Cutover) {
    let (blue, green, proxy) = shop(|s| s.extra("cutover", LONG)).await;
    begin(&proxy).await;
    until_phase(&proxy, "canary").await;
    blue.health(Health::Failing(503));
    let is_down = || async { proxy.service("shop").await["blue"]["endpoints"][0]["state"] == "down" };
    assert!(eventually(PATIENCE, is_down).await, "{:#}", proxy.service("shop").await);
    let turned = proxy.run(&["abort"]).await.assert_code(0);
    assert!(turned.stdout.contains("its share goes to blue again as soon as that can take it"), "{turned:#?}");
    until_phase(&proxy, "paused").await;
    (blue, green, proxy)
}

#[tokio::test]
async fn a_canary_that_cannot_go_back_says_so_and_goes_once_it_can() {
    let (blue, _green, proxy) = stuck().await;
    let refused = proxy.run(&["rollback"]).await.assert_code(1);
    assert!(refused.stderr.contains("blue is not good either: "), "{refused:#?}");
    assert!(
        refused.stderr.contains("gets everyone back as soon as it is; `cutover approve shop` goes"),
        "{refused:#?}"
    );
    let again = proxy.run(&["abort"]).await.assert_code(0);
    assert!(again.stdout.contains("\n  blue is not good either: "), "{again:#?}");
    blue.health(Health::Passing);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("rolled_back"), &json!("blue")), "{history}");
}

#[tokio::test]
async fn what_keeps_a_canary_from_going_back_is_told_as_it_is_now_with_what_can_be_done() {
    let (blue, _green, proxy) = stuck().await;
    blue.health(Health::Failing(500));
    let is_told = || async { reasons(&proxy.service("shop").await["cutover"]).contains("answered 500") };
    assert!(eventually(PATIENCE, is_told).await, "{:#}", proxy.service("shop").await);
    let cutover = proxy.service("shop").await["cutover"].clone();
    let id = cutover["id"].as_str().unwrap();
    let (_, past) = proxy.api("GET", &format!("/v1/history/{id}"), Value::Null).await;
    assert_eq!(past["reasons"], cutover["reasons"], "{past:#}");
    for shown in [&["status"][..], &["history", "show", id]] {
        let shown = proxy.run(shown).await.assert_code(0).stdout;
        for part in ["answered 500", "it goes back by itself as soon as blue is good", "cutover approve shop"] {
            assert!(shown.contains(part), "`{part}` is missing: {shown}");
        }
        assert!(!shown.contains("cutover abort"), "{shown}");
    }
}

#[tokio::test]
async fn a_canary_that_cannot_go_back_goes_on_where_an_operator_says_so() {
    let (_blue, _green, proxy) = stuck().await;
    proxy.run(&["approve"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("done"), &json!("green")), "{history}");
}

#[tokio::test]
async fn a_canary_that_nobody_meets_is_not_passed() {
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", "canary = [{ weight = \"1%\", for = \"200ms\" }]")).await;
    let told = proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(told.stderr.contains("0 requests so far") && told.stderr.contains("blue is live"), "{told:#?}");
    let wrong = proxy.run(&["approve", "--gate", "qa"]).await.assert_code(1);
    assert!(wrong.stderr.contains("at a gate; it is paused for another reason"), "{wrong:#?}");
    proxy.run(&["approve"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("done"), &json!("green")), "{history}");
}

/// Who is on green, by the field that clients are known by here.
async fn users_of_green(proxy: &Cutover) -> Vec<String> {
    let (mut client, mut users) = (Client::http1(proxy).await, Vec::new());
    for n in 0..40 {
        let user = format!("user-{n}");
        if client.send(as_user(&user, "/")).await.backend() == Some("green") {
            users.push(user);
        }
    }
    users
}

fn as_user(user: &str, path: &str) -> Request<Body> {
    Request::get(path).header("x-user", user).body(body::empty()).unwrap()
}

/// What the very first answer to this user comes from, once somebody listens again.
async fn first_answer(address: SocketAddr, user: String) -> Option<String> {
    loop {
        if let Ok(mut client) = Client::try_http1(address).await
            && let Ok(answer) = client.try_send(as_user(&user, "/")).await
        {
            return answer.backend().map(str::to_owned);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn after_a_crash_nobody_comes_back_to_blue_not_even_with_the_first_request() {
    let rules = format!("{LONG}\nsticky = {{ header = \"X-User\" }}");
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", &rules)).await;
    begin(&proxy).await;
    let shared = || async { proxy.service("shop").await["green"]["weight"] == 0.5 };
    assert!(eventually(PATIENCE, shared).await, "{}", proxy.service("shop").await);
    let users = users_of_green(&proxy).await;
    assert!(!users.is_empty());
    proxy.kill9().await;
    let address = proxy.address();
    let first: Vec<_> = users.into_iter().map(|user| tokio::spawn(first_answer(address, user))).collect();
    proxy.restart().await;
    for first in first {
        assert_eq!(first.await.unwrap().as_deref(), Some("green"));
    }
}

#[tokio::test]
async fn a_share_outlives_a_crash_though_the_config_has_no_canary_any_more() {
    // Nobody comes, so that it waits in its step.
    let rules = "canary = [{ weight = \"50%\", for = \"200ms\" }]\nsticky = { header = \"X-User\" }";
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", rules)).await;
    begin(&proxy).await;
    until_phase(&proxy, "paused").await;
    let users = users_of_green(&proxy).await;
    assert!(!users.is_empty());
    proxy.reload_with(|settings| settings.service("shop", |s| s.extra("cutover", "canary = []"))).await;
    proxy.kill9().await;
    proxy.restart().await;
    let service = proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["green"]["weight"]), (&json!("paused"), &json!(0.5)), "{service:#}");
    assert_eq!(users_of_green(&proxy).await, users);
}

#[tokio::test]
async fn a_share_on_its_way_back_may_be_aborted_again_and_blue_has_been_live_all_along() {
    let rules = format!("{LONG}\nsticky = {{ header = \"X-User\" }}");
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", &rules)).await;
    let since = proxy.service("shop").await["since"].clone();
    begin(&proxy).await;
    until_phase(&proxy, "canary").await;
    let shared = || async { proxy.service("shop").await["green"]["weight"] == 0.5 };
    assert!(eventually(PATIENCE, shared).await, "{}", proxy.service("shop").await);
    let user = users_of_green(&proxy).await.pop().unwrap();
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.send(as_user(&user, "/slow")).await });
    green.waiting(1).await;
    proxy.run(&["abort"]).await.assert_code(0);
    until_phase(&proxy, "drain_back").await;
    let again = proxy.run(&["abort"]).await.assert_code(0);
    assert!(again.stdout.contains("is on its way back: blue is live, green is draining"), "{again:#?}");
    let joined = proxy.run(&["rollback", "--wait", "live"]).await.assert_code(0);
    assert!(joined.stdout.contains("blue is live"), "{joined:#?}");
    green.release();
    assert_eq!(slow.await.unwrap().backend(), Some("green"));
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("rolled_back"), &json!("blue")), "{history}");
    assert_eq!(proxy.service("shop").await["since"], since);
}

#[tokio::test]
async fn copies_that_nobody_answers_are_not_held_against_green() {
    let rules = "deadline = \"2h\"\nsticky = { header = \"X-User\" }\nbake = { for = \"20m\", unanswered = \"1s\" }\n\
        mirror = { share = \"100%\", timeout = \"60s\", concurrency = 100 }";
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", &format!("{LONG}\n{rules}"))).await;
    begin(&proxy).await;
    let shared = || async { proxy.service("shop").await["green"]["weight"] == 0.5 };
    assert!(eventually(PATIENCE, shared).await, "{}", proxy.service("shop").await);
    assert!(!users_of_green(&proxy).await.is_empty());
    let mut client = Client::http1(&proxy).await;
    for n in 0..40 {
        // At green every copy waits there in vain.
        let user = format!("user-{n}");
        if client.send(as_user(&user, "/")).await.backend() == Some("blue") {
            assert_eq!(client.send(as_user(&user, "/slow-on/green")).await.backend(), Some("blue"));
        }
    }
    green.waiting(5).await;
    // Three times as long as a client's request may wait.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let service = proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["green"]["weight"]), (&json!("canary"), &json!(0.5)), "{service:#}");
    assert_eq!(service["cutover"]["trial"]["measures"][0]["bad"], 0, "{service:#}");
    green.release();
}
