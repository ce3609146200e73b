//! What a config means: what the proxy would do with it, in sentences.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{
    CanaryStep, Config, CutoverRules, Discover, DiscoverFrom, Dns, DnsMode, DnsRecord, DnsStart, Listener, Service,
    Tls, TlsVersion, Warm,
};
use crate::names::Color;
use crate::stack::{Kind, Site};
use crate::time::Human;

/// What the proxy would do, in sentences.
pub fn explain(config: &Config) -> Vec<String> {
    let mut says = Vec::new();
    let mut line = |sentence: String| says.push(sentence);
    config.listeners.iter().for_each(|listener| line(listener_says(listener)));
    config.services.iter().for_each(|service| service_says(service).into_iter().for_each(&mut line));
    let admin = &config.admin;
    line(format!("take orders at {}", admin.socket.display()));
    if let Some(address) = admin.listen {
        let writes = if admin.token_file.is_some() { "orders with the token" } else { "no orders" };
        line(format!("show status and metrics at http://{address}, and take {writes} there"));
    }
    let missing = if config.state.dir.is_dir() { "" } else { " (which does not exist yet: create it before)" };
    line(format!("keep its journal in {}{missing}", config.state.dir.display()));
    if let Some(log) = &config.access_log {
        line(format!("write a line for every request to {}, as {}", log.file, log.format));
    }
    says
}

/// Of each service whose names follow it: which, where, and when.
pub fn dns_as_json(config: &Config) -> Value {
    let of = |service: &Service| {
        let Dns { zone, mode, start, records, .. } = service.dns.as_ref()?;
        let record = |record: &DnsRecord| json!({ "name": record.name, "type": record.kind });
        let records: Vec<Value> = records.iter().map(record).collect();
        let (mode, start) = (mode.to_string(), start.to_string());
        Some(json!({ "service": service.name, "zone": zone, "mode": mode, "start": start, "records": records }))
    };
    config.services.iter().filter_map(of).collect()
}

fn listener_says(listener: &Listener) -> String {
    match &listener.tls {
        None => format!("listen on {} for HTTP/1.1 and HTTP/2", listener.address),
        Some(tls) => {
            format!("listen on {} for HTTP/1.1 and HTTP/2 over {}", listener.address, tls_says(tls))
        }
    }
}

fn tls_says(tls: &Tls) -> String {
    let version = match tls.min_version {
        TlsVersion::V1_2 => "TLS 1.2 and 1.3",
        TlsVersion::V1_3 => "TLS 1.3",
    };
    let certificates = match tls.certificates.len() {
        1 => "1 certificate".to_owned(),
        count => format!("{count} certificates"),
    };
    let quantum = if tls.post_quantum { "" } else { ", without post-quantum key exchange" };
    format!("{version} with {certificates}{quantum}")
}

fn service_says(service: &Service) -> Vec<String> {
    let hosts: Vec<String> = service.hosts.iter().map(ToString::to_string).collect();
    let hosts = if hosts.is_empty() { "every other host".to_owned() } else { hosts.join(", ") };
    let path = match service.path.as_str() {
        "/" => String::new(),
        path => format!(" under {path}"),
    };
    let endpoints = |color: Color| match (&service.stacks[color].discover, service.stacks[color].endpoints.len()) {
        (Some(_), _) => format!("{color} (discovered)"),
        (None, 1) => format!("{color} (1 endpoint)"),
        (None, count) => format!("{color} ({count} endpoints)"),
    };
    let health = &service.health;
    let asked = health.path.as_ref().map_or("by connecting".to_owned(), |path| format!("at {path}"));
    let (rules, drain) = (&service.cutover, &service.cutover.drain);
    let mut says = vec![format!(
        "serve `{}` for {hosts}{path}, from {} or {}",
        service.name,
        endpoints(Color::Blue),
        endpoints(Color::Green)
    )];
    let discovers = service.stacks.iter().filter_map(|(color, stack)| Some((color, stack.discover.as_ref()?)));
    says.extend(discovers.map(|(color, discover)| discover_says(color, discover)));
    says.extend([
        format!(
            "check its endpoints {asked} every {}: up after {} passes, down after {} failures",
            Human(health.interval),
            health.rise,
            health.fall
        ),
        format!(
            "switch it once {} of the new color's endpoints are up, then give requests {} and tunnels {} to leave the old one",
            service.cutover.min_healthy,
            Human(drain.requests),
            Human(drain.tunnels)
        ),
    ]);
    if !health.slow_start.is_zero() {
        let lasts = Human(health.slow_start);
        says.push(format!("give an endpoint that comes up later than others its whole share only after {lasts}"));
    }
    says.extend(stacks_say(service));
    says.extend(decisions_say(rules));
    says.extend(rules.warm.as_ref().and_then(|warm| start_says(warm, service.timeouts.connect)));
    says.extend(service.dns.as_ref().map(|dns| dns_says(dns, rules.bake.is_some())));
    says
}

