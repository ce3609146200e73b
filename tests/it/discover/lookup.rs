//! The source of names in the DNS, against a name server with the vices of real ones.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cutover::config::DnsLookup;
use cutover::discovery::{Answer, Lookup, Source, SourceError};

use crate::harness::route53::Set;
use crate::harness::{Manner, NameServer};

/// Somebody who looks a name up, and the sets that he finds.
struct Scene {
    sets: Arc<Mutex<Vec<Set>>>,
    servers: Vec<NameServer>,
}

impl Scene {
    async fn new(servers: usize, sets: &[Set]) -> Scene {
        let sets = Arc::new(Mutex::new(sets.to_vec()));
        let mut all = Vec::new();
        for _ in 0..servers {
            let theirs = sets.clone();
            all.push(NameServer::start(move || theirs.lock().unwrap().clone()).await);
        }
        Scene { sets, servers: all }
    }

    fn lookup(&self, name: &str, port: Option<u16>) -> Lookup {
        let resolvers: Vec<SocketAddr> = self.servers.iter().map(|server| server.address).collect();
        Lookup::new(DnsLookup { name: name.parse().unwrap(), port, resolvers })
    }

    fn say(&self, sets: &[Set]) {
        *self.sets.lock().unwrap() = sets.to_vec();
    }
}

fn addresses(answer: &Answer) -> Vec<String> {
    answer.endpoints.iter().map(|found| found.address.to_string()).collect()
}

#[tokio::test]
async fn addresses_of_both_families_are_found_in_order_with_the_shortest_ttl() {
    let scene = Scene::new(
        1,
        &[
            Set::new("shop.test", "A", 60, &["10.0.0.2", "10.0.0.1"]),
            Set::new("shop.test", "AAAA", 30, &["2001:db8::1"]),
            Set::new("four.test", "A", 60, &["10.0.0.2"]),
        ],
    )
    .await;
    let shop = scene.lookup("shop.test", Some(8080));
    assert_eq!(shop.says(), "the addresses of shop.test in the DNS, with port 8080");
    // A resolver does not speak for the zone, and need not.
    for manner in [Manner::Proper, Manner::Lame, Manner::Forged, Manner::Truncating] {
        scene.servers[0].behave(manner);
        let answer = shop.ask().await.unwrap();
        assert_eq!(addresses(&answer), ["10.0.0.1:8080", "10.0.0.2:8080", "[2001:db8::1]:8080"], "{manner:?}");
        assert_eq!((answer.valid_for, answer.left_out), (Some(Duration::from_secs(30)), Vec::new()));
    }
    assert_eq!(scene.servers[0].asked_over_tcp(), 2, "what is cut is asked for over TCP");
    let answer = scene.lookup("four.test", Some(80)).ask().await.unwrap();
    assert_eq!((addresses(&answer), answer.left_out), (vec!["10.0.0.2:80".to_owned()], Vec::new()));
    let nobody = scene.lookup("nobody.test", Some(80)).ask().await.unwrap();
    assert!(nobody.endpoints.is_empty() && nobody.left_out[0].contains("does not exist"), "{nobody:?}");
    let nothing = scene.lookup("four.test", None).ask().await.unwrap();
    assert_eq!(nothing.left_out, ["four.test has no SRV record"]);
}

#[tokio::test]
async fn services_are_those_of_the_lowest_priority_with_all_addresses_of_their_targets() {
    let target = |name: &str, ip: &str| Set::new(name, "A", 300, &[ip]);
    let services = [
        "10 5 8081 one.test",
        "10 0 8082 one.test",
        "10 9 8080 Two.test",
        "10 1 8080 gone.test",
        "20 1 8080 spare.test",
    ];
    let scene = Scene::new(
        1,
        &[
            Set::new("_http._tcp.shop.test", "SRV", 120, &services),
            target("one.test", "10.0.0.1"),
            target("two.test", "10.0.0.2"),
            target("spare.test", "10.0.0.3"),
        ],
    )
    .await;
    let shop = scene.lookup("_http._tcp.shop.test", None);
    let answer = shop.ask().await.unwrap();
    assert_eq!(addresses(&answer), ["10.0.0.1:8081", "10.0.0.1:8082", "10.0.0.2:8080"]);
    assert_eq!(answer.endpoints[2].name.as_deref(), Some("two.test"));
    assert_eq!(answer.valid_for, Some(Duration::from_secs(120)));
    let left_out = answer.left_out.join("\n");
    assert!(
        left_out.contains("spare.test.:8080 has priority 20") || left_out.contains("spare.test:8080"),
        "{left_out}"
    );
    assert!(left_out.contains("gone.test does not exist"), "{left_out}");
    // A lone dot says that there is decidedly no such service.
    scene.say(&[Set::new("_http._tcp.shop.test", "SRV", 120, &["0 0 0 ."])]);
    assert!(shop.ask().await.unwrap().endpoints.is_empty());
}

#[tokio::test]
async fn a_resolver_that_fails_is_passed_over_and_half_an_answer_is_none() {
    let scene = Scene::new(2, &[Set::new("shop.test", "A", 60, &["10.0.0.1"])]).await;
    let shop = scene.lookup("shop.test", Some(80));
    for manner in [Manner::Silent, Manner::Failing, Manner::Refusing] {
        scene.servers[0].behave(manner);
        // Somebody else, who has not found out whom to ask.
        let shop = scene.lookup("shop.test", Some(80));
        assert_eq!(addresses(&shop.ask().await.unwrap()), ["10.0.0.1:80"], "{manner:?}");
    }
    // Who has answered is asked first from then on.
    shop.ask().await.unwrap();
    let asked = scene.servers[0].asked();
    shop.ask().await.unwrap();
    assert_eq!(scene.servers[0].asked(), asked);
    scene.servers.iter().for_each(|server| server.behave(Manner::Refusing));
    let refused = shop.ask().await.unwrap_err();
    assert!(
        matches!(&refused, SourceError::Refused(says) if says.matches("refuses to answer").count() == 2),
        "{refused}"
    );
    scene.servers[0].behave(Manner::Failing);
    let failed = shop.ask().await.unwrap_err();
    assert!(matches!(&failed, SourceError::Unreachable(says) if says.contains("answers Server Failure")), "{failed}");
}
