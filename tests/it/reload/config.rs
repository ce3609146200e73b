//! The file as a whole: equal, wrong, or for the next start; and who may have it read.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::{reloads, says, shop};
use crate::harness::{Client, Crowd, Cutover, PATIENCE, Process, WebSocket, cutover, eventually};

/// Everything that a reload could touch and a story can see.
async fn untouched(proxy: &Cutover) -> Value {
    let mut status = proxy.status().await;
    let states: Vec<_> =
        ["blue", "green"].map(|color| status["services"][0][color]["endpoints"][0]["state"].take()).into();
    json!({
        "table": status["table_version"],
        "connections": status["listeners"][0]["connections"],
        "states": states,
        "since": status["services"][0]["since"],
        "generation": status["services"][0]["generation"],
    })
}

#[tokio::test]
async fn a_hundred_equal_reloads_under_load_touch_nothing() {
    // However long it takes: nobody's connection is closed for being idle.
    let (blue, _green, proxy) = shop(|s| s.extra("timeouts", "idle = \"1h\"\nupstream_idle = \"1h\"")).await;
    let mut socket = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    socket.hear().await;
    let mut idle = Client::http1(&proxy).await;
    idle.get("/").await;
    let think = Duration::from_millis(20);
    let crowds = [Crowd::of(8).think(think).start(&proxy), Crowd::of(4).think(think).http2().start(&proxy)];
    for crowd in &crowds {
        crowd.seen(40).await;
    }
    let (before, loaded) = (untouched(&proxy).await, proxy.status().await["config"]["loaded"].clone());
    assert_eq!(before["connections"], 14, "one for each client, whoever has a tunnel among them");
    for _ in 0..90 {
        let (status, answer) = proxy.api("POST", "/v1/reload", Value::Null).await;
        assert_eq!((status, &answer["outcome"]), (200, &json!("unchanged")), "{answer}");
    }
    for round in 1..=10 {
        proxy.hang_up();
        let heard = || async { reloads(&proxy, "unchanged").await == f64::from(90 + round) };
        assert!(eventually(PATIENCE, heard).await, "SIGHUP {round} is not heard");
    }
    for crowd in &crowds {
        crowd.seen_more(40).await;
    }
    assert_eq!(untouched(&proxy).await, before);
    assert_ne!(proxy.status().await["config"]["loaded"], loaded);
    for (crowd, clients) in crowds.into_iter().zip([8, 4]) {
        let tally = crowd.stop().await;
        tally.assert_nothing_lost();
        assert_eq!(tally.connections, clients, "{tally:#?}");
    }
    assert_eq!(blue.accepted(), blue.connections(), "no connection to the backend has been closed");
    socket.say("still there").await;
    assert_eq!(socket.hear().await.as_deref(), Some("still there"));
    assert_eq!(idle.get("/").await.status, 200);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_why_with_places() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let before = untouched(&proxy).await;
    let good = fs::read_to_string(proxy.config_file()).unwrap();
    let bad = good.replace(
        "[service.shop.health]",
        "[service.shop.healt]\n[service.shop.limits]\nrequest_body = 7\n[service.shop.health]",
    );
    fs::write(proxy.config_file(), &bad).unwrap();
    let line = 1 + bad.lines().position(|line| line == "request_body = 7").unwrap();
    let place = format!("cutover.toml:{line}:16");

    // The socket is found in the broken file as well.
    let config = proxy.config_file();
    let ran = cutover(&["reload", "--config", config.to_str().unwrap()]).await.assert_code(2);
    for part in [&*place, "nothing has changed", "request_body = 7", "did you mean `health`?", "2 mistakes"] {
        assert!(ran.stderr.contains(part), "`{part}` is missing: {ran:#?}");
    }
    let problem = proxy.run(&["reload", "--json"]).await.assert_code(2).json();
    assert_eq!(
        (&problem["type"], &problem["status"]),
        (&json!("urn:cutover:problem:config"), &json!(422)),
        "{problem}"
    );
    assert_eq!(problem["report"]["mistakes"][1]["line"], line, "{problem}");
    assert!(proxy.stderr().contains(&place), "the log names the place");

    assert_eq!(untouched(&proxy).await, before);
    let refused = &proxy.status().await["config"]["refused"];
    assert!(
        refused["by"] == "uid 0" && refused["why"].as_str().is_some_and(|why| why.ends_with(", and 1 more")),
        "{refused}"
    );
    assert_eq!(reloads(&proxy, "refused").await, 2.0);
    let status = proxy.run(&["status"]).await.assert_code(0);
    assert!(status.stdout.contains("the config runs as it was: the reload by uid 0"), "{status:#?}");

    fs::remove_file(proxy.config_file()).unwrap();
    let gone = proxy.run(&["reload"]).await.assert_code(2);
    assert!(gone.stderr.contains("No such file"), "{gone:#?}");
    proxy.rewrite(|settings| settings);
    proxy.run(&["reload"]).await.assert_code(0);
    assert_eq!(proxy.status().await["config"]["refused"], Value::Null, "the next good one makes up for it");
}

