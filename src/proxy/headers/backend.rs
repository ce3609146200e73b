//! What goes to a backend: HTTP/1.1, without what concerned the last hop, with what it should know.

use std::io::Write;
use std::sync::Arc;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Version, request};

use super::request::{Vetted, host};
use super::{
    FORWARDED, OURS, WARM, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REQUEST_ID,
    is_alias, tokens,
};
use crate::config::Edge;

/// What a backend is told about the client: made once for each connection.
pub struct Client {
    pub address: HeaderValue,
    pub proto: HeaderValue,
    pub port: HeaderValue,
    /// It is a proxy whose own word on the client is kept.
    pub trusted: bool,
    /// What it may not say, unless it is trusted, and whether Forwarded tells of it as well.
    edge: Arc<Edge>,
    /// The fields that say so, ready to be written.
    fields: Box<[u8]>,
}

impl Client {
    pub fn new(address: HeaderValue, proto: HeaderValue, port: HeaderValue, trusted: bool, edge: Arc<Edge>) -> Client {
        let mut fields = Vec::with_capacity(CLIENT);
        for (name, value) in [(X_FORWARDED_FOR, &address), (X_FORWARDED_PROTO, &proto), (X_FORWARDED_PORT, &port)] {
            field(&mut fields, name.as_str(), value.as_bytes());
        }
        Client { address, proto, port, trusted, edge, fields: fields.into() }
    }
}

