//! `POST /v1/services/{service}/preview`: opens the color that is not live to whoever gets what this answers.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::Uri;
use serde::{Deserialize, Serialize};

use super::Scene;
use super::problem::Problem;
use crate::config;
use crate::cutover::Desk;
use crate::names::{Color, HostPattern, ServiceName};
use crate::proxy::PREVIEW;
use crate::table::Service;
use crate::time::{self, Timestamp};

/// The body of `preview`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskPreview {
    to: Option<Color>,
    /// How long, `1h`; left out: what the service's config says.
    #[serde(rename = "for")]
    lasts: Option<String>,
    /// Where the link is to lead, with a host that reaches this proxy; left out: what can be told from the config.
    url: Option<String>,
    /// End previews instead, also for those who have a link.
    #[serde(default)]
    end: bool,
}

/// What `preview` returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Previewed {
    pub service: ServiceName,
    pub to: Color,
    /// Null where previews were ended.
    pub until: Option<Timestamp>,
    pub link: Option<String>,
    /// The field that does the same for a single request: its name and its value.
    pub header: Option<(String, String)>,
    /// Endpoints of the color that are up, of all it has: with none nobody sees anything.
    pub endpoints_up: usize,
    pub endpoints: usize,
}

pub async fn carry_out(scene: &Scene, desk: &Desk, ask: AskPreview, by: &str) -> Result<Previewed, Problem> {
    let service = desk.service();
    let live = desk.entry().map(|entry| entry.live);
    let to = ask.to.or(live.map(Color::other)).unwrap_or(Color::Green);
    let health = service.pools[to].health();
    let endpoints_up = health.iter().filter(|endpoint| endpoint.state == crate::pool::State::Up).count();
    let (name, endpoints) = (service.name.clone(), health.len());
    if ask.end {
        desk.end_previews().await?;
        tracing::info!("previews of {name} ended by {by}");
        return Ok(Previewed { service: name, to, until: None, link: None, header: None, endpoints_up, endpoints });
    }
    let lasts = lasts(ask.lasts.as_deref(), &service)?;
    let base = ask.url.map_or_else(|| Ok(address(scene, &service)), checked)?;
    let until = time::now().checked_add(lasts).map_err(|error| Problem::bad_request(error.to_string()))?;
    let invitation = desk.preview(to, until).await?;
    tracing::info!(%until, "a preview of {to} of {name} was opened by {by}");
    let text = invitation.write(&scene.switchboard.seal(), name.as_str());
    let (link, header) = (link(&base, &text), ("Cutover-Preview".to_owned(), text));
    debug_assert!(header.0.eq_ignore_ascii_case(PREVIEW.as_str()));
    Ok(Previewed {
        service: name,
        to,
        until: Some(until),
        link: Some(link),
        header: Some(header),
        endpoints_up,
        endpoints,
    })
}

fn lasts(asked: Option<&str>, service: &Service) -> Result<Duration, Problem> {
    let Some(text) = asked else { return Ok(service.rules.cutover.preview.lasts) };
    let lasts = config::parse_duration(text)
        .ok_or_else(|| Problem::bad_request(format!("`{text}` is not a duration: write `30m` or `1h`")))?;
    if (SHORTEST..=LONGEST).contains(&lasts) {
        return Ok(lasts);
    }
    Err(Problem::bad_request(format!("`{text}`: a preview lasts from 1s to 24h")))
}

fn checked(url: String) -> Result<String, Problem> {
    let parsed = url.parse::<Uri>().ok().filter(|_| url.bytes().all(|b| b.is_ascii_graphic()));
    let is_good = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    match parsed.filter(is_good) {
        Some(_) => Ok(url),
        None => Err(Problem::bad_request(format!("`{url}` is no address: write it like https://shop.example.com/"))),
    }
}

/// Where clients reach the service, as well as that can be told from here: by HTTPS where there is a listener for it.
fn address(scene: &Scene, service: &Service) -> String {
    let listeners = scene.listeners.load();
    let open = || listeners.iter().filter(|listener| !listener.is_shut());
    let listener = open().find(|listener| listener.is_tls()).or_else(|| open().next());
    let (scheme, usual) = if listener.is_some_and(|it| it.is_tls()) { ("https", 443) } else { ("http", 80) };
    let at = listener.map(|listener| listener.address);
    let exact = service.rules.hosts.iter().find_map(|host| match host {
        HostPattern::Exact(name) => Some(name.clone()),
        HostPattern::Below(_) => None,
    });
    let host = exact.unwrap_or_else(|| match at.map(|at| at.ip()) {
        Some(ip) if ip.is_unspecified() => "localhost".to_owned(),
        Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        Some(ip) => ip.to_string(),
        None => "localhost".to_owned(),
    });
    let port = at.map(|at| at.port()).filter(|port| *port != usual).map_or(String::new(), |port| format!(":{port}"));
    format!("{scheme}://{host}{port}{}", service.rules.path.as_str())
}

/// The address with the invitation in its query.
fn link(base: &str, invitation: &str) -> String {
    let (base, fragment) =
        base.split_once('#').map_or((base, String::new()), |(base, rest)| (base, format!("#{rest}")));
    let slash = if base.matches('/').count() < 3 && !base.contains('?') { "/" } else { "" };
    let mark = if base.contains('?') { '&' } else { '?' };
    format!("{base}{slash}{mark}{PREVIEW}={invitation}{fragment}")
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_what_its_address_has() {
        for (base, expected) in [
            ("https://a.test/", "https://a.test/?cutover-preview=x"),
            ("https://a.test", "https://a.test/?cutover-preview=x"),
            ("https://a.test/b", "https://a.test/b?cutover-preview=x"),
            ("https://a.test/?y=1#z", "https://a.test/?y=1&cutover-preview=x#z"),
        ] {
            assert_eq!(link(base, "x"), expected);
        }
    }
}
