//! A client on one HTTP/1.1 or HTTP/2 connection that never retries and never reconnects.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt, Collected};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::body::{self, Body};
use super::{Address, Ca, PATIENCE, within};

/// Dropping it, and its twins, closes the connection, whatever is under way on it.
pub struct Client {
    sender: Sender,
    scheme: &'static str,
    host: String,
    connection: Arc<Connection>,
}

impl Client {
    /// A cleartext HTTP/1.1 connection.
    pub async fn http1(address: impl Address) -> Client {
        Client::try_http1(address.address()).await.unwrap()
    }

    /// A cleartext HTTP/2 connection by prior knowledge.
    pub async fn http2(address: impl Address) -> Client {
        Client::try_http2(address.address()).await.unwrap()
    }

    /// A TLS connection to `host` that offers these protocols and speaks the one the other side chose.
    pub async fn tls(address: impl Address, ca: &Ca, host: &str, alpn: &[&str]) -> Client {
        let stream = ca.connect(address.address(), host, alpn).await;
        let chosen = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let client = if chosen { Client::over_http2(stream).await } else { Client::over_http1(stream).await };
        let mut client = client.unwrap();
        client.scheme = "https";
        client.host(host)
    }

    pub async fn try_http1(address: SocketAddr) -> Result<Client, String> {
        Client::over_http1(connected(address).await?).await
    }

    pub async fn try_http2(address: SocketAddr) -> Result<Client, String> {
        Client::over_http2(connected(address).await?).await
    }

    pub async fn over_http1(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Client, String> {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(reason)?;
        let connection = Arc::new(Connection(tokio::spawn(connection).abort_handle()));
        Ok(Client { sender: Sender::Http1(sender), scheme: "http", host: HOST.to_owned(), connection })
    }

    async fn over_http2(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Client, String> {
        let shake = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
        let (sender, connection) = shake.map_err(reason)?;
        let connection = Arc::new(Connection(tokio::spawn(connection).abort_handle()));
        Ok(Client { sender: Sender::Http2(sender), scheme: "http", host: HOST.to_owned(), connection })
    }

    /// The host it asks for from now on, where a request names none itself.
    pub fn host(mut self, host: &str) -> Client {
        self.host = host.to_owned();
        self
    }

    /// One more client on the same HTTP/2 connection.
    pub fn twin(&self) -> Client {
        let Sender::Http2(sender) = &self.sender else {
            panic!("an HTTP/1.1 connection carries one request at a time")
        };
        let (sender, connection) = (Sender::Http2(sender.clone()), self.connection.clone());
        Client { sender, scheme: self.scheme, host: self.host.clone(), connection }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).body(body::empty()).unwrap()).await
    }

    pub async fn post(&mut self, path: &str, text: impl Into<Bytes>) -> Answer {
        self.send(Request::post(path).body(body::full(text)).unwrap()).await
    }

    /// The whole answer; a lost one fails the story.
    pub async fn send(&mut self, request: Request<Body>) -> Answer {
        let asked = format!("{} {}", request.method(), request.uri());
        self.try_send(request).await.unwrap_or_else(|reason| panic!("{asked}: {reason}"))
    }

    pub async fn try_send(&mut self, request: Request<Body>) -> Result<Answer, String> {
        self.try_open(request).await?.try_rest().await
    }

    /// The answer as soon as its head is there.
    pub async fn open(&mut self, request: Request<Body>) -> Opened {
        self.try_open(request).await.unwrap()
    }

    async fn try_open(&mut self, request: Request<Body>) -> Result<Opened, String> {
        let request = self.addressed(request);
        let answer = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        Ok(Opened(in_time("the head", answer).await?))
    }

    /// HTTP/1.1 carries the host as a field, HTTP/2 in the target.
    fn addressed(&self, mut request: Request<Body>) -> Request<Body> {
        let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap().to_owned());
        let host = named.unwrap_or_else(|| self.host.clone());
        if matches!(self.sender, Sender::Http1(_)) {
            request.headers_mut().insert(header::HOST, host.parse().unwrap());
        } else if request.uri().authority().is_none() {
            request.headers_mut().remove(header::HOST);
            let path = request.uri().path_and_query().unwrap().as_str();
            *request.uri_mut() =
                Uri::builder().scheme(self.scheme).authority(host).path_and_query(path).build().unwrap();
        }
        request
    }
}

struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// An answer whose body is still coming.
pub struct Opened(pub Response<Incoming>);

impl Opened {
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// The next piece of the body; none at its end.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            let frame = within("a piece of the answer", self.0.body_mut().frame()).await?;
            let data = frame.unwrap().into_data().expect("data, not trailers");
            // HTTP/2 may say the end with an empty piece.
            if !data.is_empty() {
                return Some(data);
            }
        }
    }

    pub async fn rest(self) -> Answer {
        self.try_rest().await.unwrap()
    }

    /// A cut answer is an error.
    pub async fn try_rest(self) -> Result<Answer, String> {
        let (head, body) = self.0.into_parts();
        let body: Collected<Bytes> = in_time("the body", body.collect()).await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let (status, version) = (head.status.as_u16(), head.version);
        Ok(Answer { status, version, headers: head.headers, body: body.to_bytes(), trailers })
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Who answered: a backend's name; nothing where the proxy answered itself.
    pub fn backend(&self) -> Option<&str> {
        self.header("x-backend")
    }

    /// Why the proxy answered itself.
    pub fn refusal(&self) -> Option<&str> {
        self.header("cutover-error")
    }
}

async fn connected(address: SocketAddr) -> Result<TcpStream, String> {
    let socket = in_time("a connection", TcpStream::connect(address)).await?;
    socket.set_nodelay(true).map_err(reason)?;
    Ok(socket)
}

async fn in_time<T, E: std::error::Error>(what: &str, step: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(outcome) => outcome.map_err(reason),
        Err(_) => Err(format!("waited {PATIENCE:?} for {what}")),
    }
}

/// The whole chain of causes: `client error (SendRequest): connection closed` alone says little.
fn reason(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What most stories' one service answers for.
const HOST: &str = "shop.test";
