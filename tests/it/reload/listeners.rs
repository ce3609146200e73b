//! Listeners that come and go, and certificates that are renewed under open connections.

use std::fs;
use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{checked, says, shop};
use crate::harness::{Backend, Ca, Client, Cutover, PATIENCE, Raw, WebSocket, eventually, rush};

async fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err()
}

#[tokio::test]
async fn a_listener_that_comes_is_served_by_every_worker() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let mut old = Client::http1(&proxy).await;
    old.get("/").await;
    let answer = proxy.reload_with(|settings| settings.listener()).await;
    assert_eq!(says(&answer), ["listener.\"127.0.0.1:0\": new"]);
    let new = proxy.address_of(1);
    // The kernel spreads them over both sockets: were one of them not accepted from, some would get no answer.
    for _ in 0..32 {
        assert_eq!(Client::http1(new).await.get("/").await.backend(), Some("blue"));
    }
    assert_eq!(proxy.status().await["listeners"][1]["address"], new.to_string());
    assert_eq!(proxy.reload().await.1["outcome"], "unchanged", "its port is the one it got");
    assert_eq!(old.get("/").await.status, 200);
}

#[tokio::test]
async fn a_listener_that_goes_takes_nobody_and_cuts_nobody() {
    let (blue, _green, mut proxy) = shop(|s| s).await;
    proxy.reload_with(|settings| settings.listener()).await;
    let (stays, goes) = (proxy.address(), proxy.address_of(1));
    let mut staying = Client::http1(stays).await;
    let mut idle = Client::http1(goes).await;
    let mut second = Client::http2(goes).await;
    for client in [&mut staying, &mut idle, &mut second] {
        client.get("/").await;
    }
    let mut tunnel = WebSocket::connect(goes, "shop.test", "/ws").await;
    tunnel.hear().await;
    let (mut slow, mut streaming) = (Client::http1(goes).await, second.twin());
    let slow = [
        tokio::spawn(async move { slow.get("/slow").await }),
        tokio::spawn(async move { streaming.get("/slow").await }),
    ];
    blue.waiting(2).await;

    let answer = proxy.reload_with(|settings| settings.without_listener(goes)).await;
    assert_eq!(says(&answer), [format!("listener.\"{goes}\": gone")]);
    assert!(is_refused(goes).await, "a new connection is taken");
    assert_eq!(proxy.status().await["listeners"][1]["shut"], true);
    let told = idle.get("/").await;
    assert_eq!((told.status, told.header("connection")), (200, Some("close")), "it is told to come back elsewhere");
    assert_eq!(staying.get("/").await.header("connection"), None);
    tunnel.say("still there").await;
    assert_eq!(tunnel.hear().await.as_deref(), Some("still there"));
    blue.release();
    for slow in slow {
        assert_eq!(slow.await.unwrap().status, 200);
    }
    tunnel.close().await;
    drop(second);
    let forgotten = || async { proxy.status().await["listeners"].as_array().map(Vec::len) == Some(1) };
    assert!(eventually(PATIENCE, forgotten).await, "{:#}", proxy.status().await);
    assert_eq!(proxy.metrics().await.value("cutover_connections", &[("listener", &stays.to_string())]), 1.0);
    // And it can come back.
    proxy.reload_with(|settings| settings.listener()).await;
    assert_eq!(Client::http1(proxy.address_of(1)).await.get("/").await.status, 200);
}

#[tokio::test]
async fn who_waits_in_the_queue_of_a_listener_that_goes_is_let_in() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    proxy.reload_with(|settings| settings.listener()).await;
    let goes = proxy.address_of(1);
    proxy.pause().await;
    let mut waiting = Vec::new();
    for _ in 0..16 {
        waiting.push(Raw::saying(goes, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await);
    }
    proxy.rewrite(|settings| settings.without_listener(goes));
    proxy.hang_up();
    proxy.resume();
    for mut raw in waiting {
        assert_eq!(raw.answer().await.status, 200);
    }
    assert!(eventually(PATIENCE, || is_refused(goes)).await);
}

