//! One health check over the network: a connect, or a request and its status.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, header, response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::shortage;
use crate::config::{Health, StackMark};
use crate::time::{Human, Moment};

/// Why a check did not pass.
#[derive(Debug, PartialEq, Eq)]
pub enum Miss {
    /// The endpoint has failed it.
    Failed(String),
    /// The endpoint has not been asked, for want of something on this side.
    Unasked(String),
}

/// What the endpoint answered where that passes, and why not where it does not. Takes `rules.timeout` at the most.
/// Where answers have to name their stack, it has to be `stack`.
pub async fn probe(address: SocketAddr, host: &str, stack: Option<&str>, rules: &Health) -> Result<String, Miss> {
    let begun = Moment::now();
    let unconnected = |error: io::Error| match shortage::is_ours(&error) {
        true => Miss::Unasked(format!("it could not be asked: {} here", plain(&error))),
        false => Miss::Failed(format!("cannot connect: {}", plain(&error))),
    };
    let answer = tokio::time::timeout(rules.timeout, async {
        let stream = TcpStream::connect(address).await.map_err(unconnected)?;
        match &rules.path {
            None => Ok("accepts connections".to_owned()),
            Some(path) => {
                let mark = rules.expect_stack.as_ref().map(|mark| (mark, stack.unwrap_or_default()));
                ask(stream, host, path, &rules.expect_status, mark).await.map_err(Miss::Failed)
            }
        }
    });
    match answer.await {
        Ok(Ok(passed)) => Ok(format!("{passed} in {}", Human(Moment::now().since(begun)))),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(Miss::Failed(format!("no answer within {}", Human(rules.timeout.max(Duration::from_micros(1)))))),
    }
}

async fn ask(
    stream: TcpStream,
    host: &str,
    path: &str,
    expected: &[u16],
    stack: Option<(&StackMark, &str)>,
) -> Result<String, String> {
    let broken = |error: hyper::Error| format!("broken answer: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("cutover-health/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    // The connection is driven here, beside the request, and dropped with it: a check leaves nothing behind. It may end
    // in the same moment as the answer arrives, and then the answer is what counts.
    let mut exchange = pin!(async {
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let wants_body = stack.is_some_and(|(mark, _)| mark.json.is_some());
        let body = if wants_body { collect(body).await? } else { Bytes::new() };
        Ok((head, body))
    });
    let answer = tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    };
    let unanswered = |error: &hyper::Error| error.is_incomplete_message() || error.is_canceled();
    match answer.map(|(head, body)| (head.status.as_u16(), head, body)) {
        Ok((status, ..)) if !expected.contains(&status) => Err(unexpected(status, expected)),
        Ok((status, head, body)) => match stack {
            Some((mark, stack)) => is_of(stack, mark, &head, &body).map(|()| format!("{status} from {stack}")),
            None => Ok(status.to_string()),
        },
        Err(error) if unanswered(&error) => Err("closed without an answer".to_owned()),
        Err(error) => Err(broken(error)),
    }
}

/// The beginning of a body: what names the stack has to be there.
async fn collect(mut body: Incoming) -> Result<Bytes, hyper::Error> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            all.extend_from_slice(&piece);
        }
        if all.len() > LONGEST_BODY {
            break;
        }
    }
    Ok(all.freeze())
}

/// An answer from another stack, such as an old process that still has the port, proves nothing of this one.
fn is_of(stack: &str, mark: &StackMark, head: &response::Parts, body: &[u8]) -> Result<(), String> {
    let compare = |found: &str| match found == stack {
        true => Ok(()),
        false => {
            let shown: String = found.chars().take(100).collect();
            Err(format!("answered as stack `{shown}`, expected `{stack}`"))
        }
    };
    if let Some(name) = &mark.header {
        let mut values = head.headers.get_all(name).into_iter().peekable();
        values.peek().ok_or_else(|| format!("its answer has no `{name}` to tell its stack"))?;
        // One that names two stacks is of neither.
        values.try_for_each(|value| compare(&String::from_utf8_lossy(value.as_bytes())))?;
    }
    let Some(pointer) = &mark.json else { return Ok(()) };
    if body.len() > LONGEST_BODY {
        return Err(format!(
            "its answer is longer than the {} KiB that are read to tell its stack",
            LONGEST_BODY >> 10
        ));
    }
    let body: Value = serde_json::from_slice(body).map_err(|error| format!("its answer is no JSON: {error}"))?;
    match body.pointer(pointer) {
        Some(Value::String(text)) => compare(text),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => compare(&value.to_string()),
        _ => Err(format!("its answer has nothing at `{pointer}` to tell its stack")),
    }
}

