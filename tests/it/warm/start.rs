//! The start: what a live color is given before its first client, and that nothing there keeps clients out for long.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::{GREEN, Shop};
use crate::harness::{
    Address, Backend, Client, Cutover, Health, Metrics, PATIENCE, Process, Raw, Service, Settings, eventually,
};

const BLUE: [(&str, &str); 2] = [("service", "shop"), ("color", "blue")];
const WAITS_FOR_BLUE: &str = "clients wait until blue is warm, until ";
/// The first of them waits until it is released, and each comes when the one before it is over.
const HANGING: &str = "connections = 1, requests = [\"/slow\", \"/\", \"HEAD /\", \"/last\"], for = \"10ms\", \
                       deadline = \"20m\", at_start = \"all\"";

/// A proxy before one endpoint.
fn shop(blue: &impl Address, warm: &str) -> Settings {
    Cutover::with().service("shop", |service| warmed(service.hosts(&["shop.test"]), blue, warm))
}

fn warmed(service: Service, blue: &impl Address, warm: &str) -> Service {
    let service = service.blue([blue]).health("/healthz");
    service.extra("timeouts", "connect = \"10s\"").extra("cutover", &format!("warm = {{ {warm} }}"))
}

/// Checked once, so that no check is among the connections that are counted.
fn once(service: Service) -> Service {
    service.extra("health", "interval = \"1h\"")
}

fn opened(metrics: &Metrics, of: [(&str, &str); 2]) -> f64 {
    metrics.value("cutover_warm_connections_total", &[of[0], of[1], ("outcome", "opened")])
}

/// Its health check is over, and this is what it has besides.
async fn assert_sockets(backend: &Backend, count: usize) {
    let there = || async { backend.sockets() == count };
    assert!(eventually(PATIENCE, there).await, "{} has {} connections, not {count}", backend.name(), backend.sockets());
}

/// A client whose request has been sent, whether or not anybody accepts it.
async fn waiting(proxy: &Cutover) -> Raw {
    Raw::saying(proxy, "GET /client HTTP/1.1\r\nHost: shop.test\r\n\r\n").await
}

#[tokio::test]
async fn the_first_clients_find_the_connections_open_that_the_start_has_made() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, "connections = 4, requests = [\"/\"]").service("shop", once).start().await;
    assert_eq!((opened(&proxy.metrics().await, BLUE), blue.requests()), (4.0, 0), "no request by default");
    assert_sockets(&blue, 4).await;
    for _ in 0..10 {
        let mut client = Client::http1(&proxy).await;
        for _ in 0..3 {
            assert_eq!(client.get("/").await.backend(), Some("blue"));
        }
    }
    assert_eq!((blue.requests(), blue.sockets()), (30, 4), "a client had to wait for a connect");
    let said = proxy.stderr();
    assert!(said.contains("shop: blue was warmed up in ") && said.contains(": 4 of 4 connections"), "{said}");
    assert_eq!(proxy.service("shop").await["warming"], json!(null));
}

#[tokio::test]
async fn where_requests_are_asked_for_too_all_of_them_come_before_the_first_clients() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, HANGING).start_unready().await;
    blue.waiting(1).await;
    let mut client = waiting(&proxy).await;
    let service = proxy.service("shop").await;
    let warming = &service["warming"];
    assert_eq!((&warming["connections"], &warming["of_requests"]), (&json!(1), &json!(4)), "{service:#}");
    let status = proxy.run(&["status"]).await.assert_code(0).stdout;
    assert!(status.contains(WAITS_FOR_BLUE) && status.contains("0 of 4 requests"), "{status}");
    let (_client, mut ready) = proxy.watch("/readyz").await;
    let says = String::from_utf8(ready.chunk().await.unwrap().to_vec()).unwrap();
    assert!(says.contains(WAITS_FOR_BLUE), "{says}");
    assert_eq!((ready.status(), blue.requests()), (503, 1), "a client was let in");

    blue.release();
    assert_eq!(client.answer().await.status, 200);
    let asked: Vec<String> = blue.heads().into_iter().map(|head| format!("{} {}", head.method, head.target)).collect();
    assert_eq!(asked, ["GET /slow", "GET /", "HEAD /", "GET /last", "GET /client"]);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.value("cutover_requests_total", &BLUE), 1.0, "the client's alone");
    assert_eq!(metrics.value("cutover_warm_requests_total", &[BLUE[0], BLUE[1], ("code", "2xx")]), 4.0);
}

