//! The routes under `/v1/services/{service}/stack`: which stacks there are, and the orders to them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::routing::{get, post};
use serde::Deserialize;

use super::api::{Answer, App, State, patience, say, short, so_far, until_started};
use super::ask::{Asked, Nothing, Of, Subject};
use super::problem::Problem;
use crate::cutover;
use crate::names::Color;
use crate::stack::{self, Outcome, Verb, Wish};

pub fn routes() -> Router<Arc<State>> {
    let order =
        |verb| post(async move |state: App, asked: Asked<stack::Desk, Ask>| carry_out(verb, state, asked).await);
    let routes = Router::new()
        .route("/v1/services/{service}/stack", get(status))
        .route("/v1/services/{service}/stack/orders", get(orders))
        .route("/v1/services/{service}/stack/list", post(list))
        .route("/v1/services/{service}/stack/abort", post(abort));
    Verb::ALL.into_iter().fold(routes, |routes, verb| {
        routes.route(&format!("/v1/services/{{service}}/stack/{}", verb.as_str()), order(verb))
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

async fn status(Of(stacks): Of<stack::Desk>) -> Answer {
    say(stacks.status())
}

async fn orders(Of(stacks): Of<stack::Desk>) -> Answer {
    say(stacks.history())
}

/// It changes nothing, but it makes the proxy ask the provider: not for everyone who can connect.
async fn list(Asked { of: stacks, ask: Nothing {}, .. }: Asked<stack::Desk, Nothing>) -> Answer {
    say(stacks.list().await?)
}

async fn abort(Asked { of: stacks, ask: Nothing {}, by }: Asked<stack::Desk, Nothing>) -> Answer {
    let order = stacks.ask(Wish::Abort { by }).await?;
    say(stacks.view(order))
}

/// Hands in the order and waits until it has ended.
async fn carry_out(verb: Verb, Shared(state): App, asked: Asked<stack::Desk, Ask>) -> Answer {
    let Asked { of: stacks, ask: Ask { color, reason, force, wait, timeout }, by } = asked;
    let color = color.ok_or_else(|| Problem::bad_request("say which color: {\"color\":\"green\"}"))?;
    if force.is_some() && matches!(verb, Verb::Clone | Verb::Start) {
        return Err(Problem::bad_request(format!("nothing is overridden by a {}: leave `force` out", verb.as_str())));
    }
    if force.as_ref().is_some_and(|force| force.trim().is_empty()) {
        return Err(Problem::bad_request("`force` is empty: say why what speaks against it does not count"));
    }
    let (_, within) = patience(None, timeout.as_deref())?;
    let (reason, force) = (short(reason)?, short(force)?);
    until_started(&state, "the order").await?;
    let order = stacks.ask(Wish::Order { verb, color, by, reason, force }).await?;
    let ended = match wait {
        Some(false) => None,
        _ => stacks.outcome(&order, within).await,
    };
    match ended {
        None => so_far(stacks.view(order)),
        Some(order) if order.outcome == Some(Outcome::Done) => say(stacks.view(order)),
        Some(order) => Err(Problem::failed(order.why.clone().unwrap_or_default()).with(stacks.view(order))),
    }
}

impl Subject for stack::Desk {
    fn find(state: &State, service: &str) -> Result<stack::Desk, Problem> {
        let desk = cutover::Desk::find(state, service)?;
        state.scene.stacks(desk.name()).ok_or_else(|| {
            let [blue, green] = Color::BOTH;
            Problem::not_found(format!(
                "no stack is known of {service}: write `discover = {{ asg = {{ name = \"..\", port = 80 }} }}`, or `opsworks`, under \
                 `[service.{service}.{blue}]` and `[service.{service}.{green}]`"
            ))
        })
    }
}
