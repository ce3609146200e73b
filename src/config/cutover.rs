//! What a cutover of a service asks for: `[service.X.cutover]`, checked.

use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use toml::Spanned;

use super::StackMark;
use super::canary::{self, CanaryStep, Mirror, Previews, Sticky};
use super::diff;
use super::report::Wrong;
use super::section::Section;
use super::value::{
    Share, command, duration, header, pointer, rise, share, share_or_none, switch, url, variable, whole, word,
};
use super::warm::{self, Warm};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CutoverRules {
    /// The share of a color's endpoints that must be up before it may go live.
    #[serde(serialize_with = "diff::shown")]
    pub min_healthy: Share,
    /// How many of its endpoints must be up before it may go live, as a share of those that are up in the live color.
    #[serde(serialize_with = "diff::shown_if_any")]
    pub min_capacity: Option<Share>,
    /// How long a cutover may take until the new color is live, and where there is a bake, until that has said it is
    /// good; then it is undone.
    pub deadline: Duration,
    pub drain: Drain,
    /// How long after a cutover's end somebody may still want to go back: until then the old color may not be retired.
    pub rollback_window: Duration,
    /// Names are unique.
    #[serde(rename = "gate")]
    pub gates: Vec<GateRules>,
    /// Left out: the new color is not warmed up.
    pub warm: Option<Warm>,
    /// Left out: the new color is not watched after the switch.
    pub bake: Option<Bake>,
    /// Empty: the switch moves everyone at once. Each step's share is larger than the one before.
    pub canary: Vec<CanaryStep>,
    /// How long the new color's share takes to rise to all before the switch; nothing: everyone moves at once.
    pub ramp: Duration,
    pub sticky: Sticky,
    pub preview: Previews,
    /// Left out: nothing is copied.
    pub mirror: Option<Mirror>,
}

impl Default for CutoverRules {
    fn default() -> CutoverRules {
        CutoverRules {
            min_healthy: Share::ALL,
            min_capacity: None,
            deadline: Duration::from_mins(30),
            drain: Drain::default(),
            rollback_window: Duration::from_mins(30),
            gates: Vec::new(),
            warm: None,
            bake: None,
            canary: Vec::new(),
            ramp: Duration::ZERO,
            sticky: Sticky::default(),
            preview: Previews::default(),
            mirror: None,
        }
    }
}

/// How long the old color may take to empty.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drain {
    /// Then requests still running are reported and left to finish.
    pub requests: Duration,
    /// Then tunnels still open are closed.
    pub tunnels: Duration,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { requests: Duration::from_secs(30), tunnels: Duration::from_mins(10) }
    }
}

/// Somebody or something outside that has to say yes before the switch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateRules {
    pub name: String,
    #[serde(flatten)]
    pub question: Question,
    /// Counted from when the cutover was asked for.
    pub expires: Duration,
    pub then: Then,
}

/// How it is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// An operator says so.
    Approve,
    Webhook {
        url: String,
        /// One try.
        timeout: Duration,
        /// Tries after the first.
        retries: u32,
    },
    Run {
        /// The program and its arguments: no shell reads them.
        command: Vec<String>,
        timeout: Duration,
        /// Each as `NAME=value`.
        env: Vec<String>,
    },
}

/// Told by the keys of the file.
impl Serialize for Question {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = serializer.serialize_map(None)?;
        match self {
            Question::Approve => keys.serialize_entry("approve", &true)?,
            Question::Webhook { url, timeout, retries } => {
                keys.serialize_entry("webhook", url)?;
                keys.serialize_entry("timeout", timeout)?;
                keys.serialize_entry("retries", retries)?;
            }
            Question::Run { command, timeout, env } => {
                keys.serialize_entry("run", command)?;
                keys.serialize_entry("timeout", timeout)?;
                keys.serialize_entry("env", env)?;
            }
        }
        keys.end()
    }
}

/// What becomes of a cutover whose gate does not open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Whatever has been done is undone.
    #[default]
    Rollback,
    /// The same, as long as gates come before the switch.
    Abort,
    /// It waits for an operator.
    Pause,
}

