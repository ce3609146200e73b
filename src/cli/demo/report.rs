//! What the demo came to: one value, printed as tables for people or as JSON.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use serde::Serialize;

use super::clients::{Score, Traffic};
use super::course::Move;
use super::show::{colored, grouped};
use super::stacks::Stacks;
use crate::cli::{Failure, out};
use crate::names::{Color, PerColor};
use crate::time::{Human, Timestamp};

/// The shape of `--json`; names stay, more may come.
#[derive(Serialize)]
pub struct Report {
    pub failed: u64,
    pub lost_reasons: Vec<String>,
    pub switches: usize,
    /// The median, in microseconds.
    pub switch_us: u64,
    pub switch_us_min: u64,
    pub switch_us_max: u64,
    /// The longest.
    pub drain_ms: u64,
    pub requests_to_old_since: u64,
    /// When the last request began on the color that was left last.
    pub last_request_to_old: Option<Timestamp>,
    pub requests: Requests,
    pub echoes: u64,
    pub workers: usize,
    pub seconds: f64,
    pub moves: Vec<Move>,
    #[serde(flatten)]
    pub doors: Doors,
    #[serde(skip)]
    answered: Vec<(Traffic, PerColor<u64>)>,
}

impl Report {
    pub fn of(moves: Vec<Move>, score: &Score, stacks: &Stacks, took: Duration, doors: Doors) -> Report {
        let answered: Vec<(Traffic, PerColor<u64>)> = Traffic::ALL
            .into_iter()
            .map(|traffic| (traffic, PerColor::from_fn(|color| score.answered(traffic, color))))
            .collect();
        let sum = |traffic: Traffic| answered[traffic as usize].1.blue + answered[traffic as usize].1.green;
        let switch_us = sorted(&moves, |done| done.switch_us);
        Report {
            failed: score.failed(),
            lost_reasons: lost_reasons(&moves, score, stacks),
            switches: moves.len(),
            switch_us: median(&switch_us),
            switch_us_min: switch_us.first().copied().unwrap_or_default(),
            switch_us_max: switch_us.last().copied().unwrap_or_default(),
            drain_ms: moves.iter().map(|done| done.drain_ms).max().unwrap_or_default(),
            requests_to_old_since: moves.iter().map(|done| done.requests_to_old_since).sum(),
            last_request_to_old: moves.last().and_then(|done| done.last_request_to_old),
            requests: Requests {
                blue: stacks.of.blue.tally.started(),
                green: stacks.of.green.tally.started(),
                http1: sum(Traffic::Http1),
                http2: sum(Traffic::Http2),
                slow: sum(Traffic::Slow),
                websocket: sum(Traffic::WebSocket),
            },
            echoes: score.echoes(),
            workers: moves.first().map_or(0, |done| done.workers),
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
            moves,
            doors,
            answered,
        }
    }

    pub fn is_clean(&self) -> bool {
        self.lost_reasons.is_empty()
    }

    /// The result goes to stdout; where that is JSON, what to try goes to stderr.
    pub fn print(&self, json: bool, keep: bool) -> Result<(), Failure> {
        let next = if keep { self.to_try() } else { NEXT.to_owned() };
        if !json {
            return out::line(&format!("{}\n{next}", self.tables()));
        }
        if keep {
            anstream::eprintln!("{next}");
        }
        out::line(&serde_json::to_string(self).context("the result cannot be written")?)
    }

