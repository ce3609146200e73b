//! TLS on a listener: who it is, as one value that is built aside and swapped whole.

mod certificate;
mod inspect;
mod oneself;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, NamedGroup, ServerConfig, version};

use self::certificate::{Certificate, Grade};
pub use self::inspect::{Purpose, inspect};
use crate::config::{Tls, TlsVersion};
use crate::time::{self, Timestamp};

/// A listener's certificates, and what rustls needs to serve them. A reload builds another one and swaps the two;
/// connections that are open keep the one they were greeted with.
#[derive(Debug)]
pub struct Identity {
    pub certificates: Arc<Certificates>,
    pub server: Arc<ServerConfig>,
}

impl Identity {
    /// Reads every file anew. The identity before it, if there is one, leaves its ticket keys, so that a reload does not
    /// send every client through a whole handshake at once.
    pub fn load(tls: &Tls, before: Option<&Identity>) -> Result<Identity, TlsError> {
        let certificates = Arc::new(Certificates::load(tls)?);
        let versions: &[_] = match tls.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V1_3 => &[&version::TLS13],
        };
        let mut server = ServerConfig::builder_with_provider(Arc::new(provider(tls.post_quantum)))
            .with_protocol_versions(versions)
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Whoever comes back brings the session along, sealed; every worker has the same keys, and none keeps a session.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = match before {
            Some(before) => before.server.ticketer.clone(),
            None => aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?,
        };
        // Early data can be replayed by whoever has seen it: never.
        server.max_early_data_size = 0;
        Ok(Identity { certificates, server: Arc::new(server) })
    }

    /// For who comes to the listener as its clients do, and wants to be sure that it is this one.
    pub fn client(&self) -> Result<ClientConfig, TlsError> {
        oneself::client(&self.certificates).map_err(TlsError::Setup)
    }
}

fn provider(post_quantum: bool) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let quantum = |group: NamedGroup| matches!(group, NamedGroup::X25519MLKEM768 | NamedGroup::secp256r1MLKEM768);
    provider.kx_groups.retain(|group| post_quantum || !quantum(group.name()));
    provider
}

/// The certificates of one listener; the first serves whoever asks for no name, or for one that none covers.
#[derive(Debug)]
pub struct Certificates {
    list: Vec<Certificate>,
    /// The places of the certificates for a name, in the order of the config.
    exact: HashMap<String, Vec<usize>, RandomState>,
    /// The same for `*.` and what is the key here.
    below: HashMap<String, Vec<usize>, RandomState>,
    /// The first, and those with the same names: they differ in the kind of their keys.
    first: Vec<usize>,
}

impl Certificates {
    fn load(tls: &Tls) -> Result<Certificates, TlsError> {
        let now = time::now();
        let (mut list, mut unusable) = (Vec::new(), Vec::new());
        for files in &tls.certificates {
            let (certificate, flaws) = Certificate::read(files, now);
            list.extend(certificate);
            unusable.extend(flaws.into_iter().filter(|flaw| flaw.grade == Grade::Unusable));
        }
        match unusable.is_empty() {
            true => Ok(Certificates::new(list)),
            false => Err(TlsError::Unusable(unusable.into_iter().map(|flaw| flaw.wrong.to_string()).collect())),
        }
    }

    fn new(list: Vec<Certificate>) -> Certificates {
        let (mut exact, mut below) = (HashMap::<_, Vec<_>, _>::default(), HashMap::<_, Vec<_>, _>::default());
        for (place, certificate) in list.iter().enumerate() {
            for name in &certificate.names {
                match name.strip_prefix("*.") {
                    Some(suffix) => below.entry(suffix.to_owned()).or_default().push(place),
                    None => exact.entry(name.clone()).or_default().push(place),
                }
            }
        }
        let alike = |(place, other): (usize, &Certificate)| (other.names == list[0].names).then_some(place);
        let first = list.iter().enumerate().filter_map(alike).collect();
        Certificates { exact, below, first, list }
    }

    /// The place of the certificate for `name`.
    pub fn choose(&self, name: Option<&str>) -> usize {
        self.places(name).first().copied().unwrap_or_default()
    }

    /// Whether a connection opened under the certificate at `place` may ask for `host`: not where another certificate
    /// is the one for it (RFC 9110, 15.5.20).
    pub fn vouches(&self, place: usize, host: &str) -> bool {
        let name = match host.rfind(':') {
            Some(colon) if !host.ends_with(']') => &host[..colon],
            _ => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        self.list.len() == 1 || self.list[place].covers(name) || self.covering(name).is_none()
    }

    /// Whether both would serve the same chains. The keys are those of the chains, so they need no look.
    pub fn are(&self, others: &Certificates) -> bool {
        self.list.iter().map(|one| &one.key.cert).eq(others.list.iter().map(|one| &one.key.cert))
    }

    /// Whether this is one of them.
    pub fn serve(&self, end_entity: &CertificateDer<'_>) -> bool {
        self.list.iter().any(|one| one.key.cert.first().is_some_and(|cert| cert == end_entity))
    }

    /// Each certificate's file, and when it ends.
    pub fn ends(&self) -> impl Iterator<Item = (&Path, Timestamp)> {
        self.list.iter().map(|certificate| (certificate.path.as_path(), certificate.not_after))
    }

    /// The places of those that would do for `name`, the best first; at least one.
    fn places(&self, name: Option<&str>) -> &[usize] {
        name.and_then(|name| self.covering(name)).unwrap_or(&self.first)
    }

    /// The exact name, in whichever certificate, comes before a wildcard.
    fn covering(&self, name: &str) -> Option<&[usize]> {
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let below = || self.below.get(name.split_once('.')?.1);
        self.exact.get(&*name).or_else(below).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    /// Of several for the name, the first with a key of a kind that the client knows.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let places = self.places(hello.server_name());
        let known = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let mut keys = places.iter().map(|place| &self.list[*place].key);
        keys.clone().find(known).or_else(|| keys.next()).cloned()
    }
}

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}", .0.join("\n"))]
    Unusable(Vec<String>),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}
