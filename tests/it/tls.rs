//! TLS told by handshakes: which version, which key exchange, which certificate, and who is known again.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, SignatureScheme};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::{Backend, Ca, Client, Cutover, Settings, cutover, greet, within};

/// A proxy before one service, with these certificates and lines for its TLS.
async fn shop(pairs: &[(PathBuf, PathBuf)], settings: Settings, extra: &str) -> (Backend, Cutover) {
    let blue = Backend::start("blue").await;
    let proxy = settings.tls_with(pairs, extra).service("shop", |s| s.blue([&blue])).start().await;
    (blue, proxy)
}

async fn simple(ca: &Ca, extra: &str) -> (Backend, Cutover) {
    let settings = Cutover::with();
    let pair = ca.issue(&["shop.test"], settings.folder());
    shop(&[pair], settings, extra).await
}

/// One request on a connection of its own. Tickets come behind the handshake, so that only who reads on has them.
async fn ask(proxy: &Cutover, client: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let mut stream = greet(proxy.tls_address(), "shop.test", client).await.unwrap();
    let exchange = async {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    within("an answer", exchange).await;
    stream
}

#[tokio::test]
async fn the_oldest_version_spoken_is_the_one_configured() {
    let ca = Ca::new();
    let client = |version| Arc::new(ca.client_with(aws_lc_rs::default_provider(), &[version]));
    for (extra, versions) in [
        ("", &[(&TLS12, true), (&TLS13, true)]),
        ("min_version = \"1.2\"", &[(&TLS12, true), (&TLS13, true)]),
        ("min_version = \"1.3\"", &[(&TLS12, false), (&TLS13, true)]),
    ] {
        let (_blue, proxy) = simple(&ca, extra).await;
        for (version, spoken) in versions {
            let greeted = greet(proxy.tls_address(), "shop.test", &client(*version)).await;
            assert_eq!(greeted.is_ok(), *spoken, "{extra:?}: {:?} {:?}", version.version, greeted.err());
        }
    }
}

/// Every connection has a port of its own and so falls to any of four workers: that all of 32 fell to the one that gave
/// the first ticket happens once in 10^18 runs.
#[tokio::test]
async fn a_client_is_known_again_by_every_worker() {
    let ca = Ca::new();
    let settings = Cutover::with().workers(4);
    let pair = ca.issue(&["shop.test"], settings.folder());
    let (_blue, proxy) = shop(&[pair], settings, "").await;
    for (version, number) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = Arc::new(ca.client_with(aws_lc_rs::default_provider(), &[version]));
        let mut kinds = Vec::new();
        for _ in 0..33 {
            let stream = ask(&proxy, &client).await;
            let session = stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(number));
            assert!(!session.is_early_data_accepted());
            kinds.push(session.handshake_kind().unwrap());
        }
        let (first, rest) = kinds.split_first().unwrap();
        assert_eq!(*first, HandshakeKind::Full);
        assert!(rest.iter().all(|kind| *kind == HandshakeKind::Resumed), "{number:?}: {kinds:?}");
    }
}

#[tokio::test]
async fn the_post_quantum_key_exchange_is_agreed_on_unless_it_is_switched_off() {
    let ca = Ca::new();
    for (extra, group) in [
        ("", NamedGroup::X25519MLKEM768),
        ("post_quantum = true", NamedGroup::X25519MLKEM768),
        ("post_quantum = false", NamedGroup::X25519),
    ] {
        let (_blue, proxy) = simple(&ca, extra).await;
        let stream = ask(&proxy, &Arc::new(ca.client())).await;
        let agreed = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(agreed, group, "{extra:?}");
    }
    // Who knows nothing of it is served as well.
    let (_blue, proxy) = simple(&ca, "").await;
    let mut old = aws_lc_rs::default_provider();
    old.kx_groups.retain(|group| group.name() == NamedGroup::secp256r1);
    let stream = ask(&proxy, &Arc::new(ca.client_with(old, &[&TLS13]))).await;
    assert_eq!(stream.get_ref().1.negotiated_key_exchange_group().unwrap().name(), NamedGroup::secp256r1);
}

/// A client that can check only signatures of this kind.
fn knows(kind: fn(SignatureScheme) -> bool) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let WebPkiSupportedAlgorithms { all, mapping } = provider.signature_verification_algorithms;
    let mapping: Vec<_> = mapping.iter().copied().filter(|(scheme, _)| kind(*scheme)).collect();
    provider.signature_verification_algorithms = WebPkiSupportedAlgorithms { all, mapping: mapping.leak() };
    provider
}

#[tokio::test]
async fn the_name_chooses_the_certificate_and_the_clients_signatures_the_kind_of_key() {
    let ca = Ca::new();
    let settings = Cutover::with();
    let folder = settings.folder();
    let pairs = [
        ca.issue(&["shop.test"], folder),
        ca.issue(&["*.shop.test"], folder),
        ca.issue(&["api.shop.test"], folder),
        ca.issue_rsa(&["shop.test"], folder),
    ];
    let der = |place: usize| {
        use rustls::pki_types::pem::PemObject;
        CertificateDer::from_pem_file(&pairs[place].0).unwrap()
    };
    let ders = [der(0), der(1), der(2), der(3)];
    let (_blue, proxy) = shop(&pairs, settings, "").await;
    let rsa = |scheme| matches!(scheme, SignatureScheme::RSA_PSS_SHA256 | SignatureScheme::RSA_PKCS1_SHA256);
    let ecdsa = |scheme| scheme == SignatureScheme::ECDSA_NISTP256_SHA256;
    for (name, offers, place) in [
        ("shop.test", aws_lc_rs::default_provider(), 0),
        ("shop.test", knows(ecdsa), 0),
        ("shop.test", knows(rsa), 3),
        ("www.shop.test", aws_lc_rs::default_provider(), 1),
        ("api.shop.test", aws_lc_rs::default_provider(), 2),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = Arc::new(ca.client_with(offers.clone(), &[version]));
            let stream = greet(proxy.tls_address(), name, &client).await.unwrap();
            assert_eq!(
                stream.get_ref().1.peer_certificates().unwrap()[0],
                ders[place],
                "{name}, {:?}",
                version.version
            );
        }
    }
}

