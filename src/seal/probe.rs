//! A probe's sign: by it the proxy knows a question that it has asked itself, and answers nobody else.

use super::{Seal, Use};

/// What a probe shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Seconds since 1970.
    until: i64,
}

impl Probe {
    pub fn new(now: i64) -> Probe {
        Probe { until: now + GOOD_FOR }
    }

    /// Whether this text was signed here for this service, and a moment ago.
    pub fn is(text: &[u8], seal: &Seal, service: &str, now: i64) -> bool {
        let read = || {
            let (words, proof) = std::str::from_utf8(text).ok()?.split_once('.')?;
            let until: i64 = words.parse().ok()?;
            // A clock that is set back must not make an old one good for longer.
            Some((now..=now + GOOD_FOR).contains(&until) && seal.proves(Use::Probe, service, words, proof))
        };
        read().unwrap_or_default()
    }

    pub fn write(&self, seal: &Seal, service: &str) -> String {
        let words = self.until.to_string();
        let proof = seal.sign(Use::Probe, service, &words);
        format!("{words}.{proof}")
    }
}

/// Seconds. A probe takes less than one; whoever could overhear it gets nothing that lasts.
const GOOD_FOR: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_known_by_the_proxy_that_asks_for_a_minute_and_for_its_service() {
        let seal = Seal::temporary();
        let text = Probe::new(1_764_000_000).write(&seal, "shop");
        let is = |text: &str, service, now| Probe::is(text.as_bytes(), &seal, service, now);
        assert!(is(&text, "shop", 1_764_000_000) && is(&text, "shop", 1_764_000_060));
        assert!(!is(&text, "shop", 1_764_000_061) && !is(&text, "shop", 1_763_999_999), "past its time, or before it");
        assert!(!is(&text, "api", 1_764_000_000) && !is(&text.replace("0060", "0059"), "shop", 1_764_000_000));
        assert!(!Probe::is(text.as_bytes(), &Seal::temporary(), "shop", 1_764_000_000));
        for other in ["", ".", "1764000060", "1764000060.", "x.y", &text[1..]] {
            assert!(!is(other, "shop", 1_764_000_000), "{other}");
        }
    }
}
