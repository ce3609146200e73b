//! Asking a gate: over HTTP, by a command, or an operator. It comes back decided, in its time.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::json;

use super::gate::Gate;
use super::group::Group;
use super::guard;
use super::state::Cutover;
use super::web::Web;
use crate::config::{GateRules, Question};
use crate::time::{self, Human};

/// Asks until there is an answer or the gate has expired, which is counted from the wish, also over a restart.
pub async fn ask(gate: &Gate, rules: &GateRules, cutover: &Cutover, web: &Web) -> Gate {
    let gone = Duration::try_from(time::now().duration_since(cutover.started)).unwrap_or_default();
    let left = rules.expires.saturating_sub(gone);
    let answer = async {
        match &rules.question {
            // It is opened by an event of its own.
            Question::Approve => std::future::pending().await,
            Question::Webhook { url, timeout, retries } => {
                let call = Call { url, body: body(gate, cutover), id: format!("{}/{}", cutover.id, gate.name) };
                call.until_answered(web, *timeout, *retries).await
            }
            Question::Run { command, timeout, env } => run(command, *timeout, env, gate, cutover).await,
        }
    };
    match tokio::time::timeout(left, answer).await {
        Ok(Ok(says)) => gate.decided(true, time::now(), says),
        Ok(Err(says)) => gate.decided(false, time::now(), says),
        Err(_) => gate.decided(false, time::now(), format!("no answer within {} of the wish", Human(rules.expires))),
    }
}

/// The same, only to see what would be: an operator cannot be asked for a rehearsal.
pub async fn rehearse(gate: &Gate, rules: &GateRules, cutover: &Cutover, web: &Web) -> Gate {
    match rules.question {
        Question::Approve => Gate { says: "an operator would be asked".to_owned(), ..gate.clone() },
        Question::Webhook { .. } | Question::Run { .. } => ask(gate, rules, cutover, web).await,
    }
}

/// What is waited for, for people.
pub fn waits(rules: &GateRules, cutover: &Cutover) -> String {
    let until = cutover.started.checked_add(rules.expires).unwrap_or(cutover.started);
    let until = until.strftime("%Y-%m-%d %H:%M:%SZ");
    match &rules.question {
        Question::Approve => format!("waits until {until} for an operator: cutover approve {}", cutover.service),
        Question::Webhook { url, .. } => format!("waits until {until} for {}", without_secrets(url)),
        Question::Run { command, .. } => format!("waits until {until} for {}", command[0]),
    }
}

struct Call<'c> {
    url: &'c str,
    body: Bytes,
    /// The same for every try: whoever is asked can tell a repetition.
    id: String,
}

impl Call<'_> {
    async fn until_answered(&self, web: &Web, timeout: Duration, retries: u32) -> Result<String, String> {
        let mut pause = FIRST_PAUSE;
        for tries in 0.. {
            let answer = tokio::time::timeout(timeout, self.once(web)).await;
            let failed = match answer {
                Ok(Ok((status, says))) if status.is_success() => {
                    return Ok(format!("answered {}{says}", status.as_u16()));
                }
                // It has been understood and refused: to ask again would be to insist.
                Ok(Ok((status, says))) if status.is_client_error() && !is_passing(status) => {
                    return Err(format!("answered {}{says}", status.as_u16()));
                }
                Ok(Ok((status, _))) if status.is_redirection() => {
                    format!("answered {}, and redirects are not followed", status.as_u16())
                }
                Ok(Ok((status, says))) => format!("answered {}{says}", status.as_u16()),
                Ok(Err(why)) => format!("{}: {why}", without_secrets(self.url)),
                Err(_) => format!("no answer within {}", Human(timeout)),
            };
            if tries >= retries {
                return Err(format!("{failed}, at the last of {} tries", tries + 1));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err("it was not asked".to_owned())
    }

    async fn once(&self, web: &Web) -> Result<(StatusCode, String), String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("cutover/", env!("CARGO_PKG_VERSION")))
            .header("idempotency-key", &self.id)
            .body(Full::new(self.body.clone()))
            .map_err(|error| error.to_string())?;
        let answer = web.send(request).await?;
        let status = answer.status();
        match beginning(answer.into_body()).await {
            Ok(text) => Ok((status, said(&text))),
            Err(why) => Err(format!("its answer {} broke off: {why}", status.as_u16())),
        }
    }
}

