//! The proof of a switch: the proxy asks itself through its own listeners, and every worker says which color it leads to.

use std::net::SocketAddr;

use http::Request;
use serde_json::{Value, json};

use crate::harness::{Backend, Ca, Client, Crowd, Cutover, Raw, Service, Settings, body, within};

/// The probes of a switch of this service to this color. On a machine busy enough a worker may take longer to answer than
/// the probes wait: then the switch says so, and is made once more.
async fn switched(proxy: &Cutover, service: &str, to: &str) -> Value {
    let other = if to == "green" { "blue" } else { "green" };
    for _ in 0..ATTEMPTS {
        let probed = switched_once(proxy, service, to).await;
        if !is_late(&probed["unproved"].to_string()) {
            return probed;
        }
        switched_once(proxy, service, other).await;
    }
    panic!("{ATTEMPTS} times there was no answer in time");
}

/// Whether there was no time for an answer, as it says.
fn is_late(said: &str) -> bool {
    said.contains("no answer within") || said.contains("no more time than")
}

async fn switched_once(proxy: &Cutover, service: &str, to: &str) -> Value {
    let (status, answer) = proxy.api("POST", &format!("/v1/services/{service}/switch"), json!({ "to": to })).await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("done")), "{answer:#}");
    answer["proof"]["probed"].clone()
}

/// Every worker has answered through each of so many listeners, and sees this color.
fn assert_proved(probed: &Value, workers: u64, listeners: u64, color: &str) {
    let found = ["workers", "probed", "listeners", "saw"].map(|key| &probed[key]);
    assert_eq!(found, [&json!(workers), &json!(workers), &json!(listeners), &json!(color)], "{probed:#}");
    assert!(probed["probes"].as_u64() >= Some(workers * listeners), "{probed:#}");
    assert_eq!((&probed["astray"], &probed["unproved"]), (&Value::Null, &Value::Null), "{probed:#}");
}

async fn shop(settings: Settings, describe: impl FnOnce(Service) -> Service) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| describe(s.blue([&blue]).green([&green]).health("/healthz"));
    let proxy = settings.service("shop", service).start().await;
    (blue, green, proxy)
}

#[tokio::test]
async fn every_worker_is_asked_through_every_listener_and_no_backend_hears_of_it() {
    let ca = Ca::new();
    let settings = Cutover::with().workers(4).listener().tls(&ca, &["shop.test"]);
    let pair = ca.issue(&["other.test"], settings.folder());
    let settings = settings.tls_with(&[pair], "min_version = \"1.3\"").access_log("");
    let (blue, green, proxy) = shop(settings, |s| s.hosts(&["shop.test"])).await;
    assert_proved(&switched(&proxy, "shop", "green").await, 4, 4, "green");
    let sees = |saw| vec![("service", "shop"), ("saw", saw)];
    let metrics = proxy.metrics().await;
    let workers = ["new", "old", "unknown"].map(|saw| metrics.value("cutover_switch_probed_workers", &sees(saw)));
    assert_eq!(workers, [4.0, 0.0, 0.0]);

    let mut back = proxy.run(&["rollback"]).await.assert_code(0).stdout;
    while is_late(&back) {
        switched(&proxy, "shop", "green").await;
        back = proxy.run(&["rollback"]).await.assert_code(0).stdout;
    }
    assert!(back.contains("\n  asked through 4 listeners: 4 of 4 workers lead to blue ("), "{back}");
    let history = proxy.run(&["history", "--json"]).await.assert_code(0).json();
    assert_proved(&history[0]["proof"]["probed"], 4, 4, "blue");
    let shown = proxy.run(&["history", "show", history[1]["id"].as_str().unwrap()]).await.assert_code(0).stdout;
    assert!(shown.contains("asked through 4 listeners: 4 of 4 workers lead to green ("), "{shown}");

    assert_eq!((blue.requests(), green.requests()), (0, 0), "a probe is answered by the proxy");
    for color in ["blue", "green"] {
        let of = [("service", "shop"), ("color", color), ("code", "2xx")];
        assert_eq!(proxy.metrics().await.value("cutover_requests_total", &of), 0.0, "and is no request to a color");
    }
    Client::http1(&proxy).await.get("/cart").await;
    assert_eq!(proxy.logged(1).await[0]["target"], "/cart", "and has no line in the log");
}

#[tokio::test]
async fn each_service_is_asked_for_by_a_host_and_a_path_of_its_own() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let both = |s: Service| s.blue([&blue]).green([&green]);
    let ca = Ca::new();
    let settings = Cutover::with().tls(&ca, &["shop.test", "*.shop.test"]);
    let pairs = [ca.issue(&["shop.test"], settings.folder()), ca.issue(&["*.wild.test"], settings.folder())];
    let settings = settings
        .tls_with(&pairs, "")
        .service("exact", |s| both(s).hosts(&["*.below.test", "shop.test"]))
        .service("path", |s| both(s).hosts(&["shop.test"]).path("/api"))
        .service("wild", |s| both(s).hosts(&["*.wild.test"]))
        .service("address", |s| both(s).hosts(&["127.0.0.1"]))
        .service("six", |s| both(s).hosts(&["[::1]"]))
        .service("rest", both)
        .service("rest-path", |s| both(s).path("/deep"));
    let proxy = settings.start().await;
    for service in ["exact", "path", "wild", "address", "six", "rest", "rest-path"] {
        assert_proved(&switched(&proxy, service, "green").await, 2, 3, "green");
    }
    assert_eq!((blue.requests(), green.requests()), (0, 0));
}

