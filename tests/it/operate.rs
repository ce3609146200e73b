//! Operating the proxy as a person or a script does: the commands, their exit codes, their JSON, and who may do what.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Backend, Client, Cutover, Health, PATIENCE, Process, Raw, Service, cutover, eventually, rush};

async fn shop(describe: impl FnOnce(Service) -> Service) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| describe(s.blue([&blue]).green([&green]).health("/healthz"));
    let proxy = Cutover::with().service("shop", service).start().await;
    (blue, green, proxy)
}

#[tokio::test]
async fn a_switch_by_command_says_what_happened_and_what_proves_it() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    Client::http1(&proxy).await.get("/").await;
    let ran = proxy.run(&["switch", "green", "--reason", "release 42"]).await.assert_code(0);
    for part in ["green is live, blue is drained", "on 2 of 2 workers", "last request to blue: ", "since then: 0"] {
        assert!(ran.stdout.contains(part), "`{part}` is missing: {ran:#?}");
    }
    let again = proxy.run(&["switch", "green"]).await.assert_code(0);
    assert!(again.stdout.contains("live already"), "{again:#?}");
    let history = proxy.run(&["history"]).await.assert_code(0);
    for part in ["blue → green", "done", "uid 0", "release 42"] {
        assert!(history.stdout.contains(part), "`{part}` is missing: {history:#?}");
    }
    let status = proxy.run(&["status"]).await.assert_code(0);
    assert!(status.stdout.contains("shop: green is live"), "{status:#?}");
}

#[tokio::test]
async fn json_keeps_its_shape() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    Client::http1(&proxy).await.get("/").await;
    let status = proxy.run(&["status", "--json"]).await.assert_code(0).json();
    let shop = &status["services"][0];
    assert!(status["version"].is_string(), "{status}");
    assert_eq!(
        (&shop["name"], &shop["live"], &shop["phase"], &shop["generation"], &shop["cutover"]),
        (&json!("shop"), &json!("blue"), &json!("idle"), &json!(0), &Value::Null)
    );
    for color in ["blue", "green"] {
        let color = &shop[color];
        assert!(color["weight"].is_number() && color["in_flight"] == 0 && color["tunnels"] == 0, "{color}");
        let endpoint = &color["endpoints"][0];
        assert!(endpoint["address"].is_string() && endpoint["last_check"].is_object(), "{endpoint}");
        assert_eq!((&endpoint["state"], &endpoint["up"]), (&json!("up"), &json!(true)));
    }
    for (command, outcome) in [(&["switch", "green", "--json"][..], "done"), (&["rollback", "--json"], "rolled_back")] {
        let answer = proxy.run(command).await.assert_code(0).json();
        assert_eq!((&answer["outcome"], &answer["service"]), (&json!(outcome), &json!("shop")), "{answer}");
        assert!(answer["id"].is_string() && answer["switch_us"].is_u64() && answer["drain_ms"].is_u64(), "{answer}");
        assert!(answer["from"].is_string() && answer["to"].is_string() && answer["generation"].is_u64(), "{answer}");
        let proof = &answer["proof"];
        assert!(proof.get("last_request_to_old").is_some() && proof["requests_to_old_since"] == 0, "{answer}");
    }
    let history = proxy.run(&["history", "--json"]).await.assert_code(0).json();
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history}");
    let plan = proxy.run(&["switch", "green", "--dry-run", "--json"]).await.assert_code(0).json();
    assert_eq!((&plan["would_switch"], &plan["to"]), (&json!(true), &json!("green")), "{plan}");
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_code() {
    let (blue, green, proxy) = shop(|s| s).await;
    green.health(Health::Failing(503));
    let failed = proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(failed.stderr.contains("answered 503") && failed.stderr.contains("nothing has changed"), "{failed:#?}");
    let failed = proxy.run(&["switch", "green", "--json"]).await.assert_code(1);
    assert_eq!(failed.json()["outcome"], "aborted", "{failed:#?}");
    proxy.run(&["abort"]).await.assert_code(1);
    proxy.run(&["switch", "red"]).await.assert_code(2);
    let unknown = proxy.run(&["status", "shopp"]).await;
    assert!(unknown.code == 2 && unknown.stderr.contains("shop"), "{unknown:#?}");

    green.health(Health::Passing);
    let up = || async { proxy.service("shop").await["green"]["endpoints"][0]["up"] == true };
    assert!(eventually(PATIENCE, up).await);
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    proxy.run(&["switch", "green", "--wait", "live"]).await.assert_code(0);
    let held = proxy.run(&["switch", "blue"]).await.assert_code(4);
    assert!(held.stderr.contains("uid 0") && held.stderr.contains("since"), "{held:#?}");
    let over = proxy.run(&["abort"]).await.assert_code(1);
    assert!(over.stderr.contains("rollback"), "{over:#?}");
    blue.release();
    slow.await.unwrap();

    let nobody = cutover(&["status", "--admin", "unix:/nonexistent/admin.sock"]).await.assert_code(3);
    assert!(nobody.stderr.contains("/nonexistent/admin.sock"), "{nobody:#?}");
    cutover(&["status", "--admin", "http://127.0.0.1:1"]).await.assert_code(3);
    cutover(&["status", "--admin", "nonsense"]).await.assert_code(2);
    cutover(&["status", "--config", "/nonexistent/cutover.toml"]).await.assert_code(2);
}

