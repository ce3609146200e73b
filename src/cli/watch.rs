//! `cutover status --watch`: the status as it changes, redrawn on a terminal, elsewhere a line for each change.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::MissedTickBehavior;

use super::client::{Client, Trouble};
use super::events::{Event, Events};
use super::status::{self, Look, in_words};
use super::{Failure, out};
use crate::admin::ServiceView;
use crate::cutover::{Phase, Told};
use crate::discovery;
use crate::names::ServiceName;
use crate::tail;
use crate::time::{self, Human, Timestamp};

/// Follows the proxy until Ctrl-C, also through its restarts; only at the beginning somebody has to be there.
pub async fn run(client: &Client, service: Option<&ServiceName>, json: bool) -> Result<(), Failure> {
    let mut events = Some(client.events().await.map_err(client.fails())?);
    let mut news = News { of: service.cloned(), ..News::default() };
    let mut screen = Screen::new(json);
    screen.show(status::look(client, service).await.map_err(client.fails())?)?;
    let mut tick = tokio::time::interval(SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One listener for the whole watch, so that a Ctrl-C between two turns is not lost.
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = next(&mut events) => match event {
                Some(event) => news.line(&event).map_or(Ok(()), |line| screen.tell(line))?,
                // The proxy has gone, perhaps to come back: the next tick sees.
                None => {
                    events = None;
                    screen.gap();
                    continue;
                }
            },
            _ = tick.tick() => {}
            _ = &mut interrupt => {
                screen.leave();
                return Ok(());
            }
        }
        if events.is_none() {
            events = client.events().await.ok();
        }
        match status::look(client, service).await {
            Ok(look) => screen.show(look)?,
            Err(trouble) => screen.miss(&trouble),
        }
    }
}

async fn next(events: &mut Option<Events>) -> Option<Event> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Where it is shown.
enum Screen {
    /// Redrawn in place, with the newest events below.
    Terminal { bar: ProgressBar, newest: VecDeque<String>, page: String },
    /// A line for each change.
    Lines { known: Vec<ServiceView>, heard: Heard },
    /// The whole status in one line of JSON for each change.
    Json { known: String },
}

impl Screen {
    fn new(json: bool) -> Screen {
        match (json, out::is_watched()) {
            (true, _) => Screen::Json { known: String::new() },
            (false, false) => Screen::Lines { known: Vec::new(), heard: Heard::All },
            (false, true) => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
                // The template is right, and without one the page would only look different.
                let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
                Screen::Terminal { bar: bar.with_style(style), newest: VecDeque::new(), page: String::new() }
            }
        }
    }

    fn show(&mut self, look: Look) -> Result<(), Failure> {
        match self {
            Screen::Terminal { page, .. } => *page = status::page(&look.services, time::now()),
            Screen::Lines { known, heard } => {
                let again = std::mem::replace(heard, Heard::All) != Heard::All;
                changes(known, &look.services, again).iter().try_for_each(|line| out::line(line))?;
                *known = look.services;
            }
            Screen::Json { known } => {
                let now = what_counts(&look.services);
                if *known != now {
                    out::line(&look.json)?;
                    *known = now;
                }
            }
        }
        self.draw("Ctrl-C ends the watch and nothing else");
        Ok(())
    }

    /// A state that a cutover has entered.
    fn tell(&mut self, line: String) -> Result<(), Failure> {
        match self {
            Screen::Terminal { newest, .. } => {
                newest.truncate(NEWEST - 1);
                newest.push_front(line);
                Ok(())
            }
            Screen::Lines { .. } => out::line(&line),
            // The status that is asked for next says what has changed.
            Screen::Json { .. } => Ok(()),
        }
    }

    /// Events have been missed.
    fn gap(&mut self) {
        if let Screen::Lines { heard, .. } = self {
            *heard = Heard::Part;
        }
    }

    /// The proxy did not answer this time.
    fn miss(&mut self, trouble: &Trouble) {
        match self {
            Screen::Terminal { .. } => self.draw(&format!("{trouble}\n  this is how it was; trying again each second")),
            Screen::Lines { heard: Heard::Nothing, .. } | Screen::Json { .. } => {}
            Screen::Lines { heard, .. } => {
                *heard = Heard::Nothing;
                anstream::eprintln!("{trouble}\n  trying again each second");
            }
        }
    }

    fn draw(&self, last: &str) {
        if let Screen::Terminal { bar, newest, page } = self {
            let newest: Vec<&str> = newest.iter().map(String::as_str).collect();
            let newest = if newest.is_empty() { String::new() } else { format!("\n\n{}", newest.join("\n")) };
            bar.set_message(out::for_terminal(&format!("{page}{newest}\n\n{last}")));
            bar.tick();
        }
    }

    /// The last page stays on the terminal.
    fn leave(self) {
        if let Screen::Terminal { bar, .. } = self {
            out::leave_as_it_is(&bar);
        }
    }
}

