//! The thread that writes the log: what it has begun it finishes, however long the disk takes, and lines stay whole.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::outlet::Outlet;
use super::{Batch, Shared};
use crate::config::LogFile;
use crate::time::Moment;

/// Everything about the file happens on this one thread.
pub struct Writer {
    to: LogFile,
    outlet: Outlet,
    shared: Arc<Shared>,
    drops: Told,
    failures: Told,
    closing_since: Option<Moment>,
    /// The end of the process is put off no longer.
    gives_up: bool,
}

/// What the proxy's own log has been told of, and when: each few seconds at the most.
#[derive(Default)]
struct Told {
    count: u64,
    at: Option<Moment>,
}

impl Writer {
    pub fn new(to: LogFile, outlet: Outlet, shared: Arc<Shared>) -> Writer {
        let (drops, failures) = (Told::default(), Told::default());
        Writer { to, outlet, shared, drops, failures, closing_since: None, gives_up: false }
    }

    /// Writes until the log is closed and nothing is left.
    pub fn run(mut self) {
        loop {
            if let Some(batch) = self.shared.full.pop() {
                self.write(batch);
            } else if self.is_over() {
                break;
            } else {
                self.wait();
            }
            self.attend();
        }
        let last = std::mem::take(&mut *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner));
        last.into_iter().for_each(|batch| self.write(batch));
    }

    /// Writes a batch to its last byte. Where that fails it is tried again from the same byte, so that no line is torn.
    fn write(&mut self, batch: Batch) {
        let Batch { mut bytes, lines } = batch;
        let mut at = 0;
        while at < bytes.len() {
            match self.outlet.write(&bytes[at..]) {
                Ok(written) if written > 0 => {
                    at += written;
                    continue;
                }
                Ok(_) => self.fail(&io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.fail(&error),
            }
            self.gives_up |= self.closing_for().is_some_and(|since| since > GIVE_UP);
            if self.gives_up || self.shared.reopen.load(Ordering::Acquire) {
                at -= self.take_back(&bytes[..at]);
            }
            if self.gives_up {
                return;
            }
            self.attend();
        }
        self.shared.written.fetch_add(lines, Ordering::Relaxed);
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("access log {}: can be written again", self.to);
        }
        bytes.clear();
        // What is beyond a few for each worker goes back to the allocator.
        let _ = self.shared.empty.push(bytes);
    }

    /// No file shall end with half a line, nor the next one begin with the other half.
    fn take_back(&mut self, written: &[u8]) -> usize {
        let torn = written.len() - written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if self.outlet.take_back(torn as u64) { torn } else { 0 }
    }

    fn fail(&mut self, error: &io::Error) {
        self.shared.failing.store(true, Ordering::Relaxed);
        if self.failures.anew(self.failures.count + 1).is_some() {
            tracing::error!("access log {}: cannot be written, it is tried again until it can: {error}", self.to);
        }
        std::thread::park_timeout(RETRY);
    }

    /// Orders, and what the operator should know.
    fn attend(&mut self) {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            match Outlet::open(&self.to) {
                Ok(outlet) => {
                    self.outlet = outlet;
                    tracing::info!("access log {}: opened anew", self.to);
                }
                Err(error) => {
                    tracing::error!("access log {}: cannot be opened anew, the old file is kept: {error}", self.to);
                }
            }
        }
        if let Some(lines) = self.drops.anew(self.shared.dropped()) {
            tracing::warn!(lines, "access log {}: lines are dropped, since it cannot keep up", self.to);
        }
    }

    fn wait(&self) {
        if self.closing_since.is_some() {
            std::thread::park_timeout(GRACE);
        } else if self.shared.dropped() > self.drops.count {
            std::thread::park_timeout(TELL_EVERY);
        } else {
            std::thread::park();
        }
    }

    /// Closed, and every book too; workers that cannot end get the time to hand over what they have.
    fn is_over(&mut self) -> bool {
        let Some(closing) = self.closing_for() else { return false };
        let over = self.shared.books.load(Ordering::Acquire) == 0 || closing > GRACE;
        // Asked once more: a book may have handed something over between the last look and its end.
        over && self.shared.full.is_empty()
    }

    fn closing_for(&mut self) -> Option<Duration> {
        if self.closing_since.is_none() && self.shared.closing.load(Ordering::Acquire) {
            self.closing_since = Some(Moment::now());
        }
        self.closing_since.map(|since| Moment::now().since(since))
    }
}

impl Told {
    /// How many more there are than were told of, where it is time to tell it.
    fn anew(&mut self, count: u64) -> Option<u64> {
        let more = count - self.count;
        if more == 0 || self.at.is_some_and(|at| Moment::now().since(at) < TELL_EVERY) {
            return None;
        }
        *self = Told { count, at: Some(Moment::now()) };
        Some(more)
    }
}

const TELL_EVERY: Duration = Duration::from_secs(5);
/// From a failed write to the next try.
const RETRY: Duration = Duration::from_secs(1);
/// How long the end of the process is put off for what cannot be written.
const GIVE_UP: Duration = Duration::from_secs(2);
/// How long books that are still open may take to hand over what they have.
const GRACE: Duration = Duration::from_millis(250);