fn discover_says(color: Color, discover: &Discover) -> String {
    let Discover { from, interval, min_share } = discover;
    let ttl = match from.get_ref() {
        DiscoverFrom::Dns(_) => ", or when the TTL is over",
        _ => "",
    };
    let says = from.get_ref().says();
    format!(
        "ask for {color}'s endpoints every {}{ttl}: {says}; believe fewer than {min_share} of them only where health checks agree",
        Human(*interval)
    )
}

/// Which stacks may be ordered about, where a color is one.
fn stacks_say(service: &Service) -> Option<String> {
    let known = || Color::BOTH.into_iter().filter_map(|color| Some((color, Site::of(&service.stacks[color])?)));
    let sites: Vec<String> = known().map(|(color, site)| format!("{site} ({color})")).collect();
    // What a group starts comes with its app.
    let has_apps = known().any(|(_, site)| site.provider == Kind::OpsWorks);
    let app = service
        .stack_rules
        .app
        .as_ref()
        .filter(|_| has_apps)
        .map(|app| format!(", whose app {app} is deployed"))
        .unwrap_or_default();
    let says = || format!("carry out what `cutover stack` orders of {}{app}", sites.join(" and "));
    (!sites.is_empty()).then(says)
}

/// What comes before and after the switch of everyone, in that order.
fn decisions_say(rules: &CutoverRules) -> Vec<String> {
    let mut says = Vec::new();
    if !rules.gates.is_empty() {
        let names: Vec<&str> = rules.gates.iter().map(|gate| gate.name.as_str()).collect();
        says.push(format!("ask {} before a switch", names.join(", ")));
    }
    says.extend(rules.warm.as_ref().map(warm_says));
    if !rules.preview.from.is_empty() {
        let from: Vec<String> = rules.preview.from.iter().map(ToString::to_string).collect();
        says.push(format!("show clients of {} the other color while it can be previewed", from.join(", ")));
    }
    if !rules.canary.is_empty() {
        let step = |step: &CanaryStep| format!("{} for {}", step.weight, Human(step.lasts));
        let steps: Vec<String> = rules.canary.iter().map(step).collect();
        says.push(format!("give the new color a share of the clients first: {}", steps.join(", then ")));
    }
    if !rules.ramp.is_zero() {
        says.push(format!("let the new color's share rise to all within {} before the switch", Human(rules.ramp)));
    }
    if let Some(mirror) = &rules.mirror {
        let (share, methods) = (mirror.share, mirror.methods.join(" and "));
        says.push(format!("send the new color a copy of {share} of the live one's {methods} requests meanwhile"));
    }
    if let Some(bake) = &rules.bake {
        let (length, least, most) = (Human(bake.length), bake.min_requests, bake.max_error_share);
        says.push(format!(
            "judge the new color for {length} after a switch, by {least} requests or more of which {most} may fail, and go back \
             from a bad one"
        ));
    }
    says
}

fn warm_says(warm: &Warm) -> String {
    let connections = warm.connections;
    if warm.requests.is_empty() {
        return format!("open {connections} connections to each endpoint of the new color before clients see it");
    }
    let requests: Vec<String> = warm.requests.iter().map(ToString::to_string).collect();
    format!(
        "give each endpoint of the new color {connections} connections and {} requests ({}) over {} before clients see it; \
         at most {} may fail",
        warm.requests_each(),
        requests.join(", "),
        Human(warm.lasts),
        warm.max_error_share
    )
}

/// What the live color is given before the first client.
fn start_says(warm: &Warm, connect: Duration) -> Option<String> {
    let given = warm.at_start(connect)?;
    let (connections, within) = (given.connections, Human(given.deadline));
    let requests = match given.requests_each() {
        0 => String::new(),
        count => format!(" and {count} requests"),
    };
    Some(format!(
        "give each endpoint of the live color {connections} connections{requests} at a start before clients are let in, \
         within {within}"
    ))
}

fn dns_says(dns: &Dns, bakes: bool) -> String {
    let records: Vec<String> = dns.records.iter().map(|record| format!("{} {}", record.name, record.kind)).collect();
    let when = match (dns.start, bakes) {
        (DnsStart::AfterBake, true) => "once it has been judged good",
        _ => "once the old color has drained",
    };
    let (lower, ttl) = (Human(dns.lower_ttl), Human(dns.ttl));
    let low = match dns.mode {
        DnsMode::Alias => String::new(),
        DnsMode::Weighted | DnsMode::Simple => format!(", with a TTL of {lower} on the way and {ttl} after it"),
    };
    format!("lead {} in zone {} to the new color {when}{low}", records.join(", "), dns.zone)
}
