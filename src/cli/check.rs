//! `cutover check`: says whether the config is right, and what the proxy would do with it. Binds and changes nothing.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::explain::{dns_as_json, explain};
use super::{Failure, Global, out};
use crate::aws::{self, Account, Tried, Uses};
use crate::config::{Config, Report};
use crate::journal::{self, JournalError};
use crate::proxy::{Purpose, inspect};
use crate::time;

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
        match journal::inspect(&config.state.dir) {
            // A missing folder is told with what the proxy would do.
            Ok(()) | Err(JournalError::NoFolder { .. }) => {}
            Err(error) => return Err(Failure::Failed(error.to_string())),
        }
        let tried = if self.aws { Some(try_aws(&config)?) } else { None };
        if global.json {
            out::line(&as_json(&config, report, tried.as_deref()).to_string())?;
        } else {
            if !report.warnings.is_empty() {
                anstream::eprintln!("{}\n", report.render(true));
            }
            let would: String = explain(&config).iter().map(|sentence| format!("  - {sentence}\n")).collect();
            let mut text = format!("The config is right. The proxy would\n{would}");
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
        "would": explain(config), "dns": dns_as_json(config),
    });
    if let Some(tried) = tried {
        right["aws"] = json!(tried);
    }
    right
}

fn print_policy(config: &Config) -> Result<(), Failure> {
    let uses = Uses::of(config);
    if uses.is_empty() {
        let text = "the config uses nothing at AWS, and needs no policy: no service has a `dns` section, and none discovers \
                    its endpoints there";
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
        aws::try_all(&account, &Uses::of(config)).await
    }))
}

fn aws_says(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "\nNothing at AWS is used: no service has a `dns` section, and none discovers its endpoints there.\n"
            .to_owned();
    }
    let mut text = "\nAt AWS, with the credentials found here:\n".to_owned();
    for Tried { permission, on, outcome, says } in tried {
        let (style, word) = match outcome {
            aws::Outcome::Ok => (GOOD, "ok"),
            aws::Outcome::Failed => (BAD, "failed"),
            aws::Outcome::NotTried => (anstyle::Style::new(), "-"),
        };
        text.push_str(&format!("  {style}{word:<6}{style:#}  {permission} on {on}: {says}\n"));
    }
    if tried.iter().any(|one| one.outcome == aws::Outcome::NotTried) {
        text.push_str("`cutover check --policy` prints the IAM policy that allows all of these, and no more.\n");
    }
    text
}

const GOOD: anstyle::Style = anstyle::AnsiColor::Green.on_default();
const BAD: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const EXAMPLES: &str = "Examples:
  cutover check
  cutover check --config shop.toml
  cutover check --aws
  cutover check --policy > policy.json
  cutover check --json | jq -r '.mistakes[] | \"\\(.line): \\(.message)\"'";
