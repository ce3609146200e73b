//! Counts what an HTTP/2 client sends that carries nothing forward: floods of it cost us more than they cost him.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::loss::Loss;
use crate::metrics::{ConnectionSheet, Counter};

/// Follows the frames of one direction by their headers alone; payloads are skipped.
struct Frames {
    header: [u8; FRAME_HEADER],
    have: usize,
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    kind: Kind,
    /// The highest stream so far that a head has opened.
    stream: u32,
}

/// What a frame is to who counts frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Part of a head.
    Head {
        opens: bool,
        ends: bool,
    },
    /// It carries something forward.
    Work,
    /// More may be sent.
    Window,
    Reset,
    /// What the first frame has to be: settings that are no answer to others.
    Greeting,
    Control,
}

impl Kind {
    fn is_of_a_message(self) -> bool {
        matches!(self, Kind::Head { .. } | Kind::Work | Kind::Window)
    }
}

impl Frames {
    /// What the client sends.
    fn from_client() -> Frames {
        Frames { skip: PREFACE.len(), ..Frames::to_client() }
    }

    /// What is sent to it.
    fn to_client() -> Frames {
        Frames { header: [0; FRAME_HEADER], have: 0, skip: 0, kind: Kind::Control, stream: 0 }
    }

    /// How many frames of messages these bytes are of.
    fn carry(&mut self, bytes: &[u8], resets: &Counter) -> u32 {
        let mut carried = u32::from(self.skip > 0 && self.kind.is_of_a_message());
        self.follow(bytes, |kind| {
            carried += u32::from(kind.is_of_a_message());
            resets.add(u64::from(kind == Kind::Reset));
            true
        });
        carried
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
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.have = 0;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let ends = flags & END_HEADERS != 0;
        self.kind = match kind {
            HEADERS => Kind::Head { opens: self.opens(u32::from_be_bytes(stream)), ends },
            CONTINUATION if self.skip > 0 || ends => Kind::Head { opens: false, ends },
            DATA if self.skip > 0 || flags & END_STREAM != 0 => Kind::Work,
            WINDOW_UPDATE => Kind::Window,
            RST_STREAM => Kind::Reset,
            SETTINGS if flags & ACK == 0 => Kind::Greeting,
            _ => Kind::Control,
        };
    }

    /// Whether this head is the first of its stream: later streams have higher numbers (RFC 9113, 5.1.1).
    fn opens(&mut self, stream: u32) -> bool {
        let opens = stream > self.stream;
        self.stream = self.stream.max(stream);
        opens
    }
}

/// Counts what the client of one connection sends, against what it is sent.
pub struct Meter {
    came: Frames,
    sent: Frames,
    has_begun: bool,
    tally: Tally,
}

impl Meter {
    /// At most `limit` such frames in [`PERIOD`], of a client that may have so many `streams` at one time.
    pub fn new(limit: u32, streams: u32, sheet: Arc<ConnectionSheet>) -> Meter {
        let [controls, heads, requests, credit, windows] = [0; 5];
        let since = Instant::now();
        let tally = Tally { limit, streams, controls, heads, requests, since, credit, windows, sheet };
        Meter { came: Frames::from_client(), sent: Frames::to_client(), has_begun: false, tally }
    }

    /// Bytes have come, unless they are ones for which the connection is to be lost. Of the heads before them `requests`
    /// have become requests.
    pub fn came(&mut self, bytes: &[u8], requests: u32) -> Result<(), Loss> {
        let Meter { came, has_begun, tally, .. } = self;
        let mut loss = None;
        came.follow(bytes, |kind| {
            loss = match kind {
                // RFC 9113, 3.4; h2 does not ask for it.
                _ if !std::mem::replace(has_begun, true) => (kind != Kind::Greeting).then_some(Loss::Broken),
                _ if tally.counts(kind) && tally.is_flood(requests) => Some(Loss::Flood),
                _ => None,
            };
            loss.is_none()
        });
        loss.map_or(Ok(()), Err)
    }

