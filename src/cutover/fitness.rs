//! The fitness of a color: whether it may go live on what is known of its endpoints now, and the gates that say so.

use super::gate::{Gate, GateKind, GateState};
use super::machine::Bar;
use crate::config::{CutoverRules, Share, Then};
use crate::names::Color;
use crate::pool::Readiness;
use crate::table::Service;
use crate::time;

/// Enough endpoints are up, and enough to carry what the live color does.
pub fn fitness(service: &Service, rules: &CutoverRules, color: Color, bar: Bar) -> (Readiness, Vec<Gate>) {
    let (pool, live) = (&service.pools[color], &service.pools[color.other()]);
    if bar == Bar::Alive {
        return (pool.readiness(Share(1)), Vec::new());
    }
    let (good, all) = (pool.good(), pool.health().len());
    let health = pool.readiness(rules.min_healthy);
    let says = format!("{good} of {all} endpoints are healthy, {} are needed", rules.min_healthy.of(all).max(1));
    let mut gates = vec![stands("health", GateKind::Health, &health, says)];
    let Some(share) = rules.min_capacity else { return (health, gates) };
    let (capacity, says) = capacity(color, good, all, live.good(), share);
    gates.push(stands("capacity", GateKind::Capacity, &capacity, says));
    (together(health, capacity), gates)
}

/// Those that are not up yet may make it enough.
fn capacity(color: Color, good: usize, all: usize, live: usize, share: Share) -> (Readiness, String) {
    let needed = share.of(live);
    let says = format!("{good} endpoints of {color} are healthy, and {live} of {}: {needed} are needed", color.other());
    let readiness = match good {
        good if good >= needed => Readiness::Ready,
        _ if all >= needed => Readiness::Rising(vec![says.clone()]),
        _ => Readiness::Unready(vec![says.clone()]),
    };
    (readiness, says)
}

fn together(health: Readiness, capacity: Readiness) -> Readiness {
    match (health, capacity) {
        // Whoever waits for capacity waits only for endpoints that health waits for too.
        (Readiness::Ready, Readiness::Rising(reasons) | Readiness::Unready(reasons)) => Readiness::Unready(reasons),
        (health, _) => health,
    }
}

fn stands(name: &str, kind: GateKind, readiness: &Readiness, passed: String) -> Gate {
    let gate = Gate::waiting(name, kind, Then::default());
    match readiness {
        Readiness::Ready => gate.decided(true, time::now(), passed),
        Readiness::Rising(reasons) => Gate { state: GateState::Waiting, says: reasons.join("; "), ..gate },
        Readiness::Unready(reasons) => gate.decided(false, time::now(), reasons.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_color_carries_what_the_live_one_does_or_the_share_of_it_that_is_asked_for() {
        let of = |good, all, live, share| capacity(Color::Green, good, all, live, Share(share)).0;
        assert_eq!(of(4, 4, 4, 10_000), Readiness::Ready);
        assert_eq!(of(2, 2, 4, 5_000), Readiness::Ready);
        assert!(matches!(of(3, 4, 4, 10_000), Readiness::Rising(_)));
        assert!(matches!(of(2, 2, 4, 10_000), Readiness::Unready(_)));
        assert_eq!(of(1, 1, 0, 10_000), Readiness::Ready, "of nothing everything is enough");
        let short = || Readiness::Rising(vec!["2 are needed".to_owned()]);
        assert_eq!(together(Readiness::Ready, short()), Readiness::Unready(vec!["2 are needed".to_owned()]));
    }
}
