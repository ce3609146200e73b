//! Any head: what is let through is unambiguous, and says about the client and the framing only what the proxy says.
#![no_main]

use std::sync::Arc;

use cutover::config::{Edge, EdgeLimits};
use cutover::proxy::headers::{self, Client, Framing, RequestId};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, text)) = data.split_first() else { return };
    let Some(head) = read(version(*mode), text) else { return };
    let Ok(vetted) = headers::vet(&head, &Edge::default()) else { return };
    let (client, id, mut out) = (client(mode.is_ascii_lowercase()), RequestId::of(&head.headers, vetted), Vec::new());
    headers::to_backend(&head, vetted, &client, &id, Framing::Length(7), &mut out);
    // What a backend makes of it; a strict one, in which nothing is left behind the head.
    let sent = read(Version::HTTP_11, &out).unwrap_or_else(|| panic!("no head: {}", out.escape_ascii()));
    assert_eq!(out.windows(4).position(|four| four == b"\r\n\r\n"), Some(out.len() - 4), "{}", out.escape_ascii());
    target_is_plain(&sent, &head);
    host_is_one(&sent.headers, headers::host(&head));
    hop_has_ended(&sent.headers, &head.headers, vetted.websocket);
    client_is_told_once(&sent.headers, &head.headers, client.trusted);
    the_rest_is_as_it_came(&sent.headers, &head.headers);
    let limits = EdgeLimits { head: usize::MAX, fields: usize::MAX, ..EdgeLimits::default() };
    let again = headers::vet(&sent, &Edge { limits, ..Edge::default() });
    assert!(again.is_ok(), "what is sent would itself be refused: {again:?} of {}", out.escape_ascii());
});

/// As hyper reads it; nothing where it could not.
fn read(version: Version, text: &[u8]) -> Option<request::Parts> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Request::new(&mut fields);
    parsed.parse(text).ok().filter(httparse::Status::is_complete)?;
    let mut head = Request::new(()).into_parts().0;
    head.method = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    head.uri = Uri::try_from(parsed.path?).ok()?;
    head.version = version;
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        head.headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(head)
}

fn version(mode: u8) -> Version {
    match mode.to_ascii_uppercase() {
        b'A' => Version::HTTP_10,
        b'C' => Version::HTTP_2,
        _ => Version::HTTP_11,
    }
}

fn client(trusted: bool) -> Client {
    let text = HeaderValue::from_static;
    Client::new(text("192.0.2.7"), text("https"), text("443"), trusted, Arc::default())
}

fn target_is_plain(sent: &request::Parts, came: &request::Parts) {
    assert!(sent.uri.scheme().is_none() && sent.uri.authority().is_none(), "{}", sent.uri);
    let is_path = sent.uri.path().starts_with('/') || (sent.uri.path() == "*" && sent.method == Method::OPTIONS);
    assert!(is_path && sent.uri.to_string().len() <= EdgeLimits::default().target, "{}", sent.uri);
    assert!(sent.method != Method::CONNECT && sent.method != Method::TRACE, "{}", sent.method);
    assert_eq!((&sent.method, sent.uri.query()), (&came.method, came.uri.query()));
}

fn host_is_one(headers: &HeaderMap, host: &str) {
    assert_eq!(values(headers, "host"), [host.as_bytes()]);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    assert!(host.bytes().all(plain), "{host:?}");
    let colons = host.rsplit(']').next().unwrap_or_default().matches(':').count();
    assert!(colons <= 1, "{host:?} could be read as another one");
}

fn hop_has_ended(sent: &HeaderMap, came: &HeaderMap, websocket: bool) {
    for name in ["transfer-encoding", "keep-alive", "proxy-connection", "http2-settings", "proxy-authorization"] {
        assert!(!sent.contains_key(name), "{name} is passed on");
    }
    for name in sent.keys() {
        let dashed = name.as_str().replace('_', "-");
        let ours = ["cutover-preview", "cutover-probe", "cutover-mirror", "cutover-warm"];
        assert!(!ours.contains(&dashed.as_str()), "{name} is passed on");
    }
    only(sent, "content-length", Some(b"7"));
    only(sent, "connection", websocket.then_some(&b"upgrade"[..]));
    only(sent, "upgrade", websocket.then_some(&b"websocket"[..]));
    only(sent, "te", sent.contains_key("te").then_some(&b"trailers"[..]));
    assert!(values(sent, "cookie").len() <= 1);
    for line in came.get_all(header::CONNECTION) {
        for token in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let Ok(name) = HeaderName::from_bytes(token) else { continue };
            let may = SET.contains(&name.as_str()) || ["te", "connection", "upgrade"].contains(&name.as_str());
            assert!(may || !sent.contains_key(&name), "{name} was nominated and is passed on");
        }
    }
}

fn client_is_told_once(sent: &HeaderMap, came: &HeaderMap, trusted: bool) {
    assert!(!sent.contains_key("forwarded"));
    let told = values(sent, "x-forwarded-for");
    assert!(told.len() == 1 && told[0].ends_with(b"192.0.2.7") && (trusted || told[0].len() == 9), "{told:?}");
    for (name, ours) in [("proto", &b"https"[..]), ("port", b"443"), ("host", sent["host"].as_bytes())] {
        let name = format!("x-forwarded-{name}");
        match trusted && came.contains_key(&*name) {
            true => assert_eq!(values(sent, &name), values(came, &name)),
            false => only(sent, &name, Some(ours)),
        }
    }
    let ids = values(sent, "x-request-id");
    assert!(ids.len() == 1 && (1..=128).contains(&ids[0].len()) && ids[0].iter().all(u8::is_ascii_graphic), "{ids:?}");
    for name in sent.keys().filter(|name| name.as_str().contains('_')) {
        let dashed = name.as_str().replace('_', "-");
        assert!(!SET.contains(&&*dashed) || dashed == "host" || dashed == "via", "{name} would be read as {dashed}");
    }
}

fn the_rest_is_as_it_came(sent: &HeaderMap, came: &HeaderMap) {
    for name in sent.keys().filter(|name| !SET.contains(&name.as_str())) {
        if !["connection", "upgrade", "te", "cookie"].contains(&name.as_str()) {
            let mut expected = values(came, name.as_str());
            // 100-continue has been answered here; another expectation beside it has not.
            expected.retain(|value| name != "expect" || !value.eq_ignore_ascii_case(b"100-continue"));
            assert_eq!(values(sent, name.as_str()), expected, "{name}");
        }
    }
}

fn values<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

fn only(headers: &HeaderMap, name: &str, value: Option<&[u8]>) {
    assert_eq!(values(headers, name), value.into_iter().collect::<Vec<_>>(), "{name}");
}

/// What the proxy says itself, whatever Connection says of it.
const SET: [&str; 10] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-request-id",
    "forwarded",
    "via",
    "content-length",
    "transfer-encoding",
];
