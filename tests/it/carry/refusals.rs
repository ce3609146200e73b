//! Answers the proxy makes itself: the right code, marked with a reason, counted under it.

use std::net::{Ipv4Addr, SocketAddr};

use http::Request;

use super::{both, get, shop};
use crate::harness::{Address, Answer, Backend, Client, Cutover, Health, Raw, RawBackend, Service, body};

#[tokio::test]
async fn a_host_nobody_claims_is_404() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for client in both(&proxy).await {
        assert_refused(&proxy, client.host("other.test").get("/").await, 404).await;
    }
}

#[tokio::test]
async fn two_hosts_are_400() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut raw = Raw::saying(&proxy, "GET / HTTP/1.1\r\nHost: shop.test\r\nHost: shop.test\r\n\r\n").await;
    assert_raw_refused(&mut raw, 400).await;
    assert_eq!(blue.requests(), 0);
}

#[tokio::test]
async fn a_backend_that_is_gone_is_502() {
    let blue = Backend::start("blue").await;
    let proxy = with(|s| s.blue([&blue]).extra("health", "interval = \"1h\"")).await;
    blue.stop_listening().await;
    blue.close_idle().await;
    for mut client in both(&proxy).await {
        assert_refused(&proxy, client.get("/").await, 502).await;
        assert_refused(&proxy, client.post("/", "x").await, 502).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_502() {
    let answers = [
        "",
        "HTTP/1.1 2",
        "no http at all\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    for bytes in answers {
        let blue = RawBackend::answering(bytes);
        let proxy = shop(&blue).await;
        for mut client in both(&proxy).await {
            assert_refused(&proxy, client.get("/").await, 502).await;
        }
    }
}

#[tokio::test]
async fn no_healthy_endpoint_is_503() {
    let (blue, nobody) = (Backend::start("blue").await, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    blue.health(Health::Failing(500));
    let service = |s: Service| s.blue([&blue as &dyn Address, &nobody]).health("/healthz");
    let proxy = Cutover::with().service("shop", service).start_unready().await;
    for mut client in both(&proxy).await {
        assert_refused(&proxy, client.get("/").await, 503).await;
    }
    assert_eq!(blue.requests(), 0);
}

#[tokio::test]
async fn a_backend_that_does_not_begin_to_answer_is_504() {
    let blue = Backend::start("blue").await;
    let hasty = |s: Service| s.hosts(&["shop.test"]).blue([&blue]).extra("timeouts", "first_byte = \"100ms\"");
    let patient = |s: Service| s.hosts(&["patient.test"]).blue([&blue]);
    let proxy = Cutover::with().service("shop", hasty).service("patient", patient).start().await;
    for mut client in both(&proxy).await {
        assert_refused(&proxy, client.get("/slow").await, 504).await;
        let next = Request::get("http://patient.test/").body(body::empty()).unwrap();
        assert_eq!(client.send(next).await.status, 200, "the connection goes on");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let blue = Backend::start("blue").await;
    let proxy = with(|s| s.blue([&blue]).extra("limits", "request_body = \"1KiB\"")).await;
    for mut client in both(&proxy).await {
        assert_eq!(client.post("/echo", vec![b'x'; 1024]).await.json()["length"], 1024);
        let declared = Request::post("/echo").body(body::full(vec![b'x'; 1025])).unwrap();
        assert_refused(&proxy, client.send(declared).await, 413).await;
    }
    for mut client in both(&proxy).await {
        let undeclared = Request::post("/echo").body(body::zeros(1025, |_| {})).unwrap();
        assert_refused(&proxy, client.send(undeclared).await, 413).await;
    }
}

#[tokio::test]
async fn an_upload_that_stalls_is_408() {
    let blue = Backend::start("blue").await;
    let proxy = with(|s| s.blue([&blue]).extra("timeouts", "body = \"100ms\"")).await;
    let mut raw = Raw::connect(&proxy).await;
    raw.write("POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100\r\n\r\nbegin").await;
    assert_raw_refused(&mut raw, 408).await;
    let (feed, body) = body::fed();
    feed.send("begin").await;
    let mut client = Client::http2(&proxy).await;
    assert_refused(&proxy, client.send(Request::post("/echo").body(body).unwrap()).await, 408).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut raw = Raw::saying(&proxy, "GET / HTTP/1.1\r\nHost: shop.test\r\n").await;
    for i in 0..16 {
        raw.write(format!("X-{i}: {}\r\n", "x".repeat(8 << 10))).await;
    }
    raw.write("\r\n").await;
    assert_raw_refused(&mut raw, 431).await;
    assert_eq!(blue.requests(), 0);
}

#[tokio::test]
async fn an_answer_cut_by_the_backend_is_cut_for_the_client() {
    let blue = Backend::start("blue").await;
    let chunked = RawBackend::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let proxies = [(shop(&blue).await, "half"), (shop(&chunked).await, "hello")];
    for (proxy, begin) in &proxies {
        let mut raw = Raw::saying(proxy, "GET /die-midway HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        let cut = raw.answer().await;
        assert_eq!((cut.status, cut.complete), (200, false), "{cut:?}");
        assert!(begin.as_bytes().starts_with(&cut.body));
        for mut client in both(proxy).await {
            assert!(client.try_send(get("/die-midway")).await.is_err());
        }
    }
}

async fn with(describe: impl FnOnce(Service) -> Service) -> Cutover {
    Cutover::with().service("shop", |s| describe(s.hosts(&["shop.test"]).health("/healthz"))).start().await
}

async fn assert_refused(proxy: &Cutover, answer: Answer, status: u16) {
    assert_eq!((answer.status, answer.backend()), (status, None), "{answer:?}");
    let reason = answer.refusal().unwrap_or_else(|| panic!("no reason in {answer:?}"));
    assert!(proxy.metrics().await.value("cutover_refusals_total", &[("reason", reason)]) >= 1.0, "{reason}");
}

async fn assert_raw_refused(raw: &mut Raw, status: u16) {
    let answer = raw.answer().await;
    assert_eq!(answer.status, status, "{}", answer.head);
    assert!(answer.head.to_ascii_lowercase().contains("\r\ncutover-error: "), "{}", answer.head);
}