fn unexpected(status: u16, expected: &[u16]) -> String {
    let expected: Vec<String> = expected.iter().map(u16::to_string).collect();
    format!("answered {status}, expected {}", expected.join(" or "))
}

/// The error without the number the system adds: `connection refused`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Bytes of a health check's answer that are read.
const LONGEST_BODY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    async fn probed(answer: &'static str) -> Result<String, String> {
        probed_by(answer, Health::default()).await
    }

    async fn probed_by(answer: &'static str, rules: Health) -> Result<String, String> {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        // Long enough for a busy machine.
        let timeout = Duration::from_secs(60);
        let rules = Health { path: Some("/healthz".to_owned()), timeout, ..rules };
        probe(address, "shop", Some("v42"), &rules).await.map_err(|miss| match miss {
            Miss::Failed(why) => why,
            Miss::Unasked(why) => panic!("{why}"),
        })
    }

    #[tokio::test]
    async fn an_answer_from_another_stack_does_not_count() {
        let by = |header: Option<&str>, json: Option<&str>| {
            let mark = StackMark { header: header.map(str::to_owned), json: json.map(str::to_owned) };
            Health { expect_stack: Some(mark), ..Health::default() }
        };
        let header = || by(Some("x-stack"), None);
        let right = "HTTP/1.1 200 OK\r\nX-Stack: v42\r\nContent-Length: 0\r\n\r\n";
        assert!(probed_by(right, header()).await.unwrap().starts_with("200 from v42 in "));
        for (answer, says) in [
            ("HTTP/1.1 200 OK\r\nX-Stack: v41\r\nContent-Length: 0\r\n\r\n", "answered as stack `v41`, expected `v42`"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "its answer has no `x-stack` to tell its stack"),
            (
                "HTTP/1.1 200 OK\r\nX-Stack: v42\r\nX-Stack: v41\r\nContent-Length: 0\r\n\r\n",
                "answered as stack `v41`, expected `v42`",
            ),
            ("HTTP/1.1 503 No\r\nX-Stack: v42\r\nContent-Length: 0\r\n\r\n", "answered 503, expected 200"),
        ] {
            assert_eq!(probed_by(answer, header()).await, Err(says.to_owned()));
        }
        let json = || by(None, Some("/build/stack"));
        let right = "HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{\"build\":{\"stack\":\"v42\"}}\n";
        assert!(probed_by(right, json()).await.is_ok_and(|says| says.starts_with("200 from v42")));
        let other = "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"build\":{\"stack\":7}}";
        assert_eq!(probed_by(other, json()).await, Err("answered as stack `7`, expected `v42`".to_owned()));
        let pad = "a".repeat(70_000);
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 70010\r\n\r\n{{\"pad\":\"{pad}\"}}");
        let long: &'static str = long.leak();
        assert!(probed_by(long, json()).await.is_err_and(|says| says.contains("longer than the 64 KiB")));
        let none = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert!(probed_by(none, json()).await.is_err_and(|says| says.contains("nothing at `/build/stack`")));
        assert!(
            probed_by("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", json())
                .await
                .is_err_and(|says| says.contains("no JSON"))
        );
    }

    #[tokio::test]
    async fn an_answer_counts_however_close_its_connection_ends_behind_it() {
        for _ in 0..200 {
            let passed = probed("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n").await;
            assert!(passed.as_ref().is_ok_and(|answer| answer.starts_with("200 in ")), "{passed:?}");
        }
    }

    #[tokio::test]
    async fn an_end_without_an_answer_is_named() {
        assert_eq!(probed("").await, Err("closed without an answer".to_owned()));
    }
}
