//! What comes back from a backend, and what of it the client gets.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, Version, response};
use http_body::Frame;

use super::{OURS, PER_FIELD, drop_aliases, drop_hop_by_hop, drop_nominated};
use crate::proxy::refusal::Refusal;

/// Refuses an answer whose end could be seen in two places (RFC 9112, 6.3). hyper reads the rest, and refuses what it
/// cannot.
pub fn vet_answer<B>(head: &Response<B>) -> Result<(), Refusal> {
    let (mut lengths, mut codings) = (0, 0);
    for (name, value) in head.headers() {
        if *name == header::CONTENT_LENGTH {
            lengths += 1;
            if value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit) {
                return Err(Refusal::BadAnswer);
            }
        } else if *name == header::TRANSFER_ENCODING {
            codings += 1;
            if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::BadAnswer);
            }
        }
    }
    let is_old = head.version() < Version::HTTP_11;
    if lengths > 1 || codings > 1 || codings > 0 && is_old { Err(Refusal::BadAnswer) } else { Ok(()) }
}

/// Turns a backend's head into what the client gets. `upgraded`: it is the 101 that was asked for.
pub fn to_client(head: &mut response::Parts, upgraded: bool) {
    let headers = &mut head.headers;
    if headers.contains_key(header::CONNECTION) {
        drop_nominated(headers);
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // It overrides a length said beside it, and to pass that on would cut the body or break its stream
        // (RFC 9112, 6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    drop_hop_by_hop(headers);
    if upgraded {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    head.version = Version::HTTP_11;
}

/// Trailers without the fields that frame, route, authenticate or describe a message (RFC 9110, 6.5.1).
pub fn clean_trailers(mut frame: Frame<Bytes>, most: usize) -> Result<Frame<Bytes>, TooLarge> {
    let Some(trailers) = frame.trailers_mut() else { return Ok(frame) };
    let size: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD).sum();
    if size > most {
        return Err(TooLarge);
    }
    FORBIDDEN_TRAILERS.iter().for_each(|name| drop(trailers.remove(name)));
    OURS.iter().for_each(|name| drop(trailers.remove(*name)));
    drop_hop_by_hop(trailers);
    drop_aliases(trailers);
    Ok(frame)
}

/// Trailers larger than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Says that the connection ends with this answer (RFC 9112, 9.6).
pub fn close(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

const FORBIDDEN_TRAILERS: [HeaderName; 25] = [
    header::HOST,
    header::CACHE_CONTROL,
    header::EXPECT,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::WWW_AUTHENTICATE,
    header::COOKIE,
    header::SET_COOKIE,
    header::AGE,
    header::DATE,
    header::EXPIRES,
    header::LOCATION,
    header::RETRY_AFTER,
    header::VARY,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
];
