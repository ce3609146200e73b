//! The cutover's own counts and durations: written by a service's driver, read at a scrape.

use super::machine::{Cutover, Drained, Phase, Switched};
use crate::metrics::{Counter, Latency};
use crate::names::{Color, PerColor};

/// One service's.
#[derive(Default)]
pub struct Figures {
    /// In the order of [`Phase::OUTCOMES`].
    ended: PerColor<[Counter; 3]>,
    pub switches: Latency,
    pub drains: PerColor<Latency>,
}

impl Figures {
    /// Cutovers to `to` that ended with `outcome` since the proxy started.
    pub fn ended(&self, to: Color, outcome: Phase) -> u64 {
        let place = Phase::OUTCOMES.iter().position(|known| *known == outcome);
        place.map_or(0, |place| self.ended[to][place].get())
    }

    pub fn count_end(&self, cutover: &Cutover) {
        let outcome = cutover.outcome();
        if let Some(place) = Phase::OUTCOMES.iter().position(|known| Some(*known) == outcome) {
            self.ended[cutover.to][place].add(1);
        }
    }

    pub fn count_switch(&self, switched: &Switched) {
        self.switches.observe(std::time::Duration::from_micros(switched.switch_us));
    }

    pub fn count_drain(&self, old: Color, drained: &Drained) {
        self.drains[old].observe(std::time::Duration::from_millis(drained.drain_ms));
    }
}
