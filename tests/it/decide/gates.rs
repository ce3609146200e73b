//! Gates: health, capacity and stack, an operator, a webhook, a command; what each answer leads to, and what outlives a restart.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::Request;
use serde_json::{Value, json};

use super::{begin, ended, order, reasons, shop, until_phase};
use crate::harness::{Address, Backend, Client, Cutover, Health, PATIENCE, RawBackend, Service, body, eventually};

/// What status says of a gate of the cutover under way.
async fn gate(proxy: &Cutover, name: &str) -> Value {
    let service = proxy.service("shop").await;
    let gates = service["cutover"]["gates"].as_array().cloned().unwrap_or_default();
    gates.into_iter().find(|gate| gate["name"] == name).unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_switch_waits_for_an_operator_and_goes_on_when_he_says_so() {
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", "gate = [{ name = \"qa\", approve = true }]")).await;
    let waiting = proxy.spawn(&["switch", "green"]);
    until_phase(&proxy, "gates").await;
    let says =
        || async { gate(&proxy, "qa").await["says"].as_str().is_some_and(|says| says.contains("cutover approve")) };
    assert!(eventually(PATIENCE, says).await, "{}", gate(&proxy, "qa").await);
    assert_eq!(gate(&proxy, "health").await["state"], "passed");
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    let status = proxy.run(&["status"]).await.assert_code(0);
    assert!(status.stdout.contains("gate qa      waiting  waits until"), "{status:#?}");

    let wrong = proxy.run(&["approve", "--gate", "other"]).await.assert_code(1);
    assert!(wrong.stderr.contains("no operator's word at a gate of that name; it does at qa"), "{wrong:#?}");
    let approved = proxy.run(&["approve", "--gate", "qa"]).await.assert_code(0);
    assert!(approved.stdout.contains("approved"), "{approved:#?}");
    let done = waiting.ended().await.assert_code(0);
    assert!(done.stdout.contains("green is live, blue is drained"), "{done:#?}");
    let history = ended(&proxy).await;
    let qa = &history["gates"][1];
    assert_eq!((&qa["name"], &qa["state"], &qa["says"]), (&json!("qa"), &json!("passed"), &json!("approved by uid 0")));
    proxy.run(&["approve"]).await.assert_code(1);
}

#[tokio::test]
async fn an_operator_looks_at_green_before_he_approves_it_and_nobody_else_does() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", "gate = [{ name = \"qa\", approve = true }]")).await;
    begin(&proxy).await;
    until_phase(&proxy, "gates").await;
    let field = proxy.run(&["preview", "green", "--header"]).await.assert_code(0).stdout;
    let (name, value) = field.trim_end().split_once(": ").unwrap();
    let look = || Request::get("/").header(name, value).body(body::empty()).unwrap();
    let mut client = Client::http1(&proxy).await;
    assert_eq!(client.send(look()).await.backend(), Some("green"));
    assert_eq!(client.get("/").await.backend(), Some("blue"));
    assert_eq!(proxy.run(&["preview", "blue"]).await.code, 1, "blue is what everyone sees");
    assert_eq!(gate(&proxy, "qa").await["state"], "waiting");
    proxy.run(&["approve"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["proof"]["requests_to_old_since"]), (&json!("done"), &json!(0)));
    assert_eq!(client.send(look()).await.backend(), Some("green"), "a link leads to green still, as everything does");
    assert_eq!(green.requests(), 2);
}

#[tokio::test]
async fn an_approval_that_does_not_come_undoes_the_cutover_and_says_so() {
    let gate = "gate = [{ name = \"qa\", approve = true, expires = \"300ms\" }]";
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", gate)).await;
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!((status, &problem["outcome"]), (409, &json!("aborted")), "{problem}");
    assert!(reasons(&problem).contains("gate qa: no answer within 300 ms of the wish"), "{problem}");
    assert_eq!(proxy.service("shop").await["live"], "blue");
}

