//! Answers on their way to the client: they stream with back-pressure, and hold what must last as long as they do.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::headers;
use super::inflow::{Broken, Inflow};
use super::pulse::Busy;
use super::record::{End, Record};
use super::stall::Stall;
use super::streams::Flow;
use super::upstream::Link;
use crate::turnstile::Pass;

/// The body of an answer to a client: carried from a backend, or the proxy's own.
pub struct Answer {
    kind: Kind,
    busy: Option<Busy>,
    /// On HTTP/2: how fast the client takes it.
    flow: Option<Rc<Flow>>,
}

enum Kind {
    /// In a box: hyper moves a response about several times, and that costs more than the allocation.
    Carried(Box<Download>),
    Own(Option<Bytes>),
}

impl Answer {
    pub fn own(text: Bytes) -> Answer {
        Answer { kind: Kind::Own(Some(text).filter(|text| !text.is_empty())), busy: None, flow: None }
    }

    pub fn carried(download: Download) -> Answer {
        Answer { kind: Kind::Carried(Box::new(download)), busy: None, flow: None }
    }

    /// Keeps the client's connection counted as busy until the last byte, and says how the answer flows.
    pub fn with(mut self, busy: Busy, flow: Option<Rc<Flow>>) -> Answer {
        self.busy = Some(busy);
        self.flow = flow;
        self
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Kind::Carried(download) = &mut self.kind else { return };
        // An answer without a body is complete without ever having been asked for a piece.
        if download.rest.is_empty() && download.inflow.is_done() {
            download.finish();
        }
        if let Some(busy) = self.busy.as_ref().filter(|_| download.is_early) {
            busy.answers();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if let Some(flow) = &this.flow {
            flow.asked();
        }
        let frame = match &mut this.kind {
            Kind::Carried(download) => ready!(download.poll_frame(cx, this.flow.is_some())),
            Kind::Own(text) => text.take().map(|text| Ok(Frame::data(text))),
        };
        if let (Some(Err(_)), Some(busy)) = (&frame, &this.busy) {
            busy.breaks_off();
        }
        if let (Some(flow), Some(Ok(frame))) = (&this.flow, &frame) {
            flow.gave(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Carried(download) => download.rest.is_empty() && download.inflow.is_done(),
            Kind::Own(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Carried(download) => match download.inflow.left() {
                Some(more) => SizeHint::with_exact(download.rest.len() as u64 + more),
                None => SizeHint::default(),
            },
            Kind::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

/// A backend's body on its way to the client. It holds the request's pass and its record until the last byte.
pub struct Download {
    inflow: Inflow,
    /// What is left of a piece that was too large for HTTP/2.
    rest: Bytes,
    /// Bytes that are read at one time.
    most: usize,
    trailers: usize,
    stall: Stall,
    hold: Option<Hold>,
    /// It was complete before the request was.
    is_early: bool,
    is_cut: bool,
}

/// What a request holds for as long as its answer streams; the fields are let go of in this order.
pub struct Hold {
    pub link: Link,
    /// Of the lane, when the request began: what the connection's idle time counts from.
    pub age: u64,
    /// Unused connections there may be beside it.
    pub spare: usize,
    /// Sends the rest of the request, where the answer came before its end.
    pub rest: Option<AbortOnDrop>,
    /// The connection may carry another request.
    pub keeps: bool,
    pub record: Record,
    pub pass: Pass,
}

impl Download {
    /// `most` is read at one time; `pause` is the longest the backend may make us wait for the next piece.
    pub fn new(inflow: Inflow, most: usize, trailers: usize, pause: Duration, hold: Hold) -> Download {
        let (rest, stall) = (Bytes::new(), Stall::new(pause, 0));
        Download { inflow, rest, most, trailers, stall, hold: Some(hold), is_early: false, is_cut: false }
    }

    /// The next piece; a small one where the client's progress is told by pieces.
    fn poll_frame(&mut self, cx: &mut Context<'_>, small: bool) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut frame = if self.rest.is_empty() {
            ready!(self.receive(cx))
        } else {
            Some(Ok(Frame::data(std::mem::take(&mut self.rest))))
        };
        if small
            && let Some(Ok(frame)) = &mut frame
            && let Some(data) = frame.data_mut()
            && data.len() > SMALL
        {
            self.rest = data.split_off(SMALL);
        }
        match (&frame, &mut self.hold) {
            (Some(Ok(frame)), Some(hold)) => hold.record.passed(frame.data_ref().map_or(0, Bytes::len) as u64),
            (Some(Err(fault)), Some(_)) => self.fail(fault),
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(hold) = &mut self.hold else { return Poll::Ready(None) };
        if self.is_cut {
            // The socket is not asked again: it tells of a reset once, and of an end from then on.
            return Poll::Ready(Some(Err(Fault::Cut)));
        }
        let wire = &mut hold.link.wire;
        loop {
            match self.inflow.next(&mut wire.input) {
                Ok(Some(frame)) => {
                    self.stall.moved(1);
                    return Poll::Ready(Some(self.clean(frame)));
                }
                Ok(None) if self.inflow.is_done() => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(None) => {}
                Err(Broken) => return self.cut(cx),
            }
            match wire.poll_fill(cx, self.most) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                // A reset is no end, even where the end of the connection is that of the body.
                Poll::Ready(Ok(_)) if self.inflow.end().is_ok() => {}
                Poll::Ready(_) => return self.cut(cx),
                Poll::Pending => {
                    ready!(self.stall.poll(cx));
                    return Poll::Ready(Some(Err(Fault::Paused)));
                }
            }
        }
    }

    /// The answer breaks off, one turn later: so that what came before is on its way to the client.
    fn cut(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.is_cut = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn clean(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Fault> {
        if frame.is_data() {
            return Ok(frame);
        }
        headers::clean_trailers(frame, self.trailers).map_err(|_| Fault::LongTrailers)
    }

    /// The answer has no end, and its connection carries nothing more.
    fn fail(&mut self, fault: &Fault) {
        let Some(Hold { mut record, .. }) = self.hold.take() else { return };
        record.ended(fault.end());
    }

    /// The answer is complete: its connection may be used again, unless the request is still being sent on it.
    fn finish(&mut self) {
        let Some(Hold { link, age, spare, keeps, rest, mut record, pass }) = self.hold.take() else { return };
        record.ended(End::Complete);
        drop((record, pass));
        match rest {
            Some(rest) if !rest.is_done() => self.is_early = true,
            _ if keeps => link.release(age, spare),
            _ => {}
        }
    }
}

/// A task that ends with whoever holds this.
pub struct AbortOnDrop(pub JoinHandle<()>);

impl AbortOnDrop {
    fn is_done(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the body paused for too long")]
    Paused,
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the trailers are longer than allowed")]
    LongTrailers,
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    #[error("the answer was cut short, or is none")]
    Cut,
}

impl Fault {
    /// How an answer ended that ended so.
    fn end(&self) -> End {
        match self {
            Fault::Paused => End::SlowAnswer,
            Fault::LongTrailers => End::LongTrailers,
            _ => End::BackendCut,
        }
    }
}

/// The largest piece of an HTTP/2 answer: so that a slow client's progress is seen.
const SMALL: usize = 16 * 1024;
