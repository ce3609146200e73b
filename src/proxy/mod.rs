//! The proxy: carries each request to the live color and its answer back. This file is the path of one request.

mod accept;
mod arrival;
mod body;
mod capacity;
mod converse;
mod deferral;
mod doors;
mod fork;
mod forward;
mod greet;
mod guest;
pub mod headers;
pub mod inflow;
pub mod lanes;
mod leave;
mod listen;
mod loss;
mod meter;
mod mirror;
mod outflow;
mod pulse;
mod record;
mod refusal;
mod sight;
mod silence;
mod socket;
mod stall;
mod streams;
mod tail;
mod tls;
mod tunnel;
mod upload;
mod upstream;
mod warmer;
mod watch;
mod worker;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use self::body::{AbortOnDrop, Answer, Download, Hold};
pub use self::capacity::Capacity;
use self::converse::Visitor;
pub use self::doors::Doors;
use self::fork::Side;
use self::forward::{Arrived, Outgoing};
use self::guest::{Guest, Stop};
use self::headers::RequestId;
pub use self::headers::{PREVIEW, PROBE};
use self::inflow::Inflow;
use self::lanes::{Admission, Lane, Lanes};
use self::leave::Leave;
pub use self::listen::{ListenError, Listener, Listeners};
pub use self::loss::Loss;
use self::outflow::Outflow;
use self::record::{Ledger, Record};
pub use self::refusal::Refusal;
pub use self::sight::Sighting;
use self::streams::Flow;
pub use self::tls::{Identity, Purpose, TlsError, inspect};
use self::upload::Upload;
use self::upstream::{Link, READ_MOST};
pub use self::worker::Workers;
use crate::access_log::{AccessLog, Book};
use crate::metrics::RefusalSheet;
use crate::table::Edge;
use crate::turnstile::Pass;

/// One worker's proxy: it never leaves the worker's thread.
pub struct Proxy {
    lanes: Lanes,
    /// Counts refusals of requests that belong to no service.
    nowhere: Arc<RefusalSheet>,
    /// Where there is an access log; a reload puts another in its place, and records keep the one they began with.
    ledger: RefCell<Option<Rc<Ledger>>>,
    /// HTTP/2 requests under way at this worker.
    streams: Rc<Cell<usize>>,
    workers: usize,
}

/// An answer whose head has come: what is needed to bring it to the client.
struct Carried {
    arrived: Arrived,
    lane: Rc<Lane>,
    pass: Pass,
    upgrade: Option<OnUpgrade>,
    side: Option<Box<Side>>,
}

impl Proxy {
    pub fn new(lanes: Lanes, nowhere: Arc<RefusalSheet>, workers: usize) -> Rc<Proxy> {
        Rc::new(Proxy { lanes, nowhere, ledger: RefCell::default(), streams: Rc::default(), workers })
    }

    /// Where requests have their lines from now on. `leave` is the worker's own.
    pub fn log_to(&self, log: Option<&AccessLog>, worker: usize, leave: &Rc<Leave>) {
        let ledger = log.map(|log| {
            let book = Rc::new(log.book(worker));
            tokio::task::spawn_local(Book::keep(Rc::downgrade(&book)));
            Ledger::new(book, leave.clone())
        });
        self.ledger.replace(ledger);
    }

    /// What connections are held to, as it is now.
    pub fn edge(&self) -> Arc<Edge> {
        self.lanes.look().table.edge.clone()
    }

