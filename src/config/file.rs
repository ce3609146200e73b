//! The walk through the file: which keys there are, what each may be, and what contradicts what.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::dns::{Dns, DnsClaim};
use super::fields::FieldName;
use super::page::Page;
use super::report::Wrong;
use super::section::Section;
use super::value::{
    address, duration, endpoint, log_format, name, network, size, size_within, socket_name, switch, target,
    tls_version, unnamed, whole, word,
};
use super::{
    AccessLog, Admin, AdminLimits, AdminTimeouts, Aws, CertificateFiles, Config, Discover, Edge, EdgeLimits,
    EdgeTimeouts, FieldNames, Health, Limits, Listener, LogFile, Service, Stack, StackRules, State, Timeouts, Tls,
    TlsVersion,
};
use crate::names::{Color, HostPattern, PathPrefix, PerColor};

/// Reads everything. What it returns is whole only where the page has no mistakes in the end.
pub fn read<'p>(page: &'p Page<'p>, root: &'p DeTable<'p>) -> Config {
    let mut top = Section::top(page, root);
    if root.is_empty() {
        let help = format!("the shortest useful file is\n\n{MINIMAL}");
        page.note_absent(0..0, Wrong::new("the config file says nothing", help));
    } else {
        let help = "add `[[listener]]` with `address = \"0.0.0.0:8080\"`";
        top.demand("listener", Wrong::new("no listener: no client could connect", help));
        let help = "add `[service.shop.blue]` with `endpoints = [\"10.0.1.10:8080\"]`, and the same for `green`";
        top.demand("service", Wrong::new("no service: there would be nothing to serve", help));
    }
    let mut addresses = Vec::new();
    let admin = admin(top.section("admin"), &mut addresses);
    let state = state(top.section("state"));
    let edge = edge(top.section("edge"));
    let listeners = listeners(page, top.sections("listener"), addresses);
    let https = listeners.iter().any(|listener| listener.tls.is_some());
    let services = services(page, top.named("service"), https);
    let access_log = top.optional("access_log").and_then(access_log);
    let aws = Aws::read(top.section("aws"));
    Config { admin, state, edge, listeners, services, access_log, aws }
}

fn admin(mut section: Section, addresses: &mut Vec<Spanned<SocketAddr>>) -> Admin {
    let page = section.page;
    let listen = section.get("listen", address);
    addresses.extend(listen.zip(section.place("listen")).map(|(address, at)| Spanned::new(at, address)));
    Admin {
        socket: section.get("socket", |value| page.path(value)).unwrap_or(Admin::default().socket),
        listen,
        token_file: section.get("token_file", |value| page.path(value)),
        limits: admin_limits(section.section("limits")),
        timeouts: admin_timeouts(section.section("timeouts")),
    }
}

fn admin_limits(mut section: Section) -> AdminLimits {
    let default = AdminLimits::default();
    let body = section.get("body", size_within("4KiB", "16MiB"));
    AdminLimits {
        connections: section.get("connections", whole(1..=100_000)).unwrap_or(default.connections),
        body: body.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default.body),
    }
}

fn admin_timeouts(mut section: Section) -> AdminTimeouts {
    let default = AdminTimeouts::default();
    let mut get = |key, default| section.get(key, duration("10ms", "24h")).unwrap_or(default);
    AdminTimeouts { idle: get("idle", default.idle), events: get("events", default.events) }
}

fn state(mut section: Section) -> State {
    let page = section.page;
    State { dir: section.get("dir", |value| page.path(value)).unwrap_or(State::default().dir) }
}

fn edge(mut section: Section) -> Edge {
    let trusted = section.list("trusted_proxies", network).into_iter().map(Spanned::into_inner).collect();
    let named = section.place("proxy_fields").is_some();
    let fields = section.list("proxy_fields", name::<FieldName>).into_iter().map(|field| field.into_inner().0);
    let proxy_fields = if named { FieldNames::new(fields) } else { FieldNames::default() };
    Edge {
        trusted_proxies: trusted,
        proxy_fields,
        forwarded: section.get("forwarded", switch).unwrap_or(false),
        limits: edge_limits(section.section("limits")),
        timeouts: edge_timeouts(section.section("timeouts")),
    }
}

