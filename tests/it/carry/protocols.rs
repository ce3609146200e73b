//! Versions of HTTP: both on one cleartext port, either by ALPN on TLS, HTTP/1.1 behind.

use std::time::Duration;

use http::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{both, get, shop};
use crate::harness::{Backend, Ca, Client, Crowd, Cutover, Raw, within};

#[tokio::test]
async fn both_versions_share_a_cleartext_port_and_become_http1() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for (mut client, version) in both(&proxy).await.into_iter().zip([Version::HTTP_11, Version::HTTP_2]) {
        let answer = client.get("/echo?a=%20b&c").await;
        assert_eq!((answer.status, answer.version), (200, version));
        assert_eq!(
            (&answer.json()["version"], &answer.json()["target"]),
            (&"HTTP/1.1".into(), &"/echo?a=%20b&c".into())
        );
    }
    let counted = proxy.metrics().await;
    let labels = [("service", "shop"), ("color", "blue"), ("code", "2xx")];
    assert_eq!(counted.value("cutover_requests_total", &labels), 2.0);
    assert_eq!(counted.value("cutover_requests_in_flight", &labels[..2]), 0.0);
}

#[tokio::test]
async fn tls_speaks_what_alpn_agreed_on() {
    let blue = Backend::start("blue").await;
    let ca = Ca::new();
    let proxy = Cutover::with().tls(&ca, &["shop.test"]).service("shop", |s| s.blue([&blue])).start().await;
    let offers: [(&[&str], Version); 4] = [
        (&["h2", "http/1.1"], Version::HTTP_2),
        (&["h2"], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ];
    for (alpn, version) in offers {
        let mut client = Client::tls(proxy.tls_address(), &ca, "shop.test", alpn).await;
        let answer = client.get("/").await;
        assert_eq!((answer.version, answer.backend()), (version, Some("blue")), "{alpn:?}");
        assert_eq!(blue.last_head().header("x-forwarded-proto").as_deref(), Some("https"));
    }
}

#[tokio::test]
async fn another_protocol_than_alpn_agreed_on_is_not_spoken() {
    let blue = Backend::start("blue").await;
    let ca = Ca::new();
    let proxy = Cutover::with().tls(&ca, &["shop.test"]).service("shop", |s| s.blue([&blue])).start().await;
    let (http1, http2) =
        ("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    for (alpn, said) in [(&["http/1.1"][..], http2), (&[], http2), (&["h2"], http1)] {
        let mut stream = ca.connect(proxy.tls_address(), "shop.test", alpn).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        // How it ends is no matter: with an answer that refuses, or without.
        let _ = within("the end of the connection", stream.read_to_end(&mut Vec::new())).await;
    }
    assert_eq!(blue.requests(), 0);
}

#[tokio::test]
async fn a_connection_carries_many_requests_and_so_does_the_one_behind_it() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut client = Client::http1(&proxy).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.status, 200);
    }
    // Whether a connection is back in time for the very next request is a race, seldom lost.
    assert!(blue.requests() == 50 && blue.accepted() <= 5, "{} connections", blue.accepted());
}

#[tokio::test]
async fn crowds_of_both_versions_lose_nothing() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let quick = Crowd::of(16).http2().start(&proxy);
    let pause = Duration::from_millis(5);
    let slow = Crowd::of(16).host("shop.test").path("/chunks/3").think(pause).start(&proxy);
    tokio::join!(quick.seen(200), slow.seen(100));
    for tally in [quick.stop().await, slow.stop().await] {
        tally.assert_nothing_lost();
        assert_eq!(tally.from("blue"), tally.requests);
    }
}

#[tokio::test]
async fn streams_of_one_http2_connection_do_not_wait_for_each_other() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut first = Client::http2(&proxy).await;
    let (mut second, mut third) = (first.twin(), first.twin());
    let (slow, slower, ()) = tokio::join!(first.get("/slow"), second.get("/slow"), async {
        blue.waiting(2).await;
        assert_eq!(third.send(get("/")).await.status, 200);
        blue.release();
    });
    assert_eq!((slow.status, slower.status), (200, 200));
}

#[tokio::test]
async fn a_backend_that_closes_its_connection_does_not_close_the_clients() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        assert_eq!(client.get("/close").await.header("connection"), None);
        assert_eq!(client.get("/close").await.status, 200);
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_keeps_its_connection_but_where_it_is_told_that_it_ends() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let get = |path: &str, more: &[u8]| {
        let head = format!("GET {path} HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n");
        [head.as_bytes(), more, b"\r\n"].concat()
    };
    let mut raw = Raw::saying(&proxy, get("/", b"")).await;
    let answer = raw.answer().await;
    assert!(answer.head.contains("\r\nconnection: keep-alive\r\n"), "{}", answer.head);
    // Its end is that of the connection.
    raw.write(get("/chunks/2", b"")).await;
    let unbounded = raw.answer().await;
    assert_eq!(unbounded.body, b"chunk 0\nchunk 1\n");
    // As any that is told to leave.
    let mut raw = Raw::saying(&proxy, get("/", b"Connection: x\x80, close\r\n")).await;
    let told = raw.answer().await;
    assert_eq!((&*told.body, &*raw.until_closed().await), (&b"blue\n"[..], &b""[..]));
    for answer in [unbounded, told] {
        assert!(answer.head.contains("\r\nconnection: close\r\n"), "{}", answer.head);
    }
}