    /// Bytes have been sent. False where none is of a message: what keeps a connection alive says nothing of whether
    /// anybody needs it.
    pub fn went(&mut self, bytes: &[u8]) -> bool {
        let frames = self.sent.carry(bytes, &self.tally.sheet.resets[1]);
        if frames > 0 {
            self.tally.earns(bytes.len(), frames);
        }
        frames > 0
    }

    /// A head has been begun and has not come to its end.
    pub fn is_in_head(&self) -> bool {
        match self.came.kind {
            Kind::Head { ends, .. } => !ends || self.came.skip > 0,
            _ => false,
        }
    }
}

/// What a client has sent that carries nothing forward, and what it may.
struct Tally {
    limit: u32,
    /// Heads that may be on their way to become requests.
    streams: u32,
    controls: u32,
    /// Heads that have opened a stream. Those that h2 answers or resets by itself are seen by nobody else.
    heads: u32,
    /// Requests that there had been when the count began.
    requests: u32,
    since: Instant,
    /// Frames that what was sent accounts for: clients measure the way with a PING for each piece (gRPC).
    credit: u32,
    /// Windows that what was sent accounts for: careful clients open two for each piece, however small.
    windows: u32,
    sheet: Arc<ConnectionSheet>,
}

impl Tally {
    /// Counts a frame; false for one that is no matter.
    fn counts(&mut self, kind: Kind) -> bool {
        let (count, earned) = match kind {
            Kind::Head { opens: true, .. } => (&mut self.heads, None),
            Kind::Head { .. } | Kind::Work => return false,
            Kind::Window => (&mut self.controls, Some(&mut self.windows)),
            Kind::Control | Kind::Greeting => (&mut self.controls, Some(&mut self.credit)),
            // Nothing that was sent calls for a reset.
            Kind::Reset => {
                self.sheet.resets[0].add(1);
                (&mut self.controls, None)
            }
        };
        if let Some(earned) = earned.filter(|earned| **earned > 0) {
            *earned -= 1;
            return false;
        }
        *count += 1;
        true
    }

    /// Whether the last was one too many.
    fn is_flood(&mut self, requests: u32) -> bool {
        let lost = self.heads.saturating_sub(requests.wrapping_sub(self.requests));
        if self.controls + lost.saturating_sub(self.streams) <= self.limit {
            return false;
        }
        // The clock is read once for so many frames.
        let is_flood = self.since.elapsed() < PERIOD;
        (self.controls, self.heads, self.requests, self.since) = (1, 0, requests, Instant::now());
        is_flood
    }

    fn earns(&mut self, bytes: usize, frames: u32) {
        let more = u32::try_from(1 + bytes / 1024).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(more).min(self.limit);
        self.windows = self.windows.saturating_add(frames.saturating_mul(WINDOWS));
    }
}

