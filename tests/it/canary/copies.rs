//! The mirror: copies reach the other color and nobody notices, least of all the clients.

use std::io::Write;
use std::time::Duration;

use cutover::metrics::Mirrored;
use cutover::names::Color;
use http::Request;
use tokio::sync::mpsc;

use super::{bare, house, house_before, hundreds};
use crate::harness::{Backend, Client, Crowd, House, PATIENCE, RawBackend, Service, eventually, within};

fn mirrored(lines: &str) -> impl FnOnce(Service) -> Service {
    let lines = format!("mirror = {{ share = \"100%\", {lines} }}");
    move |service| service.extra("cutover", &lines)
}

/// Waits until so many copies have come to this end.
async fn until(house: &House, outcome: Mirrored, count: u64) {
    let pool = house.pool(Color::Green);
    let all_over = eventually(PATIENCE, || async { pool.mirrored().count(outcome) == count }).await;
    assert!(all_over, "{outcome:?}: {count} were expected in {:?}", pool.mirrored());
}

#[tokio::test]
async fn safe_requests_without_a_body_are_copied_marked_and_compared_and_not_counted_as_clients() {
    let (blue, green, house) = house(mirrored("timeout = \"10s\", concurrency = 32")).await;
    house.split(0).await;
    let [mut http1, mut http2] = [Client::http1(&house).await, Client::http2(&house).await];
    for client in [&mut http1, &mut http2] {
        for _ in 0..10 {
            let request = Request::get("/x?y").header("x-request-id", "the-same").header("cutover-mirror", "forged");
            assert_eq!(client.send(bare(request)).await.backend(), Some("blue"));
        }
        assert_eq!(client.send(bare(Request::head("/x?y").header("x-request-id", "the-same"))).await.status, 200);
        assert_eq!(client.post("/x?y", "a body").await.backend(), Some("blue"));
        assert_eq!(client.send(bare(Request::delete("/x?y"))).await.backend(), Some("blue"));
    }
    until(&house, Mirrored::Agree, 22).await;
    assert_eq!((blue.requests(), green.requests()), (26, 22));
    for copy in green.heads() {
        assert_eq!((copy.header("cutover-mirror").as_deref(), copy.target.as_str()), (Some("1"), "/x?y"));
        assert_eq!(copy.header("x-request-id").as_deref(), Some("the-same"));
        assert_eq!(copy.header("host").as_deref(), Some("shop.test"));
    }
    assert!(blue.heads().iter().all(|head| head.header("cutover-mirror").is_none()), "a client cannot mark a request");
    let metrics = house.metrics().await;
    let green = [("service", "shop"), ("color", "green")];
    assert_eq!(metrics.value("cutover_requests_total", &green), 0.0);
    assert_eq!(metrics.value("cutover_mirror_requests_total", &[green[0], green[1], ("outcome", "agree")]), 22.0);
    for of in ["copy", "original"] {
        assert_eq!(metrics.value("cutover_mirror_duration_seconds_count", &[green[0], green[1], ("of", of)]), 22.0);
    }
}

#[tokio::test]
async fn without_a_split_nothing_is_copied_and_with_one_only_what_goes_to_blue() {
    let (_blue, green, house) = house(mirrored("timeout = \"10s\"")).await;
    let mut client = Client::http1(&house).await;
    client.get("/").await;
    house.split(10_000).await;
    assert_eq!(client.get("/").await.backend(), Some("green"));
    house.split(0).await;
    client.get("/").await;
    until(&house, Mirrored::Agree, 1).await;
    assert_eq!(green.requests(), 2, "the request of its own, and one copy");
}

#[tokio::test]
async fn answers_that_differ_are_counted_and_the_client_gets_blues() {
    let (_blue, _green, house) = house(mirrored("timeout = \"10s\"")).await;
    house.split(0).await;
    let mut client = Client::http1(&house).await;
    for _ in 0..5 {
        assert_eq!(client.get("/odd-on/green").await.status, 200);
        assert_eq!(client.get("/odd-on/blue").await.status, 500);
    }
    until(&house, Mirrored::Differ, 10).await;
}

