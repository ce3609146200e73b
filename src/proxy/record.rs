//! The record of one request: opened when its head has been read, written once, when it is dropped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderName, header, request};

use super::converse::Visitor;
use super::headers::{self, RequestId};
use super::lanes::Lane;
use super::leave::{Leave, Stage};
use super::refusal::{Refusal, client_gone};
use super::upstream::Upstream;
use crate::access_log::{Asked, Book, Closing, Draft, Opening};
use crate::metrics::RefusalSheet;
use crate::time::{self, Moment};

/// What is known of a request so far. Dropping it counts it and ends its line in the access log, however it ended.
pub struct Record {
    pub begun: Moment,
    /// Since when nobody keeps it waiting but the color it is for.
    ready: Moment,
    /// Its client goes on sending while the color has it: who keeps whom waiting cannot be told.
    is_in_parts: bool,
    /// How long the head of the answer took since it was ready.
    answered: Option<Duration>,
    /// The lane it is for.
    lane: Option<Rc<Lane>>,
    is_inside: bool,
    is_waiting: bool,
    is_cut: bool,
    is_counted: bool,
    status: u16,
    /// Only where there is an access log.
    story: Option<(Rc<Ledger>, Box<Story>)>,
}

/// One worker's access log, and stories that have been told, to be used again.
pub struct Ledger {
    book: Rc<Book>,
    leave: Rc<Leave>,
    #[expect(clippy::vec_box, reason = "the boxes are what is used again")]
    spare: RefCell<Vec<Box<Story>>>,
}

/// What only the access log wants to know.
#[derive(Default)]
struct Story {
    draft: Draft,
    generation: u64,
    upstream: Option<Rc<Upstream>>,
    connecting: Duration,
    first_byte: Option<Duration>,
    /// Counted by the request's body as it comes.
    bytes_in: Rc<Cell<u64>>,
    bytes_out: u64,
    end: End,
}

/// Who ended a request, and why.
#[derive(Clone, Copy, Default)]
pub enum End {
    /// Whatever drops a request without a word does so because its client has gone, or because the process ends.
    #[default]
    Dropped,
    /// The whole answer has been passed on.
    Complete,
    /// The backend's answer broke off.
    BackendCut,
    /// The backend paused for too long.
    SlowAnswer,
    /// The answer's trailers are longer than allowed.
    LongTrailers,
    Refused(Refusal),
    /// An invitation to a preview was exchanged for a cookie.
    Invited,
    TunnelClosedByClient,
    TunnelClosedByBackend,
    /// The pool did not wait for the tunnel any longer.
    TunnelCut,
}

impl Ledger {
    pub fn new(book: Rc<Book>, leave: Rc<Leave>) -> Rc<Ledger> {
        Rc::new(Ledger { book, leave, spare: RefCell::default() })
    }

    fn begin(self: &Rc<Ledger>, visitor: &Visitor, head: Option<&request::Parts>) -> (Rc<Ledger>, Box<Story>) {
        let mut story = self.spare.borrow_mut().pop().unwrap_or_default();
        let client = visitor.client.address.as_bytes();
        let asked = head.map(|head| asked(visitor, head));
        self.book.begin(&mut story.draft, &Opening { at: time::wall(), client, asked });
        (self.clone(), story)
    }

    fn end(&self, story: Box<Story>, closing: &Closing<'_>) {
        self.book.end(&story.draft, closing);
        self.keep(story);
    }

    /// To be used again.
    fn keep(&self, mut story: Box<Story>) {
        story.forget();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MAX_SPARE {
            spare.push(story);
        }
    }
}

impl Story {
    /// As good as new, without an allocation.
    fn forget(&mut self) {
        match Rc::get_mut(&mut self.bytes_in) {
            Some(count) => count.set(0),
            // The rest of a body still comes, and is nobody's concern.
            None => self.bytes_in = Rc::default(),
        }
        (self.upstream, self.generation, self.connecting) = (None, 0, Duration::ZERO);
        (self.first_byte, self.bytes_out, self.end) = (None, 0, End::default());
    }
}

