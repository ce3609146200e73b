//! A proxy that does to requests what networks and busy services do: chosen for the next so many, or those that match.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// In front of any HTTP server; what nothing was chosen for passes. Dropping it ends it.
pub struct FaultProxy {
    pub address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    task: JoinHandle<()>,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The throttling of the service that is asked, which has status 400.
    Throttle,
    /// 503 without a word, as a load balancer answers.
    Unavailable,
    /// The connection is reset before anything was passed on.
    Reset,
    /// It is passed on, and half of the answer's body comes.
    Truncate,
    /// It is passed on after this long.
    Delay(Duration),
    /// Nothing ever comes, and nothing is passed on.
    BlackHole,
    /// It is passed on and done; then the connection is reset.
    LostReply,
}

/// A request, as far as it decides what happens to it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// The whole head.
    pub head: String,
    pub fault: Option<Fault>,
}

type Whose = dyn Fn(&Seen) -> SocketAddr + Send + Sync;
type Matches = Box<dyn Fn(&Seen) -> bool + Send>;

#[derive(Default)]
struct Plan {
    faults: Vec<(Matches, usize, Fault)>,
    seen: Vec<Seen>,
}

impl FaultProxy {
    pub async fn before(server: SocketAddr) -> FaultProxy {
        FaultProxy::among(move |_| server).await
    }

    /// Before several servers: `whose` says which of them a request is for.
    pub async fn among(whose: impl Fn(&Seen) -> SocketAddr + Send + Sync + 'static) -> FaultProxy {
        let whose: Arc<Whose> = Arc::new(whose);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let shared = plan.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (plan, whose) = (shared.clone(), whose.clone());
                // An error is one of the client's or the server's: whoever waits for the answer will see it.
                tokio::spawn(async move { drop(carry(client, &*whose, &plan).await) });
            }
        });
        FaultProxy { address, plan, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this to the next so many requests, whatever they are.
    pub fn next(&self, times: usize, fault: Fault) {
        self.on(times, fault, |_| true);
    }

    /// Does this to so many requests that match.
    pub fn on(&self, times: usize, fault: Fault, matches: impl Fn(&Seen) -> bool + Send + 'static) {
        self.plan().faults.push((Box::new(matches), times, fault));
    }

    /// From now on all is well.
    pub fn heal(&self) {
        self.plan().faults.clear();
    }

    /// Every request so far, and what was done to it.
    pub fn seen(&self) -> Vec<Seen> {
        self.plan().seen.clone()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plan {
    fn fault(&mut self, seen: &mut Seen) {
        let chosen = self.faults.iter_mut().find(|(matches, times, _)| *times > 0 && matches(seen));
        seen.fault = chosen.map(|(_, times, fault)| {
            *times -= 1;
            *fault
        });
        self.seen.push(seen.clone());
    }
}

/// One request: each connection carries one, and says so.
async fn carry(mut client: TcpStream, whose: &Whose, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let Some((head, body)) = read_request(&mut client).await? else { return Ok(()) };
    let mut words = head.split_ascii_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut seen = Seen { method, path, head: head.clone(), fault: None };
    plan.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).fault(&mut seen);
    match seen.fault {
        Some(Fault::Throttle) => return client.write_all(&throttled(&seen.head)).await,
        Some(Fault::Unavailable) => return client.write_all(&said("503 Service Unavailable", "text/xml", "")).await,
        Some(Fault::Reset) => return reset(client),
        Some(Fault::BlackHole) => {
            // Until the client has had enough.
            let _ = client.read(&mut [0; 1]).await;
            return Ok(());
        }
        Some(Fault::Delay(long)) => tokio::time::sleep(long).await,
        Some(Fault::Truncate | Fault::LostReply) | None => {}
    }
    let answer = passed_on(whose(&seen), &head, &body).await?;
    match seen.fault {
        Some(Fault::LostReply) => reset(client),
        Some(Fault::Truncate) => {
            let begins = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default() + 4;
            client.write_all(&answer[..begins + (answer.len() - begins) / 2]).await
        }
        _ => client.write_all(&answer).await,
    }
}

async fn read_request(client: &mut TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = field(&head, "content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    assert!(field(&head, "transfer-encoding").is_none(), "the SDK knows how long its bodies are");
    while bytes.len() < end + length {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some((head, bytes[end..].to_vec())))
}

/// The whole answer of the server, head and all.
async fn passed_on(server: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(server).await?;
    let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:") && !line.is_empty());
    let lines: Vec<&str> = kept.collect();
    server.write_all(format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).as_bytes()).await?;
    server.write_all(body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn reset(client: TcpStream) -> std::io::Result<()> {
    // Without lingering, closing sends RST.
    SockRef::from(&client).set_linger(Some(Duration::ZERO))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// In the protocol that was spoken: JSON has a target.
fn throttled(head: &str) -> Vec<u8> {
    match field(head, "x-amz-target") {
        Some(_) => said("400 Bad Request", "application/x-amz-json-1.1", THROTTLED_JSON),
        None => said("400 Bad Request", "text/xml", THROTTLED),
    }
}

fn said(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

const THROTTLED: &str = "<?xml version=\"1.0\"?>\n<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
                         <Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>\
                         <RequestId>1</RequestId></ErrorResponse>";
const THROTTLED_JSON: &str = "{\"__type\":\"ThrottlingException\",\"message\":\"Rate exceeded\"}";
