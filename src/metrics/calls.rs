//! Calls to a party outside, counted by what was asked and how it ended.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter for each operation and result, all from zero; any thread may count, none waits.
#[derive(Debug)]
pub struct CallSheet {
    operations: &'static [&'static str],
    results: &'static [&'static str],
    counts: Box<[AtomicU64]>,
}

impl CallSheet {
    /// Both lists are all there will ever be.
    pub fn new(operations: &'static [&'static str], results: &'static [&'static str]) -> CallSheet {
        let counts = (0..operations.len() * results.len()).map(|_| AtomicU64::new(0)).collect();
        CallSheet { operations, results, counts }
    }

    /// Counts one; a name that is on neither list is a mistake in this program, and not counted.
    pub fn count(&self, operation: &str, result: &str) {
        let place = |names: &[&str], name| names.iter().position(|known| *known == name);
        let places = place(self.operations, operation).zip(place(self.results, result));
        debug_assert!(places.is_some(), "{operation} or {result} is not on the sheet");
        if let Some((operation, result)) = places {
            self.counts[operation * self.results.len() + result].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every operation and result, with how often that was.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let names =
            self.operations.iter().flat_map(|operation| self.results.iter().map(|result| (*operation, *result)));
        names.zip(&self.counts).map(|((operation, result), count)| (operation, result, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_counter_of_its_own() {
        let sheet = CallSheet::new(&["read", "write"], &["ok", "busy", "lost"]);
        sheet.count("read", "lost");
        sheet.count("write", "ok");
        sheet.count("write", "ok");
        let expected = [
            ("read", "ok", 0),
            ("read", "busy", 0),
            ("read", "lost", 1),
            ("write", "ok", 2),
            ("write", "busy", 0),
            ("write", "lost", 0),
        ];
        assert_eq!(sheet.counts().collect::<Vec<_>>(), expected);
    }
}
