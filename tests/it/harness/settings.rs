//! The config file of a story, written fluently: what a story does not name gets a value that keeps it quick.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{Address, Ca, Cutover, Manager};

/// What `Cutover::with` begins and `start` ends.
pub struct Settings {
    pub workers: usize,
    pub listen: Vec<Listen>,
    pub admin: SocketAddr,
    pub manager: Manager,
    services: Vec<Service>,
    /// Lines of `[access_log]`, if there is one.
    access_log: Option<String>,
    /// Other sections by name, each with its lines.
    sections: BTreeMap<String, String>,
    folder: tempfile::TempDir,
}

impl Settings {
    pub fn new() -> Settings {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let listen = vec![Listen { address: ANY, name: None, tls: None }];
        let (manager, services, access_log, sections) = (Manager::default(), Vec::new(), None, BTreeMap::new());
        Settings { workers: 2, listen, admin: ANY, manager, services, access_log, sections, folder }
    }

    /// One service more, or more about one that is there.
    pub fn service(mut self, name: &str, describe: impl FnOnce(Service) -> Service) -> Settings {
        match self.services.iter().position(|service| service.name == name) {
            Some(place) => {
                let known = self.services.remove(place);
                self.services.insert(place, describe(known));
            }
            None => self.services.push(describe(Service::new(name))),
        }
        self
    }

    pub fn without_service(mut self, name: &str) -> Settings {
        self.services.retain(|service| service.name != name);
        self
    }

    /// One more cleartext listener.
    pub fn listener(mut self) -> Settings {
        self.listen.push(Listen { address: ANY, name: None, tls: None });
        self
    }

    pub fn without_listener(mut self, address: SocketAddr) -> Settings {
        self.listen.retain(|listen| listen.address != address);
        self
    }

    /// A section that stories seldom have, such as `edge.limits`, with its lines of `key = value`.
    pub fn section(mut self, name: &str, lines: &str) -> Settings {
        self.sections.insert(name.to_owned(), lines.to_owned());
        self
    }

    /// One more listener, with a certificate for these names.
    pub fn tls(self, ca: &Ca, names: &[&str]) -> Settings {
        let pair = ca.issue(names, self.folder.path());
        self.tls_with(&[pair], "")
    }

    /// One more listener, with these certificates and keys, and more lines of `key = value` for its TLS.
    pub fn tls_with(mut self, pairs: &[(PathBuf, PathBuf)], extra: &str) -> Settings {
        let pairs = pairs.iter().map(|(cert, key)| format!("{{ cert = {cert:?}, key = {key:?} }}"));
        let pairs: Vec<_> = pairs.collect();
        let tls = format!("certificates = [{}]\n{extra}\n", pairs.join(", "));
        self.listen.push(Listen { address: ANY, name: None, tls: Some(tls) });
        self
    }

    /// Where the files of this story are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An access log, in [`Settings::log_file`] unless these lines name another.
    pub fn access_log(self, lines: &str) -> Settings {
        Settings { access_log: Some(lines.to_owned()), ..self }
    }

    pub fn without_access_log(self) -> Settings {
        Settings { access_log: None, ..self }
    }

    pub fn workers(self, workers: usize) -> Settings {
        Settings { workers, ..self }
    }

    /// Where the first listener listens, and what a service manager would call its socket.
    pub fn listen_on(mut self, address: SocketAddr, name: Option<&str>) -> Settings {
        self.listen[0] = Listen { address, name: name.map(str::to_owned), tls: None };
        self
    }

    /// Started with this in its environment.
    pub fn env(mut self, key: &'static str, value: impl ToString) -> Settings {
        self.manager.env.push((key, value.to_string()));
        self
    }

    /// Started with these sockets handed over.
    pub fn handed(mut self, sockets: Vec<OwnedFd>, names: &str) -> Settings {
        (self.manager.handed, self.manager.names) = (sockets, names.to_owned());
        self
    }

    /// Runs the proxy, and resolves when it is ready and every endpoint has had its first check.
    pub async fn start(self) -> Cutover {
        Cutover::start(self).await
    }

