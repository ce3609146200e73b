//! Two colors at once: shares of the clients, who stays where, previews, copies, and the way out of all of it.

mod copies;
mod preview;
mod shares;
mod sticky;

use cutover::names::Color;
use futures_util::future::join_all;
use http::Request;
use http::request::Builder;

use crate::harness::body::{self, Body};
use crate::harness::{Address, Answer, Backend, Client, House, PATIENCE, Running, Service, Settings, eventually};

/// A proxy in this process before `shop`, with blue live.
async fn house(describe: impl FnOnce(Service) -> Service) -> (Backend, Backend, House) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let house = house_before(&blue, &green, describe).await;
    (blue, green, house)
}

async fn house_before(blue: &impl Address, green: &impl Address, describe: impl FnOnce(Service) -> Service) -> House {
    let service = |s: Service| describe(checked(s).blue([blue]).green([green]));
    let house = House::start(Settings::new().service("shop", service)).await;
    // A proxy is ready with its live color.
    let up = || async { Color::BOTH.iter().all(|color| house.pool(*color).eligible.load().len() == 1) };
    assert!(eventually(PATIENCE, up).await, "an endpoint does not come up");
    house
}

/// Checks by a path, with the patience of a busy machine.
fn checked(service: Service) -> Service {
    service.health("/healthz").extra("health", "timeout = \"10s\"")
}

fn bare(head: Builder) -> Request<Body> {
    head.body(body::empty()).unwrap()
}

/// Resolves when a crowd has seen so many hundred answers more: a busy machine is given its time for each.
async fn hundreds(crowd: &Running, n: usize) {
    for _ in 0..n {
        crowd.seen_more(100).await;
    }
}

/// Asks for `/` with this cookie, if there is one.
async fn ask(client: &mut Client, cookie: Option<&str>) -> Answer {
    let request = cookie.into_iter().fold(Request::get("/"), |request, cookie| request.header("cookie", cookie));
    let answer = client.send(bare(request)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// Asks for `/` with each of these cookies, some at a time and each with its own place among them.
async fn ask_all(house: &House, cookies: &[Option<String>]) -> Vec<Answer> {
    let mut clients = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        clients.push(if n % 2 == 0 { Client::http1(house).await } else { Client::http2(house).await });
    }
    let asked = clients.iter_mut().enumerate().map(async |(n, client)| {
        let mut answers = Vec::new();
        for cookie in cookies.iter().skip(n).step_by(SIDE_BY_SIDE) {
            answers.push(ask(client, cookie.as_deref()).await);
        }
        answers
    });
    let mut answers: Vec<_> = join_all(asked).await.into_iter().map(Vec::into_iter).collect();
    (0..cookies.len()).map(|n| answers[n % SIDE_BY_SIDE].next().unwrap()).collect()
}

const SIDE_BY_SIDE: usize = 8;

/// The cookie of this name that the answer sets, as a client sends it back.
fn given(answer: &Answer, name: &str) -> Option<String> {
    let lines = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    let start = format!("{name}=");
    lines.filter(|line| line.starts_with(&start)).map(|line| line.split(';').next().unwrap().to_owned()).next()
}

/// Of `n` independent requests or clients that go to green with probability `share`, the number that does lies within five
/// standard deviations: a fair proxy is wronged by this once in 1.7 million times, and one that is off by a fifth of the
/// share is found out from n = 25 · 25 · (1 - share) / share on.
fn assert_fair(went: usize, n: usize, share: u16) {
    let p = f64::from(share) / 1e4;
    let (expected, deviation) = (n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt());
    let off = (went as f64 - expected).abs();
    assert!(off <= 5.0 * deviation, "{went} of {n} went to green, {expected} ± {deviation:.1} should have");
}
