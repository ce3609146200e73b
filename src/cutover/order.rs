//! Orders: a wish before its turn. One that nobody waits for any longer is dropped, and never begins.

use tokio::sync::{oneshot, watch};

use super::desk::{Denied, Granted, Wish};

/// How far the proxy is. Nothing begins before it serves, and nothing once it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Clients are not let in yet.
    Starting,
    Serving,
    /// It has been asked to end.
    Ending,
}

pub type Reply = oneshot::Sender<Result<Granted, Denied>>;
/// The word on a wish, once its turn has come.
pub type Word = oneshot::Receiver<Result<Granted, Denied>>;

/// A wish before its turn.
pub struct Order {
    pub wish: Wish,
    turn: oneshot::Sender<Word>,
}

/// Orders that wait for the end of a start, in the order in which they came.
#[derive(Default)]
pub struct Queue(Vec<Order>);

impl Stage {
    /// Resolves when the start is over.
    pub async fn after_start(stage: &mut watch::Receiver<Stage>) {
        if stage.wait_for(|stage| *stage != Stage::Starting).await.is_err() {
            // It has failed, and the process ends.
            std::future::pending().await
        }
    }
}

impl Order {
    /// The order and its turn. Whoever drops or closes that before it has come takes the order back.
    pub fn new(wish: Wish) -> (Order, oneshot::Receiver<Word>) {
        let (turn, comes) = oneshot::channel();
        (Order { wish, turn }, comes)
    }

    /// Its turn has come; nothing where it has been taken back.
    pub fn begin(self) -> Option<(Wish, Reply)> {
        let (reply, word) = oneshot::channel();
        self.turn.send(word).is_ok().then_some((self.wish, reply))
    }

    pub fn deny(self, denied: Denied) {
        if let Some((_, reply)) = self.begin() {
            // Whoever gave it may have gone.
            let _ = reply.send(Err(denied));
        }
    }
}

impl Queue {
    pub fn push(&mut self, order: Order) {
        self.0.retain(|waiting| !waiting.turn.is_closed());
        if self.0.len() < MOST {
            self.0.push(order);
        } else {
            order.deny(Denied::Crowded(MOST));
        }
    }

    /// Takes back all that wait: what they were.
    pub fn take_back(&mut self, by: &str) -> Vec<String> {
        let all = self.take().into_iter();
        all.filter_map(|order| {
            let (wish, reply) = order.begin()?;
            let what = format!("{wish} by {}", wish.by());
            reply.send(Err(Denied::TakenBack { what: what.clone(), by: by.to_owned() })).is_ok().then_some(what)
        })
        .collect()
    }

    /// All that wait.
    pub fn take(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.0)
    }
}

/// Orders to one service that may wait for the end of a start.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> (Order, oneshot::Receiver<Word>) {
        Order::new(Wish::Rollback { by: "uid 7".to_owned(), reason: None, from: None })
    }

    #[test]
    fn an_order_begins_or_is_taken_back_and_never_both() {
        let (order_1, mut turn) = order();
        let (_, reply) = order_1.begin().unwrap();
        turn.close();
        let mut word = turn.try_recv().expect("it had begun before");
        reply.send(Err(Denied::NothingToAbort)).unwrap();
        assert_eq!(word.try_recv(), Ok(Err(Denied::NothingToAbort)));

        let (order_2, mut turn) = order();
        turn.close();
        assert!(turn.try_recv().is_err() && order_2.begin().is_none());
        let (order_3, turn) = order();
        drop(turn);
        assert!(order_3.begin().is_none());
    }

    #[test]
    fn only_so_many_wait_and_who_has_gone_is_not_among_them() {
        let mut queue = Queue::default();
        let mut wait = || {
            let (order, turn) = order();
            queue.push(order);
            turn
        };
        (0..3 * MOST).for_each(|_| drop(wait()));
        let mut turns: Vec<_> = (0..MOST).map(|_| wait()).collect();
        let denied = wait().try_recv().expect("its turn is there at once").try_recv();
        assert_eq!(denied, Ok(Err(Denied::Crowded(MOST))));
        assert!(turns.iter_mut().all(|turn| turn.try_recv().is_err()), "the others wait");

        drop(turns.pop());
        assert_eq!(queue.take_back("uid 8"), vec!["the rollback by uid 7"; MOST - 1]);
        let taken_back = Denied::TakenBack { what: "the rollback by uid 7".to_owned(), by: "uid 8".to_owned() };
        for mut turn in turns {
            assert_eq!(turn.try_recv().unwrap().try_recv(), Ok(Err(taken_back.clone())));
        }
        assert!(queue.take_back("uid 8").is_empty());
    }
}
