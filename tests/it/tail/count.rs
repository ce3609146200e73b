//! What is counted: requests, connections, client networks, and the last of them.

use std::time::Duration;

use cutover::tail::Counts;
use cutover::time::Moment;
use http::Request;

use super::{counted, shifted, span};
use crate::harness::{Backend, Client, Inside, body};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_comes_through_the_old_name_is_counted_by_request_and_by_connection() {
    let blue = Backend::start("blue").await;
    let proxy = Inside::start(&blue, "").await;
    let (mut old, mut new) = (Client::http1(&proxy).await, Client::http2(&proxy).await);
    old.get("/").await;
    assert_eq!(proxy.service.tail.total(), Counts::default(), "nobody counts before the names have moved on");

    proxy.service.tail.begin(shifted(Duration::ZERO, MINUTE));
    for _ in 0..3 {
        assert_eq!(old.get("/").await.header("connection"), None);
        new.get("/").await;
    }
    new.twin().post("/echo", "a body").await;
    counted(&proxy, Counts { requests: 7, connections: 2, told: 0 }).await;
    let reading = span(&proxy).reading(Moment::now());
    assert_eq!(reading.networks, 1, "both are of 127.0.0.0/24");
    assert!(reading.last_seen.is_some() && reading.silent_for < MINUTE, "{reading:?}");
    assert_eq!(reading.decay.last_minute(), 7);
    // A host that is nobody's is no request of the service.
    new.send(Request::get("http://other.test/").body(body::empty()).unwrap()).await;
    counted(&proxy, Counts { requests: 7, connections: 2, told: 0 }).await;

    proxy.service.tail.end();
    old.get("/").await;
    assert_eq!(proxy.service.tail.total().requests, 7);
    // The names go back to the proxy and move on once more: connections that live on are counted again.
    proxy.service.tail.begin(shifted(Duration::ZERO, 2 * MINUTE));
    old.get("/").await;
    counted(&proxy, Counts { requests: 1, connections: 1, told: 0 }).await;
    assert_eq!(proxy.service.tail.total().requests, 8);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_networks_are_those_it_speaks_for() {
    let blue = Backend::start("blue").await;
    let proxy = Inside::start(&blue, "[edge]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n").await;
    proxy.service.tail.begin(shifted(Duration::ZERO, MINUTE));
    let mut client = Client::http1(&proxy).await;
    for forwarded in [
        "192.0.2.1",
        "192.0.2.2, 10.0.0.9",
        // What stands further left was said by the client itself, and may be made up.
        "198.51.100.1, 203.0.113.1",
        "2001:db8::1",
        "10.0.0.1",
        "unknown",
    ] {
        client.send(Request::get("/").header("x-forwarded-for", forwarded).body(body::empty()).unwrap()).await;
    }
    counted(&proxy, Counts { requests: 6, connections: 1, told: 0 }).await;
    let networks = span(&proxy).reading(Moment::now()).networks;
    assert_eq!(networks, 4, "192.0.2.0/24, 203.0.113.0/24, 2001:db8::/48 and, for want of another, the peer's");
}
