//! What the proxy survives: killed at any step, a torn journal, a full disk, state it cannot read.

use std::fs;
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::harness::{
    Backend, Client, Crowd, Cutover, Health, PATIENCE, Service, SmallDisk, body, cutover, eventually,
};

async fn shop() -> (Backend, Backend, Cutover) {
    shop_with("").await
}

async fn shop_with(rules: &str) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| s.blue([&blue]).green([&green]).health("/healthz").extra("cutover", rules);
    let proxy = Cutover::with().service("shop", service).start().await;
    (blue, green, proxy)
}

async fn switch(proxy: &Cutover, to: &str) -> (u16, Value) {
    proxy.api("POST", "/v1/services/shop/switch", json!({ "to": to })).await
}

async fn rollback(proxy: &Cutover) -> (u16, Value) {
    proxy.api("POST", "/v1/services/shop/rollback", Value::Null).await
}

/// Takes the disk to its last byte.
fn fill(filler: &std::path::Path) {
    assert!(fs::write(filler, vec![0; 8 << 20]).is_err(), "the small disk is larger than it should be");
}

fn journal(proxy: &Cutover) -> std::path::PathBuf {
    proxy.state_dir().join("journal.jsonl")
}

/// What each line of the journal says: phase and outcome decide who must be live after a crash behind it.
fn phases(text: &[u8]) -> Vec<String> {
    let line = |line: &[u8]| {
        let line: Value = serde_json::from_slice(line).unwrap();
        format!("{} {}", line["cutover"]["to"].as_str().unwrap(), line["cutover"]["phase"].as_str().unwrap())
    };
    text.split(|byte| *byte == b'\n').filter(|part| !part.is_empty()).map(line).collect()
}

#[tokio::test]
async fn killed_at_any_step_of_the_journal_it_comes_back_consistent_with_someone_serving() {
    let (_blue, _green, mut proxy) = shop().await;
    switch(&proxy, "green").await;
    proxy.api("POST", "/v1/services/shop/rollback", Value::Null).await;
    proxy.kill9().await;
    let whole = fs::read(journal(&proxy)).unwrap();
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    assert_eq!(ends.len(), 8, "prepare, switch, drain, done; twice: {:?}", phases(&whole));
    // A crash behind each line, before its effect, and one in the middle of writing the next.
    for cut in [0].into_iter().chain(ends).flat_map(|end| [end, (end + 40).min(whole.len())]) {
        fs::write(journal(&proxy), &whole[..cut]).unwrap();
        let written = phases(&whole[..whole[..cut].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)]);
        proxy.restart().await;
        // Whatever was under way goes on to its end by itself.
        let idle = || async { proxy.service("shop").await["phase"] == "idle" };
        assert!(eventually(PATIENCE, idle).await, "behind {:?} it hangs", written.last());
        // What was wished and written down is carried on with, so the last line's color is where it ends.
        let expected = written.last().map_or("blue", |step| step.split(' ').next().unwrap());
        let status = proxy.service("shop").await;
        assert_eq!(status["live"], expected, "behind {:?}", written.last());
        assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some(expected));
        proxy.kill9().await;
    }
}

#[tokio::test]
async fn killed_under_load_at_any_instant_the_live_color_and_the_history_come_back() {
    let (_blue, _green, mut proxy) = shop().await;
    for round in 0..8 {
        let to = if proxy.service("shop").await["live"] == "blue" { "green" } else { "blue" };
        let crowd = Crowd::of(8).start(&proxy);
        crowd.seen(50).await;
        // Killed a little later each time, somewhere between the wish and long after the end.
        let command = proxy.spawn(&["switch", to]);
        for _ in 0..round * 2 {
            tokio::task::yield_now().await;
            crowd.seen_more(round * 5).await;
        }
        proxy.kill9().await;
        drop((command, crowd));
        proxy.restart().await;
        let idle = || async { proxy.service("shop").await["phase"] == "idle" };
        assert!(eventually(PATIENCE, idle).await);
        let service = proxy.service("shop").await;
        let history = proxy.api("GET", "/v1/history", Value::Null).await.1;
        if let Some(last) = history.as_array().unwrap().first() {
            let live = if last["outcome"] == "done" { &last["to"] } else { &last["from"] };
            assert_eq!(&service["live"], live, "{last}");
        }
        let live = service["live"].as_str().unwrap();
        assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some(live));
    }
}

