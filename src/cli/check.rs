//! `cutover check`: says whether the config is right, and what the proxy would do with it. Binds and changes nothing.

use std::fmt::Write;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::{Failure, Global, out};
use crate::aws::{self, Account, Tried};
use crate::config::{Config, Listener, Report, Service, Tls, TlsVersion};
use crate::names::Color;
use crate::proxy::{Purpose, inspect};
use crate::time::{self, Human};

/// Validate the config and explain what it means; touches nothing
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// Also try at AWS whatever the config makes the proxy read there
    #[arg(long, conflicts_with = "policy")]
    aws: bool,
    /// Print only the least IAM policy that the proxy needs for this config
    #[arg(long)]
    policy: bool,
}

impl Check {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let look = |config: &Config| inspect(config, Purpose::Check, time::now());
        let loaded = Config::load_with(&global.config, look);
        let (config, report) = loaded.map_err(|report| Failure::Config(Box::new(report), global.json))?;
        if self.policy {
            return print_policy(&config);
        }
        let tried = if self.aws { Some(try_aws(&config)?) } else { None };
        if global.json {
            out::line(&as_json(&config, report, tried.as_deref()).to_string())?;
        } else {
            if !report.warnings.is_empty() {
                anstream::eprintln!("{}\n", report.render(true));
            }
            let mut text = explain(&config);
            text.push_str(&tried.as_deref().map(aws_says).unwrap_or_default());
            out::line(text.trim_end())?;
        }
        let failed = tried.iter().flatten().any(|one| one.outcome == aws::Outcome::Failed);
        if failed { Err(Failure::Quiet) } else { Ok(()) }
    }
}

fn as_json(config: &Config, report: Report, tried: Option<&[Tried]>) -> serde_json::Value {
    let services: Vec<String> = config.services.iter().map(|service| service.name.to_string()).collect();
    let listeners: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    let Report { path, mistakes, warnings, .. } = report;
    let mut right = json!({
        "path": path, "mistakes": mistakes, "warnings": warnings, "listeners": listeners, "services": services,
    });
    if let Some(tried) = tried {
        right["aws"] = json!(tried);
    }
    right
}

fn print_policy(config: &Config) -> Result<(), Failure> {
    let uses = aws::zone_uses(config);
    if uses.is_empty() {
        let text = "the config uses nothing at AWS, and needs no policy: no service has a `dns` section";
        return Err(Failure::Usage(text.to_owned()));
    }
    let policy = aws::Policy::of(&uses, config.aws.region.as_deref());
    out::line(&serde_json::to_string_pretty(&policy).unwrap_or_default())
}

fn try_aws(config: &Config) -> Result<Vec<Tried>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("no runtime for asking AWS: {error}")))?;
    Ok(runtime.block_on(async {
        let account = Account::open(&config.aws, Arc::new(Account::sheet())).await;
        aws::try_all(&account, &aws::zone_uses(config)).await
    }))
}

fn aws_says(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "\nNothing at AWS is used: no service has a `dns` section.\n".to_owned();
    }
    let mut text = "\nAt AWS, with the credentials found here:\n".to_owned();
    for Tried { permission, zone, outcome, says, .. } in tried {
        let (style, word) = match outcome {
            aws::Outcome::Ok => (GOOD, "ok"),
            aws::Outcome::Failed => (BAD, "failed"),
            aws::Outcome::NotTried => (anstyle::Style::new(), "-"),
        };
        text.push_str(&format!("  {style}{word:<6}{style:#}  {permission} on {zone}: {says}\n"));
    }
    if tried.iter().any(|one| one.outcome == aws::Outcome::NotTried) {
        text.push_str("`cutover check --policy` prints the IAM policy that allows all of these, and no more.\n");
    }
    text
}