    fn tables(&self) -> String {
        let mut text = self.verdict();
        let mut line = |line: String| text.extend([line.as_str(), "\n"]);
        line(format!("\n  {:<12}{}{}{:>12}", "", head(Color::Blue), head(Color::Green), "together"));
        for (traffic, sums) in &self.answered {
            line(row(traffic.as_str(), sums.blue, sums.green));
        }
        line(row("together", self.requests.blue, self.requests.green));
        line(format!("  {:<36}{:>12}\n", "failed", grouped(self.failed)));

        let micros = |micros: u64| Human(Duration::from_micros(micros));
        let drains = sorted(&self.moves, |done| done.drain_ms * 1000);
        let range = |sorted: &[u64]| match sorted {
            [first, .., last] => format!("{} ({} to {})", micros(median(sorted)), micros(*first), micros(*last)),
            _ => micros(median(sorted)).to_string(),
        };
        let fact = |name: &str, value: String| format!("  {name:<33}{value}");
        line(fact("switches", self.switches.to_string()));
        let everywhere = format!(" on all {} workers", self.workers);
        line(fact("switch time", range(&sorted(&self.moves, |done| done.switch_us)) + &everywhere));
        line(fact("drain of the old color", range(&drains) + " until it was empty"));
        if let Some(last) = self.moves.last() {
            let when = last.last_request_to_old.map_or("never".to_owned(), |at| at.strftime("%T%.3f").to_string());
            let quiet = micros(last.quiet_us);
            line(fact("last request to the old color", format!("{when} UTC, {quiet} before the return")));
        }
        line(fact("requests to the old color since", format!("{}", self.requests_to_old_since)));
        text
    }

    fn verdict(&self) -> String {
        let all = grouped(self.requests.blue + self.requests.green);
        let (switches, seconds) = (self.switches, self.seconds);
        if self.is_clean() {
            return format!("{GOOD}Nothing was lost{GOOD:#}: {all} requests in {seconds} s, {switches} switches.\n");
        }
        let mut text = format!("{BAD}Something was lost{BAD:#}: {all} requests in {seconds} s, {switches} switches.\n");
        self.lost_reasons.iter().for_each(|reason| text.extend(["  - ", reason, "\n"]));
        text
    }

    fn to_try(&self) -> String {
        let Doors { proxy, admin, metrics } = &self.doors;
        let cutover = std::env::args().next().unwrap_or("cutover".to_owned());
        let to = self.moves.last().map_or(Color::Green, |done| done.from);
        format!(
            "The clients have gone; the proxy and both stacks go on until Ctrl-C.\n\
             In another terminal, try\n\n  \
             curl {proxy}/\n  \
             {cutover} status --admin {admin}\n  \
             {cutover} switch {to} --admin {admin}\n  \
             curl '{proxy}/slow?ms=5000'      # and switch meanwhile\n  \
             curl {metrics}\n"
        )
    }
}

/// Requests that were answered. Each conversation over a WebSocket is one.
#[derive(Serialize)]
pub struct Requests {
    pub blue: u64,
    pub green: u64,
    pub http1: u64,
    pub http2: u64,
    pub slow: u64,
    pub websocket: u64,
}

/// Where everything can be reached for as long as it runs.
#[derive(Serialize)]
pub struct Doors {
    pub proxy: String,
    pub admin: String,
    pub metrics: String,
}

/// Everything that is not as it should be, whoever saw it: the clients, the operator, or the stacks.
fn lost_reasons(moves: &[Move], score: &Score, stacks: &Stacks) -> Vec<String> {
    let mut reasons = score.reasons();
    if score.failed() == 0 {
        for (color, stack) in stacks.of.iter() {
            let (began, answered) = (stack.tally.started(), score.answered_by(color));
            if began != answered {
                reasons.push(format!("{began} requests began on {color}, but {answered} were answered from there"));
            }
        }
    }
    reasons.extend(moves.iter().flat_map(|done| done.reasons.clone()));
    reasons
}

fn sorted(moves: &[Move], of: fn(&Move) -> u64) -> Vec<u64> {
    let mut values: Vec<u64> = moves.iter().map(of).collect();
    values.sort_unstable();
    values
}

fn median(sorted: &[u64]) -> u64 {
    match sorted {
        [] => 0,
        _ => (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2,
    }
}

fn head(color: Color) -> String {
    format!("{}{}", " ".repeat(12 - color.as_str().len()), colored(color, 0))
}

fn row(name: &str, blue: u64, green: u64) -> String {
    format!("  {name:<12}{:>12}{:>12}{:>12}", grouped(blue), grouped(green), grouped(blue + green))
}

const NEXT: &str = "\
Next: `cutover demo --keep` leaves all this running, to be tried by hand.
Put your own stacks' addresses into config/minimal.toml, and
`cutover serve --config config/minimal.toml` is a proxy for them.
README.md leads on from there.";
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
