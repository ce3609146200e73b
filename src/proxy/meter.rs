//! Counts the HTTP/2 frames of a client that carry nothing forward: floods of them cost us more than they cost him.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::loss::Loss;
use crate::metrics::{ConnectionSheet, Counter};

/// Follows the frames of one direction by their headers alone; payloads are skipped.
pub struct Frames {
    header: [u8; FRAME_HEADER],
    have: usize,
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    kind: Kind,
}

/// What a frame is to who counts frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Part of a head, and not its last.
    Head,
    /// The last part of a head.
    HeadEnd,
    /// It carries something forward.
    Work,
    Reset,
    /// What the first frame has to be: settings that are no answer to others.
    Greeting,
    Control,
}

impl Kind {
    fn is_of_a_message(self) -> bool {
        matches!(self, Kind::Head | Kind::HeadEnd | Kind::Work)
    }
}

impl Frames {
    /// What the client sends.
    fn from_client() -> Frames {
        Frames { skip: PREFACE.len(), ..Frames::to_client() }
    }

    /// What is sent to it.
    pub fn to_client() -> Frames {
        Frames { header: [0; FRAME_HEADER], have: 0, skip: 0, kind: Kind::Control }
    }

    /// Whether any of these bytes is of a message.
    pub fn carry(&mut self, bytes: &[u8], resets: &Counter) -> bool {
        let mut carries = self.skip > 0 && self.kind.is_of_a_message();
        self.follow(bytes, |kind| {
            carries |= kind.is_of_a_message();
            resets.add(u64::from(kind == Kind::Reset));
            true
        });
        carries
    }

    /// Tells of each frame once its header is whole, until `each` says that it is enough.
    fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(Kind) -> bool) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let both = self.skip.min(bytes.len());
                self.skip -= both;
                bytes = &bytes[both..];
                continue;
            }
            let both = (FRAME_HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + both].copy_from_slice(&bytes[..both]);
            self.have += both;
            bytes = &bytes[both..];
            if self.have == FRAME_HEADER {
                self.begin();
                if !each(self.kind) {
                    return;
                }
            }
        }
    }

    /// A whole header is there.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.have = 0;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.kind = match kind {
            HEADERS | CONTINUATION if flags & END_HEADERS != 0 => Kind::HeadEnd,
            HEADERS => Kind::Head,
            CONTINUATION if self.skip > 0 => Kind::Head,
            DATA if self.skip > 0 || flags & END_STREAM != 0 => Kind::Work,
            WINDOW_UPDATE | GOAWAY => Kind::Work,
            RST_STREAM => Kind::Reset,
            SETTINGS if flags & ACK == 0 => Kind::Greeting,
            _ => Kind::Control,
        };
    }
}

/// Counts what the client of one connection sends.
pub struct Meter {
    frames: Frames,
    has_begun: bool,
    limit: u32,
    controls: u32,
    since: Instant,
    /// Frames of his that what he was sent accounts for: clients measure the way with a PING for each piece (gRPC).
    credit: u32,
    pub sheet: Arc<ConnectionSheet>,
}

impl Meter {
    /// At most `limit` such frames in [`PERIOD`].
    pub fn new(limit: u32, sheet: Arc<ConnectionSheet>) -> Meter {
        let frames = Frames::from_client();
        Meter { frames, has_begun: false, limit, controls: 0, since: Instant::now(), credit: 0, sheet }
    }

    /// Bytes have come, unless they are ones for which the connection is to be lost.
    pub fn came(&mut self, bytes: &[u8]) -> Result<(), Loss> {
        let Meter { frames, has_begun, limit, controls, since, credit, sheet } = self;
        let mut loss = None;
        frames.follow(bytes, |kind| {
            loss = match kind {
                // RFC 9113, 3.4; h2 does not ask for it.
                _ if !std::mem::replace(has_begun, true) => (kind != Kind::Greeting).then_some(Loss::Broken),
                Kind::Control | Kind::Greeting if *credit > 0 => {
                    *credit -= 1;
                    None
                }
                // Nothing that was sent calls for a reset.
                Kind::Reset => {
                    sheet.resets[0].add(1);
                    control(controls, *limit, since)
                }
                Kind::Control | Kind::Greeting => control(controls, *limit, since),
                Kind::Head | Kind::HeadEnd | Kind::Work => None,
            };
            loss.is_none()
        });
        loss.map_or(Ok(()), Err)
    }

    /// Bytes of messages have been sent.
    pub fn went(&mut self, bytes: usize) {
        let earned = u32::try_from(1 + bytes / 1024).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(earned).min(self.limit);
    }

