//! `cutover switch`, `rollback` and `abort`: orders to the proxy, which are waited for and told about.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::{self, Answer, Client, Trouble};
use super::progress::{self, End};
use super::verdict::{self, Order, Verdict};
use super::{Failure, Global, Of, dns, out};
use crate::admin::{Outcome, ServiceView};
use crate::config;
use crate::cutover::Plan;
use crate::names::{Color, ServiceName};

/// Make a color live, and wait until the other one has drained
#[derive(Args)]
#[command(
    long_about = "Make a color live, and wait until the other one has drained.\n\n\
        The color's endpoints are checked first; if too few are up, nothing changes and the command says what each of \
        them answered. Then every worker of the proxy sends new requests to it, and the requests still inside the \
        other color are given their time to finish. Once the command has returned, no request begins on the other \
        color.\n\n\
        Gates, a warm-up, canary steps and a ramp come before that where the config asks for them, a bake and names \
        after it. Where the cutover pauses for an operator, the command ends with 1 and says how to go on.\n\n\
        The cutover belongs to the proxy: it goes on even where this command is ended. Where that happens before the \
        cutover has begun, since the proxy is starting or busy, it never begins.",
    after_help = "Examples:
  cutover switch green                      the only service there is
  cutover switch green shop --dry-run       what would happen, step by step; changes nothing
  cutover switch green --reason \"release 42\"
  cutover switch green --timeout 5m         wait no longer; it goes on, and the command exits with 1
  cutover switch green --wait live --json   return once green is live; print one JSON object"
)]
pub struct Switch {
    /// The color that is to be live
    #[arg(value_name = "COLOR", value_parser = color())]
    to: Color,
    #[command(flatten)]
    of: Of,
    /// Print what would happen, after a fresh look at the color's health, and change nothing
    #[arg(long, conflicts_with_all = ["reason", "wait", "timeout"])]
    dry_run: bool,
    #[command(flatten)]
    waiting: Waiting,
}

impl Switch {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let service = client.service(&self.of).await?;
            if self.dry_run {
                return rehearse(&client, &service, self.to, global.json).await;
            }
            give(&client, &service, Order::Switch(self.to), &self.waiting, global.json).await
        })
    }
}

/// Go back to the other color, if it is good now
#[derive(Args)]
#[command(
    long_about = "Go back to the other color, if it is good now.\n\n\
        Its endpoints are checked first; if too few are up, nothing changes and the command says why. While a cutover \
        is under way this turns it around: before its switch it is aborted, and after it, in its drain, its bake or a \
        pause, the old color becomes live again.\n\n\
        Where none is under way this is a switch to the color that is not live, whichever was live before, and a quick \
        one: no gate is asked, and there is no warm-up, canary or bake.\n\n\
        One that goes back already is joined. Within five minutes of its end another rollback is refused with 4, since \
        it would undo what the first one did; --from names the color to leave, and then it is refused only where that \
        is no longer live.",
    after_help = "Examples:
  cutover rollback
  cutover rollback --from green             nothing where somebody has left green before
  cutover rollback shop --reason \"errors at checkout\""
)]
pub struct Rollback {
    #[command(flatten)]
    of: Of,
    /// The color to leave [default: the one that is live]
    #[arg(long, value_name = "COLOR", value_parser = color())]
    from: Option<Color>,
    #[command(flatten)]
    waiting: Waiting,
}

impl Rollback {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let service = client.service(&self.of).await?;
            give(&client, &service, Order::Rollback(self.from), &self.waiting, global.json).await
        })
    }
}

/// End a cutover that has not switched yet; the live color stays
#[derive(Args)]
#[command(
    long_about = "End a cutover that has not switched yet; the live color stays.\n\n\
        Where the other color has a share of the clients by then, that goes back first, as soon as the live color can \
        take it; this does not wait for it, and to say it twice changes nothing. A cutover that has switched cannot be \
        aborted any more: `cutover rollback` goes back.",
    after_help = "Examples:
  cutover abort
  cutover abort shop"
)]
pub struct Abort {
    #[command(flatten)]
    of: Of,
}

impl Abort {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let service = client.service(&self.of).await?;
            let answer = client.post(&path(&service, Order::Abort), &json!({}), Some(Duration::ZERO)).await;
            end(&service, Order::Abort, None, answer, global.json)
        })
    }
}

/// What an order is given with, and how long it is waited for.
#[derive(Args)]
struct Waiting {
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How far the cutover has to be before the command returns
    #[arg(long, value_name = "STEP", default_value = "drained")]
    wait: Step,
    /// How long to wait for that, such as 30s or 5m; the cutover goes on after it [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Step {
    /// The color serves every new request
    Live,
    /// And the other color is empty, or its time to get there is over
    Drained,
    /// And the bake and names, where the config asks for them, are done
    Done,
}

