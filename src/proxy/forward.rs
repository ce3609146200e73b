//! Sends a request to an endpoint and waits for the head of the answer: where a try fails safely, there is another.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, request};

use super::body::Fault;
use super::headers::{self, Client, Framing, Reply, RequestId, Vetted};
use super::inflow::Inflow;
use super::lanes::Lane;
use super::outflow::{Outflow, Unsent};
use super::record::Record;
use super::refusal::Refusal;
use super::tunnel;
use super::upload::Upload;
use super::upstream::{Link, READ_MOST, Socket, Turn, Upstream, Wire};
use crate::config::Limits;
use crate::pool::shortage;
use crate::time::Moment;

/// What is sent: the head as it came, from which each try writes its own.
pub struct Outgoing<'r> {
    pub head: &'r request::Parts,
    pub vetted: Vetted,
    pub client: &'r Client,
    pub id: &'r RequestId<'r>,
}

/// The head of an answer, the connection its body comes on, and what of the request is still to be sent.
pub struct Arrived {
    pub reply: Reply,
    pub link: Link,
    /// The answer came before the request was whole.
    pub unsent: Option<Box<Outflow>>,
}

/// Sends the request to an endpoint of the lane.
///
/// What was not sent goes out again whatever its method is: another endpoint where the connect failed, another
/// connection where a kept one turned out to be dead. What was sent on a kept connection that then died without a
/// byte of an answer goes out once more only if repeating it is harmless (RFC 9110, 9.2.2) and it has no body.
pub async fn send(
    lane: &Lane,
    request: Outgoing<'_>,
    upload: Option<Box<Upload>>,
    record: &mut Record,
) -> Result<Arrived, Refusal> {
    let (timeouts, limits) = (&lane.service.rules.timeouts, &lane.service.rules.limits);
    let repeatable = upload.is_none() && request.head.method.is_idempotent();
    let length = upload.as_ref().map_or(Some(0), |upload| upload.length());
    let framing = headers::frame(&request.head.method, length);
    let since = if upload.is_none() { record.begun } else { Moment::now() };
    let mut outflow = request.outflow(upload, framing);
    let mut tried: Vec<Rc<Upstream>> = Vec::new();
    let mut refusal = Refusal::NoEndpoint;
    let mut repeated = false;
    for attempt in 0..limits.tries {
        let Some(turn) = lane.choose(&tried) else { break };
        record.turns_to(turn.upstream());
        // A scope, so that nothing of it takes room in the request while it waits for its answer.
        let (mut link, kept) = {
            // Where kept connections have died, others have too: from then on a new one is the safe way.
            let kept = if attempt < TRIES_KEPT && !repeated { turn.reuse(lane.age(), repeatable) } else { None };
            let (wire, kept) = match kept {
                Some(wire) => (wire, true),
                // In a box: most requests need none, and all would have to carry room for it.
                None => match record.awaits(Box::pin(turn.connect(timeouts.connect))).await {
                    Ok(wire) => (wire, false),
                    // Of no endpoint's making, and another would not help.
                    Err(error) if shortage::is_ours(&error) => return Err(Refusal::Overloaded),
                    Err(error) => {
                        lane.sheet.connect_failures.add(1);
                        refusal = connect_refusal(&error);
                        tried.push(turn.upstream().clone());
                        continue;
                    }
                },
            };
            (Link::new(turn, wire), kept)
        };
        let headless = request.head.method == Method::HEAD;
        let mut exchange = Exchange { outflow: Some(outflow), moved: 0, headless, limits };
        let patience = Patience { since, length: timeouts.first_byte, has_begun: false };
        match exchange.first_byte(&mut link.wire, patience).await {
            Ok(reply) => return Ok(Arrived { reply, link, unsent: exchange.outflow.map(Box::new) }),
            Err(Failed::Refused(refusal)) => return Err(refusal),
            Err(Failed::Unsent(whole)) => {
                refusal = Refusal::ConnectFailed;
                outflow = *whole;
            }
            Err(Failed::Silent) if kept && repeatable && !repeated => {
                repeated = true;
                outflow = request.outflow(None, framing);
            }
            Err(Failed::Silent) => return Err(Refusal::BadAnswer),
        }
    }
    Err(refusal)
}

