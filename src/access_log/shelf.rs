//! The access log that is written now, and those before it that requests still under way will end their lines in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;

use super::AccessLog;

/// Every log of the process. A reload puts another one in place of the present one, or none.
pub struct Shelf {
    current: ArcSwapOption<AccessLog>,
    before: Mutex<Before>,
}

/// What was.
#[derive(Default)]
struct Before {
    logs: Vec<Arc<AccessLog>>,
    /// What those had counted that are done.
    lines: u64,
    dropped: [u64; 2],
    /// There has been one.
    any: bool,
}

impl Shelf {
    pub fn new(log: Option<Arc<AccessLog>>) -> Shelf {
        let before = Before { any: log.is_some(), ..Before::default() };
        Shelf { current: ArcSwapOption::new(log), before: Mutex::new(before) }
    }

    pub fn current(&self) -> Option<Arc<AccessLog>> {
        self.current.load_full()
    }

    /// Another one from now on. The one before is closed when the last request has ended that began in it.
    pub fn replace(self: &Arc<Shelf>, log: Option<Arc<AccessLog>>) {
        let is_some = log.is_some();
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.any |= is_some;
        if let Some(old) = self.current.swap(log) {
            before.logs.push(old.clone());
            tokio::spawn(self.clone().retire(old));
        }
    }

    async fn retire(self: Arc<Shelf>, old: Arc<AccessLog>) {
        while old.is_open_somewhere() {
            tokio::time::sleep(LOOK).await;
        }
        old.close().await;
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.logs.retain(|log| !Arc::ptr_eq(log, &old));
        before.lines += old.lines();
        (0..2).for_each(|reason| before.dropped[reason] += old.dropped(reason));
    }

    /// Opens every file anew; false where there is none.
    pub fn reopen(&self) -> bool {
        let logs = self.all();
        logs.iter().for_each(|log| log.reopen());
        !logs.is_empty()
    }

    /// Writes what is there and ends all of them; to be called when the workers have ended.
    pub async fn close(&self) {
        let logs = self.all();
        join_all(logs.iter().map(|log| log.close())).await;
    }

    /// Lines written so far, where there has ever been a log.
    pub fn lines(&self) -> Option<u64> {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let now = before.logs.iter().cloned().chain(self.current());
        let lines = before.lines + now.map(|log| log.lines()).sum::<u64>();
        before.any.then_some(lines)
    }

    /// Lines dropped so far, by the place of the reason in [`AccessLog::REASONS`].
    pub fn dropped(&self, reason: usize) -> u64 {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let now = before.logs.iter().cloned().chain(self.current());
        before.dropped[reason] + now.map(|log| log.dropped(reason)).sum::<u64>()
    }

    fn all(&self) -> Vec<Arc<AccessLog>> {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.logs.iter().cloned().chain(self.current()).collect()
    }
}

/// How often a log that is no longer the present one is looked at: whether a request still has a line to end in it.
const LOOK: Duration = Duration::from_millis(100);
