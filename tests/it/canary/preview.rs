//! Previews: whoever is invited sees green before anyone else, and a drain stays exact.

use std::time::Duration;

use cutover::cutover::Opened;
use cutover::journal::Journal;
use http::Request;
use serde_json::{Value, json};

use super::{ask, bare, checked, given};
use crate::harness::{Answer, Backend, Client, Crowd, Cutover, PATIENCE, Service, WebSocket, eventually};

async fn shop(describe: impl FnOnce(Service) -> Service) -> (Backend, Backend, Cutover) {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| describe(checked(s).blue([&blue]).green([&green]));
    let proxy = Cutover::with().service("shop", service).start().await;
    until_up(&proxy).await;
    (blue, green, proxy)
}

/// Waits for both colors: a proxy is ready with its live one.
async fn until_up(proxy: &Cutover) {
    let up = || async {
        let view = proxy.service("shop").await;
        ["blue", "green"].iter().all(|color| view[color]["endpoints"][0]["up"] == true)
    };
    assert!(eventually(PATIENCE, up).await, "an endpoint does not come up");
}

/// Opens a preview of green by the command: what it printed as JSON.
async fn preview(proxy: &Cutover, more: &[&str]) -> Value {
    proxy.run(&[&["preview", "green", "--json"], more].concat()).await.assert_code(0).json()
}

async fn refused(proxy: &Cutover, ask: Value) -> Value {
    let (status, problem) = proxy.api("POST", "/v1/services/shop/preview", ask).await;
    assert_eq!(status, 409, "{problem}");
    problem
}

/// The path of a link, which leads to this machine.
fn path_of(link: &Value) -> String {
    let link = link.as_str().unwrap();
    let start = link.find("//").unwrap() + 2;
    link[start + link[start..].find('/').unwrap()..].to_owned()
}

async fn with_header(client: &mut Client, previewed: &Value) -> Answer {
    let (name, value) = (previewed["header"][0].as_str().unwrap(), previewed["header"][1].as_str().unwrap());
    client.send(bare(Request::get("/").header(name, value).header("cutover_preview", "x"))).await
}

#[tokio::test]
async fn a_link_is_exchanged_for_a_cookie_that_leads_to_green_while_everyone_else_stays() {
    let (blue, green, proxy) = shop(|s| s).await;
    let previewed = preview(&proxy, &["--url", "http://shop.test/cart?item=7#top"]).await;
    let link = previewed["link"].as_str().unwrap();
    assert!(
        link.starts_with("http://shop.test/cart?item=7&cutover-preview=green.") && link.ends_with("#top"),
        "{link}"
    );
    let path = path_of(&previewed["link"]).trim_end_matches("#top").to_owned();
    for mut client in [Client::http1(&proxy).await, Client::http2(&proxy).await] {
        let answer = client.get(&path).await;
        assert_eq!((answer.status, answer.header("location")), (307, Some("/cart?item=7")));
        assert_eq!(
            (answer.header("cache-control"), answer.header("referrer-policy")),
            (Some("no-store"), Some("no-referrer"))
        );
        let line = answer.header("set-cookie").unwrap();
        assert!(line.contains("; Path=/; Max-Age=3") && line.ends_with("; HttpOnly; SameSite=Lax"), "{line}");
        let cookie = given(&answer, "cutover-preview-shop").unwrap();

        let request = Request::get("/cookie").header("cookie", format!("a=1; {cookie}"));
        let seen = client.send(bare(request)).await;
        assert_eq!((seen.backend(), seen.header("cutover-color")), (Some("green"), Some("green")));
        assert_eq!(seen.header("cache-control"), Some("no-store"), "nobody keeps it under the same address");
        assert_eq!(green.last_head().header("cookie").as_deref(), Some("a=1"));
        let plain = ask(&mut client, None).await;
        assert_eq!((plain.backend(), plain.header("cutover-color")), (Some("blue"), None));
        assert_eq!(given(&plain, "cutover-shop"), None, "nobody is divided");
    }
    assert_eq!((blue.requests(), green.requests()), (2, 2), "the link itself reached neither");
    let view = proxy.service("shop").await;
    assert_eq!(
        (&view["live"], &view["green"]["weight"], &view["preview"]["to"]),
        (&json!("blue"), &json!(0.0), &json!("green"))
    );
    let metrics = proxy.metrics().await;
    let of = |name, color| metrics.value(name, &[("service", "shop"), ("color", color)]);
    assert_eq!(
        (of("cutover_live", "green"), of("cutover_preview_open", "green"), of("cutover_weight", "green")),
        (0.0, 1.0, 0.0)
    );
    let status = proxy.run(&["status"]).await.assert_code(0).stdout;
    assert!(status.contains("  green can be previewed until "), "{status}");
}

