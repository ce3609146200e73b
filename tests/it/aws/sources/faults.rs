//! Whatever goes wrong on the way is told as what it is, and never as an answer.

use std::time::Duration;

use cutover::config::DiscoverFrom;
use cutover::discovery::SourceError;

use super::super::stage::{Stage, ZONE, impatient};
use super::{asg, ask, ec2, stage, target_group};
use crate::harness::region::Inst;
use crate::harness::{FakeRegion, Fault, FaultProxy};

#[tokio::test]
async fn every_fault_is_told_and_none_is_taken_for_an_answer() {
    let fake = FakeRegion::start().await;
    fake.add(Inst::at("i-1", "10.0.0.1").tagged("role", "web"));
    fake.add_group("shop-green", &[("i-1", "InService", "Healthy")]);
    fake.add_target_group("shop-ip", "ip", &[("10.0.0.1", 80, "healthy")]);
    let proxy = FaultProxy::before(fake.address).await;
    let stage = stage(&proxy.url()).await;
    for from in [ec2(&[("role", "web")]), asg("shop-green"), target_group("shop-ip")] {
        faults_are_told(&stage, &proxy, &from).await;
    }
}

/// As a story for every provider: with a source that has an answer, behind this proxy.
pub async fn faults_are_told(stage: &Stage, proxy: &FaultProxy, from: &DiscoverFrom) {
    let answer = ask(stage, from).await.unwrap();
    let requests = |since: usize| proxy.seen().len() - since;
    // Only who waits for nothing is impatient.
    let impatient = Stage::with(&proxy.url(), ZONE, impatient()).await;
    for (fault, asking) in [
        (Fault::Throttle, stage),
        (Fault::Unavailable, stage),
        (Fault::Reset, stage),
        (Fault::Truncate, stage),
        (Fault::LostReply, stage),
        (Fault::BlackHole, &impatient),
    ] {
        let before = proxy.seen().len();
        proxy.next(1, fault);
        let failed = ask(asking, from).await;
        match fault {
            Fault::Throttle => assert!(matches!(failed, Err(SourceError::Busy(_))), "{fault:?}: {failed:?}"),
            _ => assert!(matches!(failed, Err(SourceError::Unreachable(_))), "{fault:?}: {failed:?}"),
        }
        assert_eq!(requests(before), 1, "nothing is repeated by itself");
        proxy.heal();
        assert_eq!(ask(stage, from).await.as_ref(), Ok(&answer), "what comes after is not touched by it");
    }
    proxy.next(1, Fault::Delay(Duration::from_millis(50)));
    assert_eq!(ask(stage, from).await, Ok(answer));
}
