//! The phase in which names follow: it watches them until they lead to the color, or says why they do not.

use std::time::Duration;

use tokio::sync::watch;

use crate::dns;
use crate::names::{Color, Side};
use crate::time::Human;

/// What is told about a service's names, by whoever looks after them now.
pub type Told = watch::Receiver<dns::Status>;
/// Where that is said; `None` while nobody does.
pub type Names = watch::Sender<Option<Told>>;

/// Waits until names lead to the color, and comes back with why they do not: where they stay as they are until somebody
/// does something, or where the time is over. They go on by themselves then.
pub async fn follow(mut names: watch::Receiver<Option<Told>>, color: Color, within: Duration) -> Vec<String> {
    let mut last = None;
    match tokio::time::timeout(within, watch_all(&mut names, color, &mut last)).await {
        Ok(reasons) => reasons,
        Err(_) => {
            let why = last.and_then(|status| status.message.map_or_else(|| status.next.map(|next| next.what), Some));
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            vec![format!("names did not lead to {color} within {}{why}", Human(within))]
        }
    }
}

/// Another may come to look after them on the way, where a reload gave them other rules.
async fn watch_all(
    names: &mut watch::Receiver<Option<Told>>,
    color: Color,
    last: &mut Option<dns::Status>,
) -> Vec<String> {
    loop {
        let told = names.borrow_and_update().clone();
        let end = async {
            let Some(mut told) = told else { return std::future::pending().await };
            loop {
                let status = told.borrow_and_update().clone();
                let arrived = arrived(&status, color);
                *last = Some(status);
                match arrived {
                    Some(reasons) => return reasons,
                    // Whoever looked after them is gone, and another comes.
                    None if told.changed().await.is_err() => std::future::pending().await,
                    None => {}
                }
            }
        };
        tokio::select! {
            reasons = end => return reasons,
            Ok(()) = names.changed() => if names.borrow().is_none() { return vec![NO_NAMES.to_owned()] },
        }
    }
}

/// Why nothing need be waited for any longer; empty where names lead there.
fn arrived(status: &dns::Status, color: Color) -> Option<Vec<String>> {
    // What is told may be from before they heard of the switch.
    if status.live != color {
        return None;
    }
    if status.to != Side::from(color) {
        return Some(vec![format!("names were led to {} by hand", status.to.as_str())]);
    }
    match status.state {
        _ if status.in_sync => Some(Vec::new()),
        dns::State::Stopped => {
            Some(vec![format!("names stay as they are: {}", status.message.as_deref().unwrap_or_default())])
        }
        _ => None,
    }
}

pub const NO_NAMES: &str = "the config no longer has names that would follow";
