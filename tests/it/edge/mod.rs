//! The edge: hostile requests, slow clients of every kind, floods; each is bounded, and nobody else notices.

mod admin;
mod ceilings;
mod floods;
mod handshakes;
mod hostile;
mod limits;
mod losses;
mod pipelines;
mod places;
mod slow;

use crate::harness::{Address, Cutover, Settings};

/// A proxy of one worker before one service, held to these limits and times: lines of `[edge.limits]`, `[edge.timeouts]` and
/// `[service.shop.timeouts]`.
fn held(blue: impl Address, limits: &str, timeouts: &str, service: &str) -> Settings {
    Cutover::with()
        .service("shop", |s| s.hosts(&["shop.test"]).blue([blue]).extra("timeouts", service))
        .section("edge.limits", limits)
        .section("edge.timeouts", timeouts)
        .workers(1)
}

/// Client connections open now.
async fn open(proxy: &Cutover) -> f64 {
    proxy.metrics().await.value("cutover_connections", &[])
}
