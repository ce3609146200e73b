//! `cutover history`: every cutover, newest first.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};

use super::client::{self, Client};
use super::status::in_words;
use super::verdict::in_millis;
use super::{Failure, Global, out};
use crate::admin::Outcome;
use crate::names::ServiceName;
use crate::time::Human;

/// List the cutovers, newest first: who, why, what came of it, and the figures
#[derive(Args)]
#[command(after_help = "Examples:
  cutover history
  cutover history shop --limit 5
  cutover history --json | jq -r '.[] | select(.outcome == \"aborted\") | .reasons[]'")]
pub struct History {
    /// The service [default: all of them]
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,
    /// How many to list
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl History {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let service = self.service.map_or(String::new(), |service| format!("&service={service}"));
            let asked = client.get(&format!("/v1/history?limit={}{service}", self.limit)).await;
            let answer = asked.map_err(client.fails())?;
            if global.json {
                return out::line(&answer.text);
            }
            let cutovers: Vec<Outcome> = answer.read().map_err(client.fails())?;
            match cutovers.as_slice() {
                [] => out::line("There has been no cutover yet."),
                _ => out::line(&table(&cutovers, out::width())),
            }
        })
    }
}

/// As wide as the terminal, where there is one; elsewhere each cutover is one line.
fn table(cutovers: &[Outcome], width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(HEADER);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.add_rows(cutovers.iter().map(row));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    if let Some(header) = lines.first_mut() {
        *header = out::styled(anstyle::Style::new().bold(), header);
    }
    lines.join("\n")
}

fn row(cutover: &Outcome) -> [String; 9] {
    let outcome = match cutover.outcome.as_deref() {
        None => format!("under way: {}", in_words(&cutover.phase)),
        Some("rolled_back") => format!("rolled back to {}", cutover.live),
        Some("done") if cutover.drained == Some(false) => "done, not drained".to_owned(),
        Some(other) => in_words(other),
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let micros = |micros| Human(std::time::Duration::from_micros(micros)).to_string();
    let why: Vec<&str> = cutover.reason.iter().chain(&cutover.reasons).map(String::as_str).collect();
    [
        or_none(cutover.started.map(|started| started.strftime("%Y-%m-%d %H:%M:%SZ").to_string())),
        cutover.service.to_string(),
        format!("{} → {}", cutover.from, cutover.to),
        outcome,
        or_none(cutover.by.clone()),
        or_none(cutover.switch_us.map(micros)),
        or_none(cutover.drain_ms.map(in_millis)),
        or_none(cutover.proof.as_ref().map(|proof| proof.requests_to_old_since.to_string())),
        why.join("; "),
    ]
}

/// `since` counts requests that began on the old color after the switch.
const HEADER: [&str; 9] = ["started", "service", "from → to", "outcome", "by", "switch", "drain", "since", "why"];
