//! A set of field names, looked up for every field of every request: what is not in it is most often told by its length.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::names::BadName;

/// Names of fields, in lower case.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldNames {
    names: Box<[Box<str>]>,
    /// A bit for the length of each name.
    lengths: u64,
}

impl FieldNames {
    pub fn new(names: impl IntoIterator<Item = String>) -> FieldNames {
        let names: Box<[Box<str>]> = names.into_iter().map(|name| name.to_ascii_lowercase().into()).collect();
        let lengths = names.iter().fold(0, |bits, name| bits | bit(name.len()));
        FieldNames { names, lengths }
    }

    /// Whether a name of this length may be in it.
    pub fn may_hold(&self, length: usize) -> bool {
        self.lengths & bit(length) != 0
    }

    /// Whether it holds this name in lower case; `_` is as good as `-`, as many backends take it.
    pub fn hold(&self, name: &str) -> bool {
        let dashed = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        self.may_hold(name.len()) && self.names.iter().any(|held| held.bytes().eq(dashed.clone()))
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }
}

/// What backends and their frameworks are known to believe of a client, or to route by, and only a proxy may say.
impl Default for FieldNames {
    fn default() -> FieldNames {
        FieldNames::new(BELIEVED.map(str::to_owned))
    }
}

impl fmt::Debug for FieldNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for FieldNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// One name of a field (RFC 9110, 5.1) that is not one the proxy handles itself.
pub struct FieldName(pub String);

impl FromStr for FieldName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<FieldName, Self::Err> {
        let name = text.to_ascii_lowercase();
        let is_name = http::HeaderName::from_bytes(name.as_bytes()).is_ok() && !name.contains('_');
        match () {
            () if !is_name => Err(BadName(format!(
                "`{text}` is not the name of a field: write letters, digits and `-`, such as `X-Real-IP`"
            ))),
            () if NEEDED.contains(&name.as_str()) => {
                Err(BadName(format!("requests cannot do without `{text}`: remove it, the proxy looks after it itself")))
            }
            () => Ok(FieldName(name)),
        }
    }
}

fn bit(length: usize) -> u64 {
    1 << (length % 64)
}

const BELIEVED: [&str; 17] = [
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-original-forwarded-for",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-forwarded",
    "x-envoy-original-path",
];
/// Without them no request would be what it was.
const NEEDED: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "expect", "cookie"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_however_it_is_spelt_and_no_other() {
        let names = FieldNames::default();
        for name in ["x-real-ip", "x_real_ip", "x-original_url", "true-client-ip"] {
            assert!(names.hold(name), "{name}");
        }
        for name in ["x-real-i", "x-real-ipp", "user-agent", "x-request-id", "x-client-it", "accept"] {
            assert!(!names.hold(name), "{name}");
        }
        assert!(!FieldNames::new([]).hold("x-real-ip"));
    }

    #[test]
    fn only_names_of_fields_are_taken() {
        for good in ["X-Real-IP", "x-9"] {
            assert_eq!(good.parse::<FieldName>().map(|it| it.0).ok(), Some(good.to_ascii_lowercase()));
        }
        for bad in ["", "x real", "x_real", "x:", "Host", "transfer-encoding"] {
            assert!(bad.parse::<FieldName>().is_err(), "{bad}");
        }
    }
}
