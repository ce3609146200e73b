//! The client of the admin API: a fresh connection for each question, a deadline for each answer.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::address::Address;
use super::events::Events;
use super::{Failure, Global, Of, out};
use crate::admin::{BACK_ALREADY, BAD_CONFIG, HELD, Problem, Status};
use crate::config::Config;
use crate::names::ServiceName;
use crate::time::Human;

/// Speaks to one proxy.
pub struct Client {
    address: Address,
    /// Sent with orders over TCP; over the socket the kernel says who we are.
    token: Option<String>,
    /// Whether answers are for programs.
    pub json: bool,
}

impl Client {
    /// The client for the proxy that the command line names, or else the config.
    pub fn new(global: &Global) -> Result<Client, Failure> {
        let json = global.json;
        let usage = |text: String| Client::refuse(json, text);
        let address = match &global.admin {
            Some(text) => text.parse().map_err(usage)?,
            None => Address::Unix(socket_of(global)?),
        };
        let token = match (&address, &global.token_file) {
            (Address::Tcp(_), Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| usage(format!("the token file {} cannot be read: {error}", path.display())))?;
                Some(text.trim().to_owned())
            }
            _ => None,
        };
        Ok(Client { address, token, json })
    }

    /// Asks for what is at `path`.
    pub async fn get(&self, path: &str) -> Result<Answer, Trouble> {
        self.within(READ, self.ask(Method::GET, path, None)).await
    }

    /// Gives an order, and waits for what comes of it: `within` where that is bounded.
    pub async fn post(&self, path: &str, body: &Value, within: Option<Duration>) -> Result<Answer, Trouble> {
        let answer = self.ask(Method::POST, path, Some(body));
        match within {
            Some(within) => self.within(within.saturating_add(READ), answer).await,
            None => answer.await,
        }
    }

    /// Listens to what happens at the proxy.
    pub async fn events(&self) -> Result<Events, Trouble> {
        let response = self.within(READ, self.send(Method::GET, "/v1/events", None)).await?;
        match response.status() {
            StatusCode::OK => Ok(Events::new(response.into_body())),
            status => Err(self.stranger(format!("it answered {status} to /v1/events"))),
        }
    }

    /// The service that is meant where the command line may leave it out: the only one there is.
    pub async fn service(&self, of: &Of) -> Result<ServiceName, Failure> {
        if let Some(named) = &of.service {
            return Ok(named.clone());
        }
        let status: Status = self.get("/v1/status").await.and_then(|answer| answer.read()).map_err(self.fails())?;
        let names: Vec<&ServiceName> = status.services.iter().map(|service| &service.name).collect();
        match names.as_slice() {
            [only] => Ok((*only).clone()),
            _ => {
                let list: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
                let (count, list) = (list.len(), list.join(", "));
                Err(Client::refuse(
                    self.json,
                    format!("this proxy has {count} services, so name the one you mean: {list}"),
                ))
            }
        }
    }

    /// Turns trouble into the end of a command.
    pub fn fails(&self) -> impl Fn(Trouble) -> Failure {
        let json = self.json;
        move |trouble| trouble.ends(json)
    }

    /// Prints an answer: for programs as it came, else in words.
    pub fn print<T: DeserializeOwned>(&self, answer: Answer, says: impl FnOnce(T) -> String) -> Result<(), Failure> {
        let what = answer.read().map_err(self.fails())?;
        out::line(&if self.json { answer.text } else { says(what) })
    }

    /// The end of a command behind a Ctrl-C: what the operator leaves behind.
    pub fn left(&self, text: String) -> Failure {
        match self.json {
            true => Failure::Answer(problem("interrupted", "Interrupted", &text).to_string(), 1),
            false => Failure::Failed(text),
        }
    }

    async fn within<T>(&self, within: Duration, asked: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let late = || self.unreachable(format!("no answer within {}", Human(within)), RUNNING);
        timeout(within, asked).await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Trouble> {
        let response = self.send(method, path, body).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(|error| self.lost(&error.to_string()))?.to_bytes();
        let text = String::from_utf8(body.into()).map_err(|_| self.stranger("its answer is not text".into()))?;
        let of_kind = |kind: &str| head.headers.get(header::CONTENT_TYPE).is_some_and(|given| given == kind);
        if head.status.is_success() && of_kind("application/json") {
            return Ok(Answer { status: head.status, text: text.trim_end().to_owned(), from: self.address.clone() });
        }
        match serde_json::from_str(&text) {
            Ok(problem) if of_kind("application/problem+json") => Err(Trouble::Problem(Box::new(problem))),
            _ => Err(self.stranger(format!("it answered {} to {path}", head.status))),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, Trouble> {
        match &self.address {
            Address::Unix(socket) => {
                let stream = self.connected(UnixStream::connect(socket)).await?;
                self.send_over(stream, method, path, body).await
            }
            Address::Tcp(authority) => {
                let stream = self.connected(TcpStream::connect(authority)).await?;
                self.send_over(stream, method, path, body).await
            }
        }
    }

    async fn connected<S>(&self, connect: impl Future<Output = io::Result<S>>) -> Result<S, Trouble> {
        let connected = timeout(CONNECT, connect).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            let advice = match (&self.address, error.kind()) {
                (Address::Unix(_), io::ErrorKind::PermissionDenied) => {
                    "may this user open the socket? its owner and its group may: look with `ls -l`, or ask as root"
                }
                (Address::Unix(_), io::ErrorKind::NotFound) => NO_SOCKET,
                _ => RUNNING,
            };
            let why = match error.kind() {
                io::ErrorKind::TimedOut => format!("no connection within {}", Human(CONNECT)),
                io::ErrorKind::NotFound => "there is no such socket".to_owned(),
                io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                _ => error.to_string(),
            };
            self.unreachable(why, advice)
        })
    }

    async fn send_over<S>(
        &self,
        stream: S,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| self.lost(&error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with the answer's last byte, or when the answer is dropped; what went wrong is told there.
        tokio::spawn(connection);
        let order = method == Method::POST;
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.address.host());
        if let Some(token) = self.token.as_ref().filter(|_| order) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or(Bytes::new(), |body| Bytes::from(body.to_string()));
        let request = request.body(Full::new(body)).map_err(|error| self.stranger(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }

    fn unreachable(&self, why: String, advice: &'static str) -> Trouble {
        Trouble::Unreachable { address: self.address.clone(), why, advice }
    }

    fn lost(&self, why: &str) -> Trouble {
        self.unreachable(format!("the connection was lost: {why}"), LOST)
    }

    fn stranger(&self, why: String) -> Trouble {
        self.unreachable(why, "is that the admin address of a proxy of this version?")
    }

    fn refuse(json: bool, detail: String) -> Failure {
        match json {
            true => Failure::Answer(problem("usage", "Usage", &detail).to_string(), 2),
            false => Failure::Usage(detail),
        }
    }
}

/// What the proxy answered, and said well.
pub struct Answer {
    status: StatusCode,
    /// JSON, as it came: `--json` passes on even what this version does not know.
    pub text: String,
    from: Address,
}

impl Answer {
    /// The time to wait was over before the work was.
    pub fn is_unfinished(&self) -> bool {
        self.status == StatusCode::ACCEPTED
    }

    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        serde_json::from_str(&self.text).map_err(|error| Trouble::Unreachable {
            address: self.from.clone(),
            why: format!("its answer cannot be read: {error}"),
            advice: "is that a proxy of this version?",
        })
    }
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum Trouble {
    /// The proxy says what is wrong.
    Problem(Box<Problem>),
    /// Nobody answers, or not as a proxy does.
    Unreachable { address: Address, why: String, advice: &'static str },
}

impl Trouble {
    /// How a command that has nothing to add ends on it.
    pub fn ends(self, json: bool) -> Failure {
        let code = match &self {
            Trouble::Problem(problem) => exit_code(problem),
            Trouble::Unreachable { .. } => 3,
        };
        let text = self.to_string();
        match (json, self, code) {
            (true, Trouble::Problem(problem), code) => {
                Failure::Answer(serde_json::to_string(&problem).unwrap_or_default(), code)
            }
            (true, Trouble::Unreachable { .. }, code) => {
                Failure::Answer(problem("unreachable", "Unreachable", &text).to_string(), code)
            }
            (false, _, 2) => Failure::Usage(text),
            (false, _, 3) => Failure::Unreachable(text),
            (false, _, 4) => Failure::Held(text),
            (false, ..) => Failure::Failed(text),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Problem(problem) => {
                f.write_str(&problem.detail)?;
                hint(problem).map_or(Ok(()), |hint| write!(f, "\n  {hint}"))
            }
            Trouble::Unreachable { address, why, advice } => {
                write!(f, "no proxy answers at {address}: {why}\n  {advice}")
            }
        }
    }
}

/// What to do about a problem that this command line can mend.
pub fn hint(problem: &Problem) -> Option<&'static str> {
    match problem.status {
        401 => Some("name the file that holds it with --token-file, or use the socket: --admin unix:PATH"),
        403 => Some("use the socket: --admin unix:PATH"),
        _ => None,
    }
}

/// The code a command exits with on a problem.
pub fn exit_code(problem: &Problem) -> u8 {
    match problem.status {
        _ if problem.kind == HELD || problem.kind == BACK_ALREADY => 4,
        _ if problem.kind == BAD_CONFIG => 2,
        400 | 404 => 2,
        _ => 1,
    }
}

/// A duration as the API reads it.
pub fn written(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// The runtime of a command: one thread, for it does one thing.
pub fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("the runtime cannot be built: {error}")))?;
    let done = runtime.block_on(command);
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
    done
}

