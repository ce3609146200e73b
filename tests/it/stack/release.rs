//! A whole release: a stack is cloned, filled, started and deployed to, becomes the live color under load, names move on, the
//! tail dies out, and the old stack is stopped. Nobody who asks meanwhile is turned away.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{LONG, blue, run};
use crate::dns::stage::{ZONE, names, reaching};
use crate::harness::{
    Address, Backend, Client, Crowd, Cutover, FakeOpsWorks, FakeRoute53, FaultProxy, NameServer, Places, Service,
    Walkers, eventually,
};

#[tokio::test]
async fn a_release_from_the_clone_to_the_old_stacks_end_loses_no_request() {
    let release = Release::start().await;
    let Release { opsworks, proxy, .. } = &release;
    proxy.spawn(&["dns", "sync", "--to", "proxy"]).ended_within(LONG).await.assert_code(0);
    let (obeying, stubborn) = (release.walkers(6, Duration::ZERO), release.walkers(2, Duration::from_secs(3600)));
    let all_here = || async { obeying.at("proxy") == 6 && stubborn.at("proxy") == 2 };
    assert!(eventually(LONG, all_here).await, "{:?} {:?}", obeying.where_now(), stubborn.where_now());
    let crowd = Crowd::of(8).start(proxy);
    crowd.seen(200).await;

    run(proxy, &["prepare", "green", "--reason", "release 42"]).await.assert_code(0);
    assert_eq!(opsworks.states("shop-green"), [online("rails-app1"), online("rails-app2")]);
    let deployed = opsworks.deployments().pop().unwrap();
    assert_eq!((&deployed["Status"], deployed["InstanceIds"].as_array().unwrap().len()), (&json!("successful"), 2));
    assert_eq!(crowd.tally().from("green"), 0, "what is prepared serves nobody");

    let switched = proxy.spawn(&["switch", "green", "--json"]).ended_within(LONG).await.assert_code(0).json();
    assert_eq!(switched["proof"]["requests_to_old_since"], 0, "{switched:#}");
    crowd.seen_more(200).await;
    let seen = crowd.stop().await;
    seen.assert_nothing_lost();
    assert!(seen.from("blue") > 0 && seen.from("green") > 0, "{seen:#?}");

    let moved = || async { obeying.at("green") == 6 };
    assert!(eventually(LONG, moved).await, "{:?} {:#}", obeying.where_now(), proxy.status().await);
    assert_eq!(stubborn.at("proxy"), 2, "they still have the old answer");
    let of_all = release.route53.records(ZONE);
    let served =
        of_all.iter().find(|set| set.name == "shop.example.com." && set.weight.is_some_and(|weight| weight > 0));
    assert_eq!(served.unwrap().values, ["198.51.100.2", "198.51.100.3"]);
    let only_the_tail = || async { codes(&permit(proxy).await) == ["tail"] };
    assert!(eventually(LONG, only_the_tail).await, "{:#}", permit(proxy).await);
    let early = run(proxy, &["stop", "blue"]).await.assert_code(1);
    assert!(early.stderr.contains("blue must not be stopped"), "{}", early.stderr);
    assert_eq!(opsworks.count("StopInstance"), 0);

    let waiting = proxy.spawn(&["retire", "blue", "--wait"]);
    stubborn.forget();
    let permitted = waiting.ended_within(LONG).await.assert_code(0);
    assert!(permitted.stdout.contains("blue may be retired"), "{permitted:#?}");
    run(proxy, &["stop", "blue"]).await.assert_code(0);
    assert!(opsworks.states("shop-blue").iter().all(|(_, state)| state == "stopped"));
    release.end_blue().await;
    assert_eq!((obeying.at("green"), stubborn.at("green")), (6, 2));
    for walkers in [obeying, stubborn] {
        assert_eq!(walkers.stop().await, Vec::<String>::new(), "lost");
    }
}

struct Release {
    opsworks: FakeOpsWorks,
    route53: FakeRoute53,
    servers: Vec<NameServer>,
    proxy: Cutover,
    /// Two of blue and two of green, at the addresses of their instances.
    backends: Vec<Backend>,
    _amazon: FaultProxy,
}

impl Release {
    /// Names lead to blue, which is a stack with two instances; green is none yet.
    async fn start() -> Release {
        let (opsworks, route53) = (blue().await, FakeRoute53::with_zone(ZONE, "example.com").await);
        opsworks.will_be_at("shop-green", &["127.0.0.4", "127.0.0.5"]);
        let (stacks, zones) = (opsworks.address, route53.address);
        // Both are Amazon to the proxy: it has one address for all services.
        let amazon = FaultProxy::among(move |seen| {
            let is_opsworks = seen.head.to_lowercase().contains("x-amz-target: opsworks_20130218.");
            if is_opsworks { stacks } else { zones }
        });
        let amazon = amazon.await;
        let mut servers = Vec::new();
        for view in 0..4 {
            servers.push(NameServer::start(route53.server(ZONE, view)).await);
        }
        let mut backends: Vec<Backend> = Vec::new();
        for (name, last) in [("blue", 2), ("blue", 3), ("green", 4), ("green", 5)] {
            let port = backends.first().map_or(0, |first| first.address().port());
            backends.push(Backend::start_at(name, SocketAddr::from(([127, 0, 0, last], port))).await);
        }
        let port = backends[0].address().port();
        let source = |stack: &str| format!("opsworks = {{ stack = \"{stack}\", port = {port} }}, interval = \"100ms\"");
        let describe = |service: Service| {
            let service = service.discover("blue", &source("shop-blue")).discover("green", &source("shop-green"));
            let service = service.extra("stacks", "interval = \"100ms\"\nsettle = \"1s\"").hosts(&["shop.test"]);
            let service = service.health("/healthz").extra("cutover", "rollback_window = \"0s\"");
            service.extra("dns", &names(&servers)).extra("dns", "tail = { silence = \"2s\", nudge = 50 }")
        };
        let proxy = reaching(Cutover::with(), &amazon.url()).service("shop", describe).start().await;
        let release = Release { opsworks, route53, servers, proxy, backends, _amazon: amazon };
        let at_blue = || async {
            let dns = release.proxy.service("shop").await["dns"].clone();
            dns["to"] == "blue" && dns["in_sync"] == true && dns["state"] == "done"
        };
        assert!(eventually(LONG, at_blue).await, "{:#}", release.proxy.status().await);
        release
    }

    fn walkers(&self, count: usize, stubborn: Duration) -> Walkers {
        let [blue, _, one, other] = &self.backends[..] else { panic!("two and two") };
        let places = Places::from([
            ("198.51.100.1", ("blue", blue.address())),
            ("198.51.100.2", ("green", one.address())),
            ("198.51.100.3", ("green", other.address())),
            ("198.51.100.9", ("proxy", self.proxy.address())),
        ]);
        Walkers::start(count, "shop.example.com", self.servers[0].address, stubborn, &places)
    }

    /// What nobody uses any more can go: the proxy serves on.
    async fn end_blue(&self) {
        for backend in &self.backends[..2] {
            backend.stop_listening().await;
        }
        let mut client = Client::http1(&self.proxy).await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.backend(), Some("green"));
        }
    }
}

async fn permit(proxy: &Cutover) -> Value {
    proxy.api("GET", "/v1/services/shop/retire/blue", Value::Null).await.1
}

fn codes(permit: &Value) -> Vec<&str> {
    permit["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

fn online(host: &str) -> (String, String) {
    (host.to_owned(), "online".to_owned())
}