#[tokio::test]
async fn for_a_name_that_no_certificate_has_the_first_one_answers() {
    let ca = Ca::new();
    let settings = Cutover::with();
    let pairs = [ca.issue(&["shop.test"], settings.folder()), ca.issue(&["*.api.test"], settings.folder())];
    let (_blue, proxy) = shop(&pairs, settings, "").await;
    // An address is no name, and so is not sent (RFC 6066, 3).
    for name in ["other.test", "api.test", "a.b.api.test", "127.0.0.1"] {
        let refused = greet(proxy.tls_address(), name, &Arc::new(ca.client())).await.unwrap_err().to_string();
        assert!(refused.contains("\"shop.test\"") && !refused.contains("*.api"), "{name}: {refused}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_a_mistake_to_check_and_does_not_keep_the_proxy_down() {
    let ca = Ca::new();
    let settings = Cutover::with();
    let pair = ca.issue_expired(&["shop.test"], settings.folder());
    let (_blue, proxy) = shop(std::slice::from_ref(&pair), settings, "").await;
    let log = proxy.stderr();
    assert!(log.contains("WARN") && log.contains("shop.test-expired.pem expired "), "{log}");
    let refused = greet(proxy.tls_address(), "shop.test", &Arc::new(ca.client())).await.unwrap_err().to_string();
    assert!(refused.contains("expired"), "{refused}");
    let config = proxy.config_file();
    let config = config.to_str().unwrap();
    let said = cutover(&["check", "--config", config]).await.assert_code(2).stderr;
    assert!(said.contains("error: ") && said.contains("on 2020-02-29 00:00 UTC"), "{said}");
    let json = cutover(&["check", "--config", config, "--json"]).await.assert_code(2).json();
    assert_eq!(json["mistakes"][0]["text"], format!("{:?}", pair.0));
    assert!(json["mistakes"][0]["line"].is_u64(), "{json}");
}

#[tokio::test]
async fn a_certificate_nobody_can_serve_with_stops_the_start_with_its_place() {
    let ca = Ca::new();
    let settings = Cutover::with();
    let pair = ca.issue(&["shop.test"], settings.folder());
    let (_blue, mut proxy) = shop(std::slice::from_ref(&pair), settings, "").await;
    proxy.terminate().await;
    fs::write(&pair.1, "").unwrap();
    let said = proxy.restart_in_vain().await.assert_code(2).stderr;
    assert!(said.contains("shop.test.key is empty") && said.contains("cutover.toml:"), "{said}");
}

#[tokio::test]
async fn check_says_what_is_spoken_and_warns_without_failing() {
    let ca = Ca::new();
    let settings = Cutover::with();
    let pair = ca.issue(&["shop.test"], settings.folder());
    fs::set_permissions(&pair.1, fs::Permissions::from_mode(0o644)).unwrap();
    let extra = "min_version = \"1.3\"\npost_quantum = false";
    let settings = settings.tls_with(std::slice::from_ref(&pair), extra);
    let settings = settings.service("shop", |s| s.blue([SocketAddr::from(([127, 0, 0, 1], 9))]));
    settings.write();
    let config = settings.file();
    let config = config.to_str().unwrap();
    let ran = cutover(&["check", "--config", config]).await.assert_code(0);
    let spoken = "over TLS 1.3 with 1 certificate, without post-quantum key exchange";
    assert!(ran.stdout.contains(spoken) && ran.stderr.starts_with("warning: the key "), "{ran:#?}");
    let json = cutover(&["check", "--config", config, "--json"]).await.assert_code(0).json();
    assert_eq!((&json["mistakes"], &json["warnings"][0]["text"]), (&json!([]), &json!(format!("{:?}", pair.1))));
}

#[tokio::test]
async fn metrics_tell_when_a_certificate_ends() {
    let ca = Ca::new();
    let settings = Cutover::with();
    let pair = ca.issue_expired(&["shop.test"], settings.folder());
    let (_blue, proxy) = shop(std::slice::from_ref(&pair), settings, "").await;
    let (listener, certificate) = (proxy.tls_address().to_string(), pair.0.display().to_string());
    let labels = [("listener", listener.as_str()), ("certificate", certificate.as_str())];
    let end = proxy.metrics().await.value("cutover_certificate_expiry_timestamp_seconds", &labels);
    assert_eq!(end, 1_582_934_400.0);
}

#[tokio::test]
async fn a_handshake_that_fails_hurts_nobody_else() {
    let ca = Ca::new();
    let (_blue, proxy) = simple(&ca, "").await;
    let mut client = Client::tls(proxy.tls_address(), &ca, "shop.test", &["h2"]).await;
    for _ in 0..8 {
        let stranger = Arc::new(Ca::new().client());
        assert!(greet(proxy.tls_address(), "shop.test", &stranger).await.is_err());
        assert_eq!(client.get("/").await.status, 200);
    }
}
