//! `cutover dns`: where names lead, what would be written, and the moving of them by hand.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{self, Answer, Client};
use super::progress::Errand;
use super::status::{clock, in_words};
use super::switch::duration;
use super::{Failure, Global, Of, out};
use crate::dns::{Action, Preview, RecordStatus, State, Status as Names};
use crate::names::{ServiceName, Side};

/// Show and move the DNS names that follow a service
#[derive(Args)]
#[command(long_about = "Show and move the DNS names that follow a service.\n\n\
        Names follow by themselves: some time after a switch they lead to the color that is live then. On the way their \
        TTL is lowered, the old one is waited out, the records are moved, every name server is asked, and the TTL \
        becomes what it was. The switch waits for none of it, and no failure there changes what the proxy serves.\n\n\
        Every change is one batch that the provider applies whole or not at all, and only where everything still is as \
        it was read: a record that somebody else has changed is shown, not overwritten.")]
pub struct Dns {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show what would be written, batch by batch; reads the zone and changes nothing
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Plan),
    /// Bring names to the color that is live, or to another side, now
    #[command(long_about = SYNC_ABOUT, after_help = SYNC_EXAMPLES)]
    Sync(Sync),
    /// Show where names lead, how far a change is, and what stands in its way
    Status(Of),
    /// Lower the TTL ahead of a switch, so that names move at once behind it
    #[command(long_about = PREPARE_ABOUT)]
    Prepare(Prepare),
    /// Take over records that are there already
    #[command(long_about = ADOPT_ABOUT, after_help = ADOPT_EXAMPLES)]
    Adopt(Sync),
}

#[derive(Args)]
struct Plan {
    #[command(flatten)]
    of: Of,
    /// Where names would lead: blue, green or proxy [default: where they lead now]
    #[arg(long, value_name = "SIDE")]
    to: Option<Side>,
}

#[derive(Args)]
struct Sync {
    #[command(flatten)]
    of: Of,
    /// Where names are to lead: blue, green or proxy [default: the color that is live]
    #[arg(long, value_name = "SIDE")]
    to: Option<Side>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
struct Prepare {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
struct Waiting {
    /// How long to wait, such as 30s or 5m; the proxy goes on after it [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

impl Dns {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            match self.what {
                What::Plan(Plan { of, to }) => plan(&client, &of, to).await,
                What::Status(of) => status(&client, &of).await,
                What::Sync(sync) => order(&client, "sync", sync).await,
                What::Adopt(sync) => order(&client, "adopt", sync).await,
                What::Prepare(Prepare { of, waiting }) => {
                    order(&client, "prepare", Sync { of, to: None, waiting }).await
                }
            }
        })
    }
}

async fn plan(client: &Client, of: &Of, to: Option<Side>) -> Result<(), Failure> {
    let path = format!("{}/plan", path(&client.service(of).await?));
    let answer = client.post(&path, &json!({ "to": to }), Some(READ)).await.map_err(client.fails())?;
    let preview: Preview = answer.read().map_err(client.fails())?;
    let text = if client.json { answer.text } else { plan_says(&preview) };
    match preview.objection {
        None => out::line(&text),
        // What would be written is the result here, also where that is nothing.
        Some(_) => Err(Failure::Answer(text, 1)),
    }
}

async fn status(client: &Client, of: &Of) -> Result<(), Failure> {
    let path = path(&client.service(of).await?);
    let answer = client.get(&path).await.map_err(client.fails())?;
    client.print(answer, |names: Names| status_says(&names))
}

/// Gives the order and waits for what becomes of it, telling each step on the way.
async fn order(client: &Client, verb: &str, sync: Sync) -> Result<(), Failure> {
    let Sync { of, to, waiting: Waiting { timeout } } = sync;
    let service = &client.service(&of).await?;
    let goes_on = format!("cutover dns status {service}");
    let errand = Errand { client, service, path: path(service), goes_on };
    let body = json!({ "to": to, "timeout": timeout.map(client::written) });
    let step = |names: Names| Some((names.state, step_says(&names)));
    let answer = errand.give(verb, &body, timeout, step).await?;
    let names: Names = answer.read().map_err(client.fails())?;
    errand.end(answer, status_says(&names), true)
}

fn step_says(names: &Names) -> String {
    let next = names.next.as_ref().map(|next| format!(": {}, by {}", next.what, clock(next.by))).unwrap_or_default();
    let trouble = names.message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default();
    format!("{}: {}{next}{trouble}", names.service, in_words(names.state.as_str()))
}

