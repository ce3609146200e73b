//! The pause: green is looked at for as long as an operator is waited for, and what it cut short is done once he has spoken.

use std::time::Duration;

use serde_json::{Value, json};

use super::{begin, ended, reasons, shop, until_phase};
use crate::harness::{Backend, Client, Crowd, Cutover, Health, PATIENCE, Running, WebSocket, eventually};

/// A bake that nobody comes to.
const SHORT: &str = "bake = { for = \"200ms\", extend = \"200ms\", min_requests = 50 }";
/// A canary that nobody meets.
const CANARY: &str = "canary = [{ weight = \"50%\", for = \"200ms\" }]";

fn crowd(proxy: &Cutover) -> Running {
    Crowd::of(8).think(Duration::from_millis(5)).start(proxy)
}

/// The figures of the trial go on: so many requests, and no verdict.
async fn until_looked_at(proxy: &Cutover, requests: u64) {
    let seen = || async {
        let trial = &proxy.service("shop").await["cutover"]["trial"];
        trial["verdict"] == "watching" && trial["requests"].as_u64() >= Some(requests)
    };
    assert!(eventually(PATIENCE, seen).await, "nobody looks: {:#}", proxy.service("shop").await);
}

/// It has gone back by itself, and says why, with the figures.
fn assert_back(history: &Value) {
    let ended = (&history["outcome"], &history["live"], &history["judged"]["verdict"]);
    assert_eq!(ended, (&json!("rolled_back"), &json!("blue"), &json!("bad")), "{history:#}");
    // How many may depends, beside another color, on how much is known of that by then.
    assert!(reasons(history).contains(" requests failed: ") && reasons(history).contains(" % may"), "{history:#}");
}

/// The phases the journal tells of, each once in a row.
fn phases(proxy: &Cutover) -> Vec<String> {
    let journal = std::fs::read_to_string(proxy.state_dir().join("journal.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut phases: Vec<_> = lines.filter_map(|line| Some(line["cutover"]["phase"].as_str()?.to_owned())).collect();
    phases.dedup();
    phases
}

#[tokio::test]
async fn a_green_that_fails_only_once_an_operator_is_waited_for_is_rolled_back_with_the_figures() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", SHORT)).await;
    begin(&proxy).await;
    until_phase(&proxy, "paused").await;
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("green"));
    until_looked_at(&proxy, 1).await;
    green.fail_each(1);
    let crowd = crowd(&proxy);
    let history = ended(&proxy).await;
    assert_back(&history);
    assert!(phases(&proxy).ends_with(&["paused", "bake", "roll_back", "drain_back", "rolled_back"].map(str::to_owned)));
    let shown = proxy.run(&["history", "show", history["id"].as_str().unwrap()]).await.assert_code(0);
    assert!(
        shown.stdout.contains("requests failed: ") && shown.stdout.contains("green when it was judged: "),
        "{shown:#?}"
    );
    let verdicts = |verdict| [("service", "shop"), ("color", "green"), ("verdict", verdict)];
    let metrics = proxy.metrics().await;
    let counted = ["undecided", "bad"].map(|verdict| metrics.value("cutover_verdicts_total", &verdicts(verdict)));
    assert_eq!(counted, [1.0, 1.0]);
    assert_eq!(crowd.stop().await.failures, 0);
}

#[tokio::test]
async fn after_a_crash_in_a_pause_green_is_looked_at_again() {
    let (_blue, green, mut proxy) = shop(|s| s.extra("cutover", SHORT)).await;
    begin(&proxy).await;
    until_phase(&proxy, "paused").await;
    proxy.kill9().await;
    proxy.restart().await;
    assert_eq!(proxy.service("shop").await["phase"], "paused");
    until_looked_at(&proxy, 0).await;
    green.fail_each(1);
    let crowd = crowd(&proxy);
    assert_back(&ended(&proxy).await);
    crowd.stop().await;
}

#[tokio::test]
async fn a_green_that_fails_while_its_share_waits_for_an_operator_is_taken_back_whole() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", CANARY)).await;
    begin(&proxy).await;
    until_phase(&proxy, "paused").await;
    let crowd = crowd(&proxy);
    until_looked_at(&proxy, 10).await;
    let service = proxy.service("shop").await;
    assert_eq!((&service["live"], &service["green"]["weight"]), (&json!("blue"), &json!(0.5)), "{service:#}");
    green.fail_each(1);
    let history = ended(&proxy).await;
    assert_back(&history);
    assert_eq!(history["generation"], 0, "{history:#}");
    let before = green.requests();
    crowd.seen_more(50).await;
    assert_eq!(green.requests(), before, "a request reached green after its share had been taken back");
    crowd.stop().await;
}

