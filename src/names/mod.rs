//! The names of things: text becomes one of these types at the edge and is never checked again.

mod dns;

use std::fmt;
use std::ops::{Index, IndexMut};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::dns::{DnsName, RecordType, Side};

/// One of the two sides a service can be served from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    Blue,
    Green,
}

impl Color {
    pub const BOTH: [Color; 2] = [Color::Blue, Color::Green];

    pub fn other(self) -> Color {
        match self {
            Color::Blue => Color::Green,
            Color::Green => Color::Blue,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Color::Blue => "blue",
            Color::Green => "green",
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Color {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Color, BadName> {
        match text {
            "blue" => Ok(Color::Blue),
            "green" => Ok(Color::Green),
            _ => Err(BadName(format!("`{text}` is not a color: write `blue` or `green`"))),
        }
    }
}

/// One value for each color, indexed by [`Color`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerColor<T> {
    pub blue: T,
    pub green: T,
}

impl<T> PerColor<T> {
    pub fn from_fn(mut make: impl FnMut(Color) -> T) -> PerColor<T> {
        PerColor { blue: make(Color::Blue), green: make(Color::Green) }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Color, &T)> {
        [(Color::Blue, &self.blue), (Color::Green, &self.green)].into_iter()
    }
}

impl<T> Index<Color> for PerColor<T> {
    type Output = T;

    fn index(&self, color: Color) -> &T {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }
}

impl<T> IndexMut<Color> for PerColor<T> {
    fn index_mut(&mut self, color: Color) -> &mut T {
        match color {
            Color::Blue => &mut self.blue,
            Color::Green => &mut self.green,
        }
    }
}

/// The name of a service: 1 to 63 characters of `a-z`, `0-9` and `-`, beginning with a letter.
///
/// It stands in metric labels, URLs and journal lines, so it is as plain as a DNS label (RFC 1035, 2.3.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ServiceName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<ServiceName, BadName> {
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        if plain && starts && text.len() <= 63 && !text.ends_with('-') {
            return Ok(ServiceName(text.to_owned()));
        }
        Err(BadName(format!(
            "`{text}` is not a service name: write 1 to 63 of a-z, 0-9 and `-`, beginning with a letter"
        )))
    }
}

impl TryFrom<String> for ServiceName {
    type Error = BadName;

    fn try_from(text: String) -> Result<ServiceName, BadName> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> String {
        name.0
    }
}

/// A host a service answers for: an exact name, or `*.` and a suffix that stands for any name below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub enum HostPattern {
    /// `shop.example.com`, in lower case, without a port.
    Exact(String),
    /// `*.shop.example.com`, kept as `shop.example.com`; it matches names with at least one more label.
    Below(String),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl From<HostPattern> for String {
    fn from(host: HostPattern) -> String {
        host.to_string()
    }
}

impl FromStr for HostPattern {
    type Err = BadName;

    fn from_str(text: &str) -> Result<HostPattern, BadName> {
        let lower = text.to_ascii_lowercase();
        let (name, below) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (lower.as_str(), false),
        };
        let bracketed = name.starts_with('[') && name.ends_with(']') && !below;
        let v6 = bracketed && name[1..name.len() - 1].parse::<std::net::Ipv6Addr>().is_ok();
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if v6 || (name.len() <= 253 && name.split('.').all(label)) {
            let name = name.to_owned();
            return Ok(if below { HostPattern::Below(name) } else { HostPattern::Exact(name) });
        }
        Err(BadName(format!(
            "`{text}` is not a host: write a name such as `shop.example.com` or `*.example.com`, without scheme, port or path"
        )))
    }
}

/// The beginning of a path a service answers for; it matches whole segments, so `/api` takes `/api/x` but not `/apix`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PathPrefix(String);

impl PathPrefix {
    pub fn root() -> PathPrefix {
        PathPrefix("/".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, path: &str) -> bool {
        let prefix = self.0.as_bytes();
        let path = path.as_bytes();
        // Kept without a trailing slash, the root excepted, so one look at the byte behind the prefix decides.
        prefix.len() == 1 || (path.starts_with(prefix) && matches!(path.get(prefix.len()), None | Some(b'/')))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PathPrefix {
    type Err = BadName;

    fn from_str(text: &str) -> Result<PathPrefix, BadName> {
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'*' | b'"' | b'\\'));
        if !text.starts_with('/') || !plain || text.contains("//") {
            return Err(BadName(format!(
                "`{text}` is not a path: begin with `/` and write no query, no fragment and no wildcard"
            )));
        }
        let kept = text.trim_end_matches('/');
        Ok(PathPrefix(if kept.is_empty() { "/".to_owned() } else { kept.to_owned() }))
    }
}

/// Why a text is not the name it was meant to be, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_is_a_plain_label() {
        for good in ["shop", "a", "shop-2", &"a".repeat(63)] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        for bad in ["", "Shop", "2shop", "shop_", "-shop", "shop-", "a.b", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_is_exact_or_below_a_suffix() {
        assert_eq!("Shop.Example.com".parse(), Ok(HostPattern::Exact("shop.example.com".into())));
        assert_eq!("*.example.com".parse(), Ok(HostPattern::Below("example.com".into())));
        assert_eq!("127.0.0.1".parse(), Ok(HostPattern::Exact("127.0.0.1".into())));
        assert_eq!("[::1]".parse(), Ok(HostPattern::Exact("[::1]".into())));
        for bad in ["", "*", "*.", "a..b", "http://a", "a:80", "a/b", "-a.b", "a.*.b", "[::x]", "*.[::1]"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_matches_whole_segments() {
        let api: PathPrefix = "/api/".parse().unwrap();
        assert_eq!(api.as_str(), "/api");
        assert!(api.matches("/api") && api.matches("/api/") && api.matches("/api/x"));
        assert!(!api.matches("/apix") && !api.matches("/") && !api.matches("/ap"));
        assert!(
            PathPrefix::root().matches("/") && PathPrefix::root().matches("/any") && PathPrefix::root().matches("*")
        );
        for bad in ["", "api", "/a?b", "/a#b", "/a b", "/a//b", "/*"] {
            assert!(bad.parse::<PathPrefix>().is_err(), "{bad:?}");
        }
    }
}
