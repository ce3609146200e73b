//! How single values are written: durations, sizes, shares, addresses; and what to say where one is not.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::report::Wrong;
use super::{ADMIN_SOCKET, LogFormat, TlsVersion};
use crate::names::BadName;

/// A duration from `least` to `most`, both written as in the file.
pub fn duration(least: &'static str, most: &'static str) -> impl Fn(&DeValue) -> Result<Duration, Wrong> {
    let bound = |text| parse_duration(text).unwrap_or_default();
    move |value| {
        let text = value.as_str().unwrap_or_default();
        let found = parse_duration(text).ok_or_else(|| DURATION.refuse(value))?;
        if found < bound(least) {
            return Err(Wrong::new(format!("`{text}` is too short"), format!("write at least `\"{least}\"`")));
        }
        if found > bound(most) {
            return Err(Wrong::new(format!("`{text}` is too long"), format!("write at most `\"{most}\"`")));
        }
        Ok(found)
    }
}

/// A number of bytes, at least one.
pub fn size(value: &DeValue) -> Result<u64, Wrong> {
    let text = value.as_str().unwrap_or_default();
    match parse_size(text) {
        Some(0) => Err(Wrong::new(format!("`{text}` would let nothing pass"), "leave the key out for no limit")),
        found => found.ok_or_else(|| SIZE.refuse(value)),
    }
}

/// A number of bytes from `least` to `most`, both written as in the file.
pub fn size_within(least: &'static str, most: &'static str) -> impl Fn(&DeValue) -> Result<u64, Wrong> {
    let bound = |text| parse_size(text).unwrap_or_default();
    move |value| {
        let text = value.as_str().unwrap_or_default();
        let found = parse_size(text).ok_or_else(|| SIZE.refuse(value))?;
        if found < bound(least) {
            return Err(Wrong::new(format!("`{text}` is too little"), format!("write at least `\"{least}\"`")));
        }
        if found > bound(most) {
            return Err(Wrong::new(format!("`{text}` is too much"), format!("write at most `\"{most}\"`")));
        }
        Ok(found)
    }
}

/// A network, or a single address, which is a network of one.
pub fn network(value: &DeValue) -> Result<IpNet, Wrong> {
    let text = value.as_str().unwrap_or_default();
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(single).map(|network| network.trunc()).ok_or_else(|| NETWORK.refuse(value))
}

/// How the access log is written.
pub fn log_format(value: &DeValue) -> Result<LogFormat, Wrong> {
    match value.as_str() {
        Some("json") => Ok(LogFormat::Json),
        Some("combined") => Ok(LogFormat::Combined),
        _ => Err(LOG_FORMAT.refuse(value)),
    }
}

/// A share above zero.
pub fn share(value: &DeValue) -> Result<Share, Wrong> {
    value.as_str().and_then(parse_share).filter(|share| share.0 > 0).ok_or_else(|| SHARE.refuse(value))
}

/// An address to listen on; port 0 lets the system choose one.
pub fn address(value: &DeValue) -> Result<SocketAddr, Wrong> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Wrong::new(format!("`{text}` has no port"), format!("write `\"{}\"`", SocketAddr::new(ip, 8080)));
        }
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host).trim_matches(['[', ']']);
        if host.parse::<IpAddr>().is_err() && host.starts_with(|c: char| c.is_alphabetic()) {
            return Wrong::new(format!("`{text}` is a name, and names are not looked up here"), ADDRESS.help());
        }
        ADDRESS.refuse(value)
    })
}

/// An address to connect to.
pub fn endpoint(value: &DeValue) -> Result<SocketAddr, Wrong> {
    match address(value) {
        Ok(found) if found.port() == 0 => Err(Wrong::new(
            format!("`{found}` has port 0, and nobody can be reached there"),
            "write the port the endpoint listens on",
        )),
        found => found,
    }
}

/// Where a name server is.
pub fn name_server(value: &DeValue) -> Result<SocketAddr, Wrong> {
    let found = address(value)?;
    if found.port() == 0 {
        return Err(Wrong::new(format!("`{found}` has port 0, and nobody can be asked there"), "write port 53"));
    }
    Ok(found)
}

