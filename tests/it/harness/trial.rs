//! The hold on the proxy's process tried out: its ports, its API, its commands, its ends.

use serde_json::{Value, json};

use super::{Backend, Client, Cutover, Service, cutover};

#[tokio::test]
async fn a_proxy_is_reached_by_every_way_in() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| s.hosts(&["shop.test"]).blue([&blue]).green([&green]).health("/healthz");
    let proxy = Cutover::with().service("shop", service).workers(1).start().await;
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    assert_eq!(proxy.service("shop").await["live"], "blue");
    assert_eq!(proxy.metrics().await.value("cutover_live", &[("service", "shop"), ("color", "blue")]), 1.0);
    assert_eq!(proxy.api("GET", "/v1/services/shop", Value::Null).await.0, 200);
    let switch = |token| proxy.api_tcp("POST", "/v1/services/shop/switch", json!({ "to": "blue" }), token);
    assert!(matches!(switch(None).await.0, 401 | 403));
    assert_eq!(switch(Some(proxy.token())).await.0, 200);
    assert_eq!(proxy.watch("/v1/events").await.1.status(), 200);
    assert_eq!(proxy.run(&["status", "--json"]).await.assert_code(0).json()["services"][0]["name"], "shop");
    assert_eq!(proxy.spawn(&["status"]).ended().await.code, 0);
    let config = proxy.config_file();
    cutover(&["check", "--config", config.to_str().unwrap()]).await.assert_code(0);
    assert!(proxy.open_files() > 3 && proxy.memory_kib() > 1000);
}

#[tokio::test]
async fn a_proxy_that_was_killed_comes_back_on_the_same_ports() {
    let blue = Backend::start("blue").await;
    let mut proxy = Cutover::with().service("shop", |s| s.blue([&blue])).start().await;
    let address = proxy.address();
    proxy.kill9().await;
    assert!(Client::try_http1(address).await.is_err());
    proxy.restart().await;
    assert_eq!(proxy.address(), address);
    assert_eq!(Client::http1(address).await.get("/").await.backend(), Some("blue"));
    assert_eq!(proxy.terminate().await.code, 0);
    assert!(Client::try_http1(address).await.is_err());
    std::fs::remove_dir_all(proxy.state_dir()).unwrap();
    let refused = proxy.restart_in_vain().await;
    assert!(refused.code != 0 && refused.stderr.contains("state"), "{refused:#?}");
}