#[tokio::test]
async fn a_switch_that_outlasts_its_timeout_goes_on_by_itself() {
    let (blue, _green, proxy) = shop(|s| s).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    let ran = proxy.run(&["switch", "green", "--timeout", "50ms"]).await.assert_code(1);
    assert!(ran.stderr.contains("goes on"), "{ran:#?}");
    blue.release();
    slow.await.unwrap();
    let idle = || async { proxy.service("shop").await["phase"] == "idle" };
    assert!(eventually(PATIENCE, idle).await);
    assert_eq!(proxy.service("shop").await["live"], "green");
}

#[tokio::test]
async fn over_tcp_everyone_may_read_and_the_token_may_write() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    let path = "/v1/services/shop/switch";
    for token in [None, Some("wrong")] {
        let (status, problem) = proxy.api_tcp("POST", path, json!({ "to": "green" }), token).await;
        assert_eq!((status, &problem["status"]), (401, &json!(401)), "{problem}");
    }
    assert_eq!(proxy.api_tcp("GET", "/v1/status", Value::Null, None).await.0, 200);
    let (status, answer) = proxy.api_tcp("POST", path, json!({ "to": "green" }), Some(proxy.token())).await;
    assert_eq!((status, &answer["by"]), (200, &json!("token from 127.0.0.1")), "{answer}");
}

#[tokio::test]
async fn a_wrong_order_is_a_problem_that_says_what_would_be_right() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    let post = |path: &'static str, body: Value| proxy.api("POST", path, body);
    assert_eq!(proxy.api("GET", "/v1/history?limit=many", Value::Null).await.1["status"], 400);
    for (path, body, status, says) in [
        ("/v1/services/shop/switch", json!({}), 400, "green"),
        ("/v1/services/shop/switch", json!({ "to": "red" }), 400, "red"),
        ("/v1/services/shop/switch", json!({ "to": "green", "wiat": "live" }), 400, "wiat"),
        ("/v1/services/shop/switch", json!({ "to": "green", "wait": "never" }), 400, "drained"),
        ("/v1/services/shop/switch", json!({ "to": "green", "timeout": "soon" }), 400, "30s"),
        ("/v1/services/shop/switch", json!({ "to": "green", "reason": "x".repeat(2000) }), 400, "reason"),
        ("/v1/services/shop/rollback", json!({ "dry_run": true }), 400, "dry_run"),
        ("/v1/services/shop/abort", json!({ "to": "blue" }), 400, "to"),
        ("/v1/status", json!({}), 405, "method"),
        ("/v1/services/sho/switch", json!({ "to": "green" }), 404, "shop"),
        ("/v1/nothing", json!({}), 404, "/v1/status"),
    ] {
        let (got, problem) = post(path, body).await;
        assert_eq!((got, &problem["status"]), (status, &json!(status)), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{problem}");
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
    }
    assert_eq!(proxy.service("shop").await["live"], "blue");
}

#[tokio::test]
async fn readiness_follows_the_live_color_and_liveness_the_process() {
    let (blue, _green, proxy) = shop(|s| s).await;
    let ready = || async { proxy.watch("/readyz").await.1.status() };
    assert_eq!(ready().await, 200);
    blue.health(Health::Failing(500));
    assert!(eventually(PATIENCE, || async { ready().await == 503 }).await);
    assert_eq!(proxy.watch("/healthz").await.1.status(), 200);
    // Nobody can serve, and that is said at once.
    let answer = Client::http1(&proxy).await.get("/").await;
    assert_eq!((answer.status, answer.refusal()), (503, Some("no-endpoint")));
}