/// How much has been heard of the proxy since its state was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    All,
    /// So the whole state is told again.
    Part,
    /// It does not answer, and that has been said.
    Nothing,
}

/// What has been told of each service's cutover.
#[derive(Default)]
struct News {
    of: Option<ServiceName>,
    told: HashMap<ServiceName, (String, Phase, bool, Option<String>)>,
}

impl News {
    /// The line for an event; `None` for those of other services, and those that say nothing new.
    fn line(&mut self, event: &Event) -> Option<String> {
        if event.name == "missed" {
            return Some(format!("{} {} changes were too quick to be told one by one", at(time::now()), event.data));
        }
        if event.name == "tail" {
            let told: tail::Told = serde_json::from_str(&event.data).ok()?;
            return self.of.as_ref().is_none_or(|service| *service == told.service).then(|| tail_says(&told));
        }
        if event.name == "discovery" {
            let told: discovery::Status = serde_json::from_str(&event.data).ok()?;
            return self.of.as_ref().is_none_or(|service| *service == told.service).then(|| discovery_says(&told));
        }
        let told: Told = serde_json::from_str(&event.data).ok().filter(|_| event.name == "cutover")?;
        let cutover = &told.cutover;
        if self.of.as_ref().is_some_and(|service| *service != cutover.service) {
            return None;
        }
        // While it waits for health every check is an event; the first reason sums up the others, which differ each
        // time by what the check took.
        let first = cutover.evidence.reasons.first().cloned();
        let key = (cutover.id.clone(), cutover.phase, cutover.returning, first);
        let before = self.told.insert(cutover.service.clone(), key.clone());
        (before != Some(key)).then(|| told_says(&told))
    }
}

fn tail_says(told: &tail::Told) -> String {
    let tail::Told { at: when, service, state, requests, silent_s } = told;
    let so = match state {
        tail::State::Silent => {
            let silent = Human(Duration::from_secs_f64(silent_s.max(0.0)));
            format!(
                "nobody has come through the old name for {silent}; {requests} requests had since the names moved on"
            )
        }
        tail::State::Heard => "somebody comes through the old name again".to_owned(),
    };
    format!("{} {service}: {so}", at(*when))
}

fn discovery_says(told: &discovery::Status) -> String {
    let discovery::Status { service, color, state, asked, endpoints, error, held, .. } = told;
    let why: String = [error, held].into_iter().flatten().map(|why| format!("; {why}")).collect();
    let (at, state, count) = (at(asked.unwrap_or_else(time::now)), state.as_str(), endpoints.len());
    format!("{at} {service}: {color} is discovered: {state}, {count} endpoints{why}")
}