/// The socket that the config names.
fn socket_of(global: &Global) -> Result<PathBuf, Failure> {
    let path = global.config.display();
    Config::socket(&global.config).map_err(|report| match global.json {
        true => Failure::Config(Box::new(report), true),
        false => Failure::Usage(format!(
            "the proxy's socket is named in the config, and {path} cannot be used\n  \
             name the proxy itself with --admin unix:PATH or http://HOST:PORT, or a good config with --config FILE\n\n{report}"
        )),
    })
}

/// A problem that never left this machine, in the shape of the proxy's own.
pub fn problem(word: &str, title: &str, detail: &str) -> Value {
    let mut problem = Map::new();
    problem.insert("type".into(), json!(format!("urn:cutover:problem:{word}")));
    problem.insert("title".into(), json!(title));
    // What is told people in lines is one for programs.
    problem.insert("detail".into(), json!(detail.replace("\n  ", "; ")));
    Value::Object(problem)
}

const CONNECT: Duration = Duration::from_secs(5);
/// For an answer that the proxy has at hand.
const READ: Duration = Duration::from_secs(10);
/// No answer is larger; it is read whole.
const LARGEST: usize = 64 << 20;
const LOST: &str = "has it ended meanwhile? a cutover that had begun goes on as soon as it runs again";
const RUNNING: &str = "is it running there? `cutover serve` starts it";
/// Where the file names another one by now, or somebody has removed it.
const NO_SOCKET: &str = "is it running there? `cutover serve` starts it; one that runs keeps the socket of its start: \
    name that with --admin";
