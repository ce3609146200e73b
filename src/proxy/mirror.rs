//! The mirror: copies of safe requests for the other color, whose answers are compared and thrown away.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Method;
use tokio::sync::mpsc;

use super::forward::{self, Outgoing};
use super::lanes::Lane;
use crate::config;
use crate::metrics::{MirrorSheet, Mirrored};
use crate::time::Moment;

/// A worker's way of sending copies: a task of its own, so that no request waits for one.
#[derive(Default)]
pub struct Copier {
    /// Made with the first copy.
    queue: RefCell<Option<mpsc::Sender<Copy>>>,
}

impl Copier {
    /// Hands in a copy of the request for this lane, and is done. Where there are as many as there may be, it is dropped.
    pub fn copy(&self, lane: &Rc<Lane>, request: &Outgoing<'_>, rules: &config::Mirror) -> Option<Rc<Pair>> {
        let Some(place) = Place::take(&lane.copies, rules.concurrency) else {
            lane.mirror.count(Mirrored::Dropped);
            return None;
        };
        let pair = Rc::new(Pair::new(lane.mirror.clone()));
        let copy = Copy {
            head: request.copied(),
            headless: request.head.method == Method::HEAD,
            timeout: rules.timeout,
            lane: lane.clone(),
            pair: pair.clone(),
            _place: place,
        };
        // A copy that finds no room is dropped, and counted as that by its pair.
        let _ = self.queue.borrow_mut().get_or_insert_with(start).try_send(copy);
        Some(pair)
    }
}

fn start() -> mpsc::Sender<Copy> {
    let (queue, copies) = mpsc::channel(QUEUE);
    drop(tokio::task::spawn_local(run(copies)));
    queue
}

/// Ends with its worker, whatever is under way.
async fn run(mut copies: mpsc::Receiver<Copy>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            copy = copies.recv() => match copy {
                Some(copy) => under_way.push(copy.carry_out()),
                None => return,
            },
            Some(()) = under_way.next() => {}
        }
    }
}

/// A request once more, on its way to the other color.
struct Copy {
    head: Vec<u8>,
    headless: bool,
    timeout: Duration,
    lane: Rc<Lane>,
    pair: Rc<Pair>,
    _place: Place,
}

impl Copy {
    /// It is inside the pool like any request, so that a drain waits for it; a closed one takes no copies.
    async fn carry_out(mut self) {
        let begun = Moment::now();
        let Some(_pass) = self.lane.enter(begun) else { return };
        self.pair.copy.set(Fate::Failed);
        // What takes longer has failed, or has been answered and is cut off.
        let timeout = self.timeout;
        let _ = tokio::time::timeout(timeout, self.exchange(begun)).await;
    }

    async fn exchange(&mut self, begun: Moment) -> Option<()> {
        let head = std::mem::take(&mut self.head);
        let (reply, link) = forward::send_copy(&self.lane, head, self.headless).await.ok()?;
        self.pair.copy.set(Fate::Answered(reply.response.status().as_u16(), Moment::now().since(begun)));
        forward::discard(&self.lane, &reply, link).await
    }
}

/// What became of a request and of its copy. When both are over it is counted.
pub struct Pair {
    original: Cell<Option<(u16, Duration)>>,
    copy: Cell<Fate>,
    sheet: Arc<MirrorSheet>,
}

#[derive(Clone, Copy)]
enum Fate {
    /// It has not been sent.
    Dropped,
    /// There was no answer.
    Failed,
    /// With this status, its head after this time.
    Answered(u16, Duration),
}

impl Pair {
    fn new(sheet: Arc<MirrorSheet>) -> Pair {
        Pair { original: Cell::new(None), copy: Cell::new(Fate::Dropped), sheet }
    }

    /// The head of the answer that the client gets is there.
    pub fn original(&self, status: u16, took: Duration) {
        self.original.set(Some((status, took)));
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let outcome = match (self.copy.get(), self.original.get()) {
            (Fate::Dropped, _) => Mirrored::Dropped,
            (Fate::Failed, _) => Mirrored::Failed,
            (Fate::Answered(..), None) => Mirrored::Unmatched,
            (Fate::Answered(status, copy), Some((expected, original))) => {
                self.sheet.copies.observe(copy);
                self.sheet.originals.observe(original);
                if status == expected { Mirrored::Agree } else { Mirrored::Differ }
            }
        };
        self.sheet.count(outcome);
    }
}

/// One of the copies that may be under way at one time.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(taken: &Rc<Cell<usize>>, most: usize) -> Option<Place> {
        (taken.get() < most).then(|| {
            taken.set(taken.get() + 1);
            Place(taken.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Copies on their way to the task that sends them: it takes them at its next turn.
const QUEUE: usize = 1024;
