//! Whatever goes wrong on the way, nothing is made twice: what may have been done is called unknown, and a look tells.

use std::time::Duration;

use cutover::config::AwsTimeouts;
use cutover::stack::{Provider, ProviderError, Stack};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use super::stage::{Stage, blue};
use crate::harness::{FakeOpsWorks, Fault, FaultProxy, PATIENCE, Seen, eventually};

struct Set {
    fake: FakeOpsWorks,
    proxy: FaultProxy,
    stage: Stage,
    /// The same, for what has to run into its deadline.
    hasty: Stage,
    source: Stack,
}

async fn set() -> Set {
    let fake = blue().await;
    let proxy = FaultProxy::before(fake.address).await;
    let stage = Stage::at(&proxy.url()).await;
    let hasty = Stage::with(&proxy.url(), AwsTimeouts { attempt: HASTE, ..AwsTimeouts::default() }).await;
    let source = stage.stack("shop-blue").await;
    Set { fake, proxy, stage, hasty, source }
}

#[tokio::test]
async fn throttled_is_busy_and_nothing_was_done() {
    every_change_meets(Fault::Throttle, |error| matches!(error, ProviderError::Busy(_)), false).await;
}

#[tokio::test]
async fn a_503_of_something_on_the_way_says_nothing_about_what_was_done() {
    every_change_meets(Fault::Unavailable, is_unknown, false).await;
}

#[tokio::test]
async fn a_reset_connection_leaves_it_unknown() {
    every_change_meets(Fault::Reset, is_unknown, false).await;
}

#[tokio::test]
async fn silence_leaves_it_unknown() {
    every_change_meets(Fault::BlackHole, is_unknown, false).await;
}

#[tokio::test]
async fn a_lost_reply_leaves_it_unknown_and_a_look_shows_it_once() {
    every_change_meets(Fault::LostReply, is_unknown, true).await;
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let Set { fake, proxy, stage, source, .. } = set().await;
    for made in [0, 1] {
        // Once to the read that comes before, once to the change itself.
        let operation = ["DescribeStacks", "CloneStack"][made];
        proxy.on(1, Fault::Truncate, asks(operation));
        let error = stage.stacks.clone_stack(&source, "shop-green").await.unwrap_err();
        assert_eq!(is_unknown(&error), made == 1, "{error:?}");
        assert_eq!(fake.named("shop-green").len(), made);
    }
}