/// What every HTTP/2 connection of a client begins with (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags, stream (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// What `http2_controls` is a number in.
const PERIOD: Duration = Duration::from_secs(10);
/// Windows that a client may open for each frame of a message that it was sent.
const WINDOWS: u32 = 10;

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
        let mut meter = Meter::new(limit, 0, sheet());
        let all = [PREFACE, &frame(SETTINGS, 0, 6), &frames.concat()].concat();
        all.chunks(piece).all(|piece| meter.came(piece, 1).is_ok())
    }

    /// Past the greeting.
    fn greeted() -> Meter {
        let mut meter = Meter::new(10, 2, sheet());
        assert!(meter.came(&[PREFACE, &frame(SETTINGS, 0, 6)].concat(), 0).is_ok());
        meter
    }

    #[test]
    fn only_frames_that_carry_nothing_forward_count_however_they_are_cut() {
        let work = [frame(HEADERS, 4, 30), frame(DATA, 0, 1000), frame(CONTINUATION, 4, 0), frame(DATA, END_STREAM, 0)];
        let idle =
            [(PING, 8), (SETTINGS, 0), (RST_STREAM, 4), (2, 5), (DATA, 0), (WINDOW_UPDATE, 4), (GOAWAY, 8), (0x10, 9)];
        let idle = idle.map(|(kind, length)| frame(kind, 0, length));
        for piece in [1, 7, 9, 4096] {
            assert!(passes(10, &work.iter().cycle().take(400).cloned().collect::<Vec<_>>(), piece));
            assert!(passes(8, &idle, piece));
            assert!(!passes(7, &idle, piece));
        }
    }

    #[test]
    fn who_is_sent_something_may_ask_how_long_it_took_and_make_room_for_more() {
        let (ping, reset, window) = (frame(PING, 0, 8), frame(RST_STREAM, 0, 4), frame(WINDOW_UPDATE, 0, 4));
        let piece = frame(DATA, 0, 100);
        let mut meter = greeted();
        for _ in 0..100 {
            assert!(meter.went(&piece));
            assert!([&ping, &window, &window].into_iter().all(|frame| meter.came(frame, 0).is_ok()));
        }
        assert!(meter.went(&frame(DATA, 0, 1 << 20)));
        assert!((0..20).all(|_| meter.came(&ping, 0).is_ok()), "what is earned");
        assert!(meter.came(&ping, 0).is_err(), "is bounded");
        let mut meter = greeted();
        assert!(meter.went(&piece));
        assert!((0..20).all(|_| meter.came(&window, 0).is_ok()) && meter.came(&window, 0).is_err());
        let mut meter = greeted();
        assert!(meter.went(&frame(DATA, 0, 1 << 20)));
        assert!((0..10).all(|_| meter.came(&reset, 0).is_ok()));
        assert!(meter.came(&reset, 0).is_err(), "a reset is not earned");
    }

    #[test]
    fn a_head_that_does_not_become_a_request_carries_nothing_forward() {
        let head = |stream: u8| [&frame(HEADERS, 5, 0)[..8], &[stream]].concat();
        let mut meter = greeted();
        let each =
            |meter: &mut Meter, requests: u32| (0..100).map(|n| meter.came(&head(2 * n + 1), requests)).collect();
        let lost: Vec<_> = each(&mut meter, 0);
        assert_eq!(
            lost.iter().position(Result::is_err),
            Some(12),
            "as many as may be under way, and as many as may be lost"
        );
        let mut meter = greeted();
        assert!(
            (0..100).all(|n| meter.came(&head(2 * n + 1), u32::from(n)).is_ok()),
            "each has become one when the next comes"
        );
        assert!((0..100).all(|_| meter.came(&head(1), 100).is_ok()), "behind a body it is a trailer");
    }

    #[test]
    fn what_does_not_begin_with_settings_is_no_http2() {
        for (kind, flags) in [(HEADERS, 5), (PING, 0), (SETTINGS, ACK), (WINDOW_UPDATE, 0)] {
            let mut meter = Meter::new(10, 0, sheet());
            assert_eq!(meter.came(PREFACE, 0), Ok(()));
            assert_eq!(meter.came(&frame(kind, flags, 0), 0), Err(Loss::Broken));
        }
    }

    #[test]
    fn a_head_is_open_until_its_last_byte_has_come() {
        let mut meter = greeted();
        let mut came = |bytes: &[u8]| {
            assert!(meter.came(bytes, 0).is_ok());
            meter.is_in_head()
        };
        let (part, more, last) = (frame(HEADERS, 0, 30), frame(CONTINUATION, 0, 30), frame(CONTINUATION, 4, 30));
        assert!(came(&part) && came(&more) && came(&last[..38]) && !came(&last[38..]));
        assert!(!came(&frame(HEADERS, 5, 30)) && !came(&frame(DATA, 0, 30)[..20]));
    }

    #[test]
    fn only_messages_are_a_sign_of_life() {
        let mut meter = greeted();
        for (control, message) in
            [(frame(PING, ACK, 8), frame(DATA, 0, 30)), (frame(SETTINGS, ACK, 0), frame(HEADERS, 4, 30))]
        {
            assert!(!meter.went(&control) && meter.went(&message[..20]) && meter.went(&message[20..]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_begins_anew_after_a_while() {
        let mut meter = greeted();
        for _ in 0..20 {
            assert!((0..10).all(|_| meter.came(&frame(PING, 0, 8), 0).is_ok()));
            tokio::time::advance(PERIOD).await;
        }
    }

    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
}
