//! The config, checked: what every other room is built from. Text becomes these types here and is never checked again.

mod admin;
mod aws;
mod canary;
mod cutover;
mod diff;
mod discover;
mod dns;
mod edge;
mod fields;
mod file;
mod page;
mod report;
mod section;
mod stack;
mod syntax;
mod value;
mod warm;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use toml::de::DeTable;

use crate::names::{HostPattern, PathPrefix, PerColor, ServiceName};

pub use admin::{Admin, AdminLimits, AdminTimeouts};
pub use aws::{Aws, AwsTimeouts};
pub use canary::{CanaryStep, Mirror, Previews, Sticky};
pub use cutover::{Bake, CutoverRules, Drain, GateRules, Question, Then};
pub use diff::{Change, diff};
pub use discover::{
    Discover, DiscoverFrom, DnsLookup, Ec2Instances, OpsWorksLayer, ScalingGroup, TargetGroup, opsworks_ended,
};
pub use dns::{Dns, DnsMode, DnsRecord, DnsStart, DnsTail, DnsTarget, Drift};
pub use edge::{Edge, EdgeLimits, EdgeTimeouts};
pub use fields::FieldNames;
pub use file::clash;
pub use report::{Finding, Mistake, Report, Weight, Wrong};
pub use stack::{StackRules, StackTimeouts};
pub use toml::Spanned;
pub use value::{Share, parse_duration};
pub use warm::{AtStart, Warm, WarmRequest};

/// The whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub admin: Admin,
    pub state: State,
    pub edge: Edge,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// At least one, in the order of the file; names are unique, and no two claim the same host and path.
    pub services: Vec<Service>,
    /// Left out: no access log.
    pub access_log: Option<AccessLog>,
    pub aws: Aws,
}

impl Config {
    /// Reads the file. Relative paths in it begin at the folder it is in.
    pub fn load(path: &Path) -> Result<Config, Report> {
        Config::load_with(path, |_| Vec::new()).map(|(config, _)| config)
    }

    /// As `load`, and `look` is asked about what the file names, such as certificates: every mistake in either comes in
    /// one report. Beside the config stands the report of what is right but doubtful.
    pub fn load_with(path: &Path, look: impl FnOnce(&Config) -> Vec<Finding>) -> Result<(Config, Report), Report> {
        Config::parse_with(&read(path)?, path, look)
    }

    /// Where the proxy's socket is, if that much of the file can be read: commands have to reach a proxy whose config is
    /// just being edited.
    pub fn socket(path: &Path) -> Result<PathBuf, Report> {
        let text = read(path)?;
        Config::parse(&text, path).map(|config| config.admin.socket).or_else(|report| {
            let (readable, _) = syntax::repair(&text);
            let (root, _) = DeTable::parse_recoverable(&readable);
            let admin = root.get_ref().get("admin").and_then(|admin| admin.get_ref().as_table());
            let socket =
                admin.and_then(|admin| admin.get("socket")?.get_ref().as_str()).filter(|path| !path.is_empty());
            socket.map(|socket| path.parent().unwrap_or(Path::new("")).join(socket)).ok_or(report)
        })
    }

    /// As `load`, with the text at hand; `path` is only where it is said to come from.
    pub fn parse(text: &str, path: &Path) -> Result<Config, Report> {
        Config::parse_with(text, path, |_| Vec::new()).map(|(config, _)| config)
    }

    fn parse_with(
        text: &str,
        path: &Path,
        look: impl FnOnce(&Config) -> Vec<Finding>,
    ) -> Result<(Config, Report), Report> {
        // A byte order mark is no character of the first line.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (readable, flaws) = syntax::repair(text);
        let (root, _) = DeTable::parse_recoverable(&readable);
        let page = page::Page::new(text, path, flaws);
        let config = file::read(&page, root.get_ref());
        let report = Report::new(path, text, page.into_mistakes()).with(discover::doubts(&config)).with(look(&config));
        if report.mistakes.is_empty() { Ok((config, report)) } else { Err(report) }
    }
}

fn read(path: &Path) -> Result<String, Report> {
    let bytes = std::fs::read(path).map_err(|error| Report::unreadable(path, &error))?;
    String::from_utf8(bytes).map_err(|error| Report::not_text(path, &error))
}

/// Where the journal lives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct State {
    pub dir: PathBuf,
}

impl Default for State {
    fn default() -> State {
        State { dir: "/var/lib/cutover".into() }
    }
}

/// What a service manager calls the socket it hands over for the admin API; no listener can have this name.
pub const ADMIN_SOCKET: &str = "admin";

/// A line for every request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccessLog {
    #[serde(serialize_with = "diff::shown")]
    pub file: LogFile,
    #[serde(serialize_with = "diff::shown")]
    pub format: LogFormat,
    /// Bytes of lines that may wait for a slow disk; what comes then is dropped and counted.
    #[serde(serialize_with = "diff::size")]
    pub buffer: u64,
}

