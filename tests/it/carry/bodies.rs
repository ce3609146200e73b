//! Bodies: streamed both ways with back-pressure, in every framing, cut where they were cut.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use http::{Method, Request};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{bare, both, get, shop};
use crate::harness::{Backend, Client, Cutover, Raw, RawBackend, Service, body, eventually};

#[tokio::test]
async fn every_framing_arrives_whole() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let bytes = client.get("/bytes/100000").await;
        assert_eq!((bytes.header("content-length"), bytes.body.len()), (Some("100000"), 100_000));
        assert_eq!(client.get("/chunks/3").await.text(), "chunk 0\nchunk 1\nchunk 2\n");
        assert_eq!(client.post("/echo", "with a length").await.json()["body"], "with a length");
        let (feed, body) = body::fed();
        let pieces = async {
            feed.send("in ").await;
            feed.send("pieces").await;
            drop(feed);
        };
        let (answer, ()) = tokio::join!(client.send(Request::post("/echo").body(body).unwrap()), pieces);
        assert_eq!(answer.json()["body"], "in pieces");
    }
}

/// All of a worker's answers are read into one place: what is on its way through it must stay its own request's.
#[tokio::test]
async fn answers_that_come_in_bits_at_the_same_time_do_not_mix() {
    let blue = RawBackend::start(|head, socket| {
        socket.set_nodelay(true).unwrap();
        let path = head.split(' ').nth(1).unwrap();
        let text = path.repeat(300);
        let chunks: String = text.as_bytes().chunks(100).map(|it| format!("64\r\n{}\r\n", it.escape_ascii())).collect();
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-Path: {path}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        answer.as_bytes().chunks(7).for_each(|bit| socket.write_all(bit).unwrap());
    });
    let with = |service: Service| service.blue([&blue]).health("/healthz");
    let proxy = Cutover::with().service("shop", with).workers(1).start().await;
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..8 {
        let [mut plain, mut streams] = both(&proxy).await;
        clients.spawn(async move {
            for client in [&mut plain, &mut streams] {
                let path = format!("/{n}");
                let answer = client.get(&path).await;
                assert_eq!((answer.header("x-path"), answer.text()), (Some(path.as_str()), path.repeat(300).as_str()));
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test]
async fn each_piece_is_passed_on_when_it_comes() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let mut chunks = client.open(get("/chunks/2?gated")).await;
        for chunk in ["chunk 0\n", "chunk 1\n"] {
            blue.waiting(1).await;
            blue.release();
            assert_eq!(chunks.chunk().await.unwrap(), chunk);
        }
        assert_eq!(chunks.chunk().await, None);
        let mut events = client.open(get("/events")).await;
        assert_eq!(events.chunk().await.unwrap(), "data: blue\n\n");
        blue.waiting(1).await;
        blue.release();
        assert_eq!(events.rest().await.text(), "data: released\n\n");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_download_back() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let (begun, memory) = (blue.bytes_sent(), proxy.memory_kib());
        let download = client.open(get(&format!("/bytes/{LARGE}"))).await;
        let sent = stalled(|| blue.bytes_sent() - begun).await;
        assert!(sent < LARGE, "all of it left the backend although nobody reads");
        assert_grown_little(&proxy, memory);
        assert_eq!(download.rest().await.body.len() as u64, LARGE);
        assert_grown_little(&proxy, memory);
    }
}

#[tokio::test]
async fn a_backend_that_does_not_read_holds_the_upload_back() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let memory = proxy.memory_kib();
        let taken = Arc::new(AtomicU64::new(0));
        let counter = taken.clone();
        let zeros = body::zeros(LARGE, move |size| {
            counter.fetch_add(size, Ordering::Relaxed);
        });
        let (answer, ()) = tokio::join!(client.send(Request::post("/sink").body(zeros).unwrap()), async {
            blue.waiting(1).await;
            let sent = stalled(|| taken.load(Ordering::Relaxed)).await;
            assert!(sent < LARGE, "all of it was taken although the backend does not read");
            assert_grown_little(&proxy, memory);
            blue.release();
        });
        assert_eq!(answer.json()["length"], LARGE);
        assert_grown_little(&proxy, memory);
    }
}

