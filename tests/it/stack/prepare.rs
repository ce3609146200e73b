//! A color that is prepared from nothing, with real backends as its instances: then it serves, and the other one is stopped.

use std::fs;

use serde_json::{Value, json};

use super::stage::{LONG, Stage, run, status, until, until_done};
use crate::harness::opsworks::Pace;
use crate::harness::{Client, Health};

#[tokio::test]
async fn green_is_prepared_from_nothing_switched_to_and_blue_is_stopped() {
    let (stage, _backends) = Stage::serving().await;
    let (proxy, opsworks) = (&stage.proxy, &stage.opsworks);
    assert_eq!(Client::http1(proxy).await.get("/").await.backend(), Some("blue"));
    let prepared = run(proxy, &["prepare", "green", "--reason", "release 42"]).await.assert_code(0);
    let steps = ["clone", "instances", "start", "deploy", "healthy"];
    for step in steps {
        assert!(prepared.stdout.contains(&format!("✓ {step}")), "{}", prepared.stdout);
    }
    // The command looks twice a second: a step that is over sooner may not be met.
    let is_told = |step: &&str| prepared.stderr.contains(&format!("shop: prepare green: {step}"));
    assert!(steps.iter().any(is_told), "steps are told on the way: {}", prepared.stderr);
    let states = opsworks.states("shop-green");
    assert!(states.len() == 2 && states.iter().all(|(_, state)| state == "online"), "{states:?}");
    assert_eq!(stage.made(), [1, 2, 2, 1]);

    proxy.run(&["switch", "green"]).await.assert_code(0);
    assert_eq!(Client::http1(proxy).await.get("/").await.backend(), Some("green"));
    run(proxy, &["stop", "blue"]).await.assert_code(0);
    assert!(opsworks.states("shop-blue").iter().all(|(_, state)| state == "stopped"));
    assert_eq!((opsworks.stacks().len(), opsworks.count("StopInstance")), (2, 2), "nothing is deleted");
    assert_eq!(Client::http1(proxy).await.get("/").await.backend(), Some("green"));
}

#[tokio::test]
async fn healthy_is_what_the_proxys_own_checks_say() {
    let (stage, backends) = Stage::serving().await;
    backends[3].health(Health::Failing(503));
    stage.order("prepare", "green").await;
    let waits = until(&stage.proxy, "waiting for health", |order| {
        order["step"] == "healthy" && order["says"].as_str().is_some_and(|says| says.contains("127.0.0.5"))
    });
    let says = waits.await["says"].as_str().unwrap().to_owned();
    assert!(says.contains("is down") || says.contains("not discovered yet"), "{says}");
    backends[3].health(Health::Passing);
    until_done(&stage.proxy).await;
}

/// Cuts the journal behind each line of a preparation: the proxy remembers no more than that, and the provider everything.
#[tokio::test]
async fn crashed_behind_any_line_of_a_preparation_it_ends_the_same() {
    let (mut stage, _backends) = Stage::serving().await;
    stage.order("prepare", "green").await;
    until_done(&stage.proxy).await;
    let made = stage.made();
    assert_eq!(made, [1, 2, 2, 1]);
    stage.proxy.kill9().await;
    let journal = stage.proxy.state_dir().join("journal.jsonl");
    let whole = fs::read(&journal).unwrap();
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
    let is_order = |end: &usize| {
        let begin = whole[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        serde_json::from_slice::<Value>(&whole[begin..*end]).unwrap()["stack"].is_object()
    };
    let ends: Vec<usize> = ends.into_iter().filter(is_order).collect();
    assert!(ends.len() >= 12, "{}", whole.escape_ascii());
    for end in ends {
        fs::write(&journal, &whole[..end]).unwrap();
        stage.proxy.restart_unready().await;
        until_done(&stage.proxy).await;
        assert_eq!(stage.made(), made, "cut behind {end} of {} bytes", whole.len());
        stage.proxy.kill9().await;
    }
}

/// Where it is killed is where it happens to be: before a call, in it, behind it, or in the middle of a line.
#[tokio::test]
async fn killed_again_and_again_while_it_prepares_it_makes_nothing_twice() {
    let (mut stage, _backends) = Stage::serving().await;
    stage.opsworks.pace(Pace::Held);
    stage.order("prepare", "green").await;
    for calls in 1.. {
        let seen = || stage.opsworks.asked().iter().filter(|asked| !asked.operation.starts_with("Describe")).count();
        let reached = || async { seen() >= calls || !status(&stage.proxy).await["order"]["outcome"].is_null() };
        stage.opsworks.step();
        let wait = async {
            while !reached().await {
                stage.opsworks.step();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("the order goes on");
        if seen() < calls {
            break;
        }
        stage.proxy.kill9().await;
        stage.proxy.restart_unready().await;
    }
    until_done(&stage.proxy).await;
    assert_eq!((stage.made(), stage.opsworks.named("shop-green").len()), ([1, 2, 2, 1], 1));
    let (status, order) = stage.proxy.api("GET", "/v1/services/shop/stack", json!(null)).await;
    assert_eq!((status, &order["order"]["evidence"]["is_cloned"]), (200, &json!(true)), "{order:#}");
}
