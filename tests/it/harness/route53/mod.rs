//! Route 53 as strict as it is documented, over real HTTP and XML on loopback, with every state a story may need.

mod answer;
mod changes;
mod set;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::answer::{Wrong, xml};
pub use self::set::{Alias, Set};
use self::store::Store;

/// The fake; dropping it ends it.
pub struct FakeRoute53 {
    pub address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    task: JoinHandle<()>,
}

/// A request that came, signed or not.
#[derive(Clone, Debug)]
pub struct Asked {
    pub operation: &'static str,
    pub user_agent: String,
    /// Of the signature; empty where there is none.
    pub access_key: String,
    pub session_token: Option<String>,
    /// What came of it: `ok`, or the code of the error.
    pub outcome: String,
}

struct Inside {
    store: Store,
    asked: Vec<Asked>,
    /// What is answered instead, and how often.
    failures: Vec<(&'static str, usize, Wrong)>,
    /// Where the account's limit counts: 10 a second, 50 at once.
    rate: Option<(f64, Instant)>,
    /// The only access key that is known; none: any is.
    access_key: Option<String>,
}

impl FakeRoute53 {
    pub async fn start() -> FakeRoute53 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let store = Store::default();
        let inside = Inside { store, asked: Vec::new(), failures: Vec::new(), rate: None, access_key: None };
        let inside = Arc::new(Mutex::new(inside));
        let router = Router::new().fallback(answer_to).with_state(inside.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        FakeRoute53 { address, inside, task }
    }

    /// With one zone in it.
    pub async fn with_zone(id: &str, name: &str) -> FakeRoute53 {
        let fake = FakeRoute53::start().await;
        fake.add_zone(id, name);
        fake
    }

    /// What goes into `endpoint_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn add_zone(&self, id: &str, name: &str) {
        self.inside().store.add_zone(id, name);
    }

    /// Puts a set there past all rules, and at once on all name servers: somebody else's, or what there was before.
    pub fn put(&self, zone: &str, set: Set) {
        self.inside().store.put(zone, set);
    }

    /// Takes one away past all rules, and at once from all name servers.
    pub fn remove(&self, zone: &str, name: &str, kind: &str, identifier: Option<&str>) {
        self.inside().store.remove(zone, name, kind, identifier);
    }

    /// What the API says is there, in its order.
    pub fn records(&self, zone: &str) -> Vec<Set> {
        self.inside().store.zone(zone).unwrap().sets.clone()
    }

    /// What the zone's name server number 0, 1, 2 or 3 answers from: changes reach it with INSYNC, or by `reach`.
    pub fn served(&self, zone: &str, server: usize) -> Vec<Set> {
        self.inside().store.zone(zone).unwrap().served[server].clone()
    }

    /// A look at what a name server answers from that lives as long as a DNS server needs it.
    pub fn server(&self, zone: &str, server: usize) -> impl Fn() -> Vec<Set> + Send + Sync + 'static {
        let (inside, zone) = (self.inside.clone(), zone.to_owned());
        move || lock(&inside).store.zone(&zone).unwrap().served[server].clone()
    }

    /// Changes from now on are PENDING for so many polls each; at first 0. `usize::MAX`: until `sync`.
    pub fn pending_for(&self, polls: usize) {
        self.inside().store.pending_for = polls;
    }

    /// Every change so far is INSYNC.
    pub fn sync(&self) {
        self.inside().store.sync();
    }

    /// One name server has heard of everything so far, the others may not have.
    pub fn reach(&self, zone: &str, server: usize) {
        self.inside().store.reach(zone, server);
    }

    /// Lists no more than so many sets at once, whatever is asked for.
    pub fn list_at_most(&self, most: usize) {
        self.inside().store.list_at_most = Some(most);
    }

    /// Answers so many requests of this operation (`*`: any) with an error instead.
    pub fn fail(&self, operation: &'static str, times: usize, status: u16, code: &str, message: &str) {
        let wrong = Wrong::new(status, code, message);
        self.inside().failures.push((operation, times, wrong));
    }

    /// As IAM does where no policy allows it, for ever.
    pub fn deny(&self, operation: &'static str) {
        let message = format!(
            "User: arn:aws:iam::123456789012:user/cutover is not authorized to perform: route53:{operation} because no \
             identity-based policy allows the route53:{operation} action"
        );
        self.fail(operation, usize::MAX, 403, "AccessDenied", &message);
    }

    /// No more failures.
    pub fn mend(&self) {
        self.inside().failures.clear();
    }

    /// Counts requests from now on: 10 a second, 50 at once.
    pub fn throttle(&self) {
        self.inside().rate = Some((BURST, Instant::now()));
    }

    /// Only this access key is known from now on.
    pub fn know_only(&self, access_key: &str) {
        self.inside().access_key = Some(access_key.to_owned());
    }

    /// The refusal of a batch in the form that is documented instead of the one that is sent.
    pub fn speak_older_form(&self) {
        self.inside().store.older_form = true;
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.inside().asked.clone()
    }

    /// How often this was asked.
    pub fn count(&self, operation: &str) -> usize {
        self.inside().asked.iter().filter(|asked| asked.operation == operation).count()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        lock(&self.inside)
    }
}

