//! Orders as operators give them: what they do at the provider, what they print, and how they end.

use serde_json::{Value, json};

use super::stage::{Stage, run, until, until_done};
use crate::harness::opsworks::{Fate, Pace};

#[tokio::test]
async fn green_is_cloned_from_blue_started_deployed_to_and_stopped_and_nothing_is_deleted() {
    let stage = Stage::start().await;
    let (proxy, opsworks) = (&stage.proxy, &stage.opsworks);
    let list = run(proxy, &["list"]).await.assert_code(0).stdout;
    assert!(list.contains("opsworks  shop-blue  blue   2 of 2 online"), "{list}");

    let cloned = run(proxy, &["clone", "green"]).await.assert_code(0);
    assert!(cloned.stdout.contains("clone green (the OpsWorks stack shop-green), done after"), "{}", cloned.stdout);
    let hosts = |state: &str| ["rails-app1", "rails-app2"].map(|host| (host.to_owned(), state.to_owned()));
    assert_eq!(opsworks.states("shop-green"), hosts("stopped"));
    let green = opsworks.stacks().pop().unwrap();
    assert_eq!((&green["Name"], &green["VpcId"]), (&json!("shop-green"), &json!("vpc-shop")));

    let started = run(proxy, &["start", "green", "--json"]).await.assert_code(0).json();
    assert_eq!((&started["outcome"], &started["by"]), (&json!("done"), &json!("uid 0")), "{started:#}");
    assert_eq!(started["instances"][1]["state"], "online", "{started:#}");
    assert_eq!(opsworks.states("shop-green"), hosts("online"));

    run(proxy, &["deploy", "green", "shop", "--reason", "release 42"]).await.assert_code(0);
    let deployments = opsworks.deployments();
    let comment = deployments[0]["Comment"].as_str().unwrap();
    assert!(comment.starts_with("cutover shop-stack-") && comment.ends_with(": release 42"), "{comment}");

    run(proxy, &["stop", "green"]).await.assert_code(0);
    assert_eq!(opsworks.states("shop-green"), hosts("stopped"));
    assert_eq!((stage.made(), opsworks.stacks().len()), ([1, 2, 2, 1], 2));

    let history = run(proxy, &["history"]).await.assert_code(0).stdout;
    let outcomes: Vec<bool> = history.lines().skip(1).map(|line| line.contains("done")).collect();
    assert_eq!(outcomes, [true; 4], "{history}");
    assert!(history.contains("release 42"), "{history}");
    let list = run(proxy, &["list", "--json"]).await.assert_code(0).json();
    let colors: Vec<&Value> = list.as_array().unwrap().iter().map(|stack| &stack["color"]).collect();
    assert_eq!(colors, ["blue", "green"], "{list:#}");
    let metrics = proxy.metrics().await;
    for (step, count) in
        [("clone", 1.0), ("instances", 1.0), ("start", 1.0), ("deploy", 1.0), ("stop", 1.0), ("healthy", 0.0)]
    {
        let labels = [("service", "shop"), ("color", "green"), ("step", step), ("outcome", "done")];
        assert_eq!(metrics.value("cutover_stack_steps_total", &labels), count, "{step}");
    }
}

#[tokio::test]
async fn a_second_order_gets_exit_code_4_and_an_abort_ends_the_first() {
    let stage = Stage::start().await;
    let (proxy, opsworks) = (&stage.proxy, &stage.opsworks);
    run(proxy, &["clone", "green"]).await.assert_code(0);
    opsworks.pace(Pace::Held);
    let first = proxy.spawn(&["stack", "start", "green"]);
    let waits = |order: &Value| order["says"].as_str().is_some_and(|says| says.contains("is requested"));
    let order = until(proxy, "waiting", waits).await;
    assert_eq!(order["step"], "start");
    let second = run(proxy, &["deploy", "green"]).await.assert_code(4);
    let says = format!("uid 0 has held the stacks of shop since {}", order["started"].as_str().unwrap());
    assert!(second.stderr.contains(&says) && second.stderr.contains("to start green"), "{}", second.stderr);
    let text = proxy.run(&["status"]).await.assert_code(0).stdout;
    assert!(text.contains("stack: start green: start: 0 of 2 instances are online"), "{text}");

    let aborted = run(proxy, &["abort"]).await.assert_code(0);
    assert!(aborted.stdout.contains("aborted by uid 0; what has been done stays as it is"), "{}", aborted.stdout);
    let first = first.ended().await.assert_code(1);
    assert!(first.stderr.contains("aborted by uid 0"), "{first:#?}");
    let nothing = run(proxy, &["abort"]).await.assert_code(1);
    assert!(nothing.stderr.contains("there is no order to abort"), "{}", nothing.stderr);
    // The next one goes on from what there is.
    opsworks.pace(Pace::Looks);
    run(proxy, &["start", "green"]).await.assert_code(0);
    assert_eq!(stage.made(), [1, 2, 2, 0]);
}

