//! The access log: a line for every request, written by a thread of its own, so that no request waits for a disk.

mod book;
mod clock;
mod escape;
mod line;
mod outlet;
mod shelf;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::sync::watch;

pub use self::book::Book;
pub use self::line::{Asked, Closing, Draft, Opening};
use self::outlet::Outlet;
pub use self::shelf::Shelf;
use self::writer::Writer;
use crate::config;
use crate::metrics::Counter;

/// The running log: its writer, and what its books are opened from.
pub struct AccessLog {
    config: config::AccessLog,
    shared: Arc<Shared>,
    writer: Thread,
    /// Ends with the writer.
    ended: watch::Receiver<()>,
}

impl AccessLog {
    /// Opens the file and starts the writer, for as many workers.
    pub fn open(config: &config::AccessLog, workers: usize) -> Result<Arc<AccessLog>, AccessError> {
        let outlet =
            Outlet::open(&config.file).map_err(|source| AccessError::Open { to: config.file.clone(), source })?;
        let shared = Arc::new(Shared::new(config.buffer, workers));
        let (ends, ended) = watch::channel(());
        let writer = Writer::new(config.file.clone(), outlet, shared.clone());
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || {
            writer.run();
            drop(ends);
        });
        let writer = thread.map_err(AccessError::Thread)?.thread().clone();
        Ok(Arc::new(AccessLog { config: config.clone(), shared, writer, ended }))
    }

    /// One worker's side; to be called once for each, on its own thread.
    pub fn book(&self, worker: usize) -> Book {
        Book::new(self.config.format, self.shared.clone(), worker, self.writer.clone())
    }

    /// Whether a worker has a book of it, since it is the present log or a request that began in it is under way.
    fn is_open_somewhere(&self) -> bool {
        self.shared.books.load(Ordering::Acquire) > 0
    }

    /// Opens the file anew: the old one may have been renamed.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// Writes what is there and ends; to be called when the workers have ended, or have been waited for long enough.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.writer.unpark();
        // Where the disk does not answer, the writer cannot even give up.
        let _ = tokio::time::timeout(FLUSH, self.ended.clone().changed()).await;
        let lines = self.shared.handed().saturating_sub(self.lines());
        if lines > 0 {
            tracing::warn!(lines, "access log {}: these could not be written before the end", self.config.file);
        }
    }

    /// Lines written so far.
    pub fn lines(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Lines dropped so far, by the place of the reason in [`AccessLog::REASONS`].
    pub fn dropped(&self, reason: usize) -> u64 {
        self.shared.sheets.iter().map(|sheet| sheet.dropped[reason].get()).sum()
    }

    /// Why lines are dropped: the writer is slower than they come, or the last write has failed.
    pub const REASONS: [&str; 2] = ["behind", "failed"];
}

/// A log that nobody closed would keep its thread for ever.
impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

/// Why there is no access log.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(
        "the access log {to} cannot be opened: {source}; does its folder exist, and may this user write there? \
         (`file` under [access_log])"
    )]
    Open { to: config::LogFile, source: io::Error },
    #[error("the access log's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// What the books and the writer meet in: two queues, whole buffers one way, empty ones the other.
struct Shared {
    full: ArrayQueue<Batch>,
    empty: ArrayQueue<Vec<u8>>,
    /// What books still held when they were closed: beyond the queue, so that nothing of it is dropped.
    last: Mutex<Vec<Batch>>,
    /// Books that may still hand something over.
    books: AtomicUsize,
    reopen: AtomicBool,
    closing: AtomicBool,
    /// The last write has failed.
    failing: AtomicBool,
    written: AtomicU64,
    sheets: Box<[Sheet]>,
}

/// Whole lines.
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

/// One worker's counts, alone on their cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Sheet {
    handed: Counter,
    dropped: [Counter; 2],
}

impl Shared {
    fn new(buffer: u64, workers: usize) -> Shared {
        let batches = usize::try_from(buffer).unwrap_or(usize::MAX) / BATCH;
        Shared {
            full: ArrayQueue::new(batches.max(2)),
            empty: ArrayQueue::new(2 * workers),
            last: Mutex::default(),
            books: AtomicUsize::new(0),
            reopen: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            written: AtomicU64::new(0),
            sheets: (0..workers).map(|_| Sheet::default()).collect(),
        }
    }

    /// Lines handed to the writer so far.
    fn handed(&self) -> u64 {
        self.sheets.iter().map(|sheet| sheet.handed.get()).sum()
    }

    /// Lines dropped so far, whatever the reason.
    fn dropped(&self) -> u64 {
        self.sheets.iter().flat_map(|sheet| &sheet.dropped).map(Counter::get).sum()
    }
}

/// Bytes of lines a worker gathers before it hands them over.
const BATCH: usize = 64 * 1024;
/// How long the end of the process may be put off for what is not written yet.
const FLUSH: Duration = Duration::from_secs(3);
