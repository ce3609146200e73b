//! Answers on their way to the client: they stream with back-pressure, and hold what must last as long as they do.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::headers;
use super::pulse::Busy;
use super::record::Record;
use super::stall::Stall;
use super::streams::Flow;
use super::upload::Pace;
use super::upstream::Link;
use crate::turnstile::Pass;

/// The body of an answer to a client: carried from a backend, or the proxy's own.
pub struct Answer {
    kind: Kind,
    busy: Option<Busy>,
    /// On HTTP/2: how fast the client takes it.
    flow: Option<Rc<Flow>>,
}

#[expect(clippy::large_enum_variant, reason = "almost every answer is carried, and a box for it would be an allocation")]
enum Kind {
    Carried(Download),
    Own(Option<Bytes>),
}

impl Answer {
    pub fn own(text: Bytes) -> Answer {
        Answer { kind: Kind::Own(Some(text).filter(|text| !text.is_empty())), busy: None, flow: None }
    }

    pub fn carried(download: Download) -> Answer {
        Answer { kind: Kind::Carried(download), busy: None, flow: None }
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
        if download.rest.is_empty() && download.inner.is_end_stream() {
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
        let this = &mut *self;
        if let Some(flow) = &this.flow {
            flow.asked();
        }
        let frame = match &mut this.kind {
            Kind::Carried(download) => ready!(download.poll_frame(cx, this.flow.is_some())),
            Kind::Own(text) => text.take().map(|text| Ok(Frame::data(text))),
        };
        if let (Some(flow), Some(Ok(frame))) = (&this.flow, &frame) {
            flow.gave(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Carried(download) => download.rest.is_empty() && download.inner.is_end_stream(),
            Kind::Own(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Carried(download) => match (download.rest.len() as u64, download.inner.size_hint().exact()) {
                (0, _) => download.inner.size_hint(),
                (rest, Some(more)) => SizeHint::with_exact(rest + more),
                (_, None) => SizeHint::default(),
            },
            Kind::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

/// A backend's body on its way to the client. It holds the request's pass and its record until the last byte.
pub struct Download {
    inner: Incoming,
    /// What is left of a piece that was too large for HTTP/2.
    rest: Bytes,
    trailers: usize,
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
    pub fn new(inner: Incoming, trailers: usize, pause: Duration, hold: Hold) -> Download {
        let stall = Stall::new(pause, 0);
        Download { inner, rest: Bytes::new(), trailers, stall, hold: Some(hold), is_early: false }
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
        Poll::Ready(frame)
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.stall.poll(cx));
                Some(Err(Fault::Paused))
            }
            Poll::Ready(frame) => frame.map(|frame| self.clean(frame.map_err(Fault::Broken)?)),
        };
        self.stall.moved(1);
        if frame.is_none() {
            self.finish();
        }
        Poll::Ready(frame)
    }

    fn clean(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Fault> {
        if frame.is_data() {
            return Ok(frame);
        }
        headers::clean_trailers(frame, self.trailers).map_err(|_| Fault::LongTrailers)
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
    #[error("the trailers are longer than allowed")]
    LongTrailers,
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

/// The largest piece of an HTTP/2 answer: so that a slow client's progress is seen.
const SMALL: usize = 16 * 1024;
