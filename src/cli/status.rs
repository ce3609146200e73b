//! `cutover status`: who is live, how far a cutover is, and how each endpoint is.

use std::fmt::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;

use super::client::{self, Client, Trouble};
use super::discover::status_says as discovery_says;
use super::progress::count;
use super::verdict::{in_millis, ways_on};
use super::{Failure, Global, out, stack, watch};
use crate::admin::{
    ColorView, CutoverView, EndpointView, PreviewView, RefusedReload, ServiceView, Status as Whole, TailView,
};
use crate::cutover::{GateState, Judgement, Verdict, Warmed};
use crate::dns;
use crate::names::{Color, ServiceName};
use crate::time::{self, Human, Timestamp};

/// Show who is live, how far a cutover is, and how each endpoint is
#[derive(Args)]
#[command(
    long_about = "Show who is live, how far a cutover is, and how each endpoint is.\n\n\
        For each color: its share of new requests, the requests and tunnels inside it, the proxy's connections to \
        its endpoints, and for each endpoint its state and what it last answered to a health check.",
    after_help = "Examples:
  cutover status                    every service
  cutover status shop --watch       one service, followed as it changes; Ctrl-C ends it
  cutover status --json | jq -r '.services[] | \"\\(.name) \\(.live)\"'"
)]
pub struct Status {
    /// The service [default: all of them]
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,
    /// Go on showing it: redrawn on a terminal, elsewhere a line for each change
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            if self.watch {
                return watch::run(&client, self.service.as_ref(), global.json).await;
            }
            let look = look(&client, self.service.as_ref()).await.map_err(client.fails())?;
            if global.json {
                return out::line(&look.json);
            }
            let refused = look.refused.as_ref().map(refused_says);
            let doubts: String = refused.iter().chain(&look.journal).map(|says| doubt(says)).collect();
            out::line(&format!("{}{doubts}", page(&look.services, time::now())))
        })
    }
}

/// One look at the proxy.
pub struct Look {
    /// The answer as it came.
    pub json: String,
    pub services: Vec<ServiceView>,
    /// Where all services are looked at, and the last reload was refused.
    pub refused: Option<RefusedReload>,
    /// Where all services are looked at, and the journal cannot be written.
    pub journal: Option<String>,
}

pub async fn look(client: &Client, service: Option<&ServiceName>) -> Result<Look, Trouble> {
    let (answer, services, refused, journal) = match service {
        None => {
            let answer = client.get("/v1/status").await?;
            let status: Whole = answer.read()?;
            (answer, status.services, status.config.refused, status.journal)
        }
        Some(service) => {
            let answer = client.get(&format!("/v1/services/{service}")).await?;
            let view = answer.read()?;
            (answer, vec![view], None, None)
        }
    };
    Ok(Look { json: answer.text, services, refused, journal })
}

/// All of it, for people.
pub fn page(services: &[ServiceView], now: Timestamp) -> String {
    let services: Vec<String> = services.iter().map(|service| service_says(service, now)).collect();
    services.join("\n\n")
}

/// A color's name, in that color.
pub fn in_color(color: Color) -> String {
    let ansi = match color {
        Color::Blue => AnsiColor::BrightBlue,
        Color::Green => AnsiColor::Green,
    };
    out::styled(ansi.on_default().bold(), color.as_str())
}

/// A phase's name as words.
pub fn in_words(phase: &str) -> String {
    phase.replace('_', " ")
}

/// From then until now; nothing where a clock says otherwise.
pub fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// A moment of these days.
pub fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

/// What is on disk is not what runs, and nobody may have noticed.
fn refused_says(refused: &RefusedReload) -> String {
    let (by, at) = (&refused.by, refused.at.strftime("%Y-%m-%d %H:%M:%SZ"));
    format!("the config runs as it was: the reload by {by} at {at} was refused; see `cutover reload --dry-run`")
}

fn doubt(says: &str) -> String {
    format!("\n\n{}", out::styled(WARNING, says))
}