/// All of it, for people.
pub fn status_says(names: &Names) -> String {
    let Names { service, to, zone, state, generation, by, .. } = names;
    let synced = if names.in_sync { "in sync" } else { "not in sync" };
    let mut text = format!(
        "{service}: names in {zone} {} {to}, {synced}; {}, generation {generation}, by {by}",
        if names.in_sync { "lead to" } else { "are to lead to" },
        in_words(state.as_str()),
    );
    for RecordStatus { name, kind, in_sync, found } in &names.records {
        let mark = if *in_sync { "●" } else { "○" };
        text.push_str(&format!("\n  {mark} {name} {kind}"));
        found.iter().for_each(|set| text.push_str(&format!("\n      {set}")));
    }
    if let Some(shifted) = names.shifted_at {
        text.push_str(&format!("\n  there since {}", clock(shifted)));
        if let Some(expires) = names.expires {
            text.push_str(&format!(", answers from before that are gone by {}", clock(expires)));
        }
    }
    if let Some(next) = names.next.as_ref().filter(|_| !names.rests()) {
        text.push_str(&format!("\n  next: {}, by {}", next.what, clock(next.by)));
    }
    match (&names.objection, &names.message) {
        (Some(objection), _) => text.push_str(&format!("\n{objection}")),
        (None, Some(message)) => text.push_str(&format!("\n  {message}")),
        (None, None) => {}
    }
    if state == &State::Prepared {
        text.push_str("\n  the TTL is low and stays so until names move, or `cutover dns sync`");
    }
    text
}

/// What a switch would do to names in the end; nothing where none follow the service.
pub fn rehearsal_says(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Rehearsed {
        dns: Option<Value>,
    }
    let Some(dns) = answer.read::<Rehearsed>().ok().and_then(|rehearsed| rehearsed.dns) else { return String::new() };
    match serde_json::from_value::<Preview>(dns.clone()) {
        Ok(preview) => format!("\nThen, waited for by nobody:\n{}", plan_says(&preview)),
        Err(_) => format!("\nWhat would become of names is not known: {}", dns["unknown"].as_str().unwrap_or_default()),
    }
}

fn plan_says(preview: &Preview) -> String {
    let Preview { service, zone, to, batches, objection } = preview;
    let mut text = match (batches.len(), objection) {
        (_, Some(objection)) => return format!("{service}: nothing would be written to {zone}\n{objection}"),
        (0, None) => return format!("{service}: names in {zone} lead to {to} already: nothing would be written"),
        (1, None) => format!("{service}: one batch would be written to {zone}, to lead names to {to}"),
        (count, None) => format!("{service}: {count} batches would be written to {zone}, to lead names to {to}"),
    };
    for written in batches {
        text.push_str(&format!("\n{}: {}", written.step, written.batch.comment));
        for change in &written.batch.changes {
            let action = match change.action {
                Action::Create => "+",
                Action::Delete => "-",
            };
            text.push_str(&format!("\n  {action} {}", change.set));
        }
    }
    text.push_str("\nNothing has been changed.");
    text
}

fn path(service: &ServiceName) -> String {
    format!("/v1/services/{service}/dns")
}

/// For reading a zone, page by page and at the provider's pace.
const READ: Duration = Duration::from_secs(120);
const PLAN_EXAMPLES: &str = "Examples:
  cutover dns plan                        what is not yet as it should be
  cutover dns plan shop --to green        what a switch to green would write in the end
  cutover dns plan --json | jq '.batches[].batch.changes'";
const SYNC_ABOUT: &str = "Bring names to the color that is live, or to another side, now.

Names that are there already are not written again, only asked for at every name server. What somebody else has \
                          changed is written over. Names that are led to the proxy stay there until another color is \
                          live: so they are brought in front of it before the next release.";
const SYNC_EXAMPLES: &str = "Examples:
  cutover dns sync
  cutover dns sync shop --to proxy        back in front of the proxy, before the next release
  cutover dns sync --timeout 10m --json";
const PREPARE_ABOUT: &str = "Lower the TTL ahead of a switch, so that names move at once behind it.

The TTL stays low until names move; `cutover dns sync` takes it back. Without this it is lowered behind the switch, \
                             and the old TTL is waited out then.";
const ADOPT_ABOUT: &str = "Take over records that are there already.

Records that are not marked as this service's are never touched without this. Records that another tool marks as its \
                           own (external-dns) are not taken over by this either.";
const ADOPT_EXAMPLES: &str = "Examples:
  cutover dns plan                        what is there, beside what is wanted
  cutover dns adopt
  cutover dns adopt --to proxy            take them over, and lead them to the proxy first";
