//! A badge: what a client without a name is known by, a random number that it cannot choose.

use std::time::Duration;

use super::{Seal, Use};

/// The value of the cookie that keeps a client on its side. It says nothing of that side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Badge {
    id: u64,
    /// Seconds since 1970.
    issued: u32,
}

impl Badge {
    /// A badge for a client that has none, `now` in seconds since 1970.
    pub fn new(id: u64, now: i64) -> Badge {
        Badge { id, issued: seconds(now) }
    }

    /// The badge a cookie holds, if it was given out here for this service.
    pub fn read(text: &[u8], seal: &Seal, service: &str) -> Option<Badge> {
        let (words, proof) = std::str::from_utf8(text).ok()?.rsplit_once('.')?;
        if !seal.proves(Use::Badge, service, words, proof) {
            return None;
        }
        let (id, issued) = words.split_once('.')?;
        Some(Badge { id: u64::from_str_radix(id, 16).ok()?, issued: u32::from_str_radix(issued, 16).ok()? })
    }

    pub fn write(&self, seal: &Seal, service: &str) -> String {
        let words = format!("{:016x}.{:08x}", self.id, self.issued);
        let proof = seal.sign(Use::Badge, service, &words);
        format!("{words}.{proof}")
    }

    /// What the client's side is decided by.
    pub fn client(&self) -> [u8; 8] {
        self.id.to_le_bytes()
    }

    /// The same client's badge with another date, where half of its time is over.
    pub fn renewed(&self, now: i64, max_age: Duration) -> Option<Badge> {
        let age = u64::from(seconds(now).saturating_sub(self.issued));
        (age * 2 >= max_age.as_secs()).then(|| Badge::new(self.id, now))
    }
}

fn seconds(now: i64) -> u32 {
    u32::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_is_read_as_it_was_written_and_no_other_counts() {
        let seal = Seal::temporary();
        let badge = Badge::new(0x0123_4567_89ab_cdef, 1_764_000_000);
        let text = badge.write(&seal, "shop");
        assert_eq!(Badge::read(text.as_bytes(), &seal, "shop"), Some(badge));
        assert_eq!(Badge::read(text.as_bytes(), &seal, "api"), None);
        assert_eq!(Badge::read(text.as_bytes(), &Seal::temporary(), "shop"), None);
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(Badge::read(&forged, &seal, "shop"), None, "{at}");
            assert_eq!(Badge::read(&text.as_bytes()[..at], &seal, "shop"), None);
        }
        for text in [&b""[..], b".", b"..", b"\xff.x.y"] {
            assert_eq!(Badge::read(text, &seal, "shop"), None);
        }
    }

    #[test]
    fn a_badge_is_renewed_at_half_its_time_for_the_same_client() {
        let (badge, day) = (Badge::new(7, 1_000_000), Duration::from_hours(24));
        assert_eq!(badge.renewed(1_000_000 + 43_199, day), None);
        let renewed = badge.renewed(1_000_000 + 43_200, day).unwrap();
        assert_eq!((renewed.client(), renewed.issued), (badge.client(), 1_043_200));
        assert_eq!(badge.renewed(0, day), None, "a clock that was set back renews nothing");
    }
}
