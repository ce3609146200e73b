//! Pipelines: requests that are sent before the answers to those in front of them. Each has its own answer, in its turn.

use std::io::{Read, Write};

use super::{held, open};
use crate::harness::{Backend, PATIENCE, Raw, RawBackend, eventually};

#[tokio::test]
async fn a_hundred_requests_sent_at_once_are_answered_in_their_order() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let mut raw = Raw::connect(&proxy).await;
    let post = |n: usize| match n % 3 {
        0 => format!("Content-Length: 2\r\n\r\n{n:02}"),
        1 => format!("Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{n:02}"),
        _ => format!("Transfer-Encoding: chunked\r\n\r\n2\r\n{n:02}\r\n0\r\n\r\n"),
    };
    let all: Vec<_> = (0..100).map(|n| format!("POST /echo HTTP/1.1\r\nHost: shop.test\r\n{}", post(n))).collect();
    raw.write(all.concat()).await;
    for n in 0..100 {
        let text = String::from_utf8(raw.answer().await.body).unwrap();
        assert!(text.contains(&format!("\"body\":\"{n:02}\"")), "{n}: {text}");
    }
    assert_eq!(blue.requests(), 100);
}

#[tokio::test]
async fn who_leaves_a_pipeline_has_little_of_the_rest_carried_out() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let raw = Raw::saying(&proxy, "GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n".repeat(100)).await;
    blue.waiting(1).await;
    drop(raw);
    let ended = || async {
        blue.release();
        open(&proxy).await == 0.0
    };
    assert!(eventually(PATIENCE, ended).await);
    assert!(blue.requests() < 100, "{}", blue.requests());
}

#[tokio::test]
async fn nothing_behind_a_refused_request_is_taken_for_another() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    for (refused, status) in [("TRACE / HTTP/1.1\r\nHost: shop.test\r\n", 501), ("GET / HTTP/1.1\r\n", 400)] {
        let (before, mut raw) = (blue.requests(), Raw::connect(&proxy).await);
        let plain = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
        raw.write(format!("{plain}{refused}\r\n{plain}")).await;
        assert_eq!(raw.answer().await.status, 200);
        assert_eq!(raw.answer().await.status, status);
        assert_eq!(raw.until_closed().await, b"");
        assert_eq!(blue.requests() - before, 1, "{refused}");
    }
}

/// hyper reads trailers to the next CRLF CRLF, also over lines that end otherwise: what others took for a request is gone.
#[tokio::test]
async fn nothing_is_taken_from_behind_a_body_that_was_refused_unread() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let plain = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    for body in ["Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\n"] {
        let refused = format!("POST / HTTP/1.1\r\nHost: nobody.test\r\n{body}");
        let mut raw = Raw::saying(&proxy, format!("{refused}{plain}{plain}")).await;
        let answer = raw.answer().await;
        assert!(answer.status == 404 && answer.head.contains("connection: close\r\n"), "{}", answer.head);
        assert_eq!(raw.until_closed().await, b"", "{body}");
    }
    assert_eq!(blue.requests(), 0);
}

/// Of trailers that come behind the beginning of the answer its client cannot be told any more that they are the end.
#[tokio::test]
async fn nothing_is_taken_from_behind_trailers_though_the_answer_had_begun() {
    let blue = RawBackend::start(|head, socket| {
        if head.starts_with("GET ") {
            return socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother").unwrap();
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
        let (mut came, mut byte) = (Vec::new(), [0]);
        while !came.ends_with(b"x: 1\r\n\r\n") {
            socket.read_exact(&mut byte).unwrap();
            came.push(byte[0]);
        }
        socket.write_all(b"0\r\n\r\n").unwrap();
    });
    let proxy = held(&blue, "", "", "").start().await;
    let begin = "Host: shop.test\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut raw = Raw::saying(&proxy, format!("POST / HTTP/1.1\r\n{begin}")).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
    let plain = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    raw.write(format!("0\r\nX: 1\n\n{plain}{plain}")).await;
    let rest = String::from_utf8(raw.until_closed().await).unwrap();
    assert!(rest.starts_with("3\r\none\r\n0\r\n\r\n") && !rest.contains("another"), "{rest}");
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused_by_the_proxy_wherever_it_stands() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    for (unreadable, status) in [("GET / HTTP/1.1\r\nno field\r\n\r\n", 400), (&*long_head(), 431)] {
        for before in 0..3 {
            let refusals = proxy.metrics().await.value("cutover_refusals_total", &[]);
            let plain = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n".repeat(before);
            let mut raw = Raw::saying(&proxy, format!("{plain}{unreadable}")).await;
            for _ in 0..before {
                assert_eq!(raw.answer().await.status, 200);
            }
            let refused = raw.answer().await;
            assert_eq!(refused.status, status);
            assert!(refused.head.to_ascii_lowercase().contains("\r\ncutover-error: "), "{before}: {}", refused.head);
            assert_eq!(raw.until_closed().await, b"");
            assert_eq!(proxy.metrics().await.value("cutover_refusals_total", &[]) - refusals, 1.0, "it is counted");
        }
    }
}

/// More than is read of a head.
fn long_head() -> String {
    format!("GET / HTTP/1.1\r\nHost: shop.test\r\nx: {}\r\n\r\n", "y".repeat(100_000))
}

#[tokio::test]
async fn what_stands_behind_an_upgrade_is_the_tunnels() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let mut raw = Raw::connect(&proxy).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let heads = [("/", ""), ("/ws", upgrade)].map(|(p, f)| format!("GET {p} HTTP/1.1\r\nHost: shop.test\r\n{f}\r\n"));
    // A text of two bytes, masked with zeros.
    raw.write([heads.concat().as_bytes(), b"\x81\x82\0\0\0\0hi"].concat()).await;
    assert_eq!(raw.answer().await.status, 200);
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(raw.bytes(10).await, (b"\x81\x04blue\x81\x02hi".to_vec(), true));
    assert_eq!(blue.requests(), 2);
}

#[tokio::test]
async fn what_is_sent_behind_the_last_request_takes_nothing_of_its_answer() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    for behind in ["\r\n", "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"] {
        let request = "GET /bytes/4194304 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
        let mut raw = Raw::saying(&proxy, request).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 200"));
        raw.write(behind).await;
        assert!(raw.bytes(4 << 20).await.1, "the answer was cut");
        assert_eq!(raw.until_closed().await, b"");
    }
}
