//! `cutover history`: every cutover, newest first.

use clap::{Args, Subcommand};

use super::client::{self, Client};
use super::status::in_words;
use super::verdict::in_millis;
use super::{Failure, Global, out, past};
use crate::admin::{Outcome, Past};
use crate::names::ServiceName;
use crate::time::Human;

/// List the cutovers, newest first: who, why, what came of it, and the figures
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    long_about = "List the cutovers, newest first: who, why, what came of it, and the figures.\n\n\
        `switch` is how long it took until every worker led to the new color, `drain` how long until the old one was \
        empty, and `since` how many requests began on the old color after the switch, which should be none. One that is \
        under way is shown as it is now.",
    after_help = "Examples:
  cutover history
  cutover history show shop-20261122T235758317Z   all that has been kept of one
  cutover history shop --limit 5
  cutover history --json | jq -r '.[] | select(.outcome == \"aborted\") | .reasons[]'"
)]
pub struct History {
    #[command(subcommand)]
    what: Option<What>,
    /// The service [default: all of them]
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,
    /// How many to list
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Subcommand)]
enum What {
    /// Show all that has been kept of one cutover: gates, figures, the seconds around its switch
    Show {
        /// Its id, as `cutover switch` says it and `cutover history --json` lists it
        #[arg(value_name = "ID")]
        id: String,
    },
}

impl History {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            if let Some(What::Show { id }) = &self.what {
                let answer = client.get(&format!("/v1/history/{id}")).await.map_err(client.fails())?;
                if global.json {
                    return out::line(&answer.text);
                }
                let past: Past = answer.read().map_err(client.fails())?;
                return out::line(&past::page(&past));
            }
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

/// A line for each cutover; on a terminal too narrow for that, who and why go below it.
fn table(cutovers: &[Outcome], width: Option<u16>) -> String {
    let lines = columns(cutovers, HEADER.len());
    let fits = |line: &String| width.is_none_or(|width| line.chars().count() <= usize::from(width));
    if lines.iter().all(fits) {
        return out::headed(lines);
    }
    let mut lines = columns(cutovers, FIGURES);
    for (line, cutover) in lines.iter_mut().skip(1).zip(cutovers) {
        let [.., by, why] = row(cutover);
        let colon = if why.is_empty() { "" } else { ": " };
        line.push_str(&format!("\n    {by}{colon}{why}"));
    }
    out::headed(lines)
}

/// The header and a line for each cutover, with the first so many of the columns.
fn columns(cutovers: &[Outcome], count: usize) -> Vec<String> {
    out::columns(&HEADER[..count], cutovers.iter().map(|cutover| row(cutover).into_iter().take(count)))
}

fn row(cutover: &Outcome) -> [String; 9] {
    let outcome = match cutover.outcome.as_deref() {
        None => format!("in {}", in_words(&cutover.phase)),
        Some("rolled_back") => format!("back to {}", cutover.live),
        Some("done") if cutover.restarted => "drain unknown".to_owned(),
        Some("done") if cutover.drained == Some(false) => "not drained".to_owned(),
        Some(other) => in_words(other),
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let micros = |micros| Human(std::time::Duration::from_micros(micros)).to_string();
    let why: Vec<&str> = cutover.reason.iter().chain(&cutover.reasons).map(String::as_str).collect();
    [
        or_none(cutover.started.map(|started| started.strftime("%Y-%m-%d %H:%M:%S").to_string())),
        cutover.service.to_string(),
        format!("{} → {}", cutover.from, cutover.to),
        outcome,
        or_none(cutover.switch_us.map(micros)),
        or_none(cutover.drain_ms.map(in_millis)),
        or_none(cutover.proof.as_ref().map(|proof| proof.requests_to_old_since.to_string())),
        or_none(cutover.by.clone()),
        why.join("; "),
    ]
}

/// `since` counts requests that began on the old color after the switch.
const HEADER: [&str; 9] = ["started (UTC)", "service", "from → to", "outcome", "switch", "drain", "since", "by", "why"];
/// So many columns are always short.
const FIGURES: usize = 7;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cutover(reason: &str) -> Outcome {
        serde_json::from_value(json!({
            "id": "c1", "service": "shop", "kind": "rollback", "from": "blue", "to": "green", "live": "green",
            "outcome": "rolled_back", "phase": "done", "generation": 1, "by": "uid 0", "reason": reason,
            "started": "2026-11-22T22:28:28Z", "ended": "2026-11-22T22:28:29Z", "switch_us": 438, "drain_ms": 12,
            "drained": true, "requests_left": 0, "tunnels_closed": 0, "proof": null, "reasons": []
        }))
        .unwrap()
    }

    #[test]
    fn a_narrow_terminal_gets_who_and_why_below_and_elsewhere_a_cutover_is_one_line() {
        let cutovers = [cutover("release 42"), cutover("")];
        let lines = |width| anstream::adapter::strip_str(&table(&cutovers, width)).to_string();
        assert_eq!(lines(None).lines().count(), 3);
        assert_eq!(lines(Some(200)), lines(None));
        let narrow = lines(Some(80));
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert_eq!(narrow.lines().nth(2), Some("    uid 0: release 42"));
        assert_eq!(narrow.lines().nth(4), Some("    uid 0"));
    }
}
