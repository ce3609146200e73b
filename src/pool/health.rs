//! What is known of an endpoint's health, and whether a pool may go live on it: pure, so that it is proved whole.

use std::net::SocketAddr;

use serde::Serialize;

use crate::config::{Health, Share};
use crate::time::Timestamp;

/// Whether requests are sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not checked yet: not up, since nobody has seen it work.
    Unknown,
    Up,
    Down,
}

impl State {
    pub const ALL: [State; 3] = [State::Up, State::Down, State::Unknown];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Down => "down",
        }
    }
}

/// One endpoint's state and the answer that last mattered to it.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointHealth {
    pub address: SocketAddr,
    pub state: State,
    pub last: Option<Check>,
    /// Checks in a row that speak against the state.
    streak: u32,
    /// How many of them it would take to change it.
    wanted: u32,
}

/// Whether a check came at its interval, or because somebody asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Regular,
    Extra,
}

/// One check's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub at: Timestamp,
    /// What the endpoint answered, such as `200 in 1.2 ms`, or why it did not pass.
    pub answer: Result<String, String>,
    /// False: it was not asked, for want of something on this side.
    pub counts: bool,
}

impl EndpointHealth {
    pub fn unknown(address: SocketAddr) -> EndpointHealth {
        EndpointHealth { address, state: State::Unknown, last: None, streak: 0, wanted: 1 }
    }

    /// The state after one more check: `rise` passes bring it up, `fall` failures take it down.
    ///
    /// The very first check decides at once: there is nothing yet that a single answer could be weighed against.
    pub fn checked(self, check: Check, rules: &Health, pace: Pace) -> EndpointHealth {
        let passed = check.answer.is_ok();
        let (state, streak) = match (self.state, passed) {
            // Nothing is known anew, and whoever asked how it is now has no yes.
            (State::Up, _) if !check.counts && pace == Pace::Extra => (State::Up, self.streak.max(1)),
            _ if !check.counts => (self.state, self.streak),
            // It says how the endpoint is now, and no more: `rise` and `fall` are about checks an interval apart.
            (State::Up, false) if pace == Pace::Extra => (State::Up, self.streak.max(1)),
            (State::Down, true) if pace == Pace::Extra => (State::Down, self.streak),
            (State::Unknown, true) => (State::Up, 0),
            (State::Unknown, false) => (State::Down, 0),
            (State::Up, true) | (State::Down, false) => (self.state, 0),
            (State::Up, false) if self.streak + 1 >= rules.fall => (State::Down, 0),
            (State::Down, true) if self.streak + 1 >= rules.rise => (State::Up, 0),
            (State::Up, false) | (State::Down, true) => (self.state, self.streak + 1),
        };
        let wanted = if state == State::Up { rules.fall } else { rules.rise };
        EndpointHealth { state, streak, wanted, last: Some(check), ..self }
    }

    /// Why it is not in the state that its last answer speaks for, where it is not: one answer alone changes nothing.
    pub fn in_spite(&self) -> Option<String> {
        let passed = self.last.as_ref().filter(|check| check.counts)?.answer.is_ok();
        let (streak, wanted) = (self.streak, self.wanted);
        match (self.state, passed) {
            (State::Down, true) => {
                Some(format!("has passed {streak} of the {wanted} checks in a row that bring it up"))
            }
            (State::Up, false) => {
                Some(format!("has failed {streak} of the {wanted} checks in a row that take it down"))
            }
            _ => None,
        }
    }

    /// What the endpoint last answered, for people: `10.0.0.3:80 is down: connection refused`.
    pub fn says(&self) -> String {
        let Some(Check { answer, .. }) = &self.last else {
            return format!("{} has not been checked yet", self.address);
        };
        let (Ok(answer) | Err(answer)) = answer;
        let in_spite = self.in_spite().map_or(String::new(), |why| format!(", and {why}"));
        format!("{} is {}: {answer}{in_spite}", self.address, self.state.as_str())
    }

    /// Up, and the newest check agrees: an endpoint on its way down does not count as good.
    fn is_good(&self) -> bool {
        self.state == State::Up && self.streak == 0
    }

    /// Not good yet, but the next checks may make it so.
    fn is_rising(&self) -> bool {
        match &self.last {
            None => true,
            Some(check) => self.state == State::Down && check.answer.is_ok(),
        }
    }
}

/// Whether a pool may go live, and if not, why not, endpoint by endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Not yet, but checks that are under way may change that.
    Rising(Vec<String>),
    Unready(Vec<String>),
}

