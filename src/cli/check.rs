//! `cutover check`: says whether the config is right, and what the proxy would do with it. Binds and changes nothing.

use std::fmt::Write;

use serde_json::json;

use super::{Failure, Global};
use crate::config::{Config, Listener, Service};
use crate::names::Color;
use crate::proxy::Certificates;
use crate::time::Human;

pub fn run(global: &Global) -> Result<(), Failure> {
    let config = Config::load(&global.config).map_err(|report| Failure::Config(Box::new(report), global.json))?;
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        Certificates::load(tls).map_err(|error| match global.json {
            true => {
                let path = global.config.display().to_string();
                Failure::Answer(json!({"path": path, "mistakes": [{"message": error.to_string()}]}).to_string(), 2)
            }
            false => Failure::Usage(format!("{}: {error}", global.config.display())),
        })?;
    }
    if global.json {
        let services: Vec<String> = config.services.iter().map(|service| service.name.to_string()).collect();
        let listeners: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        let path = global.config.display().to_string();
        anstream::println!("{}", json!({"path": path, "mistakes": [], "listeners": listeners, "services": services}));
    } else {
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
    text
}

fn listener_says(listener: &Listener) -> String {
    match &listener.tls {
        None => format!("listen on {} for HTTP/1.1 and HTTP/2", listener.address),
        Some(tls) => {
            let certificates = match tls.certificates.len() {
                1 => "1 certificate".to_owned(),
                count => format!("{count} certificates"),
            };
            format!("listen on {} for HTTP/1.1 and HTTP/2 over TLS, with {certificates}", listener.address)
        }
    }
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
