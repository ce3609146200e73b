//! `cutover stack`: which stacks there are, and orders to them, which are waited for and told about.

mod says;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

pub use self::says::summary;
use super::client::{self, Client};
use super::progress::Errand;
use super::switch::{color, duration};
use super::{Failure, Global, Of, out};
use crate::names::{Color, ServiceName};
use crate::stack::{Listed, Order, OrderView, Status as Stacks, Verb};
use crate::time;

/// Look after the stacks that a service's colors are: OpsWorks stacks, or Auto Scaling groups
#[derive(Args)]
#[command(long_about = ABOUT)]
pub struct Stack {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List every stack of the account, and say which is whose
    List(Of),
    /// Bring a color from nothing to healthy endpoints: clone, instances, start, deploy, health checks
    #[command(long_about = PREPARE_ABOUT, after_help = PREPARE_EXAMPLES)]
    Prepare(Forced),
    /// Make a color's stack like the other color's, with its apps, permissions and instances, and start nothing
    #[command(long_about = CLONE_ABOUT)]
    Clone(Plain),
    /// Start a color's instances and wait until they are online
    #[command(long_about = START_ABOUT)]
    Start(Plain),
    /// Deploy the app to a color's instances and wait until that is done
    #[command(long_about = DEPLOY_ABOUT)]
    Deploy(Forced),
    /// Stop a color's instances, once nobody needs them any more; nothing is deleted
    #[command(long_about = STOP_ABOUT, after_help = STOP_EXAMPLES)]
    Stop(Forced),
    /// Show which stack is whose, and how far the newest order is
    Status(Of),
    /// End the order that is carried out; what it has done stays
    Abort(Of),
    /// List the orders, newest first
    History(Of),
}

#[derive(Args)]
struct Plain {
    /// The color whose stack it is
    #[arg(value_name = "COLOR", value_parser = color())]
    color: Color,
    #[command(flatten)]
    of: Of,
    /// Why, for the history and for the provider's own record of a deployment
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long to wait, such as 30m; the order goes on after it, and the command exits with 1 [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Return once the order has been taken
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
}

#[derive(Args)]
struct Forced {
    #[command(flatten)]
    plain: Plain,
    /// Carry it out over what speaks against it, for this reason; both are kept in the history
    #[arg(long, value_name = "REASON")]
    force: Option<String>,
}

impl Stack {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            match self.what {
                What::List(of) => list(&client, &of).await,
                What::Status(of) => status(&client, &of).await,
                What::History(of) => history(&client, &of).await,
                What::Abort(of) => abort(&client, &of).await,
                What::Prepare(it) => give(&client, Verb::Prepare, it).await,
                What::Deploy(it) => give(&client, Verb::Deploy, it).await,
                What::Stop(it) => give(&client, Verb::Stop, it).await,
                What::Clone(plain) => give(&client, Verb::Clone, Forced { plain, force: None }).await,
                What::Start(plain) => give(&client, Verb::Start, Forced { plain, force: None }).await,
            }
        })
    }
}

async fn list(client: &Client, of: &Of) -> Result<(), Failure> {
    let path = format!("{}/list", path(&client.service(of).await?));
    let answer = client.post(&path, &json!({}), Some(READ)).await.map_err(client.fails())?;
    client.print(answer, |stacks: Vec<Listed>| says::list(&stacks))
}

async fn status(client: &Client, of: &Of) -> Result<(), Failure> {
    let path = path(&client.service(of).await?);
    let answer = client.get(&path).await.map_err(client.fails())?;
    client.print(answer, |stacks: Stacks| says::status(&stacks, time::now()))
}

async fn history(client: &Client, of: &Of) -> Result<(), Failure> {
    let path = path(&client.service(of).await?);
    let answer = client.get(&format!("{path}/orders")).await.map_err(client.fails())?;
    let orders: Vec<Order> = answer.read().map_err(client.fails())?;
    if client.json {
        return out::line(&answer.text);
    }
    let now: Stacks = client.get(&path).await.and_then(|now| now.read()).map_err(client.fails())?;
    let message = now.message.map(|message| format!("{message}\n")).unwrap_or_default();
    match orders.as_slice() {
        [] => out::line(&format!("{message}There has been no order yet.")),
        _ => out::line(&format!("{message}{}", says::history(&orders))),
    }
}