fn edge_limits(mut section: Section) -> EdgeLimits {
    let default = EdgeLimits::default();
    let mut count = |key, most, default| section.get(key, whole(1..=most)).unwrap_or(default);
    let connections = count("connections", 10_000_000, default.connections);
    let connections_per_client = count("connections_per_client", 10_000_000, default.connections_per_client);
    let fields = count("fields", 1_000, default.fields);
    let http2_requests = count("http2_requests", 10_000_000, default.http2_requests);
    let http2_early_resets = count("http2_early_resets", 10_000, default.http2_early_resets);
    let http2_faults = count("http2_faults", 1_000_000, default.http2_faults);
    let http2_streams = section.get("http2_streams", whole(1..=1_000)).unwrap_or(default.http2_streams);
    let http2_controls = section.get("http2_controls", whole(10..=1_000_000)).unwrap_or(default.http2_controls);
    let mut bytes = |key, least, most, default| {
        let found = section.get(key, size_within(least, most));
        found.map_or(default, |bytes| usize::try_from(bytes).unwrap_or(default))
    };
    let mut small =
        |key, least, most, default: u32| u32::try_from(bytes(key, least, most, default as usize)).unwrap_or(default);
    EdgeLimits {
        connections,
        connections_per_client,
        fields,
        http2_streams,
        http2_requests,
        http2_stream_window: small("http2_stream_window", "1KiB", "1GiB", default.http2_stream_window),
        http2_window: small("http2_window", "64KiB", "1GiB", default.http2_window),
        http2_frame: small("http2_frame", "16KiB", "8MiB", default.http2_frame),
        http2_send_buffer: bytes("http2_send_buffer", "4KiB", "16MiB", default.http2_send_buffer),
        http2_controls,
        http2_early_resets,
        http2_faults,
        method: bytes("method", "3B", "1KiB", default.method),
        target: bytes("target", "64B", "60KiB", default.target),
        head: bytes("head", "1KiB", "60KiB", default.head),
        trailers: bytes("trailers", "64B", "16KiB", default.trailers),
        send_rate: section.get("send_rate", size_within("0B", "1GiB")).unwrap_or(default.send_rate),
    }
}

fn edge_timeouts(mut section: Section) -> EdgeTimeouts {
    let default = EdgeTimeouts::default();
    let mut get = |key, least, default| section.get(key, duration(least, "24h")).unwrap_or(default);
    EdgeTimeouts {
        opening: get("opening", "1ms", default.opening),
        handshake: get("handshake", "1ms", default.handshake),
        send: get("send", "1ms", default.send),
        park: get("park", "10ms", default.park),
        linger: get("linger", "0s", default.linger),
        probe: get("probe", "1s", default.probe),
        http2_ping: get("http2_ping", "1ms", default.http2_ping),
        http2_age: get("http2_age", "1ms", default.http2_age),
        notice: get("notice", "0s", default.notice),
        finish: get("finish", "0s", default.finish),
    }
}

fn access_log(mut section: Section) -> Option<AccessLog> {
    let page = section.page;
    let file = |value| match super::value::file(value)? {
        "-" => Ok(LogFile::Stdout),
        _ => page.path(value).map(LogFile::Path),
    };
    let file = section.require("file", "\"/var/log/cutover/access.log\"", file);
    let format = section.get("format", log_format).unwrap_or_default();
    let buffer = section.get("buffer", size_within("256KiB", "1GiB")).unwrap_or(AccessLog::BUFFER);
    Some(AccessLog { file: file?, format, buffer })
}

fn listeners(page: &Page, sections: Vec<Section>, mut addresses: Vec<Spanned<SocketAddr>>) -> Vec<Listener> {
    let mut names = Vec::new();
    let listeners = sections.into_iter().filter_map(|section| listener(section, &mut addresses, &mut names)).collect();
    let remedy = "change or remove one of the two";
    page.compare(&addresses, clash, |earlier, later, line| match earlier == later {
        true => twice(later, line, remedy),
        false => Wrong::new(
            format!("`{later}` and `{earlier}` are the same port of the same address"),
            format!("{remedy}; the first is on line {line}"),
        ),
    });
    page.compare(&names, PartialEq::eq, |_, later, line| twice(later, line, remedy));
    listeners
}

