//! One line of the journal: `{"at":..,"TOPIC":{..},"crc":"0a1b2c3d"}`, where the checksum is that of the line without it.

use std::collections::HashMap;
use std::io;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Topic;
use crate::names::ServiceName;
use crate::time::{self, Timestamp};

/// A line that has been read, and its text as it was: what is not understood here must not be changed either.
pub struct Line {
    pub topic: String,
    pub id: String,
    pub service: ServiceName,
    value: Box<RawValue>,
    text: Vec<u8>,
}

impl Line {
    pub fn of<T: Topic>(entry: &T) -> io::Result<Line> {
        let at = serde_json::to_string(&time::now())?;
        let value = serde_json::value::to_raw_value(entry)?;
        let body = format!("{{\"at\":{at},\"{}\":{}}}", T::NAME, value.get());
        let crc = crc32c::crc32c(body.as_bytes());
        let text = format!("{},\"crc\":\"{crc:08x}\"}}\n", &body[..body.len() - 1]).into_bytes();
        Ok(Line { topic: T::NAME.into(), id: entry.id().into(), service: entry.service().clone(), value, text })
    }

    /// Every topic names its `id` and its `service` under these words, so that lines of one that only a newer version
    /// knows can be kept as its own are. The end of the line may be missing, where a crash has left out no more than that.
    pub fn read(text: &[u8]) -> Result<Line, String> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let Some(body) = text.len().checked_sub(CRC_LEN).map(|at| &text[..at]) else {
            return Err("it is too short".into());
        };
        let body = [body, b"}"].concat();
        if text[body.len() - 1..] != *format!(",\"crc\":\"{:08x}\"}}", crc32c::crc32c(&body)).as_bytes() {
            return Err("its checksum does not match".into());
        }
        let mut parts: HashMap<String, Box<RawValue>> = parse(&body)?;
        let at = parts.remove("at").ok_or("it does not say when it was written")?;
        parse::<Timestamp>(at.get().as_bytes())?;
        let mut topics = parts.into_iter();
        let (Some((topic, value)), None) = (topics.next(), topics.next()) else {
            return Err("it is not about one thing".into());
        };
        let Head { id, service } = parse(value.get().as_bytes())?;
        Ok(Line { topic, id, service, value, text: [text, b"\n"].concat() })
    }

    /// What the line says, where it is about `T`.
    pub fn says<T: Topic>(&self) -> Option<Result<T, String>> {
        (self.topic == T::NAME).then(|| parse(self.value.get().as_bytes()))
    }

    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// Only the last line can be torn, since each was on disk whole before the next was begun; it has no end, and begins like
/// any other. Blocks that a power cut left unwritten read as zeros. Anything else is damage, and is left as it is.
pub fn is_torn(line: &[u8], follows_good: bool) -> bool {
    let begins = line.starts_with(BEGIN) || BEGIN.starts_with(line);
    let unwritten = follows_good && line.iter().all(|byte| *byte == 0);
    !line.ends_with(b"\n") && (begins || unwritten)
}

/// What every topic has.
#[derive(Deserialize)]
struct Head {
    id: String,
    service: ServiceName,
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

const BEGIN: &[u8] = b"{\"at\":\"";
/// `,"crc":"0a1b2c3d"}`.
const CRC_LEN: usize = 18;
