//! Names in the DNS, and the types of what stands under them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{BadName, Color};

/// A whole domain name in lower case, without the final dot: `shop.example.com`, `*.shop.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name is that of the zone, or of something in it.
    pub fn is_in(&self, zone: &DnsName) -> bool {
        self == zone || self.0.strip_suffix(&zone.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// Where the mark of who owns this name stands: below it, since beside a CNAME nothing may stand, and in the same zone
    /// even at its top. A wildcard's is at a name of its own, which the wildcard does not reach.
    pub fn mark(&self) -> Result<DnsName, BadName> {
        match self.0.strip_prefix("*.") {
            Some(rest) => format!("_cutover._any.{rest}").parse(),
            None => format!("_cutover.{}", self.0).parse(),
        }
    }

    /// A name of which this one is the answer: itself, or one that a wildcard stands for.
    pub fn example(&self) -> DnsName {
        match self.0.strip_prefix("*.") {
            Some(rest) => DnsName(format!("cutover-asks.{rest}")),
            None => self.clone(),
        }
    }
}

impl FromStr for DnsName {
    type Err = BadName;

    /// RFC 1035, section 2.3.4: labels of 1 to 63 octets, 253 characters in all. `_` is allowed, as in service names; `*` only
    /// as the whole first label.
    fn from_str(text: &str) -> Result<DnsName, BadName> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let fits = |label: &str| {
            let known = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            (1..=63).contains(&label.len()) && known && !label.starts_with('-') && !label.ends_with('-')
        };
        let labels = name.strip_prefix("*.").unwrap_or(&name);
        match name.len() <= 253 && labels.split('.').all(fits) {
            true => Ok(DnsName(name)),
            false => Err(BadName(format!("`{text}` is not a domain name: write it whole, as in `shop.example.com`"))),
        }
    }
}

impl TryFrom<String> for DnsName {
    type Error = BadName;

    fn try_from(text: String) -> Result<DnsName, BadName> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> String {
        name.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where a name may lead: to one of the colors, or to the proxy in front of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Blue,
    Green,
    Proxy,
}

impl Side {
    pub const ALL: [Side; 3] = [Side::Blue, Side::Green, Side::Proxy];

    pub fn as_str(self) -> &'static str {
        match self {
            Side::Blue => "blue",
            Side::Green => "green",
            Side::Proxy => "proxy",
        }
    }
}

impl From<Color> for Side {
    fn from(color: Color) -> Side {
        match color {
            Color::Blue => Side::Blue,
            Color::Green => Side::Green,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Side {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Side, BadName> {
        let known = Side::ALL.into_iter().find(|side| side.as_str() == text);
        known.ok_or_else(|| BadName(format!("`{text}` is not a side: write `blue`, `green` or `proxy`")))
    }
}

/// The types of record that Cutover writes; everything else it only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    A,
    Aaaa,
    Cname,
    /// Only for the mark of who owns a set.
    Txt,
}

impl RecordType {
    pub fn as_str(self) -> &'static str {
        match self {
            RecordType::A => "A",
            RecordType::Aaaa => "AAAA",
            RecordType::Cname => "CNAME",
            RecordType::Txt => "TXT",
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whole_and_written_in_one_way() {
        for (text, name) in [
            ("Shop.Example.COM.", "shop.example.com"),
            ("*.shop.example.com", "*.shop.example.com"),
            ("_cutover.shop.example.com", "_cutover.shop.example.com"),
        ] {
            assert_eq!(text.parse::<DnsName>().unwrap().as_str(), name);
        }
        let long = vec!["a".repeat(63); 4].join(".");
        for text in ["", ".", "a..b", "a b", "-a.b", "a.*.b", "10.0.0.1:80", &"a".repeat(64), &long] {
            assert!(text.parse::<DnsName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_zone_holds_itself_and_what_is_under_it() {
        let name = |text: &str| text.parse::<DnsName>().unwrap();
        assert!(name("shop.example.com").is_in(&name("example.com")));
        assert!(name("example.com").is_in(&name("example.com")));
        assert!(!name("badexample.com").is_in(&name("example.com")));
        assert!(!name("com").is_in(&name("example.com")));
    }
}
