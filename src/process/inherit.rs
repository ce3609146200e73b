//! Sockets that the service manager has bound and hands over (sd_listen_fds(3)): each is claimed by who listens there.

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::SockRef;

use crate::config::{self, ADMIN_SOCKET, Config};

/// What has been handed over, and not yet claimed.
#[derive(Default)]
pub struct Inherited {
    tcp: Vec<Tcp>,
    unix: Vec<(Name, PathBuf, UnixListener)>,
}

struct Tcp {
    name: Name,
    address: SocketAddr,
    socket: TcpListener,
}

/// `FileDescriptorName=` of the socket's unit; by default the unit's own name.
type Name = String;

impl Inherited {
    /// Takes everything that is meant for this process. Called once, before anything else opens a file: descriptors are
    /// numbers, and these are known by nothing else.
    pub fn take() -> Result<Inherited, InheritError> {
        let mut inherited = Inherited::default();
        // Without it the others may be somebody else's, left over in the environment.
        if env::var_os("LISTEN_PID").is_none() {
            return Ok(inherited);
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut handed = ListenFd::from_env();
        for place in 0..handed.len() {
            let name = names.next().unwrap_or_default();
            let strange = |why: String| InheritError::Strange { name: name.clone(), number: FIRST + place, why };
            if let Ok(Some(socket)) = handed.take_tcp_listener(place) {
                listens(SockRef::from(&socket)).map_err(strange)?;
                let address = socket.local_addr().map_err(|error| strange(error.to_string()))?;
                inherited.tcp.push(Tcp { name, address, socket });
            } else {
                let socket = handed.take_unix_listener(place).map_err(|error| strange(error.to_string()))?;
                let Some(socket) = socket else { continue };
                listens(SockRef::from(&socket)).map_err(strange)?;
                let address = socket.local_addr().map_err(|error| strange(error.to_string()))?;
                inherited.unix.push((name, address.as_pathname().unwrap_or(Path::new("")).to_owned(), socket));
            }
        }
        Ok(inherited)
    }

    /// Gives each socket to who listens there. One that is bound to a listener's address is that listener's, whatever its
    /// name; another is the one's whose name it has. None may be left: clients would be waiting there for ever.
    pub fn share_out(mut self, config: &Config) -> Result<Handed, InheritError> {
        let by_address = |socket: &Tcp, listener: &config::Listener| listener.address == socket.address;
        let by_name = |socket: &Tcp, listener: &config::Listener| listener.name.as_ref() == Some(&socket.name);
        let mut listeners: Vec<Vec<TcpListener>> = config.listeners.iter().map(|_| Vec::new()).collect();
        for fits in [by_address as fn(&Tcp, &config::Listener) -> bool, by_name] {
            for (listener, sockets) in config.listeners.iter().zip(&mut listeners) {
                let own = self.tcp.extract_if(.., |socket| fits(socket, listener));
                sockets.extend(own.map(|socket| socket.socket));
            }
        }
        let path = &config.admin.socket;
        let admin = self.unix.iter().position(|(name, bound, _)| name == ADMIN_SOCKET || bound == path);
        let admin = admin.map(|place| self.unix.remove(place).2);
        self.all_claimed()?;
        Ok(Handed { listeners, admin })
    }

    fn all_claimed(&self) -> Result<(), InheritError> {
        let tcp = self.tcp.iter().map(|Tcp { name, address, .. }| format!("{address} (`{name}`)"));
        let unix = self.unix.iter().map(|(name, path, _)| format!("{} (`{name}`)", path.display()));
        let left: Vec<_> = tcp.chain(unix).collect();
        if left.is_empty() { Ok(()) } else { Err(InheritError::Unclaimed { sockets: left.join(", ") }) }
    }
}

/// Every socket with who listens there.
pub struct Handed {
    /// In the order of the config; most often one, or none, for a listener.
    pub listeners: Vec<Vec<TcpListener>>,
    pub admin: Option<UnixListener>,
}

fn listens(socket: SockRef) -> Result<(), String> {
    match socket.is_listener() {
        Ok(true) => Ok(()),
        Ok(false) => Err("it is a connection, or bound and not listening; is `Accept=no` in its unit?".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Why sockets that were handed over do not fit the config.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    #[error("descriptor {number} (`{name}`), handed over by the service manager, cannot be used: {why}")]
    Strange { name: String, number: usize, why: String },
    #[error(
        "the service manager hands over {sockets}, and nothing in the config listens there: write a [[listener]] with that \
        address, or with that name as its `name`, or take it out of the socket's unit; the admin API's is named `admin`"
    )]
    Unclaimed { sockets: String },
}

/// Descriptors that are handed over begin here.
const FIRST: usize = 3;
