//! Counts the HTTP/2 frames of a client that carry nothing forward: floods of them cost us more than they cost him.

use std::time::Duration;

use tokio::time::Instant;

/// Follows the frames of one connection by their headers alone; payloads are skipped.
pub struct Meter {
    header: [u8; FRAME_HEADER],
    have: usize,
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    limit: u32,
    controls: u32,
    since: Instant,
}

impl Meter {
    /// At most `limit` such frames in [`PERIOD`].
    pub fn new(limit: u32) -> Meter {
        let since = Instant::now();
        Meter { header: [0; FRAME_HEADER], have: 0, skip: PREFACE.len(), limit, controls: 0, since }
    }

    /// Bytes have come; false where they are a flood.
    pub fn came(&mut self, mut bytes: &[u8]) -> bool {
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
            if self.have == FRAME_HEADER && !self.frame() {
                return false;
            }
        }
        true
    }

    /// A whole header is there.
    fn frame(&mut self) -> bool {
        let [a, b, c, kind, flags, ..] = self.header;
        self.have = 0;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let forward = match kind {
            DATA => self.skip > 0 || flags & END_STREAM != 0,
            CONTINUATION => self.skip > 0,
            HEADERS | WINDOW_UPDATE | GOAWAY => true,
            _ => false,
        };
        forward || self.control()
    }

    fn control(&mut self) -> bool {
        self.controls += 1;
        if self.controls <= self.limit {
            return true;
        }
        // The clock is read once for so many frames.
        let is_flood = self.since.elapsed() < PERIOD;
        (self.controls, self.since) = (1, Instant::now());
        !is_flood
    }
}

/// What every HTTP/2 connection of a client begins with (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags, stream (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = length.to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0; length]].concat()
    }

    /// Whether all of it may pass, in pieces of that size.
    fn passes(limit: u32, frames: &[Vec<u8>], piece: usize) -> bool {
        let mut meter = Meter::new(limit);
        let all = [PREFACE, &frames.concat()].concat();
        all.chunks(piece).all(|piece| meter.came(piece))
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

    #[tokio::test(start_paused = true)]
    async fn the_count_begins_anew_after_a_while() {
        let mut meter = Meter::new(10);
        assert!(meter.came(PREFACE));
        for _ in 0..20 {
            assert!((0..10).all(|_| meter.came(&frame(6, 0, 8))));
            tokio::time::advance(PERIOD).await;
        }
    }
}