/// A shop that is stuck in the middle of its drain: green fails, blue is no better, and a request and a tunnel are on blue.
async fn stuck(rules: &str) -> (Backend, Backend, Cutover, WebSocket, tokio::task::JoinHandle<Option<String>>) {
    let (blue, green, proxy) = shop(|s| s.extra("cutover", rules)).await;
    let mut socket = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    assert_eq!(socket.hear().await.as_deref(), Some("blue"));
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await.backend().map(str::to_owned) });
    blue.waiting(1).await;
    begin(&proxy).await;
    until_phase(&proxy, "drain").await;
    blue.health(Health::Failing(503));
    green.fail_each(1);
    let crowd = crowd(&proxy);
    until_phase(&proxy, "paused").await;
    crowd.stop().await;
    (blue, green, proxy, socket, slow)
}

#[tokio::test]
async fn one_that_pauses_in_its_drain_and_is_kept_is_drained_and_proved_all_the_same() {
    let drain = "drain = { requests = \"10m\", tunnels = \"10m\" }";
    let (blue, _green, mut proxy, mut socket, slow) = stuck(&format!("bake = {{ for = \"20m\" }}\n{drain}")).await;
    // Blue is neither shown nor cut off meanwhile.
    proxy.run(&["preview", "blue"]).await.assert_code(4);
    let service = proxy.service("shop").await;
    assert_eq!((&service["blue"]["in_flight"], &service["blue"]["tunnels"]), (&json!(1), &json!(1)), "{service:#}");
    socket.say("still here").await;
    assert_eq!(socket.hear().await.as_deref(), Some("still here"));
    blue.release();
    assert_eq!(slow.await.unwrap().as_deref(), Some("blue"));

    let soon = "drain = { requests = \"10m\", tunnels = \"100ms\" }";
    proxy.reload_with(|settings| settings.service("shop", |s| s.extra("cutover", soon))).await;
    let told = proxy.run(&["approve"]).await.assert_code(0);
    assert!(told.stdout.contains("in its phase drain") && told.stdout.contains("says to keep green"), "{told:#?}");
    assert_eq!(socket.hear().await, None);
    let history = ended(&proxy).await;
    let found = ["outcome", "live", "drained", "tunnels_closed"].map(|key| &history[key]);
    assert_eq!(found, [&json!("done"), &json!("green"), &json!(true), &json!(1)], "{history:#}");
    let proof = &history["proof"];
    assert_eq!(proof["requests_to_old_since"], 0, "{history:#}");
    assert!(proof["last_request_to_old"].is_string() && proof["probed"].is_object(), "{history:#}");
    let said = reasons(&history);
    assert!(
        said.contains("uid 0 says to keep green, although: ") && said.contains("blue is not good either"),
        "{said}"
    );
    assert_eq!(phases(&proxy)[2..], ["drain", "paused", "drain", "done"].map(str::to_owned));
}

#[tokio::test]
async fn one_that_pauses_in_its_drain_is_proved_after_a_crash_as_well_and_not_called_drained() {
    let rules = "bake = { for = \"20m\" }\ndrain = { requests = \"10m\", tunnels = \"10m\" }";
    let (_blue, _green, mut proxy, mut socket, slow) = stuck(rules).await;
    proxy.kill9().await;
    assert_eq!(socket.hear().await, None);
    slow.abort();
    proxy.restart().await;
    until_phase(&proxy, "paused").await;
    proxy.run(&["approve"]).await.assert_code(0);
    let history = ended(&proxy).await;
    let told = ["outcome", "drained", "restarted"].map(|key| &history[key]);
    assert_eq!(told, [&json!("done"), &json!(false), &json!(true)], "{history:#}");
    let proof = &history["proof"];
    assert!(proof["requests_to_old_since"] == 0 && proof["probed"].is_object(), "{history:#}");
    assert!(proof["last_request_to_old"].is_string(), "{history:#}");
}

#[tokio::test]
async fn one_that_is_kept_in_its_drain_is_asked_about_no_more_and_can_still_be_rolled_back() {
    let rules = "bake = { for = \"20m\" }\ndrain = { requests = \"10m\", tunnels = \"10m\" }";
    let (blue, _green, proxy, socket, slow) = stuck(rules).await;
    proxy.run(&["approve"]).await.assert_code(0);
    let service = proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["live"]), (&json!("drain"), &json!("green")), "{service:#}");
    let nothing = proxy.run(&["approve"]).await.assert_code(1).stderr;
    for part in ["no operator's word now: it is in its phase drain (uid 0 says to keep", "`cutover rollback shop`"] {
        assert!(nothing.contains(part), "`{part}` is missing: {nothing}");
    }
    blue.health(Health::Passing);
    let is_up = || async { proxy.service("shop").await["blue"]["endpoints"][0]["up"] == true };
    assert!(eventually(PATIENCE, is_up).await, "{:#}", proxy.service("shop").await);
    proxy.run(&["rollback", "--reason", "second thoughts"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("rolled_back"), &json!("blue")), "{history:#}");
    assert!(reasons(&history).contains("rolled back by uid 0: second thoughts"), "{history:#}");
    blue.release();
    assert_eq!(slow.await.unwrap().as_deref(), Some("blue"));
    drop(socket);
}
