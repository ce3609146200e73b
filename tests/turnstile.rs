//! The turnstile's word under every interleaving: loom runs them all. It compiles the same file against loom's atomics.

#[path = "../src/turnstile/word.rs"]
#[allow(dead_code)]
mod word;

mod atomic {
    pub use loom::sync::atomic::{AtomicU64, Ordering};
}

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use word::Word;

#[test]
fn whoever_enters_is_seen_by_the_close_or_turns_back_and_sees_the_new_table() {
    loom::model(|| {
        let (word, table, inside) =
            (Arc::new(Word::closed()), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        word.open();
        let worker = {
            let (word, table, inside) = (word.clone(), table.clone(), inside.clone());
            thread::spawn(move || {
                if word.enter() {
                    inside.store(true, Ordering::Relaxed);
                    assert!(word.count().requests() == 1, "who is inside is counted");
                    inside.store(false, Ordering::Relaxed);
                    word.leave_request();
                } else {
                    // Relaxed is enough, as for the cached look at the table: the closed word was read after it.
                    assert!(table.load(Ordering::Relaxed), "turned back, but the new table is not to be seen");
                }
            })
        };
        table.store(true, Ordering::Relaxed);
        word.close();
        if word.count().requests() == 0 {
            assert!(!inside.load(Ordering::Relaxed), "declared drained with a request inside");
            assert!(!word.enter());
        }
        worker.join().unwrap();
        assert_eq!(word.count().requests(), 0);
    });
}

#[test]
fn a_request_that_becomes_a_tunnel_is_never_neither() {
    loom::model(|| {
        let word = Arc::new(Word::closed());
        word.open();
        assert!(word.enter());
        let worker = {
            let word = word.clone();
            thread::spawn(move || {
                word.become_tunnel();
            })
        };
        word.close();
        let seen = word.count();
        assert_eq!(seen.requests() + seen.tunnels(), 1);
        worker.join().unwrap();
        assert_eq!((word.count().requests(), word.count().tunnels()), (0, 1));
        word.leave_tunnel();
        assert_eq!((word.count().requests(), word.count().tunnels()), (0, 0));
    });
}

#[test]
fn two_at_one_shard_and_a_close_lose_nobody() {
    loom::model(|| {
        let word = Arc::new(Word::closed());
        word.open();
        let enter = |word: Arc<Word>| thread::spawn(move || u64::from(word.enter()));
        let (a, b) = (enter(word.clone()), enter(word.clone()));
        word.close();
        let entered = a.join().unwrap() + b.join().unwrap();
        assert_eq!(word.count().requests(), entered);
        assert!(word.count().is_closed());
    });
}