impl AccessLog {
    /// The buffer where the file says nothing of it.
    pub const BUFFER: u64 = 8 << 20;
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFile {
    Stdout,
    Path(PathBuf),
}

impl std::fmt::Display for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogFile::Stdout => f.write_str("stdout"),
            LogFile::Path(path) => path.display().fmt(f),
        }
    }
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One object each.
    #[default]
    Json,
    /// The combined log format of Apache and nginx.
    Combined,
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LogFormat::Json => "json",
            LogFormat::Combined => "combined",
        })
    }
}

/// One address clients connect to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listener {
    pub address: SocketAddr,
    /// What a service manager calls the socket that it hands over for this listener.
    pub name: Option<String>,
    pub tls: Option<Tls>,
}

/// What a listener needs to speak TLS.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tls {
    /// At least one; the first also answers clients that name no host or an unknown one.
    pub certificates: Vec<CertificateFiles>,
    pub min_version: TlsVersion,
    /// Whether the key exchange that also withstands quantum computers is offered (X25519MLKEM768).
    pub post_quantum: bool,
}

/// The versions of TLS there are; older ones are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// A certificate chain and its private key, both PEM. Where a path stands in the file is known, so that what is wrong
/// with the file it names can be shown there; it does not count when two configs are compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CertificateFiles {
    pub cert: Spanned<PathBuf>,
    pub key: Spanned<PathBuf>,
}

/// One service: which requests are its own, and the two colors that can serve it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    #[serde(skip)]
    pub name: ServiceName,
    /// Empty: it takes what no other service does.
    pub hosts: Vec<HostPattern>,
    pub path: PathPrefix,
    #[serde(flatten)]
    pub stacks: PerColor<Stack>,
    pub health: Health,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub cutover: CutoverRules,
    /// How the colors' stacks are looked after, where they have any.
    #[serde(rename = "stacks")]
    pub stack_rules: StackRules,
    /// Left out: no name follows it.
    pub dns: Option<Dns>,
}

/// One color's side of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stack {
    /// May be empty; none is named twice. In a proxy that runs, what has been discovered stands here too.
    pub endpoints: Vec<SocketAddr>,
    /// How they are learned, where the file does not name them.
    pub discover: Option<Discover>,
    /// What its health checks are answered with, where [`Health::expect_stack`] asks for that.
    pub stack: Option<String>,
}

/// How an endpoint proves that it works.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// Left out: a TCP connect is enough.
    pub path: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Passing checks in a row that bring a down endpoint up.
    pub rise: u32,
    /// Failing checks in a row that take an up endpoint down.
    pub fall: u32,
    /// Never empty.
    pub expect_status: Vec<u16>,
    /// Where the answer has to say which stack it is from: everywhere there the color's own `stack`, or the check does not
    /// count.
    pub expect_stack: Option<StackMark>,
    /// How long an endpoint that has come up takes to get its whole share beside others; nothing: it has it at once.
    pub slow_start: Duration,
}

impl Service {
    /// The host that the proxy's own requests name; `None` where the service has none that is one name.
    pub fn own_host(&self) -> Option<&str> {
        self.hosts.iter().find_map(|host| match host {
            HostPattern::Exact(name) => Some(name.as_str()),
            HostPattern::Below(_) => None,
        })
    }
}

impl Default for Health {
    fn default() -> Health {
        Health {
            path: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: 2,
            fall: 3,
            expect_status: vec![200],
            expect_stack: None,
            slow_start: Duration::ZERO,
        }
    }
}

/// Where a health check's answer says which stack it is from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StackMark {
    pub header: Option<String>,
    /// A JSON pointer (RFC 6901) into the body.
    pub json: Option<String>,
}

/// How long each part of a request may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeouts {
    /// Connecting to one endpoint.
    pub connect: Duration,
    /// From the request's last byte sent to the answer's head.
    pub first_byte: Duration,
    /// A client connection without a request.
    pub idle: Duration,
    /// A request's head, from its first byte to its last.
    pub head: Duration,
    /// The period in which a body, either way, has to bring something.
    pub body: Duration,
    /// How long an unused connection to an endpoint is kept.
    pub upstream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(60),
        }
    }
}

/// What one request may bring.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of one request's body. Left out: no limit, since bodies stream and are never held whole.
    #[serde(serialize_with = "diff::size_if_any")]
    pub request_body: Option<u64>,
    /// Bytes of a body that are waited for before an endpoint is bothered with it.
    #[serde(serialize_with = "diff::size")]
    pub request_buffer: usize,
    /// Bytes a second that a request's body has to bring over each period of `timeouts.body`; 0: any progress will do.
    #[serde(serialize_with = "diff::size")]
    pub body_rate: u64,
    /// Bytes of the head of an answer, as it comes.
    #[serde(serialize_with = "diff::size")]
    pub answer_head: usize,
    /// Fields of the head of an answer.
    pub answer_fields: usize,
    /// Connections a request may try to make before it is given up.
    pub tries: usize,
    /// Unused connections that one worker keeps to one endpoint.
    pub upstream_idle: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_body: None,
            request_buffer: 64 << 10,
            body_rate: 100,
            answer_head: 64 << 10,
            answer_fields: 100,
            tries: 4,
            upstream_idle: 1024,
        }
    }
}
