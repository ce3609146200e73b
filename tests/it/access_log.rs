//! The access log: a line for every request, whatever becomes of it; no request waits for it, no line goes unseen.

use std::fs::{self, File};
use std::io::Read;
use std::time::Instant;

use http::Request;
use http_body_util::BodyExt;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Address, Backend, Client, Crowd, Cutover, PATIENCE, Raw, Service, SmallDisk, WebSocket, body, eventually,
};

/// A proxy before `shop.test` that writes a log, with these lines in its section.
async fn shop(blue: impl Address, lines: &str) -> Cutover {
    start(|s| s.blue([blue]), lines).await
}

/// One whose patience with heads and bodies soon ends.
async fn impatient(blue: impl Address) -> Cutover {
    start(|s| s.blue([blue]).extra("timeouts", "head = \"200ms\"\nbody = \"300ms\""), "").await
}

async fn start(describe: impl FnOnce(Service) -> Service, lines: &str) -> Cutover {
    let service = |s: Service| describe(s.hosts(&["shop.test"]).health("/healthz"));
    // One worker, so that lines are in the order of the requests.
    Cutover::with().service("shop", service).access_log(lines).workers(1).start().await
}

/// What `line` says under these keys.
fn says<const N: usize>(line: &Value, keys: [&str; N]) -> [Value; N] {
    keys.map(|key| line.get(key).cloned().unwrap_or(Value::Null))
}

#[tokio::test]
async fn every_request_leaves_a_line_that_says_what_it_was_and_how_it_went() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, "").await;
    let request = |id: &str| {
        Request::post("/echo?q=1")
            .header("x-request-id", id)
            .header("referer", "https://a.test/")
            .header("user-agent", "teller/1")
            .body(body::full("12345"))
            .unwrap()
    };
    let mut clients = [Client::http1(&proxy).await, Client::http2(&proxy).await];
    let first = clients[0].send(request("first")).await.body.len();
    clients[1].send(request("second")).await;
    clients[0].get("/status/404").await;
    let lines = proxy.logged(3).await;
    assert_eq!(lines.len(), 3, "health checks are no requests: {lines:#?}");
    let line = |key: &str, value: &str| lines.iter().find(|line| line[key] == value).unwrap();
    for (id, protocol) in [("first", "HTTP/1.1"), ("second", "HTTP/2.0")] {
        let line = line("request_id", id);
        let asked = ["client", "method", "target", "protocol", "host", "referer", "user_agent"];
        let expected = ["127.0.0.1", "POST", "/echo?q=1", protocol, "shop.test", "https://a.test/", "teller/1"];
        assert_eq!(says(line, asked), expected.map(Value::from));
        let place = ["service", "color", "generation", "endpoint", "status", "bytes_in", "ended_by", "why"];
        let endpoint = blue.address().to_string();
        let expected = [json!("shop"), json!("blue"), json!(0), json!(endpoint), json!(200), json!(5)];
        assert_eq!(says(line, place)[..6], expected);
        assert_eq!(says(line, place)[6..], ["backend", "complete"]);
        let [total, connect, first_byte] =
            says(line, ["total_us", "connect_us", "first_byte_us"]).map(|us| us.as_u64());
        assert!(total >= first_byte && first_byte >= connect && total > Some(0), "{line}");
    }
    assert_eq!(line("request_id", "first")["bytes_out"], first);
    let other = line("target", "/status/404");
    assert_eq!(says(other, ["status", "bytes_out", "ended_by"]), [json!(404), json!(5), json!("backend")]);
    let id = blue.heads().iter().rev().find(|head| head.target == "/status/404").unwrap().header("x-request-id");
    assert_eq!(other["request_id"].as_str(), id.as_deref(), "the id that was made");
    assert_eq!(proxy.metrics().await.value("cutover_access_log_lines_total", &[]), 3.0);
}

#[tokio::test]
async fn a_switch_shows_in_the_lines_behind_it() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let service = |s: Service| s.blue([&blue]).green([&green]).health("/healthz");
    let proxy = Cutover::with().service("shop", service).access_log("").start().await;
    let mut client = Client::http1(&proxy).await;
    client.get("/before").await;
    proxy.run(&["switch", "green"]).await.assert_code(0);
    client.get("/after").await;
    let lines = proxy.logged(2).await;
    assert_eq!(says(&lines[0], ["target", "color", "generation"]), [json!("/before"), json!("blue"), json!(0)]);
    assert_eq!(says(&lines[1], ["target", "color", "generation"]), [json!("/after"), json!("green"), json!(1)]);
}