    /// Carries one request: every request gets an answer, and every answer is recorded.
    ///
    /// It is what hyper is given as the service: one more future around it would be one more copy of it. No async function,
    /// since that would keep the whole request beside its parts.
    pub fn carry(
        self: Rc<Proxy>,
        visitor: Rc<Visitor>,
        request: Request<Incoming>,
        flow: Option<Rc<Flow>>,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> + use<> {
        let (mut head, body) = request.into_parts();
        async move {
            let busy = visitor.pulse.begin();
            let mut record = Record::open(self.ledger.borrow().as_ref(), &visitor, Some(&head));
            visitor.pulse.set_unread(!body.is_end_stream());
            if head.version == Version::HTTP_10 {
                visitor.pulse.speaks_old();
            }
            let mut answer = match self.relay(&visitor, &mut head, body, &mut record).await {
                Ok(carried) => carried.deliver(record, &visitor),
                Err(stop) => {
                    busy.answers();
                    if visitor.pulse.was_interrupted() && !visitor.http2 {
                        // hyper would read the rest of the body, and what stands behind it could be part of that.
                        visitor.is_told.set(true);
                    }
                    self.answer(stop, record)
                }
            };
            if head.version == Version::HTTP_10 && answer.body().size_hint().exact().is_none() {
                // Its end is that of the connection.
                visitor.is_told.set(true);
            }
            visitor.takes_leave_with(&mut answer, head.version);
            visitor.pulse.owes();
            Ok(answer.map(|body| body.with(busy, flow)))
        }
    }

    /// The proxy's own answer to what it does not carry.
    fn answer(&self, stop: Stop, mut record: Record) -> Response<Answer> {
        match stop {
            Stop::Refused(refusal) => {
                let response = refusal.response();
                record.refused(refusal, response.body().size_hint().lower(), &self.nowhere);
                response
            }
            Stop::Elsewhere(redirect) => {
                let response = redirect.response();
                record.redirected(response.status().as_u16());
                response
            }
            Stop::Seen(sighting) => {
                record.is_nobodys();
                sighting.response()
            }
        }
    }

    /// Records the refusal of what never became a request.
    pub fn refuse_unread(&self, visitor: &Visitor, refusal: Refusal) {
        let mut record = Record::open(self.ledger.borrow().as_ref(), visitor, None);
        record.refused(refusal, refusal.text().len() as u64, &self.nowhere);
    }

    /// The steps of a request, in order; the first that fails ends it.
    async fn relay(
        &self,
        visitor: &Rc<Visitor>,
        head: &mut request::Parts,
        body: Incoming,
        record: &mut Record,
    ) -> Result<Carried, Stop> {
        let limits = &visitor.edge.rules.limits;
        if visitor.is_told.get() && !visitor.http2 {
            // Of trailers that came behind the beginning of the answer it could not be told any more.
            return Err(Refusal::BadRequest("the request before it had trailers").into());
        }
        if visitor.http2 && self.streams.get() > limits.http2_requests.div_ceil(self.workers) {
            return Err(Refusal::Overloaded.into());
        }
        let mut vetted = headers::vet(head, &visitor.edge.rules)?;
        if vetted.closes && !vetted.websocket {
            visitor.pulse.hears_the_last();
            // hyper overlooks it beside what is no text, and would leave the answer's end waiting for more.
            visitor.is_told.set(true);
        }
        let id = RequestId::of(&head.headers, vetted);
        record.named(&id);
        let host = headers::host(head);
        visitor.vouches_for(host)?;
        let body = match body.is_end_stream() {
            true => None,
            false => Some(self.receive(host, head, body, visitor, record).await?),
        };
        let begun = record.begun;
        let mut guest = Guest::new(head, visitor, record);
        if vetted.probes {
            self.testify(host, head, &mut guest)?;
        }
        let admitted = self.lanes.admit(host, head.uri.path(), begun, |fork| guest.place(fork))?;
        let Admission { lane, pass, generation, mut side } = admitted;
        if vetted.invited && side.is_none() {
            // Nobody has been invited here: who checks one color must not be shown the other.
            record.addressed(&lane);
            return Err(Refusal::PreviewOver.into());
        }
        record.admitted(&lane, generation);
        if lane.tail.is_armed() {
            tail::hear(&lane, visitor, &head.headers, record.begun);
        }
        let upgrade = vetted.websocket.then(|| head.extensions.remove::<OnUpgrade>()).flatten();
        let cleaned = side.as_ref().and_then(|side| side.cleaned(head, &mut vetted));
        let head = cleaned.as_deref().unwrap_or(head);
        let outgoing = Outgoing { head, vetted, client: &visitor.client, id: &id };
        if let Some(side) = side.as_mut().filter(|_| body.is_none()) {
            side.mirror(&outgoing, &lane);
        }
        let arrived = forward::send(&lane, outgoing, body, record).await?;
        let upgrade = tunnel::agreed(&arrived.reply, upgrade)?;
        Ok(Carried { arrived, lane, pass, upgrade, side })
    }

    /// Ends a probe of the proxy's own with where it would have gone. Anybody else's word that it is one counts for nothing.
    #[cold]
    fn testify(&self, host: &str, head: &request::Parts, guest: &mut Guest<'_>) -> Result<(), Stop> {
        let (path, shown) = (head.uri.path(), head.headers.get(PROBE).map(HeaderValue::as_bytes));
        let lane = self.lanes.find(host, path)?;
        if !shown.is_some_and(|shown| self.lanes.signed(shown, &lane.service.name)) {
            return Ok(());
        }
        Err(Stop::Seen(Box::new(self.lanes.sight(host, path, |fork| guest.place(fork))?)))
    }

    /// The body with its beginning, or all of it, at hand: a slow upload must keep nobody but its client waiting, no
    /// backend and no drain, so it is outside the pool until then.
    async fn receive(
        &self,
        host: &str,
        head: &request::Parts,
        body: Incoming,
        visitor: &Rc<Visitor>,
        record: &mut Record,
    ) -> Result<Box<Upload>, Refusal> {
        let lane = self.lanes.find(host, head.uri.path())?;
        record.addressed(&lane);
        let rules = &lane.service.rules;
        headers::vet_length(&head.headers, rules.limits.request_body)?;
        let mut upload = Box::new(Upload::new(head, body, rules, visitor.clone(), record.bytes_in()));
        if !headers::streams_both_ways(&head.headers) {
            upload.fill(rules.limits.request_buffer).await?;
            if upload.was_waited_for() {
                record.comes_late();
            }
            if !upload.is_whole() {
                record.comes_in_parts();
            }
        }
        Ok(upload)
    }
}

impl Carried {
    /// The answer as the client gets it; from here on its body holds the request's pass, or its tunnel does.
    fn deliver(self, mut record: Record, visitor: &Rc<Visitor>) -> Response<Answer> {
        let Carried { arrived: Arrived { reply, link, unsent }, lane, pass, upgrade, side } = self;
        let (mut head, ()) = reply.response.into_parts();
        record.answered(head.status.as_u16());
        if let Some(side) = side {
            side.answered(head.status.as_u16(), record.begun, &mut head.headers);
        }
        if let Some(client) = upgrade {
            headers::switched(&mut head.headers);
            tunnel::join(client, link, pass, &lane.pool, record, visitor.clone());
            return Response::from_parts(head, Answer::own(Bytes::new()));
        }
        let (link, rest) = send_rest(link, unsent);
        let (spare, limits) = (lane.service.rules.limits.upstream_idle, &visitor.edge.rules.limits);
        let hold = Hold { link, age: lane.age(), spare, rest, keeps: reply.keeps, record, pass };
        // Over HTTP/1.1 a client that takes nothing stops the reading; over HTTP/2 there may be many requests like that.
        let most = if visitor.http2 { limits.http2_send_buffer } else { READ_MOST };
        let pause = lane.service.rules.timeouts.body;
        let download = Download::new(Inflow::new(reply.extent), most, limits.trailers, pause, hold);
        Response::from_parts(head, Answer::carried(download))
    }
}

/// Where the answer came before the request was whole, the rest goes out beside it.
fn send_rest(link: Link, unsent: Option<Box<Outflow>>) -> (Link, Option<AbortOnDrop>) {
    let Some(outflow) = unsent else { return (link, None) };
    let (link, socket) = link.split();
    let rest = socket.map(|socket| {
        // Whether it arrives is between the two: the answer has been given.
        let sending = async { drop(forward::send_rest(outflow, socket).await) };
        AbortOnDrop(tokio::task::spawn_local(sending))
    });
    (link, rest)
}
