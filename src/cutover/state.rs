//! One cutover, whole: what was wished, how far it is, and what was seen on the way. The journal keeps exactly this.

use serde::{Deserialize, Serialize};

use super::evidence::{Drained, Evidence, Switched};
use super::gate::{Gate, GateKind, GateState};
use crate::config::Share;
use crate::journal::Topic;
use crate::names::{Color, ServiceName};
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cutover {
    pub id: String,
    pub service: ServiceName,
    pub kind: Kind,
    pub from: Color,
    pub to: Color,
    /// Who asked: `uid 0` over the socket, `token` over TCP.
    pub by: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    pub started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
    /// The service's generation before the cutover; each publish adds one.
    pub generation: u64,
    pub phase: Phase,
    /// The way back is wanted, and waits for the old color's health.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub returning: bool,
    /// Who wants it and why, where an operator does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asked_back: Option<String>,
    /// Which of the phases that a config may leave out this one has. It stays as it was when the cutover began.
    #[serde(skip_serializing_if = "Outline::is_empty", default)]
    pub outline: Outline,
    /// What has to hold before the switch, as it stands.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gates: Vec<Gate>,
    /// The step of the canary or the ramp whose share the new color has, or had when it was taken back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<u32>,
    /// What the new color has, or had, with that step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub share: Option<Share>,
    /// What it was in when it paused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused: Option<Stop>,
    /// The deadline passed before anybody could say that the new color is good.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub overdue: bool,
    /// An operator has said to keep the new color, whatever speaks against it. Nobody judges it any more.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub kept: bool,
    pub evidence: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Switch,
    Rollback,
}

/// The phases that a config may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outline {
    pub warm: bool,
    /// How many steps.
    pub canary: u32,
    /// How many steps; they are numbered on from those of the canary.
    pub ramp: u32,
    pub bake: bool,
    pub dns: bool,
}

/// Where a pause may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    Gates,
    Canary,
    Bake,
}

/// How far a cutover is. The order of the path does not change; what the config does not ask for is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new color proves its health; nothing has changed yet.
    Prepare,
    /// Others are asked whether it may go on.
    Gates,
    /// The new color gets connections, and requests of the proxy's own.
    Warm,
    /// The new color has a share of the traffic, and is judged by it.
    Canary,
    /// The new color's share of the traffic rises.
    Ramp,
    /// It proves its health once more, since all this took a while.
    Confirm,
    /// The table is being published.
    Switch,
    /// The new color is live; the old one empties.
    Drain,
    /// The old color is empty; the new one is judged by what it does with all of the traffic.
    Bake,
    /// Names follow.
    Dns,
    /// Nothing moves until an operator says how to go on, or the new color is found to be bad.
    Paused,
    /// The old color is being published again.
    RollBack,
    /// The old color is live again; the new one empties.
    DrainBack,
    Done,
    Aborted,
    RolledBack,
}

impl Cutover {
    /// The color that serves, all of it or all but a canary's share, while the cutover is in this state, and after it
    /// where this is its last.
    pub fn live(&self) -> Color {
        let stays = self.comes_to_its_switch() || self.is_back() || self.phase == Phase::Aborted;
        if stays { self.from } else { self.to }
    }

    /// Its switch is still to come.
    pub fn comes_to_its_switch(&self) -> bool {
        match self.phase {
            Phase::Prepare | Phase::Gates | Phase::Warm | Phase::Canary | Phase::Ramp | Phase::Confirm => true,
            Phase::Paused => self.paused != Some(Stop::Bake),
            Phase::Switch | Phase::Drain | Phase::Bake | Phase::Dns | Phase::Done => false,
            Phase::Aborted | Phase::RollBack | Phase::DrainBack | Phase::RolledBack => false,
        }
    }

    /// The service's generation in this state.
    pub fn generation(&self) -> u64 {
        self.generation
            + match (self.is_back(), self.live() == self.to) {
                // A share is no switch, and taking it back is none.
                (true, _) if self.step.is_some() => 0,
                (true, _) => 2,
                (false, switched) => u64::from(switched),
            }
    }

