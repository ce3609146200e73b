//! A certificate authority for one story, and clients that trust nobody else.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::within;

pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Ca {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, for whoever reads whom to trust from a file.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes a certificate for these names, and its key, into the folder.
    pub fn issue(&self, names: &[&str], folder: &Path) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        self.write(names, &key, names[0], folder, |_| ())
    }

    /// The same with an RSA key.
    pub fn issue_rsa(&self, names: &[&str], folder: &Path) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        self.write(names, &key, &format!("{}-rsa", names[0]), folder, |_| ())
    }

    /// One that ended long ago.
    pub fn issue_expired(&self, names: &[&str], folder: &Path) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let ended = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 2, 29);
        self.write(names, &key, &format!("{}-expired", names[0]), folder, ended)
    }

    fn write(
        &self,
        names: &[&str],
        key: &KeyPair,
        file: &str,
        folder: &Path,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        let certificate = params.signed_by(key, &self.0).unwrap();
        let (cert_file, key_file) = (folder.join(format!("{file}.pem")), folder.join(format!("{file}.key")));
        fs::write(&cert_file, certificate.pem()).unwrap();
        let secret = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&key_file);
        secret.unwrap().write_all(key.serialize_pem().as_bytes()).unwrap();
        (cert_file, key_file)
    }

    /// A client that offers all there is.
    pub fn client(&self) -> ClientConfig {
        self.client_with(aws_lc_rs::default_provider(), rustls::ALL_VERSIONS)
    }

    /// A client that offers only this. It remembers sessions, if it is used again.
    pub fn client_with(&self, offers: CryptoProvider, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(offers)).with_protocol_versions(versions).unwrap();
        config.with_root_certificates(roots).with_no_client_auth()
    }

    /// A TLS connection on which the protocol is what both sides agreed on out of `alpn`.
    pub async fn connect(&self, address: SocketAddr, name: &str, alpn: &[&str]) -> TlsStream<TcpStream> {
        let mut config = self.client();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        greet(address, name, &Arc::new(config)).await.unwrap()
    }
}

/// A handshake.
pub async fn greet(
    address: SocketAddr,
    name: &str,
    client: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let socket = within("a TLS connection", TcpStream::connect(address)).await.unwrap();
    within("a TLS handshake", TlsConnector::from(client.clone()).connect(name, socket)).await
}
