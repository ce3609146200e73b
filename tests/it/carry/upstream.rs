//! Connections to endpoints: kept, found stale, tried elsewhere, and let go when the client goes.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{both, get, shop};
use crate::harness::{
    Backend, Client, Crowd, Cutover, PATIENCE, Raw, RawBackend, Service, WebSocket, eventually, within,
};

#[tokio::test]
async fn a_request_that_meets_a_stale_connection_goes_out_on_another() {
    let blue = Backend::start("blue").await;
    // One worker, so that each request finds the connection the one before it left.
    let service = |s: Service| s.blue([&blue]).health("/healthz");
    let proxy = Cutover::with().service("shop", service).workers(1).start().await;
    let mut client = Client::http1(&proxy).await;
    let mut raw = Raw::connect(&proxy).await;
    for round in 1..=20 {
        assert_eq!(client.post("/echo", "once").await.json()["body"], "once");
        blue.close_idle().await;
        assert_eq!(client.post("/echo", "again").await.json()["body"], "again");
        // Both at once, the request first: the proxy takes the connection before it can know that it is closed.
        proxy.pause().await;
        raw.write("POST /echo HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nthird").await;
        blue.close_idle().await;
        proxy.resume();
        let answer = raw.answer().await;
        assert_eq!(answer.status, 200, "round {round}: {}", answer.head);
        assert_eq!(blue.requests(), 3 * round, "each was sent once");
    }
}

#[tokio::test]
async fn a_backend_that_closes_without_a_word_loses_nothing() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    blue.close_after(1);
    let crowd = Crowd::of(4).start(&proxy);
    crowd.seen(200).await;
    crowd.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn a_request_an_endpoint_does_not_accept_goes_to_another() {
    let (left, right) = (Backend::start("left").await, Backend::start("right").await);
    let service = |s: Service| s.blue([&left, &right]).health("/healthz").extra("health", RARE);
    let proxy = Cutover::with().service("shop", service).start().await;
    all_up(&proxy).await;
    left.stop_listening().await;
    left.close_idle().await;
    for mut client in both(&proxy).await {
        for _ in 0..20 {
            assert_eq!(client.post("/echo", "x").await.backend(), Some("right"));
        }
    }
}

#[tokio::test]
async fn the_less_busy_endpoint_is_chosen() {
    let (left, right) = (Backend::start("left").await, Backend::start("right").await);
    let service = |s: Service| s.blue([&left, &right]).health("/healthz");
    let proxy = Cutover::with().service("shop", service).workers(1).start().await;
    all_up(&proxy).await;
    let mut clients = (Client::http1(&proxy).await, Client::http1(&proxy).await);
    let (one, other, ()) = tokio::join!(clients.0.get("/slow"), clients.1.get("/slow"), async {
        left.waiting(1).await;
        right.waiting(1).await;
        left.release();
        right.release();
    });
    assert_ne!(one.backend(), other.backend());
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_connection_behind() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for path in ["/slow", "/events", "/bytes/67108864"] {
        for mut client in both(&proxy).await {
            let begun = blue.requests();
            tokio::select! {
                answer = client.open(get(path)) => drop(answer),
                () = blue.waiting(1) => {}
            }
            drop(client);
            assert_eq!(blue.requests(), begun + 1);
            assert!(eventually(PATIENCE, || async { blue.connections() == 0 && blue.held() == 0 }).await, "{path}");
        }
    }
    let blue = [("service", "shop"), ("color", "blue")];
    let nobody = || async { proxy.metrics().await.value("cutover_requests_in_flight", &blue) == 0.0 };
    assert!(eventually(PATIENCE, nobody).await, "a request is counted for ever");
}

#[tokio::test]
async fn a_post_that_was_sent_is_not_sent_again() {
    let posts = Arc::new(AtomicUsize::new(0));
    let counter = posts.clone();
    let dying = RawBackend::start(move |head, socket| {
        if head.starts_with("POST ") {
            counter.fetch_add(1, Ordering::Relaxed);
            let _ = socket.shutdown(Shutdown::Both);
        } else {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = shop(&dying).await;
    let mut client = Client::http1(&proxy).await;
    for sent in 1..=5 {
        assert_eq!(client.get("/").await.status, 200, "leaves a connection to be used again");
        let answer = client.post("/", "once").await;
        assert_eq!((answer.status, answer.refusal().is_some()), (502, true));
        assert_eq!(posts.load(Ordering::Relaxed), sent);
    }
}

#[tokio::test]
async fn a_connection_that_has_switched_protocols_unasked_is_ended_and_carries_no_other_request() {
    let (blue, mut told) = RawBackend::switching();
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        for _ in 0..3 {
            assert_eq!(client.get("/").await.status, 502);
            assert!(within("the end of the connection", told.recv()).await.unwrap(), "it was used again");
        }
    }
    assert!(WebSocket::try_connect(&proxy, "shop.test", "/ws").await.is_err(), "it is another protocol");
    assert!(within("the end of the connection", told.recv()).await.unwrap(), "it was used again");
}

/// Resolves when every endpoint of blue has passed its first check.
async fn all_up(proxy: &Cutover) {
    let up = || async {
        let shop = proxy.service("shop").await;
        shop["blue"]["endpoints"].as_array().unwrap().iter().all(|endpoint| endpoint["up"] == true)
    };
    assert!(eventually(PATIENCE, up).await, "not every endpoint is up");
}

/// One check at the start, none later in the story.
const RARE: &str = "interval = \"1h\"";