/// What the proxy would do, in sentences.
fn explain(config: &Config) -> String {
    let mut text = String::from("The config is right. The proxy would\n");
    let mut line = |sentence: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - {sentence}");
    };
    config.listeners.iter().for_each(|listener| line(listener_says(listener)));
    config.services.iter().for_each(|service| service_says(service).into_iter().for_each(&mut line));
    let admin = &config.admin;
    line(format!("take orders at {}", admin.socket.display()));
    if let Some(address) = admin.listen {
        let writes = if admin.token_file.is_some() { "orders with the token" } else { "no orders" };
        line(format!("show status and metrics at http://{address}, and take {writes} there"));
    }
    let missing = if config.state.dir.is_dir() { "" } else { " (which does not exist yet: create it before)" };
    line(format!("keep its journal in {}{missing}", config.state.dir.display()));
    if let Some(log) = &config.access_log {
        line(format!("write a line for every request to {}, as {}", log.file, log.format));
    }
    text
}

fn listener_says(listener: &Listener) -> String {
    match &listener.tls {
        None => format!("listen on {} for HTTP/1.1 and HTTP/2", listener.address),
        Some(tls) => {
            format!("listen on {} for HTTP/1.1 and HTTP/2 over {}", listener.address, tls_says(tls))
        }
    }
}

fn tls_says(tls: &Tls) -> String {
    let version = match tls.min_version {
        TlsVersion::V1_2 => "TLS 1.2 and 1.3",
        TlsVersion::V1_3 => "TLS 1.3",
    };
    let certificates = match tls.certificates.len() {
        1 => "1 certificate".to_owned(),
        count => format!("{count} certificates"),
    };
    let quantum = if tls.post_quantum { "" } else { ", without post-quantum key exchange" };
    format!("{version} with {certificates}{quantum}")
}

fn service_says(service: &Service) -> Vec<String> {
    let hosts: Vec<String> = service.hosts.iter().map(ToString::to_string).collect();
    let hosts = if hosts.is_empty() { "every other host".to_owned() } else { hosts.join(", ") };
    let path = match service.path.as_str() {
        "/" => String::new(),
        path => format!(" under {path}"),
    };
    let endpoints = |color: Color| match service.stacks[color].endpoints.len() {
        1 => format!("{color} (1 endpoint)"),
        count => format!("{color} ({count} endpoints)"),
    };
    let health = &service.health;
    let asked = health.path.as_ref().map_or("by connecting".to_owned(), |path| format!("at {path}"));
    let (rules, drain) = (&service.cutover, &service.cutover.drain);
    let mut says = vec![
        format!(
            "serve `{}` for {hosts}{path}, from {} or {}",
            service.name,
            endpoints(Color::Blue),
            endpoints(Color::Green)
        ),
        format!(
            "check its endpoints {asked} every {}: up after {} passes, down after {} failures",
            Human(health.interval),
            health.rise,
            health.fall
        ),
        format!(
            "switch it once {} of the new color's endpoints are up, then give requests {} and tunnels {} to leave the old one",
            service.cutover.min_healthy,
            Human(drain.requests),
            Human(drain.tunnels)
        ),
    ];
    if !rules.gates.is_empty() {
        let names: Vec<&str> = rules.gates.iter().map(|gate| gate.name.as_str()).collect();
        says.push(format!("ask {} before a switch", names.join(", ")));
    }
    if let Some(bake) = &rules.bake {
        let (length, least, most) = (Human(bake.length), bake.min_requests, bake.max_error_share);
        says.push(format!(
            "judge the new color for {length} after a switch, by {least} requests or more of which {most} may fail, and go back \
             from a bad one"
        ));
    }
    says
}

const GOOD: anstyle::Style = anstyle::AnsiColor::Green.on_default();
const BAD: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const EXAMPLES: &str = "Examples:
  cutover check
  cutover check --config shop.toml
  cutover check --aws
  cutover check --policy > policy.json
  cutover check --json | jq -r '.mistakes[] | \"\\(.line): \\(.message)\"'";
