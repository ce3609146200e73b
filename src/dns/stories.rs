//! Stories of a follower and a zone in memory, with time held: every way through, every crash, two writers at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::memory::Fault;
use super::plan::{Why, leading};
use super::scene::{Scene, rules};
use super::shift::{Goal, Shift, Step};
use super::zone::{Data, Member, RecordSet, ZoneError};
use super::{State, Status};
use crate::config::Drift;
use crate::journal::Journal;
use crate::names::{Color, RecordType, Side};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn names_that_are_new_are_made_and_follow_a_switch_by_the_whole_path() {
    let (scene, run) = Scene::settled(rules("")).await;
    assert!(scene.leads(Side::Blue) && scene.ttl() == 60);
    let begun = Instant::now();
    run.switch(Color::Green);
    let status = run.until_at(Side::Green).await;
    assert!(scene.leads(Side::Green) && scene.ttl() == 60);
    let [_, lower, shift, restore] = scene.zone.times()[..] else { panic!("{:#?}", scene.zone.batches()) };
    assert!(lower - begun < seconds(10));
    assert!(shift - lower >= scene.zone.spread + seconds(60), "the old TTL is waited out");
    assert!(restore - shift >= scene.zone.spread + seconds(10), "and so is the low one, behind the move");
    assert_eq!((status.old_ttl, status.by.as_str()), (Some(10), "cutover to green"));
    let (shifted, expires) = (status.shifted_at.unwrap(), status.expires.unwrap());
    assert_eq!(expires.as_second() - shifted.as_second(), 10);
    scene.assert_sane();
}

