//! The pulse of one client connection: whether it carries a request, waits for one, or is in the middle of a head.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use tokio::sync::Notify;

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
    /// The request that came last has a body that has not been read to its end.
    unread: AtomicBool,
    /// The last answer was given while the client was still sending.
    interrupted: AtomicBool,
    /// The client has spoken HTTP/1.0, where a body may end with the connection.
    old: AtomicBool,
    /// An answer to such a client has broken off.
    torn: AtomicBool,
    /// An answer has been given to hyper, and what hyper writes of it has not gone out whole since.
    owed: AtomicBool,
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
    /// What comes next on the socket is not listened for.
    deaf: AtomicBool,
    /// It has to be.
    listening: AtomicBool,
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
        // What came before it has been read, or there would be no head.
        self.interrupted.store(false, Ordering::Relaxed);
        self.unread.store(false, Ordering::Relaxed);
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

    pub fn begins_turn(&self) {
        self.turn.store(0, Ordering::Relaxed);
    }

    /// It has taken so much that others come first.
    pub fn has_had_its_turn(&self) -> bool {
        self.turn.load(Ordering::Relaxed) >= TURN
    }

    /// Whether the body of the request that came last is still to be read.
    pub fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// The client takes the end of the connection for that of a body (RFC 1945, 7.2.2).
    pub fn speaks_old(&self) {
        self.old.store(true, Ordering::Relaxed);
    }

    /// Whether the connection must not end as one does whose last answer is whole.
    pub fn is_torn(&self) -> bool {
        self.torn.load(Ordering::Relaxed)
    }

    /// An answer is about to be written.
    pub fn owes(&self) {
        self.owed.store(true, Ordering::Relaxed);
    }

    /// What is written now is no answer that it was given: neither is a request under way, nor an answer still to begin.
    pub fn owes_nothing(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && !self.owed.load(Ordering::Relaxed)
    }

    /// All that was to be written has gone out.
    pub fn owes_no_more(&self) {
        self.owed.store(false, Ordering::Relaxed);
    }

    /// Bytes have gone out.
    pub fn went(&self) {
        self.writes.store(self.writes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub fn writes(&self) -> u32 {
        self.writes.load(Ordering::Relaxed)
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

    /// Whether the runtime may go on knowing nothing of the connection's socket: it may until it is to listen.
    pub fn stays_deaf(&self) -> bool {
        let stays = !self.listening.load(Ordering::Relaxed);
        self.deaf.store(stays, Ordering::Relaxed);
        stays
    }

    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// Nothing can come any more but the client's end: the last request is under way, and has come whole.
    pub fn has_heard_all(&self) -> bool {
        self.last.load(Ordering::Relaxed)
            && self.requests.load(Ordering::Relaxed) > 0
            && !self.unread.load(Ordering::Relaxed)
    }

    pub fn listen(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub fn set_parking(&self, parking: bool) {
        self.parking.store(parking, Ordering::Relaxed);
    }

    pub fn can_park(&self) -> bool {
        !self.blocked.load(Ordering::Relaxed) && !self.blanks.load(Ordering::Relaxed) && !self.was_interrupted()
    }

    pub fn state(&self) -> State {
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
    /// The answer is given, whether or not the request has been read to its end.
    pub fn answers(&self) {
        self.0.interrupted.store(self.0.unread.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The answer ends before its end.
    pub fn breaks_off(&self) {
        self.0.torn.store(self.0.old.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.store(self.0.requests.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle,
    Head,
    Busy,
}

/// Bytes that are taken of an HTTP/2 connection before every other one has its turn. It is what a flood can make others
/// wait for: a byte can cost 60 ns, where it stands for a whole field (RFC 7541, 6.1).
const TURN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_head(pulse: &Pulse) -> bool {
        pulse.state() == State::Head
    }

    #[test]
    fn only_the_beginning_of_another_request_is_a_head() {
        let pulse = Arc::new(Pulse::default());
        pulse.came(b"\r\n");
        assert!(!is_in_head(&pulse), "an empty line before a head is nothing");
        assert!(!pulse.can_park(), "hyper holds it");
        pulse.came(b"\r\nGET");
        assert!(is_in_head(&pulse));
        let busy = pulse.begin();
        pulse.came(b"a body");
        drop(busy);
        assert!(!is_in_head(&pulse), "what came during the request was its body");
        let busy = pulse.begin();
        pulse.set_unread(true);
        busy.answers();
        drop(busy);
        pulse.came(b"the rest of a body");
        assert!(!is_in_head(&pulse), "a request answered early still sends");
        let busy = pulse.begin();
        pulse.set_unread(true);
        pulse.set_unread(false);
        busy.answers();
        drop(busy);
        pulse.came(b"GET");
        assert!(is_in_head(&pulse) && pulse.can_park(), "a body that has been read whole is in nobody's way");
    }
}
