//! Reloading: the config read anew while traffic runs. What is equal is not touched, what is wrong changes nothing.

mod config;
mod endpoints;
mod listeners;
mod log;
mod rules;
mod services;

use serde_json::Value;

use crate::harness::{Backend, Cutover, Service};

/// Checks by a path, with the patience of a busy machine.
fn checked(service: Service) -> Service {
    service.health("/healthz").extra("health", "timeout = \"10s\"")
}

/// A proxy before one service, which each story describes further.
async fn shop(describe: impl FnOnce(Service) -> Service) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| describe(checked(s).blue([&blue]).green([&green]));
    let proxy = Cutover::with().service("shop", service).start().await;
    (blue, green, proxy)
}

/// What a reload says that it changed, or why it changed nothing.
fn says(answer: &Value) -> Vec<String> {
    let changes = answer["changes"].as_array().unwrap_or_else(|| panic!("no changes in {answer:#}"));
    changes.iter().map(|change| change["says"].as_str().unwrap().to_owned()).collect()
}

/// How often reloads have ended so.
async fn reloads(proxy: &Cutover, outcome: &str) -> f64 {
    proxy.metrics().await.value("cutover_config_reloads_total", &[("outcome", outcome)])
}
