//! The pulse of one client connection: whether it carries a request, waits for one, or is in the middle of a head.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::leave::Stage;
use super::listen::Station;
use super::loss::Loss;

/// Written by the connection's reads and requests, read by the clock that watches it.
///
/// All on one thread; atomics, never contended and never locked, only because hyper wants a socket it may upgrade to be
/// `Send`.
#[derive(Default)]
pub struct Pulse {
    requests: AtomicU32,
    /// Bytes have come since the last request began: the start of another head.
    in_head: AtomicBool,
    /// On HTTP/2: a head has been begun, beside whatever requests there are.
    in_block: AtomicBool,
    /// The last answer was given while the client was still sending.
    interrupted: AtomicBool,
    /// How often bytes have gone out: a client that still reads an answer is not idle.
    writes: AtomicU32,
    /// What was written last is still in the way.
    blocked: AtomicBool,
    /// Empty lines have come before a head: hyper holds them, and does not let go of the connection before that head.
    blanks: AtomicBool,
    /// The connection is taken from hyper, so its socket stays open.
    parking: AtomicBool,
    /// The connection is to end with the requests it carries.
    leaving: AtomicBool,
    /// The client has said that this request is its last.
    last: AtomicBool,
    /// HTTP/2 requests that have come of the heads that came.
    accepted: AtomicU32,
    /// Bytes that have come since the connection last had its turn.
    turn: AtomicUsize,
    /// Why the connection was lost, as one more than the reason's number; 0 where it was not.
    lost: AtomicU8,
    /// Rings once a second while there are requests, for those that are tasks of their own (HTTP/2): so that neither they
    /// need a timer for a long patience.
    pub bell: Arc<Notify>,
}

