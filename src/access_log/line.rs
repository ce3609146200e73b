//! One line, written in two parts: what was asked for when the head is there, how it ended when it has.

use std::time::Duration;

use http::Version;

use super::clock::Clock;
use super::escape;
use crate::config::LogFormat;

/// What is known when a request begins.
pub struct Opening<'a> {
    /// As `time::wall` gives it.
    pub at: (i64, u16),
    pub client: &'a [u8],
    /// Nothing where no head could be read.
    pub asked: Option<Asked<'a>>,
}

/// What the head says.
pub struct Asked<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub version: Version,
    pub host: &'a str,
    /// What a trusted proxy says of the client.
    pub forwarded_for: Option<&'a [u8]>,
    pub traceparent: Option<&'a [u8]>,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
}

/// What is known when it has ended.
pub struct Closing<'a> {
    pub service: Option<&'a str>,
    /// Color and generation it was admitted under.
    pub pool: Option<(&'static str, u64)>,
    /// The last it was sent to, and how long a connection there took; none at all for a kept one.
    pub endpoint: Option<(&'a str, Duration)>,
    pub status: u16,
    /// Of bodies; of both directions for a tunnel.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub total: Duration,
    pub first_byte: Option<Duration>,
    pub ended_by: &'static str,
    pub why: &'static str,
}

/// A line whose end is still to come: what stands before it, and what comes behind.
#[derive(Default)]
pub struct Draft {
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl Draft {
    pub fn begin(&mut self, format: LogFormat, clock: &mut Clock, opening: &Opening<'_>) {
        self.before.clear();
        self.behind.clear();
        match format {
            LogFormat::Json => self.begin_json(clock, opening),
            LogFormat::Combined => self.begin_combined(clock, opening),
        }
    }

    /// What the request is called: known a little later than the rest.
    pub fn name(&mut self, format: LogFormat, request_id: &[u8]) {
        if format == LogFormat::Json {
            text(&mut self.before, b",\"request_id\":\"", request_id, MAX_ID);
        }
    }

    /// The most bytes the whole line can have.
    pub fn most(&self) -> usize {
        self.before.len() + MAX_CLOSING + self.behind.len()
    }

    /// Appends the whole line to `out`.
    pub fn end(&self, format: LogFormat, closing: &Closing<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        match format {
            LogFormat::Json => end_json(out, closing),
            LogFormat::Combined => {
                escape::number(out, closing.status.into());
                out.push(b' ');
                escape::number(out, closing.bytes_out);
            }
        }
        out.extend_from_slice(&self.behind);
        out.push(b'\n');
    }

    fn begin_json(&mut self, clock: &mut Clock, opening: &Opening<'_>) {
        let out = &mut self.before;
        out.extend_from_slice(b"{\"time\":\"");
        clock.tell(out, opening.at);
        text(out, b"\",\"client\":\"", opening.client, MAX_CLIENT);
        let Some(asked) = &opening.asked else { return };
        text(out, b",\"method\":\"", asked.method.as_bytes(), MAX_METHOD);
        text(out, b",\"target\":\"", asked.target.as_bytes(), MAX_TARGET);
        word(out, b",\"protocol\":\"", protocol(asked.version));
        text(out, b",\"host\":\"", asked.host.as_bytes(), MAX_HOST);
        if let Some(address) = asked.forwarded_for {
            text(out, b",\"forwarded_for\":\"", address, MAX_HOST);
        }
        if let Some(trace) = asked.traceparent {
            text(out, b",\"traceparent\":\"", trace, MAX_ID);
        }
        if let Some(referer) = asked.referer {
            text(out, b",\"referer\":\"", referer, MAX_FIELD);
        }
        if let Some(agent) = asked.user_agent {
            text(out, b",\"user_agent\":\"", agent, MAX_FIELD);
        }
    }

    fn begin_combined(&mut self, clock: &mut Clock, opening: &Opening<'_>) {
        let out = &mut self.before;
        escape::combined(out, opening.client, MAX_CLIENT);
        out.extend_from_slice(b" - - [");
        clock.tell(out, opening.at);
        out.extend_from_slice(b"] \"");
        match &opening.asked {
            None => out.push(b'-'),
            Some(asked) => {
                escape::combined(out, asked.method.as_bytes(), MAX_METHOD);
                out.push(b' ');
                escape::combined(out, asked.target.as_bytes(), MAX_TARGET);
                out.push(b' ');
                out.extend_from_slice(protocol(asked.version).as_bytes());
            }
        }
        out.extend_from_slice(b"\" ");
        let asked = opening.asked.as_ref();
        for field in [asked.and_then(|asked| asked.referer), asked.and_then(|asked| asked.user_agent)] {
            self.behind.extend_from_slice(b" \"");
            escape::combined(&mut self.behind, field.unwrap_or(b"-"), MAX_FIELD);
            self.behind.push(b'"');
        }
    }
}

fn end_json(out: &mut Vec<u8>, closing: &Closing<'_>) {
    if let Some(service) = closing.service {
        word(out, b",\"service\":\"", service);
    }
    if let Some((color, generation)) = closing.pool {
        word(out, b",\"color\":\"", color);
        figure(out, b",\"generation\":", generation);
    }
    if let Some((endpoint, _)) = closing.endpoint {
        word(out, b",\"endpoint\":\"", endpoint);
    }
    figure(out, b",\"status\":", closing.status.into());
    figure(out, b",\"bytes_in\":", closing.bytes_in);
    figure(out, b",\"bytes_out\":", closing.bytes_out);
    figure(out, b",\"total_us\":", micros(closing.total));
    if let Some((_, waited)) = closing.endpoint {
        figure(out, b",\"connect_us\":", micros(waited));
    }
    if let Some(first_byte) = closing.first_byte {
        figure(out, b",\"first_byte_us\":", micros(first_byte));
    }
    word(out, b",\"ended_by\":\"", closing.ended_by);
    word(out, b",\"why\":\"", closing.why);
    out.push(b'}');
}

/// A key up to its quote, the value, the quote. Keys of a known length are copied without a call.
fn text<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: &[u8], cap: usize) {
    out.extend_from_slice(key);
    escape::json(out, value, cap);
    out.push(b'"');
}

/// A word of our own, which is plain and short.
fn word<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], word: &str) {
    out.extend_from_slice(key);
    out.extend_from_slice(&word.as_bytes()[..word.len().min(MAX_WORD)]);
    out.push(b'"');
}

