//! The double is as strict as the API that it stands for: what would go wrong at Amazon goes wrong here.

use futures_util::future::join_all;
use http::Request;
use serde_json::{Value, json};

use crate::harness::opsworks::{Fate, Pace, SERVICE_ROLE};
use crate::harness::{Client, FakeOpsWorks, PATIENCE, body, eventually};

#[tokio::test]
async fn a_clone_has_settings_and_layers_and_what_was_asked_for_and_no_instances() {
    let fake = FakeOpsWorks::with_stack("shop-blue", &["127.0.0.2", "127.0.0.3"]).await;
    let blue = fake.named("shop-blue").remove(0);
    let apps = asked(&fake, "DescribeApps", json!({ "StackId": blue })).await.unwrap();
    assert_eq!(fake.url(), format!("http://{}", fake.address));
    let input = json!({ "SourceStackId": blue, "Name": "bare", "ServiceRoleArn": SERVICE_ROLE });
    asked(&fake, "CloneStack", input).await.unwrap();
    let input = json!({
        "SourceStackId": blue, "Name": "whole", "ServiceRoleArn": SERVICE_ROLE, "ClonePermissions": true,
        "CloneAppIds": [apps["Apps"][0]["AppId"]], "VpcId": "vpc-shop", "DefaultSubnetId": "subnet-shop-a",
    });
    asked(&fake, "CloneStack", input).await.unwrap();
    for (name, apps, permissions, vpc) in [("bare", 0, 0, "vpc-default"), ("whole", 1, 1, "vpc-shop")] {
        let id = fake.named(name).remove(0);
        let stack = asked(&fake, "DescribeStacks", json!({ "StackIds": [id] })).await.unwrap()["Stacks"][0].clone();
        assert_eq!((&stack["VpcId"], &stack["CustomJson"]), (&json!(vpc), &fake.stacks()[0]["CustomJson"]));
        let of = json!({ "StackId": id });
        let count = async |operation, kind: &str| {
            asked(&fake, operation, of.clone()).await.unwrap()[kind].as_array().unwrap().len()
        };
        assert_eq!(count("DescribeLayers", "Layers").await, 1);
        assert_eq!(count("DescribeApps", "Apps").await, apps);
        assert_eq!(count("DescribePermissions", "Permissions").await, permissions);
        assert_eq!(count("DescribeInstances", "Instances").await, 0);
    }
}

#[tokio::test]
async fn what_is_made_twice_is_there_twice() {
    let fake = FakeOpsWorks::with_stack("shop-blue", &["127.0.0.2"]).await;
    let (blue, instance) = (fake.named("shop-blue").remove(0), fake.instances("shop-blue").remove(0));
    let clone = json!({ "SourceStackId": blue, "Name": "shop-green", "ServiceRoleArn": SERVICE_ROLE });
    let more =
        json!({ "StackId": blue, "LayerIds": instance["LayerIds"], "InstanceType": "c5.large", "Hostname": "web" });
    for _ in 0..2 {
        asked(&fake, "CloneStack", clone.clone()).await.unwrap();
        asked(&fake, "CreateInstance", more.clone()).await.unwrap();
    }
    assert_eq!(fake.named("shop-green").len(), 2);
    assert_eq!(fake.states("shop-blue").iter().filter(|(name, state)| name == "web" && state == "stopped").count(), 2);
    assert_eq!((fake.count("CloneStack"), fake.count("CreateInstance")), (2, 2));
}

#[tokio::test]
async fn an_instance_comes_up_and_goes_down_state_by_state() {
    let fake = FakeOpsWorks::with_stack("shop-blue", &["127.0.0.2"]).await;
    let instance = fake.instances("shop-blue").remove(0);
    let one = json!({ "InstanceId": instance["InstanceId"] });
    asked(&fake, "StopInstance", one.clone()).await.unwrap();
    assert_eq!(seen(&fake).await, ["stopping", "terminating", "shutting_down", "terminated", "stopped", "stopped"]);
    assert_eq!(fake.instances("shop-blue")[0].get("PrivateIp"), None);
    fake.will_be_at("shop-blue", &["127.0.0.9"]);
    asked(&fake, "StartInstance", one.clone()).await.unwrap();
    assert_eq!(seen(&fake).await, ["requested", "pending", "booting", "running_setup", "online", "online"]);
    assert_eq!(fake.instances("shop-blue")[0]["PrivateIp"], "127.0.0.9");
    let again = asked(&fake, "StartInstance", one.clone()).await.unwrap_err();
    assert_eq!(again.0, "ValidationException");

    for (fate, last) in [
        (Fate::StopFails, "stop_failed"),
        (Fate::Well, "stopped"),
        (Fate::StartFails, "start_failed"),
        (Fate::SetupFails, "setup_failed"),
        (Fate::Well, "stopped"),
        (Fate::Stays("booting"), "booting"),
    ] {
        fake.destine("shop-blue", "rails-app1", fate);
        let goes_up = ["stopped", "start_failed"].contains(&&*fake.states("shop-blue")[0].1);
        let step = if goes_up { "StartInstance" } else { "StopInstance" };
        let input = if goes_up { one.clone() } else { json!({ "InstanceId": instance["InstanceId"], "Force": true }) };
        asked(&fake, step, input).await.unwrap();
        fake.arrive();
        assert_eq!(fake.states("shop-blue"), [("rails-app1".to_owned(), last.to_owned())], "{fate:?}");
    }
}

