//! Server-sent events as they come from the proxy.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Server-sent events, as they come.
pub struct Events {
    body: Incoming,
    /// What has come of the next event so far.
    text: BytesMut,
}

impl Events {
    pub fn new(body: Incoming) -> Events {
        Events { body, text: BytesMut::new() }
    }

    /// The next event; `None` where the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let block = self.text.split_to(end + 2);
                if let Some(event) = Event::read(&String::from_utf8_lossy(&block)) {
                    return Some(event);
                }
            }
            if self.text.len() > LONGEST {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            self.text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
    }
}

/// One event: its name and its data, which is JSON.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

impl Event {
    /// `None` for what is only a comment: it keeps the connection alive.
    fn read(block: &str) -> Option<Event> {
        let field = |name: &str| {
            let rest = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_start().to_owned());
            block.lines().filter_map(rest).collect::<Vec<_>>()
        };
        let (names, data) = (field("event"), field("data"));
        let name = names.last()?.clone();
        Some(Event { name, data: data.join("\n") })
    }
}

/// No event is longer: the longest holds the whole status.
const LONGEST: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_name_and_data_and_a_comment_is_none() {
        let event = |name: &str, data: &str| Some(Event { name: name.into(), data: data.into() });
        assert_eq!(Event::read("event: cutover\ndata: {\"a\":1}\n\n"), event("cutover", "{\"a\":1}"));
        assert_eq!(Event::read("event:missed\ndata:3\n\n"), event("missed", "3"));
        assert_eq!(Event::read(":\n\n"), None);
        assert_eq!(Event::read("\n\n"), None);
    }
}
