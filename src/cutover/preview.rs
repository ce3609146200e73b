//! Previews of the color that is not live: who may open one when, and how one ends by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::desk::Denied;
use super::driver::Mail;
use super::state::{Cutover, Phase, Stop};
use crate::journal::Topic;
use crate::names::{Color, ServiceName};
use crate::table::{Entry, Preview};
use crate::time::{self, Timestamp};

/// The asking for a preview, or for the end of one.
pub struct PreviewAsk {
    pub want: Want,
    reply: oneshot::Sender<Answer>,
}

/// The moment at which it was done: what is opened later does not know whoever was invited by then.
pub type Answer = Result<Timestamp, Denied>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Open {
        to: Color,
        until: Timestamp,
    },
    Close,
    /// One that was open may have expired.
    Expire,
}

/// The last opening of a service's previews. The next start has to know it: links from before it are over, and cookies and
/// links that are about are kept from backends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    id: String,
    service: ServiceName,
    pub at: Timestamp,
}

impl Opened {
    pub fn new(service: &ServiceName, at: Timestamp) -> Opened {
        Opened { id: service.to_string(), service: service.clone(), at }
    }
}

impl Topic for Opened {
    const NAME: &'static str = "preview";

    fn id(&self) -> &str {
        &self.id
    }

    fn service(&self) -> &ServiceName {
        &self.service
    }
}

impl PreviewAsk {
    pub fn new(want: Want) -> (PreviewAsk, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (PreviewAsk { want, reply }, answer)
    }

    pub fn answer(self, answer: Answer) {
        // Whoever asked may have gone; what was done is done.
        let _ = self.reply.send(answer);
    }
}

impl Want {
    /// What the service's preview is to be, `None` where it stays as it is.
    pub fn decide(
        self,
        entry: &Entry,
        current: Option<Cutover>,
        at: Timestamp,
    ) -> Result<Option<Option<Preview>>, Denied> {
        match self {
            Want::Open { to, .. } if to == entry.live => Err(Denied::LiveAlready(to)),
            Want::Open { to, until } => match current.filter(|cutover| !leaves_open(cutover, to)) {
                Some(cutover) => Err(Denied::Held(Box::new(cutover))),
                // Whoever is invited already stays so, and until then.
                None => {
                    let open = entry.preview.unwrap_or(Preview { to, since: at, until });
                    Ok(Some(Some(Preview { until: open.until.max(until), ..open })))
                }
            },
            Want::Close => Ok(entry.preview.map(|_| None)),
            Want::Expire => Ok(entry.preview.filter(|open| open.until <= time::now()).map(|_| None)),
        }
    }
}

/// Whether a preview disturbs nothing that the cutover does: a pool that is opened anew is never empty, so none of a color
/// that is being drained, or is about to be.
fn leaves_open(cutover: &Cutover, to: Color) -> bool {
    match cutover.phase {
        // An operator who is to approve wants to see what.
        Phase::Prepare | Phase::Gates | Phase::Warm | Phase::Canary | Phase::Confirm | Phase::Ramp => to == cutover.to,
        Phase::Paused if cutover.paused != Some(Stop::Bake) => to == cutover.to,
        // The old color has drained, unless that was cut short, and the way back would publish it, which ends the preview.
        Phase::Bake | Phase::Dns | Phase::Paused => to == cutover.from && cutover.drained().is_some(),
        Phase::Switch | Phase::Drain | Phase::RollBack | Phase::DrainBack => false,
        Phase::Done | Phase::Aborted | Phase::RolledBack => true,
    }
}

/// Has the driver look once the preview has expired, if there still is a driver then.
pub fn wake_at_the_end(preview: Preview, mail: mpsc::WeakSender<Mail>) {
    let left = Duration::try_from(preview.until.duration_since(time::now())).unwrap_or_default();
    tokio::spawn(async move {
        // Not before: a look that comes too early would be the last.
        tokio::time::sleep(left + LATER).await;
        if let Some(mail) = mail.upgrade() {
            let (ask, _) = PreviewAsk::new(Want::Expire);
            let _ = mail.send(Mail::Preview(ask)).await;
        }
    });
}

/// The moment at which the next is opened or closed. It is later than the one before though the clock be set back, or a link
/// of a preview that is over would open the next one.
pub fn moment(before: Timestamp) -> Timestamp {
    let later = before.checked_add(TICK).unwrap_or(before);
    time::now().max(later)
}

/// What one moment is told from another by.
const TICK: Duration = Duration::from_millis(1);
/// Both clocks are read to the millisecond.
const LATER: Duration = Duration::from_millis(2);