#[tokio::test]
async fn a_header_leads_to_green_and_one_that_is_not_good_is_refused_instead_of_showing_blue() {
    let (_blue, green, proxy) = shop(|s| s).await;
    let line = proxy.run(&["preview", "green", "--header", "--for", "10m"]).await.assert_code(0).stdout;
    let (name, value) = line.trim_end().split_once(": ").unwrap();
    assert_eq!(name, "Cutover-Preview");
    let asked = |value: String| bare(Request::get("/").header(name, value));
    let mut client = Client::http1(&proxy).await;
    let seen = client.send(asked(value.to_owned())).await;
    assert_eq!((seen.backend(), green.last_head().header("cutover-preview")), (Some("green"), None));
    for forged in [String::new(), value[1..].to_owned(), value.replace("green", "blue"), format!("{value}0")] {
        let answer = client.send(asked(forged)).await;
        assert_eq!((answer.status, answer.header("cutover-error")), (403, Some("preview-over")));
    }
    let mut forged = Client::http1(&proxy).await;
    assert_eq!(forged.get("/?cutover-preview=green.9999999999.00").await.status, 403);
    let cookie = "cutover-preview-shop=green.9999999999.00";
    assert_eq!(ask(&mut client, Some(cookie)).await.backend(), Some("blue"), "a forged cookie counts as none");
    let refusals = [("service", "shop"), ("reason", "preview-over")];
    assert_eq!(proxy.metrics().await.value("cutover_refusals_total", &refusals), 5.0);
}

#[tokio::test]
async fn a_preview_ends_at_its_time_by_order_with_a_switch_and_with_the_process() {
    let (_blue, _green, mut proxy) = shop(|s| s.extra("cutover", "preview = { for = \"1s\" }")).await;
    let mut client = Client::http1(&proxy).await;
    let is_open = async |proxy: &Cutover| proxy.service("shop").await["preview"] != Value::Null;
    let short = preview(&proxy, &[]).await;
    assert!(short["until"].is_string(), "{short}");
    assert!(eventually(PATIENCE, || async { !is_open(&proxy).await }).await, "its time is over");
    assert_eq!(with_header(&mut client, &short).await.status, 403, "it does not show blue instead");
    assert_eq!(client.get(&path_of(&short["link"])).await.status, 403, "nor does the link");

    let long = preview(&proxy, &["--for", "1h"]).await;
    preview(&proxy, &["--for", "1s"]).await;
    let entry = proxy.service("shop").await;
    assert_eq!(entry["preview"]["until"], long["until"], "a shorter one does not end a longer");
    assert_eq!(with_header(&mut client, &short).await.status, 403, "what has expired is over while others go on");
    proxy.reload_with(|settings| settings.service("shop", |s| s.extra("timeouts", "body = \"7s\""))).await;
    assert_eq!(with_header(&mut client, &long).await.backend(), Some("green"), "a reload ends nothing");
    let ended = proxy.run(&["preview", "green", "--end"]).await.assert_code(0).stdout;
    assert_eq!(ended, "shop: green cannot be previewed any longer\n");
    assert!(!is_open(&proxy).await);

    preview(&proxy, &["--for", "1h"]).await;
    proxy.run(&["switch", "green"]).await.assert_code(0);
    assert!(!is_open(&proxy).await);
    let refused = proxy.run(&["preview", "green"]).await.assert_code(1);
    assert!(refused.stderr.contains("green is live: everyone sees it already"), "{}", refused.stderr);
    let back = proxy.run(&["preview", "blue", "--for", "1h", "--json"]).await.assert_code(0).json();
    assert_eq!(with_header(&mut client, &back).await.backend(), Some("blue"), "the old color can be looked at as well");
    proxy.kill9().await;
    proxy.restart().await;
    until_up(&proxy).await;
    assert!(!is_open(&proxy).await);
    assert_eq!(ask(&mut Client::http1(&proxy).await, None).await.backend(), Some("green"));
    assert_eq!(with_header(&mut Client::http1(&proxy).await, &back).await.status, 403, "not after a restart either");
    let again = proxy.run(&["preview", "blue", "--for", "1h", "--json"]).await.assert_code(0).json();
    let mut client = Client::http1(&proxy).await;
    assert_eq!(with_header(&mut client, &again).await.backend(), Some("blue"));
    assert_eq!(with_header(&mut client, &back).await.status, 403, "nor when another is opened then");
}