/// What a line says of a head. One walk over the fields costs less than to look up each that is wanted.
fn asked<'h>(visitor: &Visitor, head: &'h request::Parts) -> Asked<'h> {
    let mut asked = Asked {
        method: head.method.as_str(),
        target: head.uri.path_and_query().map_or("", |target| target.as_str()),
        version: head.version,
        host: headers::host(head),
        forwarded_for: None,
        traceparent: None,
        referer: None,
        user_agent: None,
    };
    for (name, value) in &head.headers {
        let place = match () {
            () if *name == header::USER_AGENT => &mut asked.user_agent,
            () if *name == header::REFERER => &mut asked.referer,
            () if *name == TRACEPARENT => &mut asked.traceparent,
            () if visitor.client.trusted && *name == headers::X_FORWARDED_FOR => &mut asked.forwarded_for,
            () => continue,
        };
        place.get_or_insert(value.as_bytes());
    }
    asked
}

impl Record {
    /// `head` is nothing where none could be read, `ledger` where there is no access log.
    pub fn open(ledger: Option<&Rc<Ledger>>, visitor: &Visitor, head: Option<&request::Parts>) -> Record {
        let begun = Moment::now();
        Record {
            begun,
            ready: begun,
            is_in_parts: false,
            answered: None,
            lane: None,
            is_inside: false,
            is_waiting: false,
            is_cut: false,
            is_counted: false,
            status: client_gone().as_u16(),
            story: ledger.map(|ledger| ledger.begin(visitor, head)),
        }
    }

    /// What the request is called, by its client or by us.
    pub fn named(&mut self, id: &RequestId<'_>) {
        if let Some((ledger, story)) = &mut self.story {
            ledger.book.name(&mut story.draft, id.as_bytes());
        }
    }

    /// The request is for this lane's service.
    pub fn addressed(&mut self, lane: &Rc<Lane>) {
        self.lane = Some(lane.clone());
    }

    /// What counts the bytes of the request's body, where that is of interest.
    pub fn bytes_in(&self) -> Option<Rc<Cell<u64>>> {
        self.story.as_ref().map(|(_, story)| story.bytes_in.clone())
    }

    /// Its client has kept it waiting until now, which no color is to be blamed for.
    pub fn comes_late(&mut self) {
        self.ready = Moment::now();
    }

    /// More of its body is to come than is waited for. It counts by its status, not by its time nor by who leaves.
    pub fn comes_in_parts(&mut self) {
        self.is_in_parts = true;
    }

    /// The request is inside the lane's pool.
    pub fn admitted(&mut self, lane: &Rc<Lane>, generation: u64) {
        self.lane = Some(lane.clone());
        self.is_inside = true;
        self.is_waiting = !self.is_in_parts;
        if self.is_waiting {
            lane.sheet.waiting.come(self.ready);
        }
        if let Some((_, story)) = &mut self.story {
            story.generation = generation;
        }
    }

    /// It goes to this endpoint; an earlier one did not do.
    pub fn turns_to(&mut self, upstream: &Rc<Upstream>) {
        if let Some((_, story)) = &mut self.story {
            story.upstream = Some(upstream.clone());
        }
    }

    /// Watches how long a connection takes.
    pub async fn awaits<T>(&mut self, connection: impl Future<Output = T>) -> T {
        let Some((_, story)) = &mut self.story else { return connection.await };
        let since = Moment::now();
        let connection = connection.await;
        story.connecting += Moment::now().since(since);
        connection
    }

