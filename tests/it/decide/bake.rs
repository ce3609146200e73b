//! The bake: green is judged by what it does with the traffic, against what blue did, and goes back by itself where it is bad.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{begin, ended, order, reasons, shop, until_live, until_phase};
use crate::harness::body::{self, Body};
use crate::harness::{Answer, Backend, Client, Crowd, Cutover, Health, PATIENCE, Running, Service, eventually};

/// Long enough that no verdict but a bad one comes by itself.
const LONG: &str = "bake = { for = \"20m\", min_requests = 200 }";

/// A shop whose blue has been busy for a while, so that there is something to compare with.
async fn busy(cutover: &str) -> (Backend, Backend, Cutover, Running) {
    let (blue, green, proxy) = shop(|s| s.extra("cutover", cutover)).await;
    blue.take(Duration::from_millis(100));
    let crowd = crowd(&proxy);
    crowd.seen(240).await;
    // Blue's last seconds are written down each second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    (blue, green, proxy, crowd)
}

fn crowd(proxy: &Cutover) -> Running {
    Crowd::of(12).think(Duration::from_millis(5)).start(proxy)
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(body::empty()).unwrap()
}

/// Resolves with the crowd that comes once green bakes. Nothing has come before, so that green is held against its limits
/// alone: how fast a machine is that does other things as well is no matter.
async fn crowd_for_green(proxy: &Cutover) -> Running {
    until_phase(proxy, "bake").await;
    crowd(proxy)
}

/// The switch's outcome, which has to be the way back, with the figures.
async fn went_back(proxy: &Cutover) -> Value {
    let (status, problem) = order(proxy, "switch", json!({ "to": "green", "wait": "done" })).await;
    assert_eq!(
        (status, &problem["outcome"], &problem["live"]),
        (409, &json!("rolled_back"), &json!("blue")),
        "{problem}"
    );
    assert_eq!(Client::http1(proxy).await.get("/").await.backend(), Some("blue"));
    problem
}

#[tokio::test]
async fn a_green_that_fails_5_percent_of_requests_is_rolled_back_with_the_figures() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", LONG)).await;
    green.fail_each(20);
    let (problem, crowd) = tokio::join!(went_back(&proxy), crowd_for_green(&proxy));
    assert!(
        reasons(&problem).contains("requests failed: ") && reasons(&problem).contains("at most 1 % may"),
        "{problem}"
    );
    assert_eq!(problem["judged"]["verdict"], "bad", "{problem}");
    let tally = crowd.stop().await;
    assert_eq!(tally.failures, 0, "{tally:#?}");
    assert!(tally.statuses.keys().all(|status| matches!(status, 200 | 500)), "only what green itself said: {tally:#?}");
}

#[tokio::test]
async fn a_green_that_serves_is_kept_though_a_broken_blue_failed_faster() {
    let (blue, green, proxy) = shop(|s| s.extra("cutover", "bake = { for = \"3s\", min_requests = 100 }")).await;
    blue.fail_each(1);
    green.take(Duration::from_millis(100));
    let crowd = crowd(&proxy);
    crowd.seen(240).await;
    // Blue's last seconds are written down each second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (status, outcome) = order(&proxy, "switch", json!({ "to": "green", "wait": "done" })).await;
    let ended = (status, &outcome["outcome"], &outcome["live"]);
    assert_eq!(ended, (200, &json!("done"), &json!("green")), "{outcome}");
    crowd.stop().await;
}

