//! Requests that could be read in two ways: none reaches a backend, and nothing behind one is taken for another request.

use std::io::Read;
use std::sync::{Arc, Mutex};

use super::held;
use crate::harness::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, field, head};
use crate::harness::{Backend, Client, PATIENCE, Raw, RawBackend, Service, body, eventually};

#[tokio::test]
async fn what_is_ambiguous_reaches_no_backend_and_hides_no_other_request() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    for fields in FRAMING {
        let request = format!("POST / HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n0\r\n\r\n{HIDDEN}");
        refused(Raw::connect(&proxy).await, &request).await;
    }
    for chunks in CHUNKS {
        let head = "POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        refused(Raw::connect(&proxy).await, &format!("{head}{chunks}{HIDDEN}")).await;
    }
    for host in HOSTS {
        refused(Raw::connect(&proxy).await, &format!("GET / HTTP/1.1\r\n{host}\r\n{HIDDEN}")).await;
    }
    for line in LINES {
        refused(Raw::connect(&proxy).await, &format!("{line}\r\nHost: shop.test\r\n\r\n{HIDDEN}")).await;
    }
    assert_eq!(blue.requests(), 0, "{:?}", blue.heads());
    assert_eq!(Client::http1(&proxy).await.get("/").await.status, 200);
}

/// One answer at most, a refusal, and then the end.
async fn refused(mut raw: Raw, request: &str) {
    raw.write(request).await;
    let answer = raw.until_closed().await;
    let text = String::from_utf8_lossy(&answer);
    let is_refusal = text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 501") || text.is_empty();
    assert!(is_refusal && text.matches("HTTP/1.1 ").count() <= 1, "{request:?}: {text}");
}

#[tokio::test]
async fn a_body_cut_short_is_never_whole_for_the_backend() {
    let came: Arc<Mutex<Vec<u8>>> = Arc::default();
    let heard = came.clone();
    let blue = RawBackend::start(move |head, socket| {
        let (mut all, mut piece) = (head.as_bytes().to_vec(), [0; 65536]);
        while let Ok(read @ 1..) = socket.read(&mut piece) {
            all.extend_from_slice(&piece[..read]);
        }
        *heard.lock().unwrap() = all;
    });
    let proxy = held(&blue, "", "", "").start().await;
    let body = "x".repeat(200_000);
    for (fields, body) in [
        ("Content-Length: 200001", body.clone()),
        ("Transfer-Encoding: chunked", format!("30d40\r\n{body}\r\n")),
        ("Transfer-Encoding: chunked", format!("30d40\r\n{body}\r\n0\r\n")),
        ("Transfer-Encoding: chunked", format!("30d40\r\n{body}\r\nno size\r\n")),
    ] {
        let mut raw = Raw::connect(&proxy).await;
        raw.write(format!("POST /x HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n\r\n{body}")).await;
        drop(raw);
        assert!(eventually(PATIENCE, || async { came.lock().unwrap().len() > 100_000 }).await, "{fields}");
        let all = std::mem::take(&mut *came.lock().unwrap());
        let body = all.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |head| all.len() - head - 4);
        let is_whole = if fields.starts_with('C') { body > 200_000 } else { all.ends_with(b"0\r\n\r\n") };
        assert!(!is_whole, "{fields}: {body} bytes");
    }
}