    /// When the color that serves went live, where that is this cutover's doing: a share that has come and gone is no switch.
    pub fn since(&self) -> Option<Timestamp> {
        let at = self.switched().map_or(self.started, |switched| switched.at);
        (self.generation() > self.generation).then_some(at)
    }

    /// How it ended, as one of [`Phase::OUTCOMES`]; `None` while it has not. A rollback that got where it was meant to
    /// go has rolled back.
    pub fn outcome(&self) -> Option<Phase> {
        match (self.kind, self.phase) {
            (Kind::Rollback, Phase::Done) => Some(Phase::RolledBack),
            (_, phase) => Some(phase).filter(|phase| phase.ends()),
        }
    }

    /// It has got where it was meant to go.
    pub fn succeeded(&self) -> bool {
        self.phase == Phase::Done
    }

    /// It has ended on the color that was live before, or that a rollback wanted, so shortly before that another rollback
    /// is most likely meant to bring about what it has.
    pub fn is_back_just_now(&self, now: Timestamp) -> bool {
        let is_back = match self.kind {
            Kind::Switch => matches!(self.phase, Phase::Aborted | Phase::RolledBack),
            Kind::Rollback => self.succeeded(),
        };
        // Also where the clock has been set back a little, and not for hours where it was much.
        is_back && self.ended.is_some_and(|ended| now.duration_since(ended).as_secs().abs() < JUST_NOW)
    }

    /// The color that a rollback leaves while this is under way.
    pub fn left_by_rollback(&self) -> Color {
        match self.kind {
            Kind::Switch => self.to,
            Kind::Rollback => self.from,
        }
    }

    /// The new color serves, and nobody has said yet that it does well enough; or that is still to come.
    pub fn is_on_trial(&self) -> bool {
        match self.phase {
            Phase::Prepare | Phase::Gates | Phase::Warm | Phase::Canary | Phase::Ramp | Phase::Confirm => true,
            Phase::Paused => true,
            Phase::Switch | Phase::Drain | Phase::Bake => self.outline.bake && !self.kept && !self.evidence.is_good(),
            _ => false,
        }
    }

    /// It is on its way back, or has got there.
    pub fn is_back(&self) -> bool {
        matches!(self.phase, Phase::RollBack | Phase::DrainBack | Phase::RolledBack)
    }

    /// It is in a phase in which figures say how the new color does.
    pub fn is_judged(&self) -> bool {
        let is_looked_at =
            matches!(self.phase, Phase::Canary | Phase::Ramp | Phase::Drain | Phase::Bake | Phase::Paused);
        is_looked_at && !self.kept
    }

    /// It goes back because it has to, not because an operator asked.
    pub fn must_return(&self) -> bool {
        !self.kept && (self.overdue || self.evidence.is_bad())
    }

    /// The gates that an operator's word opens now.
    pub fn to_approve(&self) -> impl Iterator<Item = &Gate> {
        self.gates.iter().filter(|gate| match self.phase {
            Phase::Gates => gate.kind == GateKind::Approval && gate.state == GateState::Waiting,
            Phase::Paused => self.paused == Some(Stop::Gates) && gate.state == GateState::Refused,
            _ => false,
        })
    }

    /// Whether a restart has to know the difference. What is only told, such as reasons to wait, need not be on disk.
    pub fn differs_for_good(&self, before: &Cutover) -> bool {
        let of = |cutover: &Cutover| {
            let Cutover { phase, returning, step, paused, overdue, kept, .. } = *cutover;
            let gates: Vec<GateState> = cutover.gates.iter().map(|gate| gate.state).collect();
            (phase, returning, step, paused, overdue, kept, gates)
        };
        of(self) != of(before)
    }

    /// When the new color went live, and what was seen of it then.
    pub fn switched(&self) -> Option<&Switched> {
        self.evidence.switched.as_ref()
    }

    pub fn drained(&self) -> Option<&Drained> {
        self.evidence.drained.as_ref()
    }
}

impl Topic for Cutover {
    const NAME: &'static str = "cutover";

    fn id(&self) -> &str {
        &self.id
    }

    fn service(&self) -> &ServiceName {
        &self.service
    }
}

impl Outline {
    pub fn is_empty(&self) -> bool {
        *self == Outline::default()
    }
}

