//! What goes to a backend: HTTP/1.1, without what concerned the last hop, with what it should know.

use http::header;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Version, request};
use http_body::Body;

use super::request::Vetted;
use super::{
    X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REQUEST_ID, drop_aliases,
    drop_hop_by_hop, drop_nominated,
};

/// What a backend is told about the client: made once for each connection.
pub struct Client {
    pub address: HeaderValue,
    pub proto: HeaderValue,
    pub port: HeaderValue,
    /// It is a proxy whose own word on the client is kept.
    pub trusted: bool,
}

/// Turns a vetted head into what the backend gets.
pub fn to_backend(head: &mut request::Parts, vetted: Vetted, client: &Client) {
    let headers = &mut head.headers;
    if vetted.connection {
        drop_nominated(headers);
        headers.remove(header::CONNECTION);
    }
    if vetted.hop_by_hop {
        let trailers = headers.remove(header::TE).is_some_and(|te| accepts_trailers(&te));
        drop_hop_by_hop(headers);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    if vetted.length {
        // The body is framed anew, from what it really is.
        headers.remove(header::CONTENT_LENGTH);
    }
    if vetted.expect
        && headers.get(header::EXPECT).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        // It has been answered here, when the body was asked for (RFC 9110, 10.1.1).
        headers.remove(header::EXPECT);
    }
    if vetted.underscores {
        drop_aliases(headers);
    }
    if vetted.cookies > 1 {
        join_cookies(headers);
    }
    if vetted.websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    set_host(head);
    let headers = &mut head.headers;
    if vetted.forwarded {
        headers.remove(header::FORWARDED);
    }
    tell_of(client, headers);
    if !headers.get(X_REQUEST_ID).is_some_and(is_request_id) {
        headers.insert(X_REQUEST_ID, new_request_id());
    }
    headers.append(header::VIA, via(head.version));
    head.version = Version::HTTP_11;
    head.extensions.clear();
}

/// Says who the client is. A trusted proxy's word is kept, and its own address added; anyone else's is replaced.
fn tell_of(client: &Client, headers: &mut HeaderMap) {
    let host = headers.get(header::HOST).cloned();
    if client.trusted {
        let told = headers.get_all(X_FORWARDED_FOR).into_iter().map(HeaderValue::as_bytes);
        let chain: Vec<&[u8]> = told.chain([client.address.as_bytes()]).collect();
        let chain = HeaderValue::from_bytes(&chain.join(&b", "[..])).unwrap_or_else(|_| client.address.clone());
        headers.insert(X_FORWARDED_FOR, chain);
        headers.entry(X_FORWARDED_PROTO).or_insert_with(|| client.proto.clone());
        headers.entry(X_FORWARDED_PORT).or_insert_with(|| client.port.clone());
        if let Some(host) = host {
            headers.entry(X_FORWARDED_HOST).or_insert(host);
        }
        return;
    }
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_FOR, client.address.clone());
    headers.insert(X_FORWARDED_PROTO, client.proto.clone());
    headers.insert(X_FORWARDED_PORT, client.port.clone());
}

/// Whether both sides may talk at the same time, so that neither may be kept waiting for the other's end: gRPC.
pub fn streams_both_ways(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Says how the body that follows is framed: by its length where that is known, else in chunks, whatever the method
/// (RFC 9112, 6.3). Where a body is expected, none is said to be one of length zero (RFC 9110, 8.6).
pub fn frame(head: &mut request::Parts, body: &impl Body) {
    let expected = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    match body.size_hint().exact() {
        Some(0) if body.is_end_stream() && !expected => {}
        Some(length) => drop(head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length))),
        None => drop(head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
}

/// HTTP/2 may split Cookie into crumbs; HTTP/1.1 has one field (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The authority of the target replaces Host, and the target becomes a path (RFC 9112, 3.2.2; RFC 9113, 8.3.1).
fn set_host(head: &mut request::Parts) {
    if head.uri.scheme().is_none() && head.uri.authority().is_none() {
        if !head.headers.contains_key(header::HOST) {
            head.headers.insert(header::HOST, HeaderValue::from_static(""));
        }
        return;
    }
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    if let Some(host) = parts.authority.take().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        head.headers.insert(header::HOST, host);
    }
    let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from(path);
}

fn accepts_trailers(te: &HeaderValue) -> bool {
    te.to_str().is_ok_and(|te| te.split(',').any(|member| member.trim().eq_ignore_ascii_case("trailers")))
}

fn is_request_id(id: &HeaderValue) -> bool {
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// 128 random bits in hexadecimal.
fn new_request_id() -> HeaderValue {
    let mut id = [0; 32];
    let mut bits = fastrand::u128(..);
    for digit in &mut id {
        *digit = b"0123456789abcdef"[(bits & 15) as usize];
        bits >>= 4;
    }
    HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("-"))
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 cutover",
        Version::HTTP_11 => "1.1 cutover",
        _ => "1.0 cutover",
    })
}
