//! The routes under `/v1`, and the few beside it: what each takes, does and answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::access::{self, Peer};
use super::ask::{Asked, Nothing, Of, Subject};
use super::preview::{self, AskPreview};
use super::problem::Problem;
use super::view::{AdminView, Outcome, Past, ServiceView, Status};
use super::{Scene, discover, events, names, reload, scrape, stacks};
use crate::config;
use crate::cutover::{Cutover, Denied, Desk, Granted, Plan, Stage, Until, Wish};
use crate::names::{BadName, Color};

/// What every route may look at.
pub struct State {
    pub scene: Arc<Scene>,
    pub address: Option<SocketAddr>,
    pub socket: PathBuf,
}

impl State {
    /// A problem where the proxy is about to end: what began now would be somebody else's to finish.
    pub fn stays(&self) -> Result<(), Denied> {
        if *self.scene.stage.borrow() == Stage::Ending { Err(Denied::Stopping) } else { Ok(()) }
    }

    /// Who asks for a write; a problem where he may not.
    pub fn writer(&self, peer: &Peer, headers: &HeaderMap) -> Result<String, Problem> {
        access::writer(peer, headers, self.scene.token.load().as_deref())
    }
}

pub type App = Shared<Arc<State>>;
pub type Answer = Result<Response, Problem>;

pub fn routes(state: Arc<State>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/services/{service}", get(service))
        .route("/v1/services/{service}/switch", post(switch))
        .route("/v1/services/{service}/rollback", post(rollback))
        .route("/v1/services/{service}/abort", post(abort))
        .route("/v1/services/{service}/retire/{color}", get(may_retire))
        .route("/v1/services/{service}/preview", post(invite))
        .route("/v1/services/{service}/approve", post(approve))
        .route("/v1/reload", post(reload_config))
        .route("/v1/history", get(history))
        .route("/v1/history/{id}", get(past))
        .route("/v1/events", get(listen))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .merge(names::routes())
        .merge(discover::routes())
        .merge(stacks::routes())
        .fallback(async || Problem::not_found("there is nothing here; the API begins at /v1/status"))
        .method_not_allowed_fallback(async || Problem::wrong_method("this path takes another method"))
        .with_state(state)
}

/// The body of `switch`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskSwitch {
    to: Option<Color>,
    reason: Option<String>,
    /// `live`, or `drained`, which is what is done without it, or `done`, which is after the bake and names.
    wait: Option<String>,
    /// How long to wait before answering with 202 and what is known so far.
    timeout: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// The body of `rollback`, as in `switch`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskRollback {
    /// The color to leave.
    from: Option<Color>,
    reason: Option<String>,
    wait: Option<String>,
    timeout: Option<String>,
}

/// What a switch would do, to names too.
#[derive(Serialize)]
struct Rehearsal {
    #[serde(flatten)]
    plan: Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<serde_json::Value>,
}

/// The body of `approve`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskApprove {
    /// Left out: every gate that waits for an operator.
    gate: Option<String>,
}

async fn status(Shared(state): App) -> Json<Status> {
    Json(now(&state))
}

async fn service(Shared(state): App, Of(desk): Of<Desk>) -> Answer {
    say(state.scene.view(&desk).ok_or_else(|| unknown(&state, desk.name().as_str()))?)
}

async fn may_retire(Shared(state): App, Path((service, color)): Path<(String, String)>) -> Answer {
    let desk = Desk::find(&state, &service)?;
    let color: Color = color.parse().map_err(|wrong: BadName| Problem::bad_request(wrong.0))?;
    say(state.scene.permit(&desk, color).ok_or_else(|| unknown(&state, &service))?)
}

/// A rehearsal changes nothing, but it makes the proxy ask every endpoint: not for everyone who can connect.
async fn switch(Shared(state): App, Asked { of: desk, ask, by }: Asked<Desk, AskSwitch>) -> Answer {
    let to = ask.to.ok_or_else(|| Problem::bad_request("say where to: {\"to\":\"green\"} or {\"to\":\"blue\"}"))?;
    if ask.dry_run {
        let names = names::rehearse(state.scene.names(desk.name()), to);
        let (plan, dns) = tokio::join!(desk.rehearse(to, by), names);
        return say(Rehearsal { plan, dns });
    }
    let patience = patience(ask.wait.as_deref(), ask.timeout.as_deref())?;
    let reason = short(ask.reason)?;
    state.stays()?;
    carry_out(&state, &desk, Wish::Switch { to, by, reason }, patience).await
}

async fn rollback(Shared(state): App, Asked { of: desk, ask, by }: Asked<Desk, AskRollback>) -> Answer {
    let patience = patience(ask.wait.as_deref(), ask.timeout.as_deref())?;
    let reason = short(ask.reason)?;
    state.stays()?;
    carry_out(&state, &desk, Wish::Rollback { by, reason, from: ask.from }, patience).await
}