impl Phase {
    /// The phases a service can be seen in, `idle` aside.
    pub const ALL: [Phase; 13] = [
        Phase::Prepare,
        Phase::Gates,
        Phase::Warm,
        Phase::Canary,
        Phase::Ramp,
        Phase::Confirm,
        Phase::Switch,
        Phase::Drain,
        Phase::Bake,
        Phase::Dns,
        Phase::Paused,
        Phase::RollBack,
        Phase::DrainBack,
    ];
    pub const OUTCOMES: [Phase; 3] = [Phase::Done, Phase::Aborted, Phase::RolledBack];

    pub fn ends(self) -> bool {
        Phase::OUTCOMES.contains(&self)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Gates => "gates",
            Phase::Warm => "warm",
            Phase::Canary => "canary",
            Phase::Ramp => "ramp",
            Phase::Confirm => "confirm",
            Phase::Switch => "switch",
            Phase::Drain => "drain",
            Phase::Bake => "bake",
            Phase::Dns => "dns",
            Phase::Paused => "paused",
            Phase::RollBack => "roll_back",
            Phase::DrainBack => "drain_back",
            Phase::Done => "done",
            Phase::Aborted => "aborted",
            Phase::RolledBack => "rolled_back",
        }
    }
}

/// Seconds for which a way back is taken for what whoever asks for one wants.
const JUST_NOW: i64 = 5 * 60;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A switch from blue to green that ended at 22:28:28, with the fields that differ.
    fn cutover(differing: Value) -> Cutover {
        let mut cutover = json!({
            "id": "c1", "service": "shop", "kind": "switch", "from": "blue", "to": "green", "by": "uid 0", "generation": 1,
            "phase": "done", "started": "2026-11-22T22:00:00Z", "ended": "2026-11-22T22:28:28Z", "evidence": {}
        });
        differing.as_object().unwrap().iter().for_each(|(key, value)| cutover[key] = value.clone());
        serde_json::from_value(cutover).unwrap()
    }

    #[test]
    fn a_way_back_is_fresh_for_five_minutes_and_only_what_led_back_is_one() {
        let is_fresh = |kind: &str, phase: &str, at: &str| {
            cutover(json!({"kind": kind, "phase": phase})).is_back_just_now(at.parse().unwrap())
        };
        let (early, late) = ("2026-11-22T22:33:27Z", "2026-11-22T22:33:28Z");
        for (kind, phase) in [("rollback", "done"), ("switch", "rolled_back"), ("switch", "aborted")] {
            assert!(is_fresh(kind, phase, early) && !is_fresh(kind, phase, late), "{kind} {phase}");
        }
        // Nobody has gone back yet, or not to where another rollback would lead.
        for (kind, phase) in [("switch", "done"), ("rollback", "aborted")] {
            assert!(!is_fresh(kind, phase, early), "{kind} {phase}");
        }
        for (at, fresh) in [("2026-11-22T22:28:00Z", true), ("2026-11-22T22:00:00Z", false)] {
            assert_eq!(is_fresh("rollback", "done", at), fresh, "the clock has been set back to {at}");
        }
    }

    #[test]
    fn a_color_is_live_since_its_switch_and_a_share_that_has_come_and_gone_is_none() {
        let at = "2026-11-22T22:10:00Z";
        let switched = json!({"switched": {"at": at, "switch_us": 90, "workers": 4, "answered": 4}});
        for (phase, step, since) in [
            ("done", json!(null), Some(at)),
            ("drain", json!(null), Some(at)),
            ("rolled_back", json!(null), Some(at)),
            ("rolled_back", json!(0), None),
            ("drain_back", json!(0), None),
            ("canary", json!(0), None),
            ("aborted", json!(null), None),
        ] {
            let told = cutover(json!({"phase": phase, "step": step, "evidence": switched})).since();
            assert_eq!(told, since.map(|since| since.parse().unwrap()), "{phase} {step}");
        }
        let begun = cutover(json!({"phase": "switch"})).since();
        assert_eq!(begun, Some("2026-11-22T22:00:00Z".parse().unwrap()), "nobody has seen it yet");
    }
}
