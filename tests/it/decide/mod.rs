//! The cutover as a decision: who is asked before the switch, how the new color is judged after it, and the way back.

mod bake;
mod canary;
mod crash;
mod gates;
mod pause;
mod unwritten;

use serde_json::{Value, json};

use crate::harness::{Backend, Cutover, PATIENCE, Service, eventually};

async fn shop(describe: impl FnOnce(Service) -> Service) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| describe(s.blue([&blue]).green([&green]).health("/healthz"));
    let proxy = Cutover::with().service("shop", service).start().await;
    (blue, green, proxy)
}

/// An order, whose outcome is not waited for where `timeout` is short.
async fn order(proxy: &Cutover, verb: &str, body: Value) -> (u16, Value) {
    proxy.api("POST", &format!("/v1/services/shop/{verb}"), body).await
}

/// A switch to green that is left to itself.
async fn begin(proxy: &Cutover) {
    let (status, answer) = order(proxy, "switch", json!({ "to": "green", "timeout": "1ms" })).await;
    assert!(matches!(status, 200 | 202), "{answer}");
}

async fn until_phase(proxy: &Cutover, phase: &str) {
    let there = || async { proxy.service("shop").await["phase"] == phase };
    assert!(eventually(PATIENCE, there).await, "not in {phase}: {:#}", proxy.service("shop").await);
}

async fn until_live(proxy: &Cutover, color: &str) {
    let there = || async { proxy.service("shop").await["live"] == color };
    assert!(eventually(PATIENCE, there).await, "{color} is not live: {:#}", proxy.service("shop").await);
}

/// The newest cutover, once it has ended.
async fn ended(proxy: &Cutover) -> Value {
    until_phase(proxy, "idle").await;
    proxy.api("GET", "/v1/history", Value::Null).await.1[0].clone()
}

fn reasons(outcome: &Value) -> String {
    outcome["reasons"].to_string()
}