#[tokio::test]
async fn behind_a_trusted_proxy_a_line_says_whom_that_speaks_for() {
    let blue = Backend::start("blue").await;
    for (trusted, says) in [("[\"127.0.0.0/8\"]", json!("203.0.113.9")), ("[]", Value::Null)] {
        let proxy = shop(&blue, &format!("[edge]\ntrusted_proxies = {trusted}")).await;
        let request = Request::get("/").header("x-forwarded-for", "203.0.113.9").body(body::empty()).unwrap();
        Client::http1(&proxy).await.send(request).await;
        assert_eq!(proxy.logged(1).await[0]["forwarded_for"], says);
    }
}

#[tokio::test]
async fn refusals_have_lines_also_where_no_head_could_be_read() {
    let blue = Backend::start("blue").await;
    let proxy = impatient(&blue).await;
    Client::http1(&proxy).await.host("other.test").get("/").await;
    for bytes in ["GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "nonsense\r\n\r\n", "GET / HT"] {
        let mut raw = Raw::saying(&proxy, bytes).await;
        raw.answer().await;
    }
    let mut raw = Raw::connect(&proxy).await;
    raw.write("POST /slowly HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100\r\n\r\nbegin").await;
    raw.answer().await;
    let lines = proxy.logged(5).await;
    let all: Vec<_> = lines.iter().map(|line| says(line, ["status", "ended_by", "why", "method", "service"])).collect();
    let none = Value::Null;
    let refused = |status: u16, why: &str, method: &Value, service: &Value| {
        [json!(status), json!("proxy"), json!(why), method.clone(), service.clone()]
    };
    assert_eq!(
        all,
        [
            refused(404, "unknown-host", &json!("GET"), &none),
            refused(400, "bad-request", &json!("GET"), &none),
            refused(400, "bad-request", &none, &none),
            refused(408, "slow-head", &none, &none),
            refused(408, "slow-body", &json!("POST"), &json!("shop")),
        ]
    );
    // It was waited for outside of any pool.
    assert_eq!(says(&lines[4], ["bytes_in", "color"]), [json!(5), none]);
    assert!(lines.iter().all(|line| line["bytes_out"].as_u64() > Some(20)), "{lines:#?}");
}

#[tokio::test]
async fn who_ended_a_request_early_is_named() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, "").await;
    let get = |path: &str| Request::get(path).body(body::empty()).unwrap();
    let mut client = Client::http1(&proxy).await;
    tokio::select! {
        answer = client.open(get("/slow")) => panic!("{} answered", answer.status()),
        () = blue.waiting(1) => drop(client),
    }
    let mut client = Client::http1(&proxy).await;
    let mut events = client.open(get("/events")).await;
    let event = events.chunk().await.unwrap().len();
    drop((events, client));
    let _ = Client::http1(&proxy).await.try_send(get("/die-midway")).await;
    let impatient = impatient(&blue).await;
    let mut client = Client::http2(&impatient).await;
    let mut stuck = client.open(get("/chunks/2?gated")).await;
    while stuck.0.body_mut().frame().await.is_some_and(|frame| frame.is_ok()) {}
    let lines = [proxy.logged(3).await, impatient.logged(1).await].concat();
    let line = |path: &str| lines.iter().find(|line| line["target"] == path).unwrap();
    let how = ["status", "bytes_out", "ended_by", "why"];
    assert_eq!(says(line("/slow"), how), [json!(499), json!(0), json!("client"), json!("client-gone")]);
    assert_eq!(says(line("/events"), how), [json!(200), json!(event), json!("client"), json!("client-gone")]);
    assert_eq!(says(line("/chunks/2?gated"), how)[2..], ["proxy", "slow-answer"]);
    assert_eq!(says(line("/die-midway"), how), [json!(200), json!(4), json!("backend"), json!("backend-cut")]);
    for (proxy, why) in
        [(&proxy, "a client that leaves cuts its own answer"), (&impatient, "whoever is not waited for")]
    {
        let cut = proxy.metrics().await.value("cutover_answers_cut_total", &[("service", "shop"), ("color", "blue")]);
        assert_eq!(cut, 1.0, "{why}");
    }
}

