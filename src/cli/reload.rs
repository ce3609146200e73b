//! `cutover reload`: has the proxy read its config anew, and tells what that changed.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::client::{self, Client};
use super::{Failure, Global};
use crate::admin::{ChangeView, Reloaded};

/// Have the proxy read its config anew and take over what has changed
#[derive(Args)]
#[command(
    long_about = "Have the proxy read its config anew and take over what has changed; SIGHUP does the same.\n\n\
        Listeners, certificates, services, endpoints, limits, timers and health rules change while the proxy runs; \
        what is equal is not touched. No connection is cut: a request goes on under the rules it began with. An \
        endpoint that joins is checked first. A file that is not right changes nothing, and neither does one that \
        cannot be taken over as a whole.\n\n\
        `socket` and `listen` under [admin], [state] and a listener's `name` are read only at a start; \
        what differs there is told each time.",
    after_help = "Examples:
  cutover reload
  cutover reload --dry-run          what would change
  cutover reload --json | jq -r '.changes[].says'"
)]
pub struct Reload {
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Reload {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let body = json!({ "dry_run": self.dry_run });
            let answer = client.post("/v1/reload", &body, Some(LONGEST)).await.map_err(client.fails())?;
            client.print(answer, |reloaded: Reloaded| page(&reloaded))
        })
    }
}

fn page(reloaded: &Reloaded) -> String {
    let Reloaded { outcome, file, changes, needs_restart, warnings, workers, workers_answered, .. } = reloaded;
    let count = match changes.len() {
        1 => "1 change".to_owned(),
        count => format!("{count} changes"),
    };
    let mut text = match (outcome.as_str(), workers_answered) {
        ("unchanged", _) if !needs_restart.is_empty() => {
            format!("{file} differs only in what is read at a start: nothing was touched")
        }
        ("unchanged", _) => format!("{file} says what runs already: nothing was touched"),
        ("would_apply", _) => format!("{file} would be taken over with {count}"),
        (_, Some(answered)) => format!("{file} is taken over: {count}, on {answered} of {workers} workers"),
        (_, None) => format!("{file} is taken over: {count}"),
    };
    let says = |change: &ChangeView| format!("\n  {}", change.says);
    text.extend(changes.iter().map(says));
    if !needs_restart.is_empty() {
        text.push_str("\nonly a restart changes");
        text.extend(needs_restart.iter().map(says));
    }
    text.extend(warnings.iter().map(|warning| format!("\nwarning: {warning}")));
    text
}

/// Endpoints that join are checked, each for as long as a check may take; everything else is a matter of moments.
const LONGEST: Duration = Duration::from_secs(300);
