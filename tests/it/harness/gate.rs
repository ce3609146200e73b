//! The gate requests wait at until a story lets them go, so that no story sleeps.

use tokio::sync::watch;

#[derive(Default)]
pub struct Gate(watch::Sender<State>);

/// Both figures change in one step: whoever is counted as waiting is let go by the next release.
#[derive(Default)]
struct State {
    releases: u64,
    waiting: usize,
}

impl Gate {
    /// Lets go everyone who waits now; who comes later waits again.
    pub fn release(&self) {
        self.0.send_modify(|state| {
            state.releases += 1;
            state.waiting = 0;
        });
    }

    pub async fn wait(&self) {
        let mut state = self.0.subscribe();
        let waiting = Waiting::at(self);
        let _ = state.wait_for(|state| state.releases > waiting.since).await;
    }

    /// How many wait now.
    pub fn held(&self) -> usize {
        self.0.borrow().waiting
    }

    /// Resolves when `n` or more wait.
    pub async fn waiting(&self, n: usize) {
        let _ = self.0.subscribe().wait_for(|state| state.waiting >= n).await;
    }
}

struct Waiting<'a> {
    gate: &'a Gate,
    since: u64,
}

impl<'a> Waiting<'a> {
    fn at(gate: &'a Gate) -> Waiting<'a> {
        let mut since = 0;
        gate.0.send_modify(|state| {
            state.waiting += 1;
            since = state.releases;
        });
        Waiting { gate, since }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.0.send_modify(|state| {
            if state.releases == self.since {
                state.waiting -= 1;
            }
        });
    }
}
