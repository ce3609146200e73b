//! The DNS tail told from outside: who comes through a name that has moved on is counted, and asked to look it up again.

mod count;
mod names;
mod nudge;

use std::sync::Arc;
use std::time::Duration;

use cutover::tail::{Counts, Shift, Span};
use cutover::time;

use crate::harness::{Inside, PATIENCE, eventually};

/// The names have moved on, so long ago.
fn shifted(ago: Duration, ttl: Duration) -> Shift {
    Shift { at: time::now().checked_sub(ago).unwrap(), ttl }
}

fn span(proxy: &Inside) -> Arc<Span> {
    proxy.service.tail.span().expect("the tail is armed")
}

/// Waits until the tail has counted so much: an answer may be here before the worker's count is.
async fn counted(proxy: &Inside, counts: Counts) {
    let now = || span(proxy).counts();
    assert!(eventually(PATIENCE, || async { now() == counts }).await, "{:?} and not {counts:?}", now());
}