/// Small chunks are copied and large ones are not, and either ends before the next is waited for.
#[tokio::test]
async fn a_backend_that_reads_whole_chunks_has_each_before_the_next_is_sent() {
    let blue = RawBackend::start(|_, socket| {
        for size in [4, 6_000] {
            let chunk = format!("{size:x}\r\n{}\r\n", "m".repeat(size));
            let mut came = vec![0; chunk.len()];
            socket.read_exact(&mut came).unwrap();
            assert!(came == chunk.as_bytes(), "{size}: it begins {}", came[..8].escape_ascii());
            let told = if size == 4 { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" } else { "" };
            socket.write_all(format!("{told}4\r\ntook\r\n").as_bytes()).unwrap();
        }
        socket.write_all(b"0\r\n\r\n").unwrap();
    });
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let (feed, body) = body::fed();
        let request = Request::post("/").header("content-type", "application/grpc").body(body).unwrap();
        feed.send("m".repeat(4)).await;
        let mut answer = client.open(request).await;
        assert_eq!(answer.chunk().await.unwrap(), "took");
        feed.send("m".repeat(6_000)).await;
        assert_eq!(answer.chunk().await.unwrap(), "took");
        drop(feed);
        assert!(answer.chunk().await.is_none());
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_cut_by_a_reset() {
    let (has_read, wait) = mpsc::channel();
    let wait = Arc::new(Mutex::new(wait));
    let blue = RawBackend::start(move |_, socket| {
        socket.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it").unwrap();
        wait.lock().unwrap().recv().unwrap();
        SockRef::from(&*socket).set_linger(Some(Duration::ZERO)).unwrap();
        socket.shutdown(Shutdown::Read).unwrap();
    });
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let mut answer = client.open(get("/")).await;
        assert_eq!(answer.chunk().await.unwrap(), "half of it");
        has_read.send(()).unwrap();
        assert!(answer.try_rest().await.is_err(), "it is not whole");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_no_whole_one_to_a_client_of_http_1_0() {
    let blue = RawBackend::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let proxy = shop(&blue).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await.unwrap();
    let read = client.read_to_end(&mut Vec::new()).await;
    assert_eq!(read.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let answer = client.send(bare(Request::get("/trailers").header("te", "trailers"))).await;
        assert_eq!((answer.text(), answer.trailers.get("x-sum").unwrap()), ("body", &"4".parse().unwrap()));
        let (feed, body) = body::fed();
        let upload = Request::post("/echo").header("trailer", "x-sum").body(body).unwrap();
        let (answer, ()) = tokio::join!(client.send(upload), async {
            feed.send("hello").await;
            feed.trailers(&[("x-sum", "5")]).await;
        });
        assert_eq!((&answer.json()["body"], &answer.json()["trailers"]), (&"hello".into(), &json!([["x-sum", "5"]])));
    }
}

/// HTTP/2 may have trailers behind a body whose length it has told, HTTP/1.1 behind chunks alone.
#[tokio::test]
async fn trailers_behind_a_length_pass_where_they_are_announced_however_long_the_body_is() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut client = Client::http2(&proxy).await;
    for length in [5, 200_000] {
        for (announced, framing, trailers) in
            [(true, "transfer-encoding", json!([["x-sum", "5"]])), (false, "content-length", json!([]))]
        {
            let (feed, body) = body::fed();
            let mut upload = Request::post("/echo").header("content-length", length);
            if announced {
                upload = upload.header("trailer", "x-sum");
            }
            let (answer, ()) = tokio::join!(client.send(upload.body(body).unwrap()), async {
                feed.send(vec![b'x'; length]).await;
                feed.trailers(&[("x-sum", "5")]).await;
            });
            let echo = answer.json();
            assert_eq!((echo["body"].as_str().unwrap().len(), &echo["trailers"]), (length, &trailers), "{announced}");
            assert!(blue.last_head().header(framing).is_some(), "{length} {announced}");
        }
    }
}

#[tokio::test]
async fn who_expects_100_is_told_to_go_on() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut raw = Raw::connect(&proxy).await;
    raw.write("POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 100 "));
    raw.write("hello").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.complete), (200, true));
}

