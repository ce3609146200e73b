//! `[aws]`: which account's services are spoken to, where, with whose credentials, and how long that may take.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde::Serialize;
use toml::de::DeValue;

use super::report::Wrong;
use super::section::Section;
use super::value::{self, duration, misplaced, switch, whole};

/// Everything has a default: with no `[aws]` at all it is what the AWS CLI would use on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Aws {
    /// Left out: as in the environment or the profile; Route 53 is the same everywhere.
    pub region: Option<String>,
    /// Where services are, instead of at Amazon: emulators and compatible ones. No slash at its end. Credentials do not
    /// come from there.
    pub endpoint_url: Option<String>,
    /// Whether that may be without TLS somewhere else than on this machine.
    pub allow_plain_http: bool,
    /// Of the files that the AWS CLI reads.
    pub profile: Option<String>,
    /// Only what this file says counts, and no other source of credentials.
    pub credentials_file: Option<PathBuf>,
    /// The steady pace of the requests to each service; twice as many go at once after a rest.
    pub requests_per_second: u32,
    pub timeouts: AwsTimeouts,
}

/// How long one call may take; nothing on the request path waits for any.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AwsTimeouts {
    /// Connecting, TLS included.
    pub connect: Duration,
    /// One request, from connecting to the last byte of the answer.
    pub attempt: Duration,
    /// Everything together: waiting for a turn, getting credentials, every page of a list.
    pub operation: Duration,
}

impl Default for Aws {
    fn default() -> Aws {
        Aws {
            region: None,
            endpoint_url: None,
            allow_plain_http: false,
            profile: None,
            credentials_file: None,
            requests_per_second: 2,
            timeouts: AwsTimeouts::default(),
        }
    }
}

impl Default for AwsTimeouts {
    fn default() -> AwsTimeouts {
        AwsTimeouts {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(10),
            operation: Duration::from_secs(30),
        }
    }
}

impl Aws {
    pub fn read(mut section: Section) -> Aws {
        let page = section.page;
        let endpoint_url = section.get("endpoint_url", endpoint_url);
        let allow_plain_http = section.get("allow_plain_http", switch).unwrap_or(false);
        if let (Some(url), Some(at)) = (&endpoint_url, section.place("endpoint_url"))
            && !allow_plain_http
            && is_readable_on_the_way(url)
        {
            let help = "write `https://`, or `allow_plain_http = true` if only you can read along";
            page.note(
                at,
                Wrong::new(format!("`{url}` would carry session tokens over the network in clear text"), help),
            );
        }
        let pace = section.get("requests_per_second", whole(1..=1_000));
        if let (Some(pace), None, Some(at)) = (pace, &endpoint_url, section.place("requests_per_second"))
            && pace > ALLOWED
        {
            let help = "write `2`, so that whoever else uses the account has room";
            page.note(at, Wrong::new(format!("Route 53 takes {ALLOWED} requests a second of a whole account"), help));
        }
        Aws {
            region: section.get("region", region),
            endpoint_url,
            allow_plain_http,
            profile: section.get("profile", profile),
            credentials_file: section.get("credentials_file", |value| page.path(value)),
            requests_per_second: pace.unwrap_or(Aws::default().requests_per_second),
            timeouts: timeouts(section.section("timeouts")),
        }
    }
}

fn timeouts(mut section: Section) -> AwsTimeouts {
    let default = AwsTimeouts::default();
    let mut get = |key, default| section.get(key, duration("1ms", "10m")).unwrap_or(default);
    AwsTimeouts {
        connect: get("connect", default.connect),
        attempt: get("attempt", default.attempt),
        operation: get("operation", default.operation),
    }
}

/// `eu-west-1`, `us-gov-east-1`: what may stand in a host name and looks like one.
fn region(value: &DeValue) -> Result<String, Wrong> {
    let help = "write its code, such as `\"eu-west-1\"`";
    let text = value.as_str().ok_or_else(|| Wrong::new(misplaced(value, "a region"), help))?;
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let plain = text.bytes().all(known) && text.contains('-') && text.ends_with(|c: char| c.is_ascii_digit());
    if plain { Ok(text.to_owned()) } else { Err(Wrong::new(format!("`{text}` is not a region"), help)) }
}

fn profile(value: &DeValue) -> Result<String, Wrong> {
    let help = "write the name that stands in brackets in `~/.aws/config`";
    match value.as_str() {
        Some(text) if !text.trim().is_empty() => Ok(text.to_owned()),
        Some(_) => Err(Wrong::new("found an empty text where a profile belongs", help)),
        None => Err(Wrong::new(misplaced(value, "a profile"), help)),
    }
}

