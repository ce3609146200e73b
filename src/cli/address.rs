//! Where a proxy's admin API is: text becomes an address here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a proxy's admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String),
}

impl Address {
    /// What a request to it names as its host.
    pub fn host(&self) -> &str {
        match self {
            Address::Unix(_) => "cutover",
            Address::Tcp(authority) => authority,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let tcp = |authority: &str| {
            let authority = authority.parse::<http::uri::Authority>().ok()?;
            let plain =
                authority.port_u16().is_some() && !authority.host().is_empty() && !authority.as_str().contains('@');
            plain.then(|| Address::Tcp(authority.to_string()))
        };
        let unix = text.strip_prefix("unix:").filter(|path| !path.is_empty()).map(|path| Address::Unix(path.into()));
        let http = || text.strip_prefix("http://").and_then(|rest| tcp(rest.strip_suffix('/').unwrap_or(rest)));
        unix.or_else(http).ok_or_else(|| {
            format!("`{text}` is not an admin address: write --admin unix:PATH or --admin http://HOST:PORT (or CUTOVER_ADMIN)")
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(authority) => write!(f, "http://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_host_with_a_port() {
        let unix = |path: &str| Ok(Address::Unix(path.into()));
        let tcp = |authority: &str| Ok(Address::Tcp(authority.to_owned()));
        assert_eq!("unix:/run/a.sock".parse(), unix("/run/a.sock"));
        assert_eq!("unix:a.sock".parse(), unix("a.sock"));
        assert_eq!("http://127.0.0.1:9900".parse(), tcp("127.0.0.1:9900"));
        assert_eq!("http://proxy:9900/".parse(), tcp("proxy:9900"));
        assert_eq!("http://[::1]:9900".parse(), tcp("[::1]:9900"));
        for bad in
            ["", "unix:", "/run/a.sock", "https://a:1", "http://a", "http://:80", "http://a:1/x", "http://u@a:1", "a:1"]
        {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(error.contains("unix:PATH") && error.contains("http://HOST:PORT"), "{error}");
        }
    }
}