#[tokio::test]
async fn where_nothing_is_asked_for_clients_are_let_in_at_once() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, "requests = [\"/\"], at_start = \"nothing\"").service("shop", once).start().await;
    assert_sockets(&blue, 0).await;
    assert_eq!((opened(&proxy.metrics().await, BLUE), blue.requests()), (0.0, 0));
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
}

#[tokio::test]
async fn an_endpoint_that_lets_nobody_in_does_not_keep_clients_out_of_the_proxy() {
    let (blue, _queue) = choking();
    let quick =
        |service: Service| once(service).extra("timeouts", "connect = \"1s\"").extra("health", "timeout = \"60s\"");
    let proxy = shop(&blue, "connections = 2").service("shop", quick).start().await;
    let said = proxy.stderr();
    assert!(said.contains("shop: blue serves without being warm") && said.contains("0 of 2 connections"), "{said}");
    let answer = Client::http1(&proxy).await.get("/").await;
    assert_eq!((answer.status, answer.header("cutover-error")), (504, Some("connect-timeout")));
}

#[tokio::test]
async fn what_fails_is_told_and_keeps_no_client_out() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, "requests = [\"/status/503\"], for = \"10ms\", deadline = \"1m\", at_start = \"all\"");
    let proxy = proxy.start().await;
    let said = proxy.stderr();
    assert!(
        said.contains("1 of 1 (100.00 %) requests failed") && said.contains("GET /status/503: 503, once"),
        "{said}"
    );
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
}

#[tokio::test]
async fn where_no_endpoint_is_up_nothing_is_waited_for() {
    let blue = Backend::start("blue").await;
    blue.health(Health::Failing(500));
    let proxy = shop(&blue, HANGING).start_unready().await;
    let mut client = waiting(&proxy).await;
    assert_eq!(client.answer().await.status, 503);
    assert!(proxy.stderr().contains("no endpoint of blue is up to be warmed up"), "{}", proxy.stderr());
}

#[tokio::test]
async fn who_is_told_to_end_in_its_middle_lets_in_who_waits_and_ends_in_order() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, HANGING).start_unready().await;
    blue.waiting(1).await;
    let mut client = waiting(&proxy).await;
    proxy.ask_to_end();
    assert_eq!(client.answer().await.status, 200);
    let ended = proxy.ended().await.assert_code(0);
    let cut_short = ended.stderr.lines().find(|line| line.contains("the warm-up of blue was cut short")).unwrap();
    assert!(cut_short.contains("1 of 1 connections, 0 of 4 requests, 0 failed endpoints=1"), "{cut_short}");
    assert!(!proxy.admin_socket().exists(), "it knocks at a door without a house");
}

/// A proxy that is starting, for as long as blue holds the first request, and a green to switch to.
async fn starting() -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let proxy = shop(&blue, HANGING).service("shop", |service| service.green([&green])).start_unready().await;
    blue.waiting(1).await;
    (blue, green, proxy)
}

/// An order that the proxy has and whose turn has not come.
async fn given(proxy: &Cutover, order: &[&str]) -> Process {
    let order = proxy.spawn(order);
    let told = || async { order.stderr().contains(WAITS_FOR_BLUE) };
    assert!(eventually(PATIENCE, told).await, "it does not say what it waits for: {}", order.stderr());
    order
}

/// The start is over, and with it the turn of every order that has waited for that.
async fn assert_nothing_begins(proxy: &Cutover, blue: &Backend) {
    blue.release();
    assert_eq!(waiting(proxy).await.answer().await.status, 200);
    let (status, told) = proxy.api("POST", "/v1/services/shop/switch", json!({ "to": "blue" })).await;
    assert_eq!((status, &told["outcome"]), (200, &json!("unchanged")), "{told:#}");
    assert_eq!(proxy.api("GET", "/v1/history", json!(null)).await.1, json!([]));
}