impl Outgoing<'_> {
    fn outflow(&self, upload: Option<Box<Upload>>, framing: Framing) -> Outflow {
        let mut out = Vec::with_capacity(HEAD);
        headers::to_backend(self.head, self.vetted, self.client, self.id, framing, &mut out);
        Outflow::new(out, upload, framing)
    }

    /// The head once more, for a copy of a request without a body, marked as one.
    pub fn copied(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD);
        headers::to_backend(self.head, self.vetted, self.client, self.id, Framing::None, &mut out);
        out.truncate(out.len() - 2);
        out.extend_from_slice(headers::MIRROR.as_str().as_bytes());
        out.extend_from_slice(b": 1\r\n\r\n");
        out
    }
}

/// Sends a head that has been written, once, to an endpoint of the lane: a copy, which is worth no second try.
pub async fn send_copy(lane: &Lane, head: Vec<u8>, headless: bool) -> Result<(Reply, Link), Refusal> {
    let turn = lane.choose(&[]).ok_or(Refusal::NoEndpoint)?;
    let wire = match turn.reuse(lane.age(), false) {
        Some(wire) => wire,
        None => connect(lane, &turn).await?,
    };
    let mut link = Link::new(turn, wire);
    let reply = send_on(lane, &mut link, head, headless).await?;
    Ok((reply, link))
}

/// A new connection to where the turn is.
pub async fn connect(lane: &Lane, turn: &Turn) -> Result<Wire, Refusal> {
    turn.connect(lane.service.rules.timeouts.connect).await.map_err(|error| connect_refusal(&error))
}

/// Sends a head that has been written on this connection. It asks for no upgrade.
pub async fn send_on(lane: &Lane, link: &mut Link, head: Vec<u8>, headless: bool) -> Result<Reply, Refusal> {
    let (timeouts, limits) = (&lane.service.rules.timeouts, &lane.service.rules.limits);
    let outflow = Some(Outflow::new(head, None, Framing::None));
    let mut exchange = Exchange { outflow, moved: 0, headless, limits };
    let (since, length) = (Moment::now(), timeouts.first_byte);
    let patience = Patience { since, length, has_begun: false };
    match exchange.first_byte(&mut link.wire, patience).await {
        Ok(reply) => tunnel::agreed(&reply, None).map(|_| reply),
        Err(Failed::Refused(refusal)) => Err(refusal),
        Err(Failed::Unsent(_) | Failed::Silent) => Err(Refusal::BadAnswer),
    }
}

/// Reads the rest of an answer that nobody waits for, and keeps its connection; `None` where it breaks off, or is longer
/// than such an answer may be.
pub async fn discard(lane: &Lane, reply: &Reply, mut link: Link) -> Option<()> {
    let mut inflow = Inflow::new(reply.extent);
    let mut left = LARGEST_DISCARDED;
    while !inflow.is_done() {
        match inflow.next(&mut link.wire.input).ok()? {
            Some(_) => {}
            None if inflow.is_done() => break,
            None => {
                let read = poll_fn(|cx| link.wire.poll_fill(cx, READ_MOST)).await.ok().filter(|read| *read > 0)?;
                // What frames a chunk counts too: it may be a thousand times what is in it.
                left = left.checked_sub(read)?;
            }
        }
    }
    if reply.keeps {
        link.release(lane.age(), lane.service.rules.limits.upstream_idle);
    }
    Some(())
}

/// How long the answer may be waited for.
struct Patience {
    since: Moment,
    length: Duration,
    /// It has been waited for once.
    has_begun: bool,
}

/// One try on one connection.
struct Exchange<'l> {
    /// What is still to be sent.
    outflow: Option<Outflow>,
    /// Grows as long as the request moves.
    moved: u64,
    headless: bool,
    limits: &'l Limits,
}

/// How a try failed.
enum Failed {
    /// There is an answer to the client.
    Refused(Refusal),
    /// Nothing has been written.
    Unsent(Box<Outflow>),
    /// The connection ended without a byte of an answer.
    Silent,
}