    /// The head of the answer is there.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
        self.waits_no_longer();
        let at = Moment::now();
        self.answered = (!self.is_in_parts).then(|| at.since(self.ready));
        if let Some((_, story)) = &mut self.story {
            story.first_byte = Some(at.since(self.begun));
        }
    }

    /// The proxy answers itself, with so many bytes; `nowhere` counts what belongs to no service.
    pub fn refused(&mut self, refusal: Refusal, bytes: u64, nowhere: &RefusalSheet) {
        self.status = refusal.status().as_u16();
        let sheet = self.lane.as_ref().map_or(nowhere, |lane| &lane.refusals);
        sheet.reasons[refusal.number()].add(1);
        self.passed(if refusal == Refusal::ClientGone { 0 } else { bytes });
        self.ended(End::Refused(refusal));
    }

    /// The client is sent to the same place without its invitation.
    pub fn redirected(&mut self, status: u16) {
        self.status = status;
        self.ended(End::Invited);
    }

    /// The proxy has asked itself, which is nobody's request: it has no line.
    pub fn is_nobodys(&mut self) {
        if let Some((ledger, story)) = self.story.take() {
            ledger.keep(story);
        }
    }

    /// The request is over and has become a tunnel: it counts now, and its line waits for the tunnel's end.
    pub fn becomes_tunnel(&mut self) {
        self.count();
    }

    /// So many bytes more have come from the client of a tunnel.
    pub fn came(&mut self, bytes: u64) {
        if let Some((_, story)) = &mut self.story {
            story.bytes_in.set(story.bytes_in.get() + bytes);
        }
    }

    /// So many bytes more go to the client.
    pub fn passed(&mut self, bytes: u64) {
        if let Some((_, story)) = &mut self.story {
            story.bytes_out += bytes;
        }
    }

    pub fn ended(&mut self, end: End) {
        self.is_cut = end.is_cut();
        if let Some((_, story)) = &mut self.story {
            story.end = end;
        }
    }

    /// Counts it, once, and says how long it took so far.
    fn count(&mut self) -> Duration {
        let took = Moment::now().since(self.begun);
        let has_left = self.waits_no_longer() && self.status == client_gone().as_u16();
        if let Some(lane) = self.lane.as_ref().filter(|_| self.is_inside && !self.is_counted) {
            lane.sheet.count(self.status, took, self.answered);
            if has_left {
                lane.sheet.left.add(1);
            }
            if self.is_cut && self.status < 500 {
                lane.sheet.cut.add(1);
            }
        }
        self.is_counted = true;
        took
    }

    /// Whether it did until now.
    fn waits_no_longer(&mut self) -> bool {
        let waited = std::mem::take(&mut self.is_waiting);
        if let Some(lane) = self.lane.as_ref().filter(|_| waited) {
            lane.sheet.waiting.go(self.ready);
        }
        waited
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let total = self.count();
        let Some((ledger, mut story)) = self.story.take() else { return };
        let upstream = story.upstream.take();
        let (ended_by, why) = story.end.words(ledger.leave.stage());
        let lane = self.lane.as_ref();
        let inside = lane.filter(|_| self.is_inside);
        let closing = Closing {
            service: lane.map(|lane| lane.service.name.as_str()),
            pool: inside.map(|lane| (lane.pool.color.as_str(), story.generation)),
            endpoint: upstream.as_ref().map(|upstream| (upstream.name(), story.connecting)),
            status: self.status,
            bytes_in: story.bytes_in.get(),
            bytes_out: story.bytes_out,
            total,
            first_byte: story.first_byte,
            ended_by,
            why,
        };
        ledger.end(story, &closing);
    }
}

impl End {
    /// The backend began an answer that it did not bring to its end.
    fn is_cut(self) -> bool {
        matches!(self, End::BackendCut | End::SlowAnswer | End::LongTrailers)
    }

    /// Who ended it, and why.
    fn words(self, stage: Stage) -> (&'static str, &'static str) {
        match self {
            End::Dropped if stage == Stage::Gone => ("proxy", "stopped"),
            End::Dropped | End::Refused(Refusal::ClientGone) => ("client", "client-gone"),
            End::Complete => ("backend", "complete"),
            End::BackendCut => ("backend", "backend-cut"),
            End::SlowAnswer => ("proxy", "slow-answer"),
            End::LongTrailers => ("proxy", "long-trailers"),
            End::Refused(refusal) => ("proxy", refusal.reason()),
            End::Invited => ("proxy", "invited"),
            End::TunnelClosedByClient => ("client", "tunnel-closed"),
            End::TunnelClosedByBackend => ("backend", "tunnel-closed"),
            End::TunnelCut => ("proxy", "tunnel-cut"),
        }
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Stories kept to be used again: as many requests as one worker often has at the same time.
const MAX_SPARE: usize = 256;