#[tokio::test]
async fn idle_connections_to_the_old_color_are_kept_warm_for_the_way_back() {
    let (blue, _green, proxy) = shop(|s| s).await;
    let mut client = Client::http1(&proxy).await;
    client.get("/").await;
    let accepted = blue.accepted();
    // An answer may be here before the connection behind it has been put back.
    let idle = || async { proxy.service("shop").await["blue"]["upstream"]["idle"] == 1 };
    assert!(eventually(PATIENCE, idle).await, "{}", proxy.service("shop").await);
    proxy.run(&["switch", "green"]).await.assert_code(0);
    client.get("/").await;
    assert_eq!(proxy.service("shop").await["blue"]["upstream"]["idle"], 1);
    proxy.run(&["rollback"]).await.assert_code(0);
    assert_eq!(client.get("/").await.backend(), Some("blue"));
    assert_eq!(blue.accepted(), accepted, "the way back needed no new connection");
}

#[tokio::test]
async fn asked_to_end_it_finishes_what_is_under_way_and_waits_for_nobody_else() {
    let (blue, _green, proxy) = shop(|s| s).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    // One that has said nothing, one that idles between requests.
    let silent = Raw::connect(&proxy).await;
    let mut idle = Client::http1(&proxy).await;
    idle.get("/").await;
    let released = async {
        let refused = || async { Client::try_http1(proxy.address()).await.is_err() };
        assert!(eventually(PATIENCE, refused).await, "it still takes connections");
        blue.release();
    };
    proxy.ask_to_end();
    released.await;
    assert_eq!(slow.await.unwrap().backend(), Some("blue"));
    assert_eq!(proxy.ended().await.code, 0);
    drop((silent, idle));
}

/// Whoever is connected as far as he knows is answered: he waits in the queue, or in the system, and has said something or not.
#[tokio::test]
async fn asked_to_end_in_a_rush_it_answers_whoever_was_let_in_by_the_system() {
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let blue = Backend::start("blue").await;
    let settings = Cutover::with().service("shop", |s| s.blue([&blue])).section("edge.timeouts", "notice = \"20s\"");
    let mut proxy = settings.start().await;
    proxy.pause().await;
    let mut waiting = Vec::new();
    for _ in 0..16 {
        waiting.push(Raw::saying(&proxy, REQUEST).await);
    }
    proxy.ask_to_end();
    proxy.resume();
    for mut raw in waiting {
        assert_eq!(raw.answer().await.status, 200);
    }
    assert_eq!(proxy.ended().await.code, 0);
    proxy.restart().await;
    rush(&proxy).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(Raw::connect(&proxy).await);
    }
    proxy.ask_to_end();
    // The first speaks at once, the last when all have been let in.
    let answers = silent.into_iter().zip(0..).map(|(mut raw, place)| async move {
        tokio::time::sleep(Duration::from_millis(200 * place)).await;
        raw.write(REQUEST).await;
        raw.answer().await.status
    });
    assert_eq!(futures_util::future::join_all(answers).await, [200; 8]);
    assert_eq!(proxy.ended().await.code, 0);
}

/// A green that never rises: a switch to it waits for as long as a story takes.
async fn never_to_rise() -> (Backend, Backend, Cutover) {
    let (blue, green, mut proxy) = shop(|s| s).await;
    proxy.never_rise(&green).await;
    (blue, green, proxy)
}

async fn until_phase(proxy: &Cutover, phase: &str) {
    let there = || async { proxy.service("shop").await["phase"] == phase };
    assert!(eventually(PATIENCE, there).await, "the service is not in its phase {phase}");
}

