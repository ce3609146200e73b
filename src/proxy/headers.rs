//! What may pass: pure functions over heads, one for what comes in, one for what goes to a backend, one for what comes back.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Version, request, response};
use http_body::{Body, Frame};

use super::refusal::Refusal;

/// What one look over a request's head has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vetted {
    /// It asks to become a WebSocket.
    pub websocket: bool,
    has_connection: bool,
    has_underscores: bool,
    cookies: usize,
}

/// Refuses what is ambiguous, and finds out in one pass what the next steps need to know.
pub fn vet(head: &request::Parts) -> Result<Vetted, Refusal> {
    vet_target(head)?;
    let (mut size, mut hosts, mut transfer, mut upgrade) = (head.uri.path().len(), 0, 0, false);
    let (mut has_connection, mut has_underscores, mut cookies) = (false, false, 0);
    for (name, value) in &head.headers {
        size += name.as_str().len() + value.len() + PER_FIELD;
        match *name {
            header::HOST => {
                hosts += 1;
                vet_authority(value.as_bytes())?;
            }
            header::TRANSFER_ENCODING => {
                transfer += 1;
                vet_transfer_encoding(value)?;
            }
            header::CONNECTION => has_connection = true,
            header::UPGRADE => upgrade = true,
            header::COOKIE => cookies += 1,
            _ => has_underscores |= name.as_str().as_bytes().contains(&b'_'),
        }
    }
    match () {
        () if size > MAX_HEAD => Err(Refusal::HeadTooLarge),
        () if hosts > 1 => Err(Refusal::BadRequest("more than one Host field")),
        () if hosts == 0 && head.version == Version::HTTP_11 => Err(Refusal::BadRequest("no Host field")),
        () if transfer > 1 => Err(Refusal::BadRequest("more than one Transfer-Encoding field")),
        () if transfer > 0 && head.version != Version::HTTP_11 => {
            Err(Refusal::BadRequest("Transfer-Encoding outside HTTP/1.1"))
        }
        () => {
            let websocket = upgrade && has_connection && asks_for_websocket(head);
            Ok(Vetted { websocket, has_connection, has_underscores, cookies })
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

/// What a backend is told about the client: made once for each connection.
pub struct Client {
    pub address: HeaderValue,
    pub proto: HeaderValue,
    pub port: HeaderValue,
}

/// Turns a vetted head into what the backend gets: HTTP/1.1, without what concerned the last hop, with what it should know.
pub fn to_backend(head: &mut request::Parts, vetted: Vetted, client: &Client) {
    let headers = &mut head.headers;
    if vetted.has_connection {
        drop_nominated(headers);
    }
    let trailers = headers.remove(header::TE).is_some_and(|te| accepts_trailers(&te));
    drop_hop_by_hop(headers);
    // The body is framed anew, from what it really is.
    headers.remove(header::CONTENT_LENGTH);
    if vetted.has_underscores {
        drop_aliases(headers);
    }
    if vetted.cookies > 1 {
        join_cookies(headers);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if vetted.websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    set_host(head);
    let headers = &mut head.headers;
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_FOR, client.address.clone());
    headers.insert(X_FORWARDED_PROTO, client.proto.clone());
    headers.insert(X_FORWARDED_PORT, client.port.clone());
    headers.remove(header::FORWARDED);
    if !headers.get(X_REQUEST_ID).is_some_and(is_request_id) {
        headers.insert(X_REQUEST_ID, new_request_id());
    }
    headers.append(header::VIA, via(head.version));
    head.version = Version::HTTP_11;
    head.extensions.clear();
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

/// Turns a backend's head into what the client gets. `upgraded`: it is the 101 that was asked for.
pub fn to_client(head: &mut response::Parts, upgraded: bool) {
    if head.headers.contains_key(header::CONNECTION) {
        drop_nominated(&mut head.headers);
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        // It overrides a length said beside it, and to pass that on would cut the body or break its stream
        // (RFC 9112, 6.3).
        head.headers.remove(header::CONTENT_LENGTH);
    }
    drop_hop_by_hop(&mut head.headers);
    if upgraded {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    head.version = Version::HTTP_11;
}

/// Trailers without the fields that frame, route or authenticate a message (RFC 9110, 6.5.1).
pub fn clean_trailers(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        FORBIDDEN_TRAILERS.iter().for_each(|name| drop(trailers.remove(name)));
        drop_hop_by_hop(trailers);
    }
    frame
}

/// Refuses a body that says itself that it is larger than allowed, before any of it is read.
pub fn vet_length(headers: &HeaderMap, limit: Option<u64>) -> Result<(), Refusal> {
    let Some(limit) = limit else { return Ok(()) };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) { Err(Refusal::BodyTooLarge) } else { Ok(()) }
}

fn vet_target(head: &request::Parts) -> Result<(), Refusal> {
    let uri = &head.uri;
    if head.method == Method::CONNECT {
        return Err(Refusal::NotImplemented("CONNECT"));
    }
    if head.method.as_str().len() > MAX_METHOD {
        return Err(Refusal::BadRequest("the method is longer than 64 bytes"));
    }
    if uri.path_and_query().map_or(0, |path| path.as_str().len()) > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    if uri.path() == "*" && head.method != Method::OPTIONS {
        return Err(Refusal::BadRequest("the target `*` is for OPTIONS only"));
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
        (Some(_), None) => Err(Refusal::BadRequest("the target names no host")),
    }
}

/// A host and perhaps a port, and nothing else: no list, no userinfo, no path, no blank.
fn vet_authority(authority: &[u8]) -> Result<(), Refusal> {
    let bad = Refusal::BadRequest("Host is not one host with at most a port");
    let (name, port) = match authority.iter().rposition(|b| *b == b':') {
        Some(colon) if !authority[colon..].contains(&b']') => (&authority[..colon], Some(&authority[colon + 1..])),
        _ => (authority, None),
    };
    let port_ok = port.is_none_or(|port| {
        let text = std::str::from_utf8(port).unwrap_or("x");
        port.is_empty() || (port.iter().all(u8::is_ascii_digit) && text.parse::<u16>().is_ok())
    });
    let name_ok = match name {
        [b'[', inside @ .., b']'] => inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
        // An empty Host is how a target without an authority is written (RFC 9112, 3.2); with a port it is nonsense.
        [] => port.is_none(),
        _ => name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    if name_ok && port_ok { Ok(()) } else { Err(bad) }
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
        && tokens(&head.headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// The members of a comma-separated field, over all its lines.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Drops the fields that Connection names. Host stays whatever it says: without it the message is another one.
fn drop_nominated(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH && *name != header::TE)
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// Many backends read `X_Forwarded_For` as `X-Forwarded-For`: what the proxy says, about the client or the framing, must
/// not be contradicted that way.
fn drop_aliases(headers: &mut HeaderMap) {
    let is_alias = |name: &&HeaderName| {
        let dashed = name.as_str().replace('_', "-");
        dashed != name.as_str() && OURS.iter().any(|ours| *ours == dashed)
    };
    let aliases: Vec<HeaderName> = headers.keys().filter(is_alias).cloned().collect();
    aliases.iter().for_each(|name| drop(headers.remove(name)));
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

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Fields that only the proxy may set, under any spelling.
const OURS: [&str; 8] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-request-id",
    "forwarded",
    "content-length",
    "transfer-encoding",
];
/// They end at this hop, both ways (RFC 9110, 7.6.1). HTTP2-Settings and Proxy-Authorization stop here as well.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHORIZATION,
];
const FORBIDDEN_TRAILERS: [HeaderName; 6] =
    [header::CONTENT_LENGTH, header::HOST, header::AUTHORIZATION, header::COOKIE, header::SET_COOKIE, header::EXPECT];
const MAX_METHOD: usize = 64;
const MAX_TARGET: usize = 8 * 1024;
const MAX_HEAD: usize = 32 * 1024;
/// What RFC 9113, 6.5.2 adds to a field's name and value.
const PER_FIELD: usize = 32;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// A head from its request line and fields.
    fn head(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().version(version).method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn sent(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut head = head(version, method, target, fields);
        let vetted = vet(&head).unwrap();
        to_backend(&mut head, vetted, &client());
        head
    }

    fn client() -> Client {
        let text = HeaderValue::from_static;
        Client { address: text("192.0.2.7"), proto: text("https"), port: text("443") }
    }

    const V11: Version = Version::HTTP_11;
    const V2: Version = Version::HTTP_2;

    #[test]
    fn what_is_ambiguous_is_refused() {
        let long = "x".repeat(MAX_TARGET);
        let large = "x".repeat(MAX_HEAD);
        type Case<'a> = (Version, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);
        let cases: &[Case] = &[
            (V11, "GET", "/", &[], "bad-request"),
            (V11, "GET", "/", &[("host", "a"), ("host", "a")], "bad-request"),
            (V11, "GET", "/", &[("host", "a, b")], "bad-request"),
            (V11, "GET", "/", &[("host", "u@a")], "bad-request"),
            (V11, "GET", "/", &[("host", "a/b")], "bad-request"),
            (V11, "GET", "/", &[("host", "a:99999")], "bad-request"),
            (V11, "GET", "/", &[("host", "a:8x")], "bad-request"),
            (V11, "GET", "/", &[("host", ":80")], "bad-request"),
            (V11, "GET", "/", &[("host", "[::1")], "bad-request"),
            (V11, "GET", "*", &[("host", "a")], "bad-request"),
            (V11, "GET", "ftp://a/", &[("host", "a")], "bad-request"),
            (V11, "GET", "http://u@a/", &[("host", "a")], "bad-request"),
            (V2, "GET", "http://u@a/", &[], "bad-request"),
            (V11, "GET", "a:80", &[("host", "a")], "bad-request"),
            (V11, "CONNECT", "a:80", &[("host", "a")], "not-implemented"),
            (V11, "POST", "/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")], "not-implemented"),
            (V11, "POST", "/", &[("host", "a"), ("transfer-encoding", "xchunked")], "not-implemented"),
            (
                V11,
                "POST",
                "/",
                &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                "bad-request",
            ),
            (Version::HTTP_10, "POST", "/", &[("transfer-encoding", "chunked")], "bad-request"),
            (V11, "GET", &format!("/{long}"), &[("host", "a")], "target-too-long"),
            (V11, "GET", "/", &[("host", "a"), ("x", &large)], "head-too-large"),
            (V11, &"A".repeat(65), "/", &[("host", "a")], "bad-request"),
        ];
        for (version, method, target, fields, reason) in cases {
            let refused = vet(&head(*version, method, target, fields)).unwrap_err();
            assert_eq!(refused.reason(), *reason, "{method} {target:.40} {:?}", fields.first());
        }
    }

    #[test]
    fn what_is_plain_passes() {
        for (version, method, target, fields) in [
            (V11, "GET", "/", &[("host", "shop.test:8080")][..]),
            (V11, "GET", "/", &[("host", "")]),
            (V11, "GET", "/", &[("host", "[::1]:80")]),
            (V11, "OPTIONS", "*", &[("host", "a")]),
            (V11, "GET", "http://a/x", &[("host", "b")]),
            (V11, "POST", "/", &[("host", "a"), ("transfer-encoding", "Chunked")]),
            (Version::HTTP_10, "GET", "/", &[]),
            (V2, "GET", "https://a/x?y", &[]),
        ] {
            assert!(vet(&head(version, method, target, fields)).is_ok(), "{method} {target} {fields:?}");
        }
    }

    #[test]
    fn the_targets_authority_wins_over_host_and_the_target_becomes_a_path() {
        for version in [V11, V2] {
            let sent = sent(version, "GET", "http://shop.test:81/x?y=1", &[("host", "other.test")]);
            assert_eq!(sent.uri, "/x?y=1");
            assert_eq!(sent.headers[header::HOST], "shop.test:81");
            assert_eq!(sent.headers[X_FORWARDED_HOST], "shop.test:81");
            assert_eq!(sent.version, V11);
        }
    }

    #[test]
    fn what_concerned_the_last_hop_ends_there() {
        let fields = [
            ("host", "a"),
            ("connection", "close, X-Private, host, x-request-id"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("te", "gzip, trailers;q=1, Trailers"),
            ("x-kept", "1"),
        ];
        let sent = sent(V11, "GET", "/", &fields);
        let mut names: Vec<&str> = sent.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let mut kept = vec!["host", "te", "via", "x-kept", "x-request-id"];
        kept.extend(["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"]);
        kept.sort_unstable();
        assert_eq!(names, kept);
        assert_eq!(sent.headers[header::TE], "trailers");
    }

    #[test]
    fn what_the_proxy_says_about_the_client_cannot_be_contradicted() {
        let fields = [
            ("host", "a"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded_proto", "http"),
            ("forwarded", "for=10.0.0.1"),
            ("transfer_encoding", "chunked"),
            ("x_mine", "kept"),
        ];
        let headers = sent(V11, "GET", "/", &fields).headers;
        let forwarded: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        assert_eq!(forwarded, ["192.0.2.7"]);
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_PORT], "443");
        assert!(!headers.contains_key("x_forwarded_for") && !headers.contains_key("x-forwarded_proto"));
        assert!(!headers.contains_key(header::FORWARDED) && !headers.contains_key("transfer_encoding"));
        assert_eq!(headers["x_mine"], "kept");
    }

    #[test]
    fn a_request_id_is_kept_where_it_is_sane_and_made_where_it_is_not() {
        let id = |given: &[(&str, &str)]| sent(V2, "GET", "https://a/", given).headers[X_REQUEST_ID].clone();
        assert_eq!(id(&[("x-request-id", "abc-1")]), "abc-1");
        for given in [&[][..], &[("x-request-id", "")], &[("x-request-id", "a b")]] {
            assert_eq!(id(given).len(), 32, "{given:?}");
        }
        assert_ne!(id(&[]), id(&[]));
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let sent = sent(V2, "GET", "https://a/", &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        assert_eq!(sent.headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn only_a_websocket_is_an_upgrade() {
        let asks = |fields: &[(&str, &str)]| vet(&head(V11, "GET", "/", fields)).unwrap().websocket;
        assert!(asks(&[("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]));
        assert!(!asks(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "h2c")]));
        assert!(!asks(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket, h2c")]));
        assert!(!asks(&[("host", "a"), ("connection", "close"), ("upgrade", "websocket")]));
        assert!(!asks(&[("host", "a"), ("upgrade", "websocket")]));
    }

    #[test]
    fn answers_lose_what_concerned_the_backends_hop() {
        let mut answer = http::Response::builder()
            .header("connection", "close, x-private")
            .header("x-private", "1")
            .header("keep-alive", "timeout=5")
            .header("upgrade", "h2c")
            .header("content-length", "5")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        to_client(&mut answer, false);
        assert_eq!(answer.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-length"]);
    }

    #[test]
    fn a_length_beside_chunks_is_not_passed_on() {
        let answer = http::Response::builder().header("transfer-encoding", "chunked").header("content-length", "2");
        let mut answer = answer.body(()).unwrap().into_parts().0;
        to_client(&mut answer, false);
        assert!(answer.headers.is_empty());
    }

    #[test]
    fn a_body_is_framed_as_what_it_is() {
        use http_body_util::{Empty, Full, StreamBody};
        let framed = |method: &str, body: &dyn Fn(&mut request::Parts)| {
            let mut head = head(V11, method, "/", &[]);
            body(&mut head);
            let field = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            (field(header::CONTENT_LENGTH), field(header::TRANSFER_ENCODING))
        };
        let empty = |head: &mut request::Parts| frame(head, &Empty::<Bytes>::new());
        let known = |head: &mut request::Parts| frame(head, &Full::new(Bytes::from("abc")));
        let streamed = |head: &mut request::Parts| {
            let pieces = futures_util::stream::empty::<Result<Frame<Bytes>, std::io::Error>>();
            frame(head, &StreamBody::new(pieces));
        };
        for method in ["GET", "HEAD", "DELETE", "POST"] {
            assert_eq!(framed(method, &known), (Some("3".into()), None), "{method}");
            assert_eq!(framed(method, &streamed), (None, Some("chunked".into())), "{method}");
        }
        assert_eq!(framed("GET", &empty), (None, None));
        assert_eq!(framed("POST", &empty), (Some("0".into()), None));
    }
}