#[tokio::test]
async fn an_order_that_comes_in_its_middle_and_is_waited_for_begins_with_its_end() {
    let (blue, green, proxy) = starting().await;
    let switch = given(&proxy, &["switch", "green", "--wait", "live", "--json"]).await;
    blue.release();
    green.waiting(1).await;
    green.release();
    let told = switch.ended().await.assert_code(0).json();
    assert_eq!(told["proof"]["last_request_to_old"], json!(null), "no client has asked for anything: {told:#}");
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("green"));
}

#[tokio::test]
async fn an_order_that_nobody_waits_for_any_longer_is_dropped_and_says_so() {
    let (blue, _green, proxy) = starting().await;
    let (left, killed) = tokio::join!(given(&proxy, &["switch", "green"]), given(&proxy, &["rollback"]));
    left.signal(Signal::INT);
    killed.signal(Signal::KILL);
    let says = left.ended().await.assert_code(1).stderr;
    assert!(says.contains("the order has not begun and is dropped, and nothing has changed"), "{says}");
    let switch = proxy.run(&["switch", "green", "--timeout", "1ms"]).await.assert_code(1);
    let says = ["the switch to green has not begun, and is dropped", "nothing has changed", WAITS_FOR_BLUE];
    assert!(says.iter().all(|says| switch.stderr.contains(says)), "{switch:#?}");
    let (status, told) = proxy.api("POST", "/v1/services/shop/rollback", json!({ "timeout": "1ms" })).await;
    assert_eq!((status, &told["type"]), (503, &json!("urn:cutover:problem:not-begun")), "{told:#}");
    assert!(told["reasons"].to_string().contains(WAITS_FOR_BLUE), "{told:#}");
    assert_nothing_begins(&proxy, &blue).await;
}

#[tokio::test]
async fn in_its_middle_a_preview_is_opened_and_a_reload_says_what_it_would_wait_for() {
    let (blue, _green, proxy) = starting().await;
    let (reload, preview) = tokio::join!(proxy.run(&["reload"]), proxy.run(&["preview", "green", "--json"]));
    let says = reload.assert_code(1).stderr;
    assert!(says.contains("the reload has not begun, and is dropped") && says.contains(WAITS_FOR_BLUE), "{says}");
    let header = preview.assert_code(0).json()["header"][1].as_str().unwrap().to_owned();
    blue.release();
    let asks = format!("GET / HTTP/1.1\r\nHost: shop.test\r\nCutover-Preview: {header}\r\n\r\n");
    let seen = Raw::saying(&proxy, asks).await.answer().await;
    assert!(seen.status == 200 && seen.head.contains("cutover-color: green\r\n"), "{}", seen.head);
    assert_eq!(proxy.run(&["reload"]).await.assert_code(0).stderr, "");
}

#[tokio::test]
async fn an_abort_in_its_middle_takes_back_the_orders_that_wait() {
    let (blue, _green, proxy) = starting().await;
    let (approve, abort) = tokio::join!(proxy.run(&["approve"]), proxy.run(&["abort"]));
    assert!(approve.assert_code(1).stderr.contains("there is no cutover to approve"));
    assert!(abort.assert_code(1).stderr.contains("there is no cutover to abort"));
    let switch = given(&proxy, &["switch", "green"]).await;
    let abort = proxy.run(&["abort"]).await.assert_code(0).stdout;
    assert!(abort.contains("blue stays live") && abort.contains("\n  the switch to green by uid "), "{abort}");
    let says = switch.ended().await.assert_code(1).stderr;
    assert!(says.contains("the switch to green by uid ") && says.contains(" was taken back by uid "), "{says}");
    assert_nothing_begins(&proxy, &blue).await;
}

