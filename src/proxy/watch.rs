//! The watch over one client connection: it is driven to its end, or until it idles or dawdles for longer than it may.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::time::{Instant, Sleep};

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
    let watch = Watch::new(terms, pulse);
    let clock = pin!(tokio::time::sleep_until(watch.due()));
    let bell = pin!(station.leave.changed());
    let mut guard =
        Guard { connection, pulse, station, watch, clock, bell, seen: None, is_asked: false, evicted: None };
    std::future::poll_fn(|cx| guard.turn(cx)).await
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

/// Takes an idle connection from hyper without closing its socket. hyper is given nothing to write, and has nothing left;
/// where it has after all, this is false, and the connection has to be watched on.
pub async fn park<C: Connection>(connection: &mut C, pulse: &Pulse) -> bool {
    pulse.set_parking(true);
    Pin::new(&mut *connection).leave();
    let is_taken = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx).is_ready())).await;
    pulse.set_parking(false);
    is_taken
}

/// Who keeps watch over a connection, and what for.
struct Guard<'a, 'b, C> {
    connection: &'b mut C,
    pulse: &'a Pulse,
    station: &'a Station,
    watch: Watch,
    clock: Pin<&'b mut Sleep>,
    /// Rings when the worker's leaving reaches another stage.
    bell: Pin<&'b mut Notified<'a>>,
    /// The stage that it was at last.
    seen: Option<Stage>,
    /// A request of the connection has asked it to end.
    is_asked: bool,
    /// Resolves when another needs the place; only while the connection may have to make room.
    evicted: Option<Pin<Box<dyn Future<Output = ()> + 'a>>>,
}

impl<C: Connection> Guard<'_, '_, C> {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let is_late = self.seen.is_none() && self.station.leave.stage() >= self.watch.terms.leaves_at;
        // hyper closes on whoever has not begun: what has come is heard before it is asked to leave.
        if is_late && let Some(ended) = self.drive(cx) {
            return Poll::Ready(ended);
        }
        self.hear_the_bell(cx);
        let ended = self.drive(cx).or_else(|| self.make_room(cx)).or_else(|| self.look_at_the_clock(cx));
        ended.map_or(Poll::Pending, Poll::Ready)
    }

    /// Asks the connection to end where its worker leaves, or a request of its own has found that it is to.
    fn hear_the_bell(&mut self, cx: &mut Context<'_>) {
        let stage = self.station.leave.stage();
        if self.seen != Some(stage) {
            // Told once, the bell has to be listened for anew; its waker stays the same.
            self.bell.set(self.station.leave.changed());
            let _ = self.bell.as_mut().poll(cx);
            let leaves_at = self.watch.terms.leaves_at;
            if stage >= leaves_at && self.seen < Some(leaves_at) {
                Pin::new(&mut *self.connection).leave();
            }
            self.seen = Some(stage);
        }
        if self.pulse.is_leaving() && !self.is_asked {
            self.is_asked = true;
            Pin::new(&mut *self.connection).leave();
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        let mut driven = turn(self.connection, self.pulse, cx);
        if driven.is_pending() && !self.pulse.has_heard_all() {
            self.pulse.listen();
            if self.pulse.is_deaf() {
                driven = turn(self.connection, self.pulse, cx);
            }
        }
        match driven {
            Poll::Pending => None,
            Poll::Ready(Err(error)) if is_broken(&error) => Some(Ended::Broken),
            Poll::Ready(_) => Some(Ended::ByItself),
        }
    }

    fn make_room(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        if self.watch.state != self.pulse.state() {
            self.evicted = None;
        }
        self.evicted.as_mut()?.as_mut().poll(cx).is_ready().then_some(Ended::Evicted)
    }

    /// The clock is set anew only where it may have to ring earlier, or has rung.
    fn look_at_the_clock(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        let is_first = !std::mem::replace(&mut self.watch.is_set, true);
        if self.watch.notice(self.pulse) {
            let earlier = self.clock.deadline().min(self.watch.due());
            self.clock.as_mut().reset(earlier);
        } else if is_first && self.pulse.is_deaf() {
            self.clock.as_mut().reset(Instant::now() + DEAF);
        } else if !is_first && !self.clock.is_elapsed() {
            return None;
        }
        while self.clock.as_mut().poll(cx).is_ready() {
            self.pulse.bell.notify_waiters();
            if let Some(ended) = self.answer_the_clock(cx) {
                return Some(ended);
            }
            self.clock.as_mut().reset(self.watch.due());
        }
        None
    }

    fn answer_the_clock(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        if self.pulse.is_deaf() {
            self.pulse.listen();
            cx.waker().wake_by_ref();
        }
        match self.watch.ring(self.pulse) {
            Ring::End(ended) => return Some(ended),
            Ring::Old => Pin::new(&mut *self.connection).leave(),
            Ring::Quiet => {
                let station = self.station;
                self.evicted.get_or_insert_with(|| Box::pin(station.capacity.evicted()));
                return self.make_room(cx);
            }
            Ring::Later => {}
        }
        None
    }
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

/// How long nobody listens for the end of a client whose last request is under way: most answers come sooner, and then
/// the runtime need not be told of its socket at all.
const DEAF: Duration = Duration::from_millis(50);
