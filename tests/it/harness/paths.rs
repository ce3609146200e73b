//! What a backend answers, path by path.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::backend::{Head, Health, Shared};
use super::body::{self, Body};
use super::connection::Connection;

type Answer = io::Result<Response<Body>>;

/// The first segment of the path chooses, the second is a number where one is needed.
pub async fn answer(connection: &Arc<Connection>, request: Request<Incoming>) -> Answer {
    let shared = &connection.shared;
    let path = request.uri().path().to_owned();
    let mut segments = path.split('/').skip(1);
    let (first, number) = (segments.next().unwrap_or_default(), segments.next().and_then(|n| n.parse().ok()));
    if first == "healthz" {
        return health(connection).await;
    }
    connection.carries();
    let count = shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
    shared.remember(head(&request));
    match (first, number) {
        ("", _) => Ok(as_told(shared, count).await),
        ("echo", _) => echo(shared, request).await,
        ("status", Some(code)) => Ok(with(code as u16, text(shared))),
        ("slow", _) => slow(shared).await,
        ("slow-on", _) if path.ends_with(&shared.name) => slow(shared).await,
        ("odd-on", _) if path.ends_with(&shared.name) => Ok(with(500, text(shared))),
        ("cookie", _) => Ok(cookie(shared)),
        ("chunks", Some(n)) => Ok(chunks(shared, n, request.uri().query() == Some("gated"))),
        ("bytes", Some(n)) => Ok(bytes(shared, n)),
        ("sink", _) => sink(shared, request).await,
        ("trailers", _) => trailers().await,
        ("die-midway", _) => Ok(die_midway(connection)),
        ("early", _) => Ok(early(connection, request)),
        ("events", _) => Ok(events(shared)),
        ("ws", _) => Ok(websocket(connection, request)),
        ("1xx", _) => Ok(early_hints(connection).await),
        ("close", _) => Ok(field(text(shared), header::CONNECTION, "close")),
        ("nobody", _) => Ok(with(204, Response::new(body::empty()))),
        ("notmodified", _) => Ok(field(with(304, Response::new(body::empty())), header::ETAG, "\"v1\"")),
        ("private", _) => Ok(private(shared)),
        _ => Ok(text(shared)),
    }
}

/// `/healthz`: as the story ordered last.
async fn health(connection: &Connection) -> Answer {
    connection.shared.checks.fetch_add(1, Ordering::Relaxed);
    let now = *connection.shared.health.borrow();
    match now {
        Health::Passing => {
            let stack = connection.shared.stack.lock().unwrap().clone();
            let answer = text(&connection.shared);
            Ok(stack.map_or(text(&connection.shared), |stack| field(answer, "x-stack".parse().unwrap(), &stack)))
        }
        Health::Failing(code) => Ok(with(code, text(&connection.shared))),
        Health::Hanging => std::future::pending().await,
        Health::Refusing => {
            connection.reset_when_closed();
            Err(io::Error::other("refused on purpose"))
        }
    }
}

/// `/`: as slow as the story wants it, and as often an error.
async fn as_told(shared: &Shared, count: usize) -> Response<Body> {
    let (takes, fail_each) = (shared.takes.load(Ordering::Relaxed), shared.fail_each.load(Ordering::Relaxed));
    if takes > 0 {
        tokio::time::sleep(Duration::from_millis(takes)).await;
    }
    if fail_each > 0 && count.is_multiple_of(fail_each) { with(500, text(shared)) } else { text(shared) }
}

/// `/echo`: what arrived, as JSON.
async fn echo(shared: &Shared, request: Request<Incoming>) -> Answer {
    let head = head(&request);
    let collected = request.into_body().collect().await.map_err(io::Error::other)?;
    let trailers = collected.trailers().map(fields).unwrap_or_default();
    let bytes = collected.to_bytes();
    json_answer(&json!({
        "backend": shared.name,
        "method": head.method,
        "target": head.target,
        "version": head.version,
        "headers": head.headers,
        "length": bytes.len(),
        "body": String::from_utf8_lossy(&bytes),
        "trailers": trailers,
    }))
}

/// `/slow`: answers when released.
async fn slow(shared: &Shared) -> Answer {
    shared.gate.wait().await;
    Ok(text(shared))
}

/// `/cookie`: sets one, and lets everyone keep the answer.
fn cookie(shared: &Shared) -> Response<Body> {
    let answer = field(text(shared), header::SET_COOKIE, "session=1; Path=/");
    field(answer, header::CACHE_CONTROL, "public, max-age=60")
}

