//! The evidence of a cutover: what was seen and measured on its way.

use serde::{Deserialize, Serialize};

use super::judge::{Judgement, Sample, Verdict};
use super::recorder::Flight;
use super::warmed::Warmed;
use crate::names::Color;
use crate::time::Timestamp;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Why it did not go on, where it did not; what it waits for, where it waits.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warmed: Option<Warmed>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub switched: Option<Switched>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drained: Option<Drained>,
    /// What became of the last look at how the new color does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub judged: Option<Judgement>,
    /// What both colors did around the switch; known when it has ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flight: Option<Box<Flight>>,
}

/// The switch, as it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switched {
    pub at: Timestamp,
    /// Microseconds from publishing until the last worker answered with the new table.
    pub switch_us: u64,
    pub workers: usize,
    /// How many of them answered; fewer than `workers` means that some are stuck.
    pub answered: usize,
    /// When the last request that went to the old color began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_request_to_old: Option<Timestamp>,
    /// How many requests had ever begun on the old color by then; `None` after a restart, which counts from its own start,
    /// where the old color is closed.
    #[serde(skip)]
    pub begun_on_old: Option<u64>,
    /// What the old color did in the minute before, where the new one is judged by that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub baseline: Option<Box<Sample>>,
}

/// The drain, as it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    pub drain_ms: u64,
    /// The proxy was restarted meanwhile: what became of the requests that were inside then is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub restarted: bool,
    /// Requests still running when their deadline passed; they were left to finish.
    pub requests_left: u64,
    /// Tunnels still open when their deadline passed; they were closed.
    pub tunnels_closed: u64,
    /// Requests that began on the old color after every worker had answered.
    pub requests_to_old_since: u64,
    /// What the workers see, asked through the proxy's own listeners.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probed: Option<Probed>,
}

/// What became of the probes through the proxy's own listeners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    pub workers: usize,
    /// Those that have answered through each listener that could be asked.
    pub probed: usize,
    /// What all of them see; null where they do not agree, or none has answered.
    pub saw: Option<Color>,
    /// Listeners that could be asked.
    pub listeners: usize,
    pub probes: u64,
    pub took_ms: u64,
    /// Each worker that leads elsewhere than it should: the switch is not what it says.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub astray: Vec<String>,
    /// What could not be found out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unproved: Vec<String>,
}

impl Probed {
    pub const SIGHTS: [&str; 3] = ["new", "old", "unknown"];

    /// How many workers see what, in the order of [`Probed::SIGHTS`].
    pub fn by_sight(&self) -> [u64; 3] {
        let astray = self.astray.len();
        let (new, unknown) = (self.probed.saturating_sub(astray), self.workers.saturating_sub(self.probed.max(astray)));
        [new, astray, unknown].map(|count| count as u64)
    }
}

impl Evidence {
    pub fn is_good(&self) -> bool {
        self.is(Verdict::Good)
    }

    pub fn is_bad(&self) -> bool {
        self.is(Verdict::Bad)
    }

    /// It could not be said, in all the time there was.
    pub fn is_undecided(&self) -> bool {
        self.is(Verdict::Undecided)
    }

    fn is(&self, verdict: Verdict) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.verdict == verdict)
    }
}
