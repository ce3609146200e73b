//! The pulse of one client connection: whether it carries a request, waits for one, or is in the middle of a head.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

/// Written by the connection's reads and requests, read by the clock that watches it.
///
/// All on one thread; atomics, never contended, only because hyper wants a socket it may upgrade to be `Send`.
#[derive(Default)]
pub struct Pulse {
    requests: AtomicU32,
    /// Bytes have come since the last request began: the start of another head.
    in_head: AtomicBool,
    /// The last answer was given while the client was still sending.
    interrupted: AtomicBool,
    /// How often bytes have gone out: a client that still reads an answer is not idle.
    writes: AtomicU32,
}

impl Pulse {
    /// A head has been read: the connection is busy until the guard goes.
    pub fn begin(self: &Arc<Pulse>) -> Busy {
        self.in_head.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Bytes have come. While a request is under way they are its body, and so is the rest of one that was answered
    /// early; empty lines before a head are nothing (RFC 9112, 2.2).
    pub fn came(&self, bytes: &[u8]) {
        let idle = self.requests.load(Ordering::Relaxed) == 0 && !self.was_interrupted();
        if idle && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.in_head.store(true, Ordering::Relaxed);
        }
    }

    /// Bytes have gone out.
    pub fn went(&self) {
        self.writes.store(self.writes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether the client may still be sending what nobody reads any more.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// A head has been begun, and no request has come of it yet.
    pub fn is_in_head(&self) -> bool {
        self.state() == State::Head
    }

    fn state(&self) -> State {
        match (self.requests.load(Ordering::Relaxed), self.in_head.load(Ordering::Relaxed)) {
            (0, false) => State::Idle,
            (0, true) => State::Head,
            _ => State::Busy,
        }
    }
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
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Head,
    Busy,
}

/// A connection that can be asked to end after the requests it carries.
pub trait Connection: Future + Unpin {
    fn leave(self: Pin<&mut Self>);
}

/// How a connection's watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    ByItself,
    /// Nothing was asked for as long as a connection may idle.
    Idle,
    /// A head was begun and not finished in time.
    SlowHead,
}

/// Drives a connection to its end, or until it idles for `idle` or dawdles over a head for `head`; `stop` asks it to
/// leave.
///
/// No request pays for it: the clock is read when the connection falls idle, and set anew only when it rings.
pub async fn watch<C: Connection>(
    connection: &mut C,
    pulse: &Pulse,
    idle: Duration,
    head: Duration,
    stop: impl Future<Output = ()>,
) -> Ended {
    let mut stop = pin!(stop);
    let mut stopping = false;
    let mut clock = pin!(tokio::time::sleep(idle));
    let (mut state, mut since, mut writes) = (State::Idle, Instant::now(), 0);
    std::future::poll_fn(|cx| {
        if !stopping && stop.as_mut().poll(cx).is_ready() {
            stopping = true;
            Pin::new(&mut *connection).leave();
        }
        if Pin::new(&mut *connection).poll(cx).is_ready() {
            return Poll::Ready(Ended::ByItself);
        }
        if state != pulse.state() {
            state = pulse.state();
            since = if state == State::Busy { since } else { Instant::now() };
            if state == State::Head && since + head < clock.deadline() {
                clock.as_mut().reset(since + head);
            }
        }
        loop {
            ready!(clock.as_mut().poll(cx));
            let now = pulse.writes.load(Ordering::Relaxed);
            if state == State::Idle && writes != now {
                // The end of an answer may leave the buffers long after the request that asked for it.
                (writes, since) = (now, Instant::now());
            }
            let (due, ended) = match state {
                State::Busy => (Instant::now() + idle.min(head), None),
                State::Idle => (since + idle, Some(Ended::Idle)),
                State::Head => (since + head, Some(Ended::SlowHead)),
            };
            match ended {
                Some(ended) if due <= Instant::now() => return Poll::Ready(ended),
                _ => clock.as_mut().reset(due),
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_another_request_is_a_head() {
        let pulse = Arc::new(Pulse::default());
        pulse.came(b"\r\n");
        assert!(!pulse.is_in_head(), "an empty line before a head is nothing");
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