#[tokio::test]
async fn a_switch_that_waits_does_not_begin_where_the_proxy_is_told_to_end() {
    let (_blue, _green, mut proxy) = starting().await;
    let switch = given(&proxy, &["switch", "green"]).await;
    proxy.terminate().await.assert_code(0);
    assert_ne!(switch.ended().await.code, 0);
    proxy.restart_unready().await;
    assert_eq!(proxy.api("GET", "/v1/history", json!(null)).await.1, json!([]));
}

#[tokio::test]
async fn after_a_crash_it_is_the_color_that_the_journal_names() {
    let bake = "warm = { connections = 4 }\nbake = { for = \"20m\" }";
    let mut shop = Shop::described(|service| service.extra("cutover", bake)).await;
    shop.begin().await;
    shop.until_phase("bake").await;
    shop.proxy.kill9().await;
    shop.proxy.restart().await;
    let metrics = shop.proxy.metrics().await;
    assert_eq!((opened(&metrics, GREEN), opened(&metrics, BLUE)), (8.0, 0.0));
    assert_eq!(shop.service().await["phase"], "bake");
    assert_eq!(Client::http1(&shop.proxy).await.get("/").await.backend(), Some("green"));
}

#[tokio::test]
async fn after_a_crash_in_a_canary_both_colors_have_their_connections_before_the_first_client() {
    let canary = "warm = { connections = 4 }\ncanary = [{ weight = \"50%\", for = \"20m\" }]";
    let mut shop = Shop::described(|service| service.extra("cutover", canary)).await;
    shop.begin().await;
    shop.until_phase("canary").await;
    shop.proxy.kill9().await;
    shop.proxy.restart().await;
    let metrics = shop.proxy.metrics().await;
    assert_eq!((opened(&metrics, BLUE), opened(&metrics, GREEN)), (4.0, 8.0), "{}", shop.proxy.stderr());
    let service = shop.service().await;
    assert_eq!((&service["phase"], &service["green"]["weight"]), (&json!("canary"), &json!(0.5)), "{service:#}");
}

#[tokio::test]
async fn a_cutover_that_a_crash_has_cut_off_can_be_aborted_before_the_start_is_over() {
    let canary = "canary = [{ weight = \"50%\", for = \"20m\" }]\ndeadline = \"2h\"";
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let split = |service: Service| service.green([&green]).extra("cutover", canary);
    let mut proxy = shop(&blue, HANGING).service("shop", split).start_unready().await;
    blue.waiting(1).await;
    let switch = given(&proxy, &["switch", "green"]).await;
    blue.release();
    green.waiting(1).await;
    proxy.kill9().await;
    drop(switch);

    proxy.restart_unready().await;
    blue.waiting(1).await;
    assert_eq!(proxy.service("shop").await["phase"], "warm");
    proxy.run(&["switch", "green"]).await.assert_code(4);
    let abort = proxy.run(&["abort"]).await.assert_code(0).stdout;
    assert!(abort.contains("blue stays live, nothing has changed"), "{abort}");
    assert_eq!(proxy.service("shop").await["warming"]["color"], "blue", "the start goes on");
    blue.release();
    assert_eq!(waiting(&proxy).await.answer().await.status, 200);
    let switch = proxy.spawn(&["switch", "green"]);
    let steps = || async {
        green.release();
        proxy.service("shop").await["phase"] == "canary"
    };
    assert!(eventually(PATIENCE, steps).await, "{:#}", proxy.service("shop").await);
    proxy.kill9().await;
    drop(switch);

    proxy.restart_unready().await;
    blue.waiting(1).await;
    let abort = proxy.run(&["abort"]).await.assert_code(0).stdout;
    assert!(abort.contains("its share goes to blue again as soon as that can take it"), "{abort}");
    let all_on_blue = || async {
        blue.release();
        green.release();
        let service = proxy.service("shop").await;
        (&service["phase"], &service["blue"]["weight"]) == (&json!("idle"), &json!(1.0))
    };
    assert!(eventually(PATIENCE, all_on_blue).await, "{:#}", proxy.service("shop").await);
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
}