    /// Runs the proxy, and resolves when its admin socket answers: for stories without a healthy backend.
    pub async fn start_unready(self) -> Cutover {
        Cutover::start_unready(self).await
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("cutover.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Writes the file anew.
    pub fn write(&self) {
        std::fs::write(self.file(), self.toml()).unwrap();
    }

    fn toml(&self) -> String {
        let token = self.folder.path().join("token");
        let mut toml = format!(
            "[admin]\nsocket = {:?}\nlisten = \"{}\"\ntoken_file = {token:?}\n\n[state]\ndir = {:?}\n",
            self.socket(),
            self.admin,
            self.state_dir(),
        );
        if let Some(lines) = &self.access_log {
            writeln!(toml, "\n[access_log]").unwrap();
            if !lines.contains("file = ") {
                writeln!(toml, "file = {:?}", self.log_file()).unwrap();
            }
            writeln!(toml, "{lines}").unwrap();
        }
        for Listen { address, name, tls } in &self.listen {
            writeln!(toml, "\n[[listener]]\naddress = \"{address}\"").unwrap();
            if let Some(name) = name {
                writeln!(toml, "name = {name:?}").unwrap();
            }
            if let Some(tls) = tls {
                writeln!(toml, "[listener.tls]\n{tls}").unwrap();
            }
        }
        for (name, lines) in &self.sections {
            writeln!(toml, "\n[{name}]\n{lines}").unwrap();
        }
        for service in &self.services {
            service.write(&mut toml);
        }
        toml
    }
}

pub struct Listen {
    pub address: SocketAddr,
    pub name: Option<String>,
    /// The lines of its section.
    pub tls: Option<String>,
}

/// One `[service.NAME]` and the sections below it.
pub struct Service {
    name: String,
    /// By the section's name, the service's own having none; then by key, the value as TOML.
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl Service {
    fn new(name: &str) -> Service {
        let service = Service { name: name.to_owned(), sections: BTreeMap::new() };
        let service = service.extra("health", "interval = \"50ms\"\ntimeout = \"10s\"\nrise = 1\nfall = 1");
        service.blue([NOBODY; 0]).green([NOBODY; 0])
    }

    pub fn hosts(self, hosts: &[&str]) -> Service {
        self.extra("", &format!("hosts = {hosts:?}"))
    }

    pub fn path(self, path: &str) -> Service {
        self.extra("", &format!("path = {path:?}"))
    }

    pub fn blue(self, endpoints: impl IntoIterator<Item = impl Address>) -> Service {
        self.endpoints("blue", endpoints)
    }

    pub fn green(self, endpoints: impl IntoIterator<Item = impl Address>) -> Service {
        self.endpoints("green", endpoints)
    }

    /// Has a color's endpoints learned, as these keys say, in place of those that are named.
    pub fn discover(mut self, color: &str, keys: &str) -> Service {
        self.sections.entry(color.to_owned()).or_default().remove("endpoints");
        self.extra(color, &format!("discover = {{ {keys} }}"))
    }

    /// The path asked by health checks; without one a TCP connect is enough.
    pub fn health(self, path: &str) -> Service {
        self.extra("health", &format!("path = {path:?}"))
    }

    /// Lines of `key = value` for a section; a later one replaces an earlier.
    pub fn extra(mut self, section: &str, lines: &str) -> Service {
        let keys = self.sections.entry(section.to_owned()).or_default();
        for line in lines.lines() {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("not `key = value`: {line}"));
            keys.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        self
    }

    fn endpoints(mut self, color: &str, endpoints: impl IntoIterator<Item = impl Address>) -> Service {
        let endpoints: Vec<_> = endpoints.into_iter().map(|one| one.address().to_string()).collect();
        self.sections.entry(color.to_owned()).or_default().remove("discover");
        self.extra(color, &format!("endpoints = {endpoints:?}"))
    }

    fn write(&self, toml: &mut String) {
        for (section, keys) in &self.sections {
            let dot = if section.is_empty() { "" } else { "." };
            writeln!(toml, "\n[service.{}{dot}{section}]", self.name).unwrap();
            for (key, value) in keys {
                writeln!(toml, "{key} = {value}").unwrap();
            }
        }
    }
}

/// What writes over TCP must carry.
pub const TOKEN: &str = "a-token-for-stories";

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const NOBODY: SocketAddr = ANY;