#[tokio::test]
async fn whoever_waits_no_longer_leaves_the_order_to_the_proxy() {
    let stage = Stage::start().await;
    let (proxy, opsworks) = (&stage.proxy, &stage.opsworks);
    opsworks.pace(Pace::Held);
    let taken = run(proxy, &["clone", "green", "--no-wait", "--json"]).await.assert_code(0).json();
    assert_eq!((&taken["verb"], &taken["outcome"]), (&json!("clone"), &Value::Null));
    until_done(proxy).await;
    let late = run(proxy, &["start", "green", "--timeout", "300ms"]).await.assert_code(1);
    assert!(late.stdout.contains("not there yet; the proxy goes on: cutover stack status shop"), "{late:#?}");
    opsworks.pace(Pace::Looks);
    until_done(proxy).await;
    let status = run(proxy, &["status"]).await.assert_code(0).stdout;
    assert!(status.contains("shop: green is the OpsWorks stack shop-green"), "{status}");
    assert!(status.contains("✓ start") && status.contains("rails-app2  online"), "{status}");
}

#[tokio::test]
async fn an_instance_that_comes_up_wrong_is_named_with_the_providers_word() {
    let stage = Stage::start().await;
    stage.opsworks.destine("shop-green", "rails-app2", Fate::SetupFails);
    run(&stage.proxy, &["clone", "green"]).await.assert_code(0);
    let failed = run(&stage.proxy, &["start", "green", "--json"]).await.assert_code(1).json();
    let detail = failed["detail"].as_str().unwrap();
    assert!(detail.contains("rails-app2 is setup_failed; look at its log at the provider"), "{detail}");
    assert_eq!((&failed["outcome"], &failed["step"]), (&json!("failed"), &json!("start")), "{failed:#}");
    stage.opsworks.fail_deployments(1);
    let failed = run(&stage.proxy, &["deploy", "green"]).await.assert_code(1);
    assert!(failed.stderr.contains("of shop failed; look at its log"), "{}", failed.stderr);
}

#[tokio::test]
async fn what_the_provider_refuses_is_said_in_its_words_and_what_it_throttles_is_tried_again() {
    let stage = Stage::start().await;
    stage.opsworks.fail("CloneStack", 2, 400, "ThrottlingException", "Rate exceeded");
    run(&stage.proxy, &["clone", "green"]).await.assert_code(0);
    stage.opsworks.deny("StartInstance");
    let refused = run(&stage.proxy, &["start", "green"]).await.assert_code(1);
    assert!(refused.stderr.contains("is not authorized to perform: opsworks:StartInstance"), "{}", refused.stderr);
    assert_eq!(stage.opsworks.named("shop-green").len(), 1);
}

#[tokio::test]
async fn every_step_is_an_event() {
    let stage = Stage::start().await;
    let (_client, mut events) = stage.proxy.watch("/v1/events").await;
    stage.order("clone", "green").await;
    let mut heard = String::new();
    while !heard.contains("\"outcome\":\"done\"") {
        let piece = events.chunk().await.expect("the stream goes on");
        heard.push_str(&String::from_utf8_lossy(&piece));
    }
    for step in ["clone", "instances"] {
        assert!(heard.contains("event: stack") && heard.contains(&format!("\"step\":\"{step}\"")), "{heard}");
    }
}

#[tokio::test]
async fn whoever_asks_for_what_is_not_there_is_told_what_is() {
    let stage = Stage::start().await;
    let post = async |path: &str, body: Value| stage.proxy.api("POST", &format!("/v1/services/{path}"), body).await;
    assert_eq!(post("nobody/stack/start", json!({})).await.0, 404);
    assert_eq!(post("shop/stack/start", json!({})).await.0, 400);
    assert_eq!(post("shop/stack/start", json!({ "color": "red" })).await.0, 400);
    assert_eq!(post("shop/stack/start", json!({ "color": "green", "force": "x" })).await.0, 400);
    assert_eq!(post("shop/stack/stop", json!({ "color": "green", "force": " " })).await.0, 400);
    let (status, _) = stage.proxy.api_tcp("POST", "/v1/services/shop/stack/list", json!({}), None).await;
    assert_eq!(status, 401, "without the token nobody makes the proxy ask");
    let (status, answer) = stage.proxy.api_tcp("GET", "/v1/services/shop/stack", Value::Null, None).await;
    assert_eq!((status, &answer["green"]["stack"]), (200, &json!("shop-green")));
    let ran = run(&stage.proxy, &["start", "green"]).await.assert_code(1);
    assert!(ran.stderr.contains("there is no OpsWorks stack `shop-green`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`cutover stack prepare green` makes one like the other color's"), "{}", ran.stderr);
    run(&stage.proxy, &["start"]).await.assert_code(2);
}
