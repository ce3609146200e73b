//! Previews of the color that is not live: who may open one when, and how one ends by itself.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::desk::Denied;
use super::driver::Mail;
use super::state::{Cutover, Phase, Stop};
use crate::table::{Entry, Preview};
use crate::time;

/// The asking for a preview, or for the end of one.
pub struct PreviewAsk {
    pub want: Want,
    reply: oneshot::Sender<Result<(), Denied>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Open(Preview),
    Close,
    /// One that was open may have expired.
    Expire,
}

impl PreviewAsk {
    pub fn new(want: Want) -> (PreviewAsk, oneshot::Receiver<Result<(), Denied>>) {
        let (reply, answer) = oneshot::channel();
        (PreviewAsk { want, reply }, answer)
    }

    pub fn answer(self, answer: Result<(), Denied>) {
        // Whoever asked may have gone; what was done is done.
        let _ = self.reply.send(answer);
    }
}

impl Want {
    /// What the service's preview is to be, `None` where it stays as it is.
    pub fn decide(self, entry: &Entry, current: Option<Cutover>) -> Result<Option<Option<Preview>>, Denied> {
        match self {
            Want::Open(preview) if preview.to == entry.live => Err(Denied::LiveAlready(preview.to)),
            Want::Open(preview) => match current.filter(|cutover| !leaves_open(cutover, preview)) {
                Some(cutover) => Err(Denied::Held(Box::new(cutover))),
                // Whoever was invited for longer stays so.
                None => Ok(Some(Some(entry.preview.filter(|open| open.until > preview.until).unwrap_or(preview)))),
            },
            Want::Close => Ok(entry.preview.map(|_| None)),
            Want::Expire => Ok(entry.preview.filter(|open| open.until <= time::now()).map(|_| None)),
        }
    }
}

/// Whether a preview disturbs nothing that the cutover does: a pool that is opened anew is never empty, so none of a color
/// that is being drained, or is about to be.
fn leaves_open(cutover: &Cutover, preview: Preview) -> bool {
    match cutover.phase {
        // An operator who is to approve wants to see what.
        Phase::Prepare | Phase::Gates | Phase::Warm | Phase::Canary | Phase::Confirm | Phase::Ramp => {
            preview.to == cutover.to
        }
        Phase::Paused if cutover.paused != Some(Stop::Bake) => preview.to == cutover.to,
        // The old color has drained, unless that was cut short, and the way back would publish it, which ends the preview.
        Phase::Bake | Phase::Dns | Phase::Paused => preview.to == cutover.from && cutover.drained().is_some(),
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

/// Both clocks are read to the millisecond.
const LATER: Duration = Duration::from_millis(2);
