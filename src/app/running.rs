//! The config that runs: what the file said, with the addresses that are really listened on.

use std::net::SocketAddr;

use crate::config::{Admin, Change, Config, diff};

/// The config that runs. Where the system chose a port, or the service manager an address, here stands the real one.
#[derive(Clone)]
pub struct Running {
    pub config: Config,
    /// What the file asked for, and what else it got; the admin's beside those of the listeners.
    listeners: Vec<(SocketAddr, SocketAddr)>,
    admin: Option<(SocketAddr, SocketAddr)>,
}

/// What another file would change.
pub struct Step {
    /// The config as it would run: what only a start reads is as it was.
    pub to: Running,
    pub changes: Vec<Change>,
    /// What only a start reads.
    pub needs_restart: Vec<Change>,
}

impl Running {
    /// `listeners` are the real addresses, in the order of the config.
    pub fn new(config: &Config, listeners: impl Iterator<Item = SocketAddr>, admin: Option<SocketAddr>) -> Running {
        let mut running = Running { config: config.clone(), listeners: Vec::new(), admin: None };
        listeners.enumerate().for_each(|(place, address)| running.got(place, address));
        running.admin = config.admin.listen.zip(admin);
        running.config.admin.listen = admin;
        running
    }

    /// The listener at `place` has been bound to this address.
    pub fn got(&mut self, place: usize, address: SocketAddr) {
        let listener = &mut self.config.listeners[place];
        if listener.address != address {
            self.listeners.push((listener.address, address));
        }
        listener.address = address;
    }

    /// What `config` would change. A port that is left open is the one that was chosen for it before.
    pub fn step(&self, mut config: Config) -> Step {
        let mut kept = Vec::new();
        let named: Vec<_> = config.listeners.iter().map(|listener| listener.address).collect();
        let mut free = self.listeners.clone();
        free.retain(|(_, got)| !named.contains(got));
        for listener in &mut config.listeners {
            if let Some(place) = free.iter().position(|(asked, _)| *asked == listener.address) {
                let one = free.remove(place);
                listener.address = one.1;
                kept.push(one);
            }
        }
        if let (Some(listen), Some((asked, got))) = (&mut config.admin.listen, self.admin)
            && *listen == asked
        {
            *listen = got;
        }
        let (needs_restart, changes) = diff(&self.config, &config).into_iter().partition(Change::needs_restart);
        let Admin { socket, listen, .. } = self.config.admin.clone();
        let admin = Admin { socket, listen, ..config.admin };
        for listener in &mut config.listeners {
            let known = self.config.listeners.iter().find(|known| known.address == listener.address);
            listener.name = known.map_or(listener.name.take(), |known| known.name.clone());
        }
        let config = Config { admin, state: self.config.state.clone(), ..config };
        Step { to: Running { config, listeners: kept, admin: self.admin }, changes, needs_restart }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(listeners: &[&str], admin: &str) -> Config {
        let listeners: String =
            listeners.iter().map(|address| format!("[[listener]]\naddress = \"127.0.0.1:{address}\"\n")).collect();
        let text = format!("{admin}\n{listeners}[service.shop.blue]\nendpoints = [\"10.0.0.1:80\"]\n");
        Config::parse(&text, Path::new("")).unwrap_or_else(|report| panic!("{report}"))
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn ports(running: &Running) -> Vec<u16> {
        running.config.listeners.iter().map(|listener| listener.address.port()).collect()
    }

    #[test]
    fn a_port_left_open_stays_the_one_that_was_chosen() {
        let open = config(&["0", "80", "0"], "[admin]\nlisten = \"127.0.0.1:0\"");
        let running = Running::new(&open, [1001, 80, 1002].map(at).into_iter(), Some(at(1003)));
        let Step { to, changes, needs_restart } = running.step(open);
        assert_eq!((ports(&to), changes.len(), needs_restart.len()), (vec![1001, 80, 1002], 0, 0));

        // Named, or in another order, they are the same.
        let named = config(&["80", "1002", "1001"], "[admin]\nlisten = \"127.0.0.1:1003\"");
        let Step { changes, needs_restart, .. } = running.step(named);
        assert_eq!((changes.len(), needs_restart.len()), (0, 0));

        // One that is named is no longer free for whoever leaves his open.
        let Step { mut to, changes, .. } =
            running.step(config(&["0", "1001", "0"], "[admin]\nlisten = \"127.0.0.1:0\""));
        assert_eq!(ports(&to), [1002, 1001, 0]);
        assert_eq!(changes.len(), 2, "80 is gone, and one is new: {changes:?}");
        to.got(2, at(1004));
        assert_eq!(ports(&to.step(config(&["0", "1001", "0"], "")).to), [1002, 1001, 1004]);
    }

    #[test]
    fn what_only_a_start_reads_stays_and_is_said_each_time() {
        let running = Running::new(&config(&["80"], ""), [at(80)].into_iter(), None);
        let other = config(&["80"], "[admin]\nsocket = \"/run/b.sock\"\ntoken_file = \"/t\"\n[state]\ndir = \"/b\"");
        for _ in 0..2 {
            let Step { to, needs_restart, .. } = running.step(other.clone());
            let keys: Vec<_> = needs_restart.iter().map(|change| change.key.as_str()).collect();
            assert_eq!(keys, ["admin.socket", "state.dir"]);
            assert_eq!(to.config.state, running.config.state);
            assert_eq!(to.config.admin, Admin { token_file: Some("/t".into()), ..running.config.admin.clone() });
        }
    }
}
