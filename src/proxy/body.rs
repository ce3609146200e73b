//! Bodies on their way through: they stream with back-pressure, watch for pauses, and hold what must last as long as they do.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::headers;
use super::pulse::Busy;
use super::record::Record;
use super::refusal::Refusal;
use super::upstream::Link;
use crate::turnstile::Pass;

/// A request's body on its way to a backend.
pub struct Upload {
    inner: Option<Incoming>,
    /// Bytes that may still come.
    left: u64,
    pace: Option<Rc<Pace>>,
    stall: Stall,
}

/// How an upload is getting on: shared with the one who waits for the answer.
#[derive(Default)]
pub struct Pace {
    pieces: Cell<u64>,
    done: Cell<bool>,
    fault: Cell<Option<Refusal>>,
}

impl Upload {
    /// `limit` in bytes; `pause` is the longest the client may make us wait for the next piece.
    pub fn new(inner: Incoming, limit: Option<u64>, pause: Duration) -> Upload {
        let pace = (!inner.is_end_stream()).then(Rc::default);
        let inner = pace.is_some().then_some(inner);
        Upload { inner, left: limit.unwrap_or(u64::MAX), pace, stall: Stall::new(pause) }
    }

    /// No body: what a request without one is repeated with.
    pub fn none() -> Upload {
        Upload { inner: None, left: 0, pace: None, stall: Stall::new(Duration::MAX) }
    }

    pub fn is_none(&self) -> bool {
        self.inner.is_none()
    }

    pub fn pace(&self) -> Option<Rc<Pace>> {
        self.pace.clone()
    }

    fn fail(&self, fault: Fault, refusal: Option<Refusal>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(pace) = &self.pace {
            pace.fault.set(refusal);
        }
        Poll::Ready(Some(Err(fault)))
    }
}

impl Pace {
    pub fn pieces(&self) -> u64 {
        self.pieces.get()
    }

    /// The whole body has been handed on.
    pub fn is_done(&self) -> bool {
        self.done.get()
    }

    /// Why the client's side ended the upload, where it did.
    pub fn fault(&self) -> Option<Refusal> {
        self.fault.get()
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let (Some(inner), Some(pace)) = (&mut this.inner, &this.pace) else { return Poll::Ready(None) };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Pending => {
                ready!(this.stall.poll(cx));
                return this.fail(Fault::Paused, Some(Refusal::SlowBody));
            }
            Poll::Ready(frame) => frame,
        };
        this.stall.reset();
        pace.pieces.set(pace.pieces.get() + 1);
        match frame {
            None => {
                pace.done.set(true);
                Poll::Ready(None)
            }
            Some(Err(error)) => this.fail(Fault::Broken(error), None),
            Some(Ok(frame)) => {
                match this.left.checked_sub(frame.data_ref().map_or(0, |data| data.remaining() as u64)) {
                    None => this.fail(Fault::TooLarge, Some(Refusal::BodyTooLarge)),
                    Some(left) => {
                        this.left = left;
                        Poll::Ready(Some(Ok(headers::clean_trailers(frame))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // hyper drops a body of known length with its last byte, without asking for the end behind it.
        if let (Some(inner), Some(pace)) = (&self.inner, &self.pace)
            && inner.is_end_stream()
        {
            pace.done.set(true);
        }
    }
}

/// The body of an answer to a client: carried from a backend, or the proxy's own.
pub struct Answer {
    kind: Kind,
    busy: Option<Busy>,
}

enum Kind {
    Carried(Download),
    Own(Option<Bytes>),
}

impl Answer {
    pub fn own(text: Bytes) -> Answer {
        Answer { kind: Kind::Own(Some(text).filter(|text| !text.is_empty())), busy: None }
    }

    pub fn carried(download: Download) -> Answer {
        Answer { kind: Kind::Carried(download), busy: None }
    }

    /// Keeps the client's connection counted as busy until the last byte.
    pub fn with(mut self, busy: Busy) -> Answer {
        self.busy = Some(busy);
        self
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Kind::Carried(download) = &mut self.kind else { return };
        // An answer without a body is complete without ever having been asked for a piece.
        if download.inner.is_end_stream() {
            download.finish();
        }
        if let Some(busy) = self.busy.as_ref().filter(|_| download.is_early) {
            busy.interrupts();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut self.kind {
            Kind::Carried(download) => download.poll_frame(cx),
            Kind::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Carried(download) => download.inner.is_end_stream(),
            Kind::Own(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Carried(download) => download.inner.size_hint(),
            Kind::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

/// A backend's body on its way to the client. It holds the request's pass and its record until the last byte.
pub struct Download {
    inner: Incoming,
    stall: Stall,
    hold: Option<Hold>,
    /// It was complete before the request was.
    is_early: bool,
}

/// What a request holds for as long as its answer streams; the fields are let go of in this order.
pub struct Hold {
    pub link: Link,
    /// Of the lane, when the request began: what the connection's idle time counts from.
    pub age: u64,
    pub upload: Option<Rc<Pace>>,
    pub record: Record,
    pub pass: Pass,
}

impl Download {
    /// `pause` is the longest the backend may make us wait for the next piece.
    pub fn new(inner: Incoming, pause: Duration, hold: Hold) -> Download {
        Download { inner, stall: Stall::new(pause), hold: Some(hold), is_early: false }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.stall.poll(cx));
                Some(Err(Fault::Paused))
            }
            Poll::Ready(frame) => frame.map(|frame| frame.map(headers::clean_trailers).map_err(Fault::Broken)),
        };
        self.stall.reset();
        if frame.is_none() {
            self.finish();
        }
        Poll::Ready(frame)
    }

    /// The answer is complete: its connection may be used again, unless the request is still being sent on it.
    fn finish(&mut self) {
        let Some(Hold { link, age, upload, .. }) = self.hold.take() else { return };
        match upload {
            Some(pace) if !pace.is_done() => self.is_early = true,
            _ => link.release(age),
        }
    }
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the body paused for too long")]
    Paused,
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

/// A clock that runs only while nothing comes; most bodies never start it.
struct Stall {
    after: Duration,
    clock: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Stall {
    fn new(after: Duration) -> Stall {
        Stall { after, clock: None, running: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let after = self.after;
        let clock = self.clock.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        if !self.running {
            self.running = true;
            clock.as_mut().reset(Instant::now() + after);
        }
        clock.as_mut().poll(cx)
    }

    fn reset(&mut self) {
        self.running = false;
    }
}