fn service_says(service: &ServiceView, now: Timestamp) -> String {
    let live = in_color(service.live);
    let name = out::styled(BOLD, service.name.as_str());
    let at = service.since.strftime("%Y-%m-%d %H:%M:%SZ");
    let lasts = Human(since(service.since, now));
    let (phase, generation) = (in_words(&service.phase), service.generation);
    let mut text = format!("{name}: {live} is live since {at} ({lasts}), phase {phase}, generation {generation}\n");
    if let Some(warming) = &service.warming {
        text.push_str(&format!("  {warming}\n{}", warmed_says(&warming.warmed, warming.color)));
    }
    if let Some(cutover) = &service.cutover {
        text.push_str(&cutover_says(service, cutover, now));
    }
    if let Some(unwritten) = &service.unwritten {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", out::styled(WARNING, unwritten));
    }
    if let Some(PreviewView { to, until }) = &service.preview {
        let (to, at, left) = (in_color(*to), until.strftime("%Y-%m-%d %H:%M:%SZ"), Human(since(now, *until)));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {to} can be previewed until {at} ({left})");
    }
    let endpoints = || service.colors.iter().flat_map(|(_, view)| &view.endpoints);
    let width = endpoints().map(|endpoint| endpoint.address.len()).max().unwrap_or(0);
    for (color, view) in service.colors.iter() {
        text.push_str(&color_says(color, view, service.live == color));
        if view.endpoints.is_empty() {
            text.push_str("      no endpoints\n");
        }
        view.endpoints.iter().for_each(|endpoint| text.push_str(&endpoint_says(endpoint, width, now)));
        text.extend(view.discovery.as_ref().map(|status| discovery_says(status, now)));
    }
    text.extend(service.dns.as_ref().map(names_says));
    text.extend(service.stack.as_ref().and_then(stack::summary));
    if let Some(tail) = &service.tail {
        text.push_str(&tail_says(tail, now));
    }
    text.trim_end().to_owned()
}

/// Who still comes through the old name.
fn tail_says(tail: &TailView, now: Timestamp) -> String {
    let TailView { requests, connections, networks, last_minute, .. } = tail;
    let (requests, connections) = (count(*requests, "request"), count(*connections, "connection"));
    let networks = count(*networks, "network");
    let ago = |seconds: f64| Human(Duration::from_secs_f64(seconds.max(0.0)));
    let moved = tail.shifted.strftime("%Y-%m-%d %H:%M:%SZ");
    let expires = match since(now, tail.expires) {
        Duration::ZERO => format!("the old answer expired {} ago", Human(since(tail.expires, now))),
        left => format!("the old answer expires in {}", Human(left)),
    };
    let half_life = tail.half_life_s.map_or(String::new(), |seconds| format!(", halving every {}", ago(seconds)));
    let last = match tail.last_seen {
        Some(_) => format!("last {} ago, {last_minute} in the last minute{half_life}", ago(tail.silent_s)),
        None => format!("nobody for {}", ago(tail.silent_s)),
    };
    let told = match tail.told {
        0 => String::new(),
        told => format!("; {told} told to look the name up again"),
    };
    format!(
        "  names moved on {moved}; {expires}\n    through the old name: {requests} on {connections} from {networks}; {last}{told}\n"
    )
}

/// Where names lead, in one line; `cutover dns status` says all of it.
fn names_says(names: &dns::Status) -> String {
    let dns::Status { to, state, message, next, .. } = names;
    let state = in_words(state.as_str());
    let says = match names.in_sync {
        true => format!("  names lead to {to}: {state}"),
        false => format!("  names are to lead to {to} and do not all: {state}"),
    };
    let next = next.as_ref().filter(|_| !names.rests());
    let next = next.map(|next| format!(", until {}", clock(next.by))).unwrap_or_default();
    let message = message.as_ref().map(|message| format!("\n    {}", out::styled(WARNING, message)));
    format!("{says}{next}{}\n", message.unwrap_or_default())
}

fn cutover_says(service: &ServiceView, cutover: &CutoverView, now: Timestamp) -> String {
    let (id, from, to, by) = (&cutover.id, in_color(cutover.from), in_color(cutover.to), &cutover.by);
    let begun = Human(since(cutover.started, now));
    let mut text = format!("  cutover {id}: {from} → {to}, begun {begun} ago by {by}");
    if let Some(reason) = &cutover.reason {
        text.push_str(&format!(": {reason}"));
    }
    text.push('\n');
    // Writing to a String cannot fail.
    for reason in &cutover.reasons {
        let _ = writeln!(text, "    {}", out::styled(WARNING, reason));
    }
    if cutover.phase == "paused" {
        for way in ways_on(&service.name, cutover.from, service.live, cutover.returning) {
            let _ = writeln!(text, "    {way}");
        }
    }
    let width = cutover.gates.iter().map(|gate| gate.name.len()).max().unwrap_or(0);
    for gate in &cutover.gates {
        let style = match gate.state {
            GateState::Passed => GOOD,
            GateState::Refused => BAD,
            GateState::Waiting => WARNING,
        };
        let state = out::styled(style, &format!("{:<7}", gate.state.as_str()));
        let _ = writeln!(text, "    gate {:<width$}  {state}  {}", gate.name, gate.says);
    }
    if let Some(warmed) = &cutover.warmed {
        text.push_str(&warmed_says(warmed, cutover.to));
    }
    if let Some(trial) = &cutover.trial {
        text.push_str(&trial_says(trial, cutover.to));
    }
    if let Some(back) = &cutover.way_back {
        let (style, is) = if back.is_safe { (GOOD, "is safe now") } else { (BAD, "is not safe now") };
        let why: String = back.reasons.iter().map(|reason| format!("; {reason}")).collect();
        let _ = writeln!(text, "    going back to {} {}{why}", cutover.from, out::styled(style, is));
    }
    text
}

