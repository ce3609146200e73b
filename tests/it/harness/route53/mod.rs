//! Route 53 as strict as it is documented, over real HTTP and XML on loopback, with every state a story may need.

mod answer;
mod changes;
mod set;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

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
use super::reception::{Asked, Reception, Rules};

/// The fake; dropping it ends it.
pub struct FakeRoute53 {
    pub address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    task: JoinHandle<()>,
}

struct Inside {
    store: Store,
    reception: Reception,
}

impl FakeRoute53 {
    pub async fn start() -> FakeRoute53 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Inside { store: Store::default(), reception: Reception::new(RULES) };
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
        self.inside().reception.fail(operation, times, status, code, message);
    }

    /// As IAM does where no policy allows it, for ever.
    pub fn deny(&self, operation: &'static str) {
        self.inside().reception.deny(operation);
    }

    /// No more failures.
    pub fn mend(&self) {
        self.inside().reception.mend();
    }

    /// Counts requests from now on: 10 a second, 50 at once.
    pub fn throttle(&self) {
        self.inside().reception.throttle();
    }

    /// Only this access key is known from now on.
    pub fn know_only(&self, access_key: &str) {
        self.inside().reception.know_only(access_key);
    }

    /// The refusal of a batch in the form that is documented instead of the one that is sent.
    pub fn speak_older_form(&self) {
        self.inside().store.older_form = true;
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.inside().reception.asked().to_vec()
    }

    /// How often this was asked.
    pub fn count(&self, operation: &str) -> usize {
        self.inside().reception.count(operation)
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
    let operation = Operation::of(&method, uri.path());
    let mut inside = lock(&inside);
    let asked = inside.reception.read(operation.as_ref().map_or("?", Operation::name), &headers, &body);
    let answer = match operation {
        None => Err(Wrong::new(404, "UnknownOperationException", "there is no such operation")),
        Some(operation) => inside.answer(&asked, operation, uri.query().unwrap_or_default(), &body),
    };
    inside.reception.note(asked, answer.as_ref().err().map_or("ok", |wrong| &wrong.code));
    let older_form = inside.store.older_form;
    answer.map_or_else(|wrong| wrong.response(older_form), xml)
}

impl Inside {
    fn answer(&mut self, asked: &Asked, operation: Operation, query: &str, body: &[u8]) -> Result<String, Wrong> {
        self.reception.admit(asked)?;
        match operation {
            Operation::GetZone(zone) => self.store.describe(&zone),
            Operation::List(zone) => self.store.list(&zone, query),
            Operation::Change(zone) => self.store.change(&zone, body),
            Operation::GetChange(change) => self.store.progress(&change),
        }
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

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    // A story that has failed has still to be told why.
    inside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

const RULES: Rules = Rules {
    service: "route53",
    rate: 10.0,
    burst: 50.0,
    unsigned: (403, "MissingAuthenticationToken"),
    unknown_key: (403, "InvalidClientTokenId"),
    denied: (403, "AccessDenied"),
    throttled: (400, "Throttling"),
};