#[tokio::test]
async fn an_http2_request_that_breaks_its_word_reaches_no_backend() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let post = |length| [head("POST", "/echo"), field("content-length", length)].concat();
    for (length, data) in [("3", "abcd"), ("5", "abcd"), ("0", "abcd"), ("+4", "abcd"), ("4, 4", "abcd")] {
        let mut client = Frames::connect(&proxy).await;
        client.send(HEADERS, END_HEADERS, 1, &post(length)).await;
        client.send(DATA, END_STREAM, 1, data.as_bytes()).await;
        assert_ended(&mut client, length).await;
    }
    for (name, value) in [
        ("host", "a b"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("x", "a\r\nb: c"),
        ("x y", "1"),
        ("X", "1"),
        (":path", "/other"),
        (":authority", "u@shop.test"),
        ("x\"", "1"),
        ("x", " 1"),
        ("x", "1\t"),
    ] {
        let mut client = Frames::connect(&proxy).await;
        let head = [head("GET", "/"), field(name, value)].concat();
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
        assert_ended(&mut client, name).await;
    }
    for (method, path) in [("GET", "?x"), ("GET", "x"), ("GET", "*"), ("GET", ""), ("CONNECT", "/"), ("GET /", "/")] {
        let mut client = Frames::connect(&proxy).await;
        client.request(1, method, path, END_STREAM).await;
        assert_ended(&mut client, path).await;
    }
    let mut client = Frames::greeting(&proxy).await;
    client.request(1, "GET", "/", END_STREAM).await;
    client.until_closed().await;
    assert_eq!(blue.requests(), 0, "{:?}", blue.heads());
}

/// The stream was reset, or refused with a status that no backend has given, or the connection ended.
async fn assert_ended(client: &mut Frames, what: &str) {
    let end = client.until(|frame| frame.stream == 1 && matches!(frame.kind, HEADERS | RST_STREAM)).await;
    // 0x88 is status 200 (RFC 7541, appendix A).
    assert!(end.is_none_or(|end| end.kind == RST_STREAM || end.payload[0] != 0x88), "{what}");
}

#[tokio::test]
async fn interim_answers_without_end_are_none() {
    use std::io::Write;
    let blue = RawBackend::start(|head, socket| match head.contains("/flood") {
        true => while socket.write_all(&b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(1000)).is_ok() {},
        false => drop(socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
    });
    let calm = |s: Service| s.hosts(&["calm.test"]).blue([&blue]);
    let proxy = held(&blue, "", "", "first_byte = \"1s\"").service("calm", calm).start().await;
    let mut flooded = Client::http1(&proxy).await;
    let flood = flooded.get("/flood");
    let others = async {
        for _ in 0..20 {
            let answer = Client::http1(&proxy).await.host("calm.test").get("/").await;
            assert_eq!(answer.status, 200, "beside the flood");
        }
    };
    let (answer, ()) = tokio::join!(flood, others);
    assert_eq!((answer.status, answer.header("cutover-error")), (504, Some("first-byte-timeout")));
}

#[tokio::test]
async fn what_is_taken_for_trailers_hides_no_other_request() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    // A reader to whom a lone LF ends a line sees two requests in the first two, and may have them of two clients.
    for trailers in ["\n", "X-Sum: 1\n\r\n", "X-Sum: 1\r\n\r\n"] {
        let mut raw = Raw::connect(&proxy).await;
        let head = "POST /echo HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw.write(format!("{head}1\r\na\r\n0\r\n{trailers}{HIDDEN}{HIDDEN}")).await;
        let answer = raw.answer().await;
        assert!(answer.status != 200 || answer.head.contains("connection: close\r\n"), "{trailers:?}: {}", answer.head);
        assert_eq!(raw.until_closed().await, b"", "{trailers:?}");
    }
    assert!(blue.heads().iter().all(|head| head.target != "/hidden"), "{:?}", blue.heads());
}

