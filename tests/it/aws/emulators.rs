//! The same stories on emulators written by others, which know nothing of ours; each with what it is known to get wrong.
//!
//! Ignored unless asked for, since they are Python programs: `tests/run` installs them, and runs these stories too.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::faults::{a_lost_reply_is_cleared_up, faults_are_told_as_what_they_are};
use super::race;
use super::stage::{Stage, impatient, patient};
use super::suite::{self, Lies, RULES};
use crate::harness::FaultProxy;
use crate::harness::emulator::{Emulator, Kind};

/// MiniStack 1.5.33 gets batches, exact DELETE, GetChange and pages right, and takes what no zone can hold.
#[tokio::test]
#[ignore = "needs MiniStack: tests/run installs it"]
async fn ministack_tells_the_same_stories() {
    let lies = Lies { accepts: RULES, ..Lies::default() };
    told_on(Kind::MiniStack, lies).await;
}

/// moto 5.2.5 is good for requests and answers, and not for what a batch is. So no two writers race on it.
#[tokio::test]
#[ignore = "needs moto: tests/run installs it"]
async fn moto_tells_the_same_stories() {
    let lies = Lies {
        batches_are_not_atomic: true,
        accepts: &RULES[1..],
        deletes_by_identifier: true,
        compares_with_history: true,
        knows_every_change: true,
    };
    told_on(Kind::Moto, lies).await;
}

/// All of them in one process, since it takes long to start; each in a zone of its own.
async fn told_on(kind: Kind, lies: Lies) {
    let emulator = Emulator::start(kind).await;
    for (number, (name, story)) in STORIES.iter().enumerate() {
        eprintln!("{name}");
        let zone = emulator.zone("example.com", &format!("story-{number}")).await;
        let stage = Stage::with(&emulator.url(), &zone, patient()).await;
        story(&stage, lies).await;
    }
    eprintln!("a lost reply is cleared up");
    let proxy = FaultProxy::before(emulator.address).await;
    let zone = emulator.zone("example.com", "story-faults").await;
    let stage = Stage::with(&proxy.url(), &zone, patient()).await;
    a_lost_reply_is_cleared_up(&stage, &proxy, lies).await;
    eprintln!("faults are told as what they are");
    let zone = emulator.zone("example.com", "story-more-faults").await;
    let patient = Stage::with(&proxy.url(), &zone, patient()).await;
    let impatient = Stage::with(&proxy.url(), &zone, impatient()).await;
    faults_are_told_as_what_they_are([&patient, &impatient], &proxy).await;
}

type Story = for<'a> fn(&'a Stage, Lies) -> LocalBoxFuture<'a, ()>;

macro_rules! stories {
    ($($path:path)*) => { &[$((stringify!($path), |stage, lies| $path(stage, lies).boxed_local())),*] };
}

const STORIES: &[(&str, Story)] = stories! {
    suite::a_change_is_made_listed_and_followed
    suite::sets_of_every_kind_are_read_as_they_were_written
    suite::a_name_is_listed_without_its_neighbours
    suite::a_batch_compares_and_swaps
    suite::what_is_deleted_has_to_match_in_every_part
    suite::a_batch_is_applied_whole_or_not_at_all
    suite::a_member_goes_alone
    suite::what_no_zone_can_hold_is_not_taken
    suite::what_does_not_exist_is_refused_in_words
    race::on
};