#[tokio::test]
async fn a_listener_on_all_addresses_and_one_of_ipv6_are_reached_from_the_machine_itself() {
    for address in ["0.0.0.0:0", "[::]:0", "[::1]:0"] {
        let address: SocketAddr = address.parse().unwrap();
        let (_blue, _green, proxy) = shop(Cutover::with().listen_on(address, None), |s| s).await;
        assert_proved(&switched(&proxy, "shop", "green").await, 2, 1, "green");
    }
}

#[tokio::test]
async fn a_listener_that_comes_with_a_reload_is_asked_and_one_that_goes_is_not() {
    let (_blue, _green, mut proxy) = shop(Cutover::with(), |s| s).await;
    proxy.reload_with(Settings::listener).await;
    assert_proved(&switched(&proxy, "shop", "green").await, 2, 2, "green");
    let second = proxy.address_of(1);
    // Somebody is still there, so that the listener is known, and shut.
    let mut client = Client::http1(&second).await;
    assert_eq!(client.get("/").await.backend(), Some("green"));
    proxy.reload_with(|settings| settings.without_listener(second)).await;
    assert_proved(&switched(&proxy, "shop", "blue").await, 2, 1, "blue");
}

#[tokio::test]
async fn a_switch_is_proved_in_the_middle_of_its_traffic() {
    let (_blue, _green, proxy) = shop(Cutover::with(), |s| s).await;
    let crowds = [Crowd::of(16).start(&proxy), Crowd::of(4).http2().start(&proxy)];
    crowds[0].seen(200).await;
    for to in ["green", "blue", "green"] {
        assert_eq!(switched(&proxy, "shop", to).await["saw"], to);
        crowds[0].seen_more(50).await;
    }
    for crowd in crowds {
        crowd.stop().await.assert_nothing_lost();
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_with_its_reason_and_undoes_nothing() {
    let settings = Cutover::with().section("edge.limits", "connections_per_client = 1");
    let (_blue, _green, proxy) = shop(settings, |s| s).await;
    // The one place that a client of this address may have.
    let mut held = Raw::saying(&proxy, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(within("an answer", held.answer()).await.status, 200);
    let probed = switched(&proxy, "shop", "green").await;
    assert_eq!([&probed["probed"], &probed["saw"], &probed["listeners"]], [&json!(0), &Value::Null, &json!(0)]);
    let unproved = probed["unproved"][0].as_str().unwrap();
    assert!(unproved.starts_with(&format!("{} could not be asked: ", proxy.address())), "{unproved}");
    assert_eq!(proxy.service("shop").await["live"], "green");
    let unknown = [("service", "shop"), ("saw", "unknown")];
    assert_eq!(proxy.metrics().await.value("cutover_switch_probed_workers", &unknown), 2.0);
    assert!(proxy.stderr().contains("not proved: "), "{}", proxy.stderr());
    let told = proxy.run(&["rollback"]).await.assert_code(0).stdout;
    assert!(told.contains("asked through 0 listeners: no worker has answered"), "{told}");
    assert!(told.contains("\n  not proved: "), "{told}");
}

#[tokio::test]
async fn to_anybody_else_the_field_opens_nothing() {
    let (blue, _green, proxy) = shop(Cutover::with(), |s| s).await;
    let mut client = Client::http1(&proxy).await;
    for sign in ["", "1", "4102444800.00000000000000000000000000000000", "x.y"] {
        let request = Request::get("/").header("cutover-probe", sign).body(body::empty()).unwrap();
        let answer = client.send(request).await;
        assert_eq!((answer.status, answer.backend()), (200, Some("blue")), "{sign:?} is a request like any other");
    }
    assert_eq!(blue.requests(), 4);
}

#[tokio::test]
async fn a_request_that_begins_on_the_old_color_after_a_switch_is_counted_and_alerts() {
    let (_blue, _green, proxy) = shop(Cutover::with(), |s| s).await;
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
    assert_proved(&switched(&proxy, "shop", "green").await, 2, 1, "green");
    let since = async || proxy.metrics().await.value("cutover_requests_to_old_since_switch", &[("service", "shop")]);
    assert_eq!(since().await, 0.0, "neither what was before nor the probes");
    // The one way there is.
    let field = proxy.run(&["preview", "blue", "--header"]).await.assert_code(0).stdout;
    let (name, value) = field.trim_end().split_once(": ").unwrap();
    let request = Request::get("/").header(name, value).body(body::empty()).unwrap();
    assert_eq!(Client::http1(&proxy).await.send(request).await.backend(), Some("blue"));
    assert_eq!(since().await, 1.0);
    assert_proved(&switched(&proxy, "shop", "blue").await, 2, 1, "blue");
    assert_eq!(since().await, 0.0, "the next switch counts anew");
}

/// Busier than for so many switches no machine is.
const ATTEMPTS: usize = 10;
