//! The choice of certificates, and every flaw that a pair of files can have.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
    generate_simple_self_signed,
};

use super::*;
use crate::config::{CertificateFiles, Config, Report, Spanned};

/// Files in a folder of their own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }

    /// A certificate for `names` and its key.
    fn issue(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = generate_simple_self_signed(names).unwrap();
        self.write(&format!("{file}.pem"), made.cert.pem());
        self.write(&format!("{file}.key"), made.signing_key.serialize_pem());
        let spanned = |end: &str| Spanned::new(0..0, self.path(&format!("{file}.{end}")));
        CertificateFiles { cert: spanned("pem"), key: spanned("key") }
    }

    /// What is said of a config with these pairs of files, in a world where it is the 24th of November 2026.
    fn report(&self, pairs: &[(&str, &str)], purpose: Purpose) -> Report {
        let pair = |(cert, key): &(&str, &str)| format!("    {{ cert = \"{cert}\", key = \"{key}\" }},\n");
        let pairs: String = pairs.iter().map(pair).collect();
        let config = format!(
            "[[listener]]\naddress = \"127.0.0.1:443\"\ntls = {{ certificates = [\n{pairs}] }}\n\n\
            [service.shop]\nhosts = [\"shop.test\", \"*.api.test\", \"127.0.0.1\"]\n\
            [service.shop.blue]\nendpoints = [\"127.0.0.1:8080\"]\n"
        );
        self.write("cutover.toml", config);
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        match Config::load_with(&self.path("cutover.toml"), |config| inspect(config, purpose, now)) {
            Ok((_, report)) | Err(report) => report,
        }
    }

    /// Holds a report against the one that is kept, with the folder taken out. `UPDATE=1 cargo test` writes it anew.
    fn assert_expected(&self, report: &Report, name: &str) {
        let folder = format!("{}/", self.0.path().display());
        let found = format!("{}\n", report.to_string().replace(&folder, ""));
        let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/config/certificates").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&kept, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&kept).unwrap_or_default(), "{}", kept.display());
    }
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str, covers: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(covers.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str, by: Option<&Issuer>) -> Issuer {
    let mut params = named(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    match by {
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
        Some(by) => CertifiedIssuer::signed_by(params, key, by).unwrap(),
    }
}

#[test]
fn the_name_asked_for_chooses_the_certificate_and_an_exact_one_comes_before_a_wildcard() {
    let folder = Folder::new();
    let certificates = vec![
        folder.issue("shop", &["shop.test"]),
        folder.issue("api", &["*.api.test", "api.test"]),
        folder.issue("eu", &["EU.api.test", "*.eu.api.test"]),
    ];
    let tls = Tls { certificates, min_version: TlsVersion::V1_2, post_quantum: true };
    let certificates = Identity::load(&tls, None).unwrap().certificates;
    for (name, place) in [
        (Some("shop.test"), 0),
        (Some("SHOP.test"), 0),
        (Some("api.test"), 1),
        (Some("us.api.test"), 1),
        (Some("eu.api.test"), 2),
        (Some("a.eu.api.test"), 2),
        (Some("a.us.api.test"), 0),
        (Some("unknown.test"), 0),
        (None, 0),
    ] {
        assert_eq!(certificates.choose(name), place, "{name:?}");
    }
    assert!(certificates.vouches(0, "shop.test:443") && certificates.vouches(1, "us.api.test."));
    assert!(certificates.vouches(1, "eu.api.test"), "its own wildcard covers it");
    assert!(!certificates.vouches(0, "Api.test"), "another certificate is the one for it");
    assert!(certificates.vouches(1, "unknown.test"), "none is");
}

#[test]
fn what_is_unusable_is_said_of_every_file_at_once() {
    let folder = Folder::new();
    folder.issue("good", &["shop.test"]);
    folder.issue("other", &["shop.test"]);
    let pem = fs::read_to_string(folder.path("good.pem")).unwrap();
    folder.write("empty.pem", "\n");
    folder.write("former.pem", &pem);
    folder.write("words.pem", "the certificate comes here\n");
    folder.write("cut.pem", &pem[..pem.len() / 2]);
    folder.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let der = generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    folder.write("der.pem", der.cert.der());
    folder.write("der.key", der.signing_key.serialize_der());
    folder.write(
        "old.key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    folder.write("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    folder.write("garbage.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    fs::create_dir(folder.path("folder.pem")).unwrap();
    let pairs = [
        ("missing.pem", "missing.key"),
        ("folder.pem", "good.key"),
        ("empty.pem", "good.key"),
        ("good.key", "good.pem"),
        ("words.pem", "words.pem"),
        ("cut.pem", "good.key"),
        ("garbage.pem", "garbage.key"),
        ("good.pem", "locked.key"),
        ("der.pem", "der.key"),
        ("former.pem", "old.key"),
        ("other.pem", "good.key"),
    ];
    folder.assert_expected(&folder.report(&pairs, Purpose::Check), "unusable.expected");
    assert_eq!(folder.report(&pairs, Purpose::Serve), folder.report(&pairs, Purpose::Check), "no use to serve with");
}

/// A chain of three in every order, and what time does to a certificate.
#[test]
fn what_clients_refuse_is_a_mistake_to_check_and_a_warning_to_serve_with() {
    let folder = Folder::new();
    let root = authority("root", None);
    let (middle, former, stranger) =
        (authority("middle", Some(&root)), authority("middle", Some(&root)), authority("stranger", None));
    let key = KeyPair::generate().unwrap();
    let leaf = |change: fn(&mut CertificateParams)| {
        let mut params = named("leaf", &["shop.test"]);
        change(&mut params);
        params.signed_by(&key, &middle).unwrap().pem()
    };
    let good = leaf(|_| ());
    folder.write("leaf.key", key.serialize_pem());
    folder.write("expired.pem", leaf(|params| params.not_after = date_time_ymd(2026, 11, 1)));
    folder.write("future.pem", leaf(|params| params.not_before = date_time_ymd(2026, 11, 26)));
    folder.write("right.pem", [&good, &*middle.pem(), &root.pem()].concat());
    folder.write("order.pem", [&good, &*root.pem(), &middle.pem()].concat());
    folder.write("stranger.pem", [&good, &*stranger.pem()].concat());
    folder.write("former.pem", [&good, &*former.pem()].concat());
    folder.write("last.pem", [&*middle.pem(), &good].concat());
    let names = ["right", "expired", "future", "order", "stranger", "former"].map(|name| format!("{name}.pem"));
    let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "leaf.key")).collect();
    let report = folder.report(&pairs, Purpose::Serve);
    assert!(report.mistakes.is_empty() && report.warnings.len() == 5, "{report}");
    folder.assert_expected(
        &folder.report(&[&pairs[..], &[("last.pem", "leaf.key")]].concat(), Purpose::Check),
        "refused.expected",
    );
}

#[test]
fn what_works_only_today_or_for_nobody_is_a_warning() {
    let folder = Folder::new();
    folder.issue("others", &["blog.test", "*.blog.test"]);
    folder.issue("address", &["127.0.0.1"]);
    folder.issue("below", &["eu.api.test"]);
    let key = KeyPair::generate().unwrap();
    let mut soon = named("soon", &["shop.test"]);
    soon.not_after = date_time_ymd(2026, 12, 3);
    folder.write("soon.pem", soon.self_signed(&key).unwrap().pem());
    folder.write("soon.key", key.serialize_pem());
    fs::set_permissions(folder.path("soon.key"), Permissions::from_mode(0o644)).unwrap();
    // Some clients still find another way past a certificate in between that has ended.
    let mut middle = named("middle", &[]);
    (middle.is_ca, middle.not_after) = (IsCa::Ca(BasicConstraints::Unconstrained), date_time_ymd(2026, 11, 24));
    let middle = Issuer::self_signed(middle, KeyPair::generate().unwrap()).unwrap();
    let below = named("chained", &["shop.test"]).signed_by(&key, &middle).unwrap();
    folder.write("chained.pem", [below.pem(), middle.pem()].concat());
    folder.write("chained.key", key.serialize_pem());
    let pairs =
        ["others", "address", "below", "soon", "chained"].map(|name| (format!("{name}.pem"), format!("{name}.key")));
    let pairs: Vec<_> = pairs.iter().map(|(cert, key)| (cert.as_str(), key.as_str())).collect();
    let report = folder.report(&pairs, Purpose::Check);
    assert!(report.mistakes.is_empty(), "{report}");
    folder.assert_expected(&report, "doubtful.expected");
}
