//! One certificate chain and its key: read from their files, and everything that is wrong with them said at once.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use webpki::{EndEntityCert, KeyUsage};

use crate::config::{CertificateFiles, Wrong};
use crate::names::HostPattern;
use crate::time::Timestamp;

/// A certificate that can be served, whether or not clients will like it.
#[derive(Debug)]
pub struct Certificate {
    /// The file of the chain.
    pub path: PathBuf,
    pub not_after: Timestamp,
    pub key: Arc<CertifiedKey>,
    /// In lower case; `*.` at the front stands for one label.
    pub names: Vec<String>,
}

/// Something wrong with one of the two files.
#[derive(Debug)]
pub struct Flaw {
    pub file: Which,
    pub grade: Grade,
    pub wrong: Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Cert,
    Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// Nothing can be served with it.
    Unusable,
    /// It can be served, and clients refuse it.
    Refused,
    /// It works, today.
    Doubtful,
}

impl Certificate {
    /// Reads both files. All flaws are said; a certificate comes with them where it can be served all the same.
    pub fn read(files: &CertificateFiles, now: Timestamp) -> (Option<Certificate>, Vec<Flaw>) {
        let (path, key_path) = (files.cert.get_ref(), files.key.get_ref());
        let mut flaws = Vec::new();
        let chain = read_chain(path).map_err(|wrong| flaws.push(Which::Cert.is(Grade::Unusable, wrong))).ok();
        let signer = read_key(key_path).map_err(|wrong| flaws.push(Which::Key.is(Grade::Unusable, wrong))).ok();
        flaws.extend(open_to_all(key_path).map(|wrong| Which::Key.is(Grade::Doubtful, wrong)));
        let links = chain.as_ref().map(|chain| parse(path, chain));
        let links =
            links.and_then(|links| links.map_err(|wrong| flaws.push(Which::Cert.is(Grade::Unusable, wrong))).ok());
        let (Some(chain), Some(links)) = (&chain, links) else { return (None, flaws) };
        flaws.extend(links.iter().enumerate().filter_map(|(place, link)| out_of_date(path, place, link, now)));
        let certified = signer.map(|signer| CertifiedKey::new(chain.clone(), signer));
        if let Some(certified) = &certified
            && certified.keys_match() == Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch))
        {
            flaws.push(strangers(path, key_path, certified));
            return (None, flaws);
        }
        let broken = out_of_order(path, &links).or_else(|| unsigned(path, chain, &links, now));
        flaws.extend(broken.map(|wrong| Which::Cert.is(Grade::Refused, wrong)));
        let Some(certified) = certified else { return (None, flaws) };
        let (not_after, names) = (links[0].not_after, links[0].names());
        (Some(Certificate { path: path.clone(), not_after, key: Arc::new(certified), names }), flaws)
    }

    /// Whether it is for this DNS name.
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(suffix)),
            None => pattern.eq_ignore_ascii_case(name),
        })
    }

    /// Whether it is for any of what these hosts stand for.
    pub fn covers_any(&self, hosts: &HostPattern) -> bool {
        match hosts {
            HostPattern::Exact(host) => self.covers(host) || self.covers_address(host),
            HostPattern::Below(suffix) => self
                .names
                .iter()
                .any(|name| name.strip_suffix(suffix.as_str()).is_some_and(|front| front.ends_with('.'))),
        }
    }

    fn covers_address(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let leaf = self.key.end_entity_cert().ok().and_then(|leaf| EndEntityCert::try_from(leaf).ok());
        let address = IpAddr::try_from(bare).ok().map(ServerName::IpAddress);
        leaf.zip(address).is_some_and(|(leaf, address)| leaf.verify_is_valid_for_subject_name(&address).is_ok())
    }
}

impl Which {
    fn is(self, grade: Grade, wrong: Wrong) -> Flaw {
        Flaw { file: self, grade, wrong }
    }
}

