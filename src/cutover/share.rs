//! The share of the clients that a cutover gives its new color, step by step, and who goes first.

use xxhash_rust::xxh3::xxh3_64;

use super::state::{Cutover, Outline};
use crate::config::{CanaryStep, Share};
use crate::table::Split;

/// What the new color has been given and has not lost since: a restart begins with it, so that no client comes back.
pub fn given(cutover: &Cutover, canary: &[CanaryStep]) -> Option<Split> {
    // Of those that come to their switch, it has a step once it has a share.
    cutover.step.filter(|_| cutover.comes_to_its_switch()).and_then(|_| split(cutover, canary))
}

/// Its step's share, nothing where there is none; the same clients go first for as long as the cutover lasts.
pub fn split(cutover: &Cutover, canary: &[CanaryStep]) -> Option<Split> {
    // A journal that knows the step alone leaves the share to the config.
    let share = cutover.share.or_else(|| share_of(cutover.step?, cutover.outline, canary))?;
    Some(Split { to: cutover.to, share: share.min(Share::ALL), salt: xxh3_64(cutover.id.as_bytes()) })
}

/// The share that the step it has come to begins with. It does not fall, whatever a reload has made of the steps: no client
/// comes back.
pub fn of_step(cutover: &Cutover, canary: &[CanaryStep]) -> Option<Share> {
    cutover.share.max(share_of(cutover.step?, cutover.outline, canary))
}

/// The share of this step: a canary's own, and after those of a canary the ramp's, which rise evenly to all but one step.
/// Nothing where a canary's step is not in the config any more.
fn share_of(step: u32, outline: Outline, canary: &[CanaryStep]) -> Option<Share> {
    if step < outline.canary || outline.ramp == 0 {
        return usize::try_from(step).ok().and_then(|step| canary.get(step)).map(|step| step.weight);
    }
    let from = canary.last().map_or(0, |last| u32::from(last.weight.0));
    let place = (step - outline.canary + 1).min(outline.ramp);
    let share = from + (u32::from(Share::ALL.0) - from) * place / (outline.ramp + 1);
    u16::try_from(share).ok().map(Share)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_share_of_a_ramp_rises_evenly_from_where_the_canary_ends_and_never_falls() {
        let step = |weight| CanaryStep { weight: Share(weight), lasts: Duration::from_secs(1) };
        let (canary, outline) = ([step(500), step(2_000)], Outline { canary: 2, ramp: 4, ..Outline::default() });
        let shares: Vec<_> = (0..8).map(|step| share_of(step, outline, &canary).unwrap().0).collect();
        assert_eq!(shares, [500, 2_000, 3_600, 5_200, 6_800, 8_400, 8_400, 8_400]);
        let alone = Outline { ramp: 4, ..Outline::default() };
        assert_eq!(
            (0..4).map(|step| share_of(step, alone, &[]).unwrap().0).collect::<Vec<_>>(),
            [2_000, 4_000, 6_000, 8_000]
        );
        assert_eq!(share_of(2, Outline { canary: 3, ..Outline::default() }, &canary), None);
    }

    #[test]
    fn a_share_is_the_one_written_down_and_falls_with_no_step_whatever_the_config_says_by_then() {
        let cutover = |share: Option<u16>| -> Cutover {
            let cutover = serde_json::json!({
                "id": "c1", "service": "shop", "kind": "switch", "from": "blue", "to": "green", "by": "uid 0", "generation": 1,
                "phase": "canary", "started": "2026-11-22T22:00:00Z", "outline": {"canary": 2}, "step": 1, "share": share,
                "evidence": {}
            });
            serde_json::from_value(cutover).unwrap()
        };
        let step = |weight| CanaryStep { weight: Share(weight), lasts: Duration::from_secs(1) };
        let canary = [step(500), step(2_000)];
        for (before, canary, share) in [(500, &canary[..], 2_000), (3_000, &canary, 3_000), (500, &[], 500)] {
            assert_eq!(of_step(&cutover(Some(before)), canary), Some(Share(share)));
        }
        assert_eq!(given(&cutover(Some(500)), &canary).unwrap().share, Share(500));
        assert_eq!(given(&cutover(Some(500)), &[]).unwrap().share, Share(500));
        assert_eq!(given(&cutover(None), &canary).unwrap().share, Share(2_000), "as older journals have it");
    }
}
