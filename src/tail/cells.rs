//! What a worker counts of a tail: one writer for each sheet, no lock, and no allocation for a request.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Counts;
use super::networks::{Networks, Sketch};
use crate::metrics::Counter;
use crate::time::Moment;

/// One worker's figures, alone on their cache lines.
#[derive(Default)]
#[repr(align(128))]
pub struct Sheet {
    requests: Counter,
    connections: Counter,
    told: Counter,
    /// 0: nobody yet.
    last: AtomicU64,
    networks: Sketch,
}

impl Sheet {
    pub fn hear(&self, is_first: bool, client: Option<IpAddr>, at: Moment) {
        self.requests.add(1);
        self.connections.add(u64::from(is_first));
        self.last.store(at.nanos().max(self.last.load(Ordering::Relaxed)), Ordering::Relaxed);
        client.into_iter().for_each(|address| self.networks.note(address));
    }

    pub fn tell(&self) {
        self.told.add(1);
    }

    pub fn counts(&self) -> Counts {
        Counts { requests: self.requests.get(), connections: self.connections.get(), told: self.told.get() }
    }

    pub fn last_seen(&self) -> Option<Moment> {
        Some(self.last.load(Ordering::Relaxed)).filter(|at| *at > 0).map(Moment::from_nanos)
    }

    pub fn add_networks(&self, sum: &mut Networks) {
        sum.add(&self.networks);
    }
}

/// In which spans a client's connection has been counted: one for each service whose tail it belongs to, so one at most
/// on nearly every connection. Nothing where no tail is counted.
#[derive(Default)]
pub struct Known(RefCell<Vec<u64>>);

impl Known {
    /// Whether this is the first time.
    pub fn meets(&self, span: u64) -> bool {
        let mut known = self.0.borrow_mut();
        let is_first = !known.contains(&span);
        if is_first {
            if known.len() == MOST {
                known.remove(0);
            }
            known.push(span);
        }
        is_first
    }
}

/// A connection that asks more services than this in turn is counted more than once.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_met_once_for_each_span() {
        let known = Known::default();
        assert!(known.meets(1) && known.meets(2));
        assert!(!known.meets(1) && !known.meets(2));
        for span in 0..10_000 {
            known.meets(span);
        }
        assert_eq!(known.0.borrow().len(), MOST);
    }
}
