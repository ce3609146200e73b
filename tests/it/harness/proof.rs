//! The harness proven on itself: every client against every path of a backend, without a proxy between.

use std::io::{Read, Write};
use std::time::Duration;

use http::{Method, Request};

use super::{Address, Backend, Client, Crowd, Health, Metrics, PATIENCE, Raw, RawBackend, WebSocket, body, eventually};

#[tokio::test]
async fn a_backend_answers_with_its_name_and_keeps_what_it_saw() {
    let blue = Backend::start("blue").await;
    let mut client = Client::http1(&blue).await;
    let answer = client.get("/any?x=1").await;
    assert_eq!((answer.status, answer.text(), answer.backend()), (200, "blue\n", Some("blue")));
    assert_eq!(client.get("/status/418").await.status, 418);
    assert_eq!((blue.requests(), blue.accepted(), blue.connections(), blue.sockets()), (2, 1, 1, 1));
    assert_eq!(blue.heads()[0].target, "/any?x=1");
    assert_eq!(blue.last_head().header("host").as_deref(), Some("shop.test"));
    drop(client);
    assert!(eventually(PATIENCE, || async { blue.sockets() + blue.connections() == 0 }).await);
}

#[tokio::test]
async fn an_echo_tells_everything_that_arrived() {
    let blue = Backend::start("blue").await;
    let (feed, body) = body::fed();
    let request = Request::put("/echo?q").header("x-a", "1").header("x-a", "2").header("trailer", "x-sum");
    let send = async {
        feed.send("hel").await;
        feed.send("lo").await;
        feed.trailers(&[("x-sum", "5")]).await;
    };
    let mut client = Client::http1(&blue).await;
    let (answer, ()) = tokio::join!(client.send(request.body(body).unwrap()), send);
    let echo = answer.json();
    assert_eq!(
        (&echo["method"], &echo["target"], &echo["version"]),
        (&"PUT".into(), &"/echo?q".into(), &"HTTP/1.1".into())
    );
    assert_eq!((&echo["length"], &echo["body"], &echo["backend"]), (&5.into(), &"hello".into(), &"blue".into()));
    assert_eq!(echo["trailers"], serde_json::json!([["x-sum", "5"]]));
    assert_eq!(echo["headers"].as_array().unwrap().iter().filter(|field| field[0] == "x-a").count(), 2);
}

#[tokio::test]
async fn health_is_what_the_story_says() {
    let blue = Backend::start("blue").await;
    let mut client = Client::http1(&blue).await;
    assert_eq!(client.get("/healthz").await.status, 200);
    blue.health(Health::Failing(503));
    assert_eq!(client.get("/healthz").await.status, 503);
    blue.health(Health::Hanging);
    let mut hanging = Client::http1(&blue).await;
    let waited = tokio::time::timeout(Duration::from_millis(20), hanging.get("/healthz")).await;
    assert!(waited.is_err());
    blue.health(Health::Refusing);
    assert!(client.try_send(Request::get("/healthz").body(body::empty()).unwrap()).await.is_err());
    assert_eq!((blue.checks(), blue.requests(), blue.connections()), (4, 0, 0));
}

#[tokio::test]
async fn the_gate_holds_requests_streams_and_chunks_until_released() {
    let blue = Backend::start("blue").await;
    let mut slow = Client::http1(&blue).await;
    let (answer, ()) = tokio::join!(slow.get("/slow"), async {
        blue.waiting(1).await;
        blue.release();
    });
    assert_eq!(answer.text(), "blue\n");

    let get = |path: &str| Request::get(path).body(body::empty()).unwrap();
    let mut chunked = Client::http1(&blue).await;
    let mut chunks = chunked.open(get("/chunks/2?gated")).await;
    for chunk in ["chunk 0\n", "chunk 1\n"] {
        blue.waiting(1).await;
        blue.release();
        assert_eq!(chunks.chunk().await.unwrap(), chunk);
    }
    assert_eq!(chunks.chunk().await, None);
    assert_eq!(chunked.get("/chunks/3").await.text().lines().count(), 3);

    let mut events = chunked.open(get("/events")).await;
    assert_eq!(events.chunk().await.unwrap(), "data: blue\n\n");
    blue.waiting(1).await;
    blue.release();
    assert_eq!(events.rest().await.text(), "data: released\n\n");

    let upload = Request::post("/sink").body(body::zeros(1 << 20, |_| {})).unwrap();
    let (answer, ()) = tokio::join!(chunked.send(upload), async {
        blue.waiting(1).await;
        blue.release();
    });
    assert_eq!(answer.json()["length"], 1 << 20);
}

