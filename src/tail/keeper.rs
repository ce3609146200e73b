//! A tail's keeper: arms it as the names lead, keeps its pace, and tells when it falls silent.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;

use super::{Led, Silence, State, Tail, Told};
use crate::config::DnsTail;
use crate::names::ServiceName;
use crate::time::{Human, Moment};

/// Runs as one task for each service whose names follow it, on the deciding runtime, and ends with whoever moves them.
pub struct Keeper<S, L, R> {
    pub service: ServiceName,
    pub tail: Arc<Tail>,
    /// What is known of the names.
    pub status: watch::Receiver<S>,
    /// What it says to a tail.
    pub led: L,
    /// As they are now; nothing where names no longer follow the service.
    pub rules: R,
    pub told: broadcast::Sender<Told>,
}

impl<S, L, R> Keeper<S, L, R>
where
    L: Fn(&S) -> Led,
    R: Fn() -> Option<DnsTail>,
{
    pub async fn run(mut self) {
        let mut silence = Silence::default();
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow();
        loop {
            tokio::select! {
                changed = self.status.changed() => match changed {
                    Ok(()) => self.follow(),
                    Err(_) => break,
                },
                // Where nobody is counted there is nothing to look at.
                _ = tick.tick(), if self.tail.is_armed() => self.look(&mut silence),
            }
        }
        // Another may have taken the place of whoever moved the names, under other rules; then it goes on counting.
        if (self.rules)().is_none() {
            self.tail.end();
        }
    }

    fn follow(&mut self) {
        let led = (self.led)(&self.status.borrow_and_update());
        self.tail.follow(&led);
    }

    fn look(&self, silence: &mut Silence) {
        let (Some(span), Some(rules)) = (self.tail.span(), (self.rules)()) else { return };
        let now = Moment::now();
        self.tail.pace(rules.nudge);
        span.tick(now);
        let Some(told) = silence.look(&self.service, &span, rules.silence, now) else { return };
        match told.state {
            State::Silent => {
                let silent = Human(span.silent_for(now));
                tracing::info!(service = %self.service, requests = told.requests, "the old name has been silent for {silent}");
            }
            State::Heard => tracing::info!(service = %self.service, "somebody comes through the old name again"),
        }
        // An error means that nobody listens just now.
        let _ = self.told.send(told);
    }
}

const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::Shift;
    use super::*;
    use crate::time;

    fn led(is_past: bool) -> Led {
        let shift = Shift { at: time::now(), ttl: Duration::ZERO };
        Led { is_past, in_sync: true, shift: None, otherwise: shift }
    }

    #[tokio::test(start_paused = true)]
    async fn it_arms_the_tail_tells_of_silence_once_and_leaves_with_the_rules() {
        let tail = Arc::new(Tail::new(1));
        let (names, status) = watch::channel(false);
        let (told, mut heard) = broadcast::channel(8);
        let rules = Arc::new(Mutex::new(Some(DnsTail { silence: Duration::ZERO, nudge: 7 })));
        let known = rules.clone();
        let keeper = Keeper {
            service: "shop".parse().unwrap(),
            tail: tail.clone(),
            status,
            led: |is_past: &bool| led(*is_past),
            rules: move || known.lock().unwrap().clone(),
            told,
        };
        let keeper = tokio::spawn(keeper.run());
        tokio::time::sleep(3 * LOOK).await;
        assert!(!tail.is_armed() && heard.try_recv().is_err(), "the names lead to the proxy");
        names.send_replace(true);
        tokio::time::sleep(3 * LOOK).await;
        assert!(tail.is_armed());
        assert_eq!(tail.rate(), 7);
        assert_eq!(heard.try_recv().unwrap().state, State::Silent);
        assert!(heard.try_recv().is_err(), "it is told once");
        *rules.lock().unwrap() = None;
        drop(names);
        keeper.await.unwrap();
        assert!(!tail.is_armed());
    }
}