#[tokio::test]
async fn a_read_that_failed_is_only_unreachable_or_busy_and_nothing_is_changed_after_it() {
    let Set { fake, proxy, stage, hasty, source } = set().await;
    for (fault, busy) in
        [(Fault::Throttle, true), (Fault::Unavailable, false), (Fault::Reset, false), (Fault::LostReply, false)]
    {
        for operation in ["DescribeStacks", "DescribeLayers", "DescribeApps", "DescribeInstances"] {
            proxy.on(1, fault, asks(operation));
            let read = stage.stacks.find("shop-blue").await.unwrap_err();
            let expected = if busy { matches!(read, ProviderError::Busy(_)) } else { is_unreachable(&read) };
            assert!(expected, "{operation} {fault:?}: {read:?}");
        }
        proxy.on(1, fault, asks("DescribeStacks"));
        assert!(!is_unknown(&stage.stacks.clone_stack(&source, "shop-green").await.unwrap_err()));
        proxy.on(1, fault, asks("DescribeLayers"));
        assert!(!is_unknown(&stage.stacks.add_instance(&source, &source.instances[0]).await.unwrap_err()));
    }
    assert_eq!((fake.count("CloneStack"), fake.count("CreateInstance")), (0, 0));
    proxy.on(1, Fault::BlackHole, asks("DescribeApps"));
    assert!(is_unreachable(&hasty.stacks.find("shop-blue").await.unwrap_err()));
    assert_eq!(stage.stack("shop-blue").await, source);
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_and_a_too_slow_one_may_still_be_a_clone() {
    let Set { fake, proxy, stage, hasty, source } = set().await;
    proxy.on(1, Fault::Delay(Duration::from_millis(50)), asks("StopInstance"));
    stage.stacks.stop_instance(&source.instances[0]).await.unwrap();
    proxy.on(1, Fault::Delay(HASTE * 2), asks("CloneStack"));
    let late = hasty.stacks.clone_stack(&source, "shop-green").await.unwrap_err();
    assert!(is_unknown(&late), "{late:?}");
    let made = || async { stage.stacks.find("shop-green").await.unwrap().is_some() };
    assert!(eventually(HASTE + PATIENCE * 2, made).await, "it is made after everybody has stopped waiting");
    assert_eq!(fake.stacks().len(), 2);
}

/// Each kind of change meets the fault once: what it is told, how often it was sent, and whether it was done.
async fn every_change_meets(fault: Fault, expected: fn(&ProviderError) -> bool, done: bool) {
    let met = CHANGES.map(|(operation, change)| meets(operation, change, fault, expected, done));
    join_all(met).await;
}

async fn meets(operation: &str, change: Change, fault: Fault, expected: fn(&ProviderError) -> bool, done: bool) {
    let Set { fake, proxy, stage, hasty, source } = set().await;
    let before = trace(&fake);
    proxy.on(1, fault, asks(operation));
    let asking = if fault == Fault::BlackHole { &hasty } else { &stage };
    let error = change(&*asking.stacks, &source).await.unwrap_err();
    assert!(expected(&error), "{operation} {fault:?}: {error:?}");
    let sent = proxy.seen().iter().filter(|seen| asks(operation)(seen)).count();
    assert_eq!(sent, 1, "{operation} is not repeated by itself");
    assert_eq!(fake.count(operation), usize::from(done));
    assert_eq!(trace(&fake) != before, done, "{operation} {fault:?}");
    let result = if is_unknown(&error) { "unknown" } else { "busy" };
    assert_eq!(asking.counted(operation, result), 1);
    if operation == "CloneStack" && done {
        assert_eq!(stage.stack("shop-green").await.instances, []);
        let again = stage.stacks.clone_stack(&source, "shop-green").await.unwrap_err();
        assert!(matches!(again, ProviderError::Refused(_)), "{again:?}");
        assert_eq!(fake.named("shop-green").len(), 1, "one clone, whoever asks again");
    }
}

type Change = for<'a> fn(&'a dyn Provider, &'a Stack) -> BoxFuture<'a, Result<(), ProviderError>>;

const CHANGES: [(&str, Change); 4] = [
    ("CloneStack", |stacks, source| stacks.clone_stack(source, "shop-green").map(|made| made.map(drop)).boxed()),
    ("CreateInstance", |stacks, source| {
        stacks.add_instance(source, &source.instances[0]).map(|made| made.map(drop)).boxed()
    }),
    ("StopInstance", |stacks, source| stacks.stop_instance(&source.instances[0])),
    ("CreateDeployment", |stacks, source| {
        stacks.deploy(source, &source.apps[0], "order 7").map(|made| made.map(drop)).boxed()
    }),
];

/// Everything that a change would change.
fn trace(fake: &FakeOpsWorks) -> (usize, Vec<(String, String)>, usize) {
    (fake.stacks().len(), fake.states("shop-blue"), fake.deployments().len())
}

pub fn asks(operation: &str) -> impl Fn(&Seen) -> bool + Send + 'static {
    let target = format!("opsworks_20130218.{operation}").to_lowercase();
    move |seen| seen.head.to_lowercase().contains(&target)
}

fn is_unknown(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Unknown(_))
}

fn is_unreachable(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Unreachable(_))
}

/// Long for an answer that comes on a busy machine, and still waited for.
const HASTE: Duration = Duration::from_secs(5);
