//! Slow clients of every kind: each is let go of in its time, and what is not slow is left alone.

use std::time::Duration;

use futures_util::future::join_all;

use super::{held, open};
use crate::harness::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, head};
use crate::harness::{Backend, Ca, Client, Cutover, PATIENCE, Raw, RawBackend, Service, body, eventually};

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let blue = Backend::start("blue").await;
    let ca = Ca::new();
    let timeouts = "opening = \"100ms\"\nhandshake = \"100ms\"";
    let proxy = held(&blue, "", timeouts, "").tls(&ca, &["shop.test"]).start().await;
    for address in [proxy.address(), proxy.tls_address()] {
        assert_eq!(Raw::connect(address).await.until_closed().await, b"");
    }
    for (address, beginning) in
        [(proxy.address(), &b"PRI * HTTP/2"[..]), (proxy.tls_address(), b"\x16\x03\x01\x02\x00")]
    {
        let mut raw = Raw::saying(address, beginning).await;
        assert_eq!(raw.until_closed().await, b"");
    }
}

#[tokio::test]
async fn a_head_has_its_time_on_every_request() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "head = \"150ms\"").start().await;
    for before in ["", "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"] {
        let mut raw = Raw::saying(&proxy, before).await;
        if !before.is_empty() {
            assert_eq!(raw.answer().await.status, 200);
        }
        raw.write("GET / HTTP/1.1\r\nHost: sh").await;
        assert_eq!(raw.answer().await.status, 408);
        assert_eq!(raw.until_closed().await, b"");
    }
}

#[tokio::test]
async fn a_head_behind_a_refused_upload_has_its_time_too() {
    // It takes the request, and ends the connection without an answer.
    let blue = RawBackend::answering("");
    let proxy = held(&blue, "", "", "head = \"150ms\"").start().await;
    let upload = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello";
    let mut raw = Raw::saying(&proxy, upload).await;
    assert_eq!(raw.answer().await.status, 502);
    raw.write("GET / HTTP/1.1\r\nHost: sh").await;
    assert_eq!(raw.answer().await.status, 408);
    assert_eq!(raw.until_closed().await, b"");
}

#[tokio::test]
async fn empty_lines_stop_no_clock() {
    let blue = Backend::start("blue").await;
    // Both as long as a connection is quiet before it is parked, which is what empty lines once hindered, and longer.
    let parked = "park = \"20ms\"";
    let proxy = held(&blue, "", parked, "idle = \"200ms\"").start().await;
    let mut idle = Raw::saying(&proxy, "\r\n").await;
    assert_eq!(idle.until_closed().await, b"");
    let proxy = held(&blue, "", parked, "head = \"150ms\"").start().await;
    let mut dawdling = Raw::saying(&proxy, "\r\n").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    dawdling.write("GET / HTTP/1.1\r\n").await;
    assert_eq!(dawdling.answer().await.status, 408);
}

#[tokio::test]
async fn an_http2_connection_idles_however_often_it_is_asked_for_life() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "http2_ping = \"100ms\"\nsend = \"100ms\"", "idle = \"400ms\"").start().await;
    let mut client = Frames::connect(&proxy).await;
    client.request(1, "GET", "/", END_STREAM).await;
    client.until_closed().await;
}

#[tokio::test]
async fn half_a_head_beside_a_running_request_has_its_time_too() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "head = \"150ms\"").start().await;
    let mut client = Frames::connect(&proxy).await;
    client.request(1, "GET", "/slow", END_STREAM).await;
    blue.waiting(1).await;
    client.send(HEADERS, 0, 3, &head("GET", "/")).await;
    client.until_closed().await;
    assert!(eventually(PATIENCE, || async { blue.connections() == 0 }).await);
}

