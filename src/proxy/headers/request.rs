//! What may come in: refuses what is ambiguous, in one pass over the head.

use std::net::Ipv6Addr;

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Version, request};

use super::{PER_FIELD, is_odd, members, tokens};
use crate::config::{Edge, EdgeLimits};
use crate::proxy::refusal::Refusal;

/// What one look over a request's head has found: what is not there need not be taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vetted {
    /// It asks to become a WebSocket.
    pub websocket: bool,
    /// Connection names fields of this hop beside the usual ones.
    pub nominates: bool,
    /// It is the last on its connection, as it says.
    pub closes: bool,
    pub underscores: bool,
    /// Fields there may be that only a proxy may send.
    pub claims: bool,
    pub cookies: usize,
    pub request_ids: usize,
    /// It shows an invitation to a preview.
    pub invited: bool,
    /// It says that it is a probe of the proxy's own.
    pub probes: bool,
}

/// Refuses what is ambiguous, and finds out in one pass what the next steps need to know.
pub fn vet(head: &request::Parts, edge: &Edge) -> Result<Vetted, Refusal> {
    let Edge { limits, proxy_fields, .. } = edge;
    vet_target(head, limits)?;
    let mut size = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let (mut fields, mut hosts, mut transfer, mut named, mut upgrade) = (0, 0, 0, 0, false);
    let (mut length, mut body) = (false, false);
    let mut found = Vetted::default();
    for (name, value) in &head.headers {
        let name = name.as_str();
        size += name.len() + value.len() + PER_FIELD;
        if head.version == Version::HTTP_2 && (is_odd(name) || is_padded(value)) {
            return Err(Refusal::BadRequest("a field that HTTP/1.1 could not have"));
        }
        fields += 1;
        match name {
            "host" => {
                hosts += 1;
                vet_authority(value.as_bytes())?;
            }
            "transfer-encoding" => {
                transfer += 1;
                vet_transfer_encoding(value)?;
            }
            "connection" => {
                found.nominates |= nominates(value);
                for member in members(value.as_bytes()) {
                    named += 1;
                    found.closes |= member.eq_ignore_ascii_case(b"close");
                }
            }
            "upgrade" => upgrade = true,
            "content-length" => {
                length = true;
                body |= value != "0";
            }
            "cookie" => found.cookies += 1,
            "x-request-id" => found.request_ids += 1,
            "cutover-preview" => found.invited = true,
            "cutover-probe" => found.probes = true,
            _ => {
                found.underscores |= name.as_bytes().contains(&b'_');
                found.claims |= proxy_fields.may_hold(name.len());
            }
        }
    }
    match () {
        () if size > limits.head || fields > limits.fields => Err(Refusal::HeadTooLarge),
        // Each field is held against each of them, which takes what both numbers make together.
        () if named > limits.fields => Err(Refusal::HeadTooLarge),
        () if hosts > 1 => Err(Refusal::BadRequest("more than one Host field")),
        () if hosts == 0 && has_no_host(head) => Err(Refusal::BadRequest("no Host field")),
        () if transfer > 1 => Err(Refusal::BadRequest("more than one Transfer-Encoding field")),
        () if transfer > 0 && head.version != Version::HTTP_11 => {
            Err(Refusal::BadRequest("Transfer-Encoding outside HTTP/1.1"))
        }
        () if transfer > 0 && length => Err(Refusal::BadRequest("both Transfer-Encoding and Content-Length")),
        () => {
            // Where a body ends and the tunnel begins, each side could see in another place.
            found.websocket = upgrade && named > 0 && !body && transfer == 0 && asks_for_websocket(head);
            Ok(found)
        }
    }
}

/// The host a request is for, as it was written: that of an absolute target or `:authority`, else the Host field's.
pub fn host(head: &request::Parts) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
    }
}

/// Refuses a body that says itself that it is larger than allowed, before any of it is read.
pub fn vet_length(headers: &HeaderMap, limit: Option<u64>) -> Result<(), Refusal> {
    let Some(limit) = limit else { return Ok(()) };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) { Err(Refusal::BodyTooLarge) } else { Ok(()) }
}

/// Blanks around a value: HTTP/2 lets them through, and no other parser would read the same (RFC 9113, 8.2.1).
fn is_padded(value: &HeaderValue) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let value = value.as_bytes();
    is_blank(value.first()) || is_blank(value.last())
}

