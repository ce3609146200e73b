//! The whole way: names lead to the proxy, the service is switched under load, names move on, the tail dies out, and the old
//! color may go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::dns::stage::Stage;
use crate::harness::{Address, Places, Service, Walkers, eventually};

#[tokio::test]
async fn switched_under_load_names_move_on_the_tail_dies_out_and_the_old_color_may_go() {
    let stage = impatient().await;
    stage.run(&["dns", "sync", "--to", "proxy"]).await.assert_code(0);
    let (obeying, stubborn) = (stage.walkers(6, Duration::ZERO), stage.walkers(2, Duration::from_secs(3600)));
    let (_client, mut events) = stage.proxy.watch("/v1/events").await;
    assert!(eventually(LONG, || async { obeying.at("proxy") == 6 && stubborn.at("proxy") == 2 }).await);
    assert_eq!(stage.proxy.service("shop").await["tail"], Value::Null, "the names lead here: there is no tail");

    let outcome = stage.switch("green").await;
    assert_eq!(outcome["proof"]["requests_to_old_since"], 0, "{outcome:#}");
    let moved = || async { obeying.at("green") == 6 };
    assert!(eventually(LONG, moved).await, "{:?} {:#}", obeying.where_now(), stage.proxy.status().await);
    assert_eq!(stubborn.at("proxy"), 2, "they still have the old answer");
    // Everything else is as it should be once the answer has expired and the TTL has been written back.
    stage.until_codes(&["tail"]).await;
    let tail = stage.proxy.service("shop").await["tail"].clone();
    assert!(tail["requests"].as_u64() > Some(0) && tail["told"].as_u64() >= Some(6), "{tail:#}");
    assert_eq!(tail["networks"], 1, "{tail:#}");
    let status = stage.proxy.run(&["status"]).await.assert_code(0).stdout;
    assert!(status.contains("through the old name: ") && status.contains("told to look the name up again"), "{status}");
    let metrics = stage.proxy.metrics().await;
    let counted = metrics.value("cutover_dns_tail_requests_total", &[("service", "shop")]);
    assert!(counted >= tail["requests"].as_f64().unwrap(), "{counted}");

    let waiting = stage.proxy.spawn(&["retire", "blue", "--wait"]);
    stubborn.forget();
    let permit = waiting.ended_within(LONG).await.assert_code(0);
    assert!(permit.stdout.contains("blue may be retired"), "{permit:#?}");
    assert!(permit.stdout.contains("the old name has been silent for"), "{permit:#?}");
    assert_eq!((obeying.at("green"), stubborn.at("green")), (6, 2));
    let mut told = String::new();
    while !(told.contains("event: tail") && told.contains("\"state\":\"silent\"")) {
        told.push_str(std::str::from_utf8(&events.chunk().await.unwrap()).unwrap());
    }
    for walkers in [obeying, stubborn] {
        let lost = walkers.stop().await;
        assert_eq!(lost, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_restart_begins_the_silence_anew_and_permits_nothing_meanwhile() {
    let mut stage = impatient().await;
    stage.switch("green").await;
    stage.until_at("green").await;
    stage.until_codes(&[]).await;
    // Longer than anybody could take to ask.
    stage.proxy.rewrite(|settings| settings.service("shop", |s| s.extra("dns", "tail = { silence = \"1h\" }")));
    stage.proxy.restart().await;
    let first = stage.permit().await;
    assert_eq!(first["may"], false, "{first:#}");
    let known = ["dns-unknown", "dns-sync", "tail-unknown", "tail"];
    assert!(codes(&first).iter().all(|code| known.contains(&code.as_str())), "{first:#}");
    stage.proxy.reload_with(|settings| settings.service("shop", |s| s.extra("dns", TAIL))).await;
    stage.until_codes(&[]).await;
    let tail = stage.proxy.service("shop").await["tail"].clone();
    assert!(tail["since"].as_str() > tail["shifted"].as_str(), "{tail:#}");
}

#[tokio::test]
async fn while_the_provider_is_dead_the_color_that_names_still_lead_to_may_not_go() {
    let stage = impatient().await;
    stage.route53.fail("*", usize::MAX, 503, "ServiceUnavailable", "the control plane is away");
    stage.switch("green").await;
    // The cutover is in its last phase, and waits for names.
    stage.until_codes(&["cutover", "dns-names", "dns-sync"]).await;
    let permit = stage.permit().await;
    assert_eq!(permit["reasons"][1]["figures"]["records"][0], "shop.example.com A", "{permit:#}");
    let says =
        || async { stage.permit().await["reasons"][2]["text"].as_str().unwrap().contains("control plane is away") };
    assert!(eventually(LONG, says).await, "{:#}", stage.permit().await);
    stage.route53.mend();
    // By itself it tries again too, after a pause that has grown.
    let (status, _) = stage.proxy.api("POST", "/v1/services/shop/dns/sync", json!({ "timeout": "1ms" })).await;
    assert_eq!(status, 202);
    stage.until_codes(&[]).await;
}

/// Names at rest, and nothing to wait for but what has to be.
async fn impatient() -> Stage {
    let describe = |service: Service| {
        let service = service.hosts(&["shop.test"]).extra("cutover", "rollback_window = \"0s\"");
        service.extra("dns", TAIL)
    };
    let stage = Stage::start(describe, |_| {}).await;
    stage.until_at("blue").await;
    stage
}

impl Stage {
    async fn permit(&self) -> Value {
        let (status, permit) = self.proxy.api("GET", "/v1/services/shop/retire/blue", Value::Null).await;
        assert_eq!(status, 200, "{permit}");
        permit
    }

    /// Waits until these are all the reasons against blue's retirement.
    async fn until_codes(&self, expected: &[&str]) {
        let holds = || async { codes(&self.permit().await) == expected };
        assert!(eventually(LONG, holds).await, "{expected:?} and not {:#}", self.permit().await);
    }

    /// Clients behind a resolver that keeps every answer at least so long.
    fn walkers(&self, count: usize, stubborn: Duration) -> Walkers {
        let [blue, green] = &self.backends;
        let places = Places::from([
            ("198.51.100.1", ("blue", blue.address())),
            ("198.51.100.2", ("green", green.address())),
            ("198.51.100.3", ("green", green.address())),
            ("198.51.100.9", ("proxy", self.proxy.address())),
        ]);
        Walkers::start(count, "shop.example.com", self.servers[0].address, stubborn, &places)
    }
}

fn codes(permit: &Value) -> Vec<String> {
    let reasons = permit["reasons"].as_array().unwrap_or_else(|| panic!("{permit}"));
    reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
}

const TAIL: &str = "tail = { silence = \"2s\", nudge = 50 }";
/// The pauses between two looks at a change are some seconds.
const LONG: Duration = Duration::from_secs(90);
