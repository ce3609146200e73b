//! What differs between two configs, key by key and in the words of the file. Equal configs differ in nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::Config;

/// One key that says something else now, or a section that is new or gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// As in the file, such as `service.shop.timeouts.body`; a listener goes by its address, a gate by its name, and a
    /// record by its name and type.
    pub key: String,
    /// Null where there was nothing.
    pub from: Value,
    /// Null where nothing is left.
    pub to: Value,
}

/// Every key in which the two differ. The order of listeners and of services says nothing, any other order does.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", &tree(old), &tree(new), &mut changes);
    changes
}

impl Change {
    /// Whether only a start reads this key.
    pub fn needs_restart(&self) -> bool {
        let is_name = self.key.starts_with("listener.") && self.key.ends_with(".name");
        let starts = |start: &&str| self.key.strip_prefix(*start).is_some_and(|rest| !rest.starts_with('_'));
        is_name || STARTING.iter().any(starts)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { key, from, to } = self;
        match (from, to) {
            (Value::Null, Value::Object(_)) => write!(f, "{key}: new"),
            (Value::Object(_), Value::Null) => write!(f, "{key}: gone"),
            (Value::Array(from), Value::Array(to)) => write!(f, "{key}: {}", list_says(from, to)),
            _ => write!(f, "{key}: {} → {}", words(from), words(to)),
        }
    }
}

fn list_says(from: &[Value], to: &[Value]) -> String {
    let missing = |from: &[Value], to: &[Value]| {
        let gone: Vec<_> = from.iter().filter(|one| !to.contains(one)).map(words).collect();
        (!gone.is_empty()).then(|| gone.join(", "))
    };
    let joined = missing(to, from).map(|some| format!("with {some}"));
    let left = missing(from, to).map(|some| format!("without {some}"));
    let says: Vec<_> = joined.into_iter().chain(left).collect();
    if says.is_empty() { "in another order".to_owned() } else { says.join(", ") }
}

/// A value as people read it.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(words).collect::<Vec<_>>().join(", ")),
        Value::Object(section) => section.iter().map(|(_, value)| words(value)).collect::<Vec<_>>().join(" and "),
        other => other.to_string(),
    }
}

fn compare(path: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    let before = changes.len();
    if let (Some(olds), Some(news)) = (sections(old), sections(new)) {
        for key in olds.keys().chain(news.keys()).collect::<BTreeSet<_>>() {
            let below = if path.is_empty() { quoted(key) } else { format!("{path}.{}", quoted(key)) };
            let get = |section: &Map<String, Value>| section.get(key).cloned().unwrap_or_default();
            compare(&below, &get(&olds), &get(&news), changes);
        }
    }
    // Sections of a list that are all equal stand in another order.
    if changes.len() == before {
        changes.push(Change { key: path.to_owned(), from: old.clone(), to: new.clone() });
    }
}

/// What is below a section, and of a list of sections each by its name; `None` where that is nothing of the kind.
fn sections(value: &Value) -> Option<Cow<'_, Map<String, Value>>> {
    match value {
        Value::Object(section) => Some(Cow::Borrowed(section)),
        Value::Array(items) => {
            items.iter().map(|item| Some((title(item)?, item.clone()))).collect::<Option<_>>().map(Cow::Owned)
        }
        _ => None,
    }
}

/// What a section of a list goes by: a gate by its name, a record, of which there may be several of one name, by its type too.
fn title(section: &Value) -> Option<String> {
    let name = section.get("name")?.as_str()?;
    Some(match section.get("type").and_then(Value::as_str) {
        Some(kind) => format!("{name} {kind}"),
        None => name.to_owned(),
    })
}

/// A key as TOML writes it.
fn quoted(key: &str) -> String {
    let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if bare { key.to_owned() } else { format!("\"{key}\"") }
}

