//! What an operator sees on the terminal while a cutover is waited for: how far it is, and what it waits for.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use super::client::{Client, Trouble};
use super::out;
use super::status::{in_words, since};
use crate::admin::{CutoverView, ServiceView};
use crate::cutover::Warmed;
use crate::names::ServiceName;
use crate::time::{self, Human};

/// Why an order is waited for no longer, although it has not been answered.
pub enum End {
    /// The proxy is gone: an order that nobody works at must not be waited for.
    Lost(Trouble),
    /// Ctrl-C.
    Interrupted,
}

/// Shows how far it is, on a terminal only, until dropped.
pub async fn follow(client: &Client, service: &ServiceName) -> End {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_finish(ProgressFinish::AndClear);
    // The template is right, and without one the line would only look different.
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    tokio::select! {
        trouble = show(&bar, client, service) => End::Lost(trouble),
        _ = tokio::signal::ctrl_c() => {
            out::leave_as_it_is(&bar);
            End::Interrupted
        }
    }
}

async fn show(bar: &ProgressBar, client: &Client, service: &ServiceName) -> Trouble {
    let pause = if bar.is_hidden() { HEARTBEAT } else { REDRAW };
    let mut missed = 0;
    loop {
        tokio::time::sleep(pause).await;
        let look = client.get(&format!("/v1/services/{service}")).await;
        match look.and_then(|answer| answer.read::<ServiceView>()) {
            Ok(view) => {
                missed = 0;
                if let Some(cutover) = &view.cutover {
                    bar.set_message(says(&view, cutover));
                    bar.tick();
                }
            }
            Err(trouble) if missed == PATIENCE => return trouble,
            Err(_) => missed += 1,
        }
    }
}

fn says(service: &ServiceView, cutover: &CutoverView) -> String {
    let (name, live) = (&service.name, service.live);
    let elapsed = Human(since(cutover.started, time::now()));
    let doing = match cutover.phase.as_str() {
        "prepare" | "confirm" => format!("{} is being checked; {live} is live", cutover.to),
        "gates" => format!("{} waits to be let through; {live} is live", cutover.to),
        "warm" => format!(
            "{} is warmed up{}; {live} is live",
            cutover.to,
            cutover.warmed.as_ref().map_or(String::new(), so_far)
        ),
        "canary" => format!("{} has the share of step {}; {live} has the rest", cutover.to, cutover.step.unwrap_or(1)),
        "ramp" => format!("the share of {} rises; {live} has the rest", cutover.to),
        "bake" => format!("{live} is live, and is judged by what it does"),
        "dns" => format!("{live} is live; names follow"),
        "paused" => format!("{live} is live; it waits for an operator"),
        "drain" | "drain_back" => {
            let old = &service.colors[live.other()];
            let (requests, tunnels) = (count(old.in_flight, "request"), count(old.tunnels, "tunnel"));
            format!("{live} is live; left in {}: {requests}, {tunnels}", live.other())
        }
        _ => format!("{live} is being made live"),
    };
    let mut text = format!("{name}: {}: {doing}; {elapsed}", in_words(&cutover.phase));
    let mut reasons = cutover.reasons.iter();
    for reason in reasons.by_ref().take(REASONS) {
        text.push_str("\n    ");
        text.push_str(reason);
    }
    match reasons.count() {
        0 => {}
        more => text.push_str(&format!("\n    and {more} more")),
    }
    text
}

/// How far a warm-up is.
fn so_far(warmed: &Warmed) -> String {
    let (requests, of) = (warmed.requests(), warmed.of_requests);
    format!(" ({} of {} connections, {requests} of {of} requests)", warmed.connections, warmed.of_connections)
}

/// A number and its word: `1 request`, `2 requests`.
pub fn count(number: u64, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {word}{s}")
}

const REDRAW: Duration = Duration::from_millis(150);
/// Off a terminal it is only asked whether the proxy is there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Looks in a row that may fail, since a busy proxy may miss one.
const PATIENCE: u32 = 2;
/// Reasons that fit on any terminal.
const REASONS: usize = 8;