    /// A head has been begun and has not come to its end.
    pub fn is_in_head(&self) -> bool {
        match self.frames.kind {
            Kind::Head => true,
            Kind::HeadEnd => self.frames.skip > 0,
            _ => false,
        }
    }
}

/// One more of them: a loss where they are too many.
fn control(controls: &mut u32, limit: u32, since: &mut Instant) -> Option<Loss> {
    *controls += 1;
    if *controls <= limit {
        return None;
    }
    // The clock is read once for so many frames.
    let is_flood = since.elapsed() < PERIOD;
    (*controls, *since) = (1, Instant::now());
    is_flood.then_some(Loss::Flood)
}

/// What every HTTP/2 connection of a client begins with (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags, stream (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// What `http2_controls` is a number in.
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Arc<ConnectionSheet> {
        Arc::new(ConnectionSheet::new(0))
    }

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = length.to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0; length]].concat()
    }

    /// Whether all of it may pass, in pieces of that size.
    fn passes(limit: u32, frames: &[Vec<u8>], piece: usize) -> bool {
        let mut meter = Meter::new(limit, sheet());
        let all = [PREFACE, &frame(SETTINGS, 0, 6), &frames.concat()].concat();
        all.chunks(piece).all(|piece| meter.came(piece).is_ok())
    }

    /// Past the greeting.
    fn greeted() -> Meter {
        let mut meter = Meter::new(10, sheet());
        assert!(meter.came(&[PREFACE, &frame(SETTINGS, 0, 6)].concat()).is_ok());
        meter
    }

    #[test]
    fn only_frames_that_carry_nothing_forward_count_however_they_are_cut() {
        let work =
            [frame(HEADERS, 4, 30), frame(DATA, 0, 1000), frame(WINDOW_UPDATE, 0, 4), frame(DATA, END_STREAM, 0)];
        let idle =
            [frame(6, 0, 8), frame(4, 0, 0), frame(3, 0, 4), frame(2, 0, 5), frame(DATA, 0, 0), frame(0x10, 0, 9)];
        for piece in [1, 7, 9, 4096] {
            assert!(passes(10, &work.iter().cycle().take(400).cloned().collect::<Vec<_>>(), piece));
            assert!(passes(6, &idle, piece));
            assert!(!passes(5, &idle, piece));
        }
    }

    #[test]
    fn who_is_sent_something_may_ask_how_long_it_took() {
        let (ping, reset) = (frame(6, 0, 8), frame(RST_STREAM, 0, 4));
        let mut meter = greeted();
        for _ in 0..100 {
            meter.went(100);
            assert!(meter.came(&ping).is_ok());
        }
        meter.went(1 << 30);
        assert!((0..20).all(|_| meter.came(&ping).is_ok()) && meter.came(&ping).is_err(), "what is earned is bounded");
        let mut meter = greeted();
        meter.went(1 << 20);
        assert!((0..10).all(|_| meter.came(&reset).is_ok()) && meter.came(&reset).is_err(), "a reset is not earned");
    }

    #[test]
    fn what_does_not_begin_with_settings_is_no_http2() {
        for (kind, flags) in [(HEADERS, 5), (6, 0), (SETTINGS, ACK), (WINDOW_UPDATE, 0)] {
            let mut meter = Meter::new(10, sheet());
            assert_eq!(meter.came(PREFACE), Ok(()));
            assert_eq!(meter.came(&frame(kind, flags, 0)), Err(Loss::Broken));
        }
    }

    #[test]
    fn a_head_is_open_until_its_last_byte_has_come() {
        let mut meter = greeted();
        let mut came = |bytes: &[u8]| {
            assert!(meter.came(bytes).is_ok());
            meter.is_in_head()
        };
        let (part, more, last) = (frame(HEADERS, 0, 30), frame(CONTINUATION, 0, 30), frame(CONTINUATION, 4, 30));
        assert!(came(&part) && came(&more) && came(&last[..38]) && !came(&last[38..]));
        assert!(!came(&frame(HEADERS, 5, 30)) && !came(&frame(DATA, 0, 30)[..20]));
    }

    #[test]
    fn only_messages_are_a_sign_of_life() {
        let mut sent = Frames::to_client();
        for (control, message) in [(frame(6, 1, 8), frame(DATA, 0, 30)), (frame(4, 1, 0), frame(HEADERS, 4, 30))] {
            let none = Counter::default();
            let mut carry = |bytes: &[u8]| sent.carry(bytes, &none);
            assert!(!carry(&control) && carry(&message[..20]) && carry(&message[20..]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_begins_anew_after_a_while() {
        let mut meter = greeted();
        for _ in 0..20 {
            assert!((0..10).all(|_| meter.came(&frame(6, 0, 8)).is_ok()));
            tokio::time::advance(PERIOD).await;
        }
    }
}