async fn abort(Shared(state): App, Asked { of: desk, ask: Nothing {}, by }: Asked<Desk, Nothing>) -> Answer {
    granted(&state, &desk, Wish::Abort { by }).await
}

async fn approve(Shared(state): App, Asked { of: desk, ask, by }: Asked<Desk, AskApprove>) -> Answer {
    state.stays()?;
    granted(&state, &desk, Wish::Approve { by, gate: ask.gate }).await
}

async fn invite(Shared(state): App, Asked { of: desk, ask, by }: Asked<Desk, AskPreview>) -> Answer {
    state.stays()?;
    say(preview::carry_out(&state.scene, &desk, ask, &by).await?)
}

/// The body of `reload`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskReload {
    #[serde(default)]
    dry_run: bool,
}

async fn reload_config(
    Shared(state): App,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let ask: AskReload = read(&body)?;
    // A rehearsal changes nothing, but it reads files: not for everyone who can connect.
    let by = state.writer(&peer, &headers)?;
    until_started(&state, "the reload").await?;
    say(reload::ask(&state.scene.reload, by, ask.dry_run).await?)
}

#[derive(Deserialize)]
struct Which {
    service: Option<String>,
    limit: Option<usize>,
}

async fn history(Shared(state): App, which: Result<Query<Which>, QueryRejection>) -> Answer {
    let Query(which) = which.map_err(|error| Problem::bad_request(error.body_text()))?;
    let service = match &which.service {
        None => None,
        Some(service) => Some(Desk::find(&state, service)?),
    };
    let cutovers = state
        .scene
        .journal
        .history::<Cutover>(service.as_ref().map(Desk::name))
        .into_iter()
        .take(which.limit.unwrap_or(HISTORY));
    say(cutovers.map(|written| by_now(&state, written).outcome).collect::<Vec<_>>())
}

/// One cutover, with all that has been kept of it.
async fn past(Shared(state): App, Path(id): Path<String>) -> Answer {
    let found = state.scene.journal.find::<Cutover>(&id);
    let cutover = found.ok_or_else(|| Problem::not_found(format!("there is no cutover `{id}` in the history")))?;
    say(by_now(&state, cutover))
}

/// One that is under way is further than the journal has to know.
fn by_now(state: &State, written: Cutover) -> Past {
    let desk = state.scene.desk(&written.service);
    let told = match &desk {
        Some(desk) => desk.as_told(written),
        None => written,
    };
    Past::of(desk.as_ref(), told)
}

async fn listen(Shared(state): App) -> Response {
    events::stream(&state.scene, &|| now(&state)).into_response()
}

async fn metrics(Shared(state): App) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], scrape::page(&state.scene)).into_response()
}

/// 200 where clients are let in and every service has a live color with a healthy endpoint; else 503 and why not.
async fn ready(Shared(state): App) -> Response {
    if state.stays().is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the proxy is stopping\n").into_response();
    }
    let services = now(&state).services;
    if let Some(starting) = starting(&state) {
        return (StatusCode::SERVICE_UNAVAILABLE, starting.join("\n") + "\n").into_response();
    }
    let unready: Vec<String> = services
        .iter()
        .filter(|service| !service.is_ready())
        .map(|service| format!("{}: {} is live and has no healthy endpoint\n", service.name, service.live))
        .collect();
    match unready.as_slice() {
        [] => "ok\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, unready.concat()).into_response(),
    }
}

/// What clients and orders wait for, where clients are not let in yet.
fn starting(state: &State) -> Option<Vec<String>> {
    if *state.scene.stage.borrow() != Stage::Starting {
        return None;
    }
    let services = now(state).services;
    let warming = |service: &ServiceView| Some(format!("{}: {}", service.name, service.warming.as_ref()?));
    Some(std::iter::once("the proxy is starting".to_owned()).chain(services.iter().filter_map(warming)).collect())
}

/// Hands in the wish; a problem where it has been dropped, since its turn did not come in time.
async fn hand_in(state: &State, desk: &Desk, wish: Wish, within: Duration) -> Result<Option<Granted>, Problem> {
    match desk.ask(wish, within).await {
        Err(denied @ Denied::NotBegun(_)) => Err(not_begun(state, denied)),
        word => Ok(word?),
    }
}

/// What it would have had to wait for.
fn not_begun(state: &State, denied: Denied) -> Problem {
    let busy = || vec!["the service is busy: an order or a reload is not over".to_owned()];
    Problem::from(denied).because(starting(state).unwrap_or_else(busy))
}

/// For what begins only once the start is over: where that is not soon, it does not wait.
pub async fn until_started(state: &State, what: &str) -> Result<(), Problem> {
    let mut stage = state.scene.stage.subscribe();
    match tokio::time::timeout(AT_ONCE, Stage::after_start(&mut stage)).await {
        Ok(()) => Ok(state.stays()?),
        Err(_) => Err(not_begun(state, Denied::NotBegun(what.to_owned()))),
    }
}