#[tokio::test]
async fn whoever_waits_is_told_when_somebody_else_ends_or_turns_his_cutover() {
    let (_blue, _green, proxy) = never_to_rise().await;
    for command in ["abort", "rollback"] {
        let waiting = proxy.spawn(&["switch", "green"]);
        until_phase(&proxy, "prepare").await;
        let held = proxy.run(&["switch", "green", "--json"]).await.assert_code(4).json();
        assert_eq!((&held["type"], &held["holder"]), (&json!("urn:cutover:problem:held"), &json!("uid 0")), "{held}");
        assert!(held["since"].is_string() && held["cutover"].is_string(), "{held}");
        let ended = proxy.run(&[command]).await.assert_code(0);
        assert!(ended.stdout.contains("is aborted; blue stays live"), "{ended:#?}");
        let told = waiting.ended().await.assert_code(1);
        assert!(told.stderr.contains("was aborted; nothing has changed, blue is live"), "{told:#?}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_the_waiting_and_not_the_cutover() {
    let (_blue, _green, proxy) = never_to_rise().await;
    let waiting = proxy.spawn(&["switch", "green"]);
    until_phase(&proxy, "prepare").await;
    waiting.signal(Signal::INT);
    let left = waiting.ended().await.assert_code(1);
    assert!(left.stderr.contains("goes on without us"), "{left:#?}");
    assert_eq!(proxy.service("shop").await["phase"], "prepare");
}

#[tokio::test]
async fn a_dry_run_by_command_ends_as_the_switch_would() {
    let (_blue, green, proxy) = never_to_rise().await;
    let waits = proxy.run(&["switch", "green", "--dry-run"]).await.assert_code(1);
    assert!(waits.stdout.contains("0 of 1 endpoints are healthy"), "{waits:#?}");
    let already = proxy.run(&["switch", "blue", "--dry-run"]).await.assert_code(0);
    assert!(already.stdout.contains("would do nothing"), "{already:#?}");
    let _waiting = proxy.spawn(&["switch", "green"]);
    until_phase(&proxy, "prepare").await;
    let held = proxy.run(&["switch", "green", "--dry-run"]).await.assert_code(4);
    assert!(held.stdout.contains("uid 0 has held the service since"), "{held:#?}");
    drop(green);
}

#[tokio::test]
async fn a_command_sends_its_token_over_tcp() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    let admin = format!("http://{}", proxy.admin_address());
    let refused = cutover(&["switch", "green", "--admin", &admin]).await.assert_code(1);
    assert!(refused.stderr.contains("--token-file"), "{refused:#?}");
    let file = proxy.config_file().with_file_name("token");
    let token = ["--token-file", file.to_str().unwrap()];
    let ran = cutover(&[&["switch", "green", "--admin", &admin], &token[..]].concat()).await.assert_code(0);
    assert!(ran.stdout.contains("green is live"), "{ran:#?}");
    let status = cutover(&["status", "shop", "--admin", &admin, "--json"]).await.assert_code(0).json();
    assert_eq!((&status["name"], &status["live"]), (&json!("shop"), &json!("green")));
    cutover(&["status", "--admin", &admin, "--token-file", "/nonexistent/token"]).await.assert_code(2);
}

#[tokio::test]
async fn of_several_services_one_must_be_named() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| s.blue([&blue]).green([&green]);
    let with = Cutover::with().service("shop", service).service("api", |s| service(s).hosts(&["api.test"]));
    let proxy = with.start().await;
    let unclear = proxy.run(&["switch", "green"]).await.assert_code(2);
    assert!(unclear.stderr.contains("shop") && unclear.stderr.contains("api"), "{unclear:#?}");
    proxy.run(&["switch", "green", "api"]).await.assert_code(0);
    let history = proxy.run(&["history", "shop", "--json"]).await.assert_code(0).json();
    assert_eq!(history, json!([]));
}

#[tokio::test]
async fn a_watch_off_the_terminal_prints_a_line_for_each_change_and_outlives_a_restart() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let (text, lines) = (proxy.spawn(&["status", "--watch"]), proxy.spawn(&["status", "shop", "--watch", "--json"]));
    let says = async |process: &Process, part: &str| {
        assert!(eventually(PATIENCE, || async { process.stdout().contains(part) }).await, "{}", process.stdout());
    };
    says(&text, "idle: blue is live").await;
    says(&lines, "\"live\":\"blue\"").await;
    proxy.run(&["switch", "green"]).await.assert_code(0);
    for phase in ["prepare: blue → green", "switch: green is being", "drain: green is live", "done: green is live"] {
        says(&text, phase).await;
    }
    says(&lines, "\"live\":\"green\",").await;
    proxy.restart().await;
    says(&text, "idle: green is live").await;
    for watch in [text, lines] {
        watch.signal(Signal::INT);
        let ended = watch.ended().await.assert_code(0);
        assert!(ended.stdout.lines().all(|line| line.starts_with(['2', '{'])), "{ended:#?}");
    }
}