/// One certificate of a chain, understood.
struct Link<'a> {
    parsed: EndEntityCert<'a>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl<'a> Link<'a> {
    /// webpki reads a certificate's times only to hold one against them, so it is asked about the first moment there is
    /// and the last: that comes before anything else it would look at.
    fn parse(der: &'a CertificateDer<'a>) -> Result<Link<'a>, webpki::Error> {
        let parsed = EndEntityCert::try_from(der)?;
        let not_before = match verify(&parsed, UnixTime::since_unix_epoch(Duration::ZERO)) {
            Err(webpki::Error::CertNotValidYet { not_before, .. }) => timestamp(not_before),
            Err(error @ (webpki::Error::BadDerTime | webpki::Error::InvalidCertValidity)) => return Err(error),
            _ => Timestamp::UNIX_EPOCH,
        };
        let not_after = match verify(&parsed, UnixTime::since_unix_epoch(Duration::MAX)) {
            Err(webpki::Error::CertExpired { not_after, .. }) => timestamp(not_after),
            Err(error) => return Err(error),
            Ok(()) => Timestamp::MAX,
        };
        Ok(Link { parsed, not_before, not_after })
    }

    fn names(&self) -> Vec<String> {
        self.parsed.valid_dns_names().map(str::to_ascii_lowercase).collect()
    }
}

fn verify(parsed: &EndEntityCert<'_>, at: UnixTime) -> Result<(), webpki::Error> {
    parsed.verify_for_usage(&[], &[], &[], at, KeyUsage::server_auth(), None, None).map(drop)
}

/// The last second that can be told is in the year 9999, which is also how certificates say that they never end.
fn timestamp(at: UnixTime) -> Timestamp {
    i64::try_from(at.as_secs()).ok().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(Timestamp::MAX)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let file = path.display();
    let sections = sections(path, &CHAIN)?;
    let exchanged = sections.iter().any(|(kind, _)| is_private(*kind));
    let chain = sections.into_iter().filter(|(kind, _)| *kind == SectionKind::Certificate);
    let chain: Vec<_> = chain.map(|(_, der)| CertificateDer::from(der)).collect();
    match chain.is_empty() {
        false => Ok(chain),
        true if exchanged => Err(Wrong::new(format!("{file} holds a private key and no certificate"), EXCHANGED)),
        true => Err(CHAIN.missing(path)),
    }
}

fn read_key(path: &Path) -> Result<Arc<dyn SigningKey>, Wrong> {
    let file = path.display();
    if is_locked(path) {
        let message = format!("the key in {file} is locked with a passphrase, and nobody is there to type it");
        let help = format!("write it unlocked: `openssl pkey -in {file} -out unlocked.key`, readable only for cutover");
        return Err(Wrong::new(message, help));
    }
    let sections = sections(path, &KEY)?;
    let exchanged = sections.iter().any(|(kind, _)| *kind == SectionKind::Certificate);
    let key = sections.into_iter().find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    let Some(key) = key else {
        return Err(match exchanged {
            true => Wrong::new(format!("{file} holds a certificate and no private key"), EXCHANGED),
            false => KEY.missing(path),
        });
    };
    let usable = aws_lc_rs::default_provider().key_provider.load_private_key(key);
    usable.map_err(|_| {
        let message = format!("{file} holds a private key that is damaged or of an unknown kind");
        Wrong::new(message, "use an RSA key of 2048 to 8192 bits, an ECDSA key on P-256, P-384 or P-521, or Ed25519")
    })
}

/// What a file should hold.
struct Content {
    what: &'static str,
    begins: &'static str,
    openssl: &'static str,
}

impl Content {
    fn missing(&self, path: &Path) -> Wrong {
        let Content { what, begins, openssl } = self;
        let file = path.display();
        match read(path).is_ok_and(|bytes| bytes.first() == Some(&DER)) {
            true => Wrong::new(
                format!("{file} is DER, not PEM"),
                format!("`openssl {openssl} -inform der -in {file} -out FILE` makes PEM of it"),
            ),
            false => Wrong::new(format!("{file} holds no {what}"), format!("write one into it, as PEM: `{begins}`")),
        }
    }
}

