//! The slow start: an endpoint that comes up later than others gets its share little by little.

use crate::harness::{Backend, Client, Cutover, Health, PATIENCE, Service, eventually};

/// Blue with two endpoints, of which the second may come up later.
async fn shop(second: Health, slow_start: &str) -> (Backend, Backend, Cutover) {
    let (first, other) = (Backend::start("first").await, Backend::start("second").await);
    other.health(second);
    let service = |service: Service| {
        let service = service.blue([&first, &other]).health("/healthz");
        service.extra("health", &format!("timeout = \"10s\"\nslow_start = \"{slow_start}\""))
    };
    let proxy = Cutover::with().service("shop", service).start().await;
    (first, other, proxy)
}

/// How many of so many requests in a row went to the second.
async fn went(proxy: &Cutover, second: &Backend, requests: usize) -> usize {
    let before = second.requests();
    let mut clients = [Client::http1(proxy).await, Client::http1(proxy).await];
    for place in 0..requests {
        assert_eq!(clients[place % 2].get("/").await.status, 200);
    }
    second.requests() - before
}

async fn until_up(proxy: &Cutover) {
    let up = || async {
        let endpoints = proxy.service("shop").await["blue"]["endpoints"].clone();
        endpoints.as_array().unwrap().iter().all(|endpoint| endpoint["up"] == true)
    };
    assert!(eventually(PATIENCE, up).await, "{:#}", proxy.service("shop").await);
}

#[tokio::test]
async fn who_comes_up_later_has_its_whole_share_once_it_is_warm() {
    let (first, second, proxy) = shop(Health::Failing(503), "1s").await;
    assert_eq!(went(&proxy, &second, 50).await, 0);
    assert_eq!(first.requests(), 50);
    second.health(Health::Passing);
    until_up(&proxy).await;
    let even = || async { went(&proxy, &second, 50).await >= 15 };
    assert!(eventually(PATIENCE, even).await, "it does not get its whole share");
}

/// Requests go by chance: the bounds are five standard deviations wide.
#[tokio::test]
async fn who_comes_up_together_shares_alike_from_the_first_request_on() {
    let (first, second, proxy) = shop(Health::Passing, "1h").await;
    until_up(&proxy).await;
    let half = went(&proxy, &second, 400).await;
    assert!((150..=250).contains(&half), "{half} of 400 went to the second, and {} to the first", first.requests());
}
