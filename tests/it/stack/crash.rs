//! The proxy is killed while an order is carried out, and replies are lost: nothing is made twice, and it ends the same.

use super::stage::{LONG, Stage, blue, both, settings, status, until_done};
use crate::harness::{Fault, FaultProxy, Seen, eventually};

/// A call that makes something or has it started, the order that it belongs to, and how often that makes it.
const MAKING: [(&str, &str, usize); 4] = [
    ("CloneStack", "clone", 1),
    ("CreateInstance", "clone", 2),
    ("StartInstance", "start", 2),
    ("CreateDeployment", "deploy", 1),
];

/// A double with what that order needs, behind a fault proxy.
async fn before(verb: &str) -> (Stage, FaultProxy) {
    let opsworks = blue().await;
    if verb != "clone" {
        opsworks.add_stack("shop-green", &["127.0.0.4", "127.0.0.5"]);
    }
    for instance in opsworks.instances("shop-green").iter().filter(|_| verb == "start") {
        opsworks.put(instance["InstanceId"].as_str().unwrap(), "stopped");
    }
    let fault = FaultProxy::before(opsworks.address).await;
    let proxy = settings(&fault.url(), both).start_unready().await;
    (Stage { opsworks, proxy }, fault)
}

fn of(operation: &'static str) -> impl Fn(&Seen) -> bool + Send + 'static {
    move |seen| seen.head.contains(&format!(".{operation}\r\n"))
}

#[tokio::test]
async fn whatever_reply_is_lost_nothing_is_made_twice() {
    for (operation, verb, count) in MAKING {
        let (stage, fault) = before(verb).await;
        fault.on(1, Fault::LostReply, of(operation));
        stage.order(verb, "green").await;
        let order = until_done(&stage.proxy).await;
        assert_eq!(stage.opsworks.count(operation), count, "{operation}");
        assert_eq!(stage.opsworks.named("shop-green").len(), 1, "{operation}");
        assert_eq!(order["evidence"]["doubts"], 1, "{order:#}");
    }
}

#[tokio::test]
async fn killed_before_or_behind_any_call_it_goes_on_and_makes_nothing_twice() {
    for (operation, verb, count) in MAKING {
        for is_received in [false, true] {
            let (mut stage, fault) = before(verb).await;
            if !is_received {
                fault.on(1, Fault::BlackHole, of(operation));
            }
            stage.order(verb, "green").await;
            let seen = || async { fault.seen().iter().any(of(operation)) };
            assert!(eventually(LONG, seen).await, "{operation} is never asked for");
            stage.proxy.kill9().await;
            fault.heal();
            stage.proxy.restart_unready().await;
            until_done(&stage.proxy).await;
            assert_eq!(stage.opsworks.count(operation), count, "{operation}, received: {is_received}");
            assert_eq!(stage.opsworks.named("shop-green").len(), 1, "{operation}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_waited_for_and_said() {
    let opsworks = blue().await;
    let fault = FaultProxy::before(opsworks.address).await;
    let proxy = settings(&fault.url(), both).start_unready().await;
    let stage = Stage { opsworks, proxy };
    fault.next(3, Fault::Unavailable);
    stage.order("clone", "green").await;
    until_done(&stage.proxy).await;
    fault.next(usize::MAX, Fault::Reset);
    stage.order("start", "green").await;
    let says = || async { status(&stage.proxy).await["order"]["says"].is_string() };
    assert!(eventually(LONG, says).await, "{:#}", status(&stage.proxy).await);
    fault.heal();
    // The pause that has begun is at most some seconds long.
    until_done(&stage.proxy).await;
    assert_eq!(stage.made(), [1, 2, 2, 0]);
}
