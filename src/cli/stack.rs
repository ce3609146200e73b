//! `cutover stack`: which stacks there are, and orders to them, which are waited for and told about.

use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use serde_json::{Value, json};

use super::client::{self, Answer, Client, Trouble};
use super::status::since;
use super::switch::{color, duration};
use super::{Failure, Global, out};
use crate::names::{Color, ServiceName};
use crate::stack::{InstanceState, Kind, Listed, Order, OrderView, Outcome, Site, Status as Stacks, Step, Verb};
use crate::time::{self, Human, Timestamp};

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
struct Of {
    /// The service; may be left out where the proxy has only one
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,
}

#[derive(Args)]
struct Plain {
    /// The color whose stack it is
    #[arg(value_name = "COLOR", value_parser = color())]
    color: Color,
    /// The service; may be left out where the proxy has only one
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,
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
        let json = global.json;
        client::block_on(async {
            match self.what {
                What::List(of) => list(&client, &of, json).await,
                What::Status(of) => status(&client, &of, json).await,
                What::History(of) => history(&client, &of, json).await,
                What::Abort(of) => abort(&client, &of, json).await,
                What::Prepare(it) => give(&client, Verb::Prepare, it, json).await,
                What::Deploy(it) => give(&client, Verb::Deploy, it, json).await,
                What::Stop(it) => give(&client, Verb::Stop, it, json).await,
                What::Clone(plain) => give(&client, Verb::Clone, Forced { plain, force: None }, json).await,
                What::Start(plain) => give(&client, Verb::Start, Forced { plain, force: None }, json).await,
            }
        })
    }
}

async fn list(client: &Client, of: &Of, json: bool) -> Result<(), Failure> {
    let service = client.service(of.service.as_ref()).await?;
    let answer = client.post(&path(&service, "/list"), &json!({}), Some(READ)).await.map_err(client.fails())?;
    let stacks: Vec<Listed> = answer.read().map_err(client.fails())?;
    out::line(&if json { answer.text } else { list_says(&stacks) })
}

async fn status(client: &Client, of: &Of, json: bool) -> Result<(), Failure> {
    let service = client.service(of.service.as_ref()).await?;
    let answer = client.get(&path(&service, "")).await.map_err(client.fails())?;
    let stacks: Stacks = answer.read().map_err(client.fails())?;
    out::line(&if json { answer.text } else { status_says(&stacks, time::now()) })
}

async fn history(client: &Client, of: &Of, json: bool) -> Result<(), Failure> {
    let service = client.service(of.service.as_ref()).await?;
    let answer = client.get(&path(&service, "/orders")).await.map_err(client.fails())?;
    let orders: Vec<Order> = answer.read().map_err(client.fails())?;
    if json {
        return out::line(&answer.text);
    }
    let now: Stacks = client.get(&path(&service, "")).await.and_then(|now| now.read()).map_err(client.fails())?;
    let message = now.message.map(|message| format!("{message}\n")).unwrap_or_default();
    match orders.as_slice() {
        [] => out::line(&format!("{message}There has been no order yet.")),
        _ => out::line(&format!("{message}{}", history_says(&orders))),
    }
}

async fn abort(client: &Client, of: &Of, json: bool) -> Result<(), Failure> {
    let service = client.service(of.service.as_ref()).await?;
    let answer = client.post(&path(&service, "/abort"), &json!({}), Some(Duration::ZERO)).await;
    let answer = answer.map_err(client.fails())?;
    let view: OrderView = answer.read().map_err(client.fails())?;
    out::line(&if json { answer.text } else { order_says(&view, time::now()) })
}

/// Gives the order and waits for its end, telling each step on the way.
async fn give(client: &Client, verb: Verb, order: Forced, json: bool) -> Result<(), Failure> {
    let Forced { plain: Plain { color, service, reason, timeout, no_wait }, force } = order;
    let service = client.service(service.as_ref()).await?;
    let mut body = json!({ "color": color, "wait": !no_wait });
    let mut put = |key: &str, value: Option<Value>| value.into_iter().for_each(|value| body[key] = value);
    put("reason", reason.map(Value::from));
    put("force", force.map(Value::from));
    put("timeout", timeout.map(|timeout| json!(format!("{}ms", timeout.as_millis()))));
    let path = path(&service, &format!("/{}", verb.as_str()));
    let within = if no_wait { Some(Duration::ZERO) } else { timeout };
    let answer = tokio::select! {
        answer = client.post(&path, &body, within) => answer,
        trouble = follow(client, &service) => Err(trouble),
        _ = tokio::signal::ctrl_c() => {
            let says = format!("{service}: not waited for any longer; {}", goes_on(&service));
            return Err(Failure::Failed(says));
        }
    };
    let answer = answer.map_err(client.fails())?;
    end(&service, &answer, no_wait, json).map_err(|failure| failure.unwrap_or_else(|trouble| trouble.ends(json)))
}

