//! Two who want to write the same thing: a batch is a comparison, so exactly one of them gets its way.

use cutover::dns::{Batch, ZoneError};

use super::stage::{MARK, SHOP, Stage, ZONE, batch, create, delete, mark, member};
use super::suite::{Lies, records};
use crate::harness::FakeRoute53;

#[tokio::test]
async fn of_two_writers_exactly_one_wins() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let (one, two) = (Stage::at(&fake.url(), ZONE).await, Stage::at(&fake.url(), ZONE).await);
    of_two_writers_exactly_one_wins_every_round(&one, &two, 6).await;
}

/// Both begin with the same generation each time, and each would put its own weight there.
pub async fn of_two_writers_exactly_one_wins_every_round(one: &Stage, two: &Stage, rounds: u32) {
    let mut generation = 1;
    let mut now = [mark(generation), member("blue", 255, 60, "192.0.2.1")];
    one.zone.change(&batch(now.iter().map(create))).await.unwrap();
    for round in 0..rounds {
        let wishes = [10, 20].map(|weight| [mark(generation + 1), member("blue", weight, 60, "192.0.2.1")]);
        let swap = |new: &[_; 2]| -> Batch { batch(now.iter().map(delete).chain(new.iter().map(create))) };
        let (first, second) = (swap(&wishes[0]), swap(&wishes[1]));
        let results = tokio::join!(one.zone.change(&first), two.zone.change(&second));
        let won = match &results {
            (Ok(_), Err(ZoneError::Conflict(_))) => 0,
            (Err(ZoneError::Conflict(_)), Ok(_)) => 1,
            other => panic!("round {round}: {other:?}"),
        };
        assert_eq!(records(one, MARK).await, wishes[won][..1]);
        assert_eq!(records(two, SHOP).await, wishes[won][1..]);
        generation += 1;
        now = wishes[won].clone();
    }
}

/// As a story of the suite.
pub async fn on(stage: &Stage, lies: Lies) {
    if lies.batches_are_not_atomic {
        return;
    }
    of_two_writers_exactly_one_wins_every_round(stage, stage, 5).await;
}