#[tokio::test]
async fn at_a_gate_an_abort_ends_it_and_a_second_switch_is_told_who_holds_the_service() {
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", "gate = [{ name = \"qa\", approve = true }]")).await;
    begin(&proxy).await;
    until_phase(&proxy, "gates").await;
    proxy.run(&["switch", "green"]).await.assert_code(4);
    proxy.run(&["abort"]).await.assert_code(0);
    assert_eq!(ended(&proxy).await["outcome"], "aborted");
}

/// Answers each POST with the next of these, the last for ever; and what it was asked.
fn hook(answers: &'static [&'static str]) -> (RawBackend, Arc<Mutex<Vec<String>>>) {
    let (heads, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let asked = heads.clone();
    let hook = RawBackend::start(move |head, socket| {
        let place = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        asked.lock().unwrap().push(head.to_owned());
        let answer = answers[place];
        let _ = write!(socket, "HTTP/1.1 {answer}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsaid");
        let _ = socket.shutdown(std::net::Shutdown::Write);
    });
    (hook, heads)
}

fn webhook(hook: &RawBackend, more: &str) -> String {
    format!("gate = [{{ name = \"tests\", webhook = \"http://{}/go\"{more} }}]", hook.address())
}

#[tokio::test]
async fn a_webhook_is_asked_until_it_answers_with_the_same_id_each_time() {
    let (hook, heads) = hook(&["503 Busy", "204 Go"]);
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &webhook(&hook, ""))).await;
    let (status, answer) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "{answer}");
    assert_eq!(answer["gates"][1]["says"], "answered 204");
    let heads = heads.lock().unwrap().clone();
    let id = format!("idempotency-key: {}/tests", answer["id"].as_str().unwrap());
    assert_eq!(heads.len(), 2);
    assert!(heads.iter().all(|head| head.starts_with("POST /go ") && head.contains(&id)), "{heads:#?}");
}

#[tokio::test]
async fn a_webhook_whose_answer_breaks_off_or_stalls_has_not_answered() {
    let broken = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes";
    let breaks = RawBackend::answering(broken);
    let stalls = RawBackend::start(|_, socket| {
        let _ = socket.write_all(broken.as_bytes());
    });
    for (hook, more, says) in [
        (&breaks, ", timeout = \"60s\"", "its answer 200 broke off: "),
        (&stalls, ", timeout = \"300ms\"", "no answer within 300 ms"),
    ] {
        let gate = webhook(hook, &format!("{more}, retries = 0"));
        let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &gate)).await;
        let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
        assert_eq!((status, &problem["outcome"]), (409, &json!("aborted")), "{problem}");
        assert!(reasons(&problem).contains(says), "{problem}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{}", "yes ".repeat(2500));
    let hook = RawBackend::answering(long);
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &webhook(&hook, ""))).await;
    let (status, answer) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "a long answer is one too: {answer}");
    assert!(answer["gates"][1]["says"].as_str().unwrap().starts_with("answered 200: "), "{answer}");
}

#[tokio::test]
async fn a_webhook_that_says_no_or_is_not_there_stops_the_cutover() {
    let (hook, heads) = hook(&["409 No"]);
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", &webhook(&hook, ""))).await;
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(reasons(&problem).contains("gate tests: answered 409: said"), "{problem}");
    assert_eq!(heads.lock().unwrap().len(), 1, "who says no is not asked again");

    let gone = "gate = [{ name = \"tests\", webhook = \"http://127.0.0.1:1/\", retries = 0 }]";
    proxy.reload_with(|s| s.service("shop", |s| s.extra("cutover", gone))).await;
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(reasons(&problem).contains("gate tests: http://127.0.0.1:1/: ") && reasons(&problem).contains("refused"));
    assert_eq!(proxy.service("shop").await["live"], "blue");
}

#[tokio::test]
async fn a_gate_that_pauses_waits_for_an_operator_who_may_overrule_it() {
    let (hook, _heads) = hook(&["403 No"]);
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &webhook(&hook, ", then = \"pause\""))).await;
    let told = proxy.run(&["switch", "green"]).await.assert_code(1);
    assert!(told.stderr.contains("waits for an operator; blue is live"), "{told:#?}");
    assert_eq!(proxy.service("shop").await["phase"], "paused");
    proxy.run(&["approve"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("done"), &json!("green")), "{history}");
    assert!(history["gates"].to_string().contains("waived by uid 0, although: answered 403"), "{history}");
}

