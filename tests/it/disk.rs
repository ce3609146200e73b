//! What may happen to the journal's file and its disk, and that the proxy serves all the same.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Resource;
use serde_json::{Value, json};

use crate::harness::{
    Backend, Client, Cutover, HangingDisk, Health, PATIENCE, Service, SmallDisk, cutover, eventually,
};

/// Three services of the same two backends.
async fn services(rules: &str) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| s.blue([&blue]).green([&green]).health("/healthz");
    let proxy = Cutover::with()
        .service("shop", |s| service(s).extra("cutover", rules))
        .service("blog", |s| service(s).hosts(&["blog.test"]))
        .service("wiki", |s| service(s).hosts(&["wiki.test"]));
    let proxy = proxy.start().await;
    (blue, green, proxy)
}

async fn order(proxy: &Cutover, service: &str, verb: &str, body: Value) -> (u16, Value) {
    proxy.api("POST", &format!("/v1/services/{service}/{verb}"), body).await
}

fn journal(proxy: &Cutover) -> PathBuf {
    proxy.state_dir().join("journal.jsonl")
}

async fn until_phase(proxy: &Cutover, phase: &str) {
    let there = || async { proxy.service("shop").await["phase"] == phase };
    assert!(eventually(PATIENCE, there).await, "not in {phase}: {:#}", proxy.service("shop").await);
}

#[tokio::test]
async fn while_the_disk_hangs_everything_but_what_has_to_be_written_goes_on() {
    let (_blue, green, mut proxy) = services("gate = [{ name = \"qa\", approve = true }]").await;
    proxy.kill9().await;
    let Some(disk) = HangingDisk::at(&proxy.state_dir()) else { return };
    proxy.restart().await;
    let (status, begun) = order(&proxy, "shop", "switch", json!({ "to": "green", "timeout": "1ms" })).await;
    assert_eq!(status, 202, "{begun}");
    until_phase(&proxy, "gates").await;

    disk.hang();
    let history = || async { proxy.api("GET", "/v1/history", Value::Null).await.1 };
    let asked = async {
        let (first, second, third) = tokio::join!(history(), history(), history());
        assert!(first == second && second == third && first[0]["id"] == begun["id"], "{first:#}");
        green.health(Health::Failing(500));
        let is_seen =
            || async { proxy.service("shop").await.pointer("/green/endpoints/0/state") == Some(&json!("down")) };
        assert!(eventually(PATIENCE, is_seen).await, "endpoints are not checked");
        assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    };
    let switch = |service| order(&proxy, service, "switch", json!({ "to": "green" }));
    let (blog, wiki, ()) = tokio::join!(switch("blog"), switch("wiki"), asked);
    // By now it is known to hang, and all else is refused at once.
    let approve = order(&proxy, "shop", "approve", Value::Null).await;
    for (status, refused) in [blog, wiki, approve] {
        let says = refused["detail"].as_str().unwrap();
        assert!(status == 507 && says.contains("has not answered") && says.contains("nothing has changed"), "{says}");
    }
    // What is safe is done.
    let (status, aborted) = order(&proxy, "shop", "abort", Value::Null).await;
    assert_eq!((status, &aborted["outcome"]), (200, &json!("aborted")), "{aborted}");
    assert!(aborted["unwritten"].as_str().unwrap().contains("has not answered"), "{aborted}");

    disk.go_on();
    let is_written = || async { proxy.service("shop").await["unwritten"].is_null() };
    assert!(eventually(PATIENCE, is_written).await, "{:#}", proxy.service("shop").await);
    proxy.kill9().await;
    proxy.restart().await;
    let history = proxy.api("GET", "/v1/history", Value::Null).await.1;
    assert_eq!((history.as_array().unwrap().len(), &history[0]["outcome"]), (1, &json!("aborted")), "{history:#}");
    for service in ["blog", "wiki"] {
        assert_eq!(proxy.service(service).await["live"], "blue", "what was refused does not come true");
    }
    proxy.kill9().await;
}

