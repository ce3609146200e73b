//! One worker's side of the log: lines are gathered here, and handed over in batches, without a lock and without waiting.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Clock;
use super::line::{Closing, Draft, Opening};
use super::{BATCH, Batch, Shared};
use crate::config::LogFormat;

/// It never leaves the worker's thread; dropping it hands over what is left.
pub struct Book {
    format: LogFormat,
    shared: Arc<Shared>,
    worker: usize,
    writer: Thread,
    clock: RefCell<Clock>,
    lines: RefCell<Vec<u8>>,
    count: Cell<u64>,
    /// A line stands here that somebody must hand over in time.
    begun: Rc<Notify>,
}

impl Book {
    pub(super) fn new(format: LogFormat, shared: Arc<Shared>, worker: usize, writer: Thread) -> Book {
        shared.books.fetch_add(1, Ordering::AcqRel);
        let (clock, begun) = (RefCell::new(Clock::new(format)), Rc::default());
        Book { format, shared, worker, writer, clock, lines: RefCell::default(), count: Cell::new(0), begun }
    }

    /// Begins the line of a request.
    pub fn begin(&self, draft: &mut Draft, opening: &Opening<'_>) {
        draft.begin(self.format, &mut self.clock.borrow_mut(), opening);
    }

    /// Says the id of a request whose line was begun without.
    pub fn name(&self, draft: &mut Draft, request_id: &[u8]) {
        draft.name(self.format, request_id);
    }

    /// Ends a line: it is written, or dropped and counted, and nobody waits for either.
    pub fn end(&self, draft: &Draft, closing: &Closing<'_>) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() + draft.most() > BATCH && !self.hand_over(&mut lines) {
            let reason = usize::from(self.shared.failing.load(Ordering::Relaxed));
            self.shared.sheets[self.worker].dropped[reason].add(1);
            return;
        }
        if lines.is_empty() {
            if lines.capacity() == 0 {
                *lines = self.shared.empty.pop().unwrap_or_else(|| Vec::with_capacity(BATCH));
            }
            self.begun.notify_one();
        }
        draft.end(self.format, closing, &mut lines);
        self.count.set(self.count.get() + 1);
    }

    /// Hands over what has stood in the book for a moment, until the book is gone.
    pub async fn keep(book: Weak<Book>) {
        let Some(begun) = book.upgrade().map(|book| book.begun.clone()) else { return };
        loop {
            begun.notified().await;
            if book.strong_count() > 0 {
                tokio::time::sleep(MOMENT).await;
            }
            let Some(book) = book.upgrade() else { return };
            let mut lines = book.lines.borrow_mut();
            // Where the writer is behind, batches are left to fill up, so that as many lines as possible may wait.
            let behind = book.shared.full.len() >= book.shared.sheets.len();
            if !lines.is_empty() && (behind || !book.hand_over(&mut lines)) {
                begun.notify_one();
            }
        }
    }

    /// Whether the writer's queue had room.
    fn hand_over(&self, lines: &mut Vec<u8>) -> bool {
        let batch = Batch { bytes: std::mem::take(lines), lines: self.count.get() };
        if let Err(back) = self.shared.full.push(batch) {
            *lines = back.bytes;
            return false;
        }
        self.shared.sheets[self.worker].handed.add(self.count.take());
        self.writer.unpark();
        true
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        let batch = Batch { bytes: self.lines.take(), lines: self.count.take() };
        if batch.lines > 0 {
            self.shared.sheets[self.worker].handed.add(batch.lines);
            self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
        }
        self.shared.books.fetch_sub(1, Ordering::AcqRel);
        self.writer.unpark();
        self.begun.notify_one();
    }
}

/// The longest a line stands in its book while the writer keeps pace.
const MOMENT: Duration = Duration::from_millis(100);