/// A whole number within `range`.
pub fn whole<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&DeValue) -> Result<T, Wrong> {
    move |value| {
        let number = value.as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
        let fitting = number.filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok());
        fitting.ok_or_else(|| {
            let what = format!("a whole number from {} to {}", range.start(), range.end());
            let message = value.as_integer().map(|number| format!("`{number}` is not {what}"));
            Wrong::new(message.unwrap_or_else(|| misplaced(value, &what)), format!("write {what}"))
        })
    }
}

/// What is on or off.
pub fn switch(value: &DeValue) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| SWITCH.refuse(value))
}

/// A version of TLS.
pub fn tls_version(value: &DeValue) -> Result<TlsVersion, Wrong> {
    match value.as_str() {
        Some("1.2") => Ok(TlsVersion::V1_2),
        Some("1.3") => Ok(TlsVersion::V1_3),
        _ => Err(TLS_VERSION.refuse(value)),
    }
}

/// What a service manager may call a socket; `admin` is the admin API's.
pub fn socket_name(value: &DeValue) -> Result<String, Wrong> {
    let text = value.as_str().unwrap_or_default();
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b':') && (1..=255).contains(&text.len());
    if plain && text != ADMIN_SOCKET { Ok(text.to_owned()) } else { Err(SOCKET_NAME.refuse(value)) }
}

/// A name that checks itself: a host, a path.
pub fn name<T: FromStr<Err = BadName>>(value: &DeValue) -> Result<T, Wrong> {
    value.as_str().ok_or_else(|| TEXT.refuse(value))?.parse().map_err(unnamed)
}

/// The path of a file or folder, as written.
pub fn file<'v>(value: &'v DeValue) -> Result<&'v str, Wrong> {
    value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| FILE.refuse(value))
}

/// What a health check asks for: a path, and a query if need be.
pub fn target(value: &DeValue) -> Result<String, Wrong> {
    let target = value.as_str().unwrap_or_default();
    let plain = target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    match target.parse::<http::uri::PathAndQuery>() {
        Ok(_) if plain => Ok(target.to_owned()),
        _ => Err(TARGET.refuse(value)),
    }
}

/// A share, which may be nothing.
pub fn share_or_none(value: &DeValue) -> Result<Share, Wrong> {
    value.as_str().and_then(parse_share).ok_or_else(|| SHARE.refuse(value))
}

/// How much more something may be, "1%" to "600%".
pub fn rise(value: &DeValue) -> Result<Share, Wrong> {
    let whole = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(leading_number);
    let percent =
        whole.and_then(|(percent, rest)| (rest.is_empty() && (1..=600).contains(&percent)).then_some(percent));
    percent.and_then(|percent| u16::try_from(percent * 100).ok()).map(Share).ok_or_else(|| RISE.refuse(value))
}

/// A short name: of a gate, of a stack.
pub fn word(value: &DeValue) -> Result<String, Wrong> {
    let text = value.as_str().unwrap_or_default();
    let plain =
        (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    if plain { Ok(text.to_owned()) } else { Err(WORD.refuse(value)) }
}

/// The name of a header field.
pub fn header(value: &DeValue) -> Result<String, Wrong> {
    let text = value.as_str().unwrap_or_default();
    text.parse::<http::HeaderName>().map(|name| name.as_str().to_owned()).map_err(|_| HEADER.refuse(value))
}

/// A JSON pointer (RFC 6901).
pub fn pointer(value: &DeValue) -> Result<String, Wrong> {
    value.as_str().filter(|text| text.starts_with('/')).map(str::to_owned).ok_or_else(|| POINTER.refuse(value))
}

/// An address that is asked over HTTP.
pub fn url(value: &DeValue) -> Result<String, Wrong> {
    let text = value.as_str().unwrap_or_default();
    let uri = text.parse::<http::Uri>().ok();
    let is_good = |uri: &http::Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    };
    uri.filter(is_good).map(|_| text.to_owned()).ok_or_else(|| URL.refuse(value))
}

