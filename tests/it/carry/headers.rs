//! Header fields: what is for one hop stops here, what tells about the client is added, the rest passes.

use http::Request;

use super::{bare, both, shop};
use crate::harness::{Backend, Client, Raw};

#[tokio::test]
async fn fields_for_one_hop_stop_here_both_ways() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let request = Request::get("/")
        .header("connection", "keep-alive, X-Hop")
        .header("connection", "x-second")
        .header("x-hop", "secret")
        .header("x-second", "secret")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("te", "gzip")
        .header("x-end", "kept");
    Client::http1(&proxy).await.send(bare(request)).await;
    let head = blue.last_head();
    for gone in ["x-hop", "x-second", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(head.header(gone), None, "{gone}");
    }
    assert_eq!(head.header("x-end").as_deref(), Some("kept"));
    for mut client in both(&proxy).await {
        let answer = client.get("/private").await;
        assert_eq!((answer.header("x-hop"), answer.header("keep-alive")), (None, None));
        assert_eq!(answer.header("x-end"), Some("kept"));
    }
}

#[tokio::test]
async fn the_backend_learns_who_asked_for_what() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let forged = Request::get("/").header("x-forwarded-for", "203.0.113.9").header("x-forwarded-proto", "https");
        client.send(bare(forged)).await;
        let head = blue.last_head();
        assert_eq!(head.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert_eq!(head.header("x-forwarded-proto").as_deref(), Some("http"));
        assert_eq!(head.header("x-forwarded-host").as_deref(), Some("shop.test"));
        assert_eq!(head.header("x-forwarded-port"), Some(proxy.address().port().to_string()));
    }
}

#[tokio::test]
async fn nomination_does_not_strip_what_the_proxy_says() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let nominated = Request::get("/").header("connection", "host, x-forwarded-for, x-request-id");
    Client::http1(&proxy).await.send(bare(nominated)).await;
    for kept in ["host", "x-forwarded-for", "x-request-id"] {
        assert!(blue.last_head().header(kept).is_some(), "{kept}");
    }
}

#[tokio::test]
async fn a_request_id_is_kept_or_made() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        client.send(bare(Request::get("/").header("x-request-id", "mine-1"))).await;
        assert_eq!(blue.last_head().header("x-request-id").as_deref(), Some("mine-1"));
        let mut made = Vec::new();
        for _ in 0..2 {
            client.get("/").await;
            made.push(blue.last_head().header("x-request-id").expect("one is made"));
        }
        assert!(made[0].len() >= 8 && made[0] != made[1], "{made:?}");
    }
}

#[tokio::test]
async fn the_host_is_kept_as_the_client_wrote_it() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for client in both(&proxy).await {
        client.host("Shop.test:8080").get("/").await;
        let host = blue.last_head().header("host").unwrap();
        // An HTTP/2 client's library may write the authority in lower case.
        assert_eq!(host.to_ascii_lowercase(), "shop.test:8080");
    }
    let mut raw = Raw::saying(&proxy, "GET http://shop.test/any?x HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
    assert_eq!(
        (blue.last_head().target.as_str(), blue.last_head().header("host").as_deref()),
        ("/any?x", Some("shop.test"))
    );
}

#[tokio::test]
async fn crumbs_of_a_cookie_become_one_field() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let crumbs = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3");
    Client::http2(&proxy).await.send(bare(crumbs)).await;
    let head = blue.last_head();
    let cookies: Vec<_> = head.headers.iter().filter(|(name, _)| name == "cookie").collect();
    assert_eq!(cookies, [&("cookie".to_owned(), "a=1; b=2; c=3".to_owned())]);
    assert_eq!(head.header("host").as_deref(), Some("shop.test"));
}

#[tokio::test]
async fn a_field_that_comes_twice_passes_twice() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        client.send(bare(Request::get("/").header("x-a", "1").header("x-a", "2, 3"))).await;
        let head = blue.last_head();
        let values: Vec<_> = head.headers.iter().filter(|(name, _)| name == "x-a").map(|(_, v)| v.as_str()).collect();
        assert_eq!(values, ["1", "2, 3"]);
    }
}

#[tokio::test]
async fn no_client_can_pass_its_request_off_as_the_proxys_own() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for mut client in both(&proxy).await {
        let marked = Request::get("/").header("cutover-warm", "1").header("cutover-mirror", "1");
        let marked = marked.header("cutover_warm", "1").header("cutover_mirror", "1").header("cutover-other", "kept");
        assert_eq!(client.send(bare(marked)).await.status, 200);
        let head = blue.last_head();
        let cutovers: Vec<_> = head.headers.iter().filter(|(name, _)| name.starts_with("cutover")).collect();
        assert_eq!(cutovers, [&("cutover-other".to_owned(), "kept".to_owned())]);
    }
}
