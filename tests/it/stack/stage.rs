//! What stories about stacks begin with: a double of OpsWorks with blue's stack, and a proxy whose colors are stacks there.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::dns::stage::reaching;
use crate::harness::{Address, Backend, Cutover, FakeOpsWorks, Ran, Service, Settings, eventually};

pub struct Stage {
    pub opsworks: FakeOpsWorks,
    pub proxy: Cutover,
}

impl Stage {
    /// Blue is a stack with two instances that are online; green is none yet.
    pub async fn start() -> Stage {
        let opsworks = blue().await;
        let proxy = settings(&opsworks.url(), both).start_unready().await;
        Stage { opsworks, proxy }
    }

    /// The same where instances serve: blue's do, and those of the stack that green will be.
    pub async fn serving() -> (Stage, Vec<Backend>) {
        let opsworks = blue().await;
        opsworks.will_be_at("shop-green", &["127.0.0.4", "127.0.0.5"]);
        let mut backends: Vec<Backend> = Vec::new();
        for (name, last) in [("blue", 2), ("blue", 3), ("green", 4), ("green", 5)] {
            let port = backends.first().map_or(0, |first| first.address().port());
            backends.push(Backend::start_at(name, SocketAddr::from(([127, 0, 0, last], port))).await);
        }
        let port = backends[0].address().port();
        let source = |stack: &str| format!("opsworks = {{ stack = \"{stack}\", port = {port} }}, interval = \"100ms\"");
        let describe = |service: Service| {
            let service = service.discover("blue", &source("shop-blue")).discover("green", &source("shop-green"));
            service.health("/healthz").extra("cutover", "rollback_window = \"0s\"")
        };
        let proxy = settings(&opsworks.url(), describe).start().await;
        (Stage { opsworks, proxy }, backends)
    }

    /// Gives an order and does not wait for it.
    pub async fn order(&self, verb: &str, color: &str) -> Value {
        let body = json!({ "color": color, "wait": false });
        let (status, answer) = self.proxy.api("POST", &format!("/v1/services/shop/stack/{verb}"), body).await;
        assert_eq!(status, 202, "{answer:#}");
        answer
    }

    /// How often each thing that makes something was asked for.
    pub fn made(&self) -> [usize; 4] {
        ["CloneStack", "CreateInstance", "StartInstance", "CreateDeployment"].map(|it| self.opsworks.count(it))
    }
}

pub async fn blue() -> FakeOpsWorks {
    FakeOpsWorks::with_stack("shop-blue", &["127.0.0.2", "127.0.0.3"]).await
}

/// Green is the stack `shop-green`.
pub fn both(service: Service) -> Service {
    service.discover("green", "opsworks = { stack = \"shop-green\", port = 8080 }")
}

/// A shop whose blue is the stack `shop-blue` at this address.
pub fn settings(url: &str, describe: impl FnOnce(Service) -> Service) -> Settings {
    let service = |service: Service| {
        let service = service.discover("blue", "opsworks = { stack = \"shop-blue\", port = 8080 }");
        describe(service.extra("stacks", "interval = \"100ms\"\nsettle = \"1s\""))
    };
    reaching(Cutover::with(), url).service("shop", service)
}

pub async fn status(proxy: &Cutover) -> Value {
    let (status, answer) = proxy.api("GET", "/v1/services/shop/stack", Value::Null).await;
    assert_eq!(status, 200, "{answer:#}");
    answer
}

/// A command below `cutover stack`, to its end.
pub async fn run(proxy: &Cutover, args: &[&str]) -> Ran {
    proxy.spawn(&[&["stack"], args].concat()).ended_within(LONG).await
}

/// The newest order, once this holds of it.
pub async fn until(proxy: &Cutover, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let seen = || async { holds(&status(proxy).await["order"]) };
    assert!(eventually(LONG, seen).await, "the order is never {what}: {:#}", status(proxy).await);
    status(proxy).await["order"].clone()
}

pub async fn until_done(proxy: &Cutover) -> Value {
    let order = until(proxy, "over", |order| !order["outcome"].is_null()).await;
    assert_eq!(order["outcome"], "done", "{order:#}");
    order
}

/// A whole order on a machine that is busy: some dozens of requests, and pauses between them.
pub const LONG: Duration = Duration::from_secs(120);
