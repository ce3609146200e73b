//! TLS handshakes that should not be: of versions long broken, in crumbs, larger than any, and again in the middle.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::cipher::{self, make_tls12_aad};
use rustls::version::TLS12;
use rustls::{CipherSuite, ConnectionTrafficSecrets, ContentType, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{held, open};
use crate::harness::{Backend, Ca, Client, Cutover, PATIENCE, Raw, eventually, greet, within};

/// A proxy that speaks TLS, with these times.
async fn shop(ca: &Ca, timeouts: &str) -> (Backend, Cutover) {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", timeouts, "").tls(ca, &["shop.test"]).start().await;
    (blue, proxy)
}

/// Resolves when so many handshakes have been lost for this reason.
async fn lost(proxy: &Cutover, reason: &str, count: f64) {
    let listener = proxy.tls_address().to_string();
    let labels = [("listener", &*listener), ("reason", reason)];
    let value = || async { proxy.metrics().await.value("cutover_connections_lost_total", &labels) };
    assert!(eventually(PATIENCE, || async { value().await == count }).await, "{reason}: {}", value().await);
}

#[tokio::test]
async fn versions_before_1_2_are_refused() {
    let ca = Ca::new();
    let (_blue, proxy) = shop(&ca, "").await;
    for (minor, count) in [(0, 1.0), (1, 2.0), (2, 3.0)] {
        let mut raw = Raw::saying(proxy.tls_address(), record(&hello([3, minor]))).await;
        let answer = raw.until_closed().await;
        // A fatal alert, and nothing else (RFC 5246, 7.2).
        assert!(matches!(answer[..], [21, 3, _, 0, 2, 2, _]), "3.{minor}: {answer:?}");
        lost(&proxy, "handshake-failed", count).await;
    }
}

#[tokio::test]
async fn a_greeting_in_crumbs_has_its_time() {
    let ca = Ca::new();
    let (_blue, proxy) = shop(&ca, "handshake = \"300ms\"").await;
    let mut raw = Raw::connect(proxy.tls_address()).await;
    for byte in record(&hello([3, 3])) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if !raw.try_write([byte]).await {
            break;
        }
    }
    assert_eq!(raw.until_closed().await, b"");
    lost(&proxy, "handshake-slow", 1.0).await;
    assert_eq!(open(&proxy).await, 0.0);
}

#[tokio::test]
async fn a_greeting_larger_than_any_is_not_waited_for() {
    let ca = Ca::new();
    let (_blue, proxy) = shop(&ca, "handshake = \"10m\"").await;
    let mut raw = Raw::connect(proxy.tls_address()).await;
    let endless = [&[1, 0xff, 0xff, 0xff][..], &[0; 1000]].concat();
    while raw.try_write(record(&endless)).await {}
    lost(&proxy, "handshake-failed", 1.0).await;
}

#[tokio::test]
async fn who_greets_again_in_the_middle_is_refused_and_let_go_if_he_insists() {
    let ca = Ca::new();
    let (blue, proxy) = shop(&ca, "").await;
    let suite = CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
    let mut offers = default_provider();
    offers.cipher_suites.retain(|offered| offered.suite() == suite);
    let mut client = ca.client_with(offers, &[&TLS12]);
    // No client library here greets again: the record is sealed by hand.
    client.enable_secret_extraction = true;
    let stream = greet(proxy.tls_address(), "shop.test", &Arc::new(client)).await.unwrap();
    let (mut socket, session) = stream.into_inner();
    let (mut number, secrets) = session.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else { panic!("another cipher") };
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).unwrap());
    let mut again = || {
        let mut sealed = hello([3, 3]);
        let aad = make_tls12_aad(number, ContentType::Handshake, ProtocolVersion::TLSv1_2, sealed.len());
        let nonce = Nonce::assume_unique_for_key(cipher::Nonce::new(&iv, number).0);
        key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).unwrap();
        number += 1;
        record(&sealed)
    };
    within("the proxy to take it", socket.write_all(&again())).await.unwrap();
    let mut header = [0; 5];
    within("an answer", socket.read_exact(&mut header)).await.unwrap();
    assert_eq!(header[0], 21, "an alert, and no handshake");
    let mut greetings = 1;
    while within("the proxy to take it", socket.write_all(&again())).await.is_ok() {
        greetings += 1;
        assert!(greetings < 100_000, "it goes on for ever");
    }
    assert_eq!(blue.requests(), 0);
    let mut next = Client::tls(proxy.tls_address(), &ca, "shop.test", &["h2"]).await;
    assert_eq!(next.get("/").await.status, 200);
}

/// A handshake record of so much of it.
fn record(handshake: &[u8]) -> Vec<u8> {
    let length = u16::try_from(handshake.len()).unwrap().to_be_bytes();
    [&[22, 3, 3][..], &length, handshake].concat()
}

/// The least of a greeting by a client of this version: one cipher, one signature (RFC 5246, 7.4.1.2).
fn hello(version: [u8; 2]) -> Vec<u8> {
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    let ciphers_and_more = [0, 0, 2, 0xcc, 0xa9, 1, 0, 0, signatures.len() as u8];
    let body = [&version[..], &[7; 32], &ciphers_and_more, &signatures].concat();
    [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat()
}
