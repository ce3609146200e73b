//! EC2, Auto Scaling and load balancing of one region, as strict as they are documented, over the query protocol on loopback.

mod form;
mod store;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, Request};

use self::form::{Form, Wrong};
use self::store::{Group, Store, Targets};
pub use self::store::{Inst, Scaled, Target};
use super::double::{Double, Role};
use super::reception::{Asked, Reception, Rules};

pub type FakeRegion = Double<Region>;

pub struct Region {
    store: Store,
    /// One for each service, in the order of [`SERVICES`].
    receptions: [Reception; 3],
    /// Said instead of an answer, once each: of which operation, with which status.
    odd: Vec<(&'static str, u16, String)>,
}

impl FakeRegion {
    pub async fn start() -> FakeRegion {
        let receptions = [0, 1, 2].map(|at| Reception::new(SERVICES[at].rules));
        Double::serve(Region { store: Store::default(), receptions, odd: Vec::new() }).await
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
}

impl Role for Region {
    fn operation(request: &Request<Bytes>) -> &'static str {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (method, kind) = (request.method(), header("content-type"));
        assert!(method == Method::POST && kind.starts_with("application/x-www-form-urlencoded"), "{method} {kind}");
        let signed = header("authorization");
        assert!(signed.is_empty() || signed.contains(&format!("/{REGION}/")), "signed for another region: {signed}");
        form::read(request.body()).operation()
    }

    fn receptions(&mut self) -> &mut [Reception] {
        &mut self.receptions
    }

    fn front(operation: &str) -> usize {
        let knows = SERVICES.iter().position(|service| service.operations.contains(&operation));
        knows.unwrap_or_else(|| panic!("nobody here knows {operation}"))
    }

    fn answer(&mut self, asked: &Asked, request: &Request<Bytes>) -> (Response, String) {
        let (status, text, outcome) = self.carry_out(asked, form::read(request.body()));
        (Response::builder().status(status).header("content-type", "text/xml").body(Body::from(text)).unwrap(), outcome)
    }
}

impl Region {
    /// Status, body, and what came of it.
    fn carry_out(&mut self, asked: &Asked, form: Form) -> (u16, String, String) {
        if let Some(at) = self.odd.iter().position(|(of, ..)| *of == asked.operation) {
            let (_, status, text) = self.odd.remove(at);
            return (status, text, "odd".to_owned());
        }
        let front = Region::front(asked.operation);
        let service = &SERVICES[front];
        let admitted = self.receptions[front].admit(asked).map_err(Wrong::from);
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