#[tokio::test]
async fn of_two_colors_the_live_one_is_warmed_up_first_and_clients_wait_for_both() {
    let canary = "canary = [{ weight = \"50%\", for = \"20m\" }]\ndeadline = \"2h\"";
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let split = |service: Service| service.green([&green]).extra("cutover", canary);
    let mut proxy = shop(&blue, HANGING).service("shop", split).start_unready().await;
    blue.waiting(1).await;
    blue.release();
    let switch = proxy.spawn(&["switch", "green"]);
    green.waiting(1).await;
    green.release();
    let steps = || async { proxy.service("shop").await["phase"] == "canary" };
    assert!(eventually(PATIENCE, steps).await, "{:#}", proxy.service("shop").await);
    proxy.kill9().await;
    drop(switch);

    proxy.restart_unready().await;
    let mut client = waiting(&proxy).await;
    for (color, backend) in [("blue", &blue), ("green", &green)] {
        backend.waiting(1).await;
        let service = proxy.service("shop").await;
        assert_eq!((&service["warming"]["color"], &service["phase"]), (&json!(color), &json!("canary")), "{service:#}");
        assert!(blue.heads().iter().chain(&green.heads()).all(|head| head.target != "/client"), "{color} is not warm");
        backend.release();
    }
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_warm_up_of_the_other_color_that_a_crash_has_ended_begins_anew_behind_that_of_the_live_one() {
    let warm = "connections = 2, requests = [\"/slow\"], for = \"10ms\", deadline = \"20m\"";
    let mut shop = Shop::with(warm).await;
    shop.begin().await;
    shop.green[0].waiting(1).await;
    shop.proxy.kill9().await;
    shop.proxy.restart().await;
    shop.until_phase("warm").await;
    let metrics = shop.proxy.metrics().await;
    assert_eq!(opened(&metrics, BLUE), 2.0);
    let anew = || async { opened(&shop.proxy.metrics().await, GREEN) == 4.0 };
    assert!(eventually(PATIENCE, anew).await, "{:#}", shop.service().await);
    let service = shop.service().await;
    assert_eq!((&service["live"], &service["warming"]), (&json!("blue"), &json!(null)), "{service:#}");
}

#[tokio::test]
async fn a_service_that_a_reload_adds_has_its_connections_before_its_first_client_and_no_requests() {
    let (blue, api) = (Backend::start("blue").await, Backend::start("api").await);
    let mut proxy = shop(&blue, "connections = 1").start().await;
    let warm = "connections = 4, requests = [\"/\"], at_start = \"all\"";
    let add = |service: Service| warmed(service.hosts(&["api.test"]), &api, warm);
    proxy.reload_with(|settings| settings.service("api", add)).await;
    let of = [("service", "api"), ("color", "blue")];
    assert_eq!((opened(&proxy.metrics().await, of), opened(&proxy.metrics().await, BLUE)), (4.0, 1.0));
    assert_eq!((api.requests(), blue.requests()), (0, 0));
    let kept = || async { proxy.service("api").await["blue"]["upstream"] == json!({ "idle": 4, "active": 0 }) };
    assert!(eventually(PATIENCE, kept).await, "{:#}", proxy.service("api").await);
    for _ in 0..10 {
        let mut client = Client::http1(&proxy).await.host("api.test");
        assert_eq!(client.get("/").await.backend(), Some("api"));
    }
    assert!(eventually(PATIENCE, kept).await, "a client had to wait for a connect: {:#}", proxy.service("api").await);
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("blue"));
}

/// Answers one health check; from before that on nobody else gets in, since its accept queue is full, and stays so for as
/// long as the second is held.
fn choking() -> (SocketAddr, JoinHandle<impl Sized>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let queue = thread::spawn(move || {
        let (check, _) = socket.accept().unwrap();
        let mut check = TcpStream::from(check);
        let _ = check.read(&mut [0; 4096]);
        let mut inside = Vec::new();
        while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            inside.push(one);
        }
        let _ = check.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        (socket, inside)
    });
    (address, queue)
}
