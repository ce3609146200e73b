//! `GET /v1/events`: whatever happens to cutovers, the config, names and their tails, to what is discovered and to
//! stacks, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::ReloadTold;
use crate::cutover::Told;
use crate::discovery;
use crate::dns;
use crate::stack;
use crate::tail;

/// Begins with `first`, the status as it is now, so that whoever listens misses nothing in between.
pub fn stream(
    first: impl Serialize,
    told: Receiver<Told>,
    reloads: Receiver<ReloadTold>,
    tails: Receiver<tail::Told>,
    names: Receiver<dns::Status>,
    discovered: Receiver<discovery::Status>,
    stacks: Receiver<stack::Status>,
    alive: Duration,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = event("status", &first);
    let rest = stream::select(all("cutover", told), all("reload", reloads));
    let rest = stream::select(rest, stream::select(all("tail", tails), all("dns", names)));
    let rest = stream::select(rest, all("discovery", discovered));
    let rest = stream::select(rest, all("stack", stacks));
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
