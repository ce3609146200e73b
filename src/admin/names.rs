//! The routes under `/v1/services/{service}/dns`: where names lead, what would be written, and the moving of them by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;

use super::api::{Answer, App, State, patience, say, so_far};
use super::ask::{Asked, Of, Subject};
use super::problem::Problem;
use crate::cutover;
use crate::dns::{self, Goal, State as DnsState, Wish};
use crate::names::{Color, Side};

pub fn routes() -> Router<Arc<State>> {
    let order = |goal| post(async move |state: App, asked: Asked<dns::Desk, Ask>| carry_out(goal, state, asked).await);
    Router::new()
        .route("/v1/services/{service}/dns", get(status))
        .route("/v1/services/{service}/dns/plan", post(plan))
        .route("/v1/services/{service}/dns/sync", order(Goal::Sync))
        .route("/v1/services/{service}/dns/prepare", order(Goal::Prepare))
        .route("/v1/services/{service}/dns/adopt", order(Goal::Adopt))
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

async fn status(Of(names): Of<dns::Desk>) -> Answer {
    say(names.status())
}

/// It changes nothing, but it makes the proxy read the zone: not for everyone who can connect.
async fn plan(Asked { of: names, ask, .. }: Asked<dns::Desk, Ask>) -> Answer {
    say(names.plan(ask.to).await?)
}

/// Hands in the wish and waits until names are there, or something stands in the way.
async fn carry_out(goal: Goal, Shared(state): App, asked: Asked<dns::Desk, Ask>) -> Answer {
    let Asked { of: names, ask: Ask { to, timeout }, by } = asked;
    let (_, within) = patience(None, timeout.as_deref())?;
    state.stays()?;
    if goal == Goal::Prepare && to.is_some() {
        return Err(Problem::bad_request("`prepare` moves nothing: leave `to` out"));
    }
    let shift = names.ask(Wish { goal, to, by }).await?;
    let (status, rested) = names.outcome(&shift, within).await;
    match status.state {
        _ if !rested => so_far(status),
        _ if status.shift != shift => {
            let detail = format!("another has taken its place, by {}: names are being led to {}", status.by, status.to);
            Err(Problem::failed(detail).with(status))
        }
        DnsState::Stopped => {
            let detail = status.objection.as_ref().map(ToString::to_string).or(status.message.clone());
            Err(Problem::failed(detail.unwrap_or_default()).with(status))
        }
        _ => say(status),
    }
}

impl Subject for dns::Desk {
    fn find(state: &State, service: &str) -> Result<dns::Desk, Problem> {
        let desk = cutover::Desk::find(state, service)?;
        state.scene.names(desk.name()).ok_or_else(|| {
            Problem::not_found(format!("no name follows {service}: add `[service.{service}.dns]` to the config"))
        })
    }
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
