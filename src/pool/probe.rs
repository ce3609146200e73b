//! One health check over the network: a connect, or a request and its status.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::Health;
use crate::time::{Human, Moment};

/// What the endpoint answered where that passes, and why not where it does not. Takes `rules.timeout` at the most.
pub async fn probe(address: SocketAddr, host: &str, rules: &Health) -> Result<String, String> {
    let begun = Moment::now();
    let answer = tokio::time::timeout(rules.timeout, async {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {}", plain(&error)))?;
        match &rules.path {
            None => Ok("accepts connections".to_owned()),
            Some(path) => ask(stream, host, path, &rules.expect_status).await,
        }
    });
    match answer.await {
        Ok(Ok(passed)) => Ok(format!("{passed} in {}", Human(Moment::now().since(begun)))),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("no answer within {}", Human(rules.timeout.max(Duration::from_micros(1))))),
    }
}

async fn ask(stream: TcpStream, host: &str, path: &str, expected: &[u16]) -> Result<String, String> {
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
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    let unanswered = |error: &hyper::Error| error.is_incomplete_message() || error.is_canceled();
    match answer.map(|answer| answer.status().as_u16()) {
        Ok(status) if expected.contains(&status) => Ok(status.to_string()),
        Ok(status) => Err(unexpected(status, expected)),
        Err(error) if unanswered(&error) => Err("closed without an answer".to_owned()),
        Err(error) => Err(broken(error)),
    }
}

fn unexpected(status: u16, expected: &[u16]) -> String {
    let expected: Vec<String> = expected.iter().map(u16::to_string).collect();
    format!("answered {status}, expected {}", expected.join(" or "))
}

/// The error without the number the system adds: `connection refused`.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    async fn probed(answer: &'static str) -> Result<String, String> {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        probe(address, "shop", &Health { path: Some("/healthz".to_owned()), ..Health::default() }).await
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