/// How the body that follows is framed (RFC 9112, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// The framing of a body: by its length where that is known, else in chunks, whatever the method (RFC 9112, 6.3). Where
/// a body is expected, none is said to be one of length zero (RFC 9110, 8.6).
pub fn frame(method: &Method, length: Option<u64>) -> Framing {
    let expected = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match length {
        Some(0) if !expected => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

/// What a request is called, by its client or by us.
pub enum RequestId<'h> {
    Kept(&'h [u8]),
    /// 128 random bits in hexadecimal.
    Made([u8; 32]),
}

impl<'h> RequestId<'h> {
    /// The client's, where it gave one that is sane.
    pub fn of(headers: &'h HeaderMap, vetted: Vetted) -> RequestId<'h> {
        let given = (vetted.request_ids == 1).then(|| headers.get(X_REQUEST_ID)).flatten();
        let sane = |id: &&[u8]| (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
        given.map(HeaderValue::as_bytes).filter(sane).map_or_else(RequestId::make, RequestId::Kept)
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Kept(id) => id,
            RequestId::Made(id) => id,
        }
    }

    fn make() -> RequestId<'h> {
        let mut id = [0; 32];
        let mut bits = fastrand::u128(..);
        for digit in &mut id {
            *digit = b"0123456789abcdef"[(bits & 15) as usize];
            bits >>= 4;
        }
        RequestId::Made(id)
    }
}

/// Writes a vetted head as the backend gets it.
pub fn to_backend(
    head: &request::Parts,
    vetted: Vetted,
    client: &Client,
    id: &RequestId<'_>,
    framing: Framing,
    out: &mut Vec<u8>,
) {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    // `http://shop.test?x` has an empty path, and that is written `/` (RFC 9112, 3.2.1).
    let root = if target.starts_with(['/', '*']) { "" } else { "/" };
    let (method, host) = (head.method.as_str(), host(head));
    line(out, &[method, " ", root, target, " HTTP/1.1\r\nhost: ", host].map(str::as_bytes));
    for (name, value) in &head.headers {
        if passes(name, value, vetted, client, &head.headers) {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    if vetted.cookies > 1 && !(vetted.nominates && is_nominated("cookie", &head.headers)) {
        join(out, header::COOKIE, &head.headers, b"; ", None);
    }
    if tokens(&head.headers, header::TE).any(is_trailers) {
        field(out, "te", b"trailers");
    }
    if vetted.websocket {
        field(out, "connection", b"upgrade");
        field(out, "upgrade", b"websocket");
    }
    tell_of(client, host, &head.headers, out);
    field(out, X_REQUEST_ID.as_str(), id.as_bytes());
    field(out, "via", via(head.version));
    match framing {
        Framing::None => {}
        Framing::Length(length) => number(out, length),
        Framing::Chunked => field(out, "transfer-encoding", b"chunked"),
    }
    out.extend_from_slice(b"\r\n");
}

/// The head of a request that no client sent: to warm up whoever gets it.
pub fn of_our_own(method: &str, target: &str, host: &str, https: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(OWN);
    line(&mut out, &[method, " ", target, " HTTP/1.1\r\nhost: ", host].map(str::as_bytes));
    field(&mut out, "user-agent", concat!("cutover-warm/", env!("CARGO_PKG_VERSION")).as_bytes());
    field(&mut out, "accept", b"*/*");
    field(&mut out, X_FORWARDED_PROTO.as_str(), if https { b"https" } else { b"http" });
    field(&mut out, X_FORWARDED_HOST.as_str(), host.as_bytes());
    field(&mut out, X_REQUEST_ID.as_str(), RequestId::make().as_bytes());
    field(&mut out, WARM.as_str(), b"1");
    out.extend_from_slice(b"\r\n");
    out
}

/// Whether a field goes on as it is. What ends at this hop does not (RFC 9110, 7.6.1), nor what the proxy says itself.
fn passes(name: &HeaderName, value: &HeaderValue, vetted: Vetted, client: &Client, headers: &HeaderMap) -> bool {
    let text = name.as_str();
    let kept = match text {
        // The body is framed anew, from what it really is; the target's authority is the host.
        "host" | "content-length" | "transfer-encoding" => false,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "upgrade" | "http2-settings" => false,
        "proxy-authorization" | "forwarded" | "x-forwarded-for" | "x-request-id" => false,
        // A client's invitation is for the proxy alone, and only the proxy marks what is its own.
        "cutover-preview" | "cutover-probe" | "cutover-mirror" | "cutover-warm" => false,
        // Scripts behind CGI read it as HTTP_PROXY, and go through whatever it names (CVE-2016-5385).
        "proxy" => false,
        "cookie" => vetted.cookies == 1,
        // It has been answered here, when the body was asked for (RFC 9110, 10.1.1).
        "expect" => !value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
        _ if text.starts_with(FORWARDED) => client.trusted,
        _ if vetted.claims && !client.trusted && client.edge.proxy_fields.hold(text) => false,
        _ => !vetted.underscores || !is_alias(text),
    };
    kept && !(vetted.nominates && is_nominated(text, headers))
}

/// Whether Connection names the field. What the proxy itself says stays: nobody may strip that.
fn is_nominated(name: &str, headers: &HeaderMap) -> bool {
    !OURS.contains(&name)
        && tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
}

/// Says who the client is. A trusted proxy's word is kept, and its own address added; anyone else's is replaced.
fn tell_of(client: &Client, host: &str, headers: &HeaderMap, out: &mut Vec<u8>) {
    if client.edge.forwarded {
        tell_by_the_standard(client, host, headers, out);
    }
    if !client.trusted {
        out.extend_from_slice(&client.fields);
        return field(out, X_FORWARDED_HOST.as_str(), host.as_bytes());
    }
    let is_told = |name: HeaderName| headers.contains_key(name);
    join(out, X_FORWARDED_FOR, headers, b", ", Some(&client.address));
    if !is_told(X_FORWARDED_PROTO) {
        field(out, X_FORWARDED_PROTO.as_str(), client.proto.as_bytes());
    }
    if !is_told(X_FORWARDED_HOST) {
        field(out, X_FORWARDED_HOST.as_str(), host.as_bytes());
    }
    if !is_told(X_FORWARDED_PORT) {
        field(out, X_FORWARDED_PORT.as_str(), client.port.as_bytes());
    }
}

/// Forwarded (RFC 7239): an IPv6 address stands in brackets, and with the brackets and colons in quotes, like a port.
fn tell_by_the_standard(client: &Client, host: &str, headers: &HeaderMap, out: &mut Vec<u8>) {
    line_begins(out, &header::FORWARDED);
    let before = headers.get_all(header::FORWARDED).iter().filter(|_| client.trusted);
    before.for_each(|value| out.extend_from_slice(&[value.as_bytes(), b", "].concat()));
    let address = client.address.as_bytes();
    let (open, close): (&[u8], &[u8]) = if address.contains(&b':') { (b"\"[", b"]\"") } else { (b"", b"") };
    line(out, &[b"for=", open, address, close, b";host=\"", host.as_bytes(), b"\";proto=", client.proto.as_bytes()]);
}

/// Whether both sides may talk at the same time, so that neither may be kept waiting for the other's end: gRPC.
pub fn streams_both_ways(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether trailers go on to the backend, in chunks since only they can have any (RFC 9112, 7.1.2). A body whose length
/// is told goes by that, but for one over HTTP/2 that announces trailers behind it.
pub fn trails(head: &request::Parts) -> bool {
    let has = |name| head.headers.contains_key(name);
    !has(header::CONTENT_LENGTH) || head.version == Version::HTTP_2 && has(header::TRAILER)
}

/// Several lines of a field as one: HTTP/2 may split Cookie into crumbs, where HTTP/1.1 has one field (RFC 9113, 8.2.3).
fn join(out: &mut Vec<u8>, name: HeaderName, headers: &HeaderMap, between: &[u8], last: Option<&HeaderValue>) {
    line_begins(out, &name);
    for (place, value) in headers.get_all(name).iter().chain(last).enumerate() {
        out.extend_from_slice(if place == 0 { b"" } else { between });
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn line_begins(out: &mut Vec<u8>, name: &HeaderName) {
    [name.as_str().as_bytes(), b": "].iter().for_each(|part| out.extend_from_slice(part));
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    line(out, &[name.as_bytes(), b": ", value]);
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, length: u64) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "content-length: {length}\r\n");
}

fn is_trailers(member: &[u8]) -> bool {
    member.split(|byte| *byte == b';').next().is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn via(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_2 => b"2 cutover",
        Version::HTTP_11 => b"1.1 cutover",
        _ => b"1.0 cutover",
    }
}

/// Room for a head of our own: most fit.
const OWN: usize = 512;
/// Room for what is told of a client: an address of any kind fits.
const CLIENT: usize = 128;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::vet;
    use super::*;
    use crate::config::FieldNames;

    /// The lines a backend gets of this, by the client at this address.
    fn told(edge: Edge, address: &str, trusted: bool, fields: &[(&str, &str)]) -> Vec<String> {
        let mut request = Request::get("/").header("host", "[2001:db8::1]:8443");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let vetted = vet(&head, &edge).unwrap();
        let text = HeaderValue::from_static;
        let address = HeaderValue::from_str(address).unwrap();
        let client = Client::new(address, text("https"), text("8443"), trusted, Arc::new(edge));
        let mut out = Vec::new();
        to_backend(&head, vetted, &client, &RequestId::Kept(b"id"), Framing::None, &mut out);
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn only_a_trusted_proxy_may_say_what_backends_believe() {
        let claims = ["X-Real-IP", "x-client-ip", "True-Client-IP", "X_Real_IP", "X-Original-URL", "x-rewrite_url"];
        let fields: Vec<_> = claims.iter().map(|name| (*name, "10.0.0.1")).chain([("x-plain-ip", "kept")]).collect();
        let kept = |edge: Edge, trusted| {
            let lines = told(edge, "192.0.2.7", trusted, &fields);
            lines.iter().filter(|line| line.ends_with(": 10.0.0.1")).count()
        };
        assert_eq!(kept(Edge::default(), false), 0);
        assert_eq!(kept(Edge::default(), true), claims.len());
        let none = Edge { proxy_fields: FieldNames::new([]), ..Edge::default() };
        assert_eq!(kept(none, false), claims.len());
        let one = Edge { proxy_fields: FieldNames::new(["X-Real-IP".to_owned()]), ..Edge::default() };
        assert_eq!(kept(one, false), claims.len() - 2, "in both spellings");
        assert!(told(Edge::default(), "192.0.2.7", false, &fields).contains(&"x-plain-ip: kept".to_owned()));
    }

    #[test]
    fn forwarded_is_written_as_the_standard_has_it_where_it_is_asked_for() {
        let forwarded = |on, address, trusted, fields: &[(&str, &str)]| {
            let lines = told(Edge { forwarded: on, ..Edge::default() }, address, trusted, fields);
            lines.into_iter().filter(|line| line.starts_with("forwarded: ")).collect::<Vec<_>>()
        };
        let was = [("forwarded", "for=203.0.113.9"), ("forwarded", "for=\"[2001:db8::9]\";by=_a")];
        for trusted in [false, true] {
            assert!(forwarded(false, "192.0.2.7", trusted, &was).is_empty());
        }
        let host = "host=\"[2001:db8::1]:8443\";proto=https";
        assert_eq!(forwarded(true, "192.0.2.7", false, &was), [format!("forwarded: for=192.0.2.7;{host}")]);
        assert_eq!(forwarded(true, "2001:db8::7", false, &[]), [format!("forwarded: for=\"[2001:db8::7]\";{host}")]);
        assert_eq!(
            forwarded(true, "192.0.2.7", true, &was),
            [format!("forwarded: for=203.0.113.9, for=\"[2001:db8::9]\";by=_a, for=192.0.2.7;{host}")]
        );
    }
}