#[tokio::test]
async fn a_green_that_is_far_slower_is_rolled_back_with_the_figures() {
    let (_blue, green, proxy, crowd) = busy(LONG).await;
    green.take(Duration::from_secs(2));
    let problem = went_back(&proxy).await;
    assert!(reasons(&problem).contains("requests took longer than"), "{problem}");
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_green_that_hangs_is_rolled_back_though_nothing_has_ended() {
    let bake = "bake = { for = \"20m\", unanswered = \"1s\" }";
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", bake)).await;
    green.take(Duration::from_secs(3));
    let (problem, crowd) = tokio::join!(went_back(&proxy), crowd_for_green(&proxy));
    assert!(reasons(&problem).contains("requests failed: "), "{problem}");
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_green_of_which_a_part_hangs_is_rolled_back_while_its_clients_wait_and_the_others_are_served() {
    let bake = "bake = { for = \"20m\", unanswered = \"2s\" }\ndrain = { requests = \"1s\", tunnels = \"1s\" }";
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", bake)).await;
    let patient = async {
        until_phase(&proxy, "bake").await;
        let crowd = Crowd::of(10).think(Duration::from_millis(50)).start(&proxy);
        let mut waiting = JoinSet::new();
        loop {
            let mut client = Client::http1(&proxy).await;
            waiting.spawn(async move { client.get("/slow-on/green").await });
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
                () = until_live(&proxy, "blue") => return (crowd, waiting),
            }
        }
    };
    let (problem, (crowd, mut waiting)) = tokio::join!(went_back(&proxy), patient);
    let failed = &problem["judged"]["measures"][0];
    let (bad, of) = (failed["bad"].as_u64().unwrap(), failed["of"].as_u64().unwrap());
    assert!(reasons(&problem).contains(&format!("{bad} of {of} requests failed: ")), "{problem}");
    assert!(5 <= bad && 2 * bad < of, "most of the requests are served: {problem}");
    // Nobody has failed yet: they have waited all the time, and are answered after all.
    green.release();
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap().status, 200);
    }
    crowd.stop().await.assert_nothing_lost();
}

/// So many uploads that have begun so; each goes on until its feed is dropped.
async fn uploads(proxy: &Cutover, number: usize, beginning: &str) -> (Vec<body::Feed>, JoinSet<Answer>) {
    let (mut feeds, mut uploads) = (Vec::new(), JoinSet::new());
    for _ in 0..number {
        let (feed, body) = body::fed();
        let mut client = Client::http1(proxy).await;
        uploads.spawn(async move { client.send(Request::post("/slow").body(body).unwrap()).await });
        assert!(feed.send(beginning.to_owned()).await);
        feeds.push(feed);
    }
    (feeds, uploads)
}

#[tokio::test]
async fn an_upload_that_took_its_time_has_not_been_kept_waiting_by_green() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", "bake = { for = \"20m\", unanswered = \"8s\" }")).await;
    begin(&proxy).await;
    until_phase(&proxy, "bake").await;
    let (feeds, mut uploads) = uploads(&proxy, 6, "the beginning").await;
    // For longer than green may keep anybody waiting.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(green.requests(), 0);
    drop(feeds);
    green.waiting(6).await;
    // It has been looked at since.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let service = proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["live"]), (&json!("bake"), &json!("green")), "{service:#}");
    assert_eq!(service["cutover"]["trial"]["measures"][0]["bad"], 0, "{service:#}");
    green.release();
    while let Some(answer) = uploads.join_next().await {
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[tokio::test]
async fn an_upload_whose_client_takes_his_time_or_leaves_while_green_has_it_speaks_not_against_green() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", "bake = { for = \"20m\", unanswered = \"1s\" }")).await;
    begin(&proxy).await;
    until_phase(&proxy, "bake").await;
    // More than is waited for before a color has it.
    let (feeds, mut uploads) = uploads(&proxy, 12, &"the beginning ".repeat(10_000)).await;
    green.waiting(12).await;
    // For longer than green may keep anybody waiting.
    tokio::time::sleep(Duration::from_secs(3)).await;
    uploads.abort_all();
    assert!(eventually(PATIENCE, || async { proxy.service("shop").await["green"]["in_flight"] == 0 }).await);
    let is_looked_at = || async { proxy.service("shop").await["cutover"]["trial"]["requests"] == 12 };
    assert!(eventually(PATIENCE, is_looked_at).await, "{:#}", proxy.service("shop").await);
    let service = proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["live"]), (&json!("bake"), &json!("green")), "{service:#}");
    let bad: Vec<_> = service["cutover"]["trial"]["measures"].as_array().unwrap().iter().map(|it| &it["bad"]).collect();
    assert!(bad.iter().all(|bad| **bad == json!(0)), "{service:#}");
    drop(feeds);
}