/// Many come, so that the system may hold back who has said nothing yet.
#[tokio::test]
async fn who_has_said_nothing_when_a_busy_listener_goes_is_let_in() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    proxy.reload_with(|settings| settings.listener()).await;
    let goes = proxy.address_of(1);
    rush(goes).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(Raw::connect(goes).await);
    }
    proxy.reload_with(|settings| settings.without_listener(goes)).await;
    assert!(is_refused(goes).await);
    for mut raw in silent {
        raw.write("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        assert_eq!(raw.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_listener_can_give_way_to_one_that_its_address_overlaps_with() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let narrow = proxy.address();
    let mut old = Client::http1(narrow).await;
    old.get("/").await;
    let wide = SocketAddr::from(([0, 0, 0, 0], narrow.port()));
    proxy
        .reload_with(|mut settings| {
            settings.listen[0].address = wide;
            settings
        })
        .await;
    for _ in 0..16 {
        assert_eq!(Client::http1(narrow).await.get("/").await.backend(), Some("blue"));
    }
    assert_eq!(old.get("/").await.status, 200);
}

#[tokio::test]
async fn an_address_that_is_taken_refuses_the_whole_reload() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.rewrite(|settings| {
        let mut settings = settings.listener().service("shop", |s| s.hosts(&["other.test"]));
        settings.listen[1].address = taken.local_addr().unwrap();
        settings
    });
    let refused = proxy.run(&["reload"]).await.assert_code(1);
    assert!(
        refused.stderr.contains("cannot listen on") && refused.stderr.contains("nothing has changed"),
        "{refused:#?}"
    );
    assert_eq!(Client::http1(&proxy).await.get("/").await.status, 200);
}

/// The certificate a connection was opened under.
fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn secure(ca: &Ca) -> (Backend, Cutover) {
    let blue = Backend::start("blue").await;
    let settings = Cutover::with().tls(ca, &["shop.test"]).service("shop", |s| checked(s).blue([&blue]));
    (blue, settings.start().await)
}

#[tokio::test]
async fn renewed_certificates_are_for_the_next_handshake_and_open_connections_go_on() {
    let ca = Ca::new();
    let (_blue, mut proxy) = secure(&ca).await;
    let address = proxy.tls_address();
    let mut old = Client::tls(address, &ca, "shop.test", &["h2"]).await;
    old.get("/").await;
    let before = shown(&ca.connect(address, "shop.test", &[]).await);
    let folder = proxy.config_file().parent().unwrap().to_owned();
    ca.issue(&["shop.test"], &folder);
    let (_, answer) = proxy.reload().await;
    assert_eq!(says(&answer), [format!("listener.\"{address}\".tls.certificates: the files hold others now")]);
    let after = shown(&ca.connect(address, "shop.test", &[]).await);
    assert_ne!(before, after);
    assert_eq!(old.get("/").await.status, 200);
    assert_eq!(proxy.reload().await.1["outcome"], "unchanged");

    // Files that cannot be served with are a mistake in the config, and change nothing.
    fs::write(folder.join("shop.test.pem"), "no certificate").unwrap();
    let refused = proxy.run(&["reload"]).await.assert_code(2);
    assert!(refused.stderr.contains("shop.test.pem"), "{refused:#?}");
    assert_eq!(shown(&ca.connect(address, "shop.test", &[]).await), after);
}

#[tokio::test]
async fn renewed_certificates_are_noticed_without_a_reload() {
    let ca = Ca::new();
    let (_blue, proxy) = secure(&ca).await;
    let before = shown(&ca.connect(proxy.tls_address(), "shop.test", &[]).await);
    ca.issue(&["shop.test"], proxy.config_file().parent().unwrap());
    let renewed = || async { shown(&ca.connect(proxy.tls_address(), "shop.test", &[]).await) != before };
    assert!(eventually(PATIENCE, renewed).await);
}

#[tokio::test]
async fn a_listener_can_begin_to_speak_tls_and_cleartext_connections_go_on() {
    let ca = Ca::new();
    let (blue, _green, mut proxy) = shop(|s| s).await;
    let mut old = Client::http1(&proxy).await;
    old.get("/").await;
    let folder = proxy.config_file().parent().unwrap().to_owned();
    let (cert, key) = ca.issue(&["shop.test"], &folder);
    let answer = proxy
        .reload_with(|mut settings| {
            settings.listen[0].tls = Some(format!("certificates = [{{ cert = {cert:?}, key = {key:?} }}]"));
            settings
        })
        .await;
    assert_eq!(says(&answer), [format!("listener.\"{}\".tls: new", proxy.address())]);
    let mut new = Client::tls(proxy.address(), &ca, "shop.test", &["http/1.1"]).await;
    assert_eq!(new.get("/echo").await.status, 200);
    assert_eq!(blue.last_head().header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(old.get("/echo").await.status, 200);
    assert_eq!(blue.last_head().header("x-forwarded-proto").as_deref(), Some("http"));
}