#[tokio::test]
async fn pseudo_header_fields_among_trailers_reach_no_backend() {
    let came: Arc<Mutex<String>> = Arc::default();
    let heard = came.clone();
    let blue = RawBackend::start(move |head, socket| {
        use std::io::Write;
        let (mut all, mut piece) = (head.to_owned(), [0; 4096]);
        while !all.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n") {
            match socket.read(&mut piece) {
                Ok(read @ 1..) => all.push_str(&String::from_utf8_lossy(&piece[..read])),
                _ => break,
            }
        }
        *heard.lock().unwrap() = all;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = held(&blue, "", "", "").start().await;
    let mut client = Frames::connect(&proxy).await;
    client.request(1, "POST", "/first", 0).await;
    client.send(DATA, 0, 1, b"a body").await;
    let trailers = [field(":path", "/second"), field(":method", "GET"), field("x-sum", "1")].concat();
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &trailers).await;
    let answer = client.until(|frame| frame.stream == 1 && matches!(frame.kind, HEADERS | RST_STREAM)).await;
    let answer = answer.expect("an answer");
    let all = came.lock().unwrap().clone();
    assert!(answer.kind == RST_STREAM || all.starts_with("POST /first ") && all.contains("a body"), "{all}");
    assert!(!all.contains("second") && !all.contains("GET"), "{all}");
}

#[tokio::test]
async fn a_backend_cannot_speak_for_the_proxy() {
    let (lie, trailer) = ("Cutover-Error: no-color\r\n", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n");
    let blue = RawBackend::answering(format!("HTTP/1.1 200 OK\r\n{lie}{trailer}\r\n0\r\n{lie}X-Sum: 1\r\n\r\n"));
    let proxy = held(&blue, "", "", "").start().await;
    let ask = http::Request::get("/").header("te", "trailers").body(body::empty()).unwrap();
    let answer = Client::http1(&proxy).await.send(ask).await;
    assert_eq!((answer.status, answer.refusal(), answer.trailers.get("cutover-error")), (200, None, None));
    assert_eq!(answer.trailers["x-sum"], "1");
}

#[tokio::test]
async fn an_answer_that_can_have_no_body_says_nothing_of_one() {
    let blue = RawBackend::start(|_, socket| {
        use std::io::Write;
        let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n");
    });
    let proxy = held(&blue, "", "", "").start().await;
    for method in ["GET", "HEAD"] {
        let mut raw = Raw::saying(&proxy, format!("{method} / HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 204") && !head.contains("content-length"), "{method}: {head}");
    }
}

#[tokio::test]
async fn a_target_with_a_blank_is_answered_and_another_protocol_is_not() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    for (line, answer) in [
        ("GET /a b HTTP/1.1\r\nHost: shop.test\r\n\r\n", "HTTP/1.1 400"),
        ("GET  /a HTTP/1.1\r\nHost: shop.test\r\n\r\n", "HTTP/1.1 400"),
        ("EHLO mail test\r\n", ""),
        ("SSH 2.0 hello there\r\n", ""),
    ] {
        let mut raw = Raw::saying(&proxy, line).await;
        let text = raw.until_closed().await;
        assert!(text.starts_with(answer.as_bytes()) && text.is_empty() == answer.is_empty(), "{line:?}: {text:?}");
    }
}

#[tokio::test]
async fn a_head_in_many_pieces_has_an_end() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let mut client = Frames::connect(&proxy).await;
    client.send(HEADERS, END_STREAM, 1, &head("GET", "/")).await;
    let piece = field("x", &"a".repeat(100)).repeat(100);
    while client.send(CONTINUATION, 0, 1, &piece).await {}
    client.until_closed().await;
    assert_eq!(blue.requests(), 0);
}

#[tokio::test]
async fn bytes_behind_an_answer_reach_nobody() {
    use std::io::Write;
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let blue = RawBackend::start(move |head, socket| {
        let answer = match head.split(' ').nth(1) {
            Some("/length") => format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{evil}"),
            Some("/chunks") => {
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n{evil}")
            }
            Some("/none") => format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"),
            Some("/same") => format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 40\r\n\r\n{evil}"),
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood".to_owned(),
        };
        let _ = socket.write_all(answer.as_bytes());
    });
    let proxy = held(&blue, "", "", "").start().await;
    for path in ["/length", "/chunks", "/none", "/same"] {
        for _ in 0..10 {
            let mut attacker = Client::http1(&proxy).await;
            assert_ne!(attacker.get(path).await.text(), "evil");
            assert_eq!(Client::http1(&proxy).await.get("/").await.text(), "good", "{path}");
        }
    }
}

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: shop.test\r\n\r\n";