/// Whether nobody writes to the file any more. On a very busy machine who did may have been ended before he had begun.
async fn is_still(marks: &Path) -> bool {
    let size = || std::fs::metadata(marks).map_or(0, |file| file.len());
    let before = size();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    size() == before
}

fn command(run: &str, more: &str) -> String {
    format!("gate = [{{ name = \"smoke\", run = {run}{more} }}]")
}

#[tokio::test]
async fn a_command_decides_by_how_it_ends_and_sees_what_it_is_about() {
    let script = r#"["sh", "-c", "echo $CUTOVER_SERVICE $CUTOVER_FROM $CUTOVER_TO $EXTRA \"$HIDDEN\"; exit $CODE"]"#;
    let with = |code: u8| command(script, &format!(", env = [\"EXTRA=more\", \"CODE={code}\"]"));
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| s.blue([&blue]).green([&green]).extra("cutover", &with(3));
    let mut proxy = Cutover::with().env("HIDDEN", "secret").service("shop", service).start().await;
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(reasons(&problem).contains("sh ended with 3: shop blue green more"), "{problem}");
    assert!(!problem.to_string().contains("secret"), "it sees no more than it is given: {problem}");
    proxy.reload_with(|s| s.service("shop", |s| s.extra("cutover", &with(0)))).await;
    let (status, answer) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "{answer}");
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_it_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("alive");
    let script = format!("(while :; do echo x >> {}; sleep 0.05; done) & wait", marks.display());
    let run = format!("[\"sh\", \"-c\", {script:?}]");
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &command(&run, ", timeout = \"1s\""))).await;
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(reasons(&problem).contains("sh took longer than 1 s and was ended"), "{problem}");
    assert!(eventually(PATIENCE, || is_still(&marks)).await, "what it started goes on");
}

#[tokio::test]
async fn a_command_that_has_ended_decides_and_leaves_nobody_behind() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("alive");
    // What it starts holds what the command prints to, and goes on.
    let script = format!("(while :; do echo x >> {}; sleep 0.05; done) & echo well; exit 0", marks.display());
    let run = format!("[\"sh\", \"-c\", {script:?}]");
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &command(&run, ", timeout = \"10m\""))).await;
    let (status, answer) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "{answer}");
    assert_eq!(answer["gates"][1]["says"], "sh ended with 0: well", "{answer}");
    assert!(eventually(PATIENCE, || is_still(&marks)).await, "what it started goes on");
    let alone = || async { proxy.children().is_empty() };
    assert!(eventually(PATIENCE, alone).await, "its guard is still there: {:?}", proxy.children());
}

/// Has left the command's group in each of the ways there are, and writes a mark for each until it is ended.
fn leavers(folder: &Path) -> String {
    let alive = |name| format!("while :; do echo x >> {}/{name}; sleep 0.05; done", folder.display());
    let (timeout, session, orphan) = (alive("timeout"), alive("session"), alive("orphan"));
    format!("timeout 600 sh -c '{timeout}' & setsid sh -c '{session}' & (setsid sh -c '{orphan}' &)")
}

/// Once all of them are at work.
async fn left(folder: &Path) -> Vec<std::path::PathBuf> {
    let marks = ["timeout", "session", "orphan"].map(|name| folder.join(name));
    let at_work = || async { marks.iter().all(|mark| std::fs::metadata(mark).is_ok_and(|file| file.len() > 2)) };
    assert!(eventually(PATIENCE, at_work).await, "not all of them are at work");
    marks.into()
}

async fn assert_all_still(marks: &[std::path::PathBuf]) {
    for mark in marks {
        assert!(eventually(PATIENCE, || is_still(mark)).await, "{} goes on", mark.display());
    }
}