#[tokio::test]
async fn the_live_color_and_the_history_outlive_a_stop() {
    let (_blue, _green, mut proxy) = shop().await;
    switch(&proxy, "green").await;
    let before = proxy.api("GET", "/v1/history", Value::Null).await.1;
    let generation = proxy.service("shop").await["generation"].clone();
    assert_eq!(proxy.terminate().await.code, 0);
    proxy.restart().await;
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("green"));
    assert_eq!(proxy.api("GET", "/v1/history", Value::Null).await.1, before);
    assert_eq!(proxy.service("shop").await["generation"], generation);
}

#[tokio::test]
async fn since_when_a_color_is_live_outlives_a_restart_and_what_has_moved_nobody() {
    let (blue, _green, mut proxy) = shop().await;
    let (_, switched) = switch(&proxy, "green").await;
    let since = switched["proof"]["switched"].clone();
    assert_eq!(proxy.service("shop").await["since"], since);
    blue.health(Health::Failing(500));
    assert_eq!(switch(&proxy, "blue").await.1["outcome"], "aborted");
    proxy.kill9().await;
    proxy.restart().await;
    assert_eq!(proxy.service("shop").await["since"], since);
}

#[tokio::test]
async fn where_the_proxy_ended_in_a_drain_nobody_says_that_the_color_was_drained() {
    for is_killed in [false, true] {
        let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
        let service = |s: Service| s.blue([&blue]).green([&green]).health("/healthz");
        let settings = Cutover::with().section("edge.timeouts", "notice = \"0s\"\nfinish = \"100ms\"");
        let mut proxy = settings.service("shop", service).start().await;
        let mut slow = Client::http1(&proxy).await;
        let slow = tokio::spawn(async move { slow.try_send(Request::get("/slow").body(body::empty()).unwrap()).await });
        blue.waiting(1).await;
        let body = json!({ "to": "green", "wait": "live" });
        assert_eq!(proxy.api("POST", "/v1/services/shop/switch", body).await.1["phase"], "drain");
        if is_killed {
            proxy.kill9().await
        } else {
            drop(proxy.terminate().await)
        }
        assert!(slow.await.unwrap().is_err(), "the request was cut off");
        proxy.restart().await;
        let idle = || async { proxy.service("shop").await["phase"] == "idle" };
        assert!(eventually(PATIENCE, idle).await);
        let history = proxy.api("GET", "/v1/history", Value::Null).await.1;
        assert_eq!(
            (&history[0]["outcome"], &history[0]["drained"], &history[0]["restarted"]),
            (&json!("done"), &json!(false), &json!(true)),
            "{history}"
        );
        assert!(proxy.run(&["history"]).await.stdout.contains("drain unknown"));
        let shown = proxy.run(&["history", "show", history[0]["id"].as_str().unwrap()]).await.stdout;
        assert!(shown.contains("; whether it drained is not known: the proxy was restarted meanwhile"), "{shown}");
    }
}

#[tokio::test]
async fn a_damaged_journal_a_missing_folder_and_a_second_proxy_stop_the_start_and_say_what_to_do() {
    let (_blue, _green, mut proxy) = shop().await;
    let second = cutover(&["serve", "--config", proxy.config_file().to_str().unwrap()]).await.assert_code(1);
    assert!(second.stderr.contains("another proxy"), "{}", second.stderr);

    switch(&proxy, "green").await;
    proxy.kill9().await;
    let mut text = fs::read(journal(&proxy)).unwrap();
    text[30] ^= 1;
    fs::write(journal(&proxy), &text).unwrap();
    let ran = proxy.restart_in_vain().await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("damaged at line 1") && ran.stderr.contains("restore"), "{}", ran.stderr);
    assert_eq!(fs::read(journal(&proxy)).unwrap(), text, "it is left as it was");

    fs::remove_dir_all(proxy.state_dir()).unwrap();
    let ran = proxy.restart_in_vain().await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("does not exist") && ran.stderr.contains("create it"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_start_waits_until_a_proxy_that_is_going_lets_go_of_the_journal() {
    let (_blue, _green, mut proxy) = shop().await;
    switch(&proxy, "green").await;
    proxy.kill9().await;
    let lock = fs::File::open(proxy.state_dir().join("lock")).unwrap();
    lock.try_lock().unwrap();
    let going = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(lock);
    });
    proxy.restart().await;
    going.await.unwrap();
    assert_eq!(proxy.service("shop").await["live"], "green");
}