/// How the new color is judged once it has all of the traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bake {
    /// Counted from the switch.
    #[serde(rename = "for")]
    pub length: Duration,
    /// How much longer it may take where there is too little traffic to say anything.
    pub extend: Duration,
    pub min_requests: u64,
    #[serde(serialize_with = "diff::shown")]
    pub max_error_share: Share,
    /// The time that half of all requests have to keep to.
    pub p50: Option<Duration>,
    /// The time that 99 of 100 have to keep to.
    pub p99: Option<Duration>,
    /// How much slower than the old color it may be, in the middle and at the end.
    #[serde(serialize_with = "diff::shown")]
    pub max_slowdown: Share,
    /// A request that has had no answer for that long counts as an error.
    pub unanswered: Duration,
}

impl Default for Bake {
    fn default() -> Bake {
        Bake {
            length: Duration::from_mins(10),
            extend: Duration::from_mins(10),
            min_requests: 500,
            max_error_share: Share(100),
            p50: None,
            p99: None,
            max_slowdown: Share(10_000),
            unanswered: Duration::from_secs(10),
        }
    }
}

/// Reads the section; `upstream_idle` is how many unused connections a worker keeps to an endpoint, and `https` whether
/// clients come by that.
pub fn read(mut section: Section, upstream_idle: usize, https: bool) -> CutoverRules {
    let default = CutoverRules::default();
    let min_healthy = section.get("min_healthy", share).unwrap_or(default.min_healthy);
    let min_capacity = section.get("min_capacity", share);
    let deadline = section.get("deadline", duration("1ms", "24h")).unwrap_or(default.deadline);
    let drain = drain(section.section("drain"));
    let window = section.get("rollback_window", duration("0s", "720h")).unwrap_or(default.rollback_window);
    let gates = gates(&mut section, deadline);
    let at = section.place("deadline").or(section.place("bake"));
    let warm = section.optional("warm").map(|section| warm::read(section, upstream_idle, https));
    let bake = section.optional("bake").map(bake);
    let rules = CutoverRules { min_healthy, min_capacity, deadline, drain, rollback_window: window, ..default };
    let mut rules = CutoverRules { gates, warm, bake, ..rules };
    canary::read(&mut section, &mut rules);
    keep_in_time(&section, at, &rules);
    rules
}

/// A deadline that comes before the end of what it is for would undo every cutover.
fn keep_in_time(section: &Section, at: Option<std::ops::Range<usize>>, rules: &CutoverRules) {
    let takes = rules.warm.as_ref().map_or(Duration::ZERO, |warm| warm.lasts)
        + rules.canary.iter().map(|step| step.lasts).sum::<Duration>()
        + rules.ramp
        + rules.bake.as_ref().map_or(Duration::ZERO, |bake| bake.length);
    if takes >= rules.deadline && rules.deadline > Duration::ZERO {
        let help = "make `deadline` longer than `warm`, `canary`, `ramp` and `bake` together, with time for the gates before them";
        let message = "the deadline comes before the cutover's end: each one would be undone";
        section.page.note_absent(at.unwrap_or(section.span.clone()), Wrong::new(message, help));
    }
}

fn drain(mut section: Section) -> Drain {
    let default = Drain::default();
    let mut get = |key, default| section.get(key, duration("0s", "24h")).unwrap_or(default);
    Drain { requests: get("requests", default.requests), tunnels: get("tunnels", default.tunnels) }
}

fn gates(section: &mut Section, deadline: Duration) -> Vec<GateRules> {
    let page = section.page;
    let mut names: Vec<Spanned<String>> = Vec::new();
    let gates = section.sections("gate").into_iter().filter_map(|mut section| {
        let name = section.require("name", "\"qa\"", word);
        names.extend(name.clone().zip(section.place("name")).map(|(name, at)| Spanned::new(at, name)));
        let question = question(&mut section)?;
        let expires = section.get("expires", duration("1ms", "24h")).unwrap_or(deadline);
        let then = section.get("then", then).unwrap_or_default();
        Some(GateRules { name: name?, question, expires, then })
    });
    let gates: Vec<_> = gates.collect();
    page.compare(&names, PartialEq::eq, |_, later, line| {
        let message = format!("`{later}` stands here for the second time");
        Wrong::new(message, format!("give each gate a name of its own; the first is on line {line}"))
    });
    for name in names.iter().filter(|name| OWN.contains(&name.get_ref().as_str())) {
        let help = "take another name; these two are looked at without being asked for";
        page.note(
            name.span(),
            Wrong::new(format!("`{}` is the name of a gate of Cutover's own", name.get_ref()), help),
        );
    }
    gates
}

