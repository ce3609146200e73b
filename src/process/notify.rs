//! What the service manager is told of us, where one listens (sd_notify(3)): a datagram of `KEY=value` lines each time.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::table::Table;
use crate::time::Moment;

/// Where nobody listens, telling does nothing.
#[derive(Clone, Default)]
pub struct Notifier(Option<Arc<Ear>>);

/// Who listens.
struct Ear {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Whoever started us names the socket.
    pub fn from_env() -> Notifier {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Notifier(None) };
        let ear = Ear::new(&name);
        let said = ear.inspect_err(|error| tracing::warn!("the service manager is told nothing: {name:?}: {error}"));
        Notifier(said.ok().map(Arc::new))
    }

    /// What serves is warmed up before the first client; the proxy is ready after so long at the latest.
    pub fn warming(&self, within: Duration) {
        let micros = within.as_micros();
        self.say(&format!("EXTEND_TIMEOUT_USEC={micros}\nSTATUS=warming up\n"));
    }

    /// The proxy serves.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// A reload begins; it ends, well or not, when what this returns is dropped. The time is what tells the reload that
    /// was asked for from another one before it (`Type=notify-reload`).
    pub fn reloading(&self) -> Reloading {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading\n", Moment::now().nanos() / 1000));
        Reloading { notifier: self.clone(), status: None }
    }

    /// The proxy ends, which may take so long.
    pub fn stopping(&self, within: Duration) {
        let micros = within.as_micros();
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS=finishing what is under way\n"));
    }

    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={status}\n"));
    }

    /// Everything turns.
    pub fn beat(&self) {
        self.say("WATCHDOG=1\n");
    }

    fn say(&self, lines: &str) {
        let Some(ear) = &self.0 else { return };
        if let Err(error) = ear.socket.send_to_addr(lines.as_bytes(), &ear.address) {
            tracing::warn!(
                "the service manager cannot be told {:?}: {error}",
                lines.lines().next().unwrap_or_default()
            );
        }
    }
}

impl Ear {
    fn new(name: &OsStr) -> io::Result<Ear> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(OsString::from(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        // It sends from the deciding runtime: a manager that does not read must not hold that up for long.
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        Ok(Ear { socket, address })
    }
}

/// A reload that is under way.
pub struct Reloading {
    notifier: Notifier,
    status: Option<String>,
}

impl Reloading {
    /// What is to be seen once it is over.
    pub fn ended(mut self, status: String) {
        self.status = Some(status);
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        match &self.status {
            Some(status) => self.notifier.ready(status),
            None => self.notifier.say("READY=1\n"),
        }
    }
}

/// Who is live, on one line.
pub fn status(table: &Table) -> String {
    let one = |entry: &crate::table::Entry| format!("{} from {}", entry.service.name, entry.live);
    let (shown, rest) = table.entries.split_at(table.entries.len().min(SHOWN));
    let mut all: Vec<_> = shown.iter().map(one).collect();
    all.extend((!rest.is_empty()).then(|| format!("and {} more", rest.len())));
    format!("serving {}", all.join(", "))
}

/// Services that are named in the status; one line has to do.
const SHOWN: usize = 8;

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A manager to tell things to, and what it hears.
    pub fn manager() -> (Notifier, UnixDatagram) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let notifier = Notifier(Some(Arc::new(Ear::new(path.as_os_str()).unwrap())));
        // The name may go once the sockets know each other; here it has to stay.
        let _ = folder.keep();
        (notifier, manager)
    }

    pub fn hear(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn every_message_is_one_datagram_of_lines() {
        let (notifier, manager) = manager();
        notifier.warming(Duration::from_secs(30));
        assert_eq!(hear(&manager), "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=warming up\n");
        notifier.ready("serving shop from blue");
        assert_eq!(hear(&manager), "READY=1\nSTATUS=serving shop from blue\n");
        let before = Moment::now().nanos() / 1000;
        let reloading = notifier.reloading();
        let said = hear(&manager);
        let at = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().split('\n').next().unwrap();
        assert!(at.parse::<u64>().unwrap() >= before, "{said}");
        drop(reloading);
        assert_eq!(hear(&manager), "READY=1\n");
        notifier.reloading().ended("serving shop from green".to_owned());
        assert!(hear(&manager).starts_with("RELOADING=1\n"));
        assert_eq!(hear(&manager), "READY=1\nSTATUS=serving shop from green\n");
        notifier.stopping(Duration::from_secs(40));
        assert!(hear(&manager).starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000\nSTATUS="));
    }

    #[test]
    fn a_name_without_a_file_is_understood() {
        let name = format!("cutover-notify-{}", fastrand::u64(..));
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = Notifier(Some(Arc::new(Ear::new(OsStr::new(&format!("@{name}"))).unwrap())));
        notifier.beat();
        assert_eq!(hear(&manager), "WATCHDOG=1\n");
    }
}
