//! What an operator sees while something is waited for: how far it is, and what it waits for.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Answer, Client, Trouble};
use super::status::{in_words, since};
use super::{Failure, out};
use crate::admin::{CutoverView, ServiceView};
use crate::cutover::Warmed;
use crate::names::ServiceName;
use crate::time::{self, Human};

/// What is waited for, on stderr: redrawn in place on a terminal, elsewhere a line for each step.
pub struct Progress<K> {
    bar: ProgressBar,
    /// The step that was told last.
    told: Option<K>,
}

impl<K: PartialEq> Progress<K> {
    pub fn new() -> Progress<K> {
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(None, target).with_finish(ProgressFinish::AndClear);
        // The template is right, and without one the line would only look different.
        let style =
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        Progress { bar: bar.with_style(style), told: None }
    }

    pub fn is_on_a_terminal(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// On a terminal.
    pub fn draw(&self, says: String) {
        self.bar.set_message(says);
        self.bar.tick();
    }

    /// Elsewhere, once for each step.
    pub fn tell(&mut self, step: K, says: &str) {
        let step = Some(step);
        if !self.is_on_a_terminal() && self.told != step {
            anstream::eprintln!("{says}");
            self.told = step;
        }
    }

    /// Behind a Ctrl-C.
    pub fn leave(&self) {
        out::leave_as_it_is(&self.bar);
    }
}

/// Why an order is waited for no longer, although it has not been answered.
pub enum End {
    /// The proxy is gone: an order that nobody works at must not be waited for.
    Lost(Trouble),
    /// Ctrl-C.
    Interrupted,
}

/// Looks at what is at that path again and again, and has it shown.
async fn follow<T, K>(client: &Client, path: &str, pause: Pause, show: impl Fn(&mut Progress<K>, T)) -> End
where
    T: DeserializeOwned,
    K: PartialEq,
{
    let mut progress = Progress::new();
    let pause = if progress.is_on_a_terminal() { pause.on_a_terminal } else { pause.elsewhere };
    let looks = async {
        let mut missed = 0;
        loop {
            tokio::time::sleep(pause).await;
            match client.get(path).await.and_then(|answer| answer.read::<T>()) {
                Ok(seen) => {
                    missed = 0;
                    show(&mut progress, seen);
                }
                Err(trouble) if missed == PATIENCE => return trouble,
                Err(_) => missed += 1,
            }
        }
    };
    tokio::select! {
        trouble = looks => End::Lost(trouble),
        _ = tokio::signal::ctrl_c() => {
            progress.leave();
            End::Interrupted
        }
    }
}

/// An order to those who look after something of a service. They go on with it whoever waits.
pub struct Errand<'a> {
    pub client: &'a Client,
    pub service: &'a ServiceName,
    /// Where they tell how far it is; orders are given below it.
    pub path: String,
    /// Said to whoever leaves before its end.
    pub goes_on: String,
}

impl Errand<'_> {
    /// Gives it and waits for what comes of it, telling each step on the way: which it is, and in words.
    pub async fn give<T, K>(
        &self,
        verb: &str,
        body: &Value,
        within: Option<Duration>,
        step: impl Fn(T) -> Option<(K, String)>,
    ) -> Result<Answer, Failure>
    where
        T: DeserializeOwned,
        K: PartialEq,
    {
        let show = |progress: &mut Progress<K>, seen: T| {
            if let Some((step, says)) = step(seen) {
                progress.tell(step, &says);
                progress.draw(says);
            }
        };
        let path = format!("{}/{verb}", self.path);
        let answer = tokio::select! {
            answer = self.client.post(&path, body, within) => answer,
            end = follow(self.client, &self.path, STEPS, show) => match end {
                End::Lost(trouble) => Err(trouble),
                End::Interrupted => return Err(self.client.left(self.says("not waited for any longer"))),
            },
        };
        answer.map_err(self.client.fails())
    }

    /// Prints what came of it. Whoever wanted to wait has not got what he wanted where it is not there yet.
    pub fn end(&self, answer: Answer, mut says: String, waits: bool) -> Result<(), Failure> {
        let is_unfinished = answer.is_unfinished();
        if is_unfinished {
            let so = if waits { "not there yet" } else { "taken" };
            says.push_str(&format!("\n{}", self.says(so)));
        }
        let text = if self.client.json { answer.text } else { says };
        match is_unfinished && waits {
            true => Err(Failure::Answer(text, 1)),
            false => out::line(&text),
        }
    }

    fn says(&self, so: &str) -> String {
        format!("{}: {so}; the proxy goes on: {}", self.service, self.goes_on)
    }
}

/// Shows on a terminal how far a cutover is, until dropped; elsewhere only that it waits for the start of the proxy, which
/// may take long.
pub async fn of_cutover(client: &Client, service: &ServiceName) -> End {
    let show = |progress: &mut Progress<()>, view: ServiceView| {
        if let Some(warming) = &view.warming {
            let says = format!("{}: the proxy is starting: {warming}{}", view.name, so_far(&warming.warmed));
            progress.tell((), &says);
            progress.draw(says);
        } else if let Some(cutover) = &view.cutover {
            progress.draw(says(&view, cutover));
        }
    };
    follow(client, &format!("/v1/services/{service}"), PHASES, show).await
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

/// Between two looks.
struct Pause {
    on_a_terminal: Duration,
    elsewhere: Duration,
}

/// Off a terminal it is asked whether the proxy is there, and whether it has started.
const PHASES: Pause = Pause { on_a_terminal: Duration::from_millis(150), elsewhere: Duration::from_secs(2) };
const STEPS: Pause = Pause { on_a_terminal: Duration::from_millis(500), elsewhere: Duration::from_millis(500) };
/// Looks in a row that may fail, since a busy proxy may miss one.
const PATIENCE: u32 = 2;
/// Reasons that fit on any terminal.
const REASONS: usize = 8;
