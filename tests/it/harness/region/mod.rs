//! EC2, Auto Scaling and load balancing of one region, as strict as they are documented, over the query protocol on loopback.

mod form;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::form::{Form, Wrong};
use self::store::{Group, Store, Targets};
pub use self::store::{Inst, Scaled, Target};
use super::reception::{Asked, Reception, Rules};

/// The double; dropping it ends it.
pub struct FakeRegion {
    pub address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    task: JoinHandle<()>,
}

struct Inside {
    store: Store,
    /// One for each service, in the order of [`SERVICES`].
    receptions: [Reception; 3],
    /// Said instead of an answer, once each: of which operation, with which status.
    odd: Vec<(&'static str, u16, String)>,
}

impl FakeRegion {
    pub async fn start() -> FakeRegion {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let receptions = [0, 1, 2].map(|at| Reception::new(SERVICES[at].rules));
        let inside = Inside { store: Store::default(), receptions, odd: Vec::new() };
        let inside = Arc::new(Mutex::new(inside));
        let router = Router::new().fallback(answer_to).with_state(inside.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        FakeRegion { address, inside, task }
    }

    /// What goes into `endpoint_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn add(&self, instance: Inst) {
        self.inside().store.instances.push(instance);
    }

    /// It is to have as many instances as it has, and four at the most, or all of these.
    pub fn add_group(&self, name: &str, instances: &[Scaled]) {
        let count = instances.len() as u32;
        let sizes = [0, count, count.max(4)];
        self.inside().store.groups.push(Group { name: name.to_owned(), sizes, instances: instances.to_vec() });
    }

    /// Its ARN.
    pub fn add_target_group(&self, name: &str, kind: &str, targets: &[Target]) -> String {
        let arn = format!("arn:aws:elasticloadbalancing:{REGION}:123456789012:targetgroup/{name}/0123456789abcdef");
        let group =
            Targets { arn: arn.clone(), name: name.to_owned(), kind: kind.to_owned(), targets: targets.to_vec() };
        self.inside().store.target_groups.push(group);
        arn
    }

    /// Lists no more than so many instances at once, whatever is asked for.
    pub fn list_at_most(&self, most: usize) {
        self.inside().store.list_at_most = Some(most);
    }

    /// Each page of instances says that there is one more.
    pub fn never_end(&self) {
        self.inside().store.never_ends = true;
    }

    /// Says this instead, once, whatever it is.
    pub fn say(&self, operation: &'static str, status: u16, body: &str) {
        self.inside().odd.push((operation, status, body.to_owned()));
    }

    /// Answers so many requests of this operation with an error instead.
    pub fn fail(&self, operation: &'static str, times: usize, status: u16, code: &str, message: &str) {
        self.inside().reception(operation).fail(operation, times, status, code, message);
    }

    /// As IAM does where no policy allows it, for ever.
    pub fn deny(&self, operation: &'static str) {
        self.inside().reception(operation).deny(operation);
    }

    /// Every request for this operation so far.
    pub fn asked(&self, operation: &str) -> Vec<Asked> {
        let asked = self.inside().reception(operation).asked().to_vec();
        asked.into_iter().filter(|asked| asked.operation == operation).collect()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        lock(&self.inside)
    }
}

impl Drop for FakeRegion {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_to(
    State(inside): State<Arc<Mutex<Inside>>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(method == Method::POST && kind.starts_with("application/x-www-form-urlencoded"), "{method} {kind}");
    let signed = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(signed.is_empty() || signed.contains(&format!("/{REGION}/")), "signed for another region: {signed}");
    let form = form::read(&body);
    let operation = form.operation();
    let mut inside = lock(&inside);
    let asked = inside.reception(operation).read(operation, &headers, &body);
    let (status, text, outcome) = inside.answer(&asked, form);
    inside.reception(operation).note(asked, &outcome);
    Response::builder().status(status).header("content-type", "text/xml").body(Body::from(text)).unwrap()
}

impl Inside {
    /// Status, body, and what came of it.
    fn answer(&mut self, asked: &Asked, form: Form) -> (u16, String, String) {
        if let Some(at) = self.odd.iter().position(|(of, ..)| *of == asked.operation) {
            let (_, status, text) = self.odd.remove(at);
            return (status, text, "odd".to_owned());
        }
        let service = service(asked.operation);
        let admitted = self.reception(asked.operation).admit(asked).map_err(Wrong::from);
        let result = admitted.and_then(|()| form.check(service.version)).and_then(|form| self.store.answer(form));
        match result {
            Ok(inner) => {
                let (name, version) = (asked.operation, service.version);
                (
                    200,
                    format!("<{name}Response xmlns=\"http://amazonaws.com/doc/{version}/\">{inner}</{name}Response>"),
                    "ok".to_owned(),
                )
            }
            Err(Wrong { status, code, message }) => {
                let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
                let text = match service.rules.service {
                    "ec2" => format!("<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>"),
                    _ => format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"),
                };
                (status, text, code)
            }
        }
    }

    fn reception(&mut self, operation: &str) -> &mut Reception {
        let at = SERVICES.iter().position(|service| service.operations.contains(&operation));
        &mut self.receptions[at.unwrap_or_else(|| panic!("nobody here knows {operation}"))]
    }
}

fn service(operation: &str) -> &'static Service {
    SERVICES.iter().find(|service| service.operations.contains(&operation)).unwrap()
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    // A story that has failed has still to be told why.
    inside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Service {
    version: &'static str,
    operations: &'static [&'static str],
    rules: Rules,
}

/// The one it is.
pub const REGION: &str = "us-east-1";

static SERVICES: [Service; 3] = [
    Service {
        version: "2016-11-15",
        operations: &["DescribeInstances"],
        rules: Rules {
            service: "ec2",
            rate: 20.0,
            burst: 100.0,
            unsigned: (400, "MissingAuthenticationToken"),
            unknown_key: (401, "AuthFailure"),
            denied: (403, "UnauthorizedOperation"),
            throttled: (503, "RequestLimitExceeded"),
        },
    },
    Service {
        version: "2011-01-01",
        operations: &["DescribeAutoScalingGroups", "UpdateAutoScalingGroup"],
        rules: Rules { service: "autoscaling", ..OTHERS },
    },
    Service {
        version: "2015-12-01",
        operations: &["DescribeTargetGroups", "DescribeTargetHealth"],
        rules: Rules { service: "elasticloadbalancing", ..OTHERS },
    },
];
const OTHERS: Rules = Rules {
    service: "",
    rate: 10.0,
    burst: 40.0,
    unsigned: (403, "MissingAuthenticationToken"),
    unknown_key: (403, "InvalidClientTokenId"),
    denied: (403, "AccessDenied"),
    throttled: (400, "Throttling"),
};