/// Whether both would bind the same: 0.0.0.0 is every IPv4 address, [::] every address. Port 0 is another one each time.
pub fn clash(earlier: &SocketAddr, later: &SocketAddr) -> bool {
    let covers =
        |wide: &SocketAddr, other: &SocketAddr| wide.ip().is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    let same = earlier.ip() == later.ip() || covers(earlier, later) || covers(later, earlier);
    same && earlier.port() == later.port() && later.port() != 0
}

fn listener(
    mut section: Section,
    addresses: &mut Vec<Spanned<SocketAddr>>,
    names: &mut Vec<Spanned<String>>,
) -> Option<Listener> {
    let address = section.require("address", "\"0.0.0.0:8080\"", address);
    let name = section.get("name", socket_name);
    names.extend(name.clone().zip(section.place("name")).map(|(name, at)| Spanned::new(at, name)));
    let tls = section.optional("tls").map(tls);
    addresses.extend(address.zip(section.place("address")).map(|(address, at)| Spanned::new(at, address)));
    Some(Listener { address: address?, name, tls })
}

fn tls(mut section: Section) -> Tls {
    let page = section.page;
    let help = "add `certificates = [{ cert = \"shop.pem\", key = \"shop.key\" }]`";
    section.demand("certificates", Wrong::new("no certificate: TLS needs at least one", help));
    let files = |mut section: Section| {
        let mut path = |key, example| {
            let path = section.require(key, example, |value| page.path(value));
            path.zip(section.place(key)).map(|(path, at)| Spanned::new(at, path))
        };
        let (cert, key) = (path("cert", "\"shop.pem\""), path("key", "\"shop.key\""));
        Some(CertificateFiles { cert: cert?, key: key? })
    };
    let certificates: Vec<_> = section.sections("certificates").into_iter().filter_map(files).collect();
    let chains: Vec<_> = certificates.iter().map(|files| files.cert.clone()).collect();
    page.compare(&chains, PartialEq::eq, |_, later, line| twice(later.display(), line, "remove one of the two"));
    Tls {
        certificates,
        min_version: section.get("min_version", tls_version).unwrap_or(TlsVersion::V1_2),
        post_quantum: section.get("post_quantum", switch).unwrap_or(true),
    }
}

fn services(page: &Page, named: Vec<(Range<usize>, String, Section)>, https: bool) -> Vec<Service> {
    let (mut claims, mut names) = (Vec::new(), Vec::new());
    let services = named
        .into_iter()
        .filter_map(|(at, name, section)| service(at, name, section, https, &mut claims, &mut names))
        .collect();
    page.compare(&names, DnsClaim::clashes, |earlier, later, line| later.says(earlier, line));
    let clash = |earlier: &Claim, later: &Claim| (&earlier.host, &earlier.path) == (&later.host, &later.path);
    page.compare(&claims, clash, |earlier, later, line| match &later.host {
        Some(host) if earlier.service == later.service => twice(host, line, "remove one of the two"),
        host => {
            let host = host.as_ref().map_or("every other host".to_owned(), |host| format!("`{host}`"));
            let Claim { service, path, .. } = later;
            Wrong::new(
                format!("`{service}` claims {host} with path `{path}`, as `{}` does", earlier.service),
                format!("give one of them other hosts or another path; the first is on line {line}"),
            )
        }
    });
    services
}

/// What one service wants to answer for; no two may want the same.
struct Claim {
    service: String,
    host: Option<HostPattern>,
    path: PathPrefix,
}

