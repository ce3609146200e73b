//! `cutover check --aws` tries what is read, and says of each what to do; `--policy` prints what allows it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::stage::{KEY, SECRET, TOKEN, ZONE};
use crate::harness::route53::Set;
use crate::harness::{Backend, Ca, Cutover, FakeRoute53, PATIENCE, Process, Ran};

/// A config whose one service has `shop.example.com` and `www.example.com` follow it.
pub struct Desk {
    folder: TempDir,
}

impl Desk {
    pub fn new(endpoint_url: &str) -> Desk {
        assert!(
            ["http", "https"].iter().any(|scheme| endpoint_url.starts_with(&format!("{scheme}://127.0.0.1:"))),
            "a story must not leave this machine: {endpoint_url}"
        );
        Desk::of(&CONFIG.replace("ENDPOINT", endpoint_url))
    }

    /// With this for a config.
    pub fn of(config: &str) -> Desk {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("cutover.toml"), config).unwrap();
        Desk { folder }
    }

    /// Runs the command with nothing of AWS in its environment but this.
    pub async fn check(&self, args: &[&str], env: &[(&'static str, &str)]) -> Ran {
        self.check_within(PATIENCE, args, env).await
    }

    pub async fn check_within(&self, limit: Duration, args: &[&str], env: &[(&'static str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        // Whoever runs the tests may well have credentials.
        command.env_clear().env("HOME", self.folder.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.envs(env.iter().copied()).arg("check").arg("--config").arg(self.path("cutover.toml")).args(args);
        Process::run(command).ended_within(limit).await
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_is_read_is_tried_and_nothing_is_written() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    fake.put(ZONE, Set::new("shop.example.com", "A", 60, &["192.0.2.1"]).weighted("blue", 255));
    fake.put(ZONE, Set { health_check: Some("hc-1".into()), ..Set::new("www.example.com", "A", 60, &["192.0.2.9"]) });
    let before = fake.records(ZONE);
    let ran = Desk::new(&fake.url()).check(&["--aws"], &KEYS).await.assert_code(0);
    for line in [
        "At AWS, with the credentials found here:",
        "ok      route53:GetHostedZone on Z0123456789ABC: the zone is for example.com",
        "ok      route53:ListResourceRecordSets on Z0123456789ABC: shop.example.com: A blue of weight 255 (192.0.2.1 for 60 s)",
        "ok      route53:ListResourceRecordSets on Z0123456789ABC: www.example.com: A (not to be touched: health check hc-1)",
        "ok      route53:GetChange on Z0123456789ABC: changes can be followed",
        "-       route53:ChangeResourceRecordSets on Z0123456789ABC: not tried, since it would change something",
    ] {
        assert!(ran.stdout.lines().any(|found| found.trim_start() == line), "{line} is missing in\n{}", ran.stdout);
    }
    assert_eq!(fake.records(ZONE), before);
    assert_eq!(fake.count("ChangeResourceRecordSets"), 0);
    assert_eq!(fake.asked()[0].session_token.as_deref(), Some(TOKEN));
}

#[tokio::test]
async fn what_is_denied_is_said_line_by_line_with_a_remedy() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    fake.deny("ListResourceRecordSets");
    fake.deny("GetChange");
    let ran = Desk::new(&fake.url()).check(&["--aws", "--json"], &KEYS).await.assert_code(1);
    let aws = ran.json()["aws"].clone();
    let outcomes: Vec<_> = aws.as_array().unwrap().iter().map(|one| (&one["permission"], &one["outcome"])).collect();
    let expected = json!([
        ["route53:GetHostedZone", "ok"],
        ["route53:ListResourceRecordSets", "failed"],
        ["route53:ListResourceRecordSets", "failed"],
        ["route53:GetChange", "failed"],
        ["route53:ChangeResourceRecordSets", "not_tried"],
    ]);
    assert_eq!(json!(outcomes), expected);
    assert_eq!(aws[1]["name"], "shop.example.com");
    let says = aws[3]["says"].as_str().unwrap();
    assert!(says.contains("AWS denies route53:GetChange") && says.contains("cutover check --policy"), "{says}");
    assert!(!ran.stdout.contains(SECRET) && !ran.stderr.contains(SECRET));
}

#[tokio::test]
async fn a_name_outside_the_zone_is_found() {
    let fake = FakeRoute53::with_zone(ZONE, "example.org").await;
    let ran = Desk::new(&fake.url()).check(&["--aws"], &KEYS).await.assert_code(1);
    let line = "failed  route53:GetHostedZone on Z0123456789ABC: `shop.example.com` is not in this zone, which is for example.org: \
                correct `zone` under [service.shop.dns], or the name";
    assert!(ran.stdout.contains(line), "{}", ran.stdout);
}

#[tokio::test]
async fn the_policy_is_what_the_config_uses_and_needs_nobody() {
    let nobody = "http://127.0.0.1:9";
    let ran = Desk::new(nobody).check(&["--policy"], &[]).await.assert_code(0);
    let policy = ran.json();
    assert_eq!(policy["Version"], "2012-10-17");
    let change = &policy["Statement"][2];
    assert_eq!(change["Action"][0], "route53:ChangeResourceRecordSets");
    assert_eq!(change["Resource"][0], "arn:aws:route53:::hostedzone/Z0123456789ABC");
    let names =
        &change["Condition"]["ForAllValues:StringEquals"]["route53:ChangeResourceRecordSetsNormalizedRecordNames"];
    let expected =
        json!(["_cutover.shop.example.com", "_cutover.www.example.com", "shop.example.com", "www.example.com"]);
    assert_eq!(*names, expected);
    Desk::new(nobody).check(&["--policy", "--aws"], &[]).await.assert_code(2);
}

#[tokio::test]
async fn every_way_a_request_can_end_is_on_the_page_of_metrics_from_the_start() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let proxy = Cutover::with().service("shop", |shop| shop.blue([&blue]).green([&green])).start().await;
    let metrics = proxy.metrics().await;
    for operation in ["GetHostedZone", "ListResourceRecordSets", "ChangeResourceRecordSets", "GetChange"] {
        assert_eq!(
            metrics.value(
                "cutover_aws_requests_total",
                &[("service", "route53"), ("operation", operation), ("result", "unknown")]
            ),
            0.0
        );
    }
}

/// Whom the system trusts is trusted, and nobody else, over the proxy's own TLS.
#[tokio::test]
async fn amazon_is_spoken_to_over_tls_with_the_systems_roots() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let (ca, folder) = (Ca::new(), TempDir::new().unwrap());
    let url = behind_tls(&fake, &ca.issue(&["127.0.0.1"], folder.path())).await;
    let desk = Desk::new(&url);
    let roots = |ca: &Ca, name: &str| {
        std::fs::write(desk.path(name), ca.pem()).unwrap();
        desk.path(name)
    };
    let (own, other) = (roots(&ca, "own.pem"), roots(&Ca::new(), "other.pem"));
    let with = |file: &'static str, roots: &'static str| [&KEYS[..], &[(file, roots)]].concat();
    desk.check(&["--aws"], &with("SSL_CERT_FILE", own.leak())).await.assert_code(0);
    assert!(fake.asked().iter().all(|asked| asked.outcome != "?"));
    let asked = fake.asked().len();
    let ran = desk.check(&["--aws"], &with("SSL_CERT_FILE", other.leak())).await.assert_code(1);
    assert!(
        ran.stdout.contains("AWS cannot be reached") && ran.stdout.contains("invalid peer certificate"),
        "{}",
        ran.stdout
    );
    assert_eq!(fake.asked().len(), asked);
}

/// The fake, behind something that takes TLS off: its URL.
async fn behind_tls(fake: &FakeRoute53, (cert, key): &(PathBuf, PathBuf)) -> String {
    let chain = CertificateDer::pem_file_iter(cert).unwrap().map(Result::unwrap).collect();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (acceptor, server) = (TlsAcceptor::from(Arc::new(config)), fake.address);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not trust the certificate hangs up.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    url
}

const CONFIG: &str = r#"
[aws]
endpoint_url = "ENDPOINT"
requests_per_second = 1000
timeouts = { connect = "5s", attempt = "5s", operation = "8s" }

[[listener]]
address = "127.0.0.1:0"

[service.shop]
blue.endpoints = ["127.0.0.1:9001"]
green.endpoints = ["127.0.0.1:9002"]

[service.shop.dns]
zone = "Z0123456789ABC"

[[service.shop.dns.record]]
name = "shop.example.com"
type = "A"
blue = ["192.0.2.1"]
green = ["192.0.2.2"]

[[service.shop.dns.record]]
name = "www.example.com"
type = "A"
blue = ["192.0.2.1"]
green = ["192.0.2.2"]
"#;

pub const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_SESSION_TOKEN", TOKEN)];
