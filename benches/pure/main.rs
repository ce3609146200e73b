//! What the pure parts of the request path cost: admission, heads, routes, the choice of an endpoint.

mod admission;
mod heads;
mod routes;
mod scene;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// Enough to tell a change of a few percent, and over in a minute.
fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = pure;
    config = quick();
    targets = admission::bench, heads::bench, routes::bench
}
criterion_main!(pure);