fn service(
    at: Range<usize>,
    key: String,
    mut section: Section,
    https: bool,
    claims: &mut Vec<Spanned<Claim>>,
    names: &mut Vec<Spanned<DnsClaim>>,
) -> Option<Service> {
    let service = key.parse().map_err(|wrong| section.page.note(at, unnamed(wrong))).ok();
    let hosts = section.list("hosts", name::<HostPattern>);
    let path = section.get("path", name).or_else(|| section.place("path").is_none().then(PathPrefix::root));
    // Where a line could not be read, hosts and path are not known for sure.
    if let Some(path) = &path
        && !section.page.doubts(&section.span)
    {
        let claim = |at, host| Spanned::new(at, Claim { service: key.clone(), host, path: path.clone() });
        claims.extend(section.is_empty("hosts").then(|| claim(section.span.clone(), None)));
        claims.extend(hosts.iter().map(|host| claim(host.span(), Some(host.get_ref().clone()))));
    }
    let stacks = stacks(&mut section);
    let health = health(section.section("health"));
    name_stacks(&section, &stacks, &health);
    let limits = limits(section.section("limits"));
    Some(Service {
        hosts: hosts.into_iter().map(Spanned::into_inner).collect(),
        path: path.unwrap_or(PathPrefix::root()),
        stacks,
        health,
        timeouts: timeouts(section.section("timeouts")),
        cutover: super::cutover::read(section.section("cutover"), limits.upstream_idle, https),
        limits,
        stack_rules: StackRules::read(section.section("stacks")),
        dns: section.optional("dns").and_then(|section| Dns::read(section, &key, names)),
        // Last, so that a bad name hides nothing.
        name: service?,
    })
}

fn stacks(service: &mut Section) -> PerColor<Stack> {
    let page = service.page;
    let mut all = Vec::new();
    let (mut ids, mut discovers) = (PerColor::default(), PerColor::<Option<Discover>>::default());
    let mut empty = true;
    for color in Color::BOTH {
        let mut stack = service.section(color.as_str());
        ids[color] = stack.get("stack", word);
        let found = stack.list("endpoints", endpoint);
        if let Some(at) = stack.place("discover").filter(|_| stack.place("endpoints").is_some()) {
            let message = format!("`discover` and `endpoints` both say what {color} is");
            page.note(
                at,
                Wrong::new(message, "remove `endpoints` to have them discovered, or `discover` to name them"),
            );
        }
        discovers[color] = stack.optional("discover").and_then(Discover::read);
        // A section with a misspelt key is not empty: that one mistake is enough.
        empty &= service.is_empty(color.as_str()) || stack.place("endpoints").is_some() && stack.is_empty("endpoints");
        all.extend(found.into_iter().map(|found| Spanned::new(found.span(), (color, found.into_inner()))));
    }
    page.compare(
        &all,
        |earlier, later| earlier.1 == later.1,
        |earlier, later, line| match later {
            (color, endpoint) if *color == earlier.0 => twice(endpoint, line, "remove one of the two"),
            (_, endpoint) => Wrong::new(
                format!("`{endpoint}` is already an endpoint of {}, on line {line}", earlier.0),
                "blue and green must be different processes: else a cutover would move nothing",
            ),
        },
    );
    let sources: Vec<_> = discovers.iter().filter_map(|(_, discover)| Some(discover.as_ref()?.from.clone())).collect();
    page.compare(&sources, PartialEq::eq, |_, _, line| {
        Wrong::new(
            format!("blue is discovered from the same source, on line {line}"),
            "blue and green must be different processes: else a cutover would move nothing",
        )
    });
    // A line that could not be read may have held some, and it may have been a header.
    if empty && !page.doubts(&(0..0)) {
        let help = format!("add `[{}.blue]` with `endpoints = [\"10.0.1.10:8080\"]`", service.name);
        page.note(service.span.clone(), Wrong::new("no endpoints: both colors are empty", help));
    }
    PerColor::from_fn(|color| {
        let own = all.iter().map(Spanned::get_ref).filter(|(of, _)| *of == color);
        let endpoints = own.map(|(_, endpoint)| *endpoint).collect();
        Stack { endpoints, discover: discovers[color].take(), stack: ids[color].take() }
    })
}