const FRAMING: [&str; 33] = [
    "Content-Length: 3\r\nContent-Length: 4\r\n",
    "Content-Length: 3, 4\r\n",
    "Content-Length: +3\r\n",
    "Content-Length: -3\r\n",
    "Content-Length: 0x3\r\n",
    "Content-Length:\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Content-Length : 3\r\n",
    "Content-Length: 3\0\r\n",
    "Content-Length:\r\n 3\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
    "X: a\rTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding: chunked\x0b\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding:: chunked\r\n",
    "Content-Length: 3;\r\n",
    "Content-Length: 3.0\r\n",
    "Content-Length: 1_0\r\n",
    "Content-Length: \"3\"\r\n",
    "Content-Length: 3\r\r\n",
];

const CHUNKS: [&str; 23] = [
    "-1\r\na\r\n0\r\n\r\n",
    "+1\r\na\r\n0\r\n\r\n",
    "0x1\r\na\r\n0\r\n\r\n",
    "\r\na\r\n0\r\n\r\n",
    "10000000000000001\r\na\r\n0\r\n\r\n",
    "1\na\r\n0\r\n\r\n",
    "1\r\na\n0\r\n\r\n",
    "1\r\nab\r\n0\r\n\r\n",
    "1;a\nb\r\na\r\n0\r\n\r\n",
    "1 1\r\na\r\n0\r\n\r\n",
    "1\r\na\r\n0\n\r\n",
    "1\r\na\r\n0\r\nX : a\r\n\r\n",
    "1\r\na\r\n0\r\nX: a\r\n b\r\n\r\n",
    "0_1\r\na\r\n0\r\n\r\n",
    " 1\r\na\r\n0\r\n\r\n",
    ";\r\na\r\n0\r\n\r\n",
    "1\rX\na\r\n0\r\n\r\n",
    "1;a\rb\r\na\r\n0\r\n\r\n",
    "1\r\na\rX0\r\n\r\n",
    "1\r\naXX0\r\n\r\n",
    "1\r\na\r\n0\r\n X: a\r\n\r\n",
    "1\r\na\r\n0\r\nno field\r\n\r\n",
    "1\r\na\r\n0\r\nX: \0\r\n\r\n",
];

const HOSTS: [&str; 14] = [
    "",
    "Host: shop.test\r\nHost: shop.test\r\n",
    "Host: shop.test, other.test\r\n",
    "Host: shop.test other.test\r\n",
    "Host: user@shop.test\r\n",
    "Host: shop.test/x\r\n",
    "Host: shop.test:x\r\n",
    "Host: shop.test:65536\r\n",
    "Host: shop.test:80@other.test\r\n",
    "Host: []\r\n",
    "Host: [::1\r\n",
    "Host: shop%2etest\r\n",
    "Host : shop.test\r\n",
    "Host:\r\n shop.test\r\n",
];

const LINES: [&str; 21] = [
    "GET /",
    "GET / HTTP/1.2",
    "GET / HTTP/2.0",
    "GET  / HTTP/1.1",
    "GET\t/\tHTTP/1.1",
    "GET /a b HTTP/1.1",
    "GET /\0 HTTP/1.1",
    "GET x HTTP/1.1",
    "GET x/y HTTP/1.1",
    "GET * HTTP/1.1",
    "GET shop.test:80 HTTP/1.1",
    "GET ftp://shop.test/ HTTP/1.1",
    "GET http://user@shop.test/ HTTP/1.1",
    "GET http:///x HTTP/1.1",
    "CONNECT shop.test:80 HTTP/1.1",
    "TRACE / HTTP/1.1",
    "PRI * HTTP/2.0",
    "PRI * HTTP/1.1",
    "G(T / HTTP/1.1",
    "GET / HTTP/1.1 ",
    "INVALID CONNECTION PREFACE",
];