#[tokio::test]
async fn a_journal_that_somebody_removes_cuts_or_replaces_is_soon_whole_again() {
    let (_blue, _green, mut proxy) = services("").await;
    assert_eq!(order(&proxy, "shop", "switch", json!({ "to": "green" })).await.0, 200);
    let file = journal(&proxy);
    let text = fs::read(&file).unwrap();
    let last = text.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
    let foreign = proxy.state_dir().join("foreign");
    let harms: [&dyn Fn(); 3] = [
        &|| fs::remove_file(&file).unwrap(),
        &|| fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(30).unwrap(),
        &|| {
            fs::write(&foreign, "precious").unwrap();
            fs::rename(&foreign, &file).unwrap();
        },
    ];
    for (before, harm) in harms.into_iter().enumerate() {
        harm();
        // Nobody gives an order.
        let noticed =
            || async { proxy.metrics().await.value("cutover_journal_rewritten_total", &[]) == before as f64 + 1.0 };
        assert!(eventually(PATIENCE, noticed).await, "{}", proxy.stderr());
        assert_eq!(fs::read(&file).unwrap().escape_ascii().to_string(), last.escape_ascii().to_string());
    }
    assert_eq!(fs::read(proxy.state_dir().join("journal.jsonl.found")).unwrap(), b"precious");
    assert!(proxy.stderr().contains("written anew"), "{}", proxy.stderr());

    // With an order right behind it, its lines go where a start finds them.
    fs::remove_file(&file).unwrap();
    assert_eq!(order(&proxy, "blog", "switch", json!({ "to": "green" })).await.0, 200);
    proxy.kill9().await;
    proxy.restart().await;
    for service in ["shop", "blog"] {
        assert_eq!(proxy.service(service).await["live"], "green");
    }
}

#[tokio::test]
async fn another_proxys_journal_in_the_place_of_its_own_is_left_alone() {
    let (_blue, _green, proxy) = services("").await;
    // Somebody has put all of another's in its place.
    let theirs = proxy.state_dir().join("theirs");
    let lock = fs::File::create(&theirs).unwrap();
    lock.try_lock().unwrap();
    fs::rename(&theirs, proxy.state_dir().join("lock")).unwrap();
    fs::write(&theirs, "theirs").unwrap();
    fs::rename(&theirs, journal(&proxy)).unwrap();
    let (status, refused) = order(&proxy, "shop", "switch", json!({ "to": "green" })).await;
    assert!(status == 507 && refused["detail"].as_str().unwrap().contains("another proxy"), "{refused}");
    assert_eq!(fs::read(journal(&proxy)).unwrap(), b"theirs");

    drop(lock);
    assert_eq!(order(&proxy, "shop", "switch", json!({ "to": "green" })).await.0, 200);
}

