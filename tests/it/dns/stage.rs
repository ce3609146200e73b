//! What stories about names begin with: a proxy, Route 53, and an authoritative name server for each of its four views.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Backend, Cutover, FakeRoute53, NameServer, Ran, Resolver, Service, Settings, eventually};

pub struct Stage {
    pub route53: FakeRoute53,
    pub servers: Vec<NameServer>,
    pub proxy: Cutover,
    pub backends: [Backend; 2],
}

impl Stage {
    /// A shop whose names lead to blue and are at rest.
    pub async fn settled() -> Stage {
        let stage = Stage::start(|service| service, |_| {}).await;
        stage.until_at("blue").await;
        stage
    }

    /// As the service is described, with Route 53 as it is prepared.
    pub async fn start(describe: impl FnOnce(Service) -> Service, prepare: impl FnOnce(&FakeRoute53)) -> Stage {
        let route53 = FakeRoute53::with_zone(ZONE, "example.com").await;
        prepare(&route53);
        let mut servers = Vec::new();
        for view in 0..4 {
            servers.push(NameServer::start(route53.server(ZONE, view)).await);
        }
        let backends = [Backend::start("blue").await, Backend::start("green").await];
        let service = |service: Service| {
            let service = service.blue([&backends[0]]).green([&backends[1]]).health("/healthz");
            describe(service.extra("dns", &names(&servers)))
        };
        let settings = reaching(Cutover::with(), &route53.url()).service("shop", service);
        let proxy = settings.start().await;
        Stage { route53, servers, proxy, backends }
    }

    /// What the status says of names.
    pub async fn dns(&self) -> Value {
        self.proxy.service("shop").await["dns"].clone()
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let holds = || async { holds(&self.dns().await) };
        assert!(eventually(LONG, holds).await, "names are never {what}: {:#}", self.dns().await);
        self.dns().await
    }

    /// Waits until names lead there and nothing more is to be done.
    pub async fn until_at(&self, side: &str) -> Value {
        self.until(side, |dns| dns["to"] == side && dns["in_sync"] == true && dns["state"] == "done").await
    }

    /// A command that waits for names.
    pub async fn run(&self, args: &[&str]) -> Ran {
        self.proxy.spawn(args).ended_within(LONG).await
    }

    pub async fn switch(&self, to: &str) -> Value {
        let (status, answer) = self.proxy.api("POST", "/v1/services/shop/switch", json!({ "to": to })).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// What a client is told that asks the server with this number.
    pub async fn seen_at(&self, server: usize) -> Vec<String> {
        Resolver::new(self.servers[server].address).addresses("shop.example.com").await
    }
}

/// The config of an account that can reach nothing but this machine.
pub fn reaching(settings: Settings, url: &str) -> Settings {
    assert!(url.starts_with("http://127.0.0.1:"), "a story must not leave this machine: {url}");
    // Route 53 as a story has it is asked as fast as it answers; the deadlines are for machines that are busy.
    settings
        .section("aws", &format!("endpoint_url = {url:?}\nrequests_per_second = 1000"))
        .env("AWS_ACCESS_KEY_ID", "AKIASTORY0000000KEY0")
        .env("AWS_SECRET_ACCESS_KEY", "story/secret+0123456789abcdefABCDEF01234")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

/// TTLs of a second, since a story waits for them; and whoever comes to the proxy all the same may stay.
pub fn names(servers: &[NameServer]) -> String {
    let servers: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    format!(
        "zone = \"{ZONE}\"\nttl = \"2s\"\nlower_ttl = \"1s\"\nname_servers = {servers:?}\ntail = {{ nudge = 0 }}\nrecord = [{RECORD}]"
    )
}

pub const ZONE: &str = "Z0123456789ABC";
/// Everything at its slowest: the pauses between two looks at a change are some seconds.
const LONG: Duration = Duration::from_secs(90);
const RECORD: &str = "{ name = \"shop.example.com\", type = \"A\", blue = [\"198.51.100.1\"], green = [\"198.51.100.2\", \
                      \"198.51.100.3\"], proxy = [\"198.51.100.9\"] }";
