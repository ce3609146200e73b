//! The warm-up: what the new color is given before any client sees it, and what becomes of it where that fails.

mod before;
mod ends;
mod ramp;
mod slow_start;
mod start;

use serde_json::{Value, json};

use crate::harness::{Backend, Client, Cutover, PATIENCE, Service, eventually};

/// Blue with one endpoint and green with two, and the patience of a busy machine with each.
struct Shop {
    /// It serves for as long as it is held.
    _blue: Backend,
    green: [Backend; 2],
    proxy: Cutover,
}

impl Shop {
    /// The lines are the service's `warm`.
    async fn with(warm: &str) -> Shop {
        Shop::described(|service| service.extra("cutover", &format!("warm = {{ {warm} }}"))).await
    }

    async fn described(describe: impl FnOnce(Service) -> Service) -> Shop {
        let (blue, green) =
            (Backend::start("blue").await, [Backend::start("green").await, Backend::start("green").await]);
        let patient = |service: Service| {
            let service = service.health("/healthz").extra("health", "timeout = \"10s\"");
            service.extra("timeouts", "connect = \"10s\"")
        };
        let service = |service: Service| describe(patient(service.hosts(&["shop.test"]).blue([&blue]).green(&green)));
        let proxy = Cutover::with().service("shop", service).start().await;
        let shop = Shop { _blue: blue, green, proxy };
        let up = || async {
            let endpoints = shop.service().await["green"]["endpoints"].clone();
            endpoints.as_array().unwrap().iter().all(|endpoint| endpoint["up"] == true)
        };
        assert!(eventually(PATIENCE, up).await, "green does not come up");
        shop
    }

    async fn service(&self) -> Value {
        self.proxy.service("shop").await
    }

    /// A switch to green that is left to itself.
    async fn begin(&self) {
        let body = json!({ "to": "green", "timeout": "1ms" });
        let (status, answer) = self.proxy.api("POST", "/v1/services/shop/switch", body).await;
        assert!(matches!(status, 200 | 202), "{answer}");
    }

    async fn until_phase(&self, phase: &str) {
        let there = || async { self.service().await["phase"] == phase };
        assert!(eventually(PATIENCE, there).await, "not in {phase}: {:#}", self.service().await);
    }

    /// The newest cutover of the history.
    async fn newest(&self) -> Value {
        self.proxy.api("GET", "/v1/history", Value::Null).await.1[0].clone()
    }

    /// Blue serves, and green has nothing and nobody, and is closed.
    async fn assert_nothing_has_changed(&self) {
        let empty = || async { self.service().await["green"]["in_flight"] == 0 };
        assert!(eventually(PATIENCE, empty).await, "{:#}", self.service().await);
        let service = self.service().await;
        assert_eq!((&service["live"], &service["generation"]), (&json!("blue"), &json!(0)), "{service:#}");
        assert_eq!(Client::http1(&self.proxy).await.get("/").await.backend(), Some("blue"));
        let metrics = self.proxy.metrics().await;
        assert_eq!(metrics.value("cutover_requests_to_old_since_switch", &[("service", "shop")]), 0.0);
        assert_eq!(metrics.value("cutover_requests_total", &GREEN), 0.0, "no client's request");
    }
}

const GREEN: [(&str, &str); 2] = [("service", "shop"), ("color", "green")];