#[tokio::test]
async fn held_still_nothing_goes_on_until_the_story_says_so() {
    let fake = FakeOpsWorks::with_stack("shop-blue", &["127.0.0.2"]).await;
    fake.pace(Pace::Held);
    let instance = fake.instances("shop-blue").remove(0);
    asked(&fake, "StopInstance", json!({ "InstanceId": instance["InstanceId"] })).await.unwrap();
    assert_eq!(seen(&fake).await, ["stopping"; 6]);
    fake.step();
    assert_eq!(seen(&fake).await, ["terminating"; 6]);
    fake.put(instance["InstanceId"].as_str().unwrap(), "connection_lost");
    fake.arrive();
    assert_eq!(seen(&fake).await, ["connection_lost"; 6]);
}

#[tokio::test]
async fn a_deployment_runs_on_what_is_online_and_ends_one_way_or_the_other() {
    let fake = FakeOpsWorks::with_stack("shop-blue", &["127.0.0.2", "127.0.0.3"]).await;
    let (blue, instances) = (fake.named("shop-blue").remove(0), fake.instances("shop-blue"));
    let app = asked(&fake, "DescribeApps", json!({ "StackId": blue })).await.unwrap()["Apps"][0]["AppId"].clone();
    fake.put(instances[1]["InstanceId"].as_str().unwrap(), "stopped");
    let deploy = |more: Value| {
        let mut input = json!({ "StackId": blue, "AppId": app, "Command": { "Name": "deploy" } });
        input.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        input
    };
    let (code, message) =
        asked(&fake, "CreateDeployment", deploy(json!({ "InstanceIds": [instances[1]["InstanceId"]] })))
            .await
            .unwrap_err();
    assert!(code == "ValidationException" && message.contains("not online"), "{code} {message}");
    fake.fail_deployments(1);
    for _ in 0..2 {
        asked(&fake, "CreateDeployment", deploy(json!({ "Comment": "story" }))).await.unwrap();
    }
    for expected in [["running", "running"], ["successful", "failed"]] {
        let listed = asked(&fake, "DescribeDeployments", json!({ "StackId": blue })).await.unwrap();
        let states: Vec<&str> =
            listed["Deployments"].as_array().unwrap().iter().map(|it| it["Status"].as_str().unwrap()).collect();
        assert_eq!(states, expected, "newest first");
    }
    assert!(fake.deployments().iter().all(|it| it["InstanceIds"] == json!([instances[0]["InstanceId"]])));
}

