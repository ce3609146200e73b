//! Cookies and fields of the proxy's own: read off a request, kept from the backend, put on an answer.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri, request};

use super::Vetted;
use super::tokens;

/// The values of every cookie of this name, over all lines.
pub fn cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let crumbs = headers.get_all(header::COOKIE).into_iter().flat_map(|line| crumbs(line.as_bytes()));
    crumbs.filter_map(move |crumb| value_of(crumb, name))
}

/// The value of this parameter in the target's query.
pub fn parameter<'u>(uri: &'u Uri, name: &str) -> Option<&'u str> {
    uri.query()?.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// Path and query without this parameter, as a target on the same host, whatever the path begins with.
pub fn without_parameter(uri: &Uri, name: &str) -> String {
    let is_ours = |part: &&str| part.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
    let rest: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(|part| !is_ours(part)).collect();
    // `//other.test/` would lead to another host, and browsers read a backslash as a slash.
    let path = match uri.path().as_bytes() {
        [b'/', b'/' | b'\\', ..] => format!("/.{}", uri.path()),
        [] => "/".to_owned(),
        _ => uri.path().to_owned(),
    };
    if rest.join("").is_empty() { path } else { format!("{path}?{}", rest.join("&")) }
}

/// The head without cookies of these names, which are between the client and the proxy; nothing where there is none of
/// them. What is left of the cookies is counted anew.
pub fn without_cookies(head: &request::Parts, names: [&str; 2], vetted: &mut Vetted) -> Option<Box<request::Parts>> {
    if names.iter().all(|name| cookies(&head.headers, name).next().is_none()) {
        return None;
    }
    let mut headers = head.headers.clone();
    headers.remove(header::COOKIE);
    for line in head.headers.get_all(header::COOKIE) {
        let kept = crumbs(line.as_bytes()).filter(|crumb| names.iter().all(|name| value_of(crumb, name).is_none()));
        let kept = kept.collect::<Vec<_>>().join(&b"; "[..]);
        // A piece of a value is a value.
        if let (false, Ok(kept)) = (kept.is_empty(), HeaderValue::from_bytes(&kept)) {
            headers.append(header::COOKIE, kept);
        }
    }
    vetted.cookies = headers.get_all(header::COOKIE).iter().count();
    let (mut clean, ()) = Request::new(()).into_parts();
    (clean.method, clean.uri, clean.version) = (head.method.clone(), head.uri.clone(), head.version);
    clean.headers = headers;
    Some(Box::new(clean))
}

/// An answer that sets a client's own cookie is for nobody else: a cache that handed it on would make one client of many.
/// What the backend said of shared caches goes, what it said of the client's own stays.
pub fn make_private(headers: &mut HeaderMap) {
    FOR_CACHES.iter().for_each(|name| drop(headers.remove(name)));
    if tokens(headers, header::CACHE_CONTROL).any(|it| is_directive(it, "private") || is_directive(it, "no-store")) {
        return;
    }
    let for_shared = |it: &&[u8]| ["public", "s-maxage", "proxy-revalidate"].iter().any(|name| is_directive(it, name));
    let kept: Vec<&[u8]> = tokens(headers, header::CACHE_CONTROL).filter(|it| !for_shared(it)).collect();
    let all = [&kept[..], &[b"private"]].concat().join(&b", "[..]);
    let value = HeaderValue::from_bytes(&all).unwrap_or(HeaderValue::from_static("private"));
    headers.insert(header::CACHE_CONTROL, value);
}

/// Nobody keeps the answer: under the same address others see something else, and the client itself later on.
pub fn make_fleeting(headers: &mut HeaderMap) {
    FOR_CACHES.iter().for_each(|name| drop(headers.remove(name)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// An invitation as a field of a request.
pub const PREVIEW: HeaderName = HeaderName::from_static("cutover-preview");
/// By it the proxy knows a probe of its own.
pub const PROBE: HeaderName = HeaderName::from_static("cutover-probe");
/// Tells a backend that the request is a copy.
pub const MIRROR: HeaderName = HeaderName::from_static("cutover-mirror");
/// Tells a backend that nobody waits for the answer: the request is the proxy's own, to warm it up.
pub const WARM: HeaderName = HeaderName::from_static("cutover-warm");
/// Tells who previews which color the answer is from.
pub const COLOR: HeaderName = HeaderName::from_static("cutover-color");

fn crumbs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|crumb| !crumb.is_empty())
}

fn value_of<'c>(crumb: &'c [u8], name: &str) -> Option<&'c [u8]> {
    crumb.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

