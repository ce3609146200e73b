//! What HTTP/2 does beside a connection: each request is a task of its own, ended where its client takes nothing of it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::pulse::Pulse;
use super::stall::Stall;

/// Puts the tasks of one connection on the worker's own thread.
#[derive(Clone)]
pub struct Streams {
    /// hyper asks for a request's answer and spawns its task in one breath, so that this joins the two.
    next: Rc<RefCell<Option<Rc<Flow>>>>,
    period: Duration,
    rate: u64,
    /// Requests under way, of all connections of the worker.
    count: Rc<Cell<usize>>,
    pulse: Arc<Pulse>,
}

/// How an answer flows: between its body, which is asked for pieces, and the task that sends them.
pub struct Flow {
    /// A piece has been given, and no other asked for.
    given: Cell<bool>,
    bytes: Cell<u64>,
    count: Rc<Cell<usize>>,
}

impl Streams {
    /// Over each `period` of waiting for the client he has to take `rate` bytes a second. `count` counts requests for as
    /// long as anything of them lives. `pulse` is the connection's: each request looks at its clocks when its bell rings.
    pub fn new(period: Duration, rate: u64, count: Rc<Cell<usize>>, pulse: Arc<Pulse>) -> Streams {
        Streams { next: Rc::default(), period, rate, count, pulse }
    }

    /// The flow of the request whose task is spawned next.
    pub fn flow(&self) -> Rc<Flow> {
        self.pulse.accepts();
        self.count.set(self.count.get() + 1);
        let flow = Rc::new(Flow { given: Cell::new(false), bytes: Cell::new(0), count: self.count.clone() });
        self.next.replace(Some(flow.clone()));
        flow
    }
}

impl Flow {
    pub fn asked(&self) {
        self.given.set(false);
    }

    pub fn gave(&self, bytes: usize) {
        self.given.set(true);
        self.bytes.set(self.bytes.get() + bytes as u64);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
    }
}

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, task: F) {
        match self.next.take() {
            None => drop(tokio::task::spawn_local(task)),
            Some(flow) => {
                let (stall, bell) = (Stall::new(self.period, self.rate), self.pulse.bell.clone());
                // In a box: the runtime moves a task about six times, and that costs more than the allocation.
                let (task, rung) = (Box::pin(task), bell.clone().notified_owned());
                tokio::task::spawn_local(Supervised { task, flow, stall, seen: 0, bell, rung });
            }
        }
    }
}

pin_project! {
    /// A request's task. Dropped before its end it resets its stream.
    struct Supervised<F> {
        task: Pin<Box<F>>,
        flow: Rc<Flow>,
        stall: Stall,
        seen: u64,
        bell: Arc<Notify>,
        #[pin]
        rung: OwnedNotified,
    }
}

impl<F: Future> Future for Supervised<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while this.rung.as_mut().poll(cx).is_ready() {
            this.rung.set(this.bell.clone().notified_owned());
        }
        let bytes = this.flow.bytes.get();
        if bytes != *this.seen {
            this.stall.moved(bytes - *this.seen);
            *this.seen = bytes;
        }
        if this.flow.given.get() { this.stall.poll(cx) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;
    use tokio::task::{LocalSet, yield_now};

    use super::*;

    #[tokio::test]
    async fn a_request_looks_around_each_time_the_bell_rings() {
        let (pulse, looks) = (Arc::new(Pulse::default()), Rc::new(Cell::new(0)));
        let streams = Streams::new(Duration::from_secs(10), 0, Rc::default(), pulse.clone());
        let (flow, seen) = (streams.flow(), looks.clone());
        let request = std::future::poll_fn(move |_| {
            seen.set(seen.get() + 1);
            Poll::<()>::Pending
        });
        let rung = async {
            streams.execute(request);
            for rings in 0..3 {
                for _ in 0..10 {
                    yield_now().await;
                }
                assert_eq!(looks.get(), 1 + rings);
                pulse.bell.notify_waiters();
            }
        };
        LocalSet::new().run_until(rung).await;
        drop(flow);
    }
}
