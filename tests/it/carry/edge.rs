//! Valid traffic that is easily taken for something else: answers that look like our own, bodies nobody expects, readers
//! that take their time.

use std::io::Write;

use super::{both, shop};
use crate::harness::{Backend, Client, Cutover, Raw, RawBackend};

#[tokio::test]
async fn an_empty_4xx_of_the_backends_is_passed_on_as_it_is() {
    let blue = RawBackend::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let proxy = shop(&blue).await;
    for close in ["", "Connection: close\r\n"] {
        let mut raw = Raw::saying(&proxy, format!("GET /x HTTP/1.1\r\nHost: shop.test\r\n{close}\r\n")).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{answer:?}");
    }
    for mut client in both(&proxy).await {
        assert_eq!(client.get("/x").await.status, 404);
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_whatever_the_method() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for method in ["GET", "DELETE", "POST", "OPTIONS"] {
        let mut raw = Raw::connect(&proxy).await;
        let head = format!("{method} /echo HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        raw.write(format!("{head}3\r\nabc\r\n0\r\n\r\n")).await;
        let answer = raw.answer().await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && text.contains("\"body\":\"abc\""), "{method}: {text}");
    }
}

#[tokio::test]
async fn an_empty_post_says_that_it_is_empty() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        assert_eq!(client.post("/echo", "").await.status, 200);
        assert_eq!(blue.last_head().header("content-length").as_deref(), Some("0"));
        client.get("/echo").await;
        assert_eq!(blue.last_head().header("content-length"), None);
    }
}

#[tokio::test]
async fn a_length_beside_chunks_cuts_nothing() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let blue = RawBackend::answering(answer);
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        assert_eq!(client.get("/x").await.body, "abc");
    }
}

#[tokio::test]
async fn empty_lines_behind_a_body_are_no_slow_head() {
    let blue = Backend::start("blue").await;
    let proxy = with_timeouts(&blue, "head = \"100ms\"\nidle = \"10s\"").await;
    let mut raw = Raw::saying(&proxy, "POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(raw.answer().await.status, 200);
    raw.write("\r\n").await;
    // What must not happen is given twice the time in which it would.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    raw.write("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test]
async fn a_repeated_request_goes_out_on_a_new_connection() {
    // Each connection carries one request, and dies at the next without a word.
    let once = RawBackend::start(|head, socket| {
        let _ = head;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = socket.set_read_timeout(Some(std::time::Duration::from_secs(10)));
        let mut byte = [0];
        let _ = std::io::Read::read(socket, &mut byte);
        let _ = socket.shutdown(std::net::Shutdown::Both);
    });
    let proxy = shop(&once).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::http1(&proxy).await);
    }
    for _ in 0..4 {
        let all = clients.iter_mut().map(|client| client.get("/"));
        for answer in futures_util::future::join_all(all).await {
            assert_eq!(answer.status, 200);
        }
    }
}

async fn with_timeouts(blue: &Backend, timeouts: &str) -> Cutover {
    Cutover::with().service("shop", |s| s.blue([blue]).health("/healthz").extra("timeouts", timeouts)).start().await
}