/// Scheme, host and port, nothing else: paths are the services' own.
fn endpoint_url(value: &DeValue) -> Result<String, Wrong> {
    let help = "write scheme, host and port, such as `\"http://127.0.0.1:5600\"`";
    let text = value::file(value).map_err(|_| Wrong::new(misplaced(value, "a URL"), help))?;
    let url = text.strip_suffix('/').unwrap_or(text);
    let is_whole = url.parse::<Uri>().is_ok_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.authority().is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'));
        scheme && host && matches!(uri.path_and_query().map(|it| it.as_str()), None | Some("/"))
    });
    let is_whole = is_whole && !url.ends_with('/');
    if is_whole { Ok(url.to_owned()) } else { Err(Wrong::new(format!("`{text}` is not an endpoint"), help)) }
}

/// Whether others than this machine could read along.
fn is_readable_on_the_way(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return true };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    uri.scheme_str() == Some("http") && !is_here
}

/// What Route 53 takes of one account in a second, whoever asks.
const ALLOWED: u32 = 10;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn read(keys: &str) -> Result<Aws, String> {
        let rest = "[[listener]]\naddress = \"0.0.0.0:80\"\n[service.shop.blue]\nendpoints = [\"10.0.0.1:80\"]\n";
        let config = Config::parse(&format!("[aws]\n{keys}\n{rest}"), Path::new("/etc/cutover/cutover.toml"));
        config.map(|config| config.aws).map_err(|report| report.to_string())
    }

    #[test]
    fn an_endpoint_is_scheme_host_and_port() {
        for (text, url) in [
            ("http://127.0.0.1:5600", "http://127.0.0.1:5600"),
            ("http://127.8.0.1:5600/", "http://127.8.0.1:5600"),
            ("http://[::1]:5600", "http://[::1]:5600"),
            ("http://localhost:4566", "http://localhost:4566"),
            ("https://aws.example.com", "https://aws.example.com"),
        ] {
            let aws = read(&format!("endpoint_url = \"{text}\"")).unwrap();
            assert_eq!(aws.endpoint_url.as_deref(), Some(url));
        }
        for text in [
            "127.0.0.1:5600",
            "http://",
            "ftp://127.0.0.1",
            "http://127.0.0.1/a",
            "http://a:b@127.0.0.1",
            "",
            "http://127.0.0.1?x",
            "http://127.0.0.1//",
        ] {
            assert!(read(&format!("endpoint_url = \"{text}\"")).is_err(), "{text}");
        }
    }

    #[test]
    fn clear_text_stays_on_this_machine_unless_it_is_allowed_to_leave() {
        for host in ["10.0.0.1:80", "aws.example.com", "localhost.example.com", "[2001:db8::1]:80"] {
            let key = format!("endpoint_url = \"http://{host}\"");
            let report = read(&key).unwrap_err();
            assert!(report.contains("clear text") && report.contains("allow_plain_http"), "{report}");
            assert!(read(&format!("{key}\nallow_plain_http = true")).is_ok());
        }
    }

    #[test]
    fn a_pace_that_amazon_takes_from_nobody_is_for_emulators() {
        assert_eq!(read("").unwrap().requests_per_second, 2);
        assert_eq!(read("requests_per_second = 10").unwrap().requests_per_second, 10);
        let report = read("requests_per_second = 11").unwrap_err();
        assert!(report.contains("10 requests a second of a whole account"), "{report}");
        let emulator = "requests_per_second = 1000\nendpoint_url = \"http://127.0.0.1:5600\"";
        assert_eq!(read(emulator).unwrap().requests_per_second, 1000);
        for pace in ["0", "1001", "\"2\"", "0.5"] {
            assert!(read(&format!("requests_per_second = {pace}")).is_err(), "{pace}");
        }
    }

    #[test]
    fn the_rest_is_read_as_it_is_written() {
        let aws = read(
            "region = \"us-gov-east-1\"\nprofile = \"shop\"\ncredentials_file = \"keys\"\ntimeouts = { attempt = \"2s\" }",
        );
        let expected = Aws {
            region: Some("us-gov-east-1".into()),
            profile: Some("shop".into()),
            credentials_file: Some("/etc/cutover/keys".into()),
            timeouts: AwsTimeouts { attempt: Duration::from_secs(2), ..AwsTimeouts::default() },
            ..Aws::default()
        };
        assert_eq!(aws, Ok(expected));
        for key in ["region = \"Frankfurt\"", "region = \"eu\"", "region = 1", "profile = \"\"", "endpoint_url = 1"] {
            assert!(read(key).is_err(), "{key}");
        }
    }
}