pub fn readiness(endpoints: &[EndpointHealth], min_healthy: Share) -> Readiness {
    if endpoints.is_empty() {
        return Readiness::Unready(vec!["it has no endpoints".to_owned()]);
    }
    // A color without a single good endpoint is never ready, however low the share.
    let wanted = min_healthy.of(endpoints.len()).max(1);
    let good = good(endpoints);
    if good >= wanted {
        return Readiness::Ready;
    }
    let mut reasons = vec![format!("{good} of {} endpoints are healthy, {wanted} are needed", endpoints.len())];
    reasons.extend(endpoints.iter().filter(|endpoint| !endpoint.is_good()).map(EndpointHealth::says));
    let rising = endpoints.iter().filter(|endpoint| endpoint.is_rising()).count();
    if good + rising >= wanted { Readiness::Rising(reasons) } else { Readiness::Unready(reasons) }
}

/// How many of them requests can rely on now.
pub fn good(endpoints: &[EndpointHealth]) -> usize {
    endpoints.iter().filter(|endpoint| endpoint.is_good()).count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rules() -> Health {
        Health {
            path: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            expect_status: vec![200],
            expect_stack: None,
            slow_start: Duration::ZERO,
        }
    }

    /// An endpoint after the checks written as `+` and `-`, or, where somebody asked for them, as `p` and `f`; `n` and `N` are
    /// those that could not be made.
    fn after(checks: &str) -> EndpointHealth {
        checks.chars().fold(EndpointHealth::unknown(([127, 0, 0, 1], 80).into()), |endpoint, check| {
            let answer = if matches!(check, '+' | 'p') { Ok("200".to_owned()) } else { Err("refused".to_owned()) };
            let pace = if matches!(check, 'p' | 'f' | 'N') { Pace::Extra } else { Pace::Regular };
            endpoint.checked(
                Check { at: Timestamp::UNIX_EPOCH, answer, counts: !matches!(check, 'n' | 'N') },
                &rules(),
                pace,
            )
        })
    }

    #[test]
    fn the_first_check_decides_and_then_rise_and_fall_do() {
        use State::*;
        for (checks, state) in [
            ("", Unknown),
            ("+", Up),
            ("-", Down),
            ("+--", Up),
            ("+---", Down),
            ("+--+--", Up),
            ("-+", Down),
            ("-++", Up),
            ("-+-+", Down),
            ("+---++", Up),
            ("+ffffff", Up),
            ("-pppp", Down),
            ("-pp+", Down),
            ("f", Down),
            ("n", Unknown),
            ("+nnnn", Up),
            ("+NNNN", Up),
            ("+--nnn", Up),
            ("+--n-", Down),
            ("-+n+", Up),
        ] {
            assert_eq!(after(checks).state, state, "{checks}");
        }
    }

    #[test]
    fn a_pool_is_ready_when_enough_endpoints_are_up_and_none_of_those_is_falling() {
        let ready = |pool: &[&str], share| readiness(&pool.iter().map(|c| after(c)).collect::<Vec<_>>(), Share(share));
        assert_eq!(ready(&["+", "+"], 10_000), Readiness::Ready);
        assert_eq!(ready(&["+", "-"], 5_000), Readiness::Ready);
        assert!(matches!(ready(&["+", "-"], 10_000), Readiness::Unready(_)));
        assert!(matches!(ready(&["+-"], 10_000), Readiness::Unready(_)), "a falling endpoint is not good");
        assert!(matches!(ready(&["+f"], 10_000), Readiness::Unready(_)), "nor is one that fails when asked");
        assert!(matches!(ready(&["+N"], 10_000), Readiness::Unready(_)), "nor one that cannot be asked");
        assert_eq!(ready(&["+n"], 10_000), Readiness::Ready);
        assert!(matches!(ready(&["-+"], 10_000), Readiness::Rising(_)));
        assert!(matches!(ready(&["", "+"], 10_000), Readiness::Rising(_)));
        assert!(matches!(ready(&[], 10_000), Readiness::Unready(_)));
        assert!(matches!(ready(&["-"], 0), Readiness::Unready(_)), "no share makes a dead pool ready");
    }

    #[test]
    fn reasons_name_the_endpoint_and_its_last_answer() {
        let Readiness::Unready(reasons) = readiness(&[after("-")], Share::ALL) else { panic!("it is ready") };
        assert_eq!(reasons, ["0 of 1 endpoints are healthy, 1 are needed", "127.0.0.1:80 is down: refused"]);
    }

    #[test]
    fn who_counts_otherwise_than_he_last_answered_says_why() {
        for (checks, says) in [
            ("-+", "is down: 200, and has passed 1 of the 2 checks in a row that bring it up"),
            ("-pp", "is down: 200, and has passed 0 of the 2 checks in a row that bring it up"),
            ("+--", "is up: refused, and has failed 2 of the 3 checks in a row that take it down"),
            ("-++", "is up: 200"),
            ("+---", "is down: refused"),
            ("+n", "is up: refused"),
        ] {
            assert_eq!(after(checks).says(), format!("127.0.0.1:80 {says}"), "{checks}");
        }
    }
}