fn is_directive(token: &[u8], name: &str) -> bool {
    let said = token.split(|byte| *byte == b'=').next().unwrap_or_default();
    said.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}

/// What some caches obey before Cache-Control (RFC 9213; Surrogate-Control is its elder).
const FOR_CACHES: [HeaderName; 2] =
    [HeaderName::from_static("cdn-cache-control"), HeaderName::from_static("surrogate-control")];

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let request = fields.iter().fold(Request::get(target), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn cookies_are_found_in_every_line_by_their_whole_name() {
        let head = head("/", &[("cookie", "a=1; ours=2;ours=3"), ("cookie", "xours=4; ours=; oursx=5; ours")]);
        let found: Vec<_> = cookies(&head.headers, "ours").collect();
        assert_eq!(found, [&b"2"[..], b"3", b""]);
    }

    #[test]
    fn a_backend_sees_none_of_our_cookies_and_everything_else() {
        let clean = |fields: &[(&str, &str)]| {
            let mut vetted = Vetted { cookies: 7, ..Vetted::default() };
            let clean = without_cookies(&head("/x?y", fields), ["ours", "too"], &mut vetted)?;
            assert_eq!((clean.uri.to_string().as_str(), clean.headers.contains_key("host")), ("/x?y", true));
            Some((lines(&clean.headers, "cookie"), vetted.cookies))
        };
        let host = ("host", "a");
        assert_eq!(clean(&[host]), None);
        assert_eq!(clean(&[host, ("cookie", "a=1; b=2")]), None, "nothing to take off");
        assert_eq!(clean(&[host, ("cookie", "ours=1")]), Some((vec![], 0)));
        assert_eq!(clean(&[host, ("cookie", "a=1;ours=1;  b=\"x\"; too=2")]), Some((vec!["a=1; b=\"x\"".into()], 1)));
        let crumbs = [host, ("cookie", "a=1"), ("cookie", "ours=1"), ("cookie", "b=2")];
        assert_eq!(clean(&crumbs), Some((vec!["a=1".into(), "b=2".into()], 2)));
    }

    #[test]
    fn a_parameter_is_found_and_taken_off_without_leading_elsewhere() {
        for (target, value, rest) in [
            ("/?p=1", Some("1"), "/"),
            ("/a/b?x=1&p=2&y=3", Some("2"), "/a/b?x=1&y=3"),
            ("/?xp=1&p", None, "/?xp=1&p"),
            ("/?p=&p=2", Some(""), "/"),
            ("/", None, "/"),
            ("//other.test/x?p=1", Some("1"), "/.//other.test/x"),
            ("/\\other.test?p=1", Some("1"), "/./\\other.test"),
            ("http://a.test?p=1", Some("1"), "/"),
        ] {
            let uri: Uri = target.parse().unwrap();
            assert_eq!((parameter(&uri, "p"), without_parameter(&uri, "p").as_str()), (value, rest), "{target}");
        }
    }

    #[test]
    fn what_sets_a_cookie_is_kept_by_no_shared_cache() {
        for (before, after) in [
            (&[][..], "private"),
            (&["max-age=60"], "max-age=60, private"),
            (&["public, max-age=60", "s-maxage=600"], "max-age=60, private"),
            (&["Private, max-age=60"], "Private, max-age=60"),
            (&["no-store"], "no-store"),
            (&["no-cache=\"a, b\", public"], "no-cache=\"a, b\", private"),
        ] {
            let fields: Vec<_> = before.iter().map(|line| ("cache-control", *line)).collect();
            let mut headers = head("/", &fields).headers;
            headers.insert("surrogate-control", HeaderValue::from_static("max-age=600"));
            make_private(&mut headers);
            assert_eq!(lines(&headers, "cache-control"), [after]);
            assert!(!headers.contains_key("surrogate-control"));
            make_fleeting(&mut headers);
            assert_eq!(lines(&headers, "cache-control"), ["no-store"]);
        }
    }
}
