//! The routes under `/v1/services/{service}/dns`: where names lead, what would be written, and the moving of them by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;

use super::access::Peer;
use super::api::{Answer, App, State, desk, patience, read};
use super::problem::Problem;
use crate::dns::{self, Goal, State as DnsState, Wish};
use crate::names::{Color, Side};

pub fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/services/{service}/dns", get(status))
        .route("/v1/services/{service}/dns/plan", post(plan))
        .route("/v1/services/{service}/dns/sync", post(sync))
        .route("/v1/services/{service}/dns/prepare", post(prepare))
        .route("/v1/services/{service}/dns/adopt", post(adopt))
}

/// The body of each of them; `prepare` has no side.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    /// Left out: the color that is live.
    to: Option<Side>,
    /// How long to wait before answering with 202 and what is known so far.
    timeout: Option<String>,
}

async fn status(Shared(state): App, Path(service): Path<String>) -> Answer {
    Ok(Json(names(&state, &service)?.status()).into_response())
}

async fn plan(
    Shared(state): App,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(service): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let names = names(&state, &service)?;
    let ask: Ask = read(&body)?;
    // It changes nothing, but it makes the proxy read the zone: not for everyone who can connect.
    state.writer(&peer, &headers)?;
    Ok(Json(names.plan(ask.to).await?).into_response())
}

async fn sync(state: App, peer: ConnectInfo<Peer>, service: Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    carry_out(Goal::Sync, state, peer, service, headers, body).await
}

async fn prepare(
    state: App,
    peer: ConnectInfo<Peer>,
    service: Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    carry_out(Goal::Prepare, state, peer, service, headers, body).await
}

async fn adopt(state: App, peer: ConnectInfo<Peer>, service: Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    carry_out(Goal::Adopt, state, peer, service, headers, body).await
}

/// Hands in the wish and waits until names are there, or something stands in the way.
async fn carry_out(
    goal: Goal,
    Shared(state): App,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(service): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let names = names(&state, &service)?;
    let Ask { to, timeout } = read(&body)?;
    let by = state.writer(&peer, &headers)?;
    let (_, within) = patience(None, timeout.as_deref())?;
    state.stays()?;
    if goal == Goal::Prepare && to.is_some() {
        return Err(Problem::bad_request("`prepare` moves nothing: leave `to` out"));
    }
    let shift = names.ask(Wish { goal, to, by }).await?;
    let (status, rested) = names.outcome(&shift, within).await;
    let more = || serde_json::to_value(&status).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default();
    match status.state {
        _ if !rested => Ok((StatusCode::ACCEPTED, Json(status)).into_response()),
        _ if status.shift != shift => {
            let detail = format!("another has taken its place, by {}: names are being led to {}", status.by, status.to);
            Err(Problem::failed(detail).with(more()))
        }
        DnsState::Stopped => {
            let detail = status.objection.as_ref().map(ToString::to_string).or(status.message.clone());
            Err(Problem::failed(detail.unwrap_or_default()).with(more()))
        }
        _ => Ok(Json(status).into_response()),
    }
}

fn names(state: &State, service: &str) -> Result<dns::Desk, Problem> {
    let desk = desk(state, service)?;
    state.scene.names(desk.name()).ok_or_else(|| {
        Problem::not_found(format!("no name follows {service}: add `[service.{service}.dns]` to the config"))
    })
}

/// What a switch to that color would write, or why that is not known, for its rehearsal.
pub async fn rehearse(names: Option<dns::Desk>, to: Color) -> Option<Value> {
    let names = names?;
    let unknown = |why: String| Some(serde_json::json!({ "unknown": why }));
    match tokio::time::timeout(REHEARSAL, names.plan_switch(to)).await {
        Ok(Ok(preview)) => serde_json::to_value(preview).ok(),
        Ok(Err(denied)) => unknown(denied.to_string()),
        Err(_) => unknown(format!("the zone was not read within {} s", REHEARSAL.as_secs())),
    }
}

/// A switch does not wait for names, and its rehearsal not long.
const REHEARSAL: Duration = Duration::from_secs(10);
