//! What may pass: pure functions over heads, one for what comes in, one for what goes to a backend, one for what comes back.

mod answer;
mod backend;
mod request;

use http::header::{self, HeaderMap, HeaderName};

pub use self::answer::{clean_trailers, close, to_client, vet_answer};
pub use self::backend::{Client, frame, streams_both_ways, to_backend};
pub use self::request::{host, vet, vet_length};

/// The members of a comma-separated field, over all its lines.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Drops the fields that Connection names. What the proxy itself sets stays whatever it says: without it the message is
/// another one, or comes from somebody else.
fn drop_nominated(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| *name != header::HOST && *name != header::TE && !OURS.contains(&name.as_str()))
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
/// What RFC 9113, 6.5.2 adds to a field's name and value.
const PER_FIELD: usize = 32;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, Request, Version, request};
    use http_body::Frame;

    use super::*;
    use crate::config::EdgeLimits;

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
        let vetted = vet(&head, &EdgeLimits::default()).unwrap();
        to_backend(&mut head, vetted, &client());
        head
    }

    fn client() -> Client {
        let text = HeaderValue::from_static;
        Client { address: text("192.0.2.7"), proto: text("https"), port: text("443"), trusted: false }
    }

    const V11: Version = Version::HTTP_11;
    const V2: Version = Version::HTTP_2;

    #[test]
    fn what_is_ambiguous_is_refused() {
        let long = "x".repeat(EdgeLimits::default().target);
        let large = "x".repeat(EdgeLimits::default().head);
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
            let refused = vet(&head(*version, method, target, fields), &EdgeLimits::default()).unwrap_err();
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
                vet(&head(version, method, target, fields), &EdgeLimits::default()).is_ok(),
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
        let asks =
            |fields: &[(&str, &str)]| vet(&head(V11, "GET", "/", fields), &EdgeLimits::default()).unwrap().websocket;
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
