//! `GET /v1/events`: whatever happens to cutovers, the config, names and their tails, to what is discovered and to
//! stacks, as server-sent events.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Scene;
use super::view::Status;

/// Begins with the status as it is once everything is listened to, so that whoever listens misses nothing in between.
pub fn stream(
    scene: &Scene,
    status: &dyn Fn() -> Status,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let rest = stream::select(all("cutover", scene.told.subscribe()), all("reload", scene.config.told()));
    let names = stream::select(all("tail", scene.tails.subscribe()), all("dns", scene.names_told.subscribe()));
    let rest = stream::select(rest, names);
    let stacks =
        stream::select(all("discovery", scene.discovered.subscribe()), all("stack", scene.stacks_told.subscribe()));
    let rest = stream::select(rest, stacks);
    let first = event("status", &status());
    let alive = scene.admin.load().timeouts.events;
    Sse::new(stream::iter([first]).chain(rest)).keep_alive(KeepAlive::new().interval(alive))
}

fn all<T: Clone + Serialize>(name: &'static str, told: Receiver<T>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(told, async move |mut told| match told.recv().await {
        Ok(news) => Some((event(name, &news), told)),
        // Too slow a listener is told so instead of being shown a gap as if there were none.
        Err(RecvError::Lagged(missed)) => Some((event("missed", &missed), told)),
        Err(RecvError::Closed) => None,
    })
}

fn event(name: &str, data: &impl Serialize) -> Result<Event, Infallible> {
    Ok(Event::default().event(name).json_data(data).unwrap_or_else(|error| Event::default().comment(error.to_string())))
}