#[tokio::test]
async fn an_answer_may_come_before_the_upload_is_over() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut raw = Raw::connect(&proxy).await;
    raw.write("POST /early HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 200000\r\n\r\n").await;
    raw.write([0; 100_000]).await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.body.as_slice()), (413, &b"blue\n"[..]));
    let (feed, body) = body::fed();
    let mut client = Client::http2(&proxy).await;
    let (answer, _) =
        tokio::join!(client.send(Request::post("/early").body(body).unwrap()), feed.send([0; 100_000].as_slice()));
    assert_eq!((answer.status, answer.backend()), (413, Some("blue")));
}

#[tokio::test]
async fn an_answer_without_a_body_has_none_and_the_next_one_follows() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let head = client.send(bare(Request::builder().method(Method::HEAD).uri("/bytes/7"))).await;
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("7"), 0));
        let nobody = client.get("/nobody").await;
        assert_eq!((nobody.status, nobody.header("content-length"), nobody.body.len()), (204, None, 0));
        let same = client.get("/notmodified").await;
        assert_eq!((same.status, same.header("etag"), same.body.len()), (304, Some("\"v1\""), 0));
        assert_eq!(client.get("/").await.text(), "blue\n");
    }
}

#[tokio::test]
async fn an_interim_answer_breaks_nothing() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        assert_eq!(client.get("/1xx").await.text(), "blue\n");
        assert_eq!(client.get("/").await.text(), "blue\n");
    }
}

/// The figure once it has not moved for a while.
async fn stalled(figure: impl Fn() -> u64) -> u64 {
    let mut last = figure();
    while eventually(A_WHILE, || async { figure() != last }).await {
        last = figure();
    }
    last
}

fn assert_grown_little(proxy: &Cutover, before: u64) {
    let now = proxy.memory_kib();
    assert!(now < before + 24 * 1024, "the proxy grew from {before} to {now} KiB");
}

/// More than the kernel's buffers along the way can hold.
const LARGE: u64 = 64 << 20;
const A_WHILE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn whoever_says_that_this_is_the_last_request_hears_all_of_the_answer_and_the_end() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for (path, length) in [("/", 5), ("/bytes/3000000", 3_000_000), ("/chunks/50", 440), ("/nobody", 0)] {
        let mut raw = Raw::connect(&proxy).await;
        raw.write(format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")).await;
        let answer = raw.answer().await;
        assert!(answer.complete && answer.body.len() == length, "{path}: {} of {length}", answer.body.len());
        assert!(answer.head.contains("connection: close\r\n"), "{path}: {}", answer.head);
        assert_eq!(raw.until_closed().await, b"", "{path}");
    }
    // Where hyper overlooks it as well.
    let odd = b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: x\x80, close\r\n\r\n";
    let mut raw = Raw::saying(&proxy, odd).await;
    let answer = raw.answer().await;
    assert!(answer.head.contains("connection: close\r\n"), "{}", answer.head);
    assert_eq!(raw.until_closed().await, b"");
    // What is there of an answer goes out, though more is to come.
    let mut raw = Raw::connect(&proxy).await;
    raw.write("GET /chunks/2?gated HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    for chunk in ["8\r\nchunk 0\n\r\n", "8\r\nchunk 1\n\r\n"] {
        blue.waiting(1).await;
        blue.release();
        if chunk.contains('0') {
            raw.head().await;
        }
        assert_eq!(raw.bytes(chunk.len()).await, (chunk.as_bytes().to_vec(), true));
    }
    assert_eq!(raw.until_closed().await, b"0\r\n\r\n");
}
