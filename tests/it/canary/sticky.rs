//! Who stays where: by the proxy's own cookie or by a header, on both sides, and only from blue to green.

use http::Request;

use super::{ask, ask_all, assert_fair, bare, given, house};
use crate::harness::{Answer, Client, WebSocket};

const COOKIE: &str = "cutover-shop";

#[tokio::test]
async fn clients_with_cookies_stay_on_their_side_and_only_move_to_green_as_the_share_grows() {
    let (_blue, _green, house) = house(|s| s).await;
    house.split(500).await;
    let first = ask_all(&house, &vec![None; 400]).await;
    let is_green = |answer: &Answer| answer.backend() == Some("green");
    let mut green: Vec<bool> = first.iter().map(is_green).collect();
    let cookie = |answer| given(answer, COOKIE).expect("clients of both colors get the cookie");
    let mut cookies: Vec<_> = first.iter().map(|answer| Some(cookie(answer))).collect();
    for share in [500, 1_000, 2_500, 5_000, 9_000, 10_000] {
        house.split(share).await;
        // Each on another connection than before.
        cookies.rotate_right(1);
        green.rotate_right(1);
        let answers = ask_all(&house, &cookies).await;
        assert!(answers.iter().all(|answer| given(answer, COOKIE).is_none()), "who has the cookie gets no other");
        let now: Vec<bool> = answers.iter().map(is_green).collect();
        assert!(green.iter().zip(&now).all(|(was, is)| *is || !*was), "a client came back to blue at {share}");
        green = now;
        assert_fair(green.iter().filter(|is| **is).count(), green.len(), share);
    }
}

#[tokio::test]
async fn the_cookie_is_the_clients_alone_and_the_backend_sees_nothing_of_it() {
    let (blue, green, house) = house(|s| s.path("/")).await;
    house.split(5_000).await;
    for mut client in [Client::http1(&house).await, Client::http2(&house).await] {
        let answer = client.get("/cookie").await;
        let lines: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
        let [theirs, ours] = lines[..] else { panic!("{lines:?}") };
        assert_eq!(theirs, "session=1; Path=/", "a backend's own cookie is kept");
        assert!(ours.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"), "{ours}");
        assert_eq!(answer.header("cache-control"), Some("max-age=60, private"));

        let ours = ours.split(';').next().unwrap();
        let request = Request::get("/cookie").header("cookie", format!("session=1; {ours}; theme=dark"));
        let answer = client.send(bare(request)).await;
        assert_eq!(given(&answer, COOKIE), None);
        assert_eq!(
            answer.header("cache-control"),
            Some("public, max-age=60"),
            "an answer that sets nothing stays as it is"
        );
        let backend = if answer.backend() == Some("green") { &green } else { &blue };
        assert_eq!(backend.last_head().header("cookie").as_deref(), Some("session=1; theme=dark"));
        assert_eq!(ask(&mut client, Some(ours)).await.backend(), answer.backend());
        assert_eq!(backend.last_head().header("cookie"), None);
    }
    house.end_split().await;
    let mut client = Client::http1(&house).await;
    assert_eq!(given(&ask(&mut client, None).await, COOKIE), None, "without a split nobody is given a cookie");
}

#[tokio::test]
async fn the_cookie_is_secure_for_who_comes_by_https() {
    let (_blue, _green, mut house) = house(|s| s.path("/api")).await;
    house.reload_with(|settings| settings.section("edge", "trusted_proxies = [\"127.0.0.1\"]")).await;
    house.split(5_000).await;
    let mut client = Client::http1(&house).await;
    let answer = client.send(bare(Request::get("/api/x").header("x-forwarded-proto", "https"))).await;
    let ours = answer.header("set-cookie").unwrap();
    assert!(ours.ends_with("; Path=/api; Max-Age=86400; HttpOnly; SameSite=Lax; Secure"), "{ours}");
}

#[tokio::test]
async fn a_forged_cookie_counts_as_none() {
    let (_blue, _green, house) = house(|s| s).await;
    house.split(2_500).await;
    let mut client = Client::http1(&house).await;
    let good = given(&ask(&mut client, None).await, COOKIE).unwrap();
    let forged = |n: usize| {
        let id = format!("{COOKIE}={n:016x}");
        Some(format!("{id}{}", &good[id.len()..]))
    };
    let forged: Vec<_> = (0..400).map(forged).collect();
    let answers = ask_all(&house, &forged).await;
    let replaced =
        |(answer, forged): (&Answer, &Option<String>)| given(answer, COOKIE).is_some_and(|it| Some(it) != *forged);
    assert!(answers.iter().zip(&forged).all(replaced), "each is replaced");
    assert_fair(answers.iter().filter(|answer| answer.backend() == Some("green")).count(), 400, 2_500);
    for forged in ["", "green", "x.y.z", "\"", &good[COOKIE.len() + 1..good.len() - 1]] {
        let answer = ask(&mut client, Some(&format!("{COOKIE}={forged}"))).await;
        assert!(given(&answer, COOKIE).is_some(), "{forged}");
    }
}

#[tokio::test]
async fn a_header_decides_where_it_is_sent_and_the_cookie_where_it_is_not() {
    let (_blue, _green, house) =
        house(|s| s.extra("cutover", "sticky = { header = \"X-User\", cookie = \"side\" }")).await;
    let mut client = Client::http2(&house).await;
    let mut before = [false; 200];
    for share in [1_000, 5_000, 8_000] {
        house.split(share).await;
        for (n, was_green) in before.iter_mut().enumerate() {
            let answer = client.send(bare(Request::get("/").header("x-user", format!("user-{n}")))).await;
            let is_green = answer.backend() == Some("green");
            assert!(is_green || !*was_green, "user-{n} came back to blue");
            *was_green = is_green;
            assert_eq!((given(&answer, "side"), answer.header("vary")), (None, Some("x-user")));
        }
        assert_fair(before.iter().filter(|green| **green).count(), before.len(), share);
    }
    let answer = ask(&mut client, None).await;
    let cookie = given(&answer, "side").unwrap();
    for _ in 0..10 {
        assert_eq!(ask(&mut client, Some(&cookie)).await.backend(), answer.backend());
    }
}

#[tokio::test]
async fn a_tunnel_goes_where_its_client_belongs() {
    let (_blue, _green, house) = house(|s| s.extra("cutover", "sticky = { header = \"X-User\" }")).await;
    house.split(5_000).await;
    // The client of the harness sends no field of ours, so that each is somebody new.
    let mut sides = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let mut socket = WebSocket::connect(&house, "shop.test", "/ws").await;
        sides.insert(socket.hear().await.unwrap());
    }
    assert_eq!(sides.into_iter().collect::<Vec<_>>(), ["blue", "green"]);
}
