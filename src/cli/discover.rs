//! `cutover discover`: what each source of endpoints answers now, and what that changes, or would.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::json;

use super::client::{self, Client};
use super::status::{in_color, since};
use super::switch::color;
use super::{Failure, Global, Of, out};
use crate::admin::Discovered;
use crate::discovery::{Found, Heard, Outcome, Standing, State, Status};
use crate::names::{Color, ServiceName};
use crate::time::{Human, Timestamp};

/// Ask the sources of endpoints now, and show what they answer and what that changes
#[derive(Args)]
#[command(
    long_about = "Ask the sources of endpoints now, and show what they answer and what that changes.\n\n\
        A source proposes endpoints, and health checks decide which of them get requests. The proxy asks by itself, at the \
        interval that the config says; this asks once more. An answer without endpoints is not believed, nor is one with \
        far fewer than the last (`min_share`), before health checks confirm it. --accept says that it is right: then \
        whoever is not in it goes, though he may pass his checks.\n\n\
        It exits with 1 where a source gave no answer, or one that is not believed, or that has to wait for a switch to \
        end.",
    after_help = "Examples:
  cutover discover --dry-run                         what each source answers, and what would change
  cutover discover shop --color green
  cutover discover shop --color green --accept       the color has really become so small
  cutover discover --json | jq -r '.heard[] | \"\\(.color) \\(.outcome)\"'"
)]
pub struct Discover {
    #[command(flatten)]
    of: Of,
    /// Only this color [default: each that is discovered]
    #[arg(long, value_name = "COLOR", value_parser = color())]
    color: Option<Color>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Believe the answer, whatever it is
    #[arg(long)]
    accept: bool,
}

impl Discover {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let service = client.service(&self.of).await?;
            let body = json!({ "dry_run": self.dry_run, "accept": self.accept, "color": self.color });
            let answer = client.post(&format!("/v1/services/{service}/discover"), &body, Some(LONGEST)).await;
            let answer = answer.map_err(client.fails())?;
            let discovered: Discovered = answer.read().map_err(client.fails())?;
            let text = if global.json { answer.text } else { page(&discovered) };
            match discovered.heard.iter().all(|heard| heard.outcome.is_good()) {
                true => out::line(&text),
                // What was answered is the result, also where it is not believed.
                false => Err(Failure::Answer(text, 1)),
            }
        })
    }
}

fn page(discovered: &Discovered) -> String {
    let heard: Vec<String> = discovered.heard.iter().map(|heard| heard_says(&discovered.service, heard)).collect();
    heard.join("\n\n")
}

fn heard_says(service: &ServiceName, heard: &Heard) -> String {
    let Heard { color, source, outcome, answer, left_out, refused, joins, leaves, stays, why } = heard;
    let (style, says) = match outcome {
        Outcome::Unchanged => (GOOD, "nothing changes"),
        Outcome::Applied => (GOOD, "taken over"),
        Outcome::WouldApply => (GOOD, "would be taken over"),
        Outcome::Doubted => (WARNING, "not believed"),
        Outcome::Held => (WARNING, "waits"),
        Outcome::Failed => (BAD, "no answer"),
    };
    let mut text = format!("{service} {}: {source}: {}", in_color(*color), out::styled(style, says));
    if let Some(why) = why {
        text.push_str(&format!("\n  {why}"));
    }
    let named = |address: &SocketAddr| {
        let found = answer.iter().find(|found| found.address == *address);
        found.and_then(|found| found.name.as_ref()).map_or(String::new(), |name| format!("  {name}"))
    };
    let same: Vec<SocketAddr> = answer.iter().map(|Found { address, .. }| *address).collect();
    // Writing to a String cannot fail.
    for address in same.iter().filter(|address| !joins.contains(address)) {
        let _ = write!(text, "\n    {address}{}", named(address));
    }
    for address in joins {
        let _ = write!(text, "\n  + {address}{}", named(address));
    }
    for address in leaves {
        let _ = write!(text, "\n  - {address}");
    }
    for address in stays {
        let _ = write!(text, "\n  ~ {address}  not in the answer, and stays");
    }
    for one in refused {
        let _ = write!(text, "\n  ! {}  refused: {}", one.address, one.why);
    }
    for one in left_out {
        let _ = write!(text, "\n    left out: {one}");
    }
    text
}

/// How a color's discovery stands, below its endpoints in the status.
pub fn status_says(status: &Status, now: Timestamp) -> String {
    let Status { source, state, believed, named, refused, error, held, unwritten, next, .. } = status;
    let style = match state {
        State::Current => GOOD,
        State::Failing => BAD,
        State::Asking | State::Doubted | State::Held => WARNING,
    };
    let state = out::styled(style, state.as_str());
    let age = match (status.age_s, believed) {
        (Some(age), _) => format!("{named} endpoints {} ago", Human(Duration::from_secs(age.max(0.0) as u64))),
        (None, _) => "no good answer yet".to_owned(),
    };
    let next = next.map(|next| format!(", asked again in {}", Human(since(now, next)))).unwrap_or_default();
    let mut text = format!("      discovered by {source}: {state}, {age}{next}\n");
    // Writing to a String cannot fail.
    for why in [error, held, unwritten].into_iter().flatten() {
        let _ = writeln!(text, "        {}", out::styled(WARNING, why));
    }
    for member in status.endpoints.iter().filter(|member| member.standing != Standing::Named) {
        let ago = member.since.map(|at| format!(" for {}", Human(since(at, now)))).unwrap_or_default();
        let says = match member.standing {
            Standing::Named => "is named",
            Standing::Lingers => "is not in the answers, and stays until it fails its checks; out of them",
            Standing::Doubted => "is not in the answers, which are not believed; out of them",
            Standing::Inherited => "is from before, until the first good answer",
        };
        let _ = writeln!(text, "        {} {says}{ago}", member.address);
    }
    for one in refused {
        let _ = writeln!(text, "        {} is refused: {}", one.address, one.why);
    }
    text
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default();
/// A source may take two minutes, and endpoints that join are checked.
const LONGEST: Duration = Duration::from_secs(300);