#[tokio::test]
async fn a_color_that_hangs_delays_nobody_and_what_is_too_much_is_dropped() {
    let (_blue, green, house) = house(mirrored("concurrency = 2, timeout = \"60s\"")).await;
    house.split(0).await;
    let crowd = Crowd::of(16).path("/slow-on/green").start(&house);
    hundreds(&crowd, 5).await;
    let tally = crowd.stop().await;
    tally.assert_nothing_lost();
    assert_eq!(tally.from("blue"), tally.requests);
    let pool = house.pool(Color::Green);
    let under_way = tally.requests - pool.mirrored().count(Mirrored::Dropped) as usize;
    assert!((1..=4).contains(&under_way), "two on each worker at the most, not {under_way}");
    green.waiting(under_way).await;
    assert_eq!(green.requests(), under_way);
    // They are inside: whoever drains green sees them.
    assert_eq!(pool.turnstile.inside().requests, under_way as u64);
    house.end_split().await;
    green.release();
    tokio::time::timeout(PATIENCE, pool.turnstile.requests_gone()).await.unwrap();
    until(&house, Mirrored::Agree, under_way as u64).await;
}

#[tokio::test]
async fn a_copy_that_takes_too_long_has_failed_and_its_place_is_free_again() {
    let (_blue, green, house) = house(mirrored("concurrency = 1, timeout = \"50ms\"")).await;
    house.split(0).await;
    let mut client = Client::http1(&house).await;
    for n in 1..=3 {
        assert_eq!(client.get("/slow-on/green").await.backend(), Some("blue"));
        until(&house, Mirrored::Failed, n).await;
    }
    drop(green);
    let refused = || async {
        client_get(&house).await;
        house.pool(Color::Green).mirrored().count(Mirrored::Failed) > 3
    };
    assert!(eventually(Duration::from_secs(20), refused).await, "a color that is gone fails copies, not requests");
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off_by_its_bytes_long_before_its_time() {
    let blue = Backend::start("blue").await;
    let (told, mut sent) = mpsc::unbounded_channel();
    let green = RawBackend::start(move |head, socket| {
        let (framing, piece) = match head.contains(" /crumbs ") {
            true => ("Transfer-Encoding: chunked", format!("1;{}\r\nx\r\n", "e".repeat(1000)).repeat(64)),
            false => ("Connection: close", "x".repeat(64 * 1024)),
        };
        let mut count = 0;
        let mut write = |bytes: &str| socket.write_all(bytes.as_bytes()).is_ok();
        let mut goes_on = write(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        while goes_on && count < FAR_TOO_MUCH {
            goes_on = write(&piece);
            count += piece.len();
        }
        let _ = told.send(count);
    });
    let house = house_before(&blue, &green, mirrored("timeout = \"60s\"")).await;
    house.split(0).await;
    let mut client = Client::http1(&house).await;
    for (n, path) in ["/bulk", "/crumbs"].into_iter().enumerate() {
        assert_eq!(client.get(path).await.backend(), Some("blue"));
        let sent = within("the end of the copy's answer", sent.recv()).await.unwrap();
        assert!(sent < FAR_TOO_MUCH, "{path}: all of {sent} bytes were taken");
        until(&house, Mirrored::Agree, n as u64 + 1).await;
    }
}

#[tokio::test]
async fn a_copy_that_switches_protocols_has_failed_and_no_client_gets_its_connection() {
    let blue = Backend::start("blue").await;
    let (green, mut told) = RawBackend::switching();
    let house = house_before(&blue, &green, mirrored("timeout = \"60s\"")).await;
    house.split(0).await;
    let mut client = Client::http1(&house).await;
    for n in 1..=2 {
        assert_eq!(client.get("/").await.backend(), Some("blue"));
        until(&house, Mirrored::Failed, n).await;
        assert!(within("the end of the copy's connection", told.recv()).await.unwrap(), "it was used again");
    }
}

#[tokio::test]
async fn a_copy_under_way_does_not_hold_up_the_end() {
    let (_blue, green, house) = house(mirrored("timeout = \"60s\"")).await;
    house.split(0).await;
    let mut client = Client::http1(&house).await;
    assert_eq!(client.get("/slow-on/green").await.backend(), Some("blue"));
    green.waiting(1).await;
    drop(client);
    assert!(house.stop(PATIENCE).await, "the end waited for a copy");
}

/// More than the bound, and what the system keeps of a connection's bytes on both sides.
const FAR_TOO_MUCH: usize = 128 << 20;

async fn client_get(house: &House) {
    assert_eq!(Client::http1(house).await.get("/").await.backend(), Some("blue"));
}