#[tokio::test]
async fn a_slow_upload_is_nobodys_business_but_its_clients() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| s.hosts(&["shop.test"]).blue([&blue]).green([&green]).health("/healthz");
    let proxy = Cutover::with().service("shop", service).start().await;
    let (mut plain, mut chunked) = (Raw::connect(&proxy).await, Raw::connect(&proxy).await);
    plain.write("POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhe").await;
    chunked.write("POST /echo HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n").await;
    assert!(eventually(PATIENCE, || async { open(&proxy).await >= 2.0 }).await);
    // Neither a backend nor a drain waits for them.
    proxy.run(&["switch", "green"]).await.assert_code(0);
    assert_eq!(blue.requests() + green.requests(), 0);
    plain.write("llo").await;
    chunked.write("3\r\nllo\r\n0\r\n\r\n").await;
    for raw in [&mut plain, &mut chunked] {
        let text = String::from_utf8(raw.answer().await.body).unwrap();
        assert!(text.contains("\"backend\":\"green\"") && text.contains("\"body\":\"hello\""), "{text}");
    }
    assert_eq!(blue.requests(), 0);
}

#[tokio::test]
async fn a_body_that_only_trickles_is_408() {
    let blue = Backend::start("blue").await;
    let service = |s: Service| {
        s.hosts(&["shop.test"])
            .blue([&blue])
            .extra("timeouts", "body = \"200ms\"")
            .extra("limits", "body_rate = \"1KiB\"")
    };
    let proxy = Cutover::with().service("shop", service).start().await;
    for (begin, piece) in [("Content-Length: 9000", "a"), ("Transfer-Encoding: chunked", "1\r\na\r\n")] {
        let mut raw = Raw::saying(&proxy, format!("POST /echo HTTP/1.1\r\nHost: shop.test\r\n{begin}\r\n\r\n")).await;
        // More often than any silence would allow, and yet too little.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !raw.try_write(piece).await {
                break;
            }
        }
        assert_eq!(raw.answer().await.status, 408, "{begin}");
    }
    assert_eq!(blue.requests(), 0);
}

#[tokio::test]
async fn who_reads_nothing_of_an_answer_is_let_go_and_frees_its_backend() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "send = \"200ms\"", "").start().await;
    let _raw = Raw::saying(&proxy, "GET /bytes/67108864 HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert!(eventually(PATIENCE, || async { blue.bytes_sent() > 0 }).await);
    assert!(eventually(PATIENCE, || async { blue.connections() == 0 && open(&proxy).await == 0.0 }).await);
}

#[tokio::test]
async fn a_stream_without_a_window_is_reset_beside_one_that_lives() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "send = \"200ms\"", "").start().await;
    let mut client = Frames::with_window(&proxy, 0).await;
    client.request(1, "GET", "/slow", END_STREAM).await;
    client.request(3, "GET", "/bytes/100000", END_STREAM).await;
    let reset = client.until(|frame| frame.kind == RST_STREAM).await.expect("a reset");
    assert_eq!(reset.stream, 3);
    assert!(eventually(PATIENCE, || async { blue.connections() == 1 }).await);
    blue.waiting(1).await;
    blue.release();
    let answer = client.until(|frame| frame.kind == HEADERS).await.expect("an answer");
    assert_eq!((answer.stream, answer.flags & END_HEADERS), (1, END_HEADERS));
}

#[tokio::test]
async fn an_answer_that_is_silent_for_long_is_not_a_slow_client() {
    let blue = Backend::start("blue").await;
    // Long enough for a client on a busy machine to ask, and short enough to be waited out.
    let proxy = held(&blue, "", "send = \"1s\"\nhttp2_ping = \"60s\"", "idle = \"1s\"").start().await;
    let mut clients = [Client::http1(&proxy).await, Client::http2(&proxy).await];
    let opened = clients.iter_mut().map(async |client| {
        let mut events = client.open(http::Request::get("/events").body(body::empty()).unwrap()).await;
        assert_eq!(events.chunk().await.unwrap(), "data: blue\n\n");
        events
    });
    let opened = join_all(opened).await;
    blue.waiting(2).await;
    // What must not happen is given more than the time in which it would.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    blue.release();
    for events in opened {
        assert_eq!(events.rest().await.text(), "data: released\n\n");
    }
}
