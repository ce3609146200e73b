//! Calls to a party outside, counted by what was asked and how it ended.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter for each operation and result, all from zero; any thread may count, none waits.
#[derive(Debug)]
pub struct CallSheet {
    /// Each with the service it belongs to: two services may have one of the same name.
    operations: Box<[(&'static str, &'static str)]>,
    results: &'static [&'static str],
    counts: Box<[AtomicU64]>,
}

impl CallSheet {
    /// Both lists are all there will ever be; operations with their services.
    pub fn new(
        operations: impl IntoIterator<Item = (&'static str, &'static str)>,
        results: &'static [&'static str],
    ) -> CallSheet {
        let operations: Box<[_]> = operations.into_iter().collect();
        let counts = (0..operations.len() * results.len()).map(|_| AtomicU64::new(0)).collect();
        CallSheet { operations, results, counts }
    }

    /// Counts one; a name that is on neither list is a mistake in this program, and not counted.
    pub fn count(&self, service: &str, operation: &str, result: &str) {
        let of = self.operations.iter().position(|known| *known == (service, operation));
        let places = of.zip(self.results.iter().position(|known| *known == result));
        debug_assert!(places.is_some(), "{service}:{operation} or {result} is not on the sheet");
        if let Some((operation, result)) = places {
            self.counts[operation * self.results.len() + result].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every service's every operation and result, with how often that was.
    pub fn counts(&self) -> impl Iterator<Item = ([&'static str; 3], u64)> + '_ {
        let of = |(service, operation)| self.results.iter().map(move |result| [service, operation, *result]);
        let names = self.operations.iter().copied().flat_map(of);
        names.zip(&self.counts).map(|(names, count)| (names, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_counter_of_its_own() {
        let sheet = CallSheet::new([("zones", "read"), ("stacks", "read")], &["ok", "busy", "lost"]);
        sheet.count("zones", "read", "lost");
        sheet.count("stacks", "read", "ok");
        sheet.count("stacks", "read", "ok");
        let expected = [
            (["zones", "read", "ok"], 0),
            (["zones", "read", "busy"], 0),
            (["zones", "read", "lost"], 1),
            (["stacks", "read", "ok"], 2),
            (["stacks", "read", "busy"], 0),
            (["stacks", "read", "lost"], 0),
        ];
        assert_eq!(sheet.counts().collect::<Vec<_>>(), expected);
    }
}
