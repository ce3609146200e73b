//! An invitation: what lets somebody see a color before it is live, until it or the preview it is to is over.

use super::{Seal, Use};
use crate::names::Color;
use crate::time::Timestamp;

/// The part of a link, or of a header, that leads to a preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invitation {
    pub to: Color,
    /// When it was written, in milliseconds since 1970. It is to what can be previewed then, and to nothing that is opened later.
    written: i64,
    /// Seconds since 1970.
    until: i64,
}

impl Invitation {
    pub fn new(to: Color, written: Timestamp, until: Timestamp) -> Invitation {
        Invitation { to, written: written.as_millisecond(), until: until.as_second() }
    }

    /// The invitation this text is, if it was signed here for this service and has not expired.
    pub fn read(text: &[u8], seal: &Seal, service: &str, now: i64) -> Option<Invitation> {
        let (words, proof) = std::str::from_utf8(text).ok()?.rsplit_once('.')?;
        let (to, times) = words.split_once('.')?;
        let (until, written) = times.split_once('.')?;
        let invitation =
            Invitation { to: to.parse().ok()?, written: written.parse().ok()?, until: until.parse().ok()? };
        // Whoever has no proof is not told more by how long it takes.
        (seal.proves(Use::Invitation, service, words, proof) && now < invitation.until).then_some(invitation)
    }

    /// In letters, digits and points: it needs no quoting in a link, a cookie or a header.
    pub fn write(&self, seal: &Seal, service: &str) -> String {
        let words = format!("{}.{}.{}", self.to, self.until, self.written);
        let proof = seal.sign(Use::Invitation, service, &words);
        format!("{words}.{proof}")
    }

    /// Whether it was written then, or later.
    pub fn is_as_new_as(&self, at: Timestamp) -> bool {
        self.written >= at.as_millisecond()
    }

    /// Seconds it is still good for.
    pub fn left(&self, now: i64) -> i64 {
        (self.until - now).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_leads_to_one_color_of_one_service_until_it_expires() {
        let seal = Seal::temporary();
        let until = Timestamp::from_second(1_764_000_000).unwrap();
        let written = Timestamp::from_millisecond(1_763_996_400_123).unwrap();
        let text = Invitation::new(Color::Green, written, until).write(&seal, "shop");
        let read = |text: &str, now| Invitation::read(text.as_bytes(), &seal, "shop", now);
        let invitation = read(&text, 1_763_999_999).unwrap();
        assert_eq!((invitation.to, invitation.left(1_763_999_990)), (Color::Green, 10));
        assert_eq!(read(&text, 1_764_000_000), None);
        assert_eq!(read(&text.replace("green", "blue"), 0), None);
        assert_eq!(read(&text.replace("1764", "1765"), 0), None);
        assert_eq!(read(&text.replace("1763", "1764"), 0), None);
        let moment = "1ms".parse::<jiff::SignedDuration>().unwrap();
        assert!(invitation.is_as_new_as(written) && !invitation.is_as_new_as(written + moment));
        assert_eq!(Invitation::read(text.as_bytes(), &seal, "api", 0), None);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'), "{text}");
    }
}