#[tokio::test]
async fn what_only_a_start_reads_is_told_and_the_rest_applied() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    proxy.rewrite(|mut settings| {
        settings.admin.set_port(1);
        settings.service("shop", |s| s.extra("limits", "request_body = \"1KiB\""))
    });
    let ran = proxy.run(&["reload"]).await.assert_code(0);
    for part in
        ["1 change", "service.shop.limits.request_body: nothing → 1KiB", "only a restart changes", "admin.listen: "]
    {
        assert!(ran.stdout.contains(part), "`{part}` is missing: {ran:#?}");
    }
    let again = proxy.run(&["reload"]).await.assert_code(0);
    assert!(again.stdout.contains("differs only in what is read at a start: nothing was touched"), "{again:#?}");
    let again = proxy.run(&["reload", "--json"]).await.assert_code(0).json();
    assert_eq!((&again["outcome"], &again["needs_restart"][0]["key"]), (&json!("unchanged"), &json!("admin.listen")));
    assert_eq!(proxy.api_tcp("GET", "/v1/status", Value::Null, None).await.0, 200, "it listens where it did");
}

#[tokio::test]
async fn a_rehearsal_says_what_would_change_and_changes_nothing() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let before = untouched(&proxy).await;
    proxy.rewrite(|settings| settings.service("shop", |s| s.extra("timeouts", "body = \"90s\"")));
    let ran = proxy.run(&["reload", "--dry-run"]).await.assert_code(0);
    assert!(
        ran.stdout.contains("would be taken over with 1 change\n  service.shop.timeouts.body: 1m → 1m30s"),
        "{ran:#?}"
    );
    assert_eq!(untouched(&proxy).await, before);
    let (_, answer) = proxy.reload().await;
    assert_eq!((&answer["outcome"], says(&answer).len()), (&json!("applied"), 1));
    assert_eq!((&answer["by"], &answer["workers_answered"]), (&json!("uid 0"), &json!(2)));
    assert_eq!(reloads(&proxy, "applied").await, 1.0);
}

#[tokio::test]
async fn over_tcp_a_reload_takes_the_token_and_the_token_can_be_another() {
    let (_blue, _green, proxy) = shop(|s| s).await;
    let reload = |token| proxy.api_tcp("POST", "/v1/reload", Value::Null, token);
    assert_eq!(reload(None).await.0, 401);
    assert_eq!(proxy.api("POST", "/v1/reload", json!({ "dry-run": true })).await.0, 400);
    assert_eq!(reload(Some(proxy.token())).await.0, 200);
    let file = proxy.config_file().with_file_name("token");
    fs::write(&file, "short").unwrap();
    let (status, problem) = reload(Some(proxy.token())).await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("at least 16"), "{problem}");
    fs::write(&file, "another-token-for-stories").unwrap();
    let (_, answer) = reload(Some(proxy.token())).await;
    assert_eq!(says(&answer), ["admin.token_file: the file holds another now"]);
    assert_eq!(reload(Some(proxy.token())).await.0, 401);
    assert_eq!(reload(Some("another-token-for-stories")).await.0, 200);
}

#[tokio::test]
async fn a_file_that_is_named_by_a_relative_path_is_equal_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cutover.toml");
    fs::create_dir(dir.path().join("state")).unwrap();
    let text = "[admin]\nsocket = \"socket\"\n[state]\ndir = \"state\"\n[access_log]\nfile = \"log\"\n\
        [[listener]]\naddress = \"127.0.0.1:0\"\n[service.shop]\nblue.endpoints = [\"127.0.0.1:1\"]\n";
    fs::write(&file, text).unwrap();
    // Up to the root, and down again.
    let up = "../".repeat(std::env::current_dir().unwrap().components().count() - 1);
    let relative = format!("{up}{}", file.strip_prefix("/").unwrap().display());
    let _proxy = Process::start(&["serve", "--config", &relative]);
    let admin = format!("unix:{}", dir.path().join("socket").display());
    let reload = ["reload", "--json", "--admin", &admin];
    let first = Mutex::new(None);
    let is_read = || async {
        let ran = cutover(&reload).await;
        *first.lock().unwrap() = (ran.code == 0).then(|| ran.json());
        ran.code == 0
    };
    assert!(eventually(PATIENCE, is_read).await, "it does not answer");
    let first = first.into_inner().unwrap().unwrap();
    assert_eq!((&first["outcome"], &first["needs_restart"]), (&json!("unchanged"), &json!([])), "{first:#}");
    assert!(first["file"].as_str().unwrap().starts_with('/'), "anybody finds it: {first:#}");
}
