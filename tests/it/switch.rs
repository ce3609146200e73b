//! The switch: nothing lost, nothing late, the drain exact, and no way onto a color that is not good.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Backend, Client, Crowd, Cutover, Health, PATIENCE, Raw, Service, WebSocket, eventually, within};

async fn shop(describe: impl FnOnce(Service) -> Service) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| describe(s.blue([&blue]).green([&green]).health("/healthz"));
    let proxy = Cutover::with().service("shop", service).start().await;
    (blue, green, proxy)
}

async fn switch(proxy: &Cutover, to: &str) -> (u16, Value) {
    proxy.api("POST", "/v1/services/shop/switch", json!({ "to": to })).await
}

/// The switch is asked for and not waited for.
async fn begin(proxy: &Cutover, to: &str) -> Value {
    let (status, answer) = proxy.api("POST", "/v1/services/shop/switch", json!({ "to": to, "wait": "live" })).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn rollback(proxy: &Cutover, ask: Value) -> (u16, Value) {
    proxy.api("POST", "/v1/services/shop/rollback", ask).await
}

async fn phase(proxy: &Cutover) -> String {
    proxy.service("shop").await["phase"].as_str().unwrap().to_owned()
}

/// Whether the color's endpoint has this value in its view.
async fn is(proxy: &Cutover, color: &str, field: &str, value: &str) -> bool {
    proxy.service("shop").await[color]["endpoints"][0][field] == value
}

#[tokio::test]
async fn a_switch_moves_every_new_request_and_returns_the_proof() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    let mut client = Client::http1(&proxy).await;
    assert_eq!(client.get("/").await.backend(), Some("blue"));
    let (status, answer) = switch(&proxy, "green").await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "{answer}");
    assert_eq!(client.get("/").await.backend(), Some("green"));
    assert_eq!((&answer["from"], &answer["to"], &answer["generation"]), (&json!("blue"), &json!("green"), &json!(1)));
    assert_eq!(answer["proof"]["requests_to_old_since"], 0);
    assert_eq!(answer["proof"]["workers_answered"], answer["proof"]["workers"]);
    assert!(answer["switch_us"].as_u64().is_some_and(|us| us > 0), "{answer}");
    assert!(answer["proof"]["last_request_to_old"].is_string(), "{answer}");
    let status = proxy.service("shop").await;
    assert_eq!(
        (&status["live"], &status["phase"], &status["cutover"]),
        (&json!("green"), &json!("idle"), &Value::Null)
    );
}

#[tokio::test]
async fn switching_to_the_live_color_changes_nothing_and_says_so() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    let (status, answer) = switch(&proxy, "blue").await;
    assert_eq!((status, &answer["outcome"], &answer["generation"]), (200, &json!("unchanged"), &json!(0)));
    assert_eq!(proxy.api("GET", "/v1/history", Value::Null).await.1, json!([]));
}

#[tokio::test]
async fn many_switches_under_load_lose_nothing_and_leave_nothing_behind() {
    let (blue, green, proxy) = shop(|s| s).await;
    let fast = Crowd::of(12).start(&proxy);
    let thinking = Crowd::of(24).think(Duration::from_millis(20)).start(&proxy);
    let streams = Crowd::of(4).http2().start(&proxy);
    let begun = proxy.metrics().await;
    fast.seen_more(200).await;
    let mut settled = None;
    for round in 0..20 {
        let (to, old) = if round % 2 == 0 { ("green", &blue) } else { ("blue", &green) };
        let (status, answer) = switch(&proxy, to).await;
        let at_return = old.requests();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["proof"]["requests_to_old_since"], 0, "{answer}");
        assert_eq!(answer["drained"], true, "{answer}");
        fast.seen_more(50).await;
        assert_eq!(old.requests(), at_return, "a request reached the old color after the switch had returned");
        if round == 4 {
            settled = Some((proxy.open_files(), proxy.memory_kib()));
        }
    }
    let (files, memory) = settled.unwrap();
    // Connections to both colors are kept warm, so the count moves a little with the load, but does not grow.
    assert!(proxy.open_files() <= files + 64, "{files} files have become {}", proxy.open_files());
    assert!(proxy.memory_kib() <= memory + 16 * 1024, "{memory} KiB have become {}", proxy.memory_kib());
    for crowd in [fast, thinking, streams] {
        crowd.stop().await.assert_nothing_lost();
    }
    let ended = proxy.metrics().await;
    let refused = |metrics: &crate::harness::Metrics| metrics.value("cutover_refusals_total", &[("service", "shop")]);
    assert_eq!(refused(&ended), refused(&begun));
}

