//! Previews of the color that is not live: who may open one when, and how one ends by itself.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::desk::Denied;
use super::driver::Mail;
use super::state::Cutover;
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
            Want::Open(preview) => match current.filter(|cutover| !leads_to(cutover, preview)) {
                Some(cutover) => Err(Denied::Held(Box::new(cutover))),
                // Whoever was invited for longer stays so.
                None => Ok(Some(Some(entry.preview.filter(|open| open.until > preview.until).unwrap_or(preview)))),
            },
            Want::Close => Ok(entry.preview.map(|_| None)),
            Want::Expire => Ok(entry.preview.filter(|open| open.until <= time::now()).map(|_| None)),
        }
    }
}

/// Whether the cutover is still on its way to the color that is to be previewed. After the switch it drains the other one,
/// and a pool that is opened anew is never empty.
fn leads_to(cutover: &Cutover, preview: Preview) -> bool {
    cutover.to == preview.to && cutover.live() == cutover.from && !cutover.is_back()
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
