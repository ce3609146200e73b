//! The proxy: carries each request to the live color and its answer back. This file is the path of one request.

mod body;
mod forward;
mod headers;
mod lanes;
mod listen;
mod pulse;
mod record;
mod refusal;
mod socket;
mod tls;
mod tunnel;
mod upstream;
mod worker;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use self::body::{Answer, Download, Hold, Pace, Upload};
use self::forward::Reply;
use self::lanes::{Admission, Lane, Lanes};
use self::listen::Visitor;
pub use self::listen::{ListenError, Listener, Timers};
use self::record::Record;
pub use self::refusal::Refusal;
pub use self::tls::{Certificates, TlsError};
use self::tunnel::Agreed;
pub use self::worker::Workers;
use crate::metrics::RefusalSheet;
use crate::turnstile::Pass;

/// One worker's proxy: it never leaves the worker's thread.
pub struct Proxy {
    lanes: Lanes,
    /// Counts refusals of requests that belong to no service.
    nowhere: Arc<RefusalSheet>,
}

/// An answer whose head has come: what is needed to bring it to the client.
struct Carried {
    reply: forward::Reply,
    lane: Rc<Lane>,
    pass: Pass,
    upload: Option<Rc<Pace>>,
    upgrade: Option<Agreed>,
}

impl Proxy {
    pub fn new(lanes: Lanes, nowhere: Arc<RefusalSheet>) -> Rc<Proxy> {
        Rc::new(Proxy { lanes, nowhere })
    }

    /// Carries one request: every request gets an answer, and every answer is recorded.
    pub async fn carry(self: Rc<Proxy>, visitor: Rc<Visitor>, request: Request<Incoming>) -> Response<Answer> {
        let busy = visitor.pulse.begin();
        let mut record = Record::open();
        let (head, body) = request.into_parts();
        let is_whole = body.is_end_stream();
        let answer = match self.relay(&visitor, head, body, &mut record).await {
            Ok(carried) => carried.deliver(record),
            Err(refusal) => {
                record.refused(refusal, &self.nowhere);
                if !is_whole {
                    busy.interrupts();
                }
                refusal.response()
            }
        };
        answer.map(|body| body.with(busy))
    }

    /// Counts the refusal of what never became a request.
    pub fn count_refusal(&self, refusal: Refusal) {
        self.nowhere.reasons[refusal.number()].add(1);
    }

    /// The steps of a request, in order; the first that fails ends it.
    async fn relay(
        &self,
        visitor: &Visitor,
        mut head: request::Parts,
        body: Incoming,
        record: &mut Record,
    ) -> Result<Carried, Refusal> {
        let vetted = headers::vet(&head)?;
        let host = headers::host(&head);
        visitor.vouches_for(host)?;
        let Admission { lane, pass } = self.lanes.admit(host, head.uri.path(), record.begun)?;
        record.admitted(&lane);
        let rules = &lane.service.rules;
        let limit = rules.limits.request_body;
        headers::vet_length(&head.headers, limit)?;
        let upgrade = vetted.websocket.then(|| head.extensions.remove::<OnUpgrade>()).flatten();
        headers::to_backend(&mut head, vetted, &visitor.client);
        headers::frame(&mut head, &body);
        let body = Upload::new(body, limit, rules.timeouts.body);
        let upload = body.pace();
        let mut reply = forward::send(&lane, Request::from_parts(head, body)).await?;
        let upgrade = tunnel::agreed(&mut reply.response, upgrade)?;
        Ok(Carried { reply, lane, pass, upload, upgrade })
    }
}

impl Carried {
    /// The answer as the client gets it; from here on its body holds the request's pass, or its tunnel does.
    fn deliver(self, mut record: Record) -> Response<Answer> {
        let Carried { reply: Reply { response, link }, lane, pass, upload, upgrade } = self;
        let (mut head, body) = response.into_parts();
        record.answered(head.status.as_u16());
        headers::to_client(&mut head, upgrade.is_some());
        let body = match upgrade {
            Some(Agreed { client, backend }) => {
                tunnel::join(client, backend, link, pass, &lane.pool);
                Answer::own(Bytes::new())
            }
            None => {
                let hold = Hold { link, age: lane.age(), upload, record, pass };
                Answer::carried(Download::new(body, lane.service.rules.timeouts.body, hold))
            }
        };
        Response::from_parts(head, body)
    }
}