/// The first of it, once all of it has come: whoever breaks off has not answered, no more than who stalls.
async fn beginning(mut body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            kept.extend_from_slice(&data[..data.len().min(KEPT - kept.len())]);
        }
    }
    Ok(kept)
}

/// A refusal that says to come again.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

fn body(gate: &Gate, cutover: &Cutover) -> Bytes {
    let Cutover { id, service, from, to, by, reason, started, .. } = cutover;
    let body = json!({
        "id": id, "gate": gate.name, "service": service, "from": from, "to": to, "by": by, "reason": reason,
        "started": started, "rehearsal": id.starts_with(REHEARSAL),
    });
    Bytes::from(body.to_string())
}

/// Runs the program to its end: 0 is yes. No shell reads its arguments, and it sees only what it is given.
async fn run(
    command: &[String],
    timeout: Duration,
    env: &[String],
    gate: &Gate,
    cutover: &Cutover,
) -> Result<String, String> {
    let program = command.first().ok_or("there is no program")?;
    let kept = KEPT_VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let mut guarded = guard::over(command);
    guarded
        .env_clear()
        .envs(kept)
        .envs([
            ("CUTOVER_ID", cutover.id.as_str()),
            ("CUTOVER_GATE", gate.name.as_str()),
            ("CUTOVER_SERVICE", cutover.service.as_str()),
            ("CUTOVER_FROM", cutover.from.as_str()),
            ("CUTOVER_TO", cutover.to.as_str()),
            ("CUTOVER_BY", cutover.by.as_str()),
            ("CUTOVER_REASON", cutover.reason.as_deref().unwrap_or_default()),
            ("CUTOVER_REHEARSAL", if cutover.id.starts_with(REHEARSAL) { "1" } else { "" }),
        ])
        .envs(env.iter().filter_map(|variable| variable.split_once('=')));
    let mut group =
        Group::start(guarded).map_err(|error| format!("no guard can be started over {program}: {error}"))?;
    match tokio::time::timeout(timeout, group.run(KEPT)).await {
        Ok(Ok((status, last))) if status.success() => Ok(format!("{program} ended with 0{}", said(&last))),
        Ok(Ok((status, last))) => match status.code() {
            Some(code) => Err(format!("{program} ended with {code}{}", said(&last))),
            None => Err(format!("{program} was ended by a signal{}", said(&last))),
        },
        Ok(Err(error)) => Err(format!("{program} was lost: {error}")),
        Err(_) => Err(format!("{program} took longer than {} and was ended", Human(timeout))),
    }
}

/// What was said, in one line that fits into a journal.
fn said(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line: String =
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect();
    let start = line.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
    if line.is_empty() { line } else { format!(": {}", &line[start..]) }
}

/// A URL as it may be shown: what stands behind `?` or before `@` may be a secret.
fn without_secrets(url: &str) -> String {
    let uri: Option<http::Uri> = url.parse().ok();
    let host = |uri: &http::Uri| {
        let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}{}", uri.scheme_str()?, uri.host()?, uri.path()).into()
    };
    uri.as_ref().and_then(host).unwrap_or_else(|| "its address".to_owned())
}

/// How the id of a cutover begins that is none.
pub const REHEARSAL: &str = "rehearsal-";
/// Between two tries.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of an answer, or of what a command prints.
const KEPT: usize = 4096;
/// Characters of that in a reason.
const SHOWN: usize = 300;
/// What a command sees of the proxy's own environment.
const KEPT_VARIABLES: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_one_short_line() {
        assert_eq!(said(b"  no\n\tgo \x1b[31m\n"), ": no go [31m");
        assert_eq!(said(b" \n"), "");
        assert_eq!(said("é".repeat(1000).as_bytes()).chars().count(), SHOWN + 3);
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        assert_eq!(without_secrets("https://me:secret@qa.test:8443/go?token=x"), "https://qa.test:8443/go");
        assert_eq!(without_secrets("http://qa.test/go#x"), "http://qa.test/go");
    }
}