/// Everything in a PEM file.
fn sections(path: &Path, content: &Content) -> Result<Vec<(SectionKind, Vec<u8>)>, Wrong> {
    let (file, what) = (path.display(), content.what);
    let bytes = read(path).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "write it there, or name another; a relative path begins at the config's folder",
            io::ErrorKind::PermissionDenied => "let the user that runs cutover read it, and enter its folder",
            _ => "name a readable file",
        };
        Wrong::new(format!("cannot read the {what} {file}: {error}"), help)
    })?;
    if bytes.trim_ascii().is_empty() {
        return Err(Wrong::new(format!("{file} is empty"), format!("write a {what} into it, as PEM")));
    }
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes).collect::<Result<_, _>>();
    sections.map_err(|error| {
        let why = match error {
            pem::Error::MissingSectionEnd { .. } => "a line with `-----END` is missing".to_owned(),
            pem::Error::IllegalSectionStart { .. } => "a line with `-----BEGIN` is broken".to_owned(),
            other => other.to_string(),
        };
        Wrong::new(format!("{file} is damaged: {why}"), "copy it again, from its first line to its last")
    })
}

/// At most a mebibyte: a path to something endless must not hang the start.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_private(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

/// The PEM reader passes over such a key, or takes it for damaged: there are two ways to write one.
fn is_locked(path: &Path) -> bool {
    let text = read(path).unwrap_or_default();
    text.windows(LOCKED.len()).any(|part| part == LOCKED)
}

fn open_to_all(path: &Path) -> Option<Wrong> {
    let mode = path.metadata().ok().filter(std::fs::Metadata::is_file)?.permissions().mode();
    let file = path.display();
    (mode & 0o004 != 0).then(|| {
        Wrong::new(format!("the key {file} can be read by everyone on this machine"), format!("run `chmod o= {file}`"))
    })
}