fn told_says(told: &Told) -> String {
    let Told { at: when, cutover } = told;
    let (name, live, from, to) = (&cutover.service, cutover.live(), cutover.from, cutover.to);
    let phase = in_words(cutover.phase.as_str());
    let so = match cutover.phase {
        Phase::Prepare => format!("{from} → {to} asked for by {}; {to} is being checked", cutover.by),
        Phase::Gates => format!("{from} is live; {to} waits to be let through"),
        Phase::Warm => format!("{from} is live; {to} is warmed up"),
        Phase::Canary | Phase::Ramp | Phase::Confirm if cutover.returning => {
            format!("the share of {to} goes back to {from}")
        }
        Phase::Canary => format!("{from} is live; {to} has the share of step {}", cutover.step.unwrap_or(0) + 1),
        Phase::Ramp => format!("{from} is live; the share of {to} rises"),
        Phase::Confirm => format!("{from} is live; {to} is being checked once more"),
        Phase::Switch | Phase::RollBack => format!("{live} is being made live"),
        Phase::Drain if cutover.returning => format!("{live} is live; {from} is being checked for the way back"),
        Phase::Bake if cutover.returning => format!("{live} is live; {from} is being checked for the way back"),
        Phase::Bake => format!("{live} is live, and is judged by what it does"),
        Phase::Dns => format!("{live} is live; names follow"),
        Phase::Paused => format!("{live} is live; an operator is needed"),
        Phase::Drain | Phase::DrainBack => format!("{live} is live, {} is draining", live.other()),
        Phase::Done | Phase::Aborted | Phase::RolledBack => format!("{live} is live"),
    };
    let reasons: String = cutover.evidence.reasons.iter().map(|reason| format!("; {reason}")).collect();
    format!("{} {name}: {phase}: {so}{reasons} ({})", at(*when), cutover.id)
}

/// What is told by no event: how it stands at first, or again, and each endpoint that has come or gone since.
fn changes(known: &[ServiceView], now: &[ServiceView], again: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for service in now {
        match known.iter().find(|old| old.name == service.name).filter(|_| !again) {
            None => lines.push(stands(service)),
            Some(old) => lines.extend(endpoint_changes(old, service)),
        }
    }
    lines
}

fn stands(service: &ServiceView) -> String {
    let up = service.colors.iter().map(|(color, view)| {
        let up = view.endpoints.iter().filter(|endpoint| endpoint.up).count();
        format!("{up} of {} endpoints of {color} are up", view.endpoints.len())
    });
    let up: Vec<String> = up.collect();
    let ServiceView { name, live, phase, generation, .. } = service;
    let (at, phase, up) = (at(time::now()), in_words(phase), up.join(", "));
    format!("{at} {name}: {phase}: {live} is live, generation {generation}, {up}")
}

fn endpoint_changes(old: &ServiceView, service: &ServiceView) -> Vec<String> {
    let mut lines = Vec::new();
    for (color, view) in service.colors.iter() {
        for endpoint in &view.endpoints {
            let before = old.colors[color].endpoints.iter().find(|before| before.address == endpoint.address);
            if before.is_some_and(|before| before.state == endpoint.state) {
                continue;
            }
            let (name, address, state) = (&service.name, &endpoint.address, &endpoint.state);
            let check = endpoint.last_check.as_ref();
            let at = at(check.map_or_else(time::now, |check| check.at));
            let answer = check.map_or(String::new(), |check| format!(": {}", check.answer));
            lines.push(format!("{at} {name}: {color} {address} is {state}{answer}"));
        }
    }
    lines
}

/// What must differ for a status to be another one; counts and times always do.
fn what_counts(services: &[ServiceView]) -> String {
    let endpoints = |service: &ServiceView| {
        let all = service.colors.iter().flat_map(|(_, view)| &view.endpoints);
        all.map(|endpoint| format!("{} {}", endpoint.address, endpoint.state)).collect::<Vec<_>>()
    };
    let of = |service: &ServiceView| {
        // The first reason sums up the others, which tell a little different times after each check.
        let cutover = service.cutover.as_ref().map(|cutover| (&cutover.id, cutover.reasons.first()));
        format!("{} {} {} {cutover:?} {:?}", service.name, service.phase, service.generation, endpoints(service))
    };
    services.iter().map(of).collect()
}

/// A time that begins a line, always as wide.
fn at(time: Timestamp) -> impl Display {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
}

const SECOND: Duration = Duration::from_secs(1);
/// Events that stay on the terminal.
const NEWEST: usize = 6;
