//! What may pass: pure functions over heads, one for what comes in, one for what goes to a backend, one for what comes back.

mod answer;
mod backend;
mod ours;
mod request;

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName};

pub use self::answer::{Extent, Reply, clean_trailers, close, read, switched};
pub use self::backend::{Client, Framing, RequestId, frame, of_our_own, streams_both_ways, to_backend, trails};
pub use self::ours::{
    COLOR, MIRROR, PREVIEW, PROBE, WARM, cookies, make_fleeting, make_private, parameter, without_cookies,
    without_parameter,
};
pub use self::request::{Vetted, host, vet, vet_length};
use crate::config::FieldNames;

/// The members of a comma-separated field, over all its lines; one that is no text does not hide the others.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().flat_map(|line| members(line.as_bytes()))
}

/// The addresses that proxies name as those they speak for, the nearest to us last.
pub fn forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = IpAddr> {
    tokens(headers, X_FORWARDED_FOR).filter_map(|token| std::str::from_utf8(token).ok()?.parse().ok())
}

fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// Drops what would speak for the proxy, under whatever name, and names that HTTP/1.1 could not have.
fn drop_what_misleads(headers: &mut HeaderMap) {
    let believed = FieldNames::default();
    let is_claim = |name: &&HeaderName| {
        let name = name.as_str();
        name.starts_with(FORWARDED) || is_alias(name) || believed.hold(name) || is_odd(name)
    };
    let claims: Vec<HeaderName> = headers.keys().filter(is_claim).cloned().collect();
    claims.iter().for_each(|name| drop(headers.remove(name)));
}

/// What HTTP/2 lets through and no token may have (RFC 9110, 5.6.2).
fn is_odd(name: &str) -> bool {
    name.contains('"')
}

/// Many backends read `X_Forwarded_For` as `X-Forwarded-For`: what the proxy says, about the client or the framing, must
/// not be contradicted that way, nor what stops here slip past it.
fn is_alias(name: &str) -> bool {
    let dashed = |name: &[u8], ours: &str| ours.bytes().eq(name.iter().map(|b| if *b == b'_' { b'-' } else { *b }));
    let (name, begin) = (name.as_bytes(), name.as_bytes().get(..FORWARDED.len()).unwrap_or_default());
    name.contains(&b'_')
        && (OURS.iter().chain(&STOPS_HERE).chain(&MARKS).any(|ours| dashed(name, ours)) || dashed(begin, FORWARDED))
}