/// There is no word on the wish yet, and there will be one.
fn undecided(desk: &Desk) -> Answer {
    let live = desk.entry().ok_or(Denied::Gone)?.live;
    so_far(Outcome::undecided(desk, live, "the health of a color is being looked at, or the disk is slow"))
}

/// Hands in the wish, and tells what is so at once.
async fn granted(state: &State, desk: &Desk, wish: Wish) -> Answer {
    match hand_in(state, desk, wish, AT_ONCE).await? {
        None => undecided(desk),
        Some(Granted::Already { live, .. }) => say(Outcome::unchanged(desk, live)),
        Some(Granted::TakenBack { live, orders }) => say(Outcome::taken_back(desk, live, orders)),
        Some(Granted::Begun(cutover) | Granted::Turned(cutover) | Granted::Approved(cutover)) => {
            say(Outcome::of(desk, *cutover))
        }
    }
}

/// Hands in the wish and waits for what becomes of it.
async fn carry_out(state: &State, desk: &Desk, wish: Wish, (until, within): (Until, Duration)) -> Answer {
    // Whoever does not want to wait is to learn the id of what has begun all the same.
    let (begun, turned) = match hand_in(state, desk, wish, within.max(AT_ONCE)).await? {
        None => return undecided(desk),
        Some(Granted::Already { live, .. }) => return say(Outcome::unchanged(desk, live)),
        Some(Granted::TakenBack { live, orders }) => return say(Outcome::taken_back(desk, live, orders)),
        Some(Granted::Begun(cutover) | Granted::Approved(cutover)) => (*cutover, false),
        Some(Granted::Turned(cutover)) => (*cutover, true),
    };
    match desk.outcome(&begun, until, within).await {
        None => {
            let current = desk.current().filter(|current| current.id == begun.id).unwrap_or(begun);
            so_far(Outcome::of(desk, current))
        }
        // Whoever turned a cutover back has got what he wanted when it did not get where it was going.
        Some(cutover) if cutover.phase.ends() && cutover.succeeded() == turned => Err(failed(desk, cutover)),
        Some(cutover) => say(Outcome::of(desk, cutover)),
    }
}

fn failed(desk: &Desk, cutover: Cutover) -> Problem {
    let outcome = cutover.outcome().unwrap_or(cutover.phase).as_str().replace('_', " ");
    let why = cutover.evidence.reasons.join("; ");
    let detail = match why.as_str() {
        "" => format!("the cutover to {} was {outcome}", cutover.to),
        _ => format!("the cutover to {} was {outcome}: {why}", cutover.to),
    };
    Problem::failed(detail).with(Outcome::of(desk, cutover))
}

/// A reason that fits into a line of the journal.
pub fn short(reason: Option<String>) -> Result<Option<String>, Problem> {
    match reason {
        Some(reason) if reason.len() > LONGEST_REASON => {
            Err(Problem::bad_request(format!("the reason is longer than {LONGEST_REASON} bytes")))
        }
        reason => Ok(reason),
    }
}

pub fn patience(wait: Option<&str>, timeout: Option<&str>) -> Result<(Until, Duration), Problem> {
    let until = match wait {
        Some("live") => Until::Live,
        None | Some("drained") => Until::Drained,
        Some("done") => Until::Done,
        Some(other) => return Err(Problem::bad_request(format!("`{other}`: wait for `live`, `drained` or `done`"))),
    };
    let within = match timeout {
        None => FOREVER,
        Some(text) => config::parse_duration(text)
            .ok_or_else(|| Problem::bad_request(format!("`{text}` is not a duration: write `30s` or `10m`")))?,
    };
    Ok((until, within))
}

pub fn read<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body is not what it should be: {error}")))
}

/// What was asked for, or what came of it.
pub fn say(what: impl Serialize) -> Answer {
    Ok(Json(what).into_response())
}

/// What is known when the time to wait is over: it goes on.
pub fn so_far(what: impl Serialize) -> Answer {
    Ok((StatusCode::ACCEPTED, Json(what)).into_response())
}

impl Subject for Desk {
    fn find(state: &State, service: &str) -> Result<Desk, Problem> {
        let name = service.parse().ok();
        name.and_then(|name| state.scene.desk(&name)).ok_or_else(|| unknown(state, service))
    }
}

fn unknown(state: &State, service: &str) -> Problem {
    let desks = state.scene.desks.load();
    let known: Vec<&str> = desks.iter().map(|desk| desk.name().as_str()).collect();
    Problem::not_found(format!("there is no service `{service}`; there is {}", known.join(", ")))
}

fn now(state: &State) -> Status {
    let admin = AdminView {
        socket: state.socket.display().to_string(),
        listen: state.address.map(|address| address.to_string()),
    };
    Status::of(&state.scene, admin)
}

/// Bytes of a reason.
const LONGEST_REASON: usize = 1000;
/// Cutovers in one answer of the history, where the question names no number.
const HISTORY: usize = 100;
/// The word on a wish takes no longer, unless something is in its way.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Longer than any cutover: each of its phases has a deadline of its own.
const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);