#[tokio::test]
async fn a_green_that_turns_bad_late_is_rolled_back_though_all_in_all_it_keeps_to_the_limit() {
    let bake = "bake = { for = \"20m\", max_error_share = \"50%\" }";
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", bake)).await;
    begin(&proxy).await;
    until_phase(&proxy, "bake").await;
    let crowd = Crowd::of(12).think(Duration::from_millis(50)).start(&proxy);
    // At a busy machine's pace each thousand takes its time.
    for thousand in 1..=4 {
        crowd.seen(thousand * 1_000).await;
    }
    assert_eq!(proxy.service("shop").await["phase"], "bake");
    green.fail_each(1);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("rolled_back"), &json!("blue")), "{history}");
    assert!(reasons(&history).contains(" requests failed in the last 10 s: "), "{history}");
    let failed = &history["judged"]["measures"][0];
    assert!(failed["last_s"].is_null() && failed["of"].as_u64() >= Some(4_000), "{history}");
    crowd.stop().await;
}

#[tokio::test]
async fn one_stall_right_after_the_switch_sends_nobody_back() {
    let bake = "bake = { for = \"20m\", p50 = \"1s\" }";
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", bake)).await;
    begin(&proxy).await;
    until_phase(&proxy, "bake").await;
    green.take(Duration::from_secs(3));
    let crowd = Crowd::of(40).think(Duration::from_millis(50)).start(&proxy);
    assert!(eventually(PATIENCE, || async { green.requests() >= 40 }).await, "{} requests at green", green.requests());
    green.take(Duration::ZERO);
    crowd.seen(400).await;
    // A look at all of them.
    let slow = |service: &Value| {
        let measures = service["cutover"]["trial"]["measures"].as_array().cloned().unwrap_or_default();
        let of_p50 = measures.into_iter().find(|measure| measure["what"] == "took longer than 1 s");
        of_p50.map(|measure| (measure["bad"].as_u64().unwrap(), measure["of"].as_u64().unwrap()))
    };
    let seen = || async { slow(&proxy.service("shop").await).is_some_and(|(bad, of)| bad >= 40 && of >= 400) };
    assert!(eventually(PATIENCE, seen).await, "{:#}", proxy.service("shop").await);
    let service = proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["live"]), (&json!("bake"), &json!("green")), "{service:#}");
    assert_eq!(service["cutover"]["trial"]["verdict"], "watching", "{service:#}");
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_green_that_hangs_is_rolled_back_though_no_client_has_the_patience_to_see_it_fail() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", LONG)).await;
    let impatient = async {
        until_phase(&proxy, "bake").await;
        for n in 1..=5 {
            let mut client = Client::http1(&proxy).await;
            let asking = tokio::spawn(async move { client.get("/slow").await });
            assert!(eventually(PATIENCE, || async { green.requests() == n }).await, "{n} requests are not at green");
            asking.abort();
        }
    };
    let (problem, ()) = tokio::join!(went_back(&proxy), impatient);
    assert!(
        reasons(&problem).contains("5 of 5 requests were left by their clients without an answer: 100 %"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_green_whose_answers_break_off_is_rolled_back_whatever_they_begin_with() {
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", LONG)).await;
    let curious = async {
        until_phase(&proxy, "bake").await;
        for _ in 0..5 {
            let mut client = Client::http1(&proxy).await;
            assert!(client.try_send(get("/die-midway")).await.is_err());
        }
    };
    let (problem, ()) = tokio::join!(went_back(&proxy), curious);
    assert!(reasons(&problem).contains("5 of 5 requests failed: 100 %"), "{problem}");
}

#[tokio::test]
async fn an_answer_that_has_begun_is_one_however_long_it_takes() {
    let bake = "bake = { for = \"3s\", min_requests = 1, unanswered = \"1s\" }\ndrain = { requests = \"1s\", tunnels = \"1s\" }";
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", bake)).await;
    begin(&proxy).await;
    until_phase(&proxy, "bake").await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        // One after the other, so that there is one at most that a busy machine may keep waiting.
        let mut client = Client::http1(&proxy).await;
        streams.push((client.open(get("/events")).await, client));
    }
    Client::http1(&proxy).await.get("/").await;
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["judged"]["verdict"]), (&json!("done"), &json!("good")), "{history}");
    green.release();
}

