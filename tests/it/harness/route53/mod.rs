//! Route 53 as strict as it is documented, over real HTTP and XML on loopback, with every state a story may need.

mod answer;
mod changes;
mod set;
mod store;

use axum::response::Response;
use bytes::Bytes;
use http::Request;

use self::answer::{Wrong, xml};
pub use self::set::{Alias, Set};
use self::store::Store;
use super::double::{Double, Role};
use super::reception::{Asked, Reception, Rules};

pub type FakeRoute53 = Double<Route53>;

pub struct Route53 {
    store: Store,
    reception: Reception,
}

impl FakeRoute53 {
    pub async fn start() -> FakeRoute53 {
        Double::serve(Route53 { store: Store::default(), reception: Reception::new(RULES) }).await
    }

    /// With one zone in it.
    pub async fn with_zone(id: &str, name: &str) -> FakeRoute53 {
        let fake = FakeRoute53::start().await;
        fake.add_zone(id, name);
        fake
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
        let zone = zone.to_owned();
        self.view(move |inside| inside.store.zone(&zone).unwrap().served[server].clone())
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

    /// The refusal of a batch in the form that is documented instead of the one that is sent.
    pub fn speak_older_form(&self) {
        self.inside().store.older_form = true;
    }
}

impl Role for Route53 {
    fn operation(request: &Request<Bytes>) -> &'static str {
        Operation::of(request).map_or("?", |operation| operation.name())
    }

    fn receptions(&mut self) -> &mut [Reception] {
        std::slice::from_mut(&mut self.reception)
    }

    fn answer(&mut self, asked: &Asked, request: &Request<Bytes>) -> (Response, String) {
        match self.carry_out(asked, request) {
            Ok(text) => (xml(text), "ok".to_owned()),
            Err(wrong) => (wrong.clone().response(self.store.older_form), wrong.code),
        }
    }
}

impl Route53 {
    fn carry_out(&mut self, asked: &Asked, request: &Request<Bytes>) -> Result<String, Wrong> {
        let unknown = || Wrong::new(404, "UnknownOperationException", "there is no such operation");
        let operation = Operation::of(request).ok_or_else(unknown)?;
        self.reception.admit(asked)?;
        match operation {
            Operation::GetZone(zone) => self.store.describe(&zone),
            Operation::List(zone) => self.store.list(&zone, request.uri().query().unwrap_or_default()),
            Operation::Change(zone) => self.store.change(&zone, request.body()),
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
    fn of(request: &Request<Bytes>) -> Option<Operation> {
        let path = request.uri().path().strip_prefix("/2013-04-01/")?;
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        match (request.method().as_str(), &parts[..]) {
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

const RULES: Rules = Rules {
    service: "route53",
    rate: 10.0,
    burst: 50.0,
    unsigned: (403, "MissingAuthenticationToken"),
    unknown_key: (403, "InvalidClientTokenId"),
    denied: (403, "AccessDenied"),
    throttled: (400, "Throttling"),
};