/// `/chunks/N`: one chunk after the other; `/chunks/N?gated`: each when released.
fn chunks(shared: &Arc<Shared>, n: u64, gated: bool) -> Response<Body> {
    let pieces = stream::unfold((shared.clone(), 0), move |(shared, i)| async move {
        if i == n {
            return None;
        }
        if gated {
            shared.gate.wait().await;
        }
        Some((Ok(Frame::data(Bytes::from(format!("chunk {i}\n")))), (shared, i + 1)))
    });
    Response::new(body::streamed(pieces))
}

/// `/bytes/N`: N zeros with a `Content-Length`, made as they are taken.
fn bytes(shared: &Arc<Shared>, n: u64) -> Response<Body> {
    let counter = shared.clone();
    let zeros = body::zeros(n, move |size| {
        counter.bytes_sent.fetch_add(size, Ordering::Relaxed);
    });
    field(Response::new(zeros), header::CONTENT_LENGTH, &n.to_string())
}

/// `/sink`: reads nothing until released, then everything, and tells how much it was.
async fn sink(shared: &Shared, request: Request<Incoming>) -> Answer {
    shared.gate.wait().await;
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.map_err(io::Error::other)?.data_ref().map_or(0, Bytes::len);
    }
    json_answer(&json!({ "length": length }))
}

/// `/trailers`: a chunked answer with one trailer; hyper sends it only to who says `TE: trailers`.
async fn trailers() -> Answer {
    let (feed, body) = body::fed();
    tokio::spawn(async move {
        feed.send("body").await;
        feed.trailers(&[("x-sum", "4")]).await;
    });
    Ok(field(Response::new(body), header::TRAILER, "x-sum"))
}

/// `/die-midway`: promises 1,000 bytes, sends 4, resets the connection.
fn die_midway(connection: &Arc<Connection>) -> Response<Body> {
    let connection = connection.clone();
    let (feed, body) = body::fed();
    tokio::spawn(async move {
        feed.send("half").await;
        feed.taken().await;
        connection.reset_when_closed();
        drop(connection);
        feed.fail().await;
    });
    field(Response::new(body), header::CONTENT_LENGTH, "1000")
}

/// `/early`: refuses at once; the body is never asked for.
fn early(connection: &Connection, request: Request<Incoming>) -> Response<Body> {
    connection.drain_at_end();
    drop(request);
    with(413, text(&connection.shared))
}

/// `/events`: one event at once, one more when released, then the end.
fn events(shared: &Arc<Shared>) -> Response<Body> {
    let shared = shared.clone();
    let (feed, body) = body::fed();
    tokio::spawn(async move {
        feed.send(format!("data: {}\n\n", shared.name)).await;
        tokio::select! {
            () = shared.gate.wait() => { feed.send("data: released\n\n").await; }
            () = feed.closed() => {}
        }
    });
    field(Response::new(body), header::CONTENT_TYPE, "text/event-stream")
}

/// `/ws`: becomes a WebSocket, or answers 426.
fn websocket(connection: &Connection, mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get("sec-websocket-key") else {
        return with(426, text(&connection.shared));
    };
    let accept = derive_accept_key(key.as_bytes());
    connection.upgrade_to_websocket(&mut request);
    let answer = with(101, Response::new(body::empty()));
    let answer = field(answer, header::CONNECTION, "upgrade");
    field(field(answer, header::UPGRADE, "websocket"), header::SEC_WEBSOCKET_ACCEPT, &accept)
}

/// `/1xx`: 103 before 200.
async fn early_hints(connection: &Connection) -> Response<Body> {
    connection.write_raw(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n").await;
    text(&connection.shared)
}

/// `/private`: an answer with fields that are for this connection only.
fn private(shared: &Shared) -> Response<Body> {
    let answer = field(text(shared), header::CONNECTION, "x-hop");
    let answer = field(field(answer, "x-hop".parse().unwrap(), "secret"), "keep-alive".parse().unwrap(), "timeout=5");
    field(answer, "x-end".parse().unwrap(), "kept")
}

fn head(request: &Request<Incoming>) -> Head {
    Head {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        version: format!("{:?}", request.version()),
        headers: fields(request.headers()),
    }
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    headers.iter().map(pair).collect()
}

fn json_answer(value: &Value) -> Answer {
    let answer = Response::new(body::full(value.to_string()));
    Ok(field(answer, header::CONTENT_TYPE, "application/json"))
}

fn text(shared: &Shared) -> Response<Body> {
    Response::new(body::full(format!("{}\n", shared.name)))
}

fn with(code: u16, mut answer: Response<Body>) -> Response<Body> {
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}

fn field(mut answer: Response<Body>, name: header::HeaderName, value: &str) -> Response<Body> {
    answer.headers_mut().insert(name, value.parse().unwrap());
    answer
}
