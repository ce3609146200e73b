//! Whatever goes wrong on the way is told as what it is: above all, whether a change may have been made.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use cutover::config::AwsTimeouts;
use cutover::dns::{Zone, ZoneError};

use super::stage::{MARK, SHOP, Stage, ZONE, batch, create, delete, impatient, mark, member, name};
use super::suite::{Lies, records};
use crate::harness::{FakeRoute53, Fault, FaultProxy, PATIENCE, Seen, eventually};

struct Set {
    fake: FakeRoute53,
    proxy: FaultProxy,
    stage: Stage,
}

async fn set() -> Set {
    set_with(AwsTimeouts::default()).await
}

async fn set_with(timeouts: AwsTimeouts) -> Set {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let proxy = FaultProxy::before(fake.address).await;
    let stage = Stage::with(&proxy.url(), ZONE, timeouts).await;
    Set { fake, proxy, stage }
}

/// One read and one change meet the fault, each once: what they are told, and whether the change was made.
async fn met(fault: Fault) -> (ZoneError, ZoneError, bool) {
    // Only silence is waited out; every other answer has its time, on a busy machine too.
    let timeouts = if fault == Fault::BlackHole { impatient() } else { AwsTimeouts::default() };
    let Set { fake, proxy, stage } = set_with(timeouts).await;
    proxy.next(2, fault);
    let read = stage.zone.records(&name(SHOP)).await.unwrap_err();
    let change = stage.zone.change(&batch([create(&mark(1))])).await.unwrap_err();
    let seen = proxy.seen();
    assert_eq!(seen.len(), 2, "nothing is repeated by itself: {seen:#?}");
    assert!(seen.iter().all(|seen| seen.fault == Some(fault)));
    proxy.heal();
    assert!(stage.zone.describe().await.is_ok(), "and what comes after is not touched by it");
    (read, change, fake.records(ZONE).len() == 3)
}

#[tokio::test]
async fn throttled_is_busy() {
    let (read, change, made) = met(Fault::Throttle).await;
    assert!(matches!(read, ZoneError::Busy(_)), "{read:?}");
    assert!(matches!(change, ZoneError::Busy(_)), "{change:?}");
    assert!(!made);
}

#[tokio::test]
async fn a_503_of_something_on_the_way_says_nothing_about_the_change() {
    let (read, change, made) = met(Fault::Unavailable).await;
    assert!(matches!(read, ZoneError::Unreachable(_)), "{read:?}");
    assert!(matches!(change, ZoneError::Unknown(_)), "{change:?}");
    assert!(!made);
}

#[tokio::test]
async fn a_reset_connection_leaves_a_change_unknown() {
    let (read, change, made) = met(Fault::Reset).await;
    assert!(matches!(read, ZoneError::Unreachable(_)), "{read:?}");
    assert!(matches!(change, ZoneError::Unknown(_)), "{change:?}");
    assert!(!made);
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let (read, change, made) = met(Fault::Truncate).await;
    assert!(matches!(read, ZoneError::Unreachable(_)), "{read:?}");
    assert!(matches!(change, ZoneError::Unknown(_)), "{change:?}");
    assert!(made, "it was made all the same");
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let start = Instant::now();
    let (read, change, made) = met(Fault::BlackHole).await;
    assert!(matches!(read, ZoneError::Unreachable(_)), "{read:?}");
    assert!(matches!(change, ZoneError::Unknown(_)), "{change:?}");
    assert!(!made);
    assert!(start.elapsed() >= impatient().attempt * 2, "each waited as long as it may");
}

#[tokio::test]
async fn a_lost_reply_is_cleared_up_by_reading_back() {
    let (read, change, made) = met(Fault::LostReply).await;
    assert!(matches!(read, ZoneError::Unreachable(_)), "{read:?}");
    assert!(matches!(change, ZoneError::Unknown(_)), "{change:?}");
    assert!(made);

    let Set { fake: _fake, proxy, stage } = set().await;
    a_lost_reply_is_cleared_up(&stage, &proxy, Lies::default()).await;
}

/// As a story for every provider, with a zone that is empty.
pub async fn a_lost_reply_is_cleared_up(stage: &Stage, proxy: &FaultProxy, lies: Lies) {
    let old = [mark(1), member("blue", 1, 60, "192.0.2.1")];
    let new = [mark(2), member("blue", 0, 60, "192.0.2.1")];
    stage.zone.change(&batch(old.iter().map(create))).await.unwrap();
    let swap = batch(old.iter().map(delete).chain(new.iter().map(create)));
    let is_change =
        |seen: &Seen| seen.method == "POST" && seen.path.ends_with("/rrset") && seen.head.contains("app/cutover");
    proxy.on(1, Fault::LostReply, is_change);
    let unknown = stage.zone.change(&swap).await;
    assert!(matches!(unknown, Err(ZoneError::Unknown(_))), "{unknown:?}");
    assert_eq!(records(stage, MARK).await, new[..1], "the mark tells that it was ours");
    if !lies.compares_with_history {
        let again = stage.zone.change(&swap).await;
        assert!(matches!(again, Err(ZoneError::Conflict(_))), "a repeat can do no harm: {again:?}");
    }
}

