//! What comes back from a backend: its head is read here, and what the client gets of it.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use httparse::{Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::{MARKS, OURS, PER_FIELD, drop_hop_by_hop, drop_what_misleads, members};
use crate::config::Limits;
use crate::proxy::refusal::{MARK, Refusal};

/// A backend's answer as far as its head tells.
pub struct Reply {
    /// What the client gets of the head.
    pub response: Response<()>,
    pub extent: Extent,
    /// The connection may carry another request after this answer.
    pub keeps: bool,
    /// It is a 101 that switches to the WebSocket protocol.
    pub websocket: bool,
}

/// Where the body ends (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Length(u64),
    Chunked,
    /// With the connection.
    Close,
}

/// Takes the head of the final answer off the input, and the interim ones before it; `None`: there is more to come.
/// `headless`: the request was one whose answer has no body (HEAD).
pub fn read(input: &mut Bytes, headless: bool, limits: &Limits) -> Result<Option<Reply>, Refusal> {
    while !input.is_empty()
        && let Some((end, reply)) = parse(input, headless, limits)?
    {
        drop(input.split_to(end));
        if reply.is_some() {
            return Ok(reply);
        }
    }
    Ok(None)
}

/// The first head of the input and where it ends; `None`: it is not whole. An interim answer has no reply.
fn parse(input: &Bytes, headless: bool, limits: &Limits) -> Result<Option<(usize, Option<Reply>)>, Refusal> {
    let mut few = [const { MaybeUninit::uninit() }; FEW];
    let mut many = Vec::new();
    let fields = match few.get_mut(..limits.answer_fields) {
        Some(few) => few,
        None => {
            many.resize_with(limits.answer_fields, MaybeUninit::uninit);
            &mut many[..]
        }
    };
    let mut answer = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut answer, input, fields);
    let end = match parsed {
        Ok(Status::Complete(end)) if end <= limits.answer_head => end,
        Ok(Status::Partial) if input.len() <= limits.answer_head => return Ok(None),
        _ => return Err(Refusal::BadAnswer),
    };
    let (Some(minor), Some(code)) = (answer.version, answer.code) else { return Err(Refusal::BadAnswer) };
    let status = StatusCode::from_u16(code).map_err(|_| Refusal::BadAnswer)?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Some((end, None)));
    }
    let (mut headers, hop) = gather(input, answer.headers, minor)?;
    let is_empty = headless || matches!(code, 101 | 204 | 304);
    if status == StatusCode::NO_CONTENT {
        // Not even what a GET would have had (RFC 9110, 8.6).
        headers.remove(header::CONTENT_LENGTH);
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(reason) = answer.reason.filter(|reason| status.canonical_reason() != Some(reason))
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    let extent = match (hop.chunked, hop.length) {
        _ if is_empty => Extent::Length(0),
        (true, _) => Extent::Chunked,
        (false, Some(length)) => Extent::Length(length),
        (false, None) => Extent::Close,
    };
    let keeps = hop.keeps() && extent != Extent::Close;
    Ok(Some((end, Some(Reply { response, extent, keeps, websocket: hop.websocket }))))
}

/// What the fields of this hop say.
#[derive(Default)]
struct Hop {
    minor: u8,
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    keep_alive: bool,
    websocket: bool,
    /// Connection names other fields.
    nominates: bool,
}

impl Hop {
    fn keeps(&self) -> bool {
        // A length beside chunks is overridden, but whoever sends both cannot be trusted with another request.
        let clear = !(self.chunked && self.length.is_some());
        clear && !self.closes && (self.minor == 1 || self.keep_alive)
    }

    fn connection(&mut self, value: &[u8]) {
        for member in members(value) {
            match member {
                _ if member.eq_ignore_ascii_case(b"close") => self.closes = true,
                _ if member.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ => self.nominates = true,
            }
        }
    }
}

/// The fields that go on to the client, and what the others say. Refuses an answer whose end could be seen in two
/// places (RFC 9112, 6.3).
fn gather(input: &Bytes, fields: &[Header], minor: u8) -> Result<(HeaderMap, Hop), Refusal> {
    let mut hop = Hop { minor, ..Hop::default() };
    let mut headers = HeaderMap::with_capacity(fields.len());
    for Header { name, value } in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::BadAnswer)?;
        match name.as_str() {
            "content-length" => {
                hop.length = Some(length(value).filter(|_| hop.length.is_none()).ok_or(Refusal::BadAnswer)?);
            }
            "transfer-encoding" => {
                if hop.chunked || minor == 0 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::BadAnswer);
                }
                hop.chunked = true;
                continue;
            }
            "connection" => {
                hop.connection(value);
                continue;
            }
            "upgrade" => {
                hop.websocket = value.eq_ignore_ascii_case(b"websocket");
                continue;
            }
            "keep-alive" | "proxy-connection" | "te" | "http2-settings" | "proxy-authorization" => continue,
            // It says that the proxy answered itself, and no backend may.
            MARK => continue,
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(input.slice_ref(value)).map_err(|_| Refusal::BadAnswer)?;
        headers.append(name, value);
    }
    if hop.chunked {
        headers.remove(header::CONTENT_LENGTH);
    }
    if hop.nominates {
        drop_nominated(&mut headers, fields);
    }
    Ok((headers, hop))
}

/// Drops what Connection names, except what frames the body.
fn drop_nominated(headers: &mut HeaderMap, fields: &[Header]) {
    let connection = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
    for name in connection.flat_map(|field| members(field.value)) {
        if let Ok(name) = HeaderName::from_bytes(name)
            && name != header::CONTENT_LENGTH
        {
            headers.remove(name);
        }
    }
}

/// Digits and nothing else: no sign, no list, no blank (RFC 9110, 8.6).
fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// What the client is told of an upgrade that was agreed on.
pub fn switched(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Trailers without the fields that frame, route, authenticate or describe a message (RFC 9110, 6.5.1).
pub fn clean_trailers(mut frame: Frame<Bytes>, most: usize) -> Result<Frame<Bytes>, TooLarge> {
    let Some(trailers) = frame.trailers_mut() else { return Ok(frame) };
    let size: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD).sum();
    if size > most {
        return Err(TooLarge);
    }
    FORBIDDEN_TRAILERS.iter().for_each(|name| drop(trailers.remove(name)));
    OURS.iter().chain(&MARKS).for_each(|name| drop(trailers.remove(*name)));
    drop_hop_by_hop(trailers);
    drop_what_misleads(trailers);
    Ok(frame)
}

/// Trailers larger than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Says that the connection ends with this answer (RFC 9112, 9.6).
pub fn close(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

const FORBIDDEN_TRAILERS: [HeaderName; 27] = [
    header::HOST,
    header::TRAILER,
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
    HeaderName::from_static(MARK),
];
/// Fields that there is room for without an allocation.
const FEW: usize = 100;
