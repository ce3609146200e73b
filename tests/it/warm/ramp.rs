//! The ramp: the share of the new color rises to all of the clients, and no step is taken back but all of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::Shop;
use crate::harness::{Client, Crowd, PATIENCE, eventually};

/// One whose first step lasts as long as any story.
const LONG: &str = "ramp = \"20m\"";

async fn with(lines: &str) -> Shop {
    Shop::described(|service| service.extra("cutover", lines)).await
}

/// Green's share, once it has some.
async fn shared(shop: &Shop) -> f64 {
    let weight = || async { shop.service().await["green"]["weight"].as_f64().unwrap() };
    assert!(eventually(PATIENCE, || async { weight().await > 0.0 }).await, "{:#}", shop.service().await);
    weight().await
}

#[tokio::test]
async fn the_share_rises_in_even_steps_to_all_and_nothing_is_lost() {
    let shop = with("ramp = \"2s\"").await;
    let crowd = Crowd::of(8).start(&shop.proxy);
    crowd.seen(50).await;
    let done = shop.proxy.spawn(&["switch", "green", "--wait", "done"]);
    let mut shares = vec![0.0];
    while *shares.last().unwrap() < 1.0 {
        shares.push(shop.service().await["green"]["weight"].as_f64().unwrap());
    }
    assert!(shares.is_sorted(), "a share has been taken back: {shares:?}");
    done.ended().await.assert_code(0);
    crowd.seen_more(50).await;
    crowd.stop().await.assert_nothing_lost();
    let journal = std::fs::read_to_string(shop.proxy.state_dir().join("journal.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ramp = lines.filter(|line| line["cutover"]["phase"] == "ramp");
    let steps: Vec<u64> = ramp.map(|line| line["cutover"]["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (0..10).collect::<Vec<_>>(), "each is written down before it is given");
    assert_eq!(shop.newest().await["generation"], 1);
}

#[tokio::test]
async fn one_that_is_slow_is_taken_back_on_the_way_though_no_step_lasts_long_enough_to_say_so() {
    let shop = with("ramp = \"10s\"\nbake = { for = \"20m\", p50 = \"250ms\" }").await;
    shop.green.iter().for_each(|green| green.take(Duration::from_secs(1)));
    let crowd = Crowd::of(12).think(Duration::from_millis(5)).start(&shop.proxy);
    crowd.seen(100).await;
    shop.begin().await;
    shop.until_phase("idle").await;
    let newest = shop.newest().await;
    assert_eq!((&newest["outcome"], &newest["generation"]), (&json!("rolled_back"), &json!(0)), "{newest:#}");
    assert!(newest["reasons"].to_string().contains(" requests took longer than "), "{newest:#}");
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_crash_gives_the_same_share_again_and_an_abort_takes_it_back() {
    let mut shop = with(LONG).await;
    shop.begin().await;
    shop.until_phase("ramp").await;
    let before = shared(&shop).await;
    assert_eq!(before, 0.0909);
    let metrics = shop.proxy.metrics().await;
    assert_eq!(metrics.value("cutover_phase", &[("service", "shop"), ("phase", "ramp")]), 1.0);
    shop.proxy.kill9().await;
    shop.proxy.restart().await;
    assert_eq!(shared(&shop).await, before);
    shop.proxy.run(&["abort"]).await.assert_code(0);
    shop.until_phase("idle").await;
    let newest = shop.newest().await;
    assert_eq!((&newest["outcome"], &newest["live"]), (&json!("rolled_back"), &json!("blue")), "{newest:#}");
    for _ in 0..20 {
        assert_eq!(Client::http1(&shop.proxy).await.get("/").await.backend(), Some("blue"));
    }
}

#[tokio::test]
async fn where_there_is_a_bake_what_is_surely_bad_gets_no_more_and_where_there_is_none_nobody_judges() {
    let shop = with(&format!("{LONG}\nbake = {{ for = \"1m\", min_requests = 20 }}")).await;
    shop.green.iter().for_each(|green| green.fail_each(2));
    let crowd = Crowd::of(16).start(&shop.proxy);
    crowd.seen(100).await;
    shop.begin().await;
    let ended = || async { crowd.tally().requests > 0 && shop.newest().await["outcome"] == "rolled_back" };
    assert!(eventually(3 * PATIENCE, ended).await, "{:#}", shop.newest().await);
    crowd.stop().await;
    assert!(shop.newest().await["reasons"].to_string().contains("requests failed: "), "{:#}", shop.newest().await);

    let shop = with("ramp = \"500ms\"").await;
    shop.green.iter().for_each(|green| green.fail_each(1));
    shop.proxy.run(&["switch", "green"]).await.assert_code(0);
}

#[tokio::test]
async fn a_way_back_has_none_and_a_rehearsal_tells_of_it() {
    let shop = with("ramp = \"100ms\"").await;
    let plan = shop.proxy.run(&["switch", "green", "--dry-run"]).await.assert_code(0);
    assert!(plan.stdout.contains("ramp: let the share of green rise to all of the clients within 100 ms"), "{plan:#?}");
    shop.proxy.run(&["switch", "green"]).await.assert_code(0);
    shop.proxy.run(&["rollback"]).await.assert_code(0);
    let journal = std::fs::read_to_string(shop.proxy.state_dir().join("journal.jsonl")).unwrap();
    let back = journal.lines().filter(|line| line.contains("\"kind\":\"rollback\""));
    assert_eq!(back.filter(|line| line.contains("\"phase\":\"ramp\"")).count(), 0);
}