#[tokio::test]
async fn what_stands_in_the_sockets_place_is_not_taken_away() {
    let (_blue, _green, mut proxy) = shop().await;
    proxy.kill9().await;
    fs::remove_file(proxy.admin_socket()).unwrap();
    fs::write(proxy.admin_socket(), "precious").unwrap();
    let ran = proxy.restart_in_vain().await;
    assert!(ran.code == 1 && ran.stderr.contains("is no socket"), "{ran:#?}");
    assert_eq!(fs::read(proxy.admin_socket()).unwrap(), b"precious");
}

#[tokio::test]
async fn on_a_full_disk_the_switch_fails_cleanly_and_traffic_goes_on() {
    let (_blue, _green, mut proxy) = shop().await;
    proxy.kill9().await;
    let Some(_disk) = SmallDisk::at(&proxy.state_dir()) else { return };
    proxy.restart().await;
    assert_eq!(switch(&proxy, "green").await.0, 200);
    let crowd = Crowd::of(8).start(&proxy);
    let filler = proxy.state_dir().join("filler");
    // Down to the last byte: nothing more can be written.
    let full = fs::write(&filler, vec![0; 1 << 20]).is_err();
    assert!(full, "the small disk is larger than it should be");
    let room = fs::metadata(journal(&proxy)).unwrap().len() % 4096;
    let fills = if room == 0 { 0 } else { 4096 / 400 + 1 };
    let mut refused = None;
    for _ in 0..=fills {
        let (status, problem) = switch(&proxy, "blue").await;
        if status != 200 {
            refused = Some((status, problem));
            break;
        }
        let (status, problem) = switch(&proxy, "green").await;
        if status != 200 {
            refused = Some((status, problem));
            break;
        }
    }
    let (status, problem) = refused.expect("the disk is full");
    assert!(matches!(status, 409 | 507), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("space"), "{problem}");
    let live = proxy.service("shop").await["live"].as_str().unwrap().to_owned();
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some(live.as_str()));
    crowd.seen_more(200).await;

    fs::remove_file(filler).unwrap();
    let other = if live == "blue" { "green" } else { "blue" };
    let (status, answer) = switch(&proxy, other).await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "with room again it works again: {answer}");
    crowd.stop().await.assert_nothing_lost();
    proxy.kill9().await;
    proxy.restart().await;
    assert_eq!(proxy.service("shop").await["live"], other);
    proxy.kill9().await;
}