#[tokio::test]
async fn what_amazon_would_refuse_is_refused_in_its_words() {
    let fake = FakeOpsWorks::with_stack("shop-blue", &["127.0.0.2"]).await;
    let (blue, instance) = (fake.named("shop-blue").remove(0), fake.instances("shop-blue").remove(0));
    let clone = |more: Value| {
        let mut input = json!({ "SourceStackId": blue, "Name": "green", "ServiceRoleArn": SERVICE_ROLE });
        input.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        input
    };
    for (operation, input, code, words) in [
        ("DescribeStacks", json!({ "StackIds": [] }), INVALID, "Please provide no arguments or, one or more stack IDs"),
        ("DescribeStacks", json!({ "StackIds": ["none"] }), MISSING, "Unable to find stack with ID none"),
        ("DescribeLayers", json!({}), INVALID, "Please provide one or more layer IDs or a stack ID"),
        (
            "DescribeInstances",
            json!({}),
            INVALID,
            "Please provide either one or more instance ID or one stack ID or one layer",
        ),
        ("DescribeInstances", json!({ "StackId": blue, "InstanceIds": [] }), INVALID, "Please provide either"),
        ("StartInstance", json!({ "InstanceId": "none" }), MISSING, "Unable to find instance with ID none"),
        ("CloneStack", json!({ "SourceStackId": blue }), INVALID, "Value null at 'serviceRoleArn'"),
        ("CloneStack", clone(json!({ "ServiceRoleArn": "role" })), INVALID, "Service Role Arn: "),
        ("CloneStack", clone(json!({ "SourceStackId": "none" })), MISSING, "Unable to find stack with ID none"),
        ("CloneStack", clone(json!({ "VpcId": "vpc-shop" })), INVALID, "Default Subnet: must be provided"),
        ("CloneStack", clone(json!({ "DefaultSubnetId": "subnet-shop-a" })), INVALID, "does not exist in VPC"),
        ("CloneStack", clone(json!({ "CloneAppIds": ["none"] })), MISSING, "Unable to find app with ID none"),
        ("CloneStack", clone(json!({ "Name": "x".repeat(65) })), INVALID, "64 characters"),
        ("CloneStack", clone(json!({ "Nmae": "green" })), "SerializationException", "Unknown member Nmae"),
        ("CloneStack", clone(json!({ "ClonePermissions": "yes" })), "SerializationException", "can not be converted"),
        (
            "CreateInstance",
            json!({ "StackId": blue, "LayerIds": [], "InstanceType": "c5.large" }),
            INVALID,
            "layer IDs",
        ),
        ("CreateDeployment", json!({ "StackId": blue, "Command": { "Name": "deploy" } }), INVALID, "an app ID"),
        ("StopInstance", json!({ "InstanceId": instance["InstanceId"], "Force": 1 }), "SerializationException", ""),
    ] {
        let error = asked(&fake, operation, input.clone()).await.unwrap_err();
        assert!(error.0 == code && error.1.contains(words), "{operation} {input}: {error:?}");
    }
    assert_eq!(fake.stacks().len(), 1, "and nothing has come of it");
    fake.deny("CloneStack");
    assert_eq!(asked(&fake, "CloneStack", clone(json!({}))).await.unwrap_err().0, "AccessDeniedException");
    fake.mend();
    fake.fail("CloneStack", 1, 500, "InternalFailure", "sorry");
    assert_eq!(asked(&fake, "CloneStack", clone(json!({}))).await.unwrap_err().1, "sorry");
    fake.know_only("AKIASOMEBODYELSE0000");
    assert_eq!(asked(&fake, "CloneStack", clone(json!({}))).await.unwrap_err().0, "UnrecognizedClientException");
}

#[tokio::test]
async fn whoever_asks_too_much_is_throttled_for_a_while() {
    let fake = FakeOpsWorks::start().await;
    fake.throttle();
    assert!(asked(&fake, "DescribeStacks", json!({})).await.is_ok());
    let too_much = || async {
        let answers = join_all((0..50).map(|_| asked(&fake, "DescribeStacks", json!({})))).await;
        answers.iter().any(|it| it.as_ref().is_err_and(|(code, _)| code == "ThrottlingException"))
    };
    assert!(eventually(PATIENCE * 3, too_much).await, "any machine asks faster than is allowed");
}

/// The states of the one instance, look by look.
async fn seen(fake: &FakeOpsWorks) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..6 {
        let listed = asked(fake, "DescribeInstances", json!({ "StackId": fake.named("shop-blue")[0] })).await.unwrap();
        seen.push(listed["Instances"][0]["Status"].as_str().unwrap().to_owned());
    }
    seen
}

/// What the double answers: the object, or code and message of the error.
async fn asked(fake: &FakeOpsWorks, operation: &str, input: Value) -> Result<Value, (String, String)> {
    let request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("OpsWorks_20130218.{operation}"))
        .header("x-amz-date", "20261124T000000Z")
        .header("authorization", SIGNED)
        .body(body::full(input.to_string()))
        .unwrap();
    let answer = Client::http1(fake.address).await.host("opsworks.eu-west-1.amazonaws.com").send(request).await;
    if answer.status == 200 {
        return Ok(if answer.text().is_empty() { Value::Null } else { answer.json() });
    }
    let say = |name: &str| answer.json()[name].as_str().unwrap_or_default().to_owned();
    Err((say("__type"), say("message")))
}

const INVALID: &str = "ValidationException";
const MISSING: &str = "ResourceNotFoundException";
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=testing/20261124/eu-west-1/opsworks/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=0";
