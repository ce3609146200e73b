//! The watch over one client connection: it is driven to its end, or until it idles or dawdles for longer than it may.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::accept::Station;
use super::leave::Stage;
use super::pulse::{Pulse, State};

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
pub async fn over<C: Connection>(connection: &mut C, pulse: &Pulse, terms: Terms, station: &Station) -> Ended {
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
        if pulse.is_leaving() && !is_asked {
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
    pulse.begins_turn();
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
    pulse.set_parking(true);
    Pin::new(&mut *connection).leave();
    let is_taken = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx).is_ready())).await;
    pulse.set_parking(false);
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
        let (since, writes) = (terms.since, pulse.writes());
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
        let writes = pulse.writes();
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
