//! The time of day as lines tell it: what a second looks like is written once a second.

use crate::config::LogFormat;
use crate::time::Timestamp;

/// Remembers the second it wrote last.
pub struct Clock {
    format: LogFormat,
    second: i64,
    text: String,
}

impl Clock {
    pub fn new(format: LogFormat) -> Clock {
        Clock { format, second: i64::MIN, text: String::new() }
    }

    /// Appends a time as `time::wall` gives it: `2026-11-24T15:02:03.123Z` (RFC 3339), or `24/Nov/2026:15:02:03 +0000`.
    pub fn tell(&mut self, out: &mut Vec<u8>, (second, millis): (i64, u16)) {
        if self.second != second {
            self.second = second;
            let at = Timestamp::from_second(second).unwrap_or_default();
            self.text = at.strftime(self.pattern()).to_string();
        }
        out.extend_from_slice(self.text.as_bytes());
        if self.format == LogFormat::Json {
            let digits = [millis / 100 % 10, millis / 10 % 10, millis % 10].map(|digit| b'0' + digit as u8);
            out.extend_from_slice(&[b'.', digits[0], digits[1], digits[2], b'Z']);
        }
    }

    fn pattern(&self) -> &'static str {
        match self.format {
            LogFormat::Json => "%Y-%m-%dT%H:%M:%S",
            LogFormat::Combined => "%d/%b/%Y:%H:%M:%S +0000",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_its_format_wants_it() {
        let at = |millis: i64| (millis / 1000, (millis % 1000) as u16);
        let (mut json, mut combined) = (Clock::new(LogFormat::Json), Clock::new(LogFormat::Combined));
        for (millis, rfc3339, clf) in [
            (1_795_532_523_007, "2026-11-24T15:02:03.007Z", "24/Nov/2026:15:02:03 +0000"),
            (1_795_532_523_999, "2026-11-24T15:02:03.999Z", "24/Nov/2026:15:02:03 +0000"),
            (1_795_532_524_000, "2026-11-24T15:02:04.000Z", "24/Nov/2026:15:02:04 +0000"),
            (1_795_532_523_000, "2026-11-24T15:02:03.000Z", "24/Nov/2026:15:02:03 +0000"),
        ] {
            let mut out = Vec::new();
            json.tell(&mut out, at(millis));
            assert_eq!(String::from_utf8(out).unwrap(), rfc3339);
            let mut out = Vec::new();
            combined.tell(&mut out, at(millis));
            assert_eq!(String::from_utf8(out).unwrap(), clf);
        }
    }
}