/// The whole config as sections within sections. A key that is added to the config is in it by itself.
pub fn tree(config: &Config) -> Value {
    let Config { admin, state, edge, listeners, services, access_log, aws } = config;
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| drop(all.insert(key.to_owned(), value));
    put("admin", plain(admin));
    put("state", plain(state));
    put("edge", plain(edge));
    put("access_log", plain(access_log));
    put("aws", plain(aws));
    put("listener", named(listeners.iter().map(|listener| (listener.address.to_string(), plain(listener)))));
    put("service", named(services.iter().map(|service| (service.name.to_string(), plain(service)))));
    Value::Object(all)
}

/// Several listeners may ask for port 0, and be told apart only by their number.
fn named(sections: impl Iterator<Item = (String, Value)>) -> Value {
    let mut all = Map::new();
    for (name, section) in sections {
        let mut names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name} ({number})")));
        let free = names.find(|name| !all.contains_key(name)).unwrap_or(name);
        all.insert(free, section);
    }
    Value::Object(all)
}

fn plain(section: &(impl Serialize + fmt::Debug)) -> Value {
    // What cannot be told as sections is still not equal to what it differs from.
    let value = serde_json::to_value(section).unwrap_or_else(|_| Value::from(format!("{section:?}")));
    with_durations(value)
}

/// serde tells a duration as its seconds and nanoseconds; here it becomes what the file says.
fn with_durations(value: Value) -> Value {
    match value {
        Value::Object(section) => match (section.len(), section.get("secs"), section.get("nanos")) {
            (2, Some(Value::Number(secs)), Some(Value::Number(nanos))) => {
                let part = |number: &serde_json::Number| number.as_u64().unwrap_or_default();
                Value::from(duration_text(Duration::from_secs(part(secs)) + Duration::from_nanos(part(nanos))))
            }
            _ => Value::Object(section.into_iter().map(|(key, value)| (key, with_durations(value))).collect()),
        },
        Value::Array(items) => items.into_iter().map(with_durations).collect(),
        other => other,
    }
}

/// A duration as the file writes it.
fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Tells a number of bytes as the file writes it.
pub fn size<T: Copy + TryInto<u64>, S: Serializer>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes = (*bytes).try_into().unwrap_or(u64::MAX);
    let (unit, shift) = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .unwrap_or(("B", 0));
    serializer.serialize_str(&format!("{}{unit}", bytes >> shift))
}

/// Tells a value as it is shown.
pub fn shown<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Tells a value that may be left out as it is shown.
pub fn shown_if_any<T: fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// A number of bytes where it may be left out.
pub fn size_if_any<S: Serializer>(bytes: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => size(bytes, serializer),
        None => serializer.serialize_none(),
    }
}

