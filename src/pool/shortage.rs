//! When a connection was not even tried: what is missing then is missing here, and says nothing of the endpoint.

use std::io;

use rustix::io::Errno;

/// Whether this side has run out of what any connection takes, descriptors or memory. Not of ports (EADDRNOTAVAIL): those
/// are counted for each endpoint, and where there is no way to an endpoint the system says the same.
pub fn is_ours(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|ours| ours.raw_os_error() == code))
}