impl Exchange<'_> {
    /// Waits for the answer; the patience begins anew for as long as the request still moves.
    async fn first_byte(&mut self, wire: &mut Wire, mut patience: Patience) -> Result<Reply, Failed> {
        if patience.length >= COARSE {
            return poll_fn(|cx| self.poll_patiently(cx, wire, &mut patience)).await;
        }
        // The first turn sends what there is, most often all of it: the patience counts from then.
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(self.poll(cx, wire))).await {
            return done;
        }
        loop {
            let before = self.moved;
            let step = poll_fn(|cx| self.poll(cx, wire));
            if let Ok(done) = tokio::time::timeout(patience.length, step).await {
                return done;
            }
            if self.moved == before {
                return Err(Failed::Refused(Refusal::FirstByteTimeout));
            }
        }
    }

    /// As `poll`, and looks at the clock each time there is nothing yet.
    fn poll_patiently(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        patience: &mut Patience,
    ) -> Poll<Result<Reply, Failed>> {
        let before = self.moved;
        let done = self.poll(cx, wire);
        // The first turn sends what there is, most often all of it: no clock is read for that.
        if done.is_pending() && std::mem::replace(&mut patience.has_begun, true) {
            let now = Moment::now();
            if self.moved != before {
                patience.since = now;
            } else if now.since(patience.since) >= patience.length {
                return Poll::Ready(Err(Failed::Refused(Refusal::FirstByteTimeout)));
            }
        }
        done
    }

    /// Sends what there is to send, and reads what there is to read: an answer may come before the request is whole.
    fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Result<Reply, Failed>> {
        if let Some(failed) = self.send(cx, wire) {
            return Poll::Ready(Err(failed));
        }
        loop {
            match headers::read(&mut wire.input, self.headless, self.limits) {
                Ok(Some(reply)) => return Poll::Ready(Ok(reply)),
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Err(Failed::Refused(refusal))),
            }
            match wire.poll_fill(cx, READ_MOST) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(read)) if read > 0 => {}
                Poll::Ready(_) if !wire.input.is_empty() => {
                    return Poll::Ready(Err(Failed::Refused(Refusal::BadAnswer)));
                }
                Poll::Ready(_) => return Poll::Ready(Err(self.silent())),
            }
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Option<Failed> {
        let (Some(outflow), Socket::Whole(stream)) = (&mut self.outflow, &mut wire.socket) else { return None };
        let sent = outflow.poll(cx, stream);
        self.moved = outflow.moved();
        match sent {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                self.outflow = None;
                None
            }
            Poll::Ready(Err(Unsent::Upload(fault))) => Some(Failed::Refused(Fault::refusal(&fault))),
            Poll::Ready(Err(Unsent::Socket)) if outflow.is_whole() => {
                self.outflow.take().map(|whole| Failed::Unsent(Box::new(whole)))
            }
            // Whoever ends a request early may have said why: what has come is read before the end is.
            Poll::Ready(Err(Unsent::Socket)) => {
                self.outflow = None;
                None
            }
        }
    }

    /// The connection has ended; what was never written is not lost.
    fn silent(&mut self) -> Failed {
        match self.outflow.take() {
            Some(outflow) if outflow.is_whole() => Failed::Unsent(Box::new(outflow)),
            _ => Failed::Silent,
        }
    }
}

/// Sends the rest of a request beside its answer, so that neither waits for the other.
pub async fn send_rest(
    mut outflow: Box<Outflow>,
    mut socket: impl tokio::io::AsyncWrite + Unpin,
) -> Result<(), Unsent> {
    poll_fn(|cx| outflow.poll(cx, &mut socket)).await
}

fn connect_refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::TimedOut => Refusal::ConnectTimeout,
        _ => Refusal::ConnectFailed,
    }
}

/// Tries on kept connections: where two have died, the others have too.
const TRIES_KEPT: usize = 2;
/// A patience for which a second more is no matter: whoever waits for an answer is woken once a second anyhow, so that no
/// timer has to be set.
const COARSE: Duration = Duration::from_secs(5);
/// Bytes of an answer nobody waits for that are read behind its head before it is cut off.
const LARGEST_DISCARDED: usize = 4 << 20;
/// Room for a request's head: most fit.
const HEAD: usize = 1024;