/// A program and its arguments, as a list, or in one text where nothing in that could be meant for a shell.
pub fn command(value: &DeValue) -> Result<Vec<String>, Wrong> {
    let parts: Option<Vec<String>> = match value {
        DeValue::Array(items) => items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect(),
        _ => value.as_str().map(|text| text.split_ascii_whitespace().map(str::to_owned).collect()),
    };
    let for_shell = |c: char| "\"'`$|&;<>()*?[]#~\\{}".contains(c);
    if value.as_str().is_some_and(|text| text.contains(for_shell)) {
        return Err(Wrong::new(
            "this is written for a shell, and none reads it",
            "write a list, `[\"program\", \"argument\"]`, or name the shell: `[\"sh\", \"-c\", \"..\"]`",
        ));
    }
    parts.filter(|parts| parts.first().is_some_and(|program| !program.is_empty())).ok_or_else(|| COMMAND.refuse(value))
}

/// A variable for a command.
pub fn variable(value: &DeValue) -> Result<String, Wrong> {
    let text = value.as_str().unwrap_or_default();
    let is_good = !text.contains('\0') && text.split_once('=').is_some_and(|(name, _)| !name.is_empty());
    if is_good { Ok(text.to_owned()) } else { Err(VARIABLE.refuse(value)) }
}

/// A [`BadName`] says both halves in one sentence: what is wrong, a colon, what would be right.
pub fn unnamed(BadName(sentence): BadName) -> Wrong {
    match sentence.rsplit_once(": ") {
        Some((message, help)) => Wrong::new(message, help),
        None => Wrong::new(sentence, ""),
    }
}

/// What to say of a value of the wrong type.
pub fn misplaced(value: &DeValue, what: &str) -> String {
    let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    format!("found {article} {} where {what} belongs", value.type_str())
}

/// A share in hundredths of a percent, 0 to 10,000: exact, comparable, without floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share(pub u16);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl Share {
    pub const ALL: Share = Share(10_000);

    /// The least whole number of `total` that is at least this share of it.
    pub fn of(self, total: usize) -> usize {
        (total * usize::from(self.0)).div_ceil(10_000)
    }
}

/// One kind of value: its name with an article, and how it is written.
struct Kind {
    what: &'static str,
    write: &'static str,
}

impl Kind {
    fn refuse(&self, value: &DeValue) -> Wrong {
        let message = match value.as_str() {
            None => misplaced(value, self.what),
            Some("") => format!("found an empty text where {} belongs", self.what),
            Some(text) => format!("`{text}` is not {}", self.what),
        };
        Wrong::new(message, self.help())
    }

    fn help(&self) -> String {
        format!("write {}", self.write)
    }
}

/// Numbers with units, the largest first: `1h30m`, `250ms`. No sign, no fraction, no space, no day.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0_u64;
    for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        let Some((number, after)) = leading_number(rest) else { continue };
        // The `m` of `ms` is no minute.
        let Some(after) = after.strip_prefix(unit).filter(|after| unit != "m" || !after.starts_with('s')) else {
            continue;
        };
        total = number.checked_mul(millis).and_then(|part| total.checked_add(part))?;
        rest = after;
    }
    (rest.is_empty() && !text.is_empty()).then(|| Duration::from_millis(total))
}

pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let (_, shift) = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30)].into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(1 << shift)
}

