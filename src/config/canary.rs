//! What a service says of two colors serving at once: canary steps, who stays where, previews, copies of requests.

use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde::Serialize;
use toml::Spanned;
use toml::de::DeValue;

use super::diff;
use super::report::Wrong;
use super::section::Section;
use super::value::{duration, misplaced, network, share, switch, whole};
use super::{CutoverRules, Share};

/// One step of a canary: the new color's share of clients, and how long it is watched there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CanaryStep {
    #[serde(serialize_with = "diff::shown")]
    pub weight: Share,
    #[serde(rename = "for")]
    pub lasts: Duration,
}

/// What a client is known by while both colors serve, so that it stays on its side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sticky {
    /// A request that has this field goes by its value; the others go by the cookie.
    pub header: Option<String>,
    /// The cookie's name; left out: `cutover-` and the service's name.
    pub cookie: Option<String>,
    /// How long a client keeps the cookie. It is renewed when half of that is over.
    pub max_age: Duration,
}

impl Default for Sticky {
    fn default() -> Sticky {
        Sticky { header: None, cookie: None, max_age: Duration::from_hours(24) }
    }
}

/// Who sees a color before it is live.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Previews {
    /// Clients that see it without a link, while it can be previewed.
    pub from: Vec<IpNet>,
    /// How long a link works where the command does not say.
    #[serde(rename = "for")]
    pub lasts: Duration,
    /// Whether previewed answers say which color they are from.
    pub mark: bool,
}

impl Default for Previews {
    fn default() -> Previews {
        Previews { from: Vec::new(), lasts: Duration::from_hours(1), mark: true }
    }
}

/// Requests that the other color gets a copy of, while both colors are open.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mirror {
    /// Of the requests with one of the methods and without a body.
    #[serde(serialize_with = "diff::shown")]
    pub share: Share,
    /// Only such as change nothing; never empty.
    pub methods: Vec<String>,
    /// Copies under way at one time, on each worker.
    pub concurrency: usize,
    /// For a copy, from the connection to the last byte of the answer.
    pub timeout: Duration,
}

/// The keys of `cutover` that are read here, into `rules`.
pub fn read(section: &mut Section, rules: &mut CutoverRules) {
    rules.canary = canary(section);
    rules.ramp = section.get("ramp", duration("0s", "1h")).unwrap_or_default();
    rules.sticky = sticky(section.section("sticky"));
    rules.preview = preview(section.section("preview"));
    rules.mirror = section.optional("mirror").and_then(mirror);
}

fn canary(section: &mut Section) -> Vec<CanaryStep> {
    let page = section.page;
    let mut weights = Vec::new();
    let step = |mut section: Section| {
        let weight = section.require("weight", "\"5%\"", share);
        let lasts = section.require("for", "\"2m\"", duration("1ms", "24h"));
        weights.extend(weight.zip(section.place("weight")).map(|(weight, at)| Spanned::new(at, weight)));
        Some(CanaryStep { weight: weight?, lasts: lasts? })
    };
    let steps = section.sections("canary").into_iter().filter_map(step).collect();
    page.compare(
        &weights,
        |earlier, later| later <= earlier,
        |earlier, later, line| {
            Wrong::new(
                format!("`{later}` is not more than the `{earlier}` of an earlier step, on line {line}"),
                "let the share grow from step to step: then no client comes back to the old color on the way",
            )
        },
    );
    steps
}

fn sticky(mut section: Section) -> Sticky {
    Sticky {
        header: section.get("header", header_name),
        cookie: section.get("cookie", cookie_name),
        max_age: section.get("max_age", duration("1m", "720h")).unwrap_or(Sticky::default().max_age),
    }
}

fn preview(mut section: Section) -> Previews {
    let default = Previews::default();
    Previews {
        from: section.list("from", network).into_iter().map(Spanned::into_inner).collect(),
        lasts: section.get("for", duration("1s", "24h")).unwrap_or(default.lasts),
        mark: section.get("mark", switch).unwrap_or(default.mark),
    }
}

fn mirror(mut section: Section) -> Option<Mirror> {
    let share = section.require("share", "\"10%\"", share);
    if section.place("methods").is_some() {
        let help = "leave the key, or `mirror`, out";
        section.demand("methods", Wrong::new("`methods` is empty: nothing would be copied", help));
    }
    let methods: Vec<_> = section.list("methods", safe_method).into_iter().map(Spanned::into_inner).collect();
    let usual = || vec!["GET".to_owned(), "HEAD".to_owned()];
    Some(Mirror {
        methods: if methods.is_empty() { usual() } else { methods },
        concurrency: section.get("concurrency", whole(1..=1000)).unwrap_or(8),
        timeout: section.get("timeout", duration("1ms", "60s")).unwrap_or(Duration::from_secs(5)),
        share: share?,
    })
}

/// The name of a field of requests, in lower case.
fn header_name(value: &DeValue) -> Result<String, Wrong> {
    let help = "write the name of a request header, such as `\"X-User-Id\"`";
    let Some(text) = value.as_str() else { return Err(Wrong::new(misplaced(value, "a header's name"), help)) };
    let name = text.parse::<HeaderName>().map_err(|_| Wrong::new(format!("`{text}` is not a header's name"), help))?;
    Ok(name.as_str().to_owned())
}

/// The name of a cookie: a token (RFC 6265, 4.1.1).
fn cookie_name(value: &DeValue) -> Result<String, Wrong> {
    let help = "write letters, digits, `-` and `_`, such as `\"cutover-shop\"`";
    let Some(text) = value.as_str() else { return Err(Wrong::new(misplaced(value, "a cookie's name"), help)) };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    match text.bytes().all(plain) && (1..=64).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(format!("`{text}` is not a cookie's name"), help)),
    }
}

/// A method that changes nothing (RFC 9110, 9.2.1): a copy of any other would do things twice.
fn safe_method(value: &DeValue) -> Result<String, Wrong> {
    let help = "write `\"GET\"`, `\"HEAD\"` or `\"OPTIONS\"`: a copy of any other would do things twice";
    match value.as_str() {
        Some(method @ ("GET" | "HEAD" | "OPTIONS")) => Ok(method.to_owned()),
        Some(text) => Err(Wrong::new(format!("`{text}` is not a method that can be copied"), help)),
        None => Err(Wrong::new(misplaced(value, "a method"), help)),
    }
}