async fn abort(client: &Client, of: &Of) -> Result<(), Failure> {
    let path = format!("{}/abort", path(&client.service(of).await?));
    let answer = client.post(&path, &json!({}), Some(Duration::ZERO)).await.map_err(client.fails())?;
    client.print(answer, |view: OrderView| says::order(&view, time::now()))
}

/// Gives the order and waits for its end, telling each step on the way.
async fn give(client: &Client, verb: Verb, order: Forced) -> Result<(), Failure> {
    let Forced { plain: Plain { color, of, reason, timeout, no_wait }, force } = order;
    let service = &client.service(&of).await?;
    let goes_on = format!("cutover stack status {service}, and cutover stack abort {service} ends it");
    let errand = Errand { client, service, path: path(service), goes_on };
    let millis = timeout.map(client::written);
    let body = json!({ "color": color, "wait": !no_wait, "reason": reason, "force": force, "timeout": millis });
    let step = |stacks: Stacks| {
        let view = stacks.order.filter(|view| view.order.outcome.is_none())?;
        Some(((view.order.id.clone(), view.order.step), says::step(&view, time::now())))
    };
    let within = if no_wait { Some(Duration::ZERO) } else { timeout };
    let answer = errand.give(verb.as_str(), &body, within, step).await?;
    let view: OrderView = answer.read().map_err(client.fails())?;
    errand.end(answer, says::order(&view, time::now()), !no_wait)
}

fn path(service: &ServiceName) -> String {
    format!("/v1/services/{service}/stack")
}

/// For reading an account, page by page and at the provider's pace.
const READ: Duration = Duration::from_secs(150);
const ABOUT: &str = "Look after the stacks that a service's colors are: OpsWorks stacks, or Auto Scaling groups.

Which stack is a color's, its `discover` says in the config. An order is carried out by the proxy, one at a time for each \
                     service: it looks first, does what is missing, looks again, and goes on after a restart. A call that \
                     got no answer is not made again before a look has shown that it did nothing. Nothing is ever deleted.

AWS ended OpsWorks Stacks on 26 May 2024; orders to OpsWorks stacks are for compatible services at `endpoint_url`.";
const PREPARE_ABOUT: &str = "Bring a color from nothing to healthy endpoints.

Of OpsWorks: where the color's stack is not there, it is cloned from the other color's, with apps, permissions and network; \
                             instances that the other color has by host name are added; those that do not run are started; the app \
                             is deployed; and every instance that is online has to be an endpoint that passes the proxy's own \
                             health checks. An Auto Scaling group is given at least the other color's size instead.

A color that is live, or has somebody inside, is not deployed to without --force.";
const PREPARE_EXAMPLES: &str = "Examples:
  cutover stack prepare green && cutover switch green
  cutover stack prepare green shop --reason \"release 42\" --timeout 1h
  cutover stack prepare green --no-wait && cutover stack status --json | jq -r .order.step";
const CLONE_ABOUT: &str = "Make a color's stack like the other color's, with its apps, permissions, network and instances, and start nothing.

A stack of that name that is there already is not made again, nor an instance of a host name. An Auto Scaling group is made \
                           by the tool that made the other one.";
const START_ABOUT: &str = "Start a color's instances and wait until they are online.

Instances that the provider starts by load or by the hour are left to it. An Auto Scaling group is given at least the other \
                           color's size, its own bounds widened where that is needed, and its instances are waited for until they pass the \
                           proxy's own health checks.";
const DEPLOY_ABOUT: &str = "Deploy the app to a color's instances that are online, and wait until that is done.

The app is `app` under `stacks` in the config, or the only one that the stack has. A color that is live, or has somebody \
                            inside, is not deployed to without --force. What an Auto Scaling group starts comes with its app already.";
const STOP_ABOUT: &str = "Stop a color's instances, once nobody needs them any more; nothing is deleted.

It takes a yes of `cutover retire`, asked for again right before each instance is stopped. --force overrides any no but one: \
                          the live color is not stopped. Of an Auto Scaling group the least and the desired size become 0, and what they were \
                          is kept in the history.";
const STOP_EXAMPLES: &str = "Examples:
  cutover retire blue --wait && cutover stack stop blue
  cutover stack stop blue --force \"release 42 is out for a week\"";