#[tokio::test]
async fn a_request_under_way_finishes_where_it_began_and_the_drain_waits_for_it() {
    let (blue, _green, proxy) = shop(|s| s).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    let answer = begin(&proxy, "green").await;
    assert_eq!((&answer["phase"], &answer["outcome"]), (&json!("drain"), &Value::Null));
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("green"));
    let status = proxy.service("shop").await;
    assert_eq!((&status["phase"], &status["blue"]["in_flight"]), (&json!("drain"), &json!(1)));
    blue.release();
    assert_eq!(slow.await.unwrap().backend(), Some("blue"));
    assert!(eventually(PATIENCE, || async { phase(&proxy).await == "idle" }).await);
    let history = proxy.api("GET", "/v1/history", Value::Null).await.1;
    assert_eq!((&history[0]["outcome"], &history[0]["drained"]), (&json!("done"), &json!(true)));
}

#[tokio::test]
async fn requests_left_at_the_deadline_are_named_and_left_to_finish() {
    let (blue, _green, proxy) =
        shop(|s| s.extra("cutover", "drain = { requests = \"100ms\", tunnels = \"100ms\" }")).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    let (status, answer) = switch(&proxy, "green").await;
    assert_eq!((status, &answer["drained"], &answer["requests_left"]), (200, &json!(false), &json!(1)), "{answer}");
    blue.release();
    assert_eq!(slow.await.unwrap().backend(), Some("blue"));
}

#[tokio::test]
async fn slow_requests_outlive_twenty_switches_and_end_where_they_began() {
    let (blue, _green, proxy) = shop(|s| s.extra("cutover", "drain = { requests = \"0s\", tunnels = \"0s\" }")).await;
    // Whose patience begins when they ask for the answer: how long fifty switches take is the machine's affair.
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(Raw::saying(&proxy, "GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n").await);
    }
    blue.waiting(8).await;
    let quick = Crowd::of(16).think(Duration::from_millis(5)).start(&proxy);
    for round in 1..=20 {
        let (status, answer) = switch(&proxy, if round % 2 == 0 { "blue" } else { "green" }).await;
        assert_eq!((status, &answer["proof"]["requests_to_old_since"]), (200, &json!(0)), "{answer}");
        let left = answer["requests_left"].as_u64().unwrap();
        assert!(round % 2 == 0 || left >= 8, "{answer}");
        quick.seen_more(20).await;
    }
    blue.release();
    for mut client in slow {
        let answer = within("a slow request to end", client.answer()).await;
        assert!(answer.status == 200 && answer.head.contains("x-backend: blue\r\n"), "{answer:?}");
    }
    quick.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_tunnel_outlives_the_switch_and_ends_at_its_deadline() {
    let drain = "drain = { requests = \"10s\", tunnels = \"300ms\" }";
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", drain)).await;
    let mut socket = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    assert_eq!(socket.hear().await.as_deref(), Some("blue"));
    begin(&proxy, "green").await;
    socket.say("still here").await;
    assert_eq!(socket.hear().await.as_deref(), Some("still here"));
    assert_eq!(within("the tunnel to be closed", socket.hear()).await, None);
    assert!(eventually(PATIENCE, || async { phase(&proxy).await == "idle" }).await);
    let history = proxy.api("GET", "/v1/history", Value::Null).await.1;
    assert_eq!((&history[0]["tunnels_closed"], &history[0]["drained"]), (&json!(1), &json!(true)), "{history}");
}

