//! What comes back from a backend: its head is read here, and what the client gets of it.

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use httparse::{Header, ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::{OURS, PER_FIELD, drop_aliases, drop_hop_by_hop, members};
use crate::proxy::refusal::Refusal;

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
pub fn read(input: &mut BytesMut, headless: bool) -> Result<Option<Reply>, Refusal> {
    loop {
        let end = end_of_head(input);
        if end.unwrap_or(input.len()) > MAX_HEAD {
            return Err(Refusal::BadAnswer);
        }
        let Some(end) = end else { return Ok(None) };
        let head = input.split_to(end).freeze();
        if let Some(reply) = parse(&head, headless)? {
            return Ok(Some(reply));
        }
    }
}

/// Where the first empty line ends.
fn end_of_head(input: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', &input[from..]) {
        from += at + 1;
        match &input[from..] {
            [b'\n', ..] => return Some(from + 1),
            [b'\r', b'\n', ..] => return Some(from + 2),
            _ => {}
        }
    }
    None
}

/// `None`: the answer is an interim one, and another follows.
fn parse(head: &Bytes, headless: bool) -> Result<Option<Reply>, Refusal> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut answer, head, &mut fields);
    let Ok(Status::Complete(_)) = parsed else { return Err(Refusal::BadAnswer) };
    let (Some(minor), Some(code)) = (answer.version, answer.code) else { return Err(Refusal::BadAnswer) };
    let status = StatusCode::from_u16(code).map_err(|_| Refusal::BadAnswer)?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let hop = hop(answer.headers, minor)?;
    let is_empty = headless || matches!(code, 101 | 204 | 304);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = end_to_end(head, answer.headers, &hop)?;
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
    Ok(Some(Reply { response, extent, keeps: hop.keeps && extent != Extent::Close, websocket: hop.websocket }))
}

/// What the fields of this hop say.
struct Hop<'h> {
    length: Option<u64>,
    chunked: bool,
    keeps: bool,
    websocket: bool,
    /// The Connection field, where it names fields.
    connection: Option<&'h [u8]>,
}

/// Refuses an answer whose end could be seen in two places (RFC 9112, 6.3).
fn hop<'h>(fields: &[Header<'h>], minor: u8) -> Result<Hop<'h>, Refusal> {
    let mut hop = Hop { length: None, chunked: false, keeps: minor == 1, websocket: false, connection: None };
    for Header { name, value } in fields {
        if name.eq_ignore_ascii_case("content-length") {
            let length = length(value).filter(|_| hop.length.is_none()).ok_or(Refusal::BadAnswer)?;
            hop.length = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if hop.chunked || minor == 0 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::BadAnswer);
            }
            hop.chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            let says = |token: &str| members(value).any(|member| member.eq_ignore_ascii_case(token.as_bytes()));
            hop.keeps = hop.keeps && !says("close") || minor == 0 && says("keep-alive");
            // Two of them is one too many to be worth following: the fields they name are still this hop's.
            hop.connection = Some(value);
        } else if name.eq_ignore_ascii_case("upgrade") {
            hop.websocket = value.eq_ignore_ascii_case(b"websocket");
        }
    }
    // A length beside chunks is overridden, but whoever sends both cannot be trusted with another request.
    hop.keeps &= !(hop.chunked && hop.length.is_some());
    Ok(hop)
}

/// The fields that go on to the client.
fn end_to_end(head: &Bytes, fields: &[Header], hop: &Hop) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for Header { name, value } in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::BadAnswer)?;
        let ends = match name.as_str() {
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "te" | "upgrade" => true,
            "http2-settings" | "proxy-authorization" => true,
            "content-length" => hop.chunked,
            text => {
                hop.connection.is_some_and(|named| members(named).any(|it| it.eq_ignore_ascii_case(text.as_bytes())))
            }
        };
        if !ends {
            let value = HeaderValue::from_maybe_shared(head.slice_ref(value)).map_err(|_| Refusal::BadAnswer)?;
            headers.append(name, value);
        }
    }
    Ok(headers)
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
/// The most of a head that is held, and of its fields.
const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 100;
