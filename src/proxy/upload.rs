//! A request's body on its way to a backend: its beginning is waited for here, the rest streams with back-pressure.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::Fault;
use super::capacity::Capacity;
use super::converse::Visitor;
use super::headers;
use super::refusal::Refusal;
use super::stall::Stall;
use crate::config;

pub struct Upload {
    /// What has been read and not yet been handed on.
    ahead: VecDeque<Frame<Bytes>>,
    /// `None`: it has been read to its end.
    inner: Option<Incoming>,
    /// Bytes that may still come.
    left: u64,
    /// Bytes of trailers there may be.
    trailers: usize,
    /// They go on to the backend.
    trails: bool,
    stall: Stall,
    /// Resolves when a client that dawdles should make room for another; nothing as long as it was never waited for.
    room: Option<Pin<Box<dyn Future<Output = ()>>>>,
    moved: Rc<Cell<u64>>,
    capacity: Arc<Capacity>,
    quiet: Duration,
    /// Counts what comes, where that is of interest.
    count: Option<Rc<Cell<u64>>>,
    visitor: Rc<Visitor>,
}

impl Upload {
    /// The body of this request, yet to come.
    pub fn new(
        head: &request::Parts,
        inner: Incoming,
        rules: &config::Service,
        visitor: Rc<Visitor>,
        count: Option<Rc<Cell<u64>>>,
    ) -> Upload {
        let edge = &visitor.edge.rules;
        Upload {
            ahead: VecDeque::new(),
            inner: Some(inner),
            left: rules.limits.request_body.unwrap_or(u64::MAX),
            trailers: edge.limits.trailers,
            trails: headers::trails(head),
            stall: Stall::new(rules.timeouts.body, rules.limits.body_rate),
            room: None,
            moved: Rc::default(),
            capacity: visitor.capacity(),
            quiet: edge.timeouts.park,
            count,
            visitor,
        }
    }

    /// Its length, where that is known.
    pub fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// Waits for `want` bytes, or for the end where that comes first.
    pub async fn fill(&mut self, want: usize) -> Result<(), Refusal> {
        let (mut have, mut joined) = (0, BytesMut::new());
        while have < want {
            match std::future::poll_fn(|cx| self.receive(cx)).await {
                Some(Ok(frame)) => {
                    have += frame.data_ref().map_or(0, Bytes::len);
                    self.keep(frame, &mut joined);
                }
                Some(Err(fault)) => return Err(fault.refusal()),
                None => break,
            }
        }
        self.keep_joined(&mut joined);
        Ok(())
    }

    /// Whether all of it has come.
    pub fn is_whole(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Whether the client has not had all that was asked for at hand.
    pub fn was_waited_for(&self) -> bool {
        self.stall.has_run()
    }

    /// Small pieces are joined: each takes a hundred bytes more than it has, and holds on to all it was read with, so that
    /// 20 KB in pieces of one byte were 504 KiB, measured.
    fn keep(&mut self, frame: Frame<Bytes>, joined: &mut BytesMut) {
        match frame.data_ref() {
            Some(data) if data.len() < SMALL => joined.extend_from_slice(data),
            _ => {
                self.keep_joined(joined);
                self.ahead.push_back(frame);
            }
        }
    }

    fn keep_joined(&mut self, joined: &mut BytesMut) {
        if !joined.is_empty() {
            self.ahead.push_back(Frame::data(joined.split().freeze()));
        }
    }

    /// The next piece from the client.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Pending => {
                if self.stall.poll(cx).is_pending() {
                    ready!(self.should_make_room(cx));
                }
                return Poll::Ready(Some(Err(Fault::Paused)));
            }
            Poll::Ready(frame) => frame,
        };
        let Some(frame) = frame else {
            self.has_ended();
            return Poll::Ready(None);
        };
        Poll::Ready(Some(frame.map_err(Fault::Broken).and_then(|frame| self.admit(frame))))
    }

    fn has_ended(&mut self) {
        self.inner = None;
        self.visitor.pulse.set_unread(false);
    }

    fn should_make_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Upload { room, moved, capacity, quiet, .. } = self;
        room.get_or_insert_with(|| Box::pin(dawdling(moved.clone(), capacity.clone(), *quiet))).as_mut().poll(cx)
    }

    /// A piece within what is allowed.
    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Fault> {
        let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        self.stall.moved(bytes);
        self.moved.set(self.moved.get() + bytes);
        if let Some(count) = &self.count {
            count.set(count.get() + bytes);
        }
        self.left = self.left.checked_sub(bytes).ok_or(Fault::TooLarge)?;
        // hyper does not ask for the end behind the last byte of a body whose length is known.
        if self.inner.as_ref().is_some_and(Body::is_end_stream) {
            self.has_ended();
        }
        // hyper reads trailers to the next CRLF CRLF, also over lines that end otherwise: what comes behind them could have
        // been meant as another request, so that none is taken from this connection.
        if frame.is_trailers() && !self.visitor.http2 {
            self.visitor.is_told.set(true);
            self.visitor.pulse.ask_to_leave();
        }
        headers::clean_trailers(frame, self.trailers).map_err(|_| Fault::LongTrailers)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = match self.ahead.pop_front() {
            Some(frame) => Some(Ok(frame)),
            None => ready!(self.receive(cx)),
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: u64 = self.ahead.iter().map(|frame| frame.data_ref().map_or(0, Bytes::len) as u64).sum();
        let rest = match &self.inner {
            // What has been read whole has a length, whatever was said about it; trailers go with chunks only.
            None => (!self.trails || self.ahead.iter().all(Frame::is_data)).then_some(0),
            Some(inner) => inner.size_hint().exact().filter(|_| !self.trails),
        };
        rest.map_or(SizeHint::default(), |rest| SizeHint::with_exact(ahead + rest))
    }
}

impl Fault {
    /// What the client is told of an upload that ended so.
    pub fn refusal(&self) -> Refusal {
        match self {
            Fault::Paused => Refusal::SlowBody,
            Fault::TooLarge => Refusal::BodyTooLarge,
            Fault::LongTrailers => Refusal::HeadTooLarge,
            Fault::Broken(error) if is_malformed(error) => Refusal::BadRequest("the body cannot be read"),
            Fault::Broken(_) | Fault::Cut => Refusal::ClientGone,
        }
    }
}

/// Resolves when nothing has moved for a while and another needs the place.
async fn dawdling(moved: Rc<Cell<u64>>, capacity: Arc<Capacity>, quiet: Duration) {
    loop {
        let before = moved.get();
        tokio::time::sleep(quiet).await;
        if moved.get() != before {
            continue;
        }
        capacity.evicted().await;
        // Something may have come in between; then another is asked.
        if moved.get() == before {
            return;
        }
    }
}

/// Whether the client sent what is no body, rather than nothing any more.
fn is_malformed(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
        }
        source = cause.source();
    }
    false
}

/// A piece so small is not worth what keeping it costs.
const SMALL: usize = 4 * 1024;
