//! Limits that an operator may set otherwise: each holds at the value that is written, also after a reload.

use std::io::Write;

use super::held;
use crate::harness::frames::{END_STREAM, Frames, HEADERS, SETTINGS};
use crate::harness::{Backend, Client, Cutover, Raw, RawBackend};

/// Answers with so many fields, or one so long, as the path says: `/fields/3`, `/long/100`.
fn wordy() -> RawBackend {
    RawBackend::start(|head, socket| {
        let mut path = head.split(' ').nth(1).unwrap().split('/').skip(1);
        let (what, count) = (path.next().unwrap().to_owned(), path.next().unwrap().parse::<usize>().unwrap());
        let fields = if what == "fields" { "X: 1\r\n".repeat(count) } else { format!("X: {}\r\n", "x".repeat(count)) };
        let _ = write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
    })
}

#[tokio::test]
async fn the_head_of_an_answer_may_be_as_large_as_its_service_says() {
    let blue = wordy();
    let mut proxy = held(&blue, "", "", "").start().await;
    let get = async |proxy: &Cutover, path: &str| {
        let mut raw = Raw::saying(proxy, format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        raw.answer().await.status
    };
    for (path, status) in [("/fields/99", 200), ("/fields/100", 502), ("/long/60000", 200), ("/long/70000", 502)] {
        assert_eq!(get(&proxy, path).await, status, "{path}");
    }
    let more = "answer_fields = 301\nanswer_head = \"100KiB\"";
    proxy.reload_with(|s| s.service("shop", |s| s.extra("limits", more))).await;
    for (path, status) in [("/fields/300", 200), ("/fields/301", 502), ("/long/100000", 200), ("/long/110000", 502)] {
        assert_eq!(get(&proxy, path).await, status, "{path}");
    }
}

#[tokio::test]
async fn all_connections_together_have_so_many_http2_requests() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "http2_requests = 3", "", "").start().await;
    let mut clients = [Frames::connect(&proxy).await, Frames::connect(&proxy).await];
    for (place, stream) in [(0, 1), (0, 3), (1, 1)] {
        clients[place].request(stream, "GET", "/slow", END_STREAM).await;
    }
    blue.waiting(3).await;
    let mut more = Client::http2(&proxy).await;
    let answer = more.get("/").await;
    assert_eq!((answer.status, answer.header("cutover-error")), (503, Some("overloaded")));
    assert_eq!(Client::http1(&proxy).await.get("/").await.status, 200, "HTTP/1.1 has its connections");
    blue.release();
    clients[0].until(|frame| frame.kind == HEADERS).await.expect("an answer");
    clients[1].until(|frame| frame.kind == HEADERS).await.expect("an answer");
    while more.get("/").await.status != 200 {}
}

#[tokio::test]
async fn an_http2_client_is_told_the_windows_that_are_configured() {
    let blue = Backend::start("blue").await;
    let limits = "http2_stream_window = \"96KiB\"\nhttp2_frame = \"32KiB\"\nhttp2_streams = 7";
    let proxy = held(&blue, limits, "", "").start().await;
    let mut client = Frames::greeting(&proxy).await;
    let settings = client.until(|frame| frame.kind == SETTINGS).await.expect("settings");
    let told = |id: u16| {
        let mut pairs = settings.payload.chunks(6).map(|pair| (&pair[..2], &pair[2..]));
        let value = pairs.find(|(key, _)| *key == id.to_be_bytes()).map(|(_, value)| value.try_into().unwrap());
        value.map(u32::from_be_bytes)
    };
    assert_eq!((told(3), told(4), told(5)), (Some(7), Some(96 << 10), Some(32 << 10)));
}
