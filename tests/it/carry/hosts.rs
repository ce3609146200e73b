//! Several services behind one proxy: the exact host, then the wildcard, then the longest path, then who takes the rest.

use super::{get, shop};
use crate::harness::{Backend, Client, Cutover};

#[tokio::test]
async fn each_request_reaches_the_service_that_claims_it_most_closely() {
    let names = ["shop", "api", "deep", "wild", "rest"];
    let backends = [
        Backend::start(names[0]).await,
        Backend::start(names[1]).await,
        Backend::start(names[2]).await,
        Backend::start(names[3]).await,
        Backend::start(names[4]).await,
    ];
    let proxy = Cutover::with()
        .service("rest", |s| s.blue([&backends[4]]))
        .service("wild", |s| s.hosts(&["*.shop.test"]).blue([&backends[3]]))
        .service("shop", |s| s.hosts(&["shop.test", "www.shop.test"]).blue([&backends[0]]))
        .service("deep", |s| s.hosts(&["shop.test"]).path("/api/deep").blue([&backends[2]]))
        .service("api", |s| s.hosts(&["shop.test"]).path("/api").blue([&backends[1]]))
        .start()
        .await;
    let claims = [
        ("shop.test", "/", "shop"),
        ("SHOP.test:8080", "/apix", "shop"),
        ("www.shop.test", "/api", "shop"),
        ("shop.test", "/api", "api"),
        ("shop.test", "/api?x=/api/deep", "api"),
        ("shop.test", "/api/deeper", "api"),
        ("shop.test", "/api/deep/x", "deep"),
        ("a.shop.test", "/api", "wild"),
        ("a.b.shop.test", "/", "wild"),
        ("xshop.test", "/", "rest"),
        ("127.0.0.1", "/api", "rest"),
    ];
    for (host, path, name) in claims {
        for client in super::both(&proxy).await {
            assert_eq!(client.host(host).get(path).await.backend(), Some(name), "{host}{path}");
        }
    }
}

#[tokio::test]
async fn a_host_nobody_claims_is_not_found() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    for client in super::both(&proxy).await {
        let answer = client.host("other.test").get("/").await;
        assert_eq!((answer.status, answer.refusal().is_some(), blue.requests()), (404, true, 0));
    }
}

#[tokio::test]
async fn one_connection_may_ask_for_several_services() {
    let (shop, blog) = (Backend::start("shop").await, Backend::start("blog").await);
    let proxy = Cutover::with()
        .service("shop", |s| s.hosts(&["shop.test"]).blue([&shop]))
        .service("blog", |s| s.hosts(&["blog.test"]).blue([&blog]))
        .start()
        .await;
    let mut client = Client::http1(&proxy).await;
    for name in ["shop", "blog", "shop", "blog"] {
        client = client.host(&format!("{name}.test"));
        assert_eq!(client.send(get("/")).await.backend(), Some(name));
    }
}
