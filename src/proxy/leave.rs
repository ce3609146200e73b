//! How a worker leaves: first its clients are told, then what is idle is closed, then it waits for the rest.

use std::cell::Cell;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How far the leaving is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Staying,
    /// Every answer tells its client to come back on another connection.
    Telling,
    /// Connections without a request are closed, and no new ones are taken.
    Closing,
    /// Whatever is still there is dropped.
    Gone,
}

/// One worker's stage, as its connections see it.
#[derive(Default)]
pub struct Leave {
    stage: Cell<Stage>,
    bell: Notify,
}

impl Leave {
    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    pub fn reach(&self, stage: Stage) {
        self.stage.set(stage);
        self.bell.notify_waiters();
    }

    /// Resolves at the next change of the stage after this is first polled.
    pub fn changed(&self) -> Notified<'_> {
        self.bell.notified()
    }

    /// Resolves when the stage is `stage`, or later.
    pub async fn reached(&self, stage: Stage) {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.stage() >= stage {
                return;
            }
            changed.await;
        }
    }
}