impl Drop for FakeRoute53 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_to(
    State(inside): State<Arc<Mutex<Inside>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let operation = Operation::of(&method, uri.path());
    let mut asked = Asked {
        operation: operation.as_ref().map_or("?", Operation::name),
        user_agent: text("user-agent").unwrap_or_default(),
        access_key: access_key(&headers).unwrap_or_default(),
        session_token: text("x-amz-security-token"),
        outcome: "ok".to_owned(),
    };
    let mut inside = lock(&inside);
    let answer = match operation {
        None => Err(Wrong::new(404, "UnknownOperationException", "there is no such operation")),
        Some(operation) => inside.answer(&asked, operation, uri.query().unwrap_or_default(), &body),
    };
    if let Err(wrong) = &answer {
        asked.outcome = wrong.code.clone();
    }
    let older_form = inside.store.older_form;
    inside.asked.push(asked);
    answer.map_or_else(|wrong| wrong.response(older_form), xml)
}

impl Inside {
    fn answer(&mut self, asked: &Asked, operation: Operation, query: &str, body: &[u8]) -> Result<String, Wrong> {
        self.authenticate(asked)?;
        self.limit()?;
        self.fail(asked.operation)?;
        match operation {
            Operation::GetZone(zone) => self.store.describe(&zone),
            Operation::List(zone) => self.store.list(&zone, query),
            Operation::Change(zone) => self.store.change(&zone, body),
            Operation::GetChange(change) => self.store.progress(&change),
        }
    }

    fn authenticate(&self, asked: &Asked) -> Result<(), Wrong> {
        if asked.access_key.is_empty() {
            return Err(Wrong::new(403, "MissingAuthenticationToken", "Missing Authentication Token"));
        }
        match &self.access_key {
            Some(known) if *known != asked.access_key => {
                let message = "The security token included in the request is invalid.";
                Err(Wrong::new(403, "InvalidClientTokenId", message))
            }
            _ => Ok(()),
        }
    }

    fn limit(&mut self) -> Result<(), Wrong> {
        let Some((left, since)) = &mut self.rate else { return Ok(()) };
        *left = (*left + since.elapsed().as_secs_f64() * RATE).min(BURST);
        *since = Instant::now();
        if *left < 1.0 {
            return Err(Wrong::new(400, "Throttling", "Rate exceeded"));
        }
        *left -= 1.0;
        Ok(())
    }

    fn fail(&mut self, operation: &str) -> Result<(), Wrong> {
        let applies = |(of, times, _): &&mut (&str, usize, Wrong)| (*of == "*" || *of == operation) && *times > 0;
        let Some((_, times, wrong)) = self.failures.iter_mut().find(applies) else { return Ok(()) };
        *times -= 1;
        Err(wrong.clone())
    }
}

/// What is asked, and of what.
enum Operation {
    GetZone(String),
    List(String),
    Change(String),
    GetChange(String),
}

impl Operation {
    fn of(method: &Method, path: &str) -> Option<Operation> {
        let parts: Vec<&str> = path.strip_prefix("/2013-04-01/")?.trim_end_matches('/').split('/').collect();
        match (method.as_str(), &parts[..]) {
            ("GET", ["hostedzone", id]) => Some(Operation::GetZone((*id).to_owned())),
            ("GET", ["hostedzone", id, "rrset"]) => Some(Operation::List((*id).to_owned())),
            ("POST", ["hostedzone", id, "rrset"]) => Some(Operation::Change((*id).to_owned())),
            ("GET", ["change", id]) => Some(Operation::GetChange((*id).to_owned())),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Operation::GetZone(_) => "GetHostedZone",
            Operation::List(_) => "ListResourceRecordSets",
            Operation::Change(_) => "ChangeResourceRecordSets",
            Operation::GetChange(_) => "GetChange",
        }
    }
}

/// Of a signature that is there and whole: whether it is right is for Amazon to know.
fn access_key(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("authorization")?.to_str().ok()?;
    let rest = text.strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
    let (scope, rest) = rest.split_once(',')?;
    let parts: Vec<&str> = scope.split('/').collect();
    let [key, _day, _region, "route53", "aws4_request"] = parts[..] else { return None };
    let whole = rest.contains("SignedHeaders=") && rest.contains("Signature=") && headers.contains_key("x-amz-date");
    whole.then(|| key.to_owned())
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    // A story that has failed has still to be told why.
    inside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Requests a second of one account, and how many at once after a rest.
const RATE: f64 = 10.0;
const BURST: f64 = 50.0;