/// Whom a proxy says it speaks for.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
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
/// How the fields begin that tell of a client what only a proxy can know, such as X-Forwarded-Ssl.
const FORWARDED: &str = "x-forwarded-";
/// Fields of the client's hop that some backends take for more.
const STOPS_HERE: [&str; 4] = ["proxy-authorization", "proxy-connection", "keep-alive", "http2-settings"];
/// Fields between the client and the proxy, and those by which a backend knows a request of the proxy's own.
const MARKS: [&str; 4] = ["cutover-preview", "cutover-probe", "cutover-mirror", "cutover-warm"];
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
/// What RFC 9113, 6.5.2 adds to a field's name and value.
const PER_FIELD: usize = 32;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderValue, Method, Request, Version, request};
    use http_body::Frame;

    use super::*;
    use crate::config::{Edge, EdgeLimits, Limits};

    /// A head from its request line and fields.
    fn head(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().version(version).method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn sent(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> request::Parts {
        sent_by(&client(), version, method, target, fields)
    }

    /// What the backend reads of it, with a strict parser.
    fn sent_by(by: &Client, version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let out = passed(&head(version, method, target, fields), by);
        let mut parsed = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut parsed);
        assert_eq!(request.parse(out.as_bytes()).unwrap(), httparse::Status::Complete(out.len()));
        assert_eq!(request.version, Some(1));
        let fields = request.headers.iter().map(|it| (it.name, std::str::from_utf8(it.value).unwrap()));
        head(V11, request.method.unwrap(), request.path.unwrap(), &fields.collect::<Vec<_>>())
    }

    fn passed(came: &request::Parts, by: &Client) -> String {
        let vetted = vet(came, &Edge::default()).unwrap();
        let mut out = Vec::new();
        to_backend(came, vetted, by, &RequestId::of(&came.headers, vetted), Framing::None, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn client() -> Client {
        let text = HeaderValue::from_static;
        Client::new(text("192.0.2.7"), text("https"), text("443"), false, Arc::default())
    }

    const HOST: (&str, &str) = ("host", "a");
    const V11: Version = Version::HTTP_11;
    const V2: Version = Version::HTTP_2;

    #[test]
    fn what_is_ambiguous_is_refused() {
        let long = "x".repeat(EdgeLimits::default().target);
        let large = "x".repeat(EdgeLimits::default().head);
        let names = "x,".repeat(EdgeLimits::default().fields);
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
            (V11, "GET", "/", &[("host", "[]")], "bad-request"),
            (V11, "GET", "/", &[("host", "[1.2]")], "bad-request"),
            (V2, "GET", "http://a?x", &[], "bad-request"),
            (V11, "GET", "*", &[("host", "a")], "bad-request"),
            (V11, "GET", "ftp://a/", &[("host", "a")], "bad-request"),
            (V11, "GET", "http://u@a/", &[("host", "a")], "bad-request"),
            (V2, "GET", "http://u@a/", &[], "bad-request"),
            (V11, "GET", "a:80", &[("host", "a")], "bad-request"),
            (V11, "CONNECT", "a:80", &[("host", "a")], "not-implemented"),
            (V11, "TRACE", "/", &[("host", "a")], "not-implemented"),
            (V11, "POST", "/", &[HOST, ("transfer-encoding", "chunked"), ("content-length", "3")], "bad-request"),
            (V11, "POST", "/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")], "not-implemented"),
            (V11, "POST", "/", &[("host", "a"), ("transfer-encoding", "xchunked")], "not-implemented"),
            (
                V11,
                "POST",
                "/",
                &[HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                "bad-request",
            ),
            (Version::HTTP_10, "POST", "/", &[("transfer-encoding", "chunked")], "bad-request"),
            (V11, "GET", &format!("/{long}"), &[("host", "a")], "target-too-long"),
            (V11, "GET", "/", &[("host", "a"), ("x", &large)], "head-too-large"),
            (V11, "GET", "/", &[("host", "a"), ("connection", &names)], "head-too-large"),
            (V11, &"A".repeat(65), "/", &[("host", "a")], "bad-request"),
        ];
        for (version, method, target, fields, reason) in cases {
            let refused = vet(&head(*version, method, target, fields), &Edge::default()).unwrap_err();
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
            assert!(
                vet(&head(version, method, target, fields), &Edge::default()).is_ok(),
                "{method} {target} {fields:?}"
            );
        }
    }

    #[test]
    fn the_targets_authority_wins_over_host_and_the_target_becomes_a_path() {
        for version in [V11, V2] {
            let sent = sent(version, "GET", "http://shop.test:81/x?y=1", &[("host", "other.test")]);
            assert_eq!(sent.uri, "/x?y=1");
            assert_eq!(sent.headers[header::HOST], "shop.test:81");
            assert_eq!(sent.headers[X_FORWARDED_HOST], "shop.test:81");
        }
        assert_eq!(sent(V11, "GET", "http://shop.test?y=1", &[("host", "a")]).uri, "/?y=1");
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
        let mut odd = head(V11, "GET", "/", &[("host", "a"), ("x-private", "1")]);
        odd.headers.insert(header::CONNECTION, HeaderValue::from_bytes(b"x-private, \xe9").unwrap());
        assert!(!passed(&odd, &client()).contains("x-private"), "what is no text hides nothing");
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
            ("x-forwarded-ssl", "on"),
            ("x_forwarded_scheme", "https"),
            ("proxy", "http://10.0.0.1/"),
            ("proxy_authorization", "Basic eA=="),
            ("x_mine", "kept"),
        ];
        let headers = sent(V11, "GET", "/", &fields).headers;
        let forwarded: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        assert_eq!(forwarded, ["192.0.2.7"]);
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_PORT], "443");
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let told = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];
        assert_eq!(names, [&["host", "via"][..], &told, &["x-request-id", "x_mine"]].concat());
    }

    #[test]
    fn only_the_proxy_marks_a_request_as_its_own() {
        for version in [V11, V2] {
            let fields = MARKS.map(|name| (name, "1"));
            let underscored = ["cutover_mirror", "cutover_warm", "cutover-x"].map(|name| (name, "1"));
            let headers = sent(version, "GET", "https://a/", &[&fields[..], &underscored, &[HOST]].concat()).headers;
            let names: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("cutover")).collect();
            assert_eq!(names, ["cutover-x"]);
        }
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
        let asks = |fields: &[(&str, &str)]| vet(&head(V11, "GET", "/", fields), &Edge::default()).unwrap().websocket;
        assert!(asks(&[("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]));
        assert!(!asks(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "h2c")]));
        assert!(!asks(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket, h2c")]));
        assert!(!asks(&[("host", "a"), ("connection", "close"), ("upgrade", "websocket")]));
        assert!(!asks(&[("host", "a"), ("upgrade", "websocket")]));
        let with =
            |name, value| asks(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket"), (name, value)]);
        assert!(with("content-length", "0") && !with("content-length", "3") && !with("transfer-encoding", "chunked"));
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_added_to() {
        let text = HeaderValue::from_static;
        let trusted = Client::new(text("192.0.2.7"), text("https"), text("443"), true, Arc::default());
        let told = [
            ("host", "a"),
            ("connection", "x-forwarded-for, x-forwarded-proto"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.test"),
            ("x_forwarded_proto", "gopher"),
        ];
        let headers = sent_by(&trusted, V11, "GET", "/", &told).headers;
        let all = |name| headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all(X_FORWARDED_FOR), ["203.0.113.9, 10.0.0.1, 192.0.2.7"]);
        assert_eq!(all(X_FORWARDED_PROTO), ["http"]);
        assert_eq!(all(X_FORWARDED_HOST), ["shop.test"]);
        assert_eq!(all(X_FORWARDED_PORT), ["443"], "what it does not tell is what we see");
        assert!(!headers.contains_key("x_forwarded_proto"));
    }

    /// What is read of an answer, or the reason it is refused for; and what is left behind it.
    fn answered(text: &str) -> (Result<Option<Reply>, &'static str>, usize) {
        let mut input = bytes::Bytes::copy_from_slice(text.as_bytes());
        let reply = read(&mut input, false, &Limits::default()).map_err(|refusal| refusal.reason());
        (reply, input.len())
    }

    fn reply(text: &str) -> Reply {
        answered(text).0.unwrap().unwrap()
    }

    #[test]
    fn answers_lose_what_concerned_the_backends_hop() {
        let reply = reply(
            "HTTP/1.1 200 Fine\r\nConnection: close, x-private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nContent-Length: 5\r\nX-Kept: 1\r\nX-Kept: 2\r\n\r\nhello",
        );
        let mut names: Vec<&str> = reply.response.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-kept"]);
        assert_eq!(reply.response.headers().get_all("x-kept").iter().count(), 2);
        assert!(reply.extent == Extent::Length(5) && !reply.keeps && !reply.websocket);
        let reason = reply.response.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Fine");
    }

    #[test]
    fn the_end_of_an_answer_is_where_http_says() {
        for (text, extent, keeps) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Extent::Length(5), true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Extent::Chunked, true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", Extent::Chunked, false),
            ("HTTP/1.1 200 OK\r\n\r\n", Extent::Close, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", Extent::Length(0), true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Extent::Length(0), true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Extent::Length(5), false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\n", Extent::Length(5), true),
            ("HTTP/1.1 200 OK\nContent-Length: 5\n\n", Extent::Length(5), true),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 \r\n\r\n",
                Extent::Length(0),
                true,
            ),
        ] {
            let reply = reply(text);
            assert_eq!((reply.extent, reply.keeps), (extent, keeps), "{text:?}");
            let has_length = reply.response.headers().contains_key(header::CONTENT_LENGTH);
            assert!(!(has_length && extent == Extent::Chunked), "a length beside chunks would cut the body");
        }
        let mut head = bytes::Bytes::from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let reply = read(&mut head, true, &Limits::default()).unwrap().unwrap();
        assert_eq!(reply.extent, Extent::Length(0), "the answer to HEAD has no body");
        assert_eq!(reply.response.headers()[header::CONTENT_LENGTH], "5");
    }

    #[test]
    fn an_answer_that_can_be_read_in_two_ways_is_refused() {
        let many = "X: 1\r\n".repeat(101);
        let long = format!("X: {}\r\n", "x".repeat(70_000));
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 5x\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "X: a\0b\r\n",
            "X: a\x01b\r\n",
            "X : 1\r\n",
            "X: 1\r\n folded\r\n",
            "X\r\n",
            " X: 1\r\n",
            &many,
            &long,
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert_eq!(answered(&text).0.err(), Some("bad-answer"), "{fields:.60}");
        }
        for head in [
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "hello\r\n\r\n",
        ] {
            assert_eq!(answered(head).0.err(), Some("bad-answer"), "{head:?}");
        }
    }

    #[test]
    fn an_answer_is_read_however_it_is_cut_and_no_further() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        for cut in 0..whole.len() {
            let (reply, left) = answered(&whole[..cut]);
            assert!(reply.unwrap().is_none() && left == cut);
        }
        assert_eq!(answered(&format!("{whole}hello")).1, 5);
    }

    #[test]
    fn a_body_is_framed_as_what_it_is() {
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::POST] {
            assert_eq!(frame(&method, Some(3)), Framing::Length(3), "{method}");
            assert_eq!(frame(&method, None), Framing::Chunked, "{method}");
        }
        assert_eq!(frame(&Method::GET, Some(0)), Framing::None);
        assert_eq!(frame(&Method::POST, Some(0)), Framing::Length(0));
        for (framing, says) in [
            (Framing::None, "via: 1.1 cutover\r\n\r\n"),
            (Framing::Length(3), "\r\ncontent-length: 3\r\n\r\n"),
            (Framing::Chunked, "\r\ntransfer-encoding: chunked\r\n\r\n"),
        ] {
            let fields = [("host", "a"), ("content-length", "7")];
            let (head, mut out) = (head(V11, "POST", "/", &fields), Vec::new());
            let vetted = vet(&head, &Edge::default()).unwrap();
            to_backend(&head, vetted, &client(), &RequestId::of(&head.headers, vetted), framing, &mut out);
            assert!(out.ends_with(says.as_bytes()), "{}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn trailers_cannot_say_what_belongs_into_a_head() {
        type Text = (&'static str, &'static str);
        let field = |(name, value): &Text| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let map = |fields: &[Text]| fields.iter().map(field).collect();
        let fields = [
            ("x-sum", "1"),
            ("host", "b"),
            ("transfer-encoding", "x"),
            ("x_forwarded_for", "x"),
            ("x-forwarded-ssl", "x"),
            ("x-real-ip", "x"),
            ("trailer", "x-sum"),
            ("cutover-warm", "1"),
            ("x\"sum", "1"),
        ];
        let clean = clean_trailers(Frame::trailers(map(&fields)), 1000).unwrap().into_trailers().unwrap();
        assert_eq!(clean.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum"]);
        assert!(clean_trailers(Frame::trailers(map(&[("x-sum", "1")])), 37).is_err());
    }
}