/// Whether a Connection field names more than what every hop ends at anyway.
fn nominates(value: &HeaderValue) -> bool {
    let usual = |token: &str| USUAL.iter().any(|usual| token.trim().eq_ignore_ascii_case(usual));
    value.to_str().map_or(true, |line| !line.split(',').all(usual))
}

/// HTTP/1.1 wants the field whatever the target says (RFC 9112, 3.2); HTTP/2 either that or `:authority`.
fn has_no_host(head: &request::Parts) -> bool {
    head.version == Version::HTTP_11 || head.version == Version::HTTP_2 && head.uri.authority().is_none()
}

fn vet_target(head: &request::Parts, limits: &EdgeLimits) -> Result<(), Refusal> {
    let uri = &head.uri;
    match head.method {
        Method::CONNECT => return Err(Refusal::NotImplemented("CONNECT")),
        // It would show the client what the proxy tells backends, cookies of others' scripts included.
        Method::TRACE => return Err(Refusal::NotImplemented("TRACE")),
        _ => {}
    }
    if head.method.as_str().len() > limits.method {
        return Err(Refusal::BadRequest("the method is longer than allowed"));
    }
    if uri.path_and_query().map_or(0, |path| path.as_str().len()) > limits.target {
        return Err(Refusal::TargetTooLong);
    }
    if uri.path() == "*" && head.method != Method::OPTIONS {
        return Err(Refusal::BadRequest("the target `*` is for OPTIONS only"));
    }
    // An absolute target may have a query and no path; what HTTP/2 calls a path may not (RFC 9113, 8.3.1).
    if head.version == Version::HTTP_2 && uri.path_and_query().is_some_and(|path| path.as_str().starts_with('?')) {
        return Err(Refusal::BadRequest("the path does not begin with `/`"));
    }
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => Ok(()),
        (None, Some(_)) if head.version < Version::HTTP_2 => {
            Err(Refusal::BadRequest("a target with an authority alone is for CONNECT only"))
        }
        (Some(scheme), _) if scheme != "http" && scheme != "https" => {
            Err(Refusal::BadRequest("the target's scheme is neither http nor https"))
        }
        (_, Some(authority)) => vet_authority(authority.as_str().as_bytes()),
        (Some(_), None) if head.version == Version::HTTP_2 => Ok(()),
        (Some(_), None) => Err(Refusal::BadRequest("the target names no host")),
    }
}

/// A host and perhaps a port, and nothing else: no list, no userinfo, no path, no blank.
fn vet_authority(authority: &[u8]) -> Result<(), Refusal> {
    let (name, port) = match authority {
        [b'[', ..] => split_literal(authority),
        _ => split_name(authority),
    };
    let name_ok = match name {
        [b'[', inside @ .., b']'] => std::str::from_utf8(inside).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
        // An empty Host is how a target without an authority is written (RFC 9112, 3.2); with a port it is nonsense.
        [] => port.is_none(),
        _ => true,
    };
    let digits =
        |port: &[u8]| port.iter().try_fold(0_u32, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')));
    let port_ok = port.is_none_or(|port| port.len() <= 5 && digits(port).is_some_and(|port| port <= 65_535));
    if name_ok && port_ok { Ok(()) } else { Err(Refusal::BadRequest("Host is not one host with at most a port")) }
}

/// A name up to the first byte that cannot be in one; what follows that is the port, or wrong.
fn split_name(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match authority.iter().position(|b| !is_name(b)) {
        None => (authority, None),
        Some(end) if authority[end] == b':' => (&authority[..end], Some(&authority[end + 1..])),
        // No port has this many bytes.
        Some(_) => (authority, Some(b"not a port")),
    }
}

fn split_literal(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    match authority.iter().position(|b| *b == b']') {
        Some(end) if authority.get(end + 1) == Some(&b':') => (&authority[..=end], Some(&authority[end + 2..])),
        Some(end) if end + 1 == authority.len() => (authority, None),
        _ => (authority, Some(b"not a port")),
    }
}

fn vet_transfer_encoding(value: &HeaderValue) -> Result<(), Refusal> {
    if value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    Err(Refusal::NotImplemented("a Transfer-Encoding other than chunked"))
}

fn asks_for_websocket(head: &request::Parts) -> bool {
    let mut protocols = head.headers.get_all(header::UPGRADE).iter();
    let websocket = protocols.next().is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket
        && protocols.next().is_none()
        && head.method == Method::GET
        && head.version == Version::HTTP_11
        && tokens(&head.headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// What Connection mostly says, none of it the name of a field that would otherwise pass.
const USUAL: [&str; 5] = ["keep-alive", "close", "upgrade", "te", "http2-settings"];
