//! What a service says of the warm-up: connections and requests that a color is given before clients see it.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use toml::Spanned;
use toml::de::DeValue;

use super::Share;
use super::diff;
use super::report::Wrong;
use super::section::Section;
use super::value::{duration, misplaced, share_or_none, switch, target, whole};

/// What each endpoint of the new color that is up is given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warm {
    /// Kept connections to it, of all workers together.
    pub connections: usize,
    /// What is asked for, in turn; empty: nothing, the connections are all.
    pub requests: Vec<WarmRequest>,
    /// The time over which the requests are spread.
    #[serde(rename = "for")]
    pub lasts: Duration,
    /// Requests a second to it at the end; they begin with a tenth of that.
    pub rate: u32,
    /// The share of connections, and of requests, that may fail.
    #[serde(serialize_with = "diff::shown")]
    pub max_error_share: Share,
    /// When all of it has to be over. Longer than it lasts.
    pub deadline: Duration,
    /// Whether backends are told that it came by HTTPS.
    pub https: bool,
    pub at_start: AtStart,
}

/// What of it the live color is given before a start lets the first client in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AtStart {
    Nothing,
    /// Requests take their time, and after a crash each second of it is one without service.
    #[default]
    Connections,
    All,
}

impl Warm {
    /// What the live color is given before a start lets the first client in, if anything.
    pub fn at_start(&self, connect: Duration) -> Option<Warm> {
        if self.at_start == AtStart::All { Some(self.clone()) } else { self.at_reload(connect) }
    }

    /// What the live color of a service that a reload adds is given before the first client is led to it, if anything: never
    /// requests, since others wait meanwhile for what else the reload changes. Connections keep clients waiting for no longer
    /// than a connect would, which is `connect`.
    pub fn at_reload(&self, connect: Duration) -> Option<Warm> {
        let deadline = connect.min(CONNECTING);
        let only_connections = || Warm { requests: Vec::new(), deadline, ..self.clone() };
        (self.at_start != AtStart::Nothing).then(only_connections)
    }

    /// Requests to each endpoint: as many as the rising rate comes to, and each of those to be asked at least once.
    pub fn requests_each(&self) -> u64 {
        let rising = f64::from(self.rate) * self.lasts.as_secs_f64() * (FIRST + 1.0) / 2.0;
        if self.requests.is_empty() { 0 } else { (rising.round() as u64).max(self.requests.len() as u64) }
    }

    /// When the request of this number is due, where the rate rises evenly from a tenth to all of it: the area under that
    /// line up to here is the number.
    pub fn due(&self, number: u64) -> Duration {
        let area = number as f64 / self.requests_each().max(1) as f64 * (FIRST + 1.0) / 2.0;
        let gone = ((FIRST * FIRST + 2.0 * (1.0 - FIRST) * area).sqrt() - FIRST) / (1.0 - FIRST);
        self.lasts.mul_f64(gone.clamp(0.0, 1.0))
    }
}

/// A request that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmRequest {
    pub headless: bool,
    /// Path and query.
    pub target: String,
}

impl WarmRequest {
    pub fn method(&self) -> &'static str {
        if self.headless { "HEAD" } else { "GET" }
    }
}

/// As it may stand in the file.
impl fmt::Display for WarmRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.target)
    }
}

