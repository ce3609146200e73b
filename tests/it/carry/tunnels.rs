//! WebSockets: carried as tunnels, counted apart from requests, ended with either end.

use tokio_tungstenite::tungstenite::Error;

use super::shop;
use crate::harness::{Backend, Client, Cutover, PATIENCE, WebSocket, eventually};

#[tokio::test]
async fn a_websocket_is_a_tunnel_and_not_a_request() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut socket = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    assert_eq!(socket.hear().await.as_deref(), Some("blue"));
    for text in ["hello", &"long ".repeat(100_000)] {
        socket.say(text).await;
        assert_eq!(socket.hear().await.as_deref(), Some(text));
    }
    assert!(eventually(PATIENCE, || counted(&proxy, 1.0, 0.0)).await);
    assert_eq!(proxy.service("shop").await["blue"]["tunnels"], 1);
    assert_eq!(proxy.service("shop").await["blue"]["in_flight"], 0);
    let address = proxy.address().to_string();
    let open = proxy.metrics().await.value("cutover_connections", &[("listener", &address)]);
    assert_eq!(open, 1.0, "its client's connection is open as long as it is");
    socket.close().await;
    assert!(eventually(PATIENCE, || counted(&proxy, 0.0, 0.0)).await);
}

#[tokio::test]
async fn a_tunnel_ends_with_either_end() {
    let mut blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    let mut socket = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    socket.hear().await;
    drop(socket);
    assert!(eventually(PATIENCE, || async { blue.connections() == 0 }).await);
    let mut socket = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    socket.hear().await;
    blue.kill();
    assert_eq!(socket.hear().await, None);
    assert!(eventually(PATIENCE, || counted(&proxy, 0.0, 0.0)).await);
}

#[tokio::test]
async fn a_backend_may_answer_instead_of_upgrading() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue).await;
    match WebSocket::try_connect(&proxy, "shop.test", "/status/403").await {
        Err(Error::Http(answer)) => assert_eq!(
            (answer.status(), &answer.headers()["x-backend"]),
            (403.try_into().unwrap(), &"blue".parse().unwrap())
        ),
        other => panic!("not the backend's answer: {:?}", other.err()),
    }
    assert_eq!(Client::http1(&proxy).await.get("/ws").await.status, 426);
    assert!(eventually(PATIENCE, || counted(&proxy, 0.0, 0.0)).await);
}

async fn counted(proxy: &Cutover, tunnels: f64, in_flight: f64) -> bool {
    let metrics = proxy.metrics().await;
    let blue = [("service", "shop"), ("color", "blue")];
    metrics.value("cutover_tunnels", &blue) == tunnels
        && metrics.value("cutover_requests_in_flight", &blue) == in_flight
}
