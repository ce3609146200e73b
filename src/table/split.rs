//! What else of a service may be open beside its live color: a share of the clients, or previews.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::config::Share;
use crate::names::Color;
use crate::seal::Invitation;
use crate::time::Timestamp;

/// A share of a service's clients goes to the color that is not live.
///
/// A client's side depends on nothing but what it is known by, the salt and the share. As long as the salt stays and the
/// share grows, clients move to `to` and none comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub to: Color,
    /// May be 0: nobody goes there yet, and copies of requests may.
    pub share: Share,
    /// Another one for each cutover, so that it is not always the same clients who go first.
    pub salt: u64,
}

impl Split {
    /// Whether the client known by this goes to the other color.
    pub fn takes(&self, client: &[u8]) -> bool {
        // The same on every node and in every version: what another proxy of a fleet decides is decided alike.
        let hash = xxh3_64_with_seed(client, self.salt);
        let bucket = (u128::from(hash) * u128::from(Share::ALL.0)) >> 64;
        bucket < u128::from(self.share.0)
    }
}

/// The color that is not live can be seen by those who are invited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    pub to: Color,
    /// Invitations from before are to one that is over.
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Preview {
    pub fn welcomes(&self, invitation: &Invitation) -> bool {
        invitation.to == self.to && invitation.is_as_new_as(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(share: u16, salt: u64) -> Split {
        Split { to: Color::Green, share: Share(share), salt }
    }

    /// Of `n` clients each of whom goes with probability p, the number that goes is within 4.4 standard deviations but once
    /// in 90,000 times; the clients are the same each time, so this is decided once and for all.
    fn is_fair(took: usize, n: usize, share: u16) -> bool {
        let p = f64::from(share) / 1e4;
        let (expected, deviation) = (n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt());
        (took as f64 - expected).abs() <= 4.4 * deviation
    }

    #[test]
    fn the_share_of_clients_is_the_share_asked_for() {
        let n = 100_000_u64;
        for salt in [0, 1, u64::MAX] {
            for share in [1, 100, 500, 2_500, 5_000, 9_999] {
                let took = (0..n).filter(|id| split(share, salt).takes(&id.to_le_bytes())).count();
                assert!(is_fair(took, n as usize, share), "{took} of {n} at {share}");
            }
            assert!((0..n).all(|id| !split(0, salt).takes(&id.to_le_bytes())), "nobody");
            assert!((0..n).all(|id| split(10_000, salt).takes(&id.to_le_bytes())), "everybody");
        }
    }

    #[test]
    fn as_the_share_grows_clients_only_move_to_the_other_color() {
        for id in 0..2_000_u64 {
            let name = format!("user-{id}");
            let sides: Vec<bool> =
                (0..=10_000).step_by(50).map(|share| split(share, 7).takes(name.as_bytes())).collect();
            assert!(sides.is_sorted(), "{name} came back");
        }
    }

    #[test]
    fn another_salt_sends_others_first() {
        let first = |salt| (0..10_000_u64).filter(|id| split(500, salt).takes(&id.to_le_bytes())).collect::<Vec<_>>();
        let (a, b) = (first(1), first(2));
        let both = a.iter().filter(|id| b.contains(id)).count();
        assert!(both < a.len() / 5, "{both} of {} were first both times", a.len());
    }

    #[test]
    fn where_a_client_goes_is_the_same_in_every_version() {
        let sides: String =
            (0..64_u64).map(|id| if split(5_000, 42).takes(&id.to_le_bytes()) { '1' } else { '0' }).collect();
        assert_eq!(sides, PINNED);
    }

    const PINNED: &str = "1000010001110101001110000011011011100111010111111101110010000011";
}
