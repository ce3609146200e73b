//! What stories about a zone begin with: an account that can reach nothing but loopback, and short ways to say things.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use cutover::aws::Account;
use cutover::config::{Aws, AwsTimeouts};
use cutover::dns::{Action, Batch, Change, Data, Member, RecordSet, Zone};
use cutover::metrics::CallSheet;
use cutover::names::{DnsName, RecordType};
use tempfile::NamedTempFile;

/// One zone, and what it takes to reach it.
pub struct Stage {
    pub account: Account,
    pub zone: Arc<dyn Zone>,
    pub calls: Arc<CallSheet>,
    _keys: NamedTempFile,
}

impl Stage {
    /// The zone `id` at this address, which has to be on this machine.
    pub async fn at(url: &str, id: &str) -> Stage {
        Stage::with(url, id, AwsTimeouts::default()).await
    }

    /// Asked as fast as it answers.
    pub async fn with(url: &str, id: &str, timeouts: AwsTimeouts) -> Stage {
        Stage::paced(url, id, timeouts, 1_000).await
    }

    pub async fn paced(url: &str, id: &str, timeouts: AwsTimeouts, requests_per_second: u32) -> Stage {
        assert!(url.starts_with("http://127.0.0.1:"), "a story must not leave this machine: {url}");
        let keys = keys();
        let config = Aws {
            endpoint_url: Some(url.to_owned()),
            credentials_file: Some(keys.path().to_owned()),
            timeouts,
            requests_per_second,
            ..Aws::default()
        };
        let calls = Arc::new(Account::sheet());
        let account = Account::open(&config, calls.clone()).await;
        Stage { zone: account.zone(id), account, calls, _keys: keys }
    }

    /// How often requests of this operation of Route 53 ended so.
    pub fn counted(&self, operation: &str, result: &str) -> u64 {
        self.counted_at("route53", operation, result)
    }

    pub fn counted_at(&self, service: &str, operation: &str, result: &str) -> u64 {
        let mut all = self.calls.counts();
        all.find(|(names, _)| *names == [service, operation, result]).expect("on the sheet").1
    }
}

/// A credentials file with keys that are no secret.
pub fn keys() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    write!(
        file,
        "[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
    )
    .unwrap();
    file
}

/// Deadlines for stories in which none may pass, however busy the machine is.
pub fn patient() -> AwsTimeouts {
    let long = Duration::from_secs(60);
    AwsTimeouts { connect: long, attempt: long, operation: long * 2 }
}

/// Deadlines for stories in which one has to pass: short, and still long for an answer that comes.
pub fn impatient() -> AwsTimeouts {
    AwsTimeouts {
        connect: Duration::from_millis(1_500),
        attempt: Duration::from_millis(1_500),
        operation: Duration::from_secs(20),
    }
}

pub fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

pub fn values(name: &str, kind: RecordType, ttl: u32, values: &[&str]) -> RecordSet {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    RecordSet { name: self::name(name), kind, member: None, data: Data::Values { ttl, values } }
}

/// A weighted `A` member of `shop.example.com`.
pub fn member(identifier: &str, weight: u8, ttl: u32, value: &str) -> RecordSet {
    let set = values(SHOP, RecordType::A, ttl, &[value]);
    RecordSet { member: Some(Member { identifier: identifier.to_owned(), weight }), ..set }
}

/// The mark of who owns `shop.example.com`, and in which generation.
pub fn mark(generation: u32) -> RecordSet {
    values(MARK, RecordType::Txt, 60, &[&format!("\"owner=story generation={generation}\"")])
}

pub fn create(set: &RecordSet) -> Change {
    Change { action: Action::Create, set: set.clone() }
}

pub fn delete(set: &RecordSet) -> Change {
    Change { action: Action::Delete, set: set.clone() }
}

pub fn batch(changes: impl IntoIterator<Item = Change>) -> Batch {
    Batch { comment: "a story".to_owned(), changes: changes.into_iter().collect() }
}

pub const ZONE: &str = "Z0123456789ABC";
pub const SHOP: &str = "shop.example.com";
pub const MARK: &str = "_cutover.shop.example.com";
pub const KEY: &str = "AKIASTORY0000000KEY0";
pub const SECRET: &str = "story/secret+0123456789abcdefABCDEF01234";
pub const TOKEN: &str = "story-session-token-0123456789abcdef";
