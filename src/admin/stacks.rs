//! The routes under `/v1/services/{service}/stack`: which stacks there are, and the orders to them.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;

use super::access::Peer;
use super::api::{Answer, App, State, desk, patience, read, short};
use super::problem::Problem;
use crate::names::Color;
use crate::stack::{self, Outcome, Verb, Wish};

pub fn routes() -> Router<Arc<State>> {
    let verb = |verb: Verb| {
        post(
            async move |state: App, peer: ConnectInfo<Peer>, service: Path<String>, headers: HeaderMap, body: Bytes| {
                carry_out(verb, state, peer, service, headers, body).await
            },
        )
    };
    let routes = Router::new()
        .route("/v1/services/{service}/stack", get(status))
        .route("/v1/services/{service}/stack/orders", get(orders))
        .route("/v1/services/{service}/stack/list", post(list))
        .route("/v1/services/{service}/stack/abort", post(abort));
    Verb::ALL.into_iter().fold(routes, |routes, one| {
        routes.route(&format!("/v1/services/{{service}}/stack/{}", one.as_str()), verb(one))
    })
}

/// The body of an order.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    color: Option<Color>,
    reason: Option<String>,
    /// Why it is carried out over what speaks against it.
    force: Option<String>,
    /// Whether to wait for its end; without it, it is waited for.
    wait: Option<bool>,
    /// How long to wait before answering with 202 and what is known so far.
    timeout: Option<String>,
}

/// The body of `list` and of `abort`: there is nothing to say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskNothing {}

async fn status(Shared(state): App, Path(service): Path<String>) -> Answer {
    Ok(Json(stacks(&state, &service)?.status()).into_response())
}

async fn orders(Shared(state): App, Path(service): Path<String>) -> Answer {
    Ok(Json(stacks(&state, &service)?.history()).into_response())
}

async fn list(
    Shared(state): App,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(service): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let stacks = stacks(&state, &service)?;
    let AskNothing {} = read(&body)?;
    // It changes nothing, but it makes the proxy ask the provider: not for everyone who can connect.
    state.writer(&peer, &headers)?;
    Ok(Json(stacks.list().await?).into_response())
}

async fn abort(
    Shared(state): App,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(service): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let stacks = stacks(&state, &service)?;
    let AskNothing {} = read(&body)?;
    let by = state.writer(&peer, &headers)?;
    let order = stacks.ask(Wish::Abort { by }).await?;
    Ok(Json(stacks.view(order)).into_response())
}

/// Hands in the order and waits until it has ended.
async fn carry_out(
    verb: Verb,
    Shared(state): App,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(service): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let stacks = stacks(&state, &service)?;
    let Ask { color, reason, force, wait, timeout } = read(&body)?;
    let by = state.writer(&peer, &headers)?;
    let color = color.ok_or_else(|| Problem::bad_request("say which color: {\"color\":\"green\"}"))?;
    if force.is_some() && matches!(verb, Verb::Clone | Verb::Start) {
        return Err(Problem::bad_request(format!("nothing is overridden by a {}: leave `force` out", verb.as_str())));
    }
    if force.as_ref().is_some_and(|force| force.trim().is_empty()) {
        return Err(Problem::bad_request("`force` is empty: say why what speaks against it does not count"));
    }
    let (_, within) = patience(None, timeout.as_deref())?;
    let (reason, force) = (short(reason)?, short(force)?);
    state.stays()?;
    let order = stacks.ask(Wish::Order { verb, color, by, reason, force }).await?;
    let ended = match wait {
        Some(false) => None,
        _ => stacks.outcome(&order, within).await,
    };
    match ended {
        None => Ok((StatusCode::ACCEPTED, Json(stacks.view(order))).into_response()),
        Some(order) if order.outcome == Some(Outcome::Done) => Ok(Json(stacks.view(order)).into_response()),
        Some(order) => {
            let detail = order.why.clone().unwrap_or_default();
            let more = serde_json::to_value(stacks.view(order)).ok().and_then(|value| value.as_object().cloned());
            Err(Problem::failed(detail).with(more.unwrap_or_default()))
        }
    }
}

fn stacks(state: &State, service: &str) -> Result<stack::Desk, Problem> {
    let desk = desk(state, service)?;
    state.scene.stacks(desk.name()).ok_or_else(|| {
        let [blue, green] = Color::BOTH;
        Problem::not_found(format!(
            "no stack is known of {service}: write `discover = {{ asg = {{ name = \"..\", port = 80 }} }}`, or `opsworks`, under \
             `[service.{service}.{blue}]` and `[service.{service}.{green}]`"
        ))
    })
}
