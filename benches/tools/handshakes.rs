//! A TLS handshake for each request, never a resumed one: what wrk, which resumes, cannot load with.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cutover::time::Moment;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::Client;

/// Loads for some seconds and prints what came of it.
pub async fn load(address: SocketAddr, clients: usize, seconds: u64) -> anyhow::Result<()> {
    let config = Arc::new(config()?);
    let seen = Rc::new(RefCell::new(Seen::default()));
    let begun = Moment::now();
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let tasks = tokio::task::LocalSet::new();
    for _ in 0..clients {
        let (config, seen) = (TlsConnector::from(config.clone()), seen.clone());
        tasks.spawn_local(async move {
            while tokio::time::Instant::now() < end {
                let asked = Moment::now();
                let answer = visit(address, &config).await;
                seen.borrow_mut().count(answer, Moment::now().since(asked));
            }
        });
    }
    tasks.await;
    seen.borrow_mut().print(Moment::now().since(begun));
    Ok(())
}

async fn visit(address: SocketAddr, config: &TlsConnector) -> anyhow::Result<u16> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = config.connect(ServerName::try_from("localhost")?, stream).await?;
    let answer = Client::over(stream, "/", "Connection: close\r\n").ask().await?;
    Ok(answer.status)
}

#[derive(Default)]
struct Seen {
    micros: Vec<u64>,
    failed: u64,
    reason: Option<String>,
}

impl Seen {
    fn count(&mut self, answer: anyhow::Result<u16>, took: Duration) {
        match answer {
            Ok(200) => self.micros.push(took.as_micros() as u64),
            Ok(status) => self.fail(format!("answered {status}")),
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    fn fail(&mut self, reason: String) {
        self.failed += 1;
        self.reason.get_or_insert(reason);
    }

    fn print(&mut self, took: Duration) {
        self.micros.sort_unstable();
        let at = |share: usize| self.micros.get(self.micros.len() * share / 100).copied().unwrap_or_default();
        let figures = serde_json::json!({
            "requests": self.micros.len(),
            "seconds": took.as_secs_f64(),
            "p50_us": at(50),
            "p99_us": at(99),
            "failed": self.failed,
            "reason": self.reason,
        });
        println!("{figures}");
    }
}

/// The suite and the key exchange that all the proxies have, so that all do the same work.
fn config() -> anyhow::Result<ClientConfig> {
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?.dangerous();
    let mut config = builder.with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Believes every certificate and signature: it is the server's work that is measured.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
