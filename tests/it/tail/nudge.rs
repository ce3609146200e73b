//! Old keep-alive clients are asked to look the name up again: at a pace, between requests, and losing none.

use std::time::{Duration, Instant};

use cutover::tail::Counts;
use http::Request;

use super::{counted, shifted, span};
use crate::harness::frames::{END_STREAM, Frame, Frames, GOAWAY, HEADERS};
use crate::harness::{Backend, Client, Inside, PATIENCE, Raw, WebSocket, body, eventually};

const HOUR: Duration = Duration::from_secs(3600);
/// So many that every connection's turn has come.
const ALL: u32 = 1_000_000;

#[tokio::test]
async fn a_connection_is_told_with_an_answer_and_its_client_comes_back_on_another() {
    let blue = Backend::start("blue").await;
    let proxy = Inside::start(&blue, "").await;
    let mut client = Raw::saying(&proxy, "GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert!(!client.answer().await.head.contains("connection: close"));
    proxy.service.tail.pace(ALL);
    proxy.service.tail.begin(shifted(HOUR, Duration::ZERO));
    client.write("POST /echo HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 4\r\n\r\nbody").await;
    let told = client.answer().await;
    assert!(told.head.contains("connection: close"), "{}", told.head);
    assert!(told.complete && String::from_utf8_lossy(&told.body).contains("\"body\":\"body\""), "{told:?}");
    assert_eq!(client.until_closed().await, b"", "nothing more is said");
    counted(&proxy, Counts { requests: 1, connections: 1, told: 1 }).await;
}

#[tokio::test]
async fn an_http2_connection_is_told_by_goaway_and_ends_with_its_last_request() {
    let blue = Backend::start("blue").await;
    let proxy = Inside::start(&blue, "").await;
    let mut client = Frames::connect(&proxy).await;
    client.request(1, "GET", "/slow", END_STREAM).await;
    blue.waiting(1).await;
    proxy.service.tail.pace(ALL);
    proxy.service.tail.begin(shifted(HOUR, Duration::ZERO));
    client.request(3, "GET", "/", END_STREAM).await;
    let (mut answered, mut told) = (false, false);
    let both = |frame: &Frame| {
        answered |= frame.kind == HEADERS && frame.stream == 3;
        told |= frame.kind == GOAWAY;
        answered && told
    };
    assert!(client.until(both).await.is_some(), "an answer and GOAWAY");
    blue.release();
    let slow = client.until(|frame| frame.stream == 1 && frame.flags & END_STREAM != 0).await;
    assert!(slow.is_some(), "what was under way is answered to its end");
    client.until_closed().await;
    counted(&proxy, Counts { requests: 1, connections: 1, told: 1 }).await;
}

#[tokio::test]
async fn the_pace_is_kept_and_no_answer_is_lost() {
    let blue = Backend::start("blue").await;
    let proxy = Inside::start(&blue, "").await;
    let (mut ones, mut twos) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        ones.push(Client::http1(&proxy).await);
        twos.push(Client::http2(&proxy).await);
    }
    let begun = Instant::now();
    proxy.service.tail.pace(10);
    proxy.service.tail.begin(shifted(HOUR, Duration::ZERO));
    let told = || span(&proxy).counts().told;
    while told() < 12 {
        for client in &mut ones {
            let answer = client.get("/").await;
            assert_eq!(answer.status, 200);
            if answer.header("connection") == Some("close") {
                *client = Client::http1(&proxy).await;
            }
        }
        for client in &mut twos {
            // A client that has been told may find its connection gone before it has asked anything on it.
            if client.try_send(Request::get("/").body(body::empty()).unwrap()).await.is_err() {
                *client = Client::http2(&proxy).await;
            }
        }
        // Read before the clock, so that the bound is a bound.
        let (told, passed) = (told(), begun.elapsed());
        assert!(told as f64 <= 1.0 + 10.0 * passed.as_secs_f64(), "{told} in {passed:?}");
        assert!(passed < Duration::from_secs(60), "{told} in {passed:?}");
    }
}

#[tokio::test]
async fn nobody_is_told_before_the_answer_has_expired_nor_on_a_young_connection_nor_where_it_is_off() {
    let blue = Backend::start("blue").await;
    let proxy = Inside::start(&blue, "").await;
    let mut client = Client::http1(&proxy).await;
    for (rate, shift) in [
        (ALL, shifted(Duration::ZERO, HOUR)),
        // Expired; but who has connected since may have looked the name up just now.
        (ALL, shifted(2 * HOUR, HOUR)),
        (0, shifted(HOUR, Duration::ZERO)),
    ] {
        proxy.service.tail.pace(rate);
        proxy.service.tail.begin(shift);
        assert_eq!(client.get("/").await.header("connection"), None, "{rate} {shift:?}");
    }
    let counts = Counts { requests: 3, connections: 3, told: 0 };
    let total = || proxy.service.tail.total();
    assert!(eventually(PATIENCE, || async { total() == counts }).await, "{:?}", total());
}

#[tokio::test]
async fn an_upgrade_is_left_alone() {
    let blue = Backend::start("blue").await;
    let proxy = Inside::start(&blue, "").await;
    proxy.service.tail.pace(ALL);
    proxy.service.tail.begin(shifted(HOUR, Duration::ZERO));
    let mut tunnel = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    assert_eq!(tunnel.hear().await.as_deref(), Some("blue"));
    tunnel.say("still there").await;
    assert_eq!(tunnel.hear().await.as_deref(), Some("still there"));
    tunnel.close().await;
}