fn parse<'c>(path: &Path, chain: &'c [CertificateDer<'static>]) -> Result<Vec<Link<'c>>, Wrong> {
    let link = |(place, der)| {
        Link::parse(der).map_err(|error| {
            let message = format!("{} cannot be understood: {error}", certificate(path, place));
            Wrong::new(message, "copy it again, or have it issued anew")
        })
    };
    chain.iter().enumerate().map(link).collect()
}

/// The server's own certificate, or another one of its chain.
fn certificate(path: &Path, place: usize) -> String {
    match place {
        0 => format!("the certificate in {}", path.display()),
        _ => format!("certificate {} in {}", place + 1, path.display()),
    }
}

/// What the clock says of it. Of the others in the chain only that they are over, and mildly: clients may know another way.
fn out_of_date(path: &Path, place: usize, link: &Link, now: Timestamp) -> Option<Flaw> {
    let Link { not_before, not_after, .. } = link;
    let what = certificate(path, place);
    let (grade, message, help) = match place {
        _ if now > *not_after => {
            let message = format!("{what} expired {} ago, on {}", days(now, *not_after), date(*not_after));
            match place {
                0 => (Grade::Refused, message, "renew it: clients refuse it"),
                _ => (Grade::Doubtful, message, "take the chain that is given out today: some clients refuse this one"),
            }
        }
        0 if now < *not_before => {
            let message = format!("{what} is not valid before {}, in {}", date(*not_before), days(*not_before, now));
            (Grade::Refused, message, "use it then, or set this machine's clock right: clients refuse it")
        }
        0 if not_after.duration_since(now).as_secs() < SOON => {
            let message = format!("{what} expires in {}, on {}", days(*not_after, now), date(*not_after));
            (Grade::Doubtful, message, "renew it before: then clients refuse it")
        }
        _ => return None,
    };
    Some(Which::Cert.is(grade, Wrong::new(message, help)))
}

fn days(later: Timestamp, earlier: Timestamp) -> String {
    let hours = later.duration_since(earlier).as_hours();
    match (hours, hours / 24) {
        (0, _) => "less than an hour".to_owned(),
        (1, _) => "1 hour".to_owned(),
        (2..48, _) => format!("{hours} hours"),
        (_, days) => format!("{days} days"),
    }
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Behind each certificate stands the one that vouches for it, by name.
fn out_of_order(path: &Path, links: &[Link]) -> Option<Wrong> {
    let names: Vec<_> = links.iter().map(|link| (link.parsed.subject(), link.parsed.issuer())).collect();
    let place = names.windows(2).position(|pair| pair[0].1 != pair[1].0)?;
    let file = path.display();
    let (first, second) = (place + 1, place + 2);
    let right = names.iter().enumerate().position(|(other, (subject, _))| other != place && *subject == names[place].1);
    Some(match right {
        Some(right) => Wrong::new(
            format!(
                "the chain in {file} is out of order: certificate {} vouches for certificate {first}, not certificate {second}",
                right + 1
            ),
            "write the server's own certificate first, and behind each the one that vouches for it",
        ),
        None => Wrong::new(
            format!("certificate {second} in {file} does not vouch for certificate {first}"),
            "put the one there that does, or remove it; whoever issues certificates also gives their chain",
        ),
    })
}

/// The names fit, yet a signature does not: most often the issuer's certificate of an earlier time.
fn unsigned(path: &Path, chain: &[CertificateDer], links: &[Link], now: Timestamp) -> Option<Wrong> {
    let [_, between @ .., last] = chain else { return None };
    let anchors = [webpki::anchor_from_trusted_cert(last).ok()?];
    let known = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().ok()?));
    let usage = KeyUsage::server_auth();
    let verified = links[0].parsed.verify_for_usage(known, &anchors, between, at, usage, None, None);
    matches!(verified, Err(webpki::Error::InvalidSignatureForPublicKey)).then(|| {
        Wrong::new(
            format!("a signature in the chain of {} is not by the key of the certificate behind it", path.display()),
            "the names fit, the keys do not: take the chain that came with this very certificate",
        )
    })
}

/// Two files that are no pair; or they are, and the chain begins with another certificate.
fn strangers(path: &Path, key_path: &Path, certified: &CertifiedKey) -> Flaw {
    let (file, key) = (path.display(), key_path.display());
    let CertifiedKey { cert, key: signer, .. } = certified;
    let own = cert.iter().position(|one| CertifiedKey::new(vec![one.clone()], signer.clone()).keys_match().is_ok());
    match own {
        Some(place) => {
            let message = format!("the server's own certificate is certificate {} in {file}", place + 1);
            let help = "write it first, and behind each the one that vouches for it";
            Which::Cert.is(Grade::Unusable, Wrong::new(message, help))
        }
        None => {
            let message = format!("{key} is not the key of the certificate in {file}");
            let help = format!(
                "of a pair, `openssl x509 -noout -pubkey -in {file}` and `openssl pkey -pubout -in {key}` print the same"
            );
            Which::Key.is(Grade::Unusable, Wrong::new(message, help))
        }
    }
}

const CHAIN: Content = Content { what: "certificate", begins: "-----BEGIN CERTIFICATE-----", openssl: "x509" };
const KEY: Content = Content { what: "private key", begins: "-----BEGIN PRIVATE KEY-----", openssl: "pkey" };
const EXCHANGED: &str = "have `cert` and `key` been exchanged?";
const LOCKED: &[u8] = b"ENCRYPTED";
/// The first byte of a sequence, which certificates and keys are.
const DER: u8 = 0x30;
/// In seconds: whoever renews automatically does so before, so that what is left then is a renewal that failed.
const SOON: i64 = 14 * 24 * 3600;