#[tokio::test]
async fn what_leaves_the_commands_group_ends_with_a_proxy_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let run = format!("[\"sh\", \"-c\", {:?}]", leavers(folder.path()) + "; wait");
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", &command(&run, ", timeout = \"10m\""))).await;
    begin(&proxy).await;
    let marks = left(folder.path()).await;
    proxy.kill9().await;
    assert_all_still(&marks).await;
}

#[tokio::test]
async fn what_leaves_the_commands_group_ends_with_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let wait = format!("; until [ -e {}/go ]; do sleep 0.05; done; echo well", folder.path().display());
    let run = format!("[\"sh\", \"-c\", {:?}]", leavers(folder.path()) + &wait);
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &command(&run, ", timeout = \"10m\""))).await;
    begin(&proxy).await;
    let marks = left(folder.path()).await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let history = ended(&proxy).await;
    assert_eq!(history["gates"][1]["says"], "sh ended with 0: well", "{history}");
    assert_all_still(&marks).await;
}

#[tokio::test]
async fn a_command_that_is_not_there_or_is_ended_by_a_signal_is_no_yes() {
    for (run, says) in [
        (r#"["/nowhere/smoke"]"#, "/nowhere/smoke ended with 127: it cannot be run: No such file"),
        (r#"["sh", "-c", "kill -TERM $$"]"#, "sh was ended by a signal"),
    ] {
        let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &command(run, ""))).await;
        let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
        assert_eq!(status, 409, "{problem}");
        assert!(reasons(&problem).contains(says), "{problem}");
    }
}

#[tokio::test]
async fn a_command_ends_with_a_proxy_that_is_killed_and_is_asked_again_alone() {
    let folder = tempfile::tempdir().unwrap();
    // Each asking has a file of its own. It is deaf to what asks it to end, and tries to end all but itself.
    let script = format!(
        "trap '' TERM; kill -TERM 0; (while :; do echo x >> {}/$$; sleep 0.05; done) & wait",
        folder.path().display()
    );
    let run = format!("[\"sh\", \"-c\", {script:?}]");
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", &command(&run, ", timeout = \"10m\""))).await;
    begin(&proxy).await;
    let asked = || -> Vec<_> { std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path()).collect() };
    assert!(eventually(PATIENCE, || async { asked().len() == 1 }).await, "it is not asked");
    let first = asked().remove(0);
    assert!(eventually(PATIENCE, || async { !is_still(&first).await }).await, "it is not at work");
    proxy.kill9().await;
    assert!(eventually(PATIENCE, || is_still(&first)).await, "it goes on without the proxy");

    proxy.restart().await;
    assert!(eventually(PATIENCE, || async { asked().len() == 2 }).await, "it is not asked again");
    assert!(is_still(&first).await, "two are asked at one time");
    proxy.run(&["abort"]).await.assert_code(0);
    let both = || async { is_still(&asked()[0]).await && is_still(&asked()[1]).await };
    assert!(eventually(PATIENCE, both).await, "it outlives its cutover");
    assert_eq!(ended(&proxy).await["outcome"], "aborted");
}

