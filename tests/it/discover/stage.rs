//! A service with a color that is discovered by SRV records, and the name server that has them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::route53::Set;
use crate::harness::{Address, Backend, Cutover, Manner, NameServer, Service, eventually};

pub struct Stage {
    pub proxy: Cutover,
    pub records: Records,
}

/// What the name server answers from.
pub struct Records {
    sets: Arc<Mutex<Vec<Set>>>,
    pub server: NameServer,
}

impl Records {
    pub async fn of(endpoints: &[&Backend]) -> Records {
        let sets = Arc::new(Mutex::new(Vec::new()));
        let theirs = sets.clone();
        let server = NameServer::start(move || theirs.lock().unwrap().clone()).await;
        let records = Records { sets, server };
        records.say(endpoints);
        records
    }

    /// From now on these are the endpoints; none: the name does not exist.
    pub fn say(&self, endpoints: &[&Backend]) {
        self.say_at(&endpoints.iter().map(|backend| backend.address()).collect::<Vec<_>>());
    }

    pub fn say_at(&self, endpoints: &[SocketAddr]) {
        let target = |address: &SocketAddr| format!("at-{}.test", address.ip().to_string().replace([':', '.'], "-"));
        let services: Vec<_> =
            endpoints.iter().map(|address| format!("10 1 {} {}", address.port(), target(address))).collect();
        let mut sets = Vec::new();
        if !services.is_empty() {
            sets.push(Set::new(NAME, "SRV", 0, &services.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        for address in endpoints {
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            let set = Set::new(&target(address), kind, 0, &[&address.ip().to_string()]);
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
        *self.sets.lock().unwrap() = sets;
    }

    /// The `discover` of a color that asks here.
    pub fn keys(&self) -> String {
        let resolver = self.server.address;
        format!("dns = {{ name = \"{NAME}\", resolvers = [\"{resolver}\"] }}, interval = \"100ms\"")
    }
}

impl Stage {
    /// Blue is discovered, and green is named.
    pub async fn of(blue: &[&Backend], green: &[&Backend]) -> Stage {
        let records = Records::of(blue).await;
        let service = |s| checked(s).green(green).discover("blue", &records.keys());
        let stage = Stage { proxy: Cutover::with().service("shop", service).start().await, records };
        stage.until("current", |blue| blue["discovery"]["state"] == "current" && ups(blue) == addresses(blue)).await;
        stage
    }

    pub async fn blue(&self) -> Value {
        self.proxy.service("shop").await["blue"].clone()
    }

    pub async fn discovery(&self) -> Value {
        self.blue().await["discovery"].clone()
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(&self.proxy, "blue", what, holds).await
    }

    /// Waits until the pool holds these and no others, all of them up.
    pub async fn until_serving(&self, endpoints: &[&Backend]) {
        let wanted = sorted(endpoints);
        self.until(&format!("{wanted:?} up"), |blue| addresses(blue) == wanted && ups(blue) == wanted).await;
    }

    /// Has the source asked now: the word on blue.
    pub async fn ask(&self, order: Value) -> Value {
        let (status, answer) = self.proxy.api("POST", "/v1/services/shop/discover", order).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["heard"].as_array().map(Vec::len), Some(1), "{answer}");
        answer["heard"][0].clone()
    }

    /// From the next question on.
    pub async fn behaves(&self, manner: Manner) {
        self.records.server.behave(manner);
        // A question that was on its way when that changed has been answered as before.
        if manner != Manner::Silent {
            self.ask(json!({})).await;
        }
    }

    /// Waits for so many more questions.
    pub async fn asked_more(&self, questions: usize) {
        let now = self.records.server.asked();
        let asked = || async { self.records.server.asked() >= now + questions };
        assert!(eventually(LONG, asked).await, "the name server is not asked any more");
    }
}

pub async fn until(proxy: &Cutover, color: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let seen = || async { holds(&proxy.service("shop").await[color]) };
    let seen = eventually(LONG, seen).await;
    let service = proxy.service("shop").await;
    assert!(seen, "{color} is never {what}: {:#}", service[color]);
    service[color].clone()
}

/// Health checks that only fail where a story says so, however busy the machine is.
pub fn checked(service: Service) -> Service {
    service.health("/healthz").extra("health", "timeout = \"20s\"\nfall = 2")
}

pub fn addresses(color: &Value) -> Vec<String> {
    listed(color, |_| true)
}

pub fn ups(color: &Value) -> Vec<String> {
    listed(color, |endpoint| endpoint["up"] == true)
}

fn listed(color: &Value, which: fn(&Value) -> bool) -> Vec<String> {
    let endpoints = color["endpoints"].as_array().into_iter().flatten().filter(|endpoint| which(endpoint));
    let mut all: Vec<_> = endpoints.map(|endpoint| endpoint["address"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

pub fn sorted(endpoints: &[&Backend]) -> Vec<String> {
    let mut all: Vec<_> = endpoints.iter().map(|backend| backend.address().to_string()).collect();
    all.sort();
    all
}

/// What is told of the members that have this standing.
pub fn standing(discovery: &Value, standing: &str) -> Vec<String> {
    let members = discovery["endpoints"].as_array().into_iter().flatten();
    let mut all: Vec<_> = members
        .filter(|member| member["standing"] == standing)
        .map(|member| member["address"].as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all
}

pub const NAME: &str = "_http._tcp.shop.test";
/// A resolver that is silent is asked three times, two seconds each.
pub const LONG: Duration = Duration::from_secs(60);
