//! When a connection was not even tried: what is missing then is missing here, and says nothing of the endpoint.

use std::io;

use rustix::io::Errno;

/// Whether this side has run out of what a connection takes: descriptors, memory or ports of its own.
pub fn is_ours(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|ours| ours.raw_os_error() == code))
}
