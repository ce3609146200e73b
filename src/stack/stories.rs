//! Stories of a foreman and a provider in memory, with time held: every order, every crash, every lost reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::desk::{Denied, Wish};
use super::memory::{BOOT, Fault};
use super::order::{Kind, Order, Outcome, Step, Verb};
use super::provider::{InstanceState, ProviderError, Wanted};
use super::scene::{Run, Scene, group, obstacle, stack};
use super::status::Status;
use crate::journal::Topic;
use crate::names::Color;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn at(step: Step) -> impl Fn(&Status) -> bool {
    move |status| status.order.as_ref().is_some_and(|view| view.order.step == step)
}

#[tokio::test(start_paused = true)]
async fn green_is_made_from_blue_started_deployed_to_and_healthy() {
    let scene = Scene::blue_only();
    let run = scene.run();
    let begun = run.order(Verb::Prepare, Color::Green).await.unwrap();
    assert_eq!((begun.step, begun.source.as_deref()), (Step::Clone, Some("shop-blue")));
    let done = run.done().await;
    scene.assert_prepared("unharmed");
    assert_eq!((done.step, done.evidence.is_cloned, done.evidence.doubts), (Step::Healthy, true, 0));
    assert_eq!(scene.provider.deployments()[0].comment, format!("cutover {}", done.id));
    for step in [Step::Clone, Step::Instances, Step::Start, Step::Deploy, Step::Healthy] {
        assert_eq!(run.desk.figures.steps(Color::Green, step, Outcome::Done), 1, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_not_made_again() {
    let scene = Scene::blue_only();
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.done().await;
    let before = scene.provider.done().len();
    for verb in [Verb::Clone, Verb::Start] {
        run.order(verb, Color::Green).await.unwrap();
        run.done().await;
    }
    assert_eq!(scene.provider.done().len(), before);
    // A release is deployed once for each order.
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.done().await;
    assert_eq!(scene.provider.done()[before..], ["deploy shop"]);
}

#[tokio::test(start_paused = true)]
async fn each_part_of_it_can_be_ordered_alone() {
    let scene = Scene::blue_only();
    let run = scene.run();
    run.order(Verb::Start, Color::Green).await.unwrap();
    run.failed("there is no OpsWorks stack `shop-green`").await;
    for (verb, done) in [
        (Verb::Clone, &["clone shop-green", "add web1", "add web2"][..]),
        (Verb::Start, &["start web1", "start web2"]),
        (Verb::Deploy, &["deploy shop"]),
        (Verb::Stop, &["stop web1", "stop web2"]),
    ] {
        let before = scene.provider.done().len();
        run.order(verb, Color::Green).await.unwrap();
        run.done().await;
        assert_eq!(scene.provider.done()[before..], *done, "{verb:?}");
    }
    let green = scene.provider.stack("shop-green");
    assert!(green.instances.iter().all(|instance| instance.state == InstanceState::Stopped), "nothing is deleted");
    let verbs: Vec<Verb> = run.desk.history().into_iter().map(|order| order.verb).collect();
    assert_eq!(verbs, [Verb::Stop, Verb::Deploy, Verb::Start, Verb::Clone, Verb::Start]);
}

#[tokio::test(start_paused = true)]
async fn instances_that_the_provider_starts_by_itself_are_made_and_not_waited_for() {
    let scene = Scene::blue_only();
    scene.provider.meddle(|stacks| stacks[0].instances[1].is_automatic = true);
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.done().await;
    let expected = ["clone shop-green", "add web1", "add web2", "start web1", "deploy shop"];
    assert_eq!(scene.provider.done(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_comes_up_wrong_ends_the_order_and_the_next_one_goes_on_from_there() {
    let scene = Scene::blue_only();
    scene.provider.breaks("web2");
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    let order = run.failed("web2 is setup_failed; look at its log").await;
    assert_eq!(order.step, Step::Start);
    assert_eq!(run.desk.figures.steps(Color::Green, Step::Start, Outcome::Failed), 1);
    // An operator deletes it.
    scene.provider.mends();
    let before = scene.provider.done().len();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.done().await;
    assert_eq!(scene.provider.done()[before..], ["add web2", "start web2", "deploy shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_fails_ends_the_order_and_a_new_order_deploys_again() {
    let scene = Scene::blue_only();
    scene.provider.fails_deployments(true);
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.failed("of shop failed; look at its log").await;
    scene.provider.fails_deployments(false);
    run.order(Verb::Deploy, Color::Green).await.unwrap();
    run.done().await;
    assert_eq!(scene.provider.deployments().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn every_step_has_a_deadline_and_says_what_it_waited_for() {
    let scene = Scene::blue_only();
    scene.provider.is_unhealthy(true);
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.until("checks", at(Step::Healthy)).await;
    let begun = Instant::now();
    let order = run.failed("its step `healthy` was not over within 10m 00s").await;
    assert!(order.why.unwrap().contains("is down: connection refused"));
    assert!(begun.elapsed() >= scene.rules.timeouts.healthy);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_busy_is_given_time_and_one_that_refuses_ends_the_order() {
    let scene = Scene::blue_only();
    scene.provider.faults(vec![Fault::Says(ProviderError::Busy("Throttling".into())); 6]);
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    let says = |status: &Status| {
        status.order.as_ref().is_some_and(|view| view.says.as_ref().is_some_and(|says| says.contains("Throttling")))
    };
    run.until("a pause", says).await;
    run.done().await;
    scene.assert_prepared("throttled");

    let scene = Scene::blue_only();
    scene.provider.faults(vec![Fault::Says(ProviderError::Refused("AccessDenied".into())); 2]);
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.failed("the cloning of shop-green was refused: AccessDenied").await;
    assert_eq!(scene.provider.done(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_since_somebody_else_did_it_is_no_failure() {
    let scene = Scene::new(vec![stack("shop-blue", &["web1"]), stack("shop-green", &["web1"])], Kind::OpsWorks);
    scene.provider.meddle(|stacks| {
        let one = &mut stacks[1].instances[0];
        (one.state, one.says) = (InstanceState::Stopped, "stopped".into());
    });
    scene.provider.faults([Fault::Says(ProviderError::Refused("web1 is booting".into()))]);
    let (run, provider) = (scene.run(), scene.provider.clone());
    run.order(Verb::Start, Color::Green).await.unwrap();
    // The look that follows the refusal finds it online.
    let refused = |status: &Status| status.order.as_ref().is_some_and(|view| view.says.is_some());
    run.until("the start", refused).await;
    provider.meddle(|stacks| stacks[1].instances[0].state = InstanceState::Online);
    run.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_order_is_denied_and_told_who_holds_the_stacks() {
    let scene = Scene::blue_only();
    let run = scene.run();
    let first = run.order(Verb::Prepare, Color::Green).await.unwrap();
    let denied = run.order(Verb::Stop, Color::Blue).await.unwrap_err();
    assert!(matches!(&denied, Denied::Held(order) if order.id == first.id), "{denied}");
    assert!(denied.to_string().contains("uid 0") && denied.to_string().contains("prepare green"), "{denied}");
    run.done().await;
    run.order(Verb::Stop, Color::Blue).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_aborted_ends_at_once_and_what_was_on_its_way_is_remembered() {
    for pause in 0..30 {
        let scene = Scene::blue_only();
        scene.provider.faults([Fault::Late, Fault::LostReply, Fault::Late]);
        let run = scene.run();
        run.order(Verb::Prepare, Color::Green).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause * 3)).await;
        let ended = run.desk.ask(Wish::Abort { by: "uid 7".into() }).await.unwrap();
        assert_eq!((ended.outcome, ended.why.is_some()), (Some(Outcome::Aborted), true));
        assert_eq!(run.desk.ask(Wish::Abort { by: "uid 7".into() }).await, Err(Denied::NothingToAbort));
        run.order(Verb::Prepare, Color::Green).await.unwrap();
        run.done().await;
        scene.assert_prepared(&format!("aborted after {} ms", pause * 3));
        run.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_or_late_nothing_is_made_twice() {
    for fault in [Fault::LostReply, Fault::LostRequest, Fault::Late] {
        for place in 0..6 {
            let scene = Scene::blue_only();
            scene.provider.faults(vec![Fault::Fine; place]);
            scene.provider.faults([fault.clone()]);
            let run = scene.run();
            run.order(Verb::Prepare, Color::Green).await.unwrap();
            let order = run.done().await;
            scene.assert_prepared(&format!("{fault:?} of request {place}"));
            assert_eq!(order.evidence.doubts, 1);
            run.kill().await;
        }
        let scene = Scene::blue_only();
        scene.provider.faults(vec![fault; 20]);
        let run = scene.run();
        run.order(Verb::Prepare, Color::Green).await.unwrap();
        run.ended().await;
        tokio::time::sleep(seconds(3600)).await;
        let mut done = scene.provider.done();
        done.sort_unstable();
        let all = done.len();
        done.dedup();
        assert_eq!(done.len(), all, "{done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_stops_a_color_that_must_not_be_retired() {
    let scene = Scene::blue_only();
    scene.provider.obstacles(vec![obstacle("tail", false)]);
    let run = scene.run();
    let denied = run.order(Verb::Stop, Color::Blue).await.unwrap_err();
    assert!(denied.to_string().contains("blue must not be stopped: tail speaks against it; `--force"), "{denied}");
    assert_eq!((scene.provider.done().len(), run.desk.history().len()), (0, 0));

    let order = run.force(Verb::Stop, Color::Blue).await.unwrap();
    assert_eq!((order.force.as_deref(), &order.overridden), (Some("we know"), &vec![obstacle("tail", false)]));
    let kept: Order = run.journal.as_ref().unwrap().find(order.id()).unwrap();
    assert_eq!(kept.overridden, order.overridden, "it is on record before anything is stopped");
    run.done().await;
    assert_eq!(scene.provider.done(), ["stop web1", "stop web2"]);
}

#[tokio::test(start_paused = true)]
async fn the_live_color_is_not_stopped_for_any_reason() {
    let scene = Scene::blue_only();
    scene.provider.obstacles(vec![obstacle("live", true)]);
    let run = scene.run();
    let denied = run.force(Verb::Stop, Color::Blue).await.unwrap_err();
    assert!(!denied.to_string().contains("--force"), "{denied}");
}

#[tokio::test(start_paused = true)]
async fn the_permit_is_looked_at_right_before_each_stop() {
    for forced in [false, true] {
        let scene = Scene::blue_only();
        let (run, provider) = (scene.run(), scene.provider.clone());
        match forced {
            false => run.order(Verb::Stop, Color::Blue).await.unwrap(),
            true => run.force(Verb::Stop, Color::Blue).await.unwrap(),
        };
        let stops = |status: &Status| status.order.as_ref().is_some_and(|view| !view.order.evidence.stopped.is_empty());
        run.until("the first stop", stops).await;
        provider.obstacles(vec![obstacle("in-flight", false)]);
        match forced {
            false => {
                run.failed("in-flight speaks against it").await;
                assert_eq!(provider.done(), ["stop web1"]);
            }
            true => {
                let order = run.done().await;
                assert_eq!(order.overridden, [obstacle("in-flight", false)]);
                assert_eq!(provider.done(), ["stop web1", "stop web2"]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn groups_are_given_the_other_colors_size_and_are_brought_to_none() {
    let wanted = |min, desired, max| Wanted { min, desired, max };
    let mut blue = group("shop-blue", wanted(2, 3, 8));
    blue.instances = stack("shop-blue", &["a", "b", "c"]).instances;
    let scene = Scene::new(vec![blue, group("shop-green", wanted(0, 0, 2))], Kind::Asg);
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    let order = run.done().await;
    assert_eq!(scene.provider.done(), ["capacity min 2, desired 3, max 3"]);
    let capacity = order.evidence.capacity.unwrap();
    assert_eq!((capacity.from, capacity.to), (wanted(0, 0, 2), wanted(2, 3, 3)));
    run.order(Verb::Stop, Color::Blue).await.unwrap();
    run.done().await;
    let blue = scene.provider.stack("shop-blue");
    assert_eq!(blue.capacity, Some(wanted(0, 0, 8)), "its bounds stay");
    assert!(blue.instances.iter().all(|instance| instance.state == InstanceState::Gone));
    for (verb, says) in [(Verb::Clone, "not to be cloned"), (Verb::Deploy, "launch template")] {
        let denied = run.order(verb, Color::Green).await.unwrap_err();
        assert!(denied.to_string().contains(says), "{denied}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_in_the_end_is_not_begun() {
    let scene = Scene::blue_only();
    scene.provider.meddle(|stacks| stacks[0].apps.clear());
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.failed("shop-blue has no app").await;
    scene.provider.meddle(|stacks| stacks.clear());
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.failed("neither `shop-green` nor `shop-blue`").await;
    assert_eq!(scene.provider.done(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_to_a_stack_that_is_both_colors_whether_by_name_or_by_id() {
    let mut scene = Scene::blue_only();
    for name in ["shop-blue", "shop-blue-id"] {
        scene.sites[Color::Green].as_mut().unwrap().stack = name.into();
        let run = scene.run();
        for verb in Verb::ALL {
            run.order(verb, Color::Green).await.unwrap();
            run.failed("blue and green are one stack, shop-blue").await;
        }
        run.kill().await;
    }
    assert_eq!(scene.provider.done(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_order_for_a_stack_that_is_no_longer_the_colors_ends_with_the_next_start() {
    let mut scene = Scene::blue_only();
    let run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.until("started", at(Step::Start)).await;
    run.kill().await;
    scene.sites[Color::Green].as_mut().unwrap().stack = "another".into();
    let run = scene.run();
    let order = run.ended().await;
    assert_eq!(order.outcome, Some(Outcome::Aborted));
    assert!(order.why.unwrap().contains("the config no longer says that green is shop-green"));
}

/// Kills the foreman at each call to the provider, before and after it does its work, and starts another on the same
/// journal.
#[tokio::test(start_paused = true)]
async fn killed_at_any_call_of_a_prepare_it_ends_the_same() {
    let mut at = 1;
    loop {
        let scene = Scene::blue_only();
        let run = scene.run();
        let (killed, task) = (Arc::new(AtomicBool::new(false)), run.task.abort_handle());
        let seen = killed.clone();
        run.order(Verb::Prepare, Color::Green).await.unwrap();
        scene.provider.hook(move |call| {
            if call == at {
                seen.store(true, Ordering::Relaxed);
                task.abort();
            }
        });
        // What is under way at the provider when the caller dies is carried out, at once or late.
        scene.provider.faults(vec![Fault::Fine; 6]);
        let ended = |status: &Status| status.order.as_ref().is_some_and(|view| view.order.outcome.is_some());
        let mut status = run.desk.status.clone();
        let unharmed = tokio::time::timeout(seconds(7200), status.wait_for(ended)).await.is_ok_and(|seen| seen.is_ok());
        if unharmed && !killed.load(Ordering::Relaxed) {
            assert!(at > 30, "there are that many calls: {at}");
            return;
        }
        run.kill().await;
        scene.provider.hook(|_| {});
        let run = scene.run();
        run.done().await;
        scene.assert_prepared(&format!("killed at call {at}"));
        run.kill().await;
        at += 1;
    }
}

/// Cuts the journal behind each of its lines, as a crash there would leave it, with the stacks as they were at that line,
/// and with what that line says is on its way carried out late, lost, or done.
#[tokio::test(start_paused = true)]
async fn crashed_behind_any_line_of_the_journal_it_ends_the_same() {
    let lines = count_lines(&Scene::blue_only()).await;
    assert!(lines >= 15, "{lines}");
    for line in 1..lines {
        for fault in [Fault::Fine, Fault::Late, Fault::LostRequest] {
            let scene = Scene::blue_only();
            let run = scene.run();
            run.order(Verb::Prepare, Color::Green).await.unwrap();
            // Time stands still between a line and what follows it, so that each line is seen.
            let path = scene.folder.path().join("journal.jsonl");
            let written = || std::fs::read(&path).unwrap().iter().filter(|byte| **byte == b'\n').count();
            let mut status = run.desk.status.clone();
            while written() < line {
                tokio::time::timeout(seconds(7200), status.changed()).await.unwrap().unwrap();
            }
            scene.provider.faults([fault.clone()]);
            // So far that what is due is on its way, and not so far that its answer is written down.
            tokio::time::sleep(Duration::from_millis(6)).await;
            run.kill().await;
            let run = scene.run();
            run.done().await;
            // What is on its way where the order ends is carried out by then.
            tokio::time::sleep(BOOT).await;
            scene.assert_prepared(&format!("cut behind line {line}, {fault:?}"));
            run.kill().await;
        }
    }
}

async fn count_lines(scene: &Scene) -> usize {
    let run: Run = scene.run();
    run.order(Verb::Prepare, Color::Green).await.unwrap();
    run.done().await;
    std::fs::read(scene.folder.path().join("journal.jsonl")).unwrap().iter().filter(|byte| **byte == b'\n').count()
}