#[tokio::test]
async fn a_color_that_is_not_healthy_is_refused_with_each_endpoints_answer_and_nothing_changes() {
    let (_blue, green, proxy) = shop(|s| s).await;
    green.health(Health::Failing(503));
    let (status, problem) = switch(&proxy, "green").await;
    assert_eq!((status, &problem["outcome"]), (409, &json!("aborted")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("answered 503, expected 200"), "{detail}");
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    assert_eq!(proxy.service("shop").await["generation"], 0);
}

#[tokio::test]
async fn a_color_on_its_way_up_is_waited_for() {
    let (_blue, green, proxy) = shop(|s| s.extra("health", "rise = 5\ninterval = \"20ms\"")).await;
    proxy.begin_to_rise(&green).await;
    let (status, answer) = switch(&proxy, "green").await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "{answer}");
}

#[tokio::test]
async fn of_two_operators_one_wins_and_the_other_is_told_who_holds_the_service() {
    let (blue, _green, proxy) = shop(|s| s).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    let winner = begin(&proxy, "green").await;
    for to in ["green", "blue"] {
        let (status, problem) = switch(&proxy, to).await;
        assert_eq!((status, &problem["type"]), (409, &json!("urn:cutover:problem:held")), "{problem}");
        assert_eq!((&problem["cutover"], &problem["since"]), (&winner["id"], &winner["started"]));
    }
    blue.release();
    slow.await.unwrap();
}

#[tokio::test]
async fn a_rollback_goes_back_to_a_healthy_color_and_not_to_a_dead_one() {
    let (blue, _green, proxy) = shop(|s| s).await;
    switch(&proxy, "green").await;
    blue.health(Health::Failing(500));
    let (status, problem) = rollback(&proxy, Value::Null).await;
    assert_eq!((status, &problem["outcome"]), (409, &json!("aborted")), "{problem}");
    assert_eq!(proxy.service("shop").await["live"], "green");
    blue.health(Health::Passing);
    assert!(eventually(PATIENCE, || is(&proxy, "blue", "state", "up")).await);
    let (status, answer) = rollback(&proxy, Value::Null).await;
    assert_eq!((status, &answer["outcome"], &answer["to"]), (200, &json!("rolled_back"), &json!("blue")), "{answer}");
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
}

#[tokio::test]
async fn a_rollback_while_the_old_color_drains_turns_the_cutover_back() {
    let (blue, green, proxy) = shop(|s| s).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    begin(&proxy, "green").await;
    blue.health(Health::Failing(500));
    let (status, problem) = rollback(&proxy, Value::Null).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("blue is not healthy now"), "{problem}");
    assert_eq!(phase(&proxy).await, "drain");

    blue.health(Health::Passing);
    assert!(eventually(PATIENCE, || is(&proxy, "blue", "state", "up")).await);
    let mut there = Client::http1(&proxy).await;
    let there = tokio::spawn(async move { there.get("/slow").await });
    green.waiting(1).await;
    let wait = json!({ "wait": "live" });
    let (status, answer) = rollback(&proxy, wait).await;
    assert_eq!((status, &answer["phase"]), (200, &json!("drain_back")), "{answer}");
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    green.release();
    blue.release();
    assert_eq!(there.await.unwrap().backend(), Some("green"));
    assert_eq!(slow.await.unwrap().backend(), Some("blue"));
    assert!(eventually(PATIENCE, || async { phase(&proxy).await == "idle" }).await);
    let history = proxy.api("GET", "/v1/history", Value::Null).await.1;
    assert_eq!((&history[0]["outcome"], history.as_array().unwrap().len()), (&json!("rolled_back"), 1));
    let status = proxy.service("shop").await;
    assert_eq!((&status["live"], &status["generation"]), (&json!("blue"), &json!(2)));
}

