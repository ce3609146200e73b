//! The watchdog: the service manager hears from us only while the deciding runtime and every worker answer.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::notify::{Notifier, status};
use crate::cutover::Told;
use crate::table::Switchboard;
use crate::time::Human;

/// How often the service manager wants to hear from us (`WatchdogSec=`), if it does.
pub fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let other = number("WATCHDOG_PID").is_some_and(|of| of != u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| *micros > 0 && !other).map(Duration::from_micros)
}

/// Tells who is live whenever that changes, and beats as long as everyone answers. Runs on the deciding runtime until it
/// is dropped.
///
/// A roll call is what makes the beat honest: each worker has to come round from whatever it carries to the task that
/// answers, as it has to for a switch. No request pays for it.
pub async fn watch(
    notifier: Notifier,
    switchboard: Arc<Switchboard>,
    mut told: broadcast::Receiver<Told>,
    watchdog: Option<Duration>,
) {
    let beat = watchdog.map(part);
    let mut ticks = ticks(beat.unwrap_or(UNWATCHED));
    let (mut shown, mut missing) = (status(&switchboard.table()), Vec::new());
    loop {
        tokio::select! {
            // Missed or not: the table says how things are now.
            news = told.recv() => if let Err(broadcast::error::RecvError::Closed) = news { return },
            _ = ticks.tick() => if let Some(patience) = beat {
                let now_missing = switchboard.roll_call(patience).await;
                log(&missing, &now_missing, patience);
                missing = now_missing;
                if missing.is_empty() {
                    notifier.beat();
                }
            },
        }
        let now = status(&switchboard.table());
        if now != shown {
            notifier.status(&now);
            shown = now;
        }
    }
}

/// While the proxy ends, workers end too: then the deciding runtime beats alone, and the stop has its own deadline.
pub async fn watch_the_end(notifier: Notifier, watchdog: Option<Duration>) {
    let Some(beat) = watchdog.map(part) else { return };
    let mut ticks = ticks(beat);
    loop {
        ticks.tick().await;
        notifier.beat();
    }
}

/// Says what has changed, not at every call the same.
fn log(before: &[usize], now: &[usize], patience: Duration) {
    if before == now {
        return;
    }
    match now {
        [] => tracing::info!("every worker answers again"),
        missing => {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let missing = missing.join(", ");
            tracing::error!("worker {missing} has not answered within {}: the watchdog is not fed", Human(patience));
        }
    }
}

/// So that a beat may fail, and the next still comes in time.
fn part(watchdog: Duration) -> Duration {
    watchdog / 4
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// How often the status is looked at where nobody wants to hear a beat.
const UNWATCHED: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::notify::tests::{hear, manager};
    use super::*;
    use crate::table::{Table, test_worker};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_worker_that_is_stuck_keeps_the_watchdog_from_being_fed() {
        let (notifier, manager) = manager();
        let switchboard = Arc::new(Switchboard::new(Table::empty(), 2));
        let workers = [0, 1].map(|place| test_worker(switchboard.seat(place)));
        let (_tell, told) = broadcast::channel(1);
        let task = tokio::spawn(watch(notifier.clone(), switchboard.clone(), told, Some(Duration::from_millis(200))));
        for _ in 0..3 {
            assert_eq!(hear(&manager), "WATCHDOG=1\n");
        }
        let (release, until) = mpsc::channel();
        workers[1].send(until).unwrap();
        while switchboard.roll_call(Duration::from_millis(20)).await != [1] {}
        // What was said before may still be unheard; then there is silence, for longer than the watchdog's time.
        manager.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let late = (0..100).take_while(|_| manager.recv(&mut [0; 64]).is_ok()).count();
        assert!(late < 100, "it goes on");
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        drop(release);
        assert_eq!(hear(&manager), "WATCHDOG=1\n");
        task.abort();
    }
}
