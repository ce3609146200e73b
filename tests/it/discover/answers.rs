//! What becomes of answers: good, equal, empty, few, and none at all.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{LONG, Stage, addresses, sorted, standing, ups};
use crate::harness::{Backend, Client, Crowd, Health, Manner, Running, eventually};

fn load(stage: &Stage) -> Running {
    Crowd::of(4).think(Duration::from_millis(2)).start(&stage.proxy)
}

async fn backends<const N: usize>(names: [&str; N]) -> [Backend; N] {
    let mut all = Vec::new();
    for name in names {
        all.push(Backend::start(name).await);
    }
    all.try_into().unwrap_or_else(|_| unreachable!())
}

#[tokio::test]
async fn endpoints_come_with_a_passing_check_and_go_when_they_fail_under_load() {
    let [a, b, c, bad] = backends(["a", "b", "c", "bad"]).await;
    bad.health(Health::Failing(503));
    let stage = Stage::of(&[&a, &b], &[]).await;
    let crowd = load(&stage);
    crowd.seen(50).await;
    stage.records.say(&[&b, &c, &bad]);
    stage.until("with c", |blue| ups(blue).len() == 3).await;
    assert!(eventually(LONG, || async { c.requests() > 10 }).await, "c gets requests");
    assert_eq!(bad.requests(), 0, "who is proposed is not yet trusted");
    // It is out of the answers, and passes: it stays.
    let discovery = stage.until("lingering", |blue| standing(&blue["discovery"], "lingers") == sorted(&[&a])).await;
    assert_eq!(discovery["discovery"]["state"], "current", "{discovery:#}");
    let before = a.requests();
    stage.asked_more(10).await;
    assert!(eventually(LONG, || async { a.requests() > before + 10 }).await, "a still serves");
    a.health(Health::Failing(503));
    stage.until("without a", |blue| addresses(blue) == sorted(&[&b, &c, &bad])).await;
    crowd.seen_more(50).await;
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn equal_answers_touch_nothing() {
    let [a, b] = backends(["a", "b"]).await;
    let stage = Stage::of(&[&a, &b], &[]).await;
    let crowd = load(&stage);
    crowd.seen(50).await;
    let untouched = async || {
        let status = stage.proxy.status().await;
        let journal = std::fs::read_to_string(stage.proxy.state_dir().join("journal.jsonl")).unwrap();
        (status["table_version"].clone(), status["services"][0]["since"].clone(), journal)
    };
    let before = untouched().await;
    assert!(before.2.contains("\"discovery\""), "the answer is kept: {}", before.2);
    stage.asked_more(30).await;
    // The same in another order is the same.
    stage.records.say(&[&b, &a]);
    stage.asked_more(30).await;
    assert_eq!(untouched().await, before);
    let tally = crowd.stop().await;
    tally.assert_nothing_lost();
    assert_eq!(tally.connections, 4);
}

#[tokio::test]
async fn no_answer_and_an_empty_one_cost_nobody_anything() {
    let [a, b] = backends(["a", "b"]).await;
    let stage = Stage::of(&[&a, &b], &[]).await;
    let crowd = load(&stage);
    crowd.seen(50).await;
    // The silent one first: then it is not asked after a long pause.
    for (manner, says) in [
        (Manner::Silent, "does not answer"),
        (Manner::Failing, "answers Server Failure"),
        (Manner::Refusing, "refuses to answer"),
    ] {
        stage.behaves(manner).await;
        let failing = |blue: &Value| blue["discovery"]["error"].as_str().is_some_and(|error| error.contains(says));
        let blue = stage.until(says, failing).await;
        assert_eq!((&blue["discovery"]["state"], ups(&blue)), (&json!("failing"), sorted(&[&a, &b])), "{blue:#}");
        assert!(blue["discovery"]["failures"].as_u64() > Some(0), "{blue:#}");
    }
    stage.behaves(Manner::Proper).await;
    stage.records.say(&[]);
    let heard = stage.ask(json!({})).await;
    assert_eq!((&heard["outcome"], &heard["answer"]), (&json!("doubted"), &json!([])), "{heard:#}");
    let blue = stage.blue().await;
    assert_eq!(blue["discovery"]["state"], "doubted", "{blue:#}");
    assert!(blue["discovery"]["error"].as_str().unwrap().contains("no endpoint"), "{blue:#}");
    assert_eq!(blue["discovery"]["left_out"], json!(["_http._tcp.shop.test does not exist"]));
    // Not even where everybody fails.
    a.health(Health::Failing(500));
    stage.until("half down", |blue| ups(blue).len() == 1).await;
    stage.asked_more(10).await;
    assert_eq!(addresses(&stage.blue().await), sorted(&[&a, &b]));
    a.health(Health::Passing);
    stage.records.say(&[&a, &b]);
    assert_eq!(stage.ask(json!({})).await["outcome"], "unchanged");
    stage.until_serving(&[&a, &b]).await;
    assert_eq!(stage.discovery().await["state"], "current");
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn an_answer_with_few_endpoints_is_believed_once_everybody_else_fails() {
    let [a, b, c, d, e] = backends(["a", "b", "c", "d", "e"]).await;
    let stage = Stage::of(&[&a, &b, &c, &d], &[]).await;
    let crowd = load(&stage);
    crowd.seen(50).await;
    // Whoever is new in it may come all the same.
    stage.records.say(&[&e]);
    stage.until("with e", |blue| ups(blue).len() == 5).await;
    stage.asked_more(20).await;
    let discovery = stage.discovery().await;
    assert_eq!(discovery["state"], "doubted", "{discovery:#}");
    assert_eq!(standing(&discovery, "doubted"), sorted(&[&a, &b, &c, &d]));
    // One that fails for a moment would be lost, were the answer believed.
    a.health(Health::Failing(503));
    stage.until("without a", |blue| ups(blue).len() == 4).await;
    stage.asked_more(20).await;
    a.health(Health::Passing);
    stage.until_serving(&[&a, &b, &c, &d, &e]).await;
    for gone in [&a, &b, &c, &d] {
        gone.health(Health::Failing(503));
    }
    stage.until("alone", |blue| addresses(blue) == sorted(&[&e]) && blue["discovery"]["state"] == "current").await;
    crowd.seen_more(20).await;
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_restart_without_the_name_server_begins_with_the_last_good_answer() {
    let [a, b] = backends(["a", "b"]).await;
    let mut stage = Stage::of(&[&a, &b], &[]).await;
    stage.records.server.behave(Manner::Silent);
    stage.proxy.kill9().await;
    stage.proxy.restart().await;
    stage.until_serving(&[&a, &b]).await;
    stage.until("known", |blue| standing(&blue["discovery"], "named") == sorted(&[&a, &b])).await;
    let discovery = stage.discovery().await;
    assert!(discovery["age_s"].is_number(), "{discovery:#}");
    assert!(Client::http1(&stage.proxy).await.get("/").await.backend().is_some());
    // It is as before once there is an answer: who is left out lingers, and nothing else happens.
    stage.behaves(Manner::Proper).await;
    stage.records.say(&[&a]);
    let heard = stage.ask(json!({})).await;
    assert_eq!((&heard["outcome"], &heard["stays"]), (&json!("unchanged"), &json!(sorted(&[&b]))), "{heard:#}");
}

#[tokio::test]
async fn what_can_be_no_endpoint_is_refused_with_the_reason() {
    let [a, green] = backends(["a", "green"]).await;
    let stage = Stage::of(&[&a], &[&green]).await;
    let own = stage.proxy.address();
    let addresses = ["169.254.169.254:80", "224.0.0.1:80", "[fe80::1]:80"].map(|address| address.parse().unwrap());
    let ok = super::stage::sorted(&[&a])[0].parse().unwrap();
    let all = [ok, own, super::stage::sorted(&[&green])[0].parse().unwrap()];
    stage.records.say_at(&[&all[..], &addresses[..]].concat());
    let heard = stage.ask(json!({})).await;
    assert_eq!((&heard["outcome"], heard["answer"].as_array().unwrap().len()), (&json!("unchanged"), 1), "{heard:#}");
    let refused = heard["refused"].as_array().unwrap();
    let why = |address: &str| {
        let found = refused.iter().find(|one| one["address"] == address);
        found.unwrap_or_else(|| panic!("{address} is not refused: {heard:#}"))["why"].as_str().unwrap()
    };
    assert!(why(&own.to_string()).contains("this proxy itself listens there"));
    assert!(why(&all[2].to_string()).contains("an endpoint of green"));
    assert!(why("169.254.169.254:80").contains("link-local"));
    assert!(why("224.0.0.1:80").contains("of many"));
    assert_eq!(refused.len(), 5);
    assert_eq!(stage.discovery().await["refused"].as_array().map(Vec::len), Some(5));
}