#[tokio::test]
async fn of_two_rollbacks_the_second_joins_the_first_and_later_ones_do_not_undo_it() {
    let (_blue, green, mut proxy) = shop(|s| s).await;
    switch(&proxy, "green").await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    green.waiting(1).await;
    let (_, first) = rollback(&proxy, json!({ "wait": "live" })).await;
    assert_eq!((&first["live"], &first["phase"]), (&json!("blue"), &json!("drain")), "{first}");
    for (ask, expected) in [
        (json!({ "wait": "live" }), 200),
        (json!({ "wait": "live", "from": "green" }), 200),
        (json!({ "timeout": "1ms" }), 202),
    ] {
        let (status, joined) = rollback(&proxy, ask).await;
        assert_eq!((status, &joined["id"], &joined["live"]), (expected, &first["id"], &json!("blue")), "{joined}");
    }
    let (status, problem) = rollback(&proxy, json!({ "from": "blue" })).await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("urn:cutover:problem:held")),
        "it is on its way to blue: {problem}"
    );
    green.release();
    slow.await.unwrap();
    assert!(eventually(PATIENCE, || async { phase(&proxy).await == "idle" }).await);

    for is_restarted in [false, true] {
        if is_restarted {
            proxy.kill9().await;
            proxy.restart().await;
        }
        let told = proxy.run(&["rollback"]).await.assert_code(4).stderr;
        for part in ["blue is live already: uid 0 went back to it with cutover ", "`cutover rollback shop --from blue`"]
        {
            assert!(told.contains(part), "`{part}` is missing: {told}");
        }
        let told = proxy.run(&["rollback", "--from", "green"]).await.assert_code(4).stderr;
        assert!(told.contains("clients have left green: blue is live since 2"), "{told}");
        for ask in [Value::Null, json!({ "from": "green" })] {
            let (status, problem) = rollback(&proxy, ask).await;
            assert_eq!((status, &problem["type"]), (409, &json!("urn:cutover:problem:back-already")), "{problem}");
        }
        assert_eq!(proxy.service("shop").await["live"], "blue");
    }
    proxy.run(&["rollback", "--from", "blue"]).await.assert_code(0);
    assert_eq!(proxy.service("shop").await["live"], "green", "whoever says so goes forward again");
}

#[tokio::test]
async fn two_operators_who_both_go_back_end_where_both_wanted_to() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    for _ in 0..5 {
        switch(&proxy, "green").await;
        let (one, other) = tokio::join!(proxy.run(&["rollback"]), proxy.run(&["rollback"]));
        assert!(matches!([one.code, other.code], [0, 0 | 4] | [4, 0]), "{one:#?} {other:#?}");
        assert_eq!(proxy.service("shop").await["live"], "blue");
    }
}

#[tokio::test]
async fn of_two_rollbacks_before_the_switch_the_second_does_not_go_where_nobody_wanted_to() {
    let (_blue, green, mut proxy) = shop(|s| s).await;
    proxy.never_rise(&green).await;
    proxy.api("POST", "/v1/services/shop/switch", json!({ "to": "green", "timeout": "1ms" })).await;
    let (status, problem) = rollback(&proxy, json!({ "from": "blue" })).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:cutover:problem:held")), "{problem}");
    let (status, problem) = rollback(&proxy, json!({ "from": "green" })).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:cutover:problem:back-already")), "{problem}");
    let (status, answer) = rollback(&proxy, Value::Null).await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("aborted")), "{answer}");
    let (status, problem) = rollback(&proxy, Value::Null).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:cutover:problem:back-already")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("to green was aborted at 2"), "{problem}");
}

#[tokio::test]
async fn a_rollback_from_a_color_that_a_switch_under_way_has_left_changes_nothing() {
    let (blue, _green, proxy) = shop(|s| s).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    begin(&proxy, "green").await;
    let (status, problem) = rollback(&proxy, json!({ "from": "blue" })).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:cutover:problem:back-already")), "{problem}");
    assert_eq!(phase(&proxy).await, "drain");
    blue.release();
    slow.await.unwrap();
}