#[tokio::test]
async fn a_backend_that_cannot_be_reached_is_named_all_the_same() {
    let blue = Backend::start("blue").await;
    let service = |s: Service| s.blue([&blue]).extra("health", "interval = \"1h\"");
    let proxy = Cutover::with().service("shop", service).access_log("").start().await;
    blue.stop_listening().await;
    assert_eq!(Client::http1(&proxy).await.get("/").await.status, 502);
    let line = &proxy.logged(1).await[0];
    let expected = [json!(blue.address().to_string()), json!(502), json!("proxy"), json!("connect-failed")];
    assert_eq!(says(line, ["endpoint", "status", "ended_by", "why"]), expected);
    assert!(line["connect_us"].as_u64() > Some(0) && line.get("first_byte_us").is_none(), "{line}");
}

#[tokio::test]
async fn a_tunnel_has_its_line_when_it_ends() {
    let mut blue = Backend::start("blue").await;
    let proxy = shop(&blue, "").await;
    for path in ["/ws?client", "/ws?backend"] {
        let mut socket = WebSocket::connect(&proxy, "shop.test", path).await;
        assert_eq!(socket.hear().await.as_deref(), Some("blue"));
        socket.say("hello").await;
        assert_eq!(socket.hear().await.as_deref(), Some("hello"));
        let upgraded = || async { proxy.metrics().await.value("cutover_requests_total", &[("code", "1xx")]) };
        let expected = 1.0 + f64::from(path.ends_with("backend"));
        assert!(eventually(PATIENCE, || async { upgraded().await == expected }).await, "{}", upgraded().await);
        match path {
            "/ws?client" => drop(socket),
            _ => {
                blue.kill();
                assert_eq!(socket.hear().await, None);
            }
        }
    }
    let lines = proxy.logged(2).await;
    for (line, by) in lines.iter().zip(["client", "backend"]) {
        assert_eq!(
            says(line, ["target", "status", "ended_by", "why"]),
            [format!("/ws?{by}").into(), json!(101), json!(by), json!("tunnel-closed")]
        );
        // A frame has two bytes before its text, and four more from a client.
        assert_eq!(says(line, ["bytes_in", "bytes_out"]), [json!(5 + 6), json!(4 + 2 + 5 + 2)], "{line}");
    }
}

#[tokio::test]
async fn a_tunnel_that_a_drain_has_cut_says_so() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let drain = "drain = { requests = \"1s\", tunnels = \"50ms\" }";
    let service = |s: Service| s.blue([&blue]).green([&green]).health("/healthz").extra("cutover", drain);
    let proxy = Cutover::with().service("shop", service).access_log("").start().await;
    let mut socket = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    socket.hear().await;
    proxy.run(&["switch", "green"]).await;
    assert_eq!(socket.hear().await, None);
    assert_eq!(says(&proxy.logged(1).await[0], ["color", "ended_by", "why"]), ["blue", "proxy", "tunnel-cut"]);
}

#[tokio::test]
async fn hostile_bytes_stay_inside_their_line() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, "").await;
    let mut raw = Raw::connect(&proxy).await;
    let hostile: Vec<u8> = (b'\t'..=255).filter(|byte| !matches!(byte, b'\n'..b' ' | 0x7f)).collect();
    let mut request =
        b"GET /\"\\%0a\xc3\xa9 HTTP/1.1\r\nHost: shop.test\r\nX-Request-Id: a\"b\r\nUser-Agent: ".to_vec();
    request.extend(&hostile);
    request.extend(b"\r\nReferer: ");
    request.extend([b'x'; 20_000]);
    request.extend(b"\r\n\r\n");
    raw.write(request).await;
    raw.answer().await;
    let line = &proxy.logged(1).await[0];
    assert_eq!(line["user_agent"], String::from_utf8_lossy(&hostile).trim());
    let referer = line["referer"].as_str().unwrap();
    assert!(referer.len() < 2000 && referer.ends_with("..."), "{referer}");
    assert!(fs::read(proxy.log_file()).unwrap().is_ascii());
}