#[tokio::test]
async fn a_link_is_to_the_preview_it_was_made_for_and_does_not_come_back_with_a_later_one() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let mut client = Client::http1(&proxy).await;
    let first = preview(&proxy, &[]).await;
    let cookie = given(&client.get(&path_of(&first["link"])).await, "cutover-preview-shop").unwrap();
    assert_eq!(ask(&mut client, Some(&cookie)).await.backend(), Some("green"));
    // Whoever invites somebody else, for less time or for more, sends nobody away.
    let shorter = preview(&proxy, &["--for", "30m"]).await;
    let longer = preview(&proxy, &["--for", "2h"]).await;
    for one in [&first, &shorter, &longer] {
        assert_eq!(with_header(&mut client, one).await.backend(), Some("green"));
    }
    assert_eq!(proxy.service("shop").await["preview"]["until"], longer["until"]);

    proxy.run(&["preview", "green", "--end"]).await.assert_code(0);
    let second = preview(&proxy, &["--for", "3h"]).await;
    proxy.reload_with(|settings| settings.service("shop", |s| s.extra("timeouts", "body = \"7s\""))).await;
    for mut client in [Client::http1(&proxy).await, Client::http2(&proxy).await] {
        for over in [&first, &shorter, &longer] {
            let answer = with_header(&mut client, over).await;
            assert_eq!((answer.status, answer.header("cutover-error")), (403, Some("preview-over")));
            assert_eq!(client.get(&path_of(&over["link"])).await.status, 403, "the link is over as well");
        }
        assert_eq!(ask(&mut client, Some(&cookie)).await.backend(), Some("blue"), "so is the cookie");
        assert_eq!(with_header(&mut client, &second).await.backend(), Some("green"));
        let cookie = given(&client.get(&path_of(&second["link"])).await, "cutover-preview-shop").unwrap();
        assert_eq!(ask(&mut client, Some(&cookie)).await.backend(), Some("green"));
    }
}

#[tokio::test]
async fn after_a_restart_endpoints_see_no_more_of_an_invitation_than_before() {
    let (blue, _green, mut proxy) = shop(|s| s).await;
    let previewed = preview(&proxy, &[]).await;
    let link = path_of(&previewed["link"]);
    let cookie = given(&Client::http1(&proxy).await.get(&link).await, "cutover-preview-shop").unwrap();
    proxy.kill9().await;
    proxy.restart().await;
    for mut client in [Client::http1(&proxy).await, Client::http2(&proxy).await] {
        assert_eq!(ask(&mut client, Some(&format!("a=1; {cookie}"))).await.backend(), Some("blue"));
        assert_eq!(blue.last_head().header("cookie").as_deref(), Some("a=1"));
        let answer = client.get(&link).await;
        assert_eq!((answer.status, answer.header("cutover-error")), (403, Some("preview-over")));
    }
}

#[tokio::test]
async fn a_link_that_is_over_is_refused_while_the_color_has_a_share_of_the_clients() {
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", "canary = [{ weight = \"1%\", for = \"10m\" }]")).await;
    let over = preview(&proxy, &[]).await;
    proxy.run(&["preview", "green", "--end"]).await.assert_code(0);
    let wish = json!({ "to": "green", "timeout": "1ms" });
    assert_eq!(proxy.api("POST", "/v1/services/shop/switch", wish).await.0, 202);
    let shared = || async { proxy.service("shop").await["green"]["weight"] == 0.01 };
    assert!(eventually(PATIENCE, shared).await);
    let mut client = Client::http1(&proxy).await;
    assert_eq!(with_header(&mut client, &over).await.status, 403);
    let link = preview(&proxy, &[]).await;
    assert_eq!(with_header(&mut client, &link).await.backend(), Some("green"), "a cutover to green stands in no way");
}