#[tokio::test]
async fn a_rollback_whose_drain_ends_first_is_carried_out_all_the_same() {
    let (blue, _green, proxy) = shop(|s| s.extra("health", "interval = \"1h\"")).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    begin(&proxy, "green").await;
    blue.health(Health::Hanging);
    let checks = blue.checks();
    let drained = async {
        assert!(eventually(PATIENCE, || async { blue.checks() > checks }).await, "blue is asked how it is");
        blue.release();
        assert!(eventually(PATIENCE, || async { blue.requests() > 0 && phase(&proxy).await != "drain" }).await);
        blue.health(Health::Passing);
    };
    let back = rollback(&proxy, Value::Null);
    let ((status, answer), ()) = tokio::join!(back, drained);
    assert_eq!((status, &answer["outcome"], &answer["live"]), (200, &json!("rolled_back"), &json!("blue")), "{answer}");
    slow.await.unwrap();
}

#[tokio::test]
async fn an_abort_before_the_switch_changes_nothing_and_after_it_is_refused() {
    let (_blue, green, mut proxy) = shop(|s| s).await;
    proxy.never_rise(&green).await;
    let waiting = async { switch(&proxy, "green").await };
    let aborting = async {
        assert!(eventually(PATIENCE, || async { phase(&proxy).await == "prepare" }).await);
        proxy.api("POST", "/v1/services/shop/abort", Value::Null).await
    };
    let ((status, problem), (aborted, answer)) = tokio::join!(waiting, aborting);
    assert_eq!((status, &problem["outcome"]), (409, &json!("aborted")), "{problem}");
    assert_eq!((aborted, &answer["outcome"]), (200, &json!("aborted")), "{answer}");
    assert_eq!(proxy.service("shop").await["live"], "blue");
    assert_eq!(proxy.api("POST", "/v1/services/shop/abort", Value::Null).await.0, 409, "there is none to abort");
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let (_blue, green, proxy) = shop(|s| s).await;
    let ask = json!({ "to": "green", "dry_run": true });
    let (status, plan) = proxy.api("POST", "/v1/services/shop/switch", ask.clone()).await;
    assert_eq!((status, &plan["would_switch"]), (200, &json!(true)), "{plan}");
    green.health(Health::Failing(503));
    let (_, plan) = proxy.api("POST", "/v1/services/shop/switch", ask).await;
    assert_eq!(plan["would_switch"], false, "{plan}");
    assert!(plan["reasons"].to_string().contains("503"), "{plan}");
    assert_eq!(proxy.service("shop").await["live"], "blue");
    assert_eq!(proxy.api("GET", "/v1/history", Value::Null).await.1, json!([]));
}

#[tokio::test]
async fn services_switch_on_their_own() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| s.blue([&blue]).green([&green]);
    let proxy = Cutover::with()
        .service("shop", |s| service(s).hosts(&["shop.test"]))
        .service("api", |s| service(s).hosts(&["api.test"]))
        .start()
        .await;
    switch(&proxy, "green").await;
    let mut client = Client::http1(&proxy).await;
    assert_eq!(client.get("/").await.backend(), Some("green"));
    assert_eq!(Client::http1(&proxy).await.host("api.test").get("/").await.backend(), Some("blue"));
    assert_eq!(proxy.service("api").await["generation"], 0);
}

#[tokio::test]
async fn events_tell_every_phase_as_it_is_entered() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    let (_client, mut events) = proxy.watch("/v1/events").await;
    switch(&proxy, "green").await;
    let mut text = String::new();
    while !text.contains("\"phase\":\"done\"") {
        let piece = within("the next event", events.chunk()).await.expect("events go on");
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    let places: Vec<_> = ["event: status", "\"prepare\"", "\"switch\"", "\"drain\"", "\"done\""]
        .iter()
        .map(|part| text.find(&format!("{}{part}", if part.starts_with('e') { "" } else { "\"phase\":" })))
        .collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in\n{text}");
}
