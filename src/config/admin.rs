//! The keys under `[admin]`: where operators reach the proxy, and what they are held to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::diff;

/// Where operators reach the proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Admin {
    pub socket: PathBuf,
    pub listen: Option<SocketAddr>,
    /// Without it nothing can be written over TCP.
    pub token_file: Option<PathBuf>,
    pub limits: AdminLimits,
    pub timeouts: AdminTimeouts,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            socket: "/run/cutover/admin.sock".into(),
            listen: None,
            token_file: None,
            limits: AdminLimits::default(),
            timeouts: AdminTimeouts::default(),
        }
    }
}

/// How much operators may bring.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdminLimits {
    /// Connections open at one time over TCP, and as many over the socket.
    pub connections: usize,
    /// Bytes of an order's body.
    #[serde(serialize_with = "diff::size")]
    pub body: usize,
}

impl Default for AdminLimits {
    fn default() -> AdminLimits {
        AdminLimits { connections: 256, body: 64 << 10 }
    }
}

/// How long operators may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdminTimeouts {
    /// A connection without a request, and a head from its first byte to its last.
    pub idle: Duration,
    /// Whoever listens to events hears at least this often that the proxy lives.
    pub events: Duration,
}

impl Default for AdminTimeouts {
    fn default() -> AdminTimeouts {
        AdminTimeouts { idle: Duration::from_secs(75), events: Duration::from_secs(15) }
    }
}