#[tokio::test]
async fn bodies_come_in_every_framing() {
    let blue = Backend::start("blue").await;
    let mut client = Client::http1(&blue).await;
    let bytes = client.get("/bytes/100000").await;
    assert_eq!(
        (bytes.header("content-length"), bytes.body.len(), blue.bytes_sent()),
        (Some("100000"), 100_000, 100_000)
    );
    let head = Request::builder().method(Method::HEAD).uri("/bytes/7").body(body::empty()).unwrap();
    let head = client.send(head).await;
    assert_eq!((head.header("content-length"), head.body.len()), (Some("7"), 0));
    let trailers = client.send(Request::get("/trailers").header("te", "trailers").body(body::empty()).unwrap()).await;
    assert_eq!((trailers.text(), trailers.trailers.get("x-sum").unwrap()), ("body", &"4".parse().unwrap()));
    assert_eq!(client.get("/nobody").await.status, 204);
    assert_eq!(client.get("/notmodified").await.header("etag"), Some("\"v1\""));
    assert_eq!(client.get("/private").await.header("x-hop"), Some("secret"));
    assert_eq!(client.get("/close").await.header("connection"), Some("close"));
    assert!(client.try_send(Request::get("/").body(body::empty()).unwrap()).await.is_err());
}

#[tokio::test]
async fn a_raw_client_sees_interim_answers_and_cut_ones() {
    let blue = Backend::start("blue").await;
    let mut raw = Raw::connect(&blue).await;
    raw.write("GET /1xx HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 103 "));
    assert_eq!(raw.answer().await.body, b"blue\n");
    raw.write("GET /chunks/2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let chunks = raw.answer().await;
    assert_eq!((chunks.body.as_slice(), chunks.complete), (&b"chunk 0\nchunk 1\n"[..], true));
    raw.write("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nbegin").await;
    assert_eq!(raw.answer().await.status, 413);
    let mut raw = Raw::connect(&blue).await;
    raw.write("GET /die-midway HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let cut = raw.answer().await;
    assert_eq!((cut.status, cut.body.as_slice(), cut.complete), (200, &b"half"[..], false));
}

#[tokio::test]
async fn a_websocket_hears_the_name_and_its_own_words() {
    let mut blue = Backend::start("blue").await;
    let mut socket = WebSocket::connect(&blue, "shop.test", "/ws").await;
    assert_eq!(socket.hear().await.as_deref(), Some("blue"));
    socket.say("hello").await;
    assert_eq!(socket.hear().await.as_deref(), Some("hello"));
    socket.close().await;
    let mut cut = WebSocket::connect(&blue, "shop.test", "/ws").await;
    cut.hear().await;
    assert_eq!(Client::http1(&blue).await.get("/ws").await.status, 426);
    blue.kill();
    assert_eq!(cut.hear().await, None);
}

#[tokio::test]
async fn connections_end_when_and_how_the_story_says() {
    let mut blue = Backend::start("blue").await;
    let (mut idle, mut busy) = (Client::http1(&blue).await, Client::http1(&blue).await);
    let get = |path: &str| Request::get(path).body(body::empty()).unwrap();
    idle.get("/").await;
    let (answer, ()) = tokio::join!(busy.get("/slow"), async {
        blue.waiting(1).await;
        blue.close_idle().await;
        blue.release();
    });
    assert_eq!(answer.status, 200);
    assert!(idle.try_send(get("/")).await.is_err());

    blue.close_after(2);
    let mut counted = Client::http1(&blue).await;
    counted.get("/").await;
    assert_eq!(counted.get("/").await.header("connection"), None);
    assert!(counted.try_send(get("/")).await.is_err());

    blue.stop_listening().await;
    assert!(Client::try_http1(blue.address()).await.is_err());
    blue.listen_again().await;
    let mut late = Client::http1(&blue).await;
    assert_eq!(late.get("/").await.status, 200);
    blue.kill();
    assert!(late.try_send(get("/")).await.is_err());
    assert!(Client::try_http1(blue.address()).await.is_err());
}

#[tokio::test]
async fn a_raw_backend_says_any_bytes() {
    let garbage = RawBackend::answering("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n");
    let mut client = Client::http1(&garbage).await;
    assert_eq!(client.get("/healthz").await.status, 200);
    assert!(client.try_send(Request::get("/").body(body::empty()).unwrap()).await.is_err());
    let reader = RawBackend::start(|head, socket| {
        assert!(head.starts_with("POST /x "));
        let mut bytes = [0; 2];
        socket.read_exact(&mut bytes).unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").unwrap();
        socket.write_all(&bytes).unwrap();
    });
    assert_eq!(Client::http1(&reader).await.post("/x", "hi").await.text(), "hi");
}

#[tokio::test]
async fn a_crowd_counts_what_it_saw_and_what_it_lost() {
    let mut blue = Backend::start("blue").await;
    let crowd = Crowd::of(8).start(&blue);
    crowd.seen(200).await;
    crowd.tally().assert_nothing_lost();
    blue.kill();
    crowd.seen_more(40).await;
    let tally = crowd.stop().await;
    assert!(tally.from("blue") >= 200 && tally.failures >= 32 && tally.reasons.len() == 10, "{tally:#?}");
    assert_eq!(tally.requests, tally.from("blue") + tally.failures);
}

#[test]
fn a_page_of_metrics_is_summed_over_what_is_left_open() {
    let page =
        "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\na{x=\"2\",y=\"3\"} 5\nb 1.5e3\n";
    let metrics = Metrics::parse(page);
    assert_eq!(metrics.value("a", &[("x", "1")]), 7.0);
    assert_eq!(metrics.value("a", &[("x", "1"), ("y", "3")]), 4.0);
    assert_eq!(metrics.value("b", &[]), 1500.0);
}