impl Pulse {
    /// A head has been read: the connection is busy until the guard goes.
    pub fn begin(self: &Arc<Pulse>) -> Busy {
        self.in_head.store(false, Ordering::Relaxed);
        self.blanks.store(false, Ordering::Relaxed);
        self.requests.store(self.requests.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Bytes have come. While a request is under way they are its body, and so is the rest of one that was answered
    /// early; empty lines before a head are nothing (RFC 9112, 2.2).
    pub fn came(&self, bytes: &[u8]) {
        let idle = self.requests.load(Ordering::Relaxed) == 0 && !self.was_interrupted();
        if idle && !bytes.is_empty() {
            let began = if is_blank(bytes) { &self.blanks } else { &self.in_head };
            began.store(true, Ordering::Relaxed);
        }
    }

    /// On HTTP/2: whether what came ends within a head.
    pub fn set_in_block(&self, in_block: bool) {
        self.in_block.store(in_block, Ordering::Relaxed);
    }

    /// On HTTP/2: a head has become a request.
    pub fn accepts(&self) {
        self.accepted.store(self.accepted().wrapping_add(1), Ordering::Relaxed);
    }

    pub fn accepted(&self) -> u32 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// On HTTP/2: so many bytes have been taken from the client.
    pub fn takes(&self, bytes: usize) {
        self.turn.store(self.turn.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    /// It has taken so much that others come first.
    pub fn has_had_its_turn(&self) -> bool {
        self.turn.load(Ordering::Relaxed) >= TURN
    }

    /// Bytes have gone out.
    pub fn went(&self) {
        self.writes.store(self.writes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether the client takes what is written now.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// The connection is lost; the first reason is the one.
    pub fn loses(&self, loss: Loss) {
        if self.lost().is_none() {
            self.lost.store(loss.number() as u8 + 1, Ordering::Relaxed);
        }
    }

    /// The number of the reason that it was lost for.
    pub fn lost(&self) -> Option<usize> {
        usize::from(self.lost.load(Ordering::Relaxed)).checked_sub(1)
    }

    /// Whether the client may still be sending what nobody reads any more.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// A head has been begun, and no request has come of it yet.
    pub fn is_in_head(&self) -> bool {
        self.state() == State::Head
    }

    /// The connection is being taken from hyper: the end that hyper makes of it is not the socket's.
    pub fn is_parking(&self) -> bool {
        self.parking.load(Ordering::Relaxed)
    }

    /// Has the connection end with the requests it carries. It is noticed with whatever happens on it next, such as the
    /// answer that is about to go out.
    pub fn ask_to_leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// The client has said that the request that is under way is its last.
    pub fn hears_the_last(&self) {
        self.last.store(true, Ordering::Relaxed);
    }

    /// The end of the connection's last answer is what is written now: the body is done, and nothing comes behind it.
    pub fn ends_with_this(&self) -> bool {
        self.last.load(Ordering::Relaxed) && self.requests.load(Ordering::Relaxed) == 0
    }

    fn can_park(&self) -> bool {
        !self.blocked.load(Ordering::Relaxed) && !self.blanks.load(Ordering::Relaxed) && !self.was_interrupted()
    }

    fn state(&self) -> State {
        match (self.requests.load(Ordering::Relaxed), self.in_head.load(Ordering::Relaxed)) {
            _ if self.in_block.load(Ordering::Relaxed) => State::Head,
            (0, false) => State::Idle,
            (0, true) => State::Head,
            _ => State::Busy,
        }
    }
}

/// Whether these are empty lines, which may stand before a head (RFC 9112, 2.2).
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// One request on a connection.
pub struct Busy(Arc<Pulse>);

impl Busy {
    /// The answer is given before the request has been read to its end.
    pub fn interrupts(&self) {
        self.0.interrupted.store(true, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.store(self.0.requests.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Head,
    Busy,
}

/// A connection that can be asked to end after the requests it carries.
pub trait Connection: Future<Output = hyper::Result<()>> + Unpin {
    fn leave(self: Pin<&mut Self>);
}

/// What a connection is held to.
#[derive(Clone, Copy)]
pub struct Terms {
    pub idle: Duration,
    pub head: Duration,
    /// When it began to idle, which may be long ago.
    pub since: Instant,
    /// Idle or in a head for so long, it may have to make room for another.
    pub quiet: Duration,
    /// It may be parked then.
    pub parks: bool,
    /// So old, it is asked to end.
    pub age: Option<Duration>,
    /// The stage of the worker's leaving at which it is asked to end.
    pub leaves_at: Stage,
}

/// How a connection's watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    ByItself,
    /// What came was not what the protocol has.
    Broken,
    /// Nothing was asked for as long as a connection may idle.
    Idle,
    /// Nothing was asked for a moment, and everything said has been taken: it can be parked, and idles since then.
    Quiet(Instant),
    /// It was idle, or dawdled over a head, and another needs its place.
    Evicted,
    /// A head was begun and not finished in time.
    SlowHead,
}

/// Drives a connection to its end, or until it idles or dawdles over a head for longer than its terms allow.
///
/// No request pays for it: the clock is read when the connection falls idle, and set anew only when it rings.
pub async fn watch<C: Connection>(connection: &mut C, pulse: &Pulse, terms: Terms, station: &Station) -> Ended {
    let leave = &station.leave;
    let mut watch = Watch::new(terms, pulse);
    let mut evicted = None;
    let mut clock = pin!(tokio::time::sleep_until(watch.due()));
    let mut bell = pin!(leave.changed());
    let (mut seen, mut is_asked) = (None, false);
    std::future::poll_fn(|cx| {
        if seen != Some(leave.stage()) {
            // Told once, the bell has to be listened for anew; its waker stays the same.
            bell.set(leave.changed());
            let _ = bell.as_mut().poll(cx);
            if leave.stage() >= terms.leaves_at && seen < Some(terms.leaves_at) {
                Pin::new(&mut *connection).leave();
            }
            seen = Some(leave.stage());
        }
        if pulse.leaving.load(Ordering::Relaxed) && !is_asked {
            is_asked = true;
            Pin::new(&mut *connection).leave();
        }
        if let Poll::Ready(ended) = turn(connection, pulse, cx) {
            return Poll::Ready(if ended.is_err_and(|error| is_broken(&error)) {
                Ended::Broken
            } else {
                Ended::ByItself
            });
        }
        if watch.state != pulse.state() {
            evicted = None;
        }
        if evicted.as_mut().is_some_and(|evicted: &mut Eviction<'_>| evicted.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Ended::Evicted);
        }
        if watch.notice(pulse) {
            let earlier = clock.deadline().min(watch.due());
            clock.as_mut().reset(earlier);
        } else if watch.is_set && !clock.is_elapsed() {
            return Poll::Pending;
        }
        watch.is_set = true;
        while clock.as_mut().poll(cx).is_ready() {
            pulse.bell.notify_waiters();
            match watch.ring(pulse) {
                Ring::End(ended) => return Poll::Ready(ended),
                Ring::Old => Pin::new(&mut *connection).leave(),
                Ring::Quiet => {
                    let evicted = evicted.get_or_insert_with(|| Box::pin(station.capacity.evicted()) as Eviction<'_>);
                    if evicted.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Ended::Evicted);
                    }
                }
                Ring::Later => {}
            }
            clock.as_mut().reset(watch.due());
        }
        Poll::Pending
    })
    .await
}

/// Brings a connection that has been asked to leave to its end.
pub async fn finish<C: Connection>(connection: &mut C, pulse: &Pulse) {
    let _ = std::future::poll_fn(|cx| turn(connection, pulse, cx)).await;
}

/// The connection has its turn.
fn turn<C: Connection>(connection: &mut C, pulse: &Pulse, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
    pulse.turn.store(0, Ordering::Relaxed);
    Pin::new(connection).poll(cx)
}

/// Whether the client's words were at fault, and not the socket.
fn is_broken(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return false;
        }
        source = cause.source();
    }
    !error.is_incomplete_message() && !error.is_closed() && !error.is_canceled()
}

type Eviction<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Takes an idle connection from hyper without closing its socket. hyper is given nothing to write, and has nothing left;
/// where it has after all, this is false, and the connection has to be watched on.
pub async fn park<C: Connection>(connection: &mut C, pulse: &Pulse) -> bool {
    pulse.parking.store(true, Ordering::Relaxed);
    Pin::new(&mut *connection).leave();
    let is_taken = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx).is_ready())).await;
    pulse.parking.store(false, Ordering::Relaxed);
    is_taken
}

/// What a watch has seen so far.
struct Watch {
    terms: Terms,
    state: State,
    /// When the connection fell idle, or its head began.
    since: Instant,
    born: Instant,
    writes: u32,
    is_old: bool,
    is_set: bool,
}

enum Ring {
    End(Ended),
    Old,
    Quiet,
    Later,
}

impl Watch {
    fn new(terms: Terms, pulse: &Pulse) -> Watch {
        let (since, writes) = (terms.since, pulse.writes.load(Ordering::Relaxed));
        Watch { terms, state: State::Idle, since, born: Instant::now(), writes, is_old: false, is_set: false }
    }

    /// Sees how the connection is now; whether the clock may have to ring earlier.
    fn notice(&mut self, pulse: &Pulse) -> bool {
        let state = pulse.state();
        if state == self.state {
            return false;
        }
        self.state = state;
        if state != State::Busy {
            self.since = Instant::now();
        }
        state == State::Head
    }

    /// The clock has rung.
    fn ring(&mut self, pulse: &Pulse) -> Ring {
        let now = Instant::now();
        let writes = pulse.writes.load(Ordering::Relaxed);
        if self.state == State::Idle && self.writes != writes {
            // The end of an answer may leave the buffers long after the request that asked for it.
            (self.writes, self.since) = (writes, now);
        }
        let over = |after: Duration| self.since + after <= now;
        match self.state {
            State::Idle if over(self.terms.idle) => return Ring::End(Ended::Idle),
            State::Idle if over(self.terms.quiet) && self.terms.parks && pulse.can_park() => {
                return Ring::End(Ended::Quiet(self.since));
            }
            State::Head if over(self.terms.head) => return Ring::End(Ended::SlowHead),
            _ => {}
        }
        if !self.is_old && self.terms.age.is_some_and(|age| self.born + age <= now) {
            self.is_old = true;
            return Ring::Old;
        }
        if self.state != State::Busy && over(self.terms.quiet) { Ring::Quiet } else { Ring::Later }
    }

    /// When to look again.
    fn due(&self) -> Instant {
        let Terms { idle, head, quiet, .. } = self.terms;
        let now = Instant::now();
        let often = quiet.min(idle).min(head);
        match self.state {
            State::Busy => now + often,
            State::Head if self.since + quiet > now => self.since + quiet.min(head),
            State::Head => self.since + head,
            // What could not be parked yet may be a moment later.
            State::Idle => (self.since + often).max(now + often / 2).min((self.since + idle).max(now)),
        }
    }
}

/// Bytes that are taken of an HTTP/2 connection before every other one has its turn. It is what a flood can make others
/// wait for: a byte can cost 60 ns, where it stands for a whole field (RFC 7541, 6.1).
const TURN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_another_request_is_a_head() {
        let pulse = Arc::new(Pulse::default());
        pulse.came(b"\r\n");
        assert!(!pulse.is_in_head(), "an empty line before a head is nothing");
        assert!(!pulse.can_park(), "hyper holds it");
        pulse.came(b"\r\nGET");
        assert!(pulse.is_in_head());
        let busy = pulse.begin();
        pulse.came(b"a body");
        drop(busy);
        assert!(!pulse.is_in_head(), "what came during the request was its body");
        let busy = pulse.begin();
        busy.interrupts();
        drop(busy);
        pulse.came(b"the rest of a body");
        assert!(!pulse.is_in_head(), "a request answered early still sends");
    }
}