fn figure<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: u64) {
    out.extend_from_slice(key);
    escape::number(out, value);
}

fn micros(took: Duration) -> u64 {
    took.as_micros() as u64
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}

// Of what others say; a longer value is cut. Each byte may take six, and the longest line still fits into a batch.
const MAX_CLIENT: usize = 64;
const MAX_METHOD: usize = 64;
const MAX_TARGET: usize = 2048;
const MAX_HOST: usize = 256;
const MAX_ID: usize = 128;
const MAX_FIELD: usize = 1024;
/// Of our own words.
const MAX_WORD: usize = 64;
/// What [`Draft::end`] adds at the most: 13 keys, 5 words, 7 numbers.
const MAX_CLOSING: usize = 700;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::BATCH;
    use super::*;

    fn asked() -> Asked<'static> {
        Asked {
            method: "GET",
            target: "/cart?item=7",
            version: Version::HTTP_2,
            host: "shop.test",
            forwarded_for: None,
            traceparent: Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            referer: None,
            user_agent: Some(b"curl/8 \"quoted\""),
        }
    }

    fn closing() -> Closing<'static> {
        Closing {
            service: Some("shop"),
            pool: Some(("blue", 7)),
            endpoint: Some(("10.0.1.10:8080", Duration::from_micros(250))),
            status: 200,
            bytes_in: 0,
            bytes_out: 1234,
            total: Duration::from_nanos(2_345_678),
            first_byte: Some(Duration::from_millis(2)),
            ended_by: "backend",
            why: "complete",
        }
    }

    fn written(format: LogFormat, asked: Option<Asked<'_>>, id: Option<&[u8]>, closing: &Closing<'_>) -> String {
        let at = (1_795_532_523, 7);
        let (mut draft, mut out) = (Draft::default(), Vec::new());
        draft.begin(format, &mut Clock::new(format), &Opening { at, client: b"192.0.2.7", asked });
        id.into_iter().for_each(|id| draft.name(format, id));
        let most = draft.most();
        draft.end(format, closing, &mut out);
        assert!(out.len() <= most && most <= BATCH, "{} of {most}", out.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_says_everything() {
        let line = written(LogFormat::Json, Some(asked()), Some(b"made-1"), &closing());
        assert!(line.ends_with("}\n") && line.lines().count() == 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        let expected = json!({
            "time": "2026-11-24T15:02:03.007Z", "client": "192.0.2.7", "method": "GET", "target": "/cart?item=7",
            "protocol": "HTTP/2.0", "host": "shop.test", "request_id": "made-1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "user_agent": "curl/8 \"quoted\"",
            "service": "shop", "color": "blue", "generation": 7, "endpoint": "10.0.1.10:8080", "status": 200,
            "bytes_in": 0, "bytes_out": 1234, "total_us": 2345, "connect_us": 250, "first_byte_us": 2000,
            "ended_by": "backend", "why": "complete",
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_combined_line_is_what_tools_for_it_read() {
        assert_eq!(
            written(LogFormat::Combined, Some(asked()), Some(b"made-1"), &closing()),
            "192.0.2.7 - - [24/Nov/2026:15:02:03 +0000] \"GET /cart?item=7 HTTP/2.0\" 200 1234 \"-\" \"curl/8 \\x22quoted\\x22\"\n"
        );
    }

    #[test]
    fn what_never_became_a_request_has_a_line_too() {
        let refused = Closing {
            service: None,
            pool: None,
            endpoint: None,
            status: 400,
            first_byte: None,
            ended_by: "proxy",
            why: "bad-request",
            ..closing()
        };
        let read: Value = serde_json::from_str(&written(LogFormat::Json, None, None, &refused)).unwrap();
        assert_eq!(
            (&read["client"], &read["status"], &read["why"]),
            (&json!("192.0.2.7"), &json!(400), &json!("bad-request"))
        );
        assert!(read.get("method").is_none() && read.get("service").is_none() && read.get("endpoint").is_none());
        assert_eq!(
            written(LogFormat::Combined, None, None, &refused),
            "192.0.2.7 - - [24/Nov/2026:15:02:03 +0000] \"-\" 400 1234 \"-\" \"-\"\n"
        );
    }

    #[test]
    fn the_longest_line_fits_and_stays_one_line() {
        let long = "\n".repeat(70_000);
        let bytes = Some(long.as_bytes());
        let asked = || Asked {
            method: &long,
            target: &long,
            host: &long,
            forwarded_for: bytes,
            traceparent: bytes,
            referer: bytes,
            user_agent: bytes,
            ..asked()
        };
        let (service, most) = ("s".repeat(63), Duration::from_micros(u64::MAX));
        let closing = Closing {
            service: Some(&service),
            pool: Some(("green", u64::MAX)),
            endpoint: Some(("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535", most)),
            status: u16::MAX,
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            total: most,
            first_byte: Some(most),
            ended_by: "backend",
            why: "a-reason-of-the-greatest-length-that-any-reason-is-likely-to-have",
        };
        for format in [LogFormat::Json, LogFormat::Combined] {
            assert_eq!(written(format, Some(asked()), bytes, &closing).lines().count(), 1);
        }
    }
}
