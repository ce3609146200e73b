//! The access log follows a reload: it goes elsewhere, is written otherwise, begins and ends, and no line is lost.

use std::fs;

use super::says;
use crate::harness::{Backend, Crowd, Cutover, PATIENCE, Raw, Settings, eventually};

fn shop(blue: &Backend) -> Settings {
    Cutover::with().service("shop", |s| s.hosts(&["shop.test"]).blue([blue]))
}

#[tokio::test]
async fn a_log_begins_moves_and_ends_and_requests_under_way_end_their_lines_where_they_began() {
    let blue = Backend::start("blue").await;
    let settings = shop(&blue);
    let second = settings.folder().join("second.log");
    let mut proxy = settings.start().await;
    let ask = async |proxy: &Cutover, path: &str| {
        Raw::saying(proxy, format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await
    };
    ask(&proxy, "/unseen").await.answer().await;
    let answer = proxy.reload_with(|s| s.access_log("")).await;
    assert!(says(&answer)[0].starts_with("access_log"), "{answer:#}");
    let mut slow = ask(&proxy, "/slow").await;
    blue.waiting(1).await;
    let elsewhere = format!("file = {second:?}\nformat = \"combined\"");
    proxy.reload_with(|s| s.access_log(&elsewhere)).await;
    ask(&proxy, "/moved").await.answer().await;
    blue.release();
    slow.answer().await;
    proxy.reload_with(Settings::without_access_log).await;
    ask(&proxy, "/unseen").await.answer().await;
    proxy.reload_with(|s| s.access_log("")).await;
    ask(&proxy, "/again").await.answer().await;

    let lines = || async { proxy.metrics().await.value("cutover_access_log_lines_total", &[]) };
    assert!(
        eventually(PATIENCE, || async { lines().await == 3.0 }).await,
        "one line for each request: {}",
        lines().await
    );
    let targets: Vec<_> = proxy.logged(2).await.iter().map(|line| line["target"].clone()).collect();
    assert_eq!(targets, ["/slow", "/again"]);
    let text = fs::read_to_string(&second).unwrap();
    assert!(text.lines().count() == 1 && text.contains("\"GET /moved HTTP/1.1\" 200"), "{text}");
}

#[tokio::test]
async fn no_line_is_lost_while_the_log_moves_under_load() {
    let blue = Backend::start("blue").await;
    let settings = shop(&blue).access_log("");
    let files: Vec<_> = (0..5).map(|round| settings.folder().join(format!("{round}.log"))).collect();
    let first = settings.log_file();
    let mut proxy = settings.start().await;
    let crowds = [Crowd::of(8).start(&proxy), Crowd::of(4).http2().start(&proxy)];
    for file in &files {
        crowds[0].seen_more(100).await;
        crowds[1].seen_more(50).await;
        let lines = format!("file = {file:?}\nbuffer = \"1MiB\"");
        proxy.reload_with(|s| s.access_log(&lines)).await;
    }
    crowds[0].seen_more(100).await;
    let mut requests = 0;
    for crowd in crowds {
        let tally = crowd.stop().await;
        tally.assert_nothing_lost();
        requests += tally.requests;
    }
    let descriptors = proxy.open_files();
    assert!(descriptors < 100, "{descriptors}");
    assert_eq!(proxy.terminate().await.code, 0);
    let whole = |file: &std::path::PathBuf| fs::read_to_string(file).unwrap().matches("}\n").count();
    let lines: Vec<_> = files.iter().chain([&first]).map(whole).collect();
    assert_eq!(lines.iter().sum::<usize>(), requests, "{lines:?}");
    assert!(lines.iter().all(|lines| *lines > 0), "{lines:?}");
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_changes_nothing() {
    let blue = Backend::start("blue").await;
    let mut proxy = shop(&blue).access_log("").start().await;
    proxy.rewrite(|s| s.access_log("file = \"/nowhere/access.log\""));
    let (status, problem) = proxy.reload().await;
    assert_eq!(status, 409);
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("/nowhere/access.log cannot be opened") && detail.contains("nothing has changed"),
        "{detail}"
    );
    let mut raw = Raw::saying(&proxy, "GET /kept HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    raw.answer().await;
    assert_eq!(proxy.logged(1).await[0]["target"], "/kept");
}