/// Keys that only a start reads, or sections of them: a running proxy has its address and its journal.
const STARTING: [&str; 3] = ["admin.socket", "admin.listen", "state"];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::value::parse_duration;
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("/etc/cutover/cutover.toml")).unwrap_or_else(|report| panic!("{report}"))
    }

    fn says(old: &str, new: &str) -> Vec<String> {
        diff(&config(old), &config(new)).iter().map(ToString::to_string).collect()
    }

    const PLAIN: &str = r#"
        [[listener]]
        address = "0.0.0.0:80"
        [service.shop.blue]
        endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
    "#;

    #[test]
    fn every_kind_of_change_is_said_in_the_words_of_the_file() {
        let edits = [
            ("[[listener]]", "[edge.timeouts]\nsend = \"1m30s\"\n[[listener]]", "edge.timeouts.send: 1m → 1m30s"),
            ("[[listener]]", "[edge.limits]\nhead = \"1025B\"\n[[listener]]", "edge.limits.head: 32KiB → 1025B"),
            (
                "\"10.0.0.2:80\"",
                "\"10.0.0.3:80\"",
                "service.shop.blue.endpoints: with 10.0.0.3:80, without 10.0.0.2:80",
            ),
            (", \"10.0.0.2:80\"", "", "service.shop.blue.endpoints: without 10.0.0.2:80"),
            (
                "[service.shop.blue]",
                "[service.shop.health]\nrise = 5\n[service.shop.blue]",
                "service.shop.health.rise: 2 → 5",
            ),
            (
                "[service.shop.blue]",
                "[service.shop]\npath = \"/x\"\nlimits.request_body = \"3MiB\"\n[service.shop.blue]",
                "service.shop.limits.request_body: nothing → 3MiB\nservice.shop.path: / → /x",
            ),
            (
                "[service.shop.blue]",
                "[service.shop.cutover]\nmin_healthy = \"50%\"\n[service.shop.blue]",
                "service.shop.cutover.min_healthy: 100% → 50%",
            ),
            (
                "[service.shop.blue]",
                "[service.shop.cutover]\ncanary = [{ weight = \"5%\", for = \"2m\" }]\n[service.shop.blue]",
                "service.shop.cutover.canary: with 2m and 5%",
            ),
            (
                "[service.shop.blue]",
                "[[service.shop.cutover.gate]]\nname = \"qa\"\napprove = true\n[service.shop.blue]",
                "service.shop.cutover.gate.qa: new",
            ),
            (
                "[service.shop.blue]",
                "[service.api]\nhosts = [\"a.test\"]\nblue.endpoints = [\"10.0.0.9:80\"]\n[service.shop.blue]",
                "service.api: new",
            ),
            ("0.0.0.0:80", "0.0.0.0:81", "listener.\"0.0.0.0:80\": gone\nlistener.\"0.0.0.0:81\": new"),
            (
                "\"0.0.0.0:80\"",
                "\"0.0.0.0:80\"\ntls.certificates = [{ cert = \"a.pem\", key = \"a.key\" }]",
                "listener.\"0.0.0.0:80\".tls: new",
            ),
        ];
        for (from, to, expected) in edits {
            let edited = PLAIN.replacen(from, to, 1);
            assert_ne!(edited, PLAIN);
            assert_eq!(says(PLAIN, &edited).join("\n"), expected);
        }
        let tls =
            PLAIN.replace("0.0.0.0:80\"", "0.0.0.0:80\"\ntls.certificates = [{ cert = \"a.pem\", key = \"a.key\" }]");
        assert_eq!(
            says(&tls, &tls.replace("a.pem", "b.pem")),
            ["listener.\"0.0.0.0:80\".tls.certificates: with /etc/cutover/b.pem and /etc/cutover/a.key, \
              without /etc/cutover/a.pem and /etc/cutover/a.key"]
        );
        let swapped = PLAIN.replace("\"10.0.0.1:80\", \"10.0.0.2:80\"", "\"10.0.0.2:80\", \"10.0.0.1:80\"");
        assert_eq!(says(PLAIN, &swapped), ["service.shop.blue.endpoints: in another order"]);
    }

    #[test]
    fn equal_configs_differ_in_nothing_however_they_are_written() {
        let a = format!("{PLAIN}\n[service.api]\nhosts = [\"a.test\"]\nblue.endpoints = [\"10.0.0.9:80\"]\n");
        let b = format!(
            "# a remark\n[service.api]\nhosts = [\"A.test\"]\nblue = {{ endpoints = [\"10.0.0.9:80\"] }}\n{PLAIN}"
        );
        assert_eq!(says(&a, &b), Vec::<String>::new());
        let defaults = format!("{PLAIN}\n[service.shop.health]\nrise = 2\n[service.shop.timeouts]\nbody = \"1m\"\n");
        assert_eq!(says(PLAIN, &defaults), Vec::<String>::new());
    }

    #[test]
    fn gates_and_records_go_by_their_names_and_say_what_of_them_is_other() {
        let gate = |text: &str| format!("[[service.shop.cutover.gate]]\n{text}\n");
        let (qa, smoke) = (gate("name = \"qa\"\napprove = true"), gate("name = \"smoke\"\nrun = [\"/smoke\"]"));
        let with = |sections: &[&str]| format!("{PLAIN}{}", sections.concat());
        let both = with(&[&qa, &smoke]);
        assert_eq!(says(&both, &with(&[&smoke])), ["service.shop.cutover.gate.qa: gone"]);
        assert_eq!(says(&both, &with(&[&smoke, &qa])), ["service.shop.cutover.gate: in another order"]);
        let (late, asked) = (
            gate("name = \"qa\"\napprove = true\nexpires = \"1h\""),
            qa.replace("approve = true", "webhook = \"http://qa/\""),
        );
        assert_eq!(says(&both, &with(&[&late, &smoke])), ["service.shop.cutover.gate.qa.expires: 30m → 1h"]);
        assert_eq!(says(&both, &with(&[&smoke, &late])), ["service.shop.cutover.gate.qa.expires: 30m → 1h"]);
        assert_eq!(
            says(&both, &with(&[&asked, &smoke.replace("/smoke\"]", "/smoke\", \"-v\"]")])),
            [
                "service.shop.cutover.gate.qa.approve: true → nothing",
                "service.shop.cutover.gate.qa.retries: nothing → 3",
                "service.shop.cutover.gate.qa.timeout: nothing → 10s",
                "service.shop.cutover.gate.qa.webhook: nothing → http://qa/",
                "service.shop.cutover.gate.smoke.run: with -v"
            ]
        );
        let record = |kind: &str, blue: &str, green: &str| {
            format!(
                "[[service.shop.dns.record]]\nname = \"shop.test\"\ntype = \"{kind}\"\nblue = [\"{blue}\"]\ngreen = [\"{green}\"]\n"
            )
        };
        let (zone, v4) = ("[service.shop.dns]\nzone = \"Z1\"\n", record("A", "192.0.2.1", "192.0.2.2"));
        let named = with(&[zone, &v4, &record("AAAA", "2001:db8::1", "2001:db8::2")]);
        assert_eq!(
            says(&named, &with(&[zone, &v4, &record("AAAA", "2001:db8::1", "2001:db8::3")])),
            ["service.shop.dns.record.\"shop.test AAAA\".green: with 2001:db8::3, without 2001:db8::2"]
        );
        assert_eq!(says(&named, &with(&[zone, &v4])), ["service.shop.dns.record.\"shop.test AAAA\": gone"]);
    }

    #[test]
    fn only_what_a_start_reads_needs_a_restart() {
        let admin = "[admin]\nsocket = \"/a\"\nlisten = \"127.0.0.1:1\"\ntoken_file = \"/t\"\n[state]\ndir = \"/s\"\n";
        let changes = diff(&config(PLAIN), &config(&format!("{admin}{PLAIN}")));
        let needing: Vec<_> = changes.iter().filter(|one| one.needs_restart()).map(|one| one.key.as_str()).collect();
        assert_eq!(needing, ["admin.listen", "admin.socket", "state.dir"]);
        assert_eq!(changes.len(), 4, "{changes:?}");
    }

    #[test]
    fn listeners_that_leave_the_port_open_are_counted() {
        let two = PLAIN.replace("\"0.0.0.0:80\"", "\"0.0.0.0:0\"\n[[listener]]\naddress = \"0.0.0.0:0\"");
        let one = PLAIN.replace("0.0.0.0:80", "0.0.0.0:0");
        assert_eq!(says(&one, &two), ["listener.\"0.0.0.0:0 (2)\": new"]);
    }

    proptest! {
        #[test]
        fn durations_and_sizes_are_written_as_they_are_read(millis in 0_u64..=86_400_000, bytes in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
            let text = size(&bytes, serde_json::value::Serializer).unwrap();
            prop_assert_eq!(super::super::value::parse_size(text.as_str().unwrap()), Some(bytes));
        }
    }
}
