//! What a warm-up came to, and whether that is good enough for clients.

use serde::{Deserialize, Serialize};

use crate::config::Share;
use crate::names::Color;
use crate::pool::Pool;
use crate::table::Warming;
use crate::time::Moment;

/// The warm-up of a color, as far as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Warmed {
    pub warm_ms: u64,
    /// Those that were up when it began.
    pub endpoints: u64,
    /// Kept connections that have been opened to them, of so many.
    pub connections: u64,
    pub of_connections: u64,
    /// Answers by class of the status code, `1xx` to `5xx`.
    pub codes: [u64; 5],
    /// Requests without an answer.
    pub unanswered: u64,
    /// Requests that there are to be.
    pub of_requests: u64,
    /// What has failed, and how often.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub failures: Vec<String>,
}

impl Warmed {
    /// How far the warm-up of this pool is.
    pub fn look(warming: &Warming, pool: &Pool) -> Warmed {
        let done = pool.warmed().since(&warming.before);
        Warmed {
            warm_ms: u64::try_from(Moment::now().since(warming.begun).as_millis()).unwrap_or(u64::MAX),
            endpoints: warming.endpoints.len() as u64,
            connections: done.connections,
            of_connections: warming.connections(),
            codes: done.codes,
            unanswered: done.unanswered,
            of_requests: warming.requests(),
            failures: warming.failures(),
        }
    }

    /// Requests that are over.
    pub fn requests(&self) -> u64 {
        self.codes.iter().sum::<u64>() + self.unanswered
    }

    /// Of these, those that failed.
    pub fn failed(&self) -> u64 {
        self.codes[4] + self.unanswered
    }

    /// Why clients should not be sent there; nothing where they may. What is not over by now has failed.
    pub fn against(&self, color: Color, most: Share) -> Vec<String> {
        if self.endpoints == 0 {
            return vec![format!("no endpoint of {color} is up to be warmed up")];
        }
        let unopened = self.of_connections.saturating_sub(self.connections);
        let unasked = self.of_requests.saturating_sub(self.requests());
        let late = match unasked {
            0 => String::new(),
            count => format!(", {count} of them not answered in time"),
        };
        let limit =
            |bad: u64, of: u64| u128::from(bad) * u128::from(Share::ALL.0) > u128::from(of) * u128::from(most.0);
        let share = |bad: u64, of: u64| format!("{bad} of {of} ({:.2} %)", bad as f64 * 100.0 / of.max(1) as f64);
        let mut against = Vec::new();
        if limit(unopened, self.of_connections) {
            let bad = share(unopened, self.of_connections);
            against.push(format!("warm-up of {color}: {bad} connections could not be opened; at most {most} may"));
        }
        let bad = self.failed() + unasked;
        if limit(bad, self.of_requests) {
            let bad = share(bad, self.of_requests);
            against.push(format!("warm-up of {color}: {bad} requests failed{late}; at most {most} may"));
        }
        if !against.is_empty() {
            against.extend(self.failures.iter().cloned());
        }
        against
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warmed(connections: u64, ok: u64, bad: u64, unanswered: u64) -> Warmed {
        Warmed {
            endpoints: 2,
            connections,
            of_connections: 16,
            codes: [0, ok, 0, 0, bad],
            unanswered,
            of_requests: 100,
            failures: vec!["10.0.0.1:80: GET /: 503, 3 times".to_owned()],
            ..Warmed::default()
        }
    }

    #[test]
    fn what_failed_is_held_against_the_limit_and_told_with_its_figures() {
        let against = |warmed: Warmed, most| warmed.against(Color::Green, Share(most));
        assert!(against(warmed(16, 95, 5, 0), 500).is_empty(), "as many as may fail");
        assert!(against(warmed(16, 100, 0, 0), 0).is_empty());
        assert_eq!(
            against(warmed(16, 94, 5, 1), 500),
            ["warm-up of green: 6 of 100 (6.00 %) requests failed; at most 5% may", "10.0.0.1:80: GET /: 503, 3 times"]
        );
        assert_eq!(
            against(warmed(16, 90, 0, 0), 500)[0],
            "warm-up of green: 10 of 100 (10.00 %) requests failed, 10 of them not answered in time; at most 5% may"
        );
        assert_eq!(
            against(warmed(15, 100, 0, 0), 500)[0],
            "warm-up of green: 1 of 16 (6.25 %) connections could not be opened; at most 5% may"
        );
        let asked_nothing = Warmed { of_requests: 0, codes: [0; 5], ..warmed(16, 0, 0, 0) };
        assert!(against(asked_nothing, 0).is_empty());
        assert_eq!(against(Warmed::default(), 10_000), ["no endpoint of green is up to be warmed up"]);
    }
}