impl Serialize for WarmRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads the section; `upstream_idle` is how many unused connections a worker keeps to an endpoint, and `https` whether
/// clients come by that.
pub fn read(mut section: Section, upstream_idle: usize, https: bool) -> Warm {
    let connections = section.get("connections", whole(1..=1000)).unwrap_or(CONNECTIONS.min(upstream_idle.max(1)));
    let lasts = section.get("for", duration("1ms", "1h")).unwrap_or(LASTS);
    let deadline = section.get("deadline", duration("1ms", "3h"));
    let warm = Warm {
        connections,
        requests: section.list("requests", request).into_iter().map(Spanned::into_inner).collect(),
        lasts,
        rate: section.get("rate", whole(1..=10_000)).unwrap_or(RATE),
        max_error_share: section.get("max_error_share", share_or_none).unwrap_or(MAX_ERROR_SHARE),
        deadline: deadline.unwrap_or(lasts * 3),
        https: section.get("https", switch).unwrap_or(https),
        at_start: section.get("at_start", at_start).unwrap_or_default(),
    };
    if warm.connections > upstream_idle {
        let at = section.place("connections").unwrap_or(section.span.clone());
        let message = "not all of these connections would be kept";
        let help = format!(
            "a worker keeps {upstream_idle} unused ones to an endpoint: write no more here, or raise `limits.upstream_idle`"
        );
        section.page.note_absent(at, Wrong::new(message, help));
    }
    if let Some(at) = section.place("deadline").filter(|_| warm.deadline <= warm.lasts) {
        let help = "make `deadline` longer than `for`, by what a cold endpoint may take";
        section.page.note(at, Wrong::new("the deadline comes before the warm-up's end: each one would fail", help));
    }
    warm
}

fn at_start(value: &DeValue) -> Result<AtStart, Wrong> {
    match value.as_str() {
        Some("nothing") => Ok(AtStart::Nothing),
        Some("connections") => Ok(AtStart::Connections),
        Some("all") => Ok(AtStart::All),
        _ => Err(Wrong::new(
            "this is not what a start can give the live color",
            "write `\"nothing\"`, `\"connections\"` or `\"all\"`",
        )),
    }
}

/// `"/"`, or with its method `"HEAD /"`.
fn request(value: &DeValue) -> Result<WarmRequest, Wrong> {
    let help = "write a path, `\"/\"`, which is asked for with GET, or `\"HEAD /\"`";
    let text = value.as_str().ok_or_else(|| Wrong::new(misplaced(value, "a request"), help))?;
    let (headless, path) = match text.split_once(' ') {
        None => (false, text),
        Some(("GET", path)) => (false, path),
        Some(("HEAD", path)) => (true, path),
        Some((method, _)) if !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase()) => {
            let message = format!("`{method}` is not a method that a warm-up may use");
            return Err(Wrong::new(message, "write GET or HEAD, which change nothing"));
        }
        Some(_) => return Err(Wrong::new(format!("`{text}` is not a request"), help)),
    };
    let found = target(&DeValue::String(path.into()));
    found
        .map(|target| WarmRequest { headless, target })
        .map_err(|_| Wrong::new(format!("`{text}` is not a request"), help))
}

/// Where the file says nothing of them.
const CONNECTIONS: usize = 8;
const LASTS: Duration = Duration::from_secs(10);
const RATE: u32 = 50;
const MAX_ERROR_SHARE: Share = Share(500);
/// However patient connects may be, connections alone keep no client waiting for longer.
const CONNECTING: Duration = Duration::from_secs(10);
/// What the rate begins with, as a share of what it ends with.
const FIRST: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_evenly_from_a_tenth_to_all_of_it() {
        let requests = vec![WarmRequest { headless: false, target: "/".to_owned() }];
        let (lasts, deadline) = (Duration::from_secs(10), Duration::from_secs(30));
        let (max_error_share, at_start) = (Share(0), AtStart::All);
        let rules =
            Warm { connections: 8, requests, lasts, rate: 20, max_error_share, deadline, https: false, at_start };
        assert_eq!((rules.requests_each(), rules.due(0)), (110, Duration::ZERO));
        let dues: Vec<Duration> = (0..110).map(|number| rules.due(number)).collect();
        assert!(dues.is_sorted() && dues[109] < rules.lasts);
        let within = |second: u64| dues.iter().filter(|due| due.as_secs() == second).count() as f64;
        // In each second the middle of what the rate is at its beginning and at its end, up to one.
        for second in 0..10 {
            let rate = 20.0 * (0.1 + 0.9 * (second as f64 + 0.5) / 10.0);
            assert!((within(second) - rate).abs() <= 1.0, "{second}: {} {rate}", within(second));
        }
    }
}