#[tokio::test]
async fn a_green_that_is_as_good_is_kept_and_the_command_can_wait_for_that() {
    let bake = "bake = { for = \"500ms\", min_requests = 200, extend = \"1h\" }";
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", bake)).await;
    let done = proxy.spawn(&["switch", "green", "--wait", "done", "--json"]);
    // It bakes as long as nobody comes.
    until_phase(&proxy, "bake").await;
    let service = proxy.service("shop").await;
    assert_eq!(service["cutover"]["way_back"]["is_safe"], true, "{service}");
    assert_eq!(service["cutover"]["trial"]["verdict"], "watching", "{service}");
    proxy.run(&["switch", "blue"]).await.assert_code(4);
    let crowd = crowd(&proxy);
    let answer = done.ended().await.assert_code(0).json();
    assert_eq!((&answer["outcome"], &answer["judged"]["verdict"]), (&json!("done"), &json!("good")), "{answer}");
    assert!(answer["judged"]["requests"].as_u64() >= Some(200), "{answer}");
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn one_without_traffic_is_never_passed_but_waits_for_an_operator() {
    let bake = "bake = { for = \"200ms\", extend = \"200ms\", min_requests = 50 }";
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", bake)).await;
    let told = proxy.run(&["switch", "green", "--wait", "done"]).await.assert_code(1);
    assert!(told.stderr.contains("0 requests so far, and 50 are needed"), "{told:#?}");
    let service = proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["live"]), (&json!("paused"), &json!("green")), "{service}");
    proxy.run(&["rollback"]).await.assert_code(0);
    assert_eq!(ended(&proxy).await["live"], "blue");

    begin(&proxy).await;
    until_phase(&proxy, "paused").await;
    proxy.run(&["approve"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("done"), &json!("green")), "{history}");
    assert!(reasons(&history).contains("uid 0 says to keep green, although: 0 requests"), "{history}");
}

#[tokio::test]
async fn a_bad_green_does_not_go_back_onto_a_dead_blue_until_that_is_good_again() {
    let (blue, green, proxy) = shop(|s| s.extra("cutover", LONG)).await;
    green.fail_each(4);
    blue.health(Health::Failing(503));
    let waiting = proxy.spawn(&["switch", "green", "--wait", "done"]);
    let crowd = crowd_for_green(&proxy).await;
    let told = waiting.ended().await.assert_code(1);
    assert!(told.stderr.contains("blue is not good either: ") && told.stderr.contains("answered 503"), "{told:#?}");
    let service = proxy.service("shop").await;
    assert_eq!((&service["phase"], &service["live"]), (&json!("paused"), &json!("green")), "{service}");
    assert_eq!(service["cutover"]["way_back"]["is_safe"], false, "{service}");
    let denied = proxy.run(&["rollback"]).await.assert_code(1);
    assert!(denied.stderr.contains("blue is not healthy now"), "{denied:#?}");
    assert_eq!(Client::http1(&proxy).await.get("/x").await.backend(), Some("green"));
    blue.health(Health::Passing);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("rolled_back"), &json!("blue")), "{history}");
    crowd.stop().await;
}

#[tokio::test]
async fn a_rollback_during_the_bake_goes_back_at_once_and_the_history_says_who_wanted_it_and_why() {
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", LONG)).await;
    proxy.run(&["switch", "green"]).await.assert_code(0);
    assert_eq!(proxy.service("shop").await["phase"], "bake");
    proxy.run(&["rollback", "--reason", "errors at checkout"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("rolled_back"), &json!("blue")), "{history}");
    assert_eq!(history["reasons"], json!(["rolled back by uid 0: errors at checkout"]), "{history}");
    assert_eq!(proxy.service("shop").await["generation"], 2);
}

#[tokio::test]
async fn the_old_color_can_be_looked_at_once_it_has_drained_and_going_back_ends_that() {
    let (blue, _green, proxy) = shop(|s| s.extra("cutover", LONG)).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    begin(&proxy).await;
    until_phase(&proxy, "drain").await;
    proxy.run(&["preview", "blue"]).await.assert_code(4);
    blue.release();
    slow.await.unwrap();
    until_phase(&proxy, "bake").await;
    proxy.run(&["preview", "blue"]).await.assert_code(0);
    assert_eq!(proxy.service("shop").await["preview"]["to"], "blue");
    proxy.run(&["rollback"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["drained"]), (&json!("rolled_back"), &json!(true)), "{history}");
    assert_eq!(proxy.service("shop").await["preview"], Value::Null);
}