/// As a story for every provider, with a zone that is empty: each fault, and what reading back says of the change. The same
/// zone twice: only silence is waited out, by whoever is impatient.
pub async fn faults_are_told_as_what_they_are([patient, impatient]: [&Stage; 2], proxy: &FaultProxy) {
    for (fault, busy, made) in [
        (Fault::Throttle, true, false),
        (Fault::Unavailable, false, false),
        (Fault::Reset, false, false),
        (Fault::Truncate, false, true),
        (Fault::BlackHole, false, false),
    ] {
        proxy.next(2, fault);
        let stage = if fault == Fault::BlackHole { impatient } else { patient };
        let read = stage.zone.records(&name(SHOP)).await.unwrap_err();
        let change = stage.zone.change(&batch([create(&mark(1))])).await.unwrap_err();
        assert_eq!(matches!(read, ZoneError::Busy(_)), busy, "{fault:?}: {read:?}");
        assert!(busy || matches!(read, ZoneError::Unreachable(_)), "{fault:?}: {read:?}");
        assert_eq!(matches!(change, ZoneError::Busy(_)), busy, "{fault:?}: {change:?}");
        assert!(busy || matches!(change, ZoneError::Unknown(_)), "{fault:?}: {change:?}");
        proxy.heal();
        assert_eq!(!records(patient, MARK).await.is_empty(), made, "{fault:?}");
        if made {
            patient.zone.change(&batch([delete(&mark(1))])).await.unwrap();
        }
    }
    proxy.next(1, Fault::Delay(Duration::from_millis(50)));
    patient.zone.describe().await.unwrap();
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_and_a_too_slow_one_may_still_be_a_change() {
    let Set { fake: _fake, proxy, stage } = set().await;
    proxy.next(1, Fault::Delay(Duration::from_millis(50)));
    stage.zone.change(&batch([create(&mark(1))])).await.unwrap();
    let Set { fake, proxy, stage } = set_with(impatient()).await;
    proxy.next(1, Fault::Delay(impatient().attempt * 2));
    let late = stage.zone.change(&batch([create(&mark(1))])).await;
    assert!(matches!(late, Err(ZoneError::Unknown(_))), "{late:?}");
    let made = || async { fake.records(ZONE).len() == 3 };
    assert!(eventually(PATIENCE, made).await, "it is made after everybody has stopped waiting");
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_received() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let stage = Stage::at(&format!("http://{nobody}"), ZONE).await;
    let read = stage.zone.describe().await.unwrap_err();
    let change = stage.zone.change(&batch([create(&mark(1))])).await.unwrap_err();
    for error in [&read, &change] {
        let words = |text: &str| text.contains("cannot be reached") && text.to_lowercase().contains("refused");
        assert!(matches!(error, ZoneError::Unreachable(text) if words(text)), "{error:?}");
    }
    assert_eq!(stage.counted("ChangeResourceRecordSets", "unreachable"), 1);
}

#[tokio::test]
async fn an_error_of_amazons_own_leaves_a_change_unknown() {
    let Set { fake, proxy: _proxy, stage } = set().await;
    fake.fail("*", 2, 500, "InternalFailure", "sorry");
    let read = stage.zone.describe().await;
    assert!(matches!(&read, Err(ZoneError::Unreachable(text)) if text.contains("sorry")), "{read:?}");
    let change = stage.zone.change(&batch([create(&mark(1))])).await;
    assert!(matches!(&change, Err(ZoneError::Unknown(text)) if text.contains("InternalFailure")), "{change:?}");
}

/// A call that waits for its turn longer than it may has sent nothing.
#[tokio::test]
async fn a_call_whose_turn_does_not_come_in_time_was_never_made() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let timeouts = AwsTimeouts { operation: Duration::from_millis(400), ..impatient() };
    let stage = Stage::paced(&fake.url(), ZONE, timeouts, 2).await;
    let zone: &dyn Zone = &*stage.zone;
    let calls = futures_util::future::join_all((0..12).map(|_| zone.describe())).await;
    let busy = calls.iter().filter(|call| matches!(call, Err(ZoneError::Busy(_)))).count();
    assert!(busy >= 6, "4 at once and 2 a second: {calls:?}");
    // Of the others, one may have begun so late that it did not get there.
    assert!((1..=12 - busy).contains(&fake.asked().len()), "{} and {calls:?}", fake.asked().len());
}
