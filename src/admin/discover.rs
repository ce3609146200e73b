//! The routes under `/v1/services/{service}/discover`: what is known from each color's source, and the asking of it now.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::routing::get;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::api::{Answer, App, State, say};
use super::ask::{Asked, Of};
use super::problem::Problem;
use crate::cutover::Desk;
use crate::discovery::{self, Heard, Order};
use crate::names::{Color, PerColor, ServiceName};

pub fn routes() -> Router<Arc<State>> {
    Router::new().route("/v1/services/{service}/discover", get(status).post(discover))
}

/// What `POST` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discovered {
    pub service: ServiceName,
    pub dry_run: bool,
    /// Of each color whose endpoints are discovered, or of the one that was asked for.
    pub heard: Vec<Heard>,
}

/// What `GET` answers.
#[derive(Serialize)]
struct Known {
    service: ServiceName,
    /// Null where the config names the endpoints.
    #[serde(flatten)]
    colors: PerColor<Option<discovery::Status>>,
}

/// The body of `POST`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    /// Left out: each that is discovered.
    color: Option<Color>,
    #[serde(default)]
    dry_run: bool,
    /// Believe the answer, whatever it is.
    #[serde(default)]
    accept: bool,
}

async fn status(Shared(state): App, Of(desk): Of<Desk>) -> Answer {
    let status = |color| state.scene.scout(desk.name(), color).map(|scout| scout.status());
    say(Known { colors: PerColor::from_fn(status), service: desk.name().clone() })
}

/// A rehearsal changes nothing, but it makes the proxy ask the source: not for everyone who can connect.
async fn discover(Shared(state): App, Asked { of: desk, ask, by }: Asked<Desk, Ask>) -> Answer {
    let Ask { color, dry_run, accept } = ask;
    let service = desk.name().clone();
    let colors = Color::BOTH.into_iter().filter(|one| color.is_none_or(|color| color == *one));
    let scouts: Vec<_> = colors.filter_map(|color| state.scene.scout(&service, color)).collect();
    if scouts.is_empty() {
        let whose = color.map_or_else(|| format!("{service}'s"), |color| format!("{service}'s {color}"));
        let says =
            format!("{whose} endpoints are not discovered: the config names them (`discover` in place of `endpoints`)");
        return Err(Problem::not_found(says));
    }
    if accept && scouts.len() > 1 {
        return Err(Problem::bad_request("both colors are discovered: say whose answer is right, blue's or green's"));
    }
    state.stays()?;
    let asked = scouts.iter().map(|scout| scout.ask(Order { dry_run, accept, by: by.clone() }));
    let heard = try_join_all(asked).await.map_err(|gone| Problem::not_found(gone.to_string()))?;
    say(Discovered { service, dry_run, heard })
}