#[tokio::test]
async fn decided_gates_stay_decided_over_a_crash_and_the_others_are_asked_again() {
    let (hook, heads) = hook(&["200 Yes"]);
    let gates = format!(
        "gate = [{{ name = \"tests\", webhook = \"http://{}/\" }}, {{ name = \"qa\", approve = true }}]",
        hook.address()
    );
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", &gates)).await;
    begin(&proxy).await;
    let passed = || async { gate(&proxy, "tests").await["state"] == "passed" };
    assert!(eventually(PATIENCE, passed).await);
    proxy.kill9().await;
    proxy.restart().await;
    until_phase(&proxy, "gates").await;
    assert_eq!(gate(&proxy, "tests").await["state"], "passed");
    assert_eq!(gate(&proxy, "qa").await["state"], "waiting");
    proxy.run(&["approve"]).await.assert_code(0);
    assert_eq!(ended(&proxy).await["outcome"], "done");
    assert_eq!(heads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_deadline_counts_from_the_wish_also_over_a_restart() {
    let rules = "deadline = \"2s\"\ngate = [{ name = \"qa\", approve = true, expires = \"1h\" }]";
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", rules)).await;
    begin(&proxy).await;
    // Or over already, on a machine that takes as long as that.
    let there = || async { ["gates", "idle"].contains(&proxy.service("shop").await["phase"].as_str().unwrap()) };
    assert!(eventually(PATIENCE, there).await);
    proxy.kill9().await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    proxy.restart().await;
    let history = ended(&proxy).await;
    assert_eq!(history["outcome"], "aborted", "{history}");
    assert!(reasons(&history).contains("the deadline passed before the switch"), "{history}");
}

#[tokio::test]
async fn health_is_proved_once_more_after_the_gates() {
    let (_blue, green, proxy) = shop(|s| s.extra("cutover", "gate = [{ name = \"qa\", approve = true }]")).await;
    begin(&proxy).await;
    until_phase(&proxy, "gates").await;
    green.health(Health::Failing(500));
    proxy.run(&["approve"]).await.assert_code(0);
    let history = ended(&proxy).await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("aborted"), &json!("blue")), "{history}");
    assert!(reasons(&history).contains("answered 500"), "{history}");
}

#[tokio::test]
async fn a_color_smaller_than_the_live_one_is_refused_where_capacity_is_asked_for() {
    let (blue, two, green) = (Backend::start("blue").await, Backend::start("two").await, Backend::start("green").await);
    let service = |s: Service| s.blue([&blue, &two]).green([&green]).extra("cutover", "min_capacity = \"100%\"");
    let mut proxy = Cutover::with().service("shop", service).start().await;
    let up =
        || async { proxy.service("shop").await["blue"]["endpoints"].to_string().matches("\"up\":true").count() == 2 };
    assert!(eventually(PATIENCE, up).await);
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(reasons(&problem).contains("1 endpoints of green are healthy, and 2 of blue: 2 are needed"), "{problem}");
    assert_eq!(problem["gates"][1]["state"], "refused", "{problem}");
    proxy.reload_with(|s| s.service("shop", |s| s.extra("cutover", "min_capacity = \"50%\""))).await;
    assert_eq!(order(&proxy, "switch", json!({ "to": "green" })).await.0, 200);
}

#[tokio::test]
async fn an_answer_from_the_old_stack_does_not_make_the_new_one_healthy() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    blue.stack("v41");
    green.stack("v41");
    let service = |s: Service| {
        let s = s.blue([&blue]).green([&green]).health("/healthz").extra("blue", "stack = \"v41\"");
        s.extra("green", "stack = \"v42\"").extra("health", "expect_stack = { header = \"X-Stack\" }")
    };
    let proxy = Cutover::with().service("shop", service).start().await;
    let (status, problem) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(reasons(&problem).contains("answered as stack `v41`, expected `v42`"), "{problem}");
    green.stack("v42");
    let up = || async { proxy.service("shop").await["green"]["endpoints"][0]["up"] == true };
    assert!(eventually(PATIENCE, up).await);
    let (status, answer) = order(&proxy, "switch", json!({ "to": "green" })).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_rehearsal_asks_every_gate_says_that_it_is_one_and_changes_nothing() {
    let script = r#"["sh", "-c", "echo rehearsal $CUTOVER_REHEARSAL; exit 3"]"#;
    let gates = format!("{}, {{ name = \"qa\", approve = true }}]", command(script, "").trim_end_matches(']'));
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", &gates)).await;
    let (status, plan) = order(&proxy, "switch", json!({ "to": "green", "dry_run": true })).await;
    assert_eq!((status, &plan["would_switch"]), (200, &json!(false)), "{plan}");
    assert!(reasons(&plan).contains("gate smoke: sh ended with 3: rehearsal 1"), "{plan}");
    assert_eq!(plan["gates"][2]["says"], "an operator would be asked", "{plan}");
    assert_eq!(proxy.service("shop").await["phase"], "idle");
    assert_eq!(proxy.api("GET", "/v1/history", Value::Null).await.1, json!([]));
}