#[tokio::test]
async fn the_combined_format_is_the_one_tools_know() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, "format = \"combined\"").await;
    let request = Request::get("/a?b").header("referer", "https://a.test/").header("user-agent", "a \"quoted\" one");
    Client::http1(&proxy).await.send(request.body(body::empty()).unwrap()).await;
    let mut raw = Raw::saying(&proxy, "nonsense\r\n\r\n").await;
    raw.answer().await;
    let text = || fs::read_to_string(proxy.log_file()).unwrap();
    assert!(eventually(PATIENCE, || async { text().matches('\n').count() == 2 }).await, "{}", text());
    let text = text();
    let (first, second) = text.split_once('\n').unwrap();
    assert!(first.starts_with("127.0.0.1 - - [") && first.contains(" +0000] "), "{first}");
    assert!(first.ends_with(r#"] "GET /a?b HTTP/1.1" 200 5 "https://a.test/" "a \x22quoted\x22 one""#), "{first}");
    assert!(second.starts_with("127.0.0.1 - - [") && second.contains("] \"-\" 400 "), "{second}");
}

#[tokio::test]
async fn lines_may_go_to_stdout() {
    let blue = Backend::start("blue").await;
    let mut proxy = shop(&blue, "file = \"-\"").await;
    Client::http1(&proxy).await.get("/").await;
    proxy.signal(Signal::USR1);
    Client::http1(&proxy).await.get("/").await;
    let ran = proxy.terminate().await.assert_code(0);
    assert_eq!(whole_lines(ran.stdout.as_bytes()), 2);
}

#[tokio::test]
async fn the_trace_a_client_began_goes_on_unchanged() {
    let blue = Backend::start("blue").await;
    let proxy = shop(&blue, "").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for mut client in [Client::http1(&proxy).await, Client::http2(&proxy).await] {
        let request = Request::get("/").header("traceparent", trace).header("tracestate", "a=1,b=2");
        client.send(request.header("tracestate", "c=3").body(body::empty()).unwrap()).await;
        let head = blue.last_head();
        assert_eq!(head.header("traceparent").as_deref(), Some(trace));
        assert_eq!(head.header("tracestate").as_deref(), Some("a=1,b=2, c=3"));
    }
    assert!(proxy.logged(2).await.iter().all(|line| line["traceparent"] == trace));
}

#[tokio::test]
async fn no_line_is_lost_around_a_rename() {
    let blue = Backend::start("blue").await;
    let mut proxy = shop(&blue, "").await;
    let crowd = Crowd::of(16).start(&proxy);
    let mut files = vec![proxy.log_file()];
    for round in 0..5 {
        crowd.seen_more(300).await;
        let old = proxy.log_file().with_extension(format!("{round}"));
        fs::rename(proxy.log_file(), &old).unwrap();
        files.push(old);
        proxy.signal(Signal::USR1);
        let anew = || async { proxy.log_file().exists() };
        assert!(eventually(PATIENCE, anew).await, "the file is not opened anew");
    }
    let tally = crowd.stop().await;
    tally.assert_nothing_lost();
    assert_eq!(proxy.terminate().await.code, 0);
    let lines: Vec<usize> = files.iter().map(|file| whole_lines(&fs::read(file).unwrap())).collect();
    assert_eq!(lines.iter().sum::<usize>(), tally.requests, "{lines:?}");
    assert!(lines.iter().filter(|lines| **lines > 0).count() >= 5, "{lines:?}");
}

#[tokio::test]
async fn asked_to_end_it_writes_every_line_first() {
    let blue = Backend::start("blue").await;
    let mut proxy = shop(&blue, "").await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    blue.waiting(1).await;
    let mut client = Client::http1(&proxy).await;
    for _ in 0..50 {
        client.get("/").await;
    }
    proxy.ask_to_end();
    blue.release();
    assert_eq!(slow.await.unwrap().status, 200);
    assert_eq!(proxy.ended().await.code, 0);
    assert_eq!(whole_lines(&fs::read(proxy.log_file()).unwrap()), 51);
    // A second signal hurries: what is still under way then has its line too.
    proxy.restart().await;
    let mut slow = Client::http1(&proxy).await;
    let slow = tokio::spawn(async move { slow.try_send(Request::get("/slow").body(body::empty()).unwrap()).await });
    blue.waiting(1).await;
    let mut tunnel = WebSocket::connect(&proxy, "shop.test", "/ws").await;
    tunnel.hear().await;
    proxy.ask_to_end();
    let leaving = || async { proxy.stderr().contains("again to end now") };
    assert!(eventually(PATIENCE, leaving).await);
    proxy.ask_to_end();
    assert_eq!(proxy.ended().await.code, 0);
    assert!(slow.await.unwrap().is_err());
    for line in &proxy.logged(53).await[51..] {
        assert_eq!(says(line, ["ended_by", "why"]), ["proxy", "stopped"], "{line}");
    }
}

#[tokio::test]
async fn a_pipe_nobody_reads_holds_up_no_request_and_what_is_dropped_is_counted() {
    let blue = Backend::start("blue").await;
    let service = |s: Service| s.blue([&blue]).health("/healthz");
    let settings = Cutover::with().service("shop", service).access_log("buffer = \"256KiB\"");
    mknodat(CWD, settings.log_file(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let begun = Instant::now();
    let mut proxy = settings.start().await;
    // Lines of a good size, so that the pipe and every buffer behind it are soon full.
    let crowd = Crowd::of(16).path(&format!("/{}", "x".repeat(1500))).start(&proxy);
    let dropped = || async { counted(&proxy, "behind").await > 100.0 };
    assert!(eventually(PATIENCE, dropped).await, "nothing is dropped");
    crowd.seen_more(500).await;
    let told = || async { proxy.stderr().contains("lines are dropped") };
    assert!(eventually(PATIENCE, told).await, "nobody is told");
    let times = proxy.stderr().matches("lines are dropped").count() as u64;
    assert!(times <= 1 + begun.elapsed().as_secs() / 5, "each five seconds at the most, not {times} times");

    let mut pipe = File::open(proxy.log_file()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut read = Vec::new();
        pipe.read_to_end(&mut read).unwrap();
        read
    });
    let begun = proxy.metrics().await.value("cutover_access_log_lines_total", &[]);
    let goes_on = || async { proxy.metrics().await.value("cutover_access_log_lines_total", &[]) > begun + 500.0 };
    assert!(eventually(PATIENCE, goes_on).await, "with a reader it goes on");
    let tally = crowd.stop().await;
    tally.assert_nothing_lost();
    let dropped = counted(&proxy, "behind").await;
    assert_eq!(proxy.terminate().await.code, 0);
    assert_eq!(whole_lines(&reader.join().unwrap()), tally.requests - dropped as usize);
}

#[tokio::test]
async fn a_full_disk_tears_no_line() {
    let blue = Backend::start("blue").await;
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::at(folder.path()) else { return };
    let (file, filler) = (folder.path().join("access.log"), folder.path().join("filler"));
    fs::write(&filler, [0; 24 << 10]).unwrap();
    let mut proxy = shop(&blue, &format!("buffer = \"256KiB\"\nfile = {file:?}")).await;
    let until_full = async |lines: f64| {
        let crowd = Crowd::of(16).path(&format!("/{}", "x".repeat(1500))).start(&proxy);
        let failed = || async { counted(&proxy, "failed").await > lines };
        assert!(eventually(PATIENCE, failed).await, "nothing is dropped");
        let tally = crowd.stop().await;
        tally.assert_nothing_lost();
        tally.requests
    };
    let mut requests = until_full(100.0).await;
    assert!(proxy.stderr().contains("No space left"), "{}", proxy.stderr());
    let written = fs::metadata(&file).unwrap().len();
    // With room again, the half of a line at the end of the file is finished there.
    fs::remove_file(&filler).unwrap();
    assert!(eventually(PATIENCE, || async { fs::metadata(&file).unwrap().len() > written }).await);
    requests += until_full(counted(&proxy, "failed").await + 100.0).await;
    // And where the file is another one from here on, the old one does not end with half a line.
    fs::rename(&file, file.with_extension("1")).unwrap();
    std::os::unix::fs::symlink(proxy.log_file(), &file).unwrap();
    proxy.signal(Signal::USR1);
    assert!(eventually(PATIENCE, || async { proxy.log_file().exists() }).await);
    let dropped = counted(&proxy, "failed").await + counted(&proxy, "behind").await;
    assert_eq!(proxy.terminate().await.code, 0);
    let [old, new] = [file.with_extension("1"), file].map(|file| whole_lines(&fs::read(file).unwrap()));
    assert!(old > 0 && new > 0);
    assert_eq!(old + new, requests - dropped as usize);
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_stops_the_start() {
    let blue = Backend::start("blue").await;
    let mut proxy = shop(&blue, "").await;
    proxy.terminate().await;
    fs::remove_file(proxy.log_file()).unwrap();
    fs::create_dir(proxy.log_file()).unwrap();
    let ran = proxy.restart_in_vain().await.assert_code(1);
    assert!(ran.stderr.contains("access.log cannot be opened") && ran.stderr.contains("[access_log]"), "{ran:#?}");
}

/// Lines dropped for this reason.
async fn counted(proxy: &Cutover, reason: &str) -> f64 {
    proxy.metrics().await.value("cutover_access_log_dropped_total", &[("reason", reason)])
}

/// How many lines there are, each of them whole.
fn whole_lines(text: &[u8]) -> usize {
    assert!(text.is_empty() || text.ends_with(b"\n"), "half a line at the end");
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    for line in &lines {
        if let Err(error) = serde_json::from_slice::<Value>(line) {
            panic!("{error} in {}", line.escape_ascii());
        }
    }
    lines.len()
}
