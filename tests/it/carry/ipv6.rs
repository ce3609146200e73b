//! IPv6: clients that come over it, backends that are reached over it, and both kinds of address on one listener.

use std::io::Write;
use std::net::SocketAddr;

use crate::harness::{Address, Backend, Cutover, PATIENCE, Raw, RawBackend, Service, eventually};

const ANY: &str = "[::1]:0";

#[tokio::test]
async fn a_client_over_ipv6_is_told_of_as_each_field_has_it() {
    let blue = Backend::start("blue").await;
    let service = |s: Service| s.hosts(&["[::1]", "shop.test"]).blue([&blue]);
    let settings = Cutover::with().service("shop", service).listen_on(ANY.parse().unwrap(), None);
    let proxy = settings.section("edge", "forwarded = true").access_log("").start().await;
    let port = proxy.address().port();
    let mut raw = Raw::connect(&proxy).await;
    for target in ["/", &format!("http://[::1]:{port}/"), "http://[::1]/"] {
        raw.write(format!("GET {target} HTTP/1.1\r\nHost: [::1]:{port}\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")).await;
        assert_eq!(raw.answer().await.status, 200, "{target}");
        let head = blue.last_head();
        let host = if target == "http://[::1]/" { "[::1]".to_owned() } else { format!("[::1]:{port}") };
        let expected = [
            ("host", host.clone()),
            ("x-forwarded-for", "::1".into()),
            ("x-forwarded-host", host.clone()),
            ("x-forwarded-port", port.to_string()),
            ("forwarded", format!("for=\"[::1]\";host=\"{host}\";proto=http")),
        ];
        for (name, value) in expected {
            assert_eq!(head.header(name).as_deref(), Some(&*value), "{name} for {target}");
        }
    }
    for host in ["[::1", "::1", "[::1]x", "[::1]:", "[::1%25eth0]", "[v1.x]", "[::ffff:127.0.0.1]:x"] {
        let mut raw = Raw::saying(&proxy, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let status = raw.answer().await.status;
        assert_eq!(status, if host == "[::1]:" { 200 } else { 400 }, "{host}");
    }
    assert_eq!(proxy.logged(3).await[0]["client"], "::1");
}

#[tokio::test]
async fn one_ipv6_client_has_only_so_many_places() {
    let blue = Backend::start("blue").await;
    let settings = Cutover::with().service("shop", |s| s.blue([&blue])).listen_on(ANY.parse().unwrap(), None);
    let proxy = settings.section("edge.limits", "connections_per_client = 2").workers(1).start().await;
    let mut open = [Raw::connect(&proxy).await, Raw::connect(&proxy).await];
    assert_eq!(Raw::connect(&proxy).await.until_closed().await, b"");
    open[0].write("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(open[0].answer().await.status, 200);
}

#[tokio::test]
async fn a_listener_on_every_address_knows_a_client_by_the_address_it_came_with() {
    let blue = Backend::start("blue").await;
    let settings = Cutover::with().service("shop", |s| s.blue([&blue])).listen_on("[::]:0".parse().unwrap(), None);
    let proxy = settings.section("edge", "trusted_proxies = [\"127.0.0.1\"]").start().await;
    let port = proxy.address().port();
    // The one is trusted and the other is not, whatever the kernel calls them.
    for (address, told) in [("127.0.0.1", "10.9.8.7, 127.0.0.1"), ("[::1]", "::1")] {
        let address: SocketAddr = format!("{address}:{port}").parse().unwrap();
        let mut raw = Raw::connect(address).await;
        raw.write("GET / HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 10.9.8.7\r\n\r\n").await;
        assert_eq!(raw.answer().await.status, 200);
        assert_eq!(blue.last_head().header("x-forwarded-for").as_deref(), Some(told));
    }
}

#[tokio::test]
async fn a_backend_is_reached_over_ipv6() {
    let blue = RawBackend::start_at(ANY.parse().unwrap(), |_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nover");
    });
    let green = Backend::start("green").await;
    let service = |s: Service| s.blue([&blue]).green([&green]);
    let proxy = Cutover::with().service("shop", service).access_log("").start().await;
    let mut raw = Raw::saying(&proxy, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(raw.answer().await.body, b"over");
    assert_eq!(proxy.logged(1).await[0]["endpoint"], blue.address().to_string());
    let up = || async { proxy.service("shop").await["blue"]["endpoints"][0]["up"] == true };
    assert!(eventually(PATIENCE, up).await);
}