/// What the new color has been given before clients saw it, and how it took that.
pub fn warmed_says(warmed: &Warmed, to: Color) -> String {
    let Warmed { warm_ms, endpoints, connections, of_connections, codes, of_requests, .. } = warmed;
    let (took, endpoints) = (in_millis(*warm_ms), count(*endpoints, "endpoint"));
    let (done, failed) = (warmed.requests(), warmed.failed());
    let style = if failed == 0 { GOOD } else { BAD };
    let failed = out::styled(style, &format!("{failed} failed"));
    let elsewhere = match codes[2] {
        0 => String::new(),
        redirected => format!(", {redirected} were redirected"),
    };
    let requests = match of_requests {
        0 => String::new(),
        of => format!(", {done} of {of} requests, {failed}{elsewhere}"),
    };
    let mut text = format!(
        "    warm-up of {to}: {endpoints} in {took}: {connections} of {of_connections} connections{requests}\n"
    );
    for failure in &warmed.failures {
        let _ = writeln!(text, "      {}", out::styled(WARNING, failure));
    }
    text
}

/// What the new color is judged by, each measure with its limit.
pub fn trial_says(trial: &Judgement, to: Color) -> String {
    let when = if trial.verdict == Verdict::Watching { "so far" } else { "when it was judged" };
    let mut text = format!("    {to} {when}: {} requests, compared with {}\n", trial.requests, trial.baseline);
    for measure in &trial.measures {
        let share = if measure.of == 0 { 0.0 } else { measure.bad as f64 / measure.of as f64 };
        let (what, when) = (&measure.what, measure.when());
        let says = format!("{:.2} % {what}{when}, at most {:.2} % may", share * 100.0, measure.limit * 100.0);
        let style = if share > measure.limit { BAD } else { GOOD };
        let _ = writeln!(text, "      {}", out::styled(style, &says));
    }
    text
}

fn color_says(color: Color, view: &ColorView, live: bool) -> String {
    let mark = if live { "●" } else { "○" };
    let name = in_color(color);
    // Padded by hand: the escape codes around the name would be counted.
    let gap = " ".repeat(5 - color.as_str().len());
    // In hundredths of a percent, as shares are.
    let weight = (view.weight * 10_000.0).round() / 100.0;
    let ColorView { in_flight, tunnels, upstream, .. } = view;
    let (busy, idle) = (upstream.active, upstream.idle);
    format!(
        "  {mark} {name}{gap} {weight:>4} %  {in_flight:>5} in flight  {tunnels:>5} tunnels   upstream: {busy} busy, {idle} idle\n"
    )
}

fn endpoint_says(endpoint: &EndpointView, width: usize, now: Timestamp) -> String {
    let EndpointView { address, state, last_check, in_spite, .. } = endpoint;
    let style = match state.as_str() {
        "up" => GOOD,
        "down" => BAD,
        _ => WARNING,
    };
    let state = out::styled(style, &format!("{state:<7}"));
    let said = match last_check {
        None => "not checked yet".to_owned(),
        Some(check) => {
            let ago = format!("{} s ago", since(check.at, now).as_secs());
            // What does not pass stands out even while the endpoint still counts as up.
            let answer = if check.passed { check.answer.clone() } else { out::styled(WARNING, &check.answer) };
            let in_spite = in_spite.as_ref().map_or(String::new(), |why| format!("; {why}"));
            format!("{answer}, {ago}{in_spite}")
        }
    };
    format!("      {address:<width$}  {state}  {said}\n")
}

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default();
