//! One atomic word that counts who is inside and says whether anyone may still enter: the part that must be exact.
//!
//! `tests/turnstile.rs` compiles this file against loom's atomics and tries every interleaving of it.

use super::atomic::{AtomicU64, Ordering};

/// Requests in the low 32 bits, tunnels in the next 31, the closed mark on top.
///
/// Count and mark share the word, so an entry either happens before the close, and is seen by whoever waits for the
/// count to fall, or sees the close and turns back. A count beside a mark lets requests into a closed pool.
pub struct Word(AtomicU64);

impl Word {
    pub fn closed() -> Word {
        Word(AtomicU64::new(CLOSED))
    }

    /// Steps in as a request; false where the word is closed. What was published before the close is visible then.
    pub fn enter(&self) -> bool {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            if seen & CLOSED != 0 {
                return false;
            }
            match self.0.compare_exchange_weak(seen, seen + REQUEST, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// A request inside becomes a tunnel, without a moment in which it is neither.
    pub fn become_tunnel(&self) -> Count {
        Count(self.0.fetch_add(TUNNEL - REQUEST, Ordering::AcqRel) + (TUNNEL - REQUEST))
    }

    pub fn leave_request(&self) -> Count {
        Count(self.0.fetch_sub(REQUEST, Ordering::AcqRel) - REQUEST)
    }

    pub fn leave_tunnel(&self) -> Count {
        Count(self.0.fetch_sub(TUNNEL, Ordering::AcqRel) - TUNNEL)
    }

    pub fn open(&self) {
        self.0.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    pub fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub fn count(&self) -> Count {
        Count(self.0.load(Ordering::Acquire))
    }
}

/// What a word said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(u64);

impl Count {
    pub fn requests(self) -> u64 {
        self.0 & (TUNNEL - 1)
    }

    pub fn tunnels(self) -> u64 {
        (self.0 & !CLOSED) / TUNNEL
    }

    pub fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }
}

const REQUEST: u64 = 1;
const TUNNEL: u64 = 1 << 32;
const CLOSED: u64 = 1 << 63;
