//! The instances of an OpsWorks stack that are online, on the strict double, and on moto as far as it goes.

use cutover::config::{DiscoverFrom, OpsWorksLayer};
use cutover::discovery::SourceError;
use serde_json::{Value, json};

use super::faults::faults_are_told;
use super::{ask, counted, proposed, refused, stage};
use crate::harness::emulator::{Emulator, Kind};
use crate::harness::{FakeOpsWorks, FaultProxy};

#[tokio::test]
async fn who_is_online_in_a_layer_is_proposed() {
    let fake = FakeOpsWorks::with_stack("shop-green", &["127.0.0.2", "127.0.0.3", "127.0.0.4"]).await;
    let id = fake.add_stack("shop-blue", &["127.0.0.9"]);
    let stack = fake.make("DescribeStacks", json!({}))["Stacks"][0]["StackId"].as_str().unwrap().to_owned();
    fake.add_layer(&stack, "workers");
    fake.add_instance(&stack, "workers", "127.0.0.5");
    let instances = fake.make("DescribeInstances", json!({ "StackId": stack }));
    fake.put(instances["Instances"][1]["InstanceId"].as_str().unwrap(), "stopped");
    let stage = stage(&fake.url()).await;
    let answer = ask(&stage, &layer("shop-green", Some("rails-app"))).await.unwrap();
    assert_eq!(proposed(&answer), ["127.0.0.2:8080 rails-app1", "127.0.0.4:8080 rails-app3"]);
    assert_eq!(answer.left_out, ["rails-app2 is stopped"]);
    let whole = ask(&stage, &layer(&stack, None)).await.unwrap();
    let expected = ["127.0.0.2:8080 rails-app1", "127.0.0.4:8080 rails-app3", "127.0.0.5:8080 workers1"];
    assert_eq!(proposed(&whole), expected);
    assert_eq!(proposed(&ask(&stage, &layer(&id, Some("rails-app"))).await.unwrap()), ["127.0.0.9:8080 rails-app1"]);
    assert_eq!(counted(&stage, "opsworks:DescribeInstances", "ok"), 3);
}

#[tokio::test]
async fn a_name_has_to_be_of_one_stack_and_a_layer_of_that() {
    let fake = FakeOpsWorks::with_stack("shop", &[]).await;
    let (one, other) = (fake.add_stack("twice", &[]), fake.add_stack("twice", &["127.0.0.2"]));
    let stage = stage(&fake.url()).await;
    let says = refused(ask(&stage, &layer("nowhere", None)).await);
    assert!(says.contains("there is no OpsWorks stack nowhere") && says.contains("correct `stack`"), "{says}");
    let says = refused(ask(&stage, &layer("twice", None)).await);
    assert!(
        says.contains("2 OpsWorks stacks are called twice") && says.contains(&one) && says.contains(&other),
        "{says}"
    );
    assert_eq!(ask(&stage, &layer(&other, None)).await.unwrap().endpoints.len(), 1);
    let says = refused(ask(&stage, &layer("shop", Some("php-app"))).await);
    assert!(says.contains("has no layer php-app") && says.contains("it has rails-app"), "{says}");
}

#[tokio::test]
async fn what_opsworks_refuses_says_what_to_do() {
    let fake = FakeOpsWorks::with_stack("shop", &["127.0.0.2"]).await;
    let stage = stage(&fake.url()).await;
    fake.fail("DescribeInstances", 1, 400, "ThrottlingException", "Rate exceeded");
    let busy = ask(&stage, &layer("shop", None)).await;
    assert!(
        matches!(&busy, Err(SourceError::Busy(says)) if says.starts_with("opsworks:DescribeInstances")),
        "{busy:?}"
    );
    fake.deny("DescribeLayers");
    let says = refused(ask(&stage, &layer("shop", Some("rails-app"))).await);
    assert!(says.contains("AWS denies opsworks:DescribeLayers on OpsWorks stack shop"), "{says}");
}

#[tokio::test]
async fn faults_before_opsworks_are_told_as_what_they_are() {
    let fake = FakeOpsWorks::with_stack("shop", &["127.0.0.2"]).await;
    let proxy = FaultProxy::before(fake.address).await;
    let stage = stage(&proxy.url()).await;
    faults_are_told(&stage, &proxy, &layer("shop", Some("rails-app"))).await;
}

/// moto 5.1.11 is the last that knows OpsWorks. What it starts is online at once, at an address that it makes up.
#[tokio::test]
#[ignore = "needs moto 5.1.11: tests/run installs it"]
async fn moto_tells_who_is_online() {
    let emulator = Emulator::start(Kind::OpsWorksMoto).await;
    let make = |operation: &'static str, input: Value| emulator.opsworks(operation, input);
    let role = "arn:aws:iam::123456789012:role/r";
    let profile = "arn:aws:iam::123456789012:instance-profile/p";
    let wanted = json!({
        "Name": "shop-green", "Region": "us-east-1", "ServiceRoleArn": role, "DefaultInstanceProfileArn": profile,
    });
    let stack = make("CreateStack", wanted).await["StackId"].as_str().unwrap().to_owned();
    let wanted = json!({ "StackId": stack, "Type": "custom", "Name": "Rails", "Shortname": "rails-app" });
    let rails = make("CreateLayer", wanted).await["LayerId"].as_str().unwrap().to_owned();
    let mut ids = Vec::new();
    for _ in 0..3 {
        // It makes no host names: the instance's id is its name then.
        let wanted = json!({ "StackId": stack, "LayerIds": [rails], "InstanceType": "t2.micro" });
        ids.push(make("CreateInstance", wanted).await["InstanceId"].as_str().unwrap().to_owned());
    }
    for id in &ids[..2] {
        make("StartInstance", json!({ "InstanceId": id })).await;
    }
    let proxy = FaultProxy::before(emulator.address).await;
    let stage = stage(&proxy.url()).await;
    let from = layer("shop-green", Some("rails-app"));
    let answer = ask(&stage, &from).await.unwrap();
    assert_eq!((answer.endpoints.len(), answer.left_out.len()), (2, 1), "{answer:?}");
    assert!(answer.left_out[0].ends_with(" is stopped"), "{answer:?}");
    let says = refused(ask(&stage, &layer("shop-blue", None)).await);
    assert!(says.contains("there is no OpsWorks stack shop-blue"), "{says}");
    faults_are_told(&stage, &proxy, &from).await;
}

fn layer(stack: &str, layer: Option<&str>) -> DiscoverFrom {
    DiscoverFrom::OpsWorks(OpsWorksLayer { stack: stack.to_owned(), layer: layer.map(str::to_owned), port: 8080 })
}