/// Gives the order and waits for what becomes of it, with progress on a terminal meanwhile.
async fn give(
    client: &Client,
    service: &ServiceName,
    order: Order,
    waiting: &Waiting,
    json: bool,
) -> Result<(), Failure> {
    let Waiting { reason, wait, timeout } = waiting;
    let wait = wait.to_possible_value().map(|value| value.get_name().to_owned());
    let mut body = json!({ "wait": wait, "reason": reason, "timeout": timeout.map(client::written) });
    match order {
        Order::Switch(to) => body["to"] = json!(to),
        Order::Rollback(from) => body["from"] = json!(from),
        Order::Abort => {}
    }
    let path = path(service, order);
    let answer = tokio::select! {
        answer = client.post(&path, &body, *timeout) => answer,
        end = progress::of_cutover(client, service) => match end {
            End::Lost(trouble) => Err(trouble),
            End::Interrupted => return Err(left(client, service).await),
        },
    };
    end(service, order, *timeout, answer, json)
}

/// Prints what came of the order.
fn end(
    service: &ServiceName,
    order: Order,
    timeout: Option<Duration>,
    answer: Result<Answer, Trouble>,
    json: bool,
) -> Result<(), Failure> {
    let (verdict, document) = match answer {
        Ok(answer) => {
            let outcome: Outcome = answer.read().map_err(|trouble| trouble.ends(json))?;
            let over = answer.is_unfinished().then_some(timeout.unwrap_or_default());
            out::warn(outcome.unwritten.as_deref());
            (verdict::of(order, &outcome, over), answer.text)
        }
        Err(Trouble::Problem(problem)) => {
            out::warn(problem.more.get("unwritten").and_then(Value::as_str));
            verdict::of_problem(service, order, &problem)
        }
        Err(trouble) => return Err(trouble.ends(json)),
    };
    verdict.end(json.then_some(document))
}

async fn rehearse(client: &Client, service: &ServiceName, to: Color, json: bool) -> Result<(), Failure> {
    let body = json!({"to": to, "dry_run": true});
    let answer = client.post(&path(service, Order::Switch(to)), &body, Some(CHECKS)).await.map_err(client.fails())?;
    let plan: Plan = answer.read().map_err(client.fails())?;
    let Verdict { text, code } = verdict::of_plan(&plan);
    let text = if json { answer.text.clone() } else { text + &dns::rehearsal_says(&answer) };
    match code {
        0 => out::line(&text),
        // What would happen is the result here, also where that is nothing good.
        code => Err(Failure::Answer(text, code)),
    }
}

/// Ctrl-C: what the operator leaves behind.
async fn left(client: &Client, service: &ServiceName) -> Failure {
    let look = async {
        let answer = client.get(&format!("/v1/services/{service}")).await.ok()?;
        answer.read::<ServiceView>().ok()
    };
    let view = tokio::time::timeout(LAST_LOOK, look).await.ok().flatten();
    let text = match view.map(|view| (view.warming, view.cutover)) {
        // Nothing begins before that is over, whether or not a cutover has come over a restart.
        Some((Some(warming), _)) => format!(
            "{service}: not waited for any longer; the proxy is starting: {warming}; the order has not begun and is dropped, and \
             nothing has changed"
        ),
        Some((None, Some(cutover))) => format!(
            "{service}: not waited for any longer; cutover {} to {} goes on without us\n  follow it: cutover status {service} --watch\n  \
             go back:   cutover rollback {service}",
            cutover.id, cutover.to
        ),
        Some((None, None)) => format!(
            "{service}: not waited for any longer; no cutover is under way now\n  what came of it: cutover history {service}"
        ),
        None => format!(
            "{service}: not waited for any longer; a cutover that has begun goes on without us\n  see: cutover status {service}"
        ),
    };
    client.left(text)
}

fn path(service: &ServiceName, order: Order) -> String {
    let verb = match order {
        Order::Switch(_) => "switch",
        Order::Rollback(_) => "rollback",
        Order::Abort => "abort",
    };
    format!("/v1/services/{service}/{verb}")
}

/// Reads a color.
pub fn color() -> impl TypedValueParser<Value = Color> {
    PossibleValuesParser::new(Color::BOTH.map(Color::as_str)).try_map(|text| text.parse::<Color>())
}

/// Reads a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| "write a number and a unit, such as `30s` or `5m`".to_owned())
}

/// A fresh check of every endpoint takes no longer than the longest timeout a check may have.
const CHECKS: Duration = Duration::from_secs(60);
/// For telling, after Ctrl-C, what is left behind.
const LAST_LOOK: Duration = Duration::from_secs(1);
