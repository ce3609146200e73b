//! TLS on a listener: certificates read from files, chosen by the name the client asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use crate::config::{CertificateFiles, Tls};

/// The certificates of one listener; the first serves whoever asks for no name, or for one that none covers.
#[derive(Debug)]
pub struct Certificates {
    list: Vec<Certificate>,
}

#[derive(Debug)]
struct Certificate {
    /// In lower case; `*.` at the front stands for one label.
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads and checks every file; the first that does not do is the error.
    pub fn load(tls: &Tls) -> Result<Arc<Certificates>, TlsError> {
        let list = tls.certificates.iter().map(Certificate::load).collect::<Result<_, _>>()?;
        Ok(Arc::new(Certificates { list }))
    }

    /// What rustls needs to serve them: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
    pub fn server_config(self: &Arc<Certificates>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The place of the certificate for `name`.
    pub fn choose(&self, name: Option<&str>) -> usize {
        let covering = name.and_then(|name| self.list.iter().position(|certificate| certificate.covers(name)));
        covering.unwrap_or(0)
    }

    /// Whether a connection opened under the certificate at `place` may ask for `host`: not where another certificate
    /// is the one for it (RFC 9110, 15.5.20).
    pub fn vouches(&self, place: usize, host: &str) -> bool {
        let name = match host.rfind(':') {
            Some(colon) if !host.ends_with(']') => &host[..colon],
            _ => host,
        };
        self.list.len() == 1 || self.list[place].covers(name) || !self.list.iter().any(|other| other.covers(name))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.list.get(self.choose(hello.server_name())).map(|certificate| certificate.key.clone())
    }
}

impl Certificate {
    fn load(files: &CertificateFiles) -> Result<Certificate, TlsError> {
        let CertificateFiles { cert, key } = files;
        let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<_, _>>)
            .map_err(|error| unreadable(cert, &error))?;
        let Some(leaf) = chain.first() else { return Err(TlsError::Empty { path: cert.clone() }) };
        let names = names_of(leaf).map_err(|error| unreadable(cert, &error))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
        let signer = aws_lc_rs::default_provider().key_provider.load_private_key(private);
        let signer = signer.map_err(|error| unreadable(key, &error))?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match().map_err(|_| TlsError::Mismatch { cert: cert.clone(), key: key.clone() })?;
        Ok(Certificate { names, key: Arc::new(certified) })
    }

    fn covers(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.names.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(suffix)),
            None => pattern.eq_ignore_ascii_case(name),
        })
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unreadable { path: path.to_owned(), why: error.to_string() }
}

fn names_of(leaf: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let parsed = webpki::EndEntityCert::try_from(leaf)?;
    Ok(parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{}: holds no certificate; it must be PEM, with the server's own certificate first", path.display())]
    Empty { path: PathBuf },
    #[error("{} is not the key of {}: give the private key the certificate was made with", key.display(), cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a certificate for `names` and its key into `dir`.
    fn issue(dir: &Path, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let file = |end: &str| dir.join(format!("{}.{end}", names[0].replace('*', "any")));
        std::fs::write(file("pem"), made.cert.pem()).unwrap();
        std::fs::write(file("key"), made.signing_key.serialize_pem()).unwrap();
        CertificateFiles { cert: file("pem"), key: file("key") }
    }

    #[test]
    fn the_name_asked_for_chooses_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = vec![issue(dir.path(), &["shop.test"]), issue(dir.path(), &["*.api.test", "api.test"])];
        let certificates = Certificates::load(&Tls { certificates }).unwrap();
        for (name, place) in [
            (Some("shop.test"), 0),
            (Some("SHOP.test"), 0),
            (Some("api.test"), 1),
            (Some("eu.api.test"), 1),
            (Some("a.eu.api.test"), 0),
            (Some("unknown.test"), 0),
            (None, 0),
        ] {
            assert_eq!(certificates.choose(name), place, "{name:?}");
        }
        assert!(certificates.vouches(0, "shop.test:443") && certificates.vouches(1, "eu.api.test"));
        assert!(!certificates.vouches(0, "api.test"), "another certificate is the one for it");
        assert!(certificates.vouches(1, "unknown.test"), "none is");
    }

    #[test]
    fn files_that_do_not_do_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (issue(dir.path(), &["a.test"]), issue(dir.path(), &["b.test"]));
        let says = |cert: &Path, key: &Path| {
            let files = CertificateFiles { cert: cert.to_owned(), key: key.to_owned() };
            Certificates::load(&Tls { certificates: vec![files] }).unwrap_err().to_string()
        };
        assert!(says(&one.cert, &other.key).contains("b.test.key is not the key of"));
        assert!(says(&dir.path().join("none.pem"), &one.key).contains("none.pem: "));
        assert!(says(&one.key, &one.key).contains("a.test.key: holds no certificate"));
        let garbage = dir.path().join("garbage.pem");
        std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(says(&garbage, &one.key).contains("garbage.pem: "));
    }
}