#[tokio::test]
async fn on_a_disk_that_something_else_has_filled_a_rollback_works_and_is_there_after_a_restart() {
    let (_blue, _green, mut proxy) = shop_with("bake = { for = \"10m\", min_requests = 1 }").await;
    proxy.kill9().await;
    let Some(_disk) = SmallDisk::of("4m", &proxy.state_dir()) else { return };
    proxy.restart().await;
    let reserve = async |proxy: &Cutover| proxy.metrics().await.value("cutover_journal_reserve_bytes", &[]);
    let whole = reserve(&proxy).await;
    assert!(whole > 0.0, "there is none: {}", proxy.stderr());
    assert_eq!(switch(&proxy, "green").await.0, 200);
    let filler = proxy.state_dir().join("filler");
    fill(&filler);
    let crowd = Crowd::of(4).start(&proxy);
    let (status, back) = rollback(&proxy).await;
    assert_eq!((status, &back["outcome"]), (200, &json!("rolled_back")), "{back}");
    crowd.seen_more(50).await;
    crowd.stop().await.assert_nothing_lost();

    proxy.kill9().await;
    proxy.restart().await;
    let service = proxy.service("shop").await;
    assert_eq!((&service["live"], &service["phase"]), (&json!("blue"), &json!("idle")), "{service:#}");
    assert!(reserve(&proxy).await >= whole / 2.0, "the reserve is there after a restart on a full disk");
    assert_eq!(switch(&proxy, "green").await.0, 200);
    assert_eq!(rollback(&proxy).await.0, 200, "nor is it the last");

    // Behind the end of the file there is nothing any more, and others take that as well.
    let journal = fs::OpenOptions::new().write(true).open(journal(&proxy)).unwrap();
    journal.set_len(journal.metadata().unwrap().len()).unwrap();
    fill(&proxy.state_dir().join("more"));
    let mut refused = None;
    for to in ["green", "blue"].into_iter().cycle().take(40) {
        let live = proxy.service("shop").await["live"].clone();
        let (status, problem) = if to == "green" { switch(&proxy, to).await } else { rollback(&proxy).await };
        if status != 200 {
            refused = Some((status, problem, live));
            break;
        }
    }
    let (status, problem, live) = refused.expect("the disk is full");
    assert!(matches!(status, 409 | 507), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("space"), "{problem}");
    assert_eq!(proxy.service("shop").await["live"], live, "{problem}");
    assert_eq!(proxy.stderr().matches("has no reserve").count(), 1, "{}", proxy.stderr());
    assert_eq!(reserve(&proxy).await, 0.0);

    fs::remove_file(filler).unwrap();
    let (status, answer) = if live == "blue" { switch(&proxy, "green").await } else { rollback(&proxy).await };
    assert_eq!(status, 200, "with room again it works again: {answer}");
    assert!(reserve(&proxy).await >= whole / 2.0);
    proxy.kill9().await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_takes_a_long_journal_as_it_is_and_the_next_one_compacts_it() {
    let (_blue, _green, mut proxy) = shop().await;
    proxy.kill9().await;
    let Some(_disk) = SmallDisk::of("8m", &proxy.state_dir()) else { return };
    proxy.restart().await;
    assert_eq!(switch(&proxy, "green").await.0, 200);
    proxy.kill9().await;
    let known = fs::read(journal(&proxy)).unwrap();
    fs::write(journal(&proxy), known.repeat((5 << 20) / known.len())).unwrap();
    let filler = proxy.state_dir().join("filler");
    fill(&filler);
    let live = async |proxy: &Cutover| proxy.service("shop").await["live"].clone();
    proxy.restart().await;
    assert_eq!(live(&proxy).await, "green");
    assert!(proxy.stderr().contains("cannot be compacted"), "{}", proxy.stderr());
    assert_eq!(
        fs::read_dir(proxy.state_dir()).unwrap().count(),
        4,
        "journal, lock, key and filler: no half of one is left"
    );
    proxy.kill9().await;

    fs::remove_file(filler).unwrap();
    proxy.restart().await;
    assert_eq!(live(&proxy).await, "green");
    assert!(fs::metadata(journal(&proxy)).unwrap().len() <= known.len() as u64);
    assert!(proxy.metrics().await.value("cutover_journal_reserve_bytes", &[]) > 0.0);
    proxy.kill9().await;
}

#[tokio::test]
async fn a_switch_that_failed_for_lack_of_room_does_not_come_true_after_a_restart() {
    let (_blue, _green, mut proxy) = shop().await;
    proxy.kill9().await;
    let Some(_disk) = SmallDisk::at(&proxy.state_dir()) else { return };
    proxy.restart().await;
    let filler = proxy.state_dir().join("filler");
    let mut aborted = false;
    for free in (0..4096).step_by(256) {
        // Room for the beginning of a cutover, then for a little more each time, until one is cut off in between.
        let _ = fs::remove_file(&filler);
        let _ = fs::write(&filler, vec![0; 1 << 20]);
        let full = fs::metadata(&filler).unwrap().len();
        fs::OpenOptions::new().write(true).open(&filler).unwrap().set_len(full - free).unwrap();
        let live = proxy.service("shop").await["live"].as_str().unwrap().to_owned();
        let (status, problem) = switch(&proxy, if live == "blue" { "green" } else { "blue" }).await;
        aborted |= status == 409;
        if status != 200 {
            assert!(problem["detail"].as_str().unwrap().contains("space"), "{problem}");
            assert_eq!(proxy.service("shop").await["live"], live.as_str(), "{problem}");
        }
    }
    fs::remove_file(&filler).unwrap();
    let live = proxy.service("shop").await["live"].clone();
    let settled = || async {
        let text = fs::read(journal(&proxy)).unwrap();
        phases(&text).last().is_none_or(|last| last.ends_with("done") || last.ends_with("aborted"))
    };
    assert!(eventually(PATIENCE, settled).await, "the end of the cutover is never written down ({aborted})");
    proxy.kill9().await;
    proxy.restart().await;
    assert_eq!((&proxy.service("shop").await["live"], &proxy.service("shop").await["phase"]), (&live, &json!("idle")));
    proxy.kill9().await;
}