fn question(section: &mut Section) -> Option<Question> {
    let kinds = ["approve", "webhook", "run"].map(|key| section.place(key).is_some());
    let approve = section.get("approve", switch);
    let webhook = section.get("webhook", url);
    let command = section.get("run", command);
    let timeout = section.get("timeout", duration("1ms", "1h"));
    let retries = section.get("retries", whole(0..=100));
    let env = section.list("env", variable).into_iter().map(Spanned::into_inner).collect();
    if kinds.iter().filter(|named| **named).count() != 1 {
        let help = "write one of `approve = true`, `webhook = \"https://..\"` or `run = [\"program\", \"argument\"]`";
        section.page.note_absent(section.span.clone(), Wrong::new("a gate asks one thing, in one way", help));
        return None;
    }
    let timeout = timeout.unwrap_or(TIMEOUT);
    match (approve, webhook, command) {
        (Some(true), _, _) => Some(Question::Approve),
        (_, Some(url), _) => Some(Question::Webhook { url, timeout, retries: retries.unwrap_or(RETRIES) }),
        (_, _, Some(command)) => Some(Question::Run { command, timeout, env }),
        (Some(false), ..) => {
            let at = section.place("approve").unwrap_or(section.span.clone());
            section
                .page
                .note(at, Wrong::new("`approve = false` asks nothing", "write `approve = true`, or remove the gate"));
            None
        }
        // What is wrong with it has been noted.
        (None, None, None) => None,
    }
}

fn then(value: &toml::de::DeValue) -> Result<Then, Wrong> {
    match value.as_str() {
        Some("rollback") => Ok(Then::Rollback),
        Some("abort") => Ok(Then::Abort),
        Some("pause") => Ok(Then::Pause),
        _ => {
            Err(Wrong::new("this is not what a gate can end with", "write `\"rollback\"`, `\"abort\"` or `\"pause\"`"))
        }
    }
}

fn bake(mut section: Section) -> Bake {
    let default = Bake::default();
    let length = section.get("for", duration("1ms", "24h")).unwrap_or(default.length);
    let limit = || duration("1ms", "60s");
    Bake {
        length,
        extend: section.get("extend", duration("0s", "24h")).unwrap_or(length),
        min_requests: section.get("min_requests", whole(1..=1_000_000_000)).unwrap_or(default.min_requests),
        max_error_share: section.get("max_error_share", share_or_none).unwrap_or(default.max_error_share),
        p50: section.get("p50", limit()),
        p99: section.get("p99", limit()),
        max_slowdown: section.get("max_slowdown", rise).unwrap_or(default.max_slowdown),
        unanswered: section.get("unanswered", duration("1ms", "1h")).unwrap_or(default.unanswered),
    }
}

/// Where a health check's answer says which stack it is from.
pub fn stack_mark(mut section: Section) -> Option<StackMark> {
    let mark = StackMark { header: section.get("header", header), json: section.get("json", pointer) };
    if section.place("header").is_none() && section.place("json").is_none() {
        let help = "write `expect_stack = { header = \"X-Stack\" }` or `expect_stack = { json = \"/stack\" }`";
        section.page.note_absent(section.span.clone(), Wrong::new("it is not said where the stack is named", help));
    }
    Some(mark)
}

/// Gates that every cutover has, or that a key of its own asks for.
const OWN: [&str; 2] = ["health", "capacity"];
/// One try of a gate, where the file says nothing of it.
const TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES: u32 = 3;
