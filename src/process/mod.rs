//! What the system sees of the process: signals, open files, what the service manager hands over and is told.

mod inherit;
mod notify;
mod watch;

use std::io;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

pub use self::inherit::{Handed, InheritError, Inherited};
pub use self::notify::{Notifier, Reloading, status};
pub use self::watch::{watch, watch_the_end, watchdog};

/// The signals that ask the process to end; listening begins when this is made.
pub struct EndSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl EndSignals {
    pub fn listen() -> io::Result<EndSignals> {
        Ok(EndSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves with the name of the next signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The signal that asks for log files to be opened anew.
pub struct ReopenSignal(tokio::signal::unix::Signal);

impl ReopenSignal {
    pub fn listen() -> io::Result<ReopenSignal> {
        Ok(ReopenSignal(signal(SignalKind::user_defined1())?))
    }

    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// The signal that asks for the config to be read anew; until this is made it ends the process.
pub struct ReloadSignal(tokio::signal::unix::Signal);

impl ReloadSignal {
    pub fn listen() -> io::Result<ReloadSignal> {
        signal(SignalKind::hangup()).map(ReloadSignal)
    }

    /// Resolves with the name of the next one; several that come at once may be one.
    pub async fn next(&mut self) -> &'static str {
        self.0.recv().await;
        "SIGHUP"
    }
}

/// Has a file that may not grow any longer be a write that fails, and no longer the end of the process.
pub fn outlive_full_files() -> io::Result<()> {
    // Once it has been listened for, it is never again what the system makes of it; the commands of gates begin anew.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// Raises the limit of open files as far as the system allows: every connection is one, and its backend another.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // What cannot be raised stays as it was: a lower limit is a matter of capacity, not of correctness.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// How many files may be open; `None`: as many as one likes.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
