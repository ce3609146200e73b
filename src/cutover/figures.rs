//! The cutover's own counts and durations: written by a service's driver, read at a scrape.

use std::sync::atomic::{AtomicU64, Ordering};

use super::evidence::{Drained, Probed, Switched};
use super::judge::Verdict;
use super::state::{Cutover, Phase};
use crate::metrics::{Counter, Latency};
use crate::names::{Color, PerColor};

/// One service's.
#[derive(Default)]
pub struct Figures {
    /// In the order of [`Phase::OUTCOMES`].
    ended: PerColor<[Counter; 3]>,
    /// In the order of [`Figures::VERDICTS`].
    verdicts: PerColor<[Counter; 3]>,
    pub switches: Latency,
    pub drains: PerColor<Latency>,
    /// How many requests had begun on the color when it was last closed.
    begun: PerColor<AtomicU64>,
    /// In the order of [`Probed::SIGHTS`].
    probed: [AtomicU64; 3],
}

impl Figures {
    /// Those that end a judgement.
    pub const VERDICTS: [(Verdict, &str); 3] =
        [(Verdict::Good, "good"), (Verdict::Bad, "bad"), (Verdict::Undecided, "undecided")];

    /// Cutovers to `to` that ended with `outcome` since the proxy started.
    pub fn ended(&self, to: Color, outcome: Phase) -> u64 {
        let place = Phase::OUTCOMES.iter().position(|known| *known == outcome);
        place.map_or(0, |place| self.ended[to][place].get())
    }

    /// How often it has been said of the color, by the place of the verdict.
    pub fn verdicts(&self, color: Color, place: usize) -> u64 {
        self.verdicts[color][place].get()
    }

    /// Of `count` requests that have begun on the color, those since it was closed.
    pub fn since_closed(&self, color: Color, count: u64) -> u64 {
        count.saturating_sub(self.begun[color].load(Ordering::Acquire))
    }

    pub fn count_end(&self, cutover: &Cutover) {
        let outcome = cutover.outcome();
        if let Some(place) = Phase::OUTCOMES.iter().position(|known| Some(*known) == outcome) {
            self.ended[cutover.to][place].add(1);
        }
    }

    pub fn count_verdict(&self, color: Color, verdict: Verdict) {
        if let Some(place) = Figures::VERDICTS.iter().position(|(known, _)| *known == verdict) {
            self.verdicts[color][place].add(1);
        }
    }

    /// So many requests that had begun on the color by now were none of a client.
    pub fn count_from(&self, color: Color, begun: u64) {
        self.begun[color].store(begun, Ordering::Release);
    }

    /// Every worker has answered with a table in which `old` is not live.
    pub fn count_switch(&self, switched: &Switched, old: Color) {
        self.switches.observe(std::time::Duration::from_micros(switched.switch_us));
        self.count_from(old, switched.begun_on_old.unwrap_or_default());
    }

    pub fn count_drain(&self, old: Color, drained: &Drained) {
        self.drains[old].observe(std::time::Duration::from_millis(drained.drain_ms));
        for (cell, count) in self.probed.iter().zip(drained.probed.iter().flat_map(Probed::by_sight)) {
            cell.store(count, Ordering::Relaxed);
        }
    }

    /// Of the last switch: workers by the place of what the probes found them to see.
    pub fn probed(&self, place: usize) -> u64 {
        self.probed[place].load(Ordering::Relaxed)
    }
}
