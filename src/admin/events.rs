//! `GET /v1/events`: every state each cutover enters, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::cutover::Told;

/// Begins with `first`, the status as it is now, so that whoever listens misses nothing in between.
pub fn stream(
    first: impl serde::Serialize,
    told: Receiver<Told>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = event("status", &first);
    let rest = stream::unfold(told, async |mut told| match told.recv().await {
        Ok(news) => Some((event("cutover", &news), told)),
        // Too slow a listener is told so instead of being shown a gap as if there were none.
        Err(RecvError::Lagged(missed)) => Some((event("missed", &missed), told)),
        Err(RecvError::Closed) => None,
    });
    let all = futures_util::StreamExt::chain(stream::iter([first]), rest);
    Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn event(name: &str, data: &impl serde::Serialize) -> Result<Event, Infallible> {
    Ok(Event::default().event(name).json_data(data).unwrap_or_else(|error| Event::default().comment(error.to_string())))
}

const KEEP_ALIVE: Duration = Duration::from_secs(15);