#[tokio::test]
async fn what_is_not_found_good_by_the_deadline_goes_back() {
    let rules = "deadline = \"5s\"\nbake = { for = \"500ms\", extend = \"1h\", min_requests = 1000 }";
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", rules)).await;
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green", "wait": "done" })).await;
    assert_eq!((status, &problem["live"]), (409, &json!("blue")), "{problem}");
    assert!(reasons(&problem).contains("the deadline passed before it could be said"), "{problem}");
}

#[tokio::test]
async fn the_record_of_a_cutover_holds_who_why_and_the_seconds_around_the_switch() {
    let (blue, _green, proxy, crowd) = busy("drain = { requests = \"10m\", tunnels = \"10s\" }").await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    begin(&proxy).await;
    until_phase(&proxy, "drain").await;
    // Seconds in which both have had requests.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(proxy.service("shop").await["phase"], "drain");
    blue.release();
    slow.await.unwrap();
    let id = ended(&proxy).await["id"].as_str().unwrap().to_owned();
    let (status, record) = proxy.api("GET", &format!("/v1/history/{id}"), Value::Null).await;
    assert_eq!((status, &record["outcome"], &record["by"]), (200, &json!("done"), &json!("uid 0")), "{record}");
    let seconds = record["flight"]["seconds"].as_array().unwrap();
    let requests = |color: &str| seconds.iter().map(|second| second[color]["requests"].as_u64().unwrap()).sum::<u64>();
    assert!(requests("blue") > 0 && requests("green") > 0, "{record:#}");
    let first = &record["flight"]["requests"]["green"]["first"];
    assert!(first.is_string() && record["flight"]["requests"]["blue"]["last"].is_string(), "{record:#}");
    let shown = proxy.run(&["history", "show", &id]).await.assert_code(0);
    for part in ["blue → green", "uid 0", "first request to green", "second"] {
        assert!(shown.stdout.contains(part), "`{part}` is missing: {}", shown.stdout);
    }
    assert_eq!(proxy.run(&["history", "show", &id, "--json"]).await.assert_code(0).json()["id"], record["id"]);
    proxy.run(&["history", "show", "nonsense"]).await.assert_code(2);
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn killed_at_any_line_of_the_whole_course_it_comes_back_with_someone_serving() {
    let rules = "gate = [{ name = \"smoke\", run = [\"true\"] }, { name = \"hook\", run = [\"true\"] }]\n\
        bake = { for = \"100ms\", extend = \"100ms\", min_requests = 1 }";
    let (_blue, _green, mut proxy) = shop(|s: Service| s.extra("cutover", rules)).await;
    begin(&proxy).await;
    until_phase(&proxy, "paused").await;
    order(&proxy, "rollback", Value::Null).await;
    proxy.kill9().await;
    let journal = proxy.state_dir().join("journal.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    // What the line says, and whether it leads back.
    let line = |end: usize| {
        let line = whole[..end - 1].rsplit(|b| *b == b'\n').next().unwrap();
        let line: Value = serde_json::from_slice(line).unwrap();
        let (phase, returning) = (line["cutover"]["phase"].as_str().unwrap(), &line["cutover"]["returning"]);
        (phase.to_owned(), phase.contains("back") || *returning == true)
    };
    let phases: Vec<_> = ends.iter().map(|end| line(*end).0).collect();
    // Whether it is found wanting before the old color is empty, and is never in its bake, is the machine's affair.
    for wanted in ["prepare", "gates", "confirm", "switch", "drain", "paused", "roll_back", "drain_back", "rolled_back"]
    {
        assert!(phases.iter().any(|phase| phase == wanted), "{wanted} is not in {phases:?}");
    }
    for end in ends {
        let (phase, leads_back) = line(end);
        std::fs::write(&journal, &whole[..end]).unwrap();
        proxy.restart().await;
        let (rests, expected) = if leads_back { ("idle", "blue") } else { ("paused", "green") };
        until_phase(&proxy, rests).await;
        assert_eq!(proxy.service("shop").await["live"], expected, "behind {phase}");
        assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some(expected), "behind {phase}");
        proxy.kill9().await;
    }
}
