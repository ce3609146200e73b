//! `cutover check`: says whether the config is right, and what the proxy would do with it. Binds and changes nothing.

use std::fmt::Write;

use serde_json::json;

use super::{Failure, Global};
use crate::config::{Config, Listener, Report, Service, Tls, TlsVersion};
use crate::names::Color;
use crate::proxy::{Purpose, inspect};
use crate::time::{self, Human};

pub fn run(global: &Global) -> Result<(), Failure> {
    let look = |config: &Config| inspect(config, Purpose::Check, time::now());
    let loaded = Config::load_with(&global.config, look);
    let (config, report) = loaded.map_err(|report| Failure::Config(Box::new(report), global.json))?;
    if global.json {
        let services: Vec<String> = config.services.iter().map(|service| service.name.to_string()).collect();
        let listeners: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        let Report { path, mistakes, warnings, .. } = report;
        let right = json!({
            "path": path, "mistakes": mistakes, "warnings": warnings, "listeners": listeners, "services": services,
        });
        anstream::println!("{right}");
    } else {
        if !report.warnings.is_empty() {
            anstream::eprintln!("{}\n", report.render(true));
        }
        anstream::print!("{}", explain(&config));
    }
    Ok(())
}

/// What the proxy would do, in sentences.
fn explain(config: &Config) -> String {
    let mut text = String::from("The config is right. The proxy would\n");
    let mut line = |sentence: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - {sentence}");
    };
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
    text
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
    let endpoints = |color: Color| match service.stacks[color].endpoints.len() {
        1 => format!("{color} (1 endpoint)"),
        count => format!("{color} ({count} endpoints)"),
    };
    let health = &service.health;
    let asked = health.path.as_ref().map_or("by connecting".to_owned(), |path| format!("at {path}"));
    let drain = &service.cutover.drain;
    vec![
        format!(
            "serve `{}` for {hosts}{path}, from {} or {}",
            service.name,
            endpoints(Color::Blue),
            endpoints(Color::Green)
        ),
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
    ]
}