#[tokio::test]
async fn a_limit_on_the_length_of_files_refuses_a_switch_and_ends_nothing() {
    let (_blue, _green, proxy) = services("").await;
    let switch = || order(&proxy, "shop", "switch", json!({ "to": "green" }));
    let failing = async || proxy.metrics().await.value("cutover_journal_failing", &[]);
    let limited = async {
        let refused = switch().await;
        assert_eq!(failing().await, 1.0);
        refused
    };
    let (status, refused) = proxy.limited(Resource::Fsize, 64, limited).await;
    let says = refused["detail"].as_str().unwrap();
    assert!(status == 507 && says.contains("File too large") && says.contains("LimitFSIZE="), "{says}");
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    // Nobody gives an order.
    let is_good = || async { failing().await == 0.0 };
    assert!(eventually(PATIENCE, is_good).await, "{:#}", proxy.status().await);
    assert_eq!(switch().await.0, 200);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nobody_who_has_something_to_say() {
    let (blue, _green, proxy) = services("").await;
    let blue_is = async |state: &str| {
        let is_so = || async { proxy.service("shop").await.pointer("/blue/endpoints/0/state") == Some(&json!(state)) };
        assert!(eventually(PATIENCE, is_so).await, "blue is not {state}: {:#}", proxy.service("shop").await);
    };
    let said = proxy.stderr();
    let limited = async {
        blue.health(Health::Failing(500));
        blue_is("down").await;
        assert_eq!(order(&proxy, "shop", "switch", json!({ "to": "green" })).await.0, 507);
    };
    proxy.limited(Resource::Fsize, 64, limited).await;
    assert_eq!(proxy.stderr(), said, "it could not be written");
    assert_eq!(order(&proxy, "shop", "switch", json!({ "to": "green" })).await.0, 200);
    blue.health(Health::Passing);
    blue_is("up").await;
}

#[tokio::test]
async fn on_a_disk_that_is_read_only_at_the_start_the_live_color_is_served_and_orders_are_refused_until_it_is_not() {
    let (_blue, _green, mut proxy) = services("").await;
    proxy.kill9().await;
    let Some(disk) = SmallDisk::at(&proxy.state_dir()) else { return };
    proxy.restart().await;
    assert_eq!(order(&proxy, "shop", "switch", json!({ "to": "green" })).await.0, 200);
    proxy.kill9().await;
    // As a crash may leave it, and where nobody has made a lock.
    let mut file = fs::OpenOptions::new().append(true).open(journal(&proxy)).unwrap();
    file.write_all(b"{\"at\":\"torn").unwrap();
    drop(file);
    fs::remove_file(proxy.state_dir().join("lock")).unwrap();
    disk.read_only(true);

    proxy.restart().await;
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("green"));
    let failing = async |proxy: &Cutover| proxy.metrics().await.value("cutover_journal_failing", &[]);
    let is_told = |text: &str| text.contains("Read-only file system") && text.contains("mounted for writing");
    assert!(is_told(&proxy.stderr()), "{}", proxy.stderr());
    assert!(is_told(proxy.status().await["journal"].as_str().unwrap()));
    assert!(is_told(&proxy.run(&["status"]).await.stdout));
    assert_eq!(failing(&proxy).await, 1.0);
    let (status, refused) = order(&proxy, "shop", "rollback", Value::Null).await;
    let says = refused["detail"].as_str().unwrap();
    assert!(status == 507 && is_told(says) && says.contains("nothing has changed"), "{says}");

    disk.read_only(false);
    let is_good = || async { failing(&proxy).await == 0.0 };
    assert!(eventually(PATIENCE, is_good).await, "{:#}", proxy.status().await);
    assert_eq!(proxy.status().await["journal"], Value::Null);
    assert_eq!(order(&proxy, "shop", "rollback", Value::Null).await.0, 200);
    proxy.kill9().await;
    proxy.restart().await;
    assert_eq!(proxy.service("shop").await["live"], "blue");
    proxy.kill9().await;
}

#[tokio::test]
async fn what_is_no_file_is_no_journal_and_holds_up_no_start() {
    let (_blue, _green, mut proxy) = services("").await;
    proxy.kill9().await;
    for name in ["journal.jsonl", "lock"] {
        let path = proxy.state_dir().join(name);
        fs::remove_file(&path).unwrap();
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let config = proxy.config_file();
        let ran = [proxy.restart_in_vain().await, cutover(&["check", "--config", config.to_str().unwrap()]).await];
        for ran in ran {
            let says = &ran.stderr;
            assert!(ran.code == 1 && says.contains("is a pipe") && says.contains("move it away"), "{ran:#?}");
        }
        fs::remove_file(&path).unwrap();
    }
    fs::create_dir(journal(&proxy)).unwrap();
    let ran = proxy.restart_in_vain().await.assert_code(1);
    assert!(ran.stderr.contains("is a folder"), "{ran:#?}");
}

#[tokio::test]
async fn a_last_line_that_lacks_only_its_end_is_kept() {
    let (_blue, _green, mut proxy) = services("").await;
    assert_eq!(order(&proxy, "shop", "switch", json!({ "to": "green" })).await.0, 200);
    proxy.kill9().await;
    let text = fs::read(journal(&proxy)).unwrap();
    fs::write(journal(&proxy), &text[..text.len() - 1]).unwrap();
    proxy.restart().await;
    let shop = proxy.service("shop").await;
    assert_eq!((&shop["live"], &shop["phase"]), (&json!("green"), &json!("idle")), "{shop:#}");
    assert_eq!(fs::read(journal(&proxy)).unwrap(), text);
}