fn end(service: &ServiceName, answer: &Answer, no_wait: bool, json: bool) -> Result<(), Result<Failure, Trouble>> {
    let view: OrderView = answer.read().map_err(Err)?;
    let mut text = order_says(&view, time::now());
    if answer.is_unfinished() {
        let so = if no_wait { "taken" } else { "not there yet" };
        text.push_str(&format!("\n{service}: {so}; {}", goes_on(service)));
    }
    let text = if json { answer.text.clone() } else { text };
    match answer.is_unfinished() && !no_wait {
        true => Err(Ok(Failure::Answer(text, 1))),
        false => out::line(&text).map_err(Ok),
    }
}

fn goes_on(service: &ServiceName) -> String {
    format!("the proxy goes on: cutover stack status {service}, and cutover stack abort {service} ends it")
}

/// Shows on stderr what is waited for, on a terminal in place, elsewhere a line for each step; ends where the proxy is gone.
async fn follow(client: &Client, service: &ServiceName) -> Trouble {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_finish(ProgressFinish::AndClear);
    // The template is right, and without one the line would only look different.
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let (mut missed, mut last) = (0, None);
    loop {
        tokio::time::sleep(LOOK).await;
        match client.get(&path(service, "")).await.and_then(|answer| answer.read::<Stacks>()) {
            Ok(stacks) => {
                missed = 0;
                let Some(view) = stacks.order.filter(|view| view.order.outcome.is_none()) else { continue };
                bar.set_message(step_says(&view, time::now()));
                bar.tick();
                if bar.is_hidden() && last != Some((view.order.id.clone(), view.order.step)) {
                    anstream::eprintln!("{}", step_says(&view, time::now()));
                    last = Some((view.order.id.clone(), view.order.step));
                }
            }
            Err(trouble) if missed == PATIENCE => return trouble,
            Err(_) => missed += 1,
        }
    }
}

/// What an order is at, in one line.
fn step_says(view: &OrderView, now: Timestamp) -> String {
    let Order { service, verb, color, step, started, .. } = &view.order;
    let says = view.says.as_ref().map(|says| format!(": {says}")).unwrap_or_default();
    let (verb, step) = (verb.as_str(), step.as_str());
    format!("{service}: {verb} {color}: {step}{says}; {}", Human(since(*started, now)))
}

fn status_says(stacks: &Stacks, now: Timestamp) -> String {
    let mut text = String::new();
    for (color, site) in stacks.sites.iter() {
        let site = site.as_ref().map_or("no stack".to_owned(), Site::to_string);
        text.push_str(&format!("{}: {color} is {site}\n", stacks.service));
    }
    text.extend(stacks.message.as_ref().map(|message| format!("{message}\n")));
    match &stacks.order {
        Some(view) => text.push_str(&order_says(view, now)),
        None => text.push_str("There has been no order yet."),
    }
    text
}

/// All of an order, for people.
fn order_says(view: &OrderView, now: Timestamp) -> String {
    let OrderView { order, says, deadline, instances } = view;
    let Order { id, service, verb, color, site, by, reason, started, ended, outcome, .. } = order;
    let lasts = Human(since(*started, ended.unwrap_or(now)));
    let state = match outcome {
        None => format!("begun {lasts} ago"),
        Some(outcome) => format!("{} after {lasts}", outcome.as_str()),
    };
    let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let verb = verb.as_str();
    let mut text = format!("{service}: {verb} {color} ({site}), {state}, by {by}{why} (order {id})");
    for step in order.steps() {
        let (mark, is_now) = mark(order, *step);
        let says = says.as_ref().filter(|_| is_now).map(|says| format!("  {says}")).unwrap_or_default();
        let by = deadline.filter(|_| is_now).map(|by| format!("  (until {})", clock(by))).unwrap_or_default();
        text.push_str(format!("\n  {mark} {:<9}{says}{by}", step.as_str()).trim_end());
    }
    for instance in instances.iter().filter(|instance| instance.state != InstanceState::Gone) {
        let address = instance.address.as_deref().unwrap_or("-");
        text.push_str(&format!("\n      {}  {}  {address}", instance.name, instance.says));
    }
    if let Some(force) = &order.force {
        text.push_str(&format!("\n  forced: {force}"));
        order.overridden.iter().for_each(|it| text.push_str(&format!("\n    over {}: {}", it.code, it.text)));
    }
    if let Some(capacity) = &order.evidence.capacity {
        text.push_str(&format!("\n  capacity: {}, before that {}", capacity.to, capacity.from));
    }
    text.extend(order.why.as_ref().map(|why| format!("\n  {why}")));
    text
}