/// Where answers have to name their stack, it has to be known what that is.
fn name_stacks(service: &Section, stacks: &PerColor<Stack>, health: &Health) {
    let nameless = |color: &Color| {
        let Stack { endpoints, discover, stack } = &stacks[*color];
        (!endpoints.is_empty() || discover.is_some()) && stack.is_none()
    };
    for color in Color::BOTH.iter().filter(|color| health.expect_stack.is_some() && nameless(color)) {
        let help = format!("add `stack = \"..\"` to `[{}.{color}]`, or remove `expect_stack`", service.name);
        let wrong = Wrong::new(format!("`expect_stack` asks which stack answers, and {color} has no `stack`"), help);
        service.page.note_absent(service.place(color.as_str()).unwrap_or(service.span.clone()), wrong);
    }
}

fn health(mut section: Section) -> Health {
    let default = Health::default();
    let pathless = section.place("path").is_none();
    match section.place("expect_status") {
        Some(at) if pathless => {
            let help = "add `path = \"/healthz\"`, or remove `expect_status`";
            let wrong = Wrong::new("`expect_status` without `path`: a TCP connect has no status", help);
            section.page.note_absent(at, wrong);
        }
        Some(_) => {
            let wrong =
                Wrong::new("`expect_status` is empty: no answer would ever pass", "write `expect_status = [200]`");
            section.demand("expect_status", wrong);
        }
        None => {}
    }
    let at = section.place("expect_stack");
    let expect_stack = section.optional("expect_stack").and_then(super::cutover::stack_mark);
    if let Some(at) = at.filter(|_| pathless) {
        let help = "add `path = \"/healthz\"`, or remove `expect_stack`";
        let wrong = Wrong::new("`expect_stack` without `path`: a TCP connect says nothing of its stack", help);
        section.page.note_absent(at, wrong);
    }
    let expected = section.list("expect_status", whole(100..=599));
    let expect_status = expected.into_iter().map(Spanned::into_inner).collect::<Vec<_>>();
    Health {
        path: section.get("path", target),
        interval: section.get("interval", duration("1ms", "24h")).unwrap_or(default.interval),
        timeout: section.get("timeout", duration("1ms", "60s")).unwrap_or(default.timeout),
        rise: section.get("rise", whole(1..=100)).unwrap_or(default.rise),
        fall: section.get("fall", whole(1..=100)).unwrap_or(default.fall),
        expect_status: if expect_status.is_empty() { default.expect_status } else { expect_status },
        expect_stack,
        slow_start: section.get("slow_start", duration("0s", "1h")).unwrap_or(default.slow_start),
    }
}

fn timeouts(mut section: Section) -> Timeouts {
    let default = Timeouts::default();
    let mut get = |key, default| section.get(key, duration("1ms", "24h")).unwrap_or(default);
    Timeouts {
        connect: get("connect", default.connect),
        first_byte: get("first_byte", default.first_byte),
        idle: get("idle", default.idle),
        head: get("head", default.head),
        body: get("body", default.body),
        upstream_idle: get("upstream_idle", default.upstream_idle),
    }
}

fn limits(mut section: Section) -> Limits {
    let default = Limits::default();
    let mut bytes = |key, least, most, default| {
        let found = section.get(key, size_within(least, most));
        found.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default)
    };
    Limits {
        request_buffer: bytes("request_buffer", "0B", "16MiB", default.request_buffer),
        answer_head: bytes("answer_head", "1KiB", "1MiB", default.answer_head),
        answer_fields: section.get("answer_fields", whole(1..=1_000)).unwrap_or(default.answer_fields),
        tries: section.get("tries", whole(1..=16)).unwrap_or(default.tries),
        upstream_idle: section.get("upstream_idle", whole(0..=100_000)).unwrap_or(default.upstream_idle),
        request_body: section.get("request_body", size),
        body_rate: section.get("body_rate", size_within("0B", "1GiB")).unwrap_or(default.body_rate),
    }
}

fn twice(what: impl Display, line: usize, help: &str) -> Wrong {
    Wrong::new(format!("`{what}` stands here for the second time"), format!("{help}; the first is on line {line}"))
}

/// Shown to whoever has written nothing yet.
const MINIMAL: &str = include_str!("../../config/minimal.toml");
