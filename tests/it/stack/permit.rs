//! Stopping a color: not without a permit, by force only over what is named, and never the one that is live.

use serde_json::json;

use super::stage::{blue, both, run, settings};
use crate::harness::{Backend, Client};

#[tokio::test]
async fn blue_is_stopped_once_it_may_be_retired_or_for_a_reason() {
    let opsworks = blue().await;
    let green = Backend::start("green").await;
    let proxy = settings(&opsworks.url(), |service| service.green([&green])).start_unready().await;

    let live = run(&proxy, &["stop", "blue", "--force", "we mean it"]).await.assert_code(1);
    assert!(live.stderr.contains("blue must not be stopped: blue is live"), "{}", live.stderr);
    assert!(!live.stderr.contains("--force"), "no reason is good enough: {}", live.stderr);

    proxy.run(&["switch", "green"]).await.assert_code(0);
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some("green"));
    let early = run(&proxy, &["stop", "blue", "--json"]).await.assert_code(1).json();
    assert_eq!(early["obstacles"][0]["code"], "rollback-window", "{early:#}");
    assert!(early["detail"].as_str().unwrap().contains("`--force REASON` overrides that"), "{early:#}");
    assert_eq!(opsworks.count("StopInstance"), 0);

    let forced = run(&proxy, &["stop", "blue", "--force", "out for a week"]).await.assert_code(0);
    assert!(forced.stdout.contains("forced: out for a week"), "{}", forced.stdout);
    assert!(forced.stdout.contains("over rollback-window: "), "{}", forced.stdout);
    assert!(opsworks.states("shop-blue").iter().all(|(_, state)| state == "stopped"));
    let history = run(&proxy, &["history", "--json"]).await.assert_code(0).json();
    let kept = &history[0];
    assert_eq!((&kept["force"], &kept["overridden"][0]["code"]), (&json!("out for a week"), &json!("rollback-window")));
    let history = run(&proxy, &["history"]).await.assert_code(0).stdout;
    assert!(history.contains("forced: out for a week"), "{history}");
}

#[tokio::test]
async fn a_live_color_is_deployed_to_only_for_a_reason() {
    let opsworks = blue().await;
    let proxy = settings(&opsworks.url(), both).start_unready().await;
    let live = run(&proxy, &["deploy", "blue"]).await.assert_code(1);
    assert!(live.stderr.contains("blue must not be deployed to: blue is live"), "{}", live.stderr);
    run(&proxy, &["deploy", "blue", "--force", "nobody is here yet"]).await.assert_code(0);
    assert_eq!(opsworks.deployments().len(), 1);
}

#[tokio::test]
async fn a_color_that_never_served_may_be_stopped() {
    let opsworks = blue().await;
    opsworks.add_stack("shop-green", &["127.0.0.4"]);
    let proxy = settings(&opsworks.url(), both).start_unready().await;
    run(&proxy, &["stop", "green"]).await.assert_code(0);
    assert_eq!(opsworks.states("shop-green"), [("rails-app1".to_owned(), "stopped".to_owned())]);
}