/// The sign of a step, and whether the order is at it.
fn mark(order: &Order, step: Step) -> (&'static str, bool) {
    let place = |step: Step| order.steps().iter().position(|known| *known == step);
    match (place(step).cmp(&place(order.step)), order.outcome) {
        (std::cmp::Ordering::Less, _) | (_, Some(Outcome::Done)) => ("✓", false),
        (std::cmp::Ordering::Equal, None) => ("▸", true),
        (std::cmp::Ordering::Equal, Some(_)) => ("✗", false),
        (std::cmp::Ordering::Greater, _) => ("·", false),
    }
}

fn list_says(stacks: &[Listed]) -> String {
    if stacks.is_empty() {
        return "There is no stack.".to_owned();
    }
    let row = |listed: &Listed| {
        let Listed { provider, stack, color } = listed;
        let online = stack.instances.iter().filter(|instance| instance.state == InstanceState::Online).count();
        let left = stack.instances.iter().filter(|instance| instance.state != InstanceState::Gone).count();
        let apps: Vec<&str> = stack.apps.iter().map(|app| app.name.as_str()).collect();
        let what = match (&stack.capacity, apps.is_empty()) {
            (Some(capacity), _) => capacity.to_string(),
            (None, true) => "-".to_owned(),
            (None, false) => apps.join(", "),
        };
        let kind = match provider {
            Kind::OpsWorks => "opsworks",
            Kind::Asg => "asg",
        };
        let color = color.map_or("-", Color::as_str).to_owned();
        [kind.to_owned(), stack.name.clone(), color, format!("{online} of {left} online"), what, stack.id.clone()]
    };
    table(&["provider", "stack", "color", "instances", "apps, or size", "id"], stacks.iter().map(row))
}

fn history_says(orders: &[Order]) -> String {
    let row = |order: &Order| {
        let Order { verb, color, site, by, reason, force, started, ended, outcome, why, step, .. } = order;
        let outcome = outcome.map_or_else(|| format!("in {}", step.as_str()), |outcome| outcome.as_str().to_owned());
        let lasts = ended.map_or("-".to_owned(), |ended| Human(since(*started, ended)).to_string());
        let force = force.as_ref().map(|force| format!("forced: {force}"));
        let why: Vec<&str> = [reason, &force, why].into_iter().flatten().map(String::as_str).collect();
        let what = format!("{} {color}", verb.as_str());
        let at = started.strftime("%Y-%m-%d %H:%M:%S").to_string();
        [at, what, site.stack.clone(), outcome, lasts, by.clone(), why.join("; ")]
    };
    table(&["started (UTC)", "order", "stack", "outcome", "time", "by", "why"], orders.iter().map(row))
}

fn table<const N: usize>(header: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut lines = table.lines().map(|line| line.trim_end().to_owned());
    let header = lines.next().map(|header| out::styled(anstyle::Style::new().bold(), &header));
    header.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// The newest order, in one line of the whole status.
pub fn summary(stacks: &Stacks) -> Option<String> {
    let view = stacks.order.as_ref()?;
    let Order { verb, color, step, outcome, .. } = &view.order;
    let so = outcome.map_or_else(|| step.as_str(), Outcome::as_str);
    let says = view.says.as_ref().or(view.order.why.as_ref()).map(|says| format!(": {says}")).unwrap_or_default();
    Some(format!("  stack: {} {color}: {so}{says}\n", verb.as_str()))
}

fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

fn path(service: &ServiceName, rest: &str) -> String {
    format!("/v1/services/{service}/stack{rest}")
}

/// For reading an account, page by page and at the provider's pace.
const READ: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(500);
/// Looks in a row that may fail, since a busy proxy may miss one.
const PATIENCE: u32 = 2;
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