fn parse_share(text: &str) -> Option<Share> {
    let (whole, after) = leading_number(text)?;
    let after = after.strip_suffix('%')?;
    let hundredths = match after.strip_prefix('.').map(|part| (part.len(), leading_number(part))) {
        None if after.is_empty() => 0,
        Some((1, Some((tenths, "")))) => tenths * 10,
        Some((2, Some((hundredths, "")))) => hundredths,
        _ => return None,
    };
    let share = whole.checked_mul(100)?.checked_add(hundredths)?;
    (share <= u64::from(Share::ALL.0)).then_some(Share(share as u16))
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

const DURATION: Kind = Kind {
    what: "a duration",
    write: "whole numbers with `h`, `m`, `s` or `ms`, such as `\"30s\"`, `\"250ms\"` or `\"1h30m\"`",
};
const SIZE: Kind = Kind {
    what: "a size",
    write: "a whole number with `B`, `KiB`, `MiB` or `GiB`, such as `\"10MiB\"`; there is no `KB`",
};
const SHARE: Kind = Kind {
    what: "a share",
    write: "a percentage above `0%`, up to `100%`, with at most two decimals, such as `\"2.5%\"`",
};
const ADDRESS: Kind = Kind {
    what: "an address",
    write: "an IP address and a port, such as `\"10.0.1.10:8080\"` or `\"[2001:db8::1]:8080\"`",
};
const TARGET: Kind = Kind { what: "a path to ask for", write: "one that begins with `/`, such as `\"/healthz\"`" };
const NETWORK: Kind = Kind {
    what: "a network",
    write: "an IP address, or one with a prefix length, such as `\"10.0.0.0/8\"` or `\"2001:db8::/32\"`",
};
const SOCKET_NAME: Kind = Kind {
    what: "a socket's name",
    write: "what stands behind `FileDescriptorName=` in its unit: no spaces, no `:`, and not `admin`, which is the admin API's",
};
const SWITCH: Kind = Kind { what: "a switch", write: "`true` or `false`, without quotes" };
const TLS_VERSION: Kind = Kind { what: "a version of TLS", write: "`\"1.2\"` or `\"1.3\"`" };
const LOG_FORMAT: Kind = Kind { what: "a log format", write: "`\"json\"` or `\"combined\"`" };
const RISE: Kind = Kind { what: "a rise", write: "a whole percentage from `\"1%\"` to `\"600%\"`" };
const WORD: Kind = Kind { what: "a name", write: "up to 200 letters, digits and signs, without spaces or quotes" };
const HEADER: Kind = Kind { what: "the name of a header field", write: "one such as `\"X-Stack\"`" };
const POINTER: Kind = Kind { what: "a JSON pointer", write: "one that begins with `/`, such as `\"/build/stack\"`" };
const URL: Kind = Kind { what: "a URL", write: "one such as `\"https://qa.example.com/cutover\"`" };
const COMMAND: Kind = Kind { what: "a command", write: "a list, `[\"program\", \"argument\"]`" };
const VARIABLE: Kind = Kind { what: "a variable", write: "a name and a value, such as `\"TARGET=green\"`" };
const TEXT: Kind = Kind { what: "a text", write: "a text in quotes" };
const FILE: Kind = Kind { what: "a path", write: "the path of a file or folder in quotes" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
        let good = [
            ("250ms", 250),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1h2m3s4ms", 3_723_004),
            ("1m5ms", 60_005),
            ("0s", 0),
        ];
        for (text, millis) in good {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        let bad = [
            "",
            "30",
            "s",
            "-3s",
            "+3s",
            "1.5s",
            "1 s",
            " 1s",
            "1s ",
            "1S",
            "1d",
            "1us",
            "1 day ago",
            "1m1h",
            "1s1s",
            "1ms1s",
            "PT3S",
            "٣s",
            "18446744073709551616s",
            "18446744073709551615h",
        ];
        for text in bad {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let good = [("512B", 512), ("64KiB", 64 << 10), ("10MiB", 10 << 20), ("1GiB", 1 << 30), ("0B", 0)];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "10", "B", "10KB", "10MB", "10kib", "10 MiB", "1.5MiB", "-1B", "10TiB", "99999999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn shares_are_exact_to_a_hundredth_of_a_percent() {
        let good =
            [("100%", 10_000), ("5%", 500), ("2.5%", 250), ("0.01%", 1), ("99.99%", 9_999), ("0%", 0), ("7.05%", 705)];
        for (text, hundredths) in good {
            assert_eq!(parse_share(text), Some(Share(hundredths)), "{text}");
        }
        for text in [
            "", "%", "5", "0.5", "-1%", "+1%", "101%", "100.01%", "1.005%", "5.%", ".5%", "5 %", "5%%", "1e1%", "1.+5%",
        ] {
            assert_eq!(parse_share(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_numbers_and_names_are_told_apart() {
        let read = |text: &str| endpoint(&DeValue::String(text.into())).map_err(|wrong| wrong.message);
        assert!(read("10.0.0.1:80").is_ok() && read("[::1]:80").is_ok());
        for (text, says) in [
            ("10.0.0.1", "has no port"),
            ("::1", "has no port"),
            ("10.0.0.1:0", "has port 0"),
            ("10.0.0.1:70000", "is not an address"),
            ("10.0.0.256:80", "is not an address"),
            (":80", "is not an address"),
            ("", "empty text"),
            ("shop.internal:80", "is a name"),
            ("http://10.0.0.1:80", "is a name"),
        ] {
            assert!(read(text).unwrap_err().contains(says), "{text}: {:?}", read(text));
        }
    }
}