#[tokio::test]
async fn of_proxies_with_one_key_each_knows_a_link_that_was_made_when_its_own_preview_was_open() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| checked(s).blue([&blue]).green([&green]);
    let one = Cutover::with().service("shop", service).start().await;
    let settings = Cutover::with().service("shop", service);
    std::fs::copy(one.state_dir().join("seal.key"), settings.state_dir().join("seal.key")).unwrap();
    let other = settings.start().await;
    until_up(&one).await;
    until_up(&other).await;
    let before = preview(&one, &[]).await;
    let link = preview(&other, &[]).await;
    for proxy in [&one, &other] {
        assert_eq!(with_header(&mut Client::http1(proxy).await, &link).await.backend(), Some("green"));
    }
    assert_eq!(with_header(&mut Client::http1(&other).await, &before).await.status, 403);
}

#[tokio::test]
async fn networks_in_the_config_need_no_link_while_a_preview_is_open() {
    let (_blue, _green, mut proxy) =
        shop(|s| s.extra("cutover", "preview.from = [\"127.0.0.0/8\", \"10.0.0.0/8\"]")).await;
    let mut client = Client::http1(&proxy).await;
    let mut seen = async |forwarded: Option<&str>| {
        let request =
            forwarded.into_iter().fold(Request::get("/"), |request, it| request.header("x-forwarded-for", it));
        client.send(bare(request)).await.backend().unwrap().to_owned()
    };
    assert_eq!(seen(None).await, "blue", "nothing is open yet");
    preview(&proxy, &[]).await;
    assert_eq!(seen(None).await, "green");
    assert_eq!(seen(Some("192.0.2.1")).await, "green", "a stranger's word on where he is counts for nothing");
    proxy
        .reload_with(|settings| settings.section("edge", "trusted_proxies = [\"127.0.0.1\", \"172.16.0.0/12\"]"))
        .await;
    let mut client = Client::http1(&proxy).await;
    for (forwarded, color) in [
        ("192.0.2.1", "blue"),
        ("10.1.2.3", "green"),
        ("10.1.2.3:4711, 172.16.0.9", "green"),
        ("10.1.2.3, 192.0.2.1", "blue"),
        ("192.0.2.1, 10.1.2.3, 172.16.0.9", "green"),
        ("10.1.2.3, nonsense", "blue"),
    ] {
        let answer = client.send(bare(Request::get("/").header("x-forwarded-for", forwarded))).await;
        assert_eq!(answer.backend(), Some(color), "{forwarded}");
    }
}

#[tokio::test]
async fn a_color_that_drains_or_is_about_to_is_opened_to_nobody() {
    let (blue, green, proxy) = shop(|s| s).await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    let live = json!({ "to": "green", "wait": "live" });
    assert_eq!(proxy.api("POST", "/v1/services/shop/switch", live).await.0, 200);
    let problem = refused(&proxy, json!({ "to": "blue" })).await;
    assert_eq!(problem["type"], "urn:cutover:problem:held");
    proxy.run(&["preview", "blue"]).await.assert_code(4);
    assert_eq!(proxy.service("shop").await["phase"], "drain");
    blue.release();
    slow.await.unwrap();
    let idle = || async { proxy.service("shop").await["phase"] == "idle" };
    assert!(eventually(PATIENCE, idle).await);
    assert_eq!(proxy.run(&["history", "--json"]).await.json()[0]["proof"]["requests_to_old_since"], 0);
    for (ask, status) in [
        (json!({ "to": "red" }), 400),
        (json!({ "to": "blue", "for": "2d" }), 400),
        (json!({ "to": "blue", "for": "25h" }), 400),
        (json!({ "to": "blue", "url": "shop.test" }), 400),
        (json!({ "to": "blue", "when": "now" }), 400),
    ] {
        let (found, problem) = proxy.api("POST", "/v1/services/shop/preview", ask).await;
        assert_eq!(found, status, "{problem}");
    }
    let (status, problem) = proxy.api_tcp("POST", "/v1/services/shop/preview", json!({ "to": "blue" }), None).await;
    assert_eq!(status, 401, "{problem}");
    drop(green);
}