#[tokio::test(start_paused = true)]
async fn what_is_as_it_should_be_is_not_written_again() {
    let (scene, run) = Scene::settled(rules("")).await;
    assert_eq!(scene.zone.batches().len(), 1);
    run.ask(Goal::Sync, None).await.unwrap();
    run.until("done", |status| status.goal == Goal::Sync && status.state == State::Done).await;
    tokio::time::sleep(seconds(3600)).await;
    run.kill().await;
    let run = scene.run(Color::Blue);
    run.until("in sync", |status| status.in_sync).await;
    assert_eq!(scene.zone.batches().len(), 1);
    // Without its journal, it believes the marks.
    run.kill().await;
    let scene = Scene { folder: tempfile::tempdir().unwrap(), ..scene };
    scene.run(Color::Blue).until_at(Side::Blue).await;
    assert_eq!(scene.zone.batches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn records_that_are_there_already_are_left_alone_until_they_are_adopted() {
    let there = leading(&rules("mode = \"simple\"\nttl = \"5m\""), Side::Proxy, 300);
    let scene = Scene::new(rules(""), there.clone());
    let run = scene.run(Color::Blue);
    let status = run.until("stopped", |status| status.state == State::Stopped).await;
    let objection = status.objection.unwrap();
    assert_eq!(objection.why, Why::Foreign);
    assert!(objection.remedy.contains("cutover dns adopt"), "{objection}");
    let text = objection.to_string();
    assert!(text.contains("found:  *.shop.example.com CNAME 300 s: p.example.net"), "{text}");
    assert_eq!(scene.zone.sets(), there);

    let begun = Instant::now();
    run.ask(Goal::Adopt, None).await.unwrap();
    run.until_at(Side::Blue).await;
    assert!(begun.elapsed() > seconds(300), "its old TTL is waited out");
    assert!(scene.leads(Side::Blue) && scene.ttl() == 60, "{:#?}", scene.zone.sets());
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_others_is_not_even_adopted() {
    let txt = |name: &str, text: &str| RecordSet {
        name: name.parse().unwrap(),
        kind: RecordType::Txt,
        member: None,
        data: Data::Values { ttl: 300, values: vec![format!("\"{text}\"")] },
    };
    let external = "heritage=external-dns,external-dns/owner=prod";
    let geo = RecordSet {
        data: Data::Foreign("a geolocation policy".into()),
        ..leading(&rules(""), Side::Blue, 60).remove(0)
    };
    let mail = RecordSet { kind: RecordType::A, name: "*.shop.example.com".parse().unwrap(), ..geo.clone() };
    for (foreign, says) in [
        (txt("shop.example.com", external), "belongs to somebody else"),
        (txt("a-shop.example.com", external), "belongs to somebody else"),
        (txt("_cutover.shop.example.com", external), "marked as somebody else's"),
        (txt("_cutover.shop.example.com", "heritage=cutover,v=2"), "marked as somebody else's"),
        (txt("_cutover.shop.example.com", "hello"), "where the mark of shop.example.com belongs"),
        (geo, "has a geolocation policy"),
        (
            RecordSet { data: Data::Values { ttl: 60, values: vec!["192.0.2.1".into()] }, ..mail },
            "a CNAME stands alone",
        ),
    ] {
        let scene = Scene::new(rules("drift = \"restore\""), vec![foreign]);
        let run = scene.run(Color::Blue);
        for goal in [Goal::Follow, Goal::Adopt, Goal::Sync] {
            if goal != Goal::Follow {
                run.ask(goal, None).await.unwrap();
            }
            let status = run.until("stopped", |status| status.state == State::Stopped && status.goal == goal).await;
            let objection = status.objection.unwrap();
            assert_eq!(objection.why, Why::Foreign);
            assert!(objection.says.contains(says), "{says}: {objection}");
        }
        assert_eq!(scene.zone.batches(), []);
        run.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn drift_is_said_or_put_back_as_the_config_asks() {
    for policy in [Drift::Alert, Drift::Restore] {
        let (scene, run) = Scene::settled(rules(&format!("drift = \"{policy}\""))).await;
        scene.zone.meddle(|sets| {
            let set = sets.iter_mut().find(|set| set.kind == RecordType::A).unwrap();
            set.member = Some(Member { weight: 7, ..set.member.clone().unwrap() });
        });
        match policy {
            Drift::Alert => {
                let status = run.until("stopped", |status| status.state == State::Stopped).await;
                let objection = status.objection.unwrap();
                assert_eq!((objection.why, status.in_sync), (Why::Drifted, false));
                assert!(objection.to_string().contains("found:  shop.example.com A [blue, weight 7]"), "{objection}");
                tokio::time::sleep(seconds(3600)).await;
                assert_eq!(scene.zone.batches().len(), 1);
                // A switch does not write over it either; an operator does.
                run.switch(Color::Green);
                run.until("stopped", |status| status.to == Side::Green && status.state == State::Stopped).await;
                run.ask(Goal::Sync, None).await.unwrap();
                run.until_at(Side::Green).await;
            }
            Drift::Restore => {
                run.until("put back", |status| status.goal == Goal::Restore && status.state == State::Done).await;
                assert!(scene.leads(Side::Blue) && scene.ttl() == 60);
            }
        }
        // What is put back by hand is no drift any more.
        run.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn drift_that_is_put_back_by_hand_is_over() {
    let (scene, run) = Scene::settled(rules("")).await;
    let good = scene.zone.sets();
    scene.zone.meddle(|sets| drop(sets.pop()));
    run.until("stopped", |status| status.state == State::Stopped).await;
    scene.zone.meddle(|sets| *sets = good);
    run.until("over", |status| status.state == State::Done && status.in_sync).await;
    assert_eq!(scene.zone.batches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_that_was_lowered_ahead_is_not_waited_for_again() {
    let (scene, run) = Scene::settled(rules("")).await;
    run.ask(Goal::Prepare, None).await.unwrap();
    run.until("prepared", |status| status.state == State::Prepared).await;
    assert_eq!(scene.ttl(), 10);
    tokio::time::sleep(seconds(1800)).await;
    assert_eq!(scene.zone.batches().len(), 2, "it stays low until names move");
    let begun = Instant::now();
    run.switch(Color::Green);
    run.until("moved", |status| status.state == State::Tail).await;
    assert!(begun.elapsed() < scene.zone.spread + seconds(20), "{:?}", begun.elapsed());
    run.until_at(Side::Green).await;
    assert_eq!((scene.ttl(), scene.zone.batches().len()), (60, 4));
}

#[tokio::test(start_paused = true)]
async fn a_new_color_turns_it_around_at_any_time() {
    for at in 0..40 {
        let (scene, run) = Scene::settled(rules("")).await;
        run.switch(Color::Green);
        tokio::time::sleep(seconds(at * 5)).await;
        let low = scene.leads(Side::Green) && scene.ttl() == 10;
        run.switch(Color::Blue);
        let begun = Instant::now();
        run.until_at(Side::Blue).await;
        assert!(scene.leads(Side::Blue) && scene.ttl() == 60, "turned after {at} × 5 s");
        if low {
            let back = *scene.zone.times().iter().rev().nth(1).unwrap();
            assert!(back - begun < seconds(20), "the way back does not wait for a TTL that is low: {:?}", back - begun);
        }
        scene.assert_sane();
        run.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_go_onto_the_proxy_by_hand_and_stay_there_until_another_color_is_live() {
    let (scene, run) = Scene::settled(rules("")).await;
    run.ask(Goal::Sync, Some(Side::Proxy)).await.unwrap();
    run.until_at(Side::Proxy).await;
    run.switch(Color::Blue);
    tokio::time::sleep(seconds(600)).await;
    run.kill().await;
    let run = scene.run(Color::Blue);
    run.until_at(Side::Proxy).await;
    tokio::time::sleep(seconds(600)).await;
    assert!(scene.leads(Side::Proxy));
    run.switch(Color::Green);
    run.until_at(Side::Green).await;
    scene.assert_sane();
}

#[tokio::test(start_paused = true)]
async fn answers_that_were_lost_are_found_in_the_zone() {
    for fault in [Fault::LostReply, Fault::LostRequest, Fault::Says(ZoneError::Unreachable("503".into()))] {
        let (scene, run) = Scene::settled(rules("")).await;
        scene.zone.faults([fault.clone(), Fault::Fine, fault.clone(), fault.clone()]);
        run.switch(Color::Green);
        let status = run.until_at(Side::Green).await;
        assert!(scene.leads(Side::Green) && scene.ttl() == 60, "{fault:?}");
        assert!(status.doubts >= 3, "{fault:?}: {status:#?}");
        scene.assert_sane();
        run.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_does_not_arrive_is_sent_again() {
    let (scene, run) = Scene::settled(rules("")).await;
    scene.zone.faults([Fault::Fine, Fault::Stuck]);
    run.switch(Color::Green);
    let status = run.until_at(Side::Green).await;
    assert_eq!((status.stranded, scene.zone.batches().len()), (1, 5));
    scene.assert_sane();
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_busy_is_given_time_and_one_that_refuses_is_left_alone() {
    let (scene, run) = Scene::settled(rules("")).await;
    scene.zone.faults(vec![Fault::Says(ZoneError::Busy("Throttling".into())); 8]);
    let begun = Instant::now();
    run.switch(Color::Green);
    let waits = run.until("waits", |status| status.message.is_some()).await;
    assert!(waits.message.unwrap().contains("Throttling"));
    run.until_at(Side::Green).await;
    assert!(begun.elapsed() < seconds(180 + 8 * 60));

    scene.zone.faults(vec![Fault::Says(ZoneError::Refused("AccessDenied".into())); 2]);
    run.switch(Color::Blue);
    let status = run.until("stopped", |status| status.state == State::Stopped).await;
    assert!(status.message.unwrap().contains("AccessDenied; nothing is written until that is mended"));
    let at_rest = scene.zone.batches().len();
    tokio::time::sleep(seconds(500)).await;
    assert_eq!(scene.zone.batches().len(), at_rest, "not before a long time has passed");
    run.ask(Goal::Sync, None).await.unwrap();
    run.until("refused again", |status| status.goal == Goal::Sync && status.state == State::Stopped).await;
    run.until_at(Side::Blue).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_writers_one_wins_and_the_other_says_so() {
    let (scene, run) = Scene::settled(rules("")).await;
    // A second proxy with the same service and a journal of its own: it believes the marks, until both have written.
    let other_folder = tempfile::tempdir().unwrap();
    let other = scene.run_with(Color::Blue, Journal::open(other_folder.path(), &[]).unwrap());
    other.until_at(Side::Blue).await;
    run.switch(Color::Green);
    other.switch(Color::Green);
    let ends = |status: &Status| matches!(status.state, State::Done | State::Stopped) && status.to != Side::Blue;
    let (one, two) = (run.until("an end", ends).await, other.until("an end", ends).await);
    let stopped: Vec<_> = [&one, &two].into_iter().filter(|status| status.state == State::Stopped).collect();
    let [loser] = stopped[..] else { panic!("exactly one stops: {one:#?} {two:#?}") };
    assert_eq!(loser.objection.as_ref().unwrap().why, Why::Another);
    let winner = if one.state == State::Done { one.to } else { two.to };
    assert!(scene.leads(winner));
    scene.assert_sane();
}

/// Kills the follower at each call to the zone, before and after it does its work, and starts another on the same journal.
#[tokio::test(start_paused = true)]
async fn killed_at_any_call_it_ends_where_it_should() {
    let mut at = 1;
    loop {
        let (scene, run) = Scene::settled(rules("")).await;
        let (killed, task) = (Arc::new(AtomicUsize::new(0)), run.task.abort_handle());
        let seen = killed.clone();
        scene.zone.hook(move |call| {
            if call == at {
                seen.store(call, Ordering::Relaxed);
                task.abort();
            }
        });
        run.switch(Color::Green);
        let there = |status: &Status| status.to == Side::Green && status.state == State::Done && status.in_sync;
        let mut status = run.desk.watch();
        let ended = AssertUnwindSafe(status.wait_for(there));
        let unharmed = tokio::time::timeout(seconds(7200), ended.0).await.is_ok_and(|seen| seen.is_ok());
        if unharmed && killed.load(Ordering::Relaxed) == 0 {
            assert!(at > 40, "there are that many calls: {at}");
            return;
        }
        run.kill().await;
        scene.zone.hook(|_| {});
        // The next one reads the color from the journal of cutovers, and that is green.
        let run = scene.run(Color::Green);
        run.until_at(Side::Green).await;
        assert!(scene.leads(Side::Green) && scene.ttl() == 60, "killed at call {at}");
        scene.assert_sane();
        run.kill().await;
        at += 1;
    }
}

/// Cuts the journal behind each of its lines, as a crash there would leave it, with the zone as it was at that line or as
/// it was in the end.
#[tokio::test(start_paused = true)]
async fn crashed_behind_any_line_of_the_journal_it_ends_where_it_should() {
    let (scene, run) = Scene::settled(rules("")).await;
    let path = scene.folder.path().join("journal.jsonl");
    run.switch(Color::Green);
    let (mut zones, mut told) = (Vec::new(), run.desk.watch());
    while !(told.borrow().to == Side::Green && told.borrow().state == State::Done) {
        told.changed().await.unwrap();
        let lines = std::fs::read(&path).unwrap().iter().filter(|byte| **byte == b'\n').count();
        zones.push((lines, scene.zone.sets()));
    }
    zones.dedup();
    run.kill().await;
    let whole = std::fs::read(&path).unwrap();
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
    assert!(ends.len() >= 10, "{}", whole.escape_ascii());
    for (line, sets) in zones {
        let again = Scene::new(scene.rules.clone(), sets);
        std::fs::write(again.folder.path().join("journal.jsonl"), &whole[..ends[line - 1]]).unwrap();
        let run = again.run(Color::Green);
        run.until_at(Side::Green).await;
        assert!(again.leads(Side::Green) && again.ttl() == 60, "cut behind line {line}");
        run.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shift_that_others_came_before_is_in_the_history_as_replaced() {
    let (scene, run) = Scene::settled(rules("")).await;
    run.switch(Color::Green);
    run.until("under way", |status| status.to == Side::Green && status.state == State::WaitOut).await;
    run.switch(Color::Blue);
    run.until_at(Side::Blue).await;
    let journal = run.journal.clone().unwrap();
    let steps: Vec<Step> = journal.history::<Shift>(None).into_iter().map(|shift| shift.step).collect();
    assert_eq!(steps, [Step::Done, Step::Replaced, Step::Done]);
    assert!(scene.leads(Side::Blue));
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_every_batch_and_writes_none() {
    let (scene, run) = Scene::settled(rules("")).await;
    let plan = run.desk.plan_switch(Color::Green).await.unwrap();
    let steps: Vec<&str> = plan.batches.iter().map(|written| written.step.as_str()).collect();
    assert_eq!(steps, ["lower", "move", "restore"]);
    assert_eq!(run.desk.plan(None).await.unwrap().batches, []);
    assert_eq!(scene.zone.batches().len(), 1);
    // What was planned is what is done, but for attempt and time.
    run.switch(Color::Green);
    run.until_at(Side::Green).await;
    let without_marks = |batch: &super::Batch| {
        let sets = batch.changes.iter().filter(|change| change.set.kind != RecordType::Txt);
        sets.cloned().collect::<Vec<_>>()
    };
    for (planned, done) in plan.batches.iter().zip(&scene.zone.batches()[1..]) {
        assert_eq!(without_marks(&planned.batch), without_marks(done));
        assert_eq!(planned.batch.comment, done.comment);
    }
}