#[tokio::test]
async fn what_is_previewed_is_inside_the_pool_and_a_switch_counts_it() {
    let (_blue, green, proxy) = shop(|s| s).await;
    let previewed = preview(&proxy, &["--for", "1h"]).await;
    let value = previewed["header"][1].as_str().unwrap().to_owned();
    let mut client = Client::http1(&proxy).await;
    let request = bare(Request::get("/slow").header("cutover-preview", value));
    let slow = tokio::spawn(async move { client.send(request).await });
    green.waiting(1).await;
    assert_eq!(proxy.service("shop").await["green"]["in_flight"], 1);
    proxy.run(&["preview", "green", "--end"]).await.assert_code(0);
    assert_eq!(proxy.service("shop").await["green"]["in_flight"], 1, "who is inside is left to finish");
    green.release();
    assert_eq!(slow.await.unwrap().backend(), Some("green"));
    let empty = || async { proxy.service("shop").await["green"]["in_flight"] == 0 };
    assert!(eventually(PATIENCE, empty).await);
}

#[tokio::test]
async fn a_tunnel_can_be_previewed() {
    let (_blue, _green, proxy) = shop(|s| s.extra("cutover", "preview.from = [\"127.0.0.1\"]")).await;
    let mut before = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    assert_eq!(before.hear().await.as_deref(), Some("blue"));
    preview(&proxy, &[]).await;
    let mut socket = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    assert_eq!(socket.hear().await.as_deref(), Some("green"));
    assert_eq!(proxy.service("shop").await["green"]["tunnels"], 1);
    before.say("still blue").await;
    assert_eq!(before.hear().await.as_deref(), Some("still blue"));
}

#[tokio::test]
async fn previews_that_come_and_go_under_load_lose_nothing_and_move_nobody_else() {
    let (_blue, green, proxy) = shop(|s| s).await;
    let crowds = [Crowd::of(16), Crowd::of(8).http2()].map(|crowd| crowd.start(&proxy));
    let mut client = Client::http1(&proxy).await;
    for round in 1..=10 {
        let (status, previewed) = proxy.api("POST", "/v1/services/shop/preview", json!({ "to": "green" })).await;
        assert_eq!((status, &previewed["endpoints_up"]), (200, &json!(1)), "{previewed}");
        assert_eq!(with_header(&mut client, &previewed).await.backend(), Some("green"));
        crowds[0].seen_more(30).await;
        let (status, ended) = proxy.api("POST", "/v1/services/shop/preview", json!({ "end": true })).await;
        assert_eq!((status, &ended["until"], &ended["link"]), (200, &Value::Null, &Value::Null), "{ended}");
        assert_eq!(with_header(&mut client, &previewed).await.status, 403);
        assert_eq!(green.requests(), round, "green is closed but to who is invited, and then to everybody");
    }
    for crowd in crowds {
        let tally = crowd.stop().await;
        tally.assert_nothing_lost();
        assert_eq!(tally.from("blue"), tally.requests);
    }
}

#[tokio::test]
async fn no_link_comes_back_with_a_later_preview_though_the_clock_be_set_back_while_the_proxy_is_down() {
    let (_blue, _green, mut proxy) = shop(|s| s).await;
    let old = preview(&proxy, &[]).await;
    let mut client = Client::http1(&proxy).await;
    assert_eq!(with_header(&mut client, &old).await.backend(), Some("green"));
    proxy.terminate().await;
    let journal = Journal::open(&proxy.state_dir(), &[]).unwrap();
    let mut opened: Opened = journal.last(&"shop".parse().unwrap()).expect("the opening is written down");
    // The clock that is set back by an hour is one that was an hour ahead.
    opened.at = opened.at.checked_add(Duration::from_secs(3600)).unwrap();
    journal.append(&opened).await.unwrap();
    drop(journal);
    proxy.restart().await;
    until_up(&proxy).await;
    let new = preview(&proxy, &[]).await;
    let written: i64 = new["header"][1].as_str().unwrap().split('.').nth(2).unwrap().parse().unwrap();
    assert!(written > opened.at.as_millisecond(), "{new}: what was written before {} is over", opened.at);
    let mut client = Client::http1(&proxy).await;
    assert_eq!(with_header(&mut client, &new).await.backend(), Some("green"));
    assert_eq!(with_header(&mut client, &old).await.status, 403);
}
