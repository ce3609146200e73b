//! Every call of the provider, and what there is at OpsWorks afterwards.

use std::sync::Arc;

use cutover::aws::Account;
use cutover::config::Aws;
use cutover::stack::{App, DeploymentState, InstanceState, ProviderError, Wanted};
use serde_json::json;

use super::stage::{Stage, blue, states};
use crate::aws::stage::keys;
use crate::harness::opsworks::{Fate, SERVICE_ROLE};
use crate::harness::{PATIENCE, eventually};

#[tokio::test]
async fn a_stack_is_told_with_its_apps_and_instances() {
    let fake = blue().await;
    let stage = Stage::at(&fake.url()).await;
    let last = fake.instances("shop-blue").pop().unwrap();
    fake.put(last["InstanceId"].as_str().unwrap(), "connection_lost");
    let stack = stage.stack("shop-blue").await;
    assert_eq!(stack.id, fake.named("shop-blue")[0]);
    assert_eq!(stack.apps.iter().map(|app| &*app.name).collect::<Vec<_>>(), ["shop"]);
    assert_eq!(states(&stack), [("rails-app1", InstanceState::Online), ("rails-app2", InstanceState::Failed)]);
    let (one, two) = (&stack.instances[0], &stack.instances[1]);
    assert_eq!((one.address.as_deref(), two.says.as_str()), (Some("127.0.0.2"), "connection_lost"));
    assert_eq!(one.layers, ["rails-app"]);
    assert_eq!(stack.capacity, None);
    assert_eq!(stage.stacks.find(&stack.id).await.unwrap().unwrap(), stack, "by its id it is the same");
    assert_eq!(stage.stacks.find("shop-green").await, Ok(None));
}

#[tokio::test]
async fn all_stacks_are_listed_by_their_names() {
    let fake = blue().await;
    fake.add_stack("api", &["127.0.0.9"]);
    fake.add_stack("empty", &[]);
    let stage = Stage::at(&fake.url()).await;
    let stacks = stage.stacks.stacks().await.unwrap();
    let told: Vec<_> = stacks.iter().map(|stack| (&*stack.name, stack.instances.len())).collect();
    assert_eq!(told, [("api", 1), ("empty", 0), ("shop-blue", 2)]);
}

#[tokio::test]
async fn a_name_that_two_stacks_have_is_nobodys() {
    let fake = blue().await;
    fake.add_stack("shop-blue", &[]);
    let stage = Stage::at(&fake.url()).await;
    let ids = fake.named("shop-blue");
    let Err(ProviderError::Refused(says)) = stage.stacks.find("shop-blue").await else { panic!("which one?") };
    assert!(says.contains("2 OpsWorks stacks are called") && ids.iter().all(|id| says.contains(id)), "{says}");
    assert_eq!(stage.stack(&ids[1]).await.instances, [], "by its id it is one");
}

#[tokio::test]
async fn a_clone_stands_in_the_same_network_with_apps_and_permissions_and_is_filled_like_its_source() {
    let fake = blue().await;
    let stage = Stage::at(&fake.url()).await;
    let source = stage.stack("shop-blue").await;
    let id = stage.stacks.clone_stack(&source, "shop-green").await.unwrap();
    assert_eq!(fake.named("shop-green"), [&*id]);
    let (old, new) = (&fake.stacks()[0], &fake.stacks()[1]);
    for name in ["VpcId", "DefaultSubnetId", "DefaultAvailabilityZone", "ServiceRoleArn", "CustomJson", "Region"] {
        assert_eq!(old[name], new[name], "{name}");
    }
    assert_eq!(fake.make("DescribePermissions", json!({ "StackId": id }))["Permissions"].as_array().unwrap().len(), 1);
    let mut clone = stage.stack("shop-green").await;
    assert_eq!((clone.apps.len(), clone.instances.len()), (1, 0));

    for like in &source.instances {
        stage.stacks.add_instance(&clone, like).await.unwrap();
    }
    clone = stage.stack("shop-green").await;
    assert_eq!(states(&clone), [("rails-app1", InstanceState::Stopped), ("rails-app2", InstanceState::Stopped)]);
    assert!(clone.instances.iter().all(|it| it.layers == ["rails-app"] && it.address.is_none()));
    for (old, new) in fake.instances("shop-blue").iter().zip(fake.instances("shop-green")) {
        for name in ["InstanceType", "Hostname", "SubnetId", "AvailabilityZone", "Os", "RootDeviceType", "AgentVersion"]
        {
            assert_eq!(old[name], new[name], "{name}");
        }
    }
}

/// What only some instances say of themselves is copied too, and what may not be asked for is not.
#[tokio::test]
async fn an_instance_is_like_the_other_in_all_that_can_be_asked_for() {
    let fake = blue().await;
    let stage = Stage::at(&fake.url()).await;
    let id = fake.named("shop-blue").remove(0);
    let layer = fake.add_layer(&id, "workers");
    let own = json!({
        "StackId": id, "LayerIds": [layer], "InstanceType": "m5.xlarge", "Hostname": "own", "Os": "Custom",
        "AmiId": "ami-0123456789abcdef0", "SubnetId": "subnet-shop-b", "Tenancy": "dedicated", "EbsOptimized": true,
    });
    let mapped = json!({
        "StackId": id, "LayerIds": [layer], "InstanceType": "m5.xlarge", "Hostname": "mapped", "RootDeviceType": "ebs",
        "BlockDeviceMappings": [{ "DeviceName": "ROOT_DEVICE", "Ebs": { "VolumeSize": 80, "VolumeType": "gp2" } }],
        "AutoScalingType": "timer", "InstallUpdatesOnBoot": false,
    });
    for input in [&own, &mapped] {
        fake.make("CreateInstance", input.clone());
    }
    let source = stage.stack("shop-blue").await;
    stage.stacks.clone_stack(&source, "shop-green").await.unwrap();
    let clone = stage.stack("shop-green").await;
    for like in source.instances.iter().filter(|it| it.layers == ["workers"]) {
        stage.stacks.add_instance(&clone, like).await.unwrap();
    }
    let made = fake.instances("shop-green");
    for (input, made) in [(&mapped, &made[0]), (&own, &made[1])] {
        for (name, value) in
            input.as_object().unwrap().iter().filter(|(name, _)| !name.ends_with("Id") || *name == "SubnetId")
        {
            if name != "LayerIds" {
                assert_eq!(&made[name], value, "{name}");
            }
        }
    }
    assert_eq!(made[1]["AmiId"], own["AmiId"]);
    let automatic: Vec<_> = stage.stack("shop-green").await.instances.iter().map(|it| it.is_automatic).collect();
    assert_eq!(automatic, [true, false], "what OpsWorks starts by itself is told as such");
    let asked = fake.asked();
    let creates: Vec<_> = asked.iter().filter(|asked| asked.operation == "CreateInstance").collect();
    assert!(!creates[0].body.contains("AmiId") && creates[1].body.contains("AmiId"), "{creates:?}");
}

#[tokio::test]
async fn a_clone_runs_as_the_role_that_was_named() {
    let fake = blue().await;
    let stage = Stage::at(&fake.url()).await;
    let other = "arn:aws:iam::123456789012:role/green";
    let source = stage.stack("shop-blue").await;
    stage.running_as(other).clone_stack(&source, "shop-green").await.unwrap();
    assert_eq!(fake.stacks()[0]["ServiceRoleArn"], SERVICE_ROLE);
    assert_eq!(fake.stacks()[1]["ServiceRoleArn"], other);
    let error = stage.running_as("green").clone_stack(&source, "shop-red").await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(says) if says.contains("Service Role Arn")), "{error:?}");
}

#[tokio::test]
async fn no_stack_is_cloned_under_a_name_that_there_is() {
    let fake = blue().await;
    let stage = Stage::at(&fake.url()).await;
    let source = stage.stack("shop-blue").await;
    stage.stacks.clone_stack(&source, "shop-green").await.unwrap();
    let again = stage.stacks.clone_stack(&source, "shop-green").await.unwrap_err();
    assert!(matches!(&again, ProviderError::Refused(says) if says.contains(&fake.named("shop-green")[0])), "{again:?}");
    assert_eq!((fake.count("CloneStack"), fake.stacks().len()), (1, 2));
}

#[tokio::test]
async fn instances_start_are_deployed_to_and_stop() {
    let fake = blue().await;
    let stage = Stage::at(&fake.url()).await;
    let source = stage.stack("shop-blue").await;
    stage.stacks.clone_stack(&source, "shop-green").await.unwrap();
    let clone = stage.stack("shop-green").await;
    for like in &source.instances {
        stage.stacks.add_instance(&clone, like).await.unwrap();
    }
    let clone = stage.stack("shop-green").await;
    let nobody = stage.stacks.deploy(&clone, &clone.apps[0], "too early").await.unwrap_err();
    assert!(matches!(&nobody, ProviderError::Refused(says) if says.contains("no instance")), "{nobody:?}");

    fake.will_be_at("shop-green", &["127.0.0.4", "127.0.0.5"]);
    for instance in &clone.instances {
        stage.stacks.start_instance(instance).await.unwrap();
    }
    assert_eq!(states(&stage.stack("shop-green").await)[0].1, InstanceState::Starting);
    settled(&stage, InstanceState::Online).await;
    let clone = stage.stack("shop-green").await;
    let addresses: Vec<_> = clone.instances.iter().filter_map(|it| it.address.as_deref()).collect();
    assert_eq!(addresses, ["127.0.0.4", "127.0.0.5"]);

    let id = stage.stacks.deploy(&clone, &clone.apps[0], "order 7").await.unwrap();
    let listed = stage.stacks.deployments(&clone).await.unwrap();
    assert_eq!((&*listed[0].id, &*listed[0].comment, listed[0].state), (&*id, "order 7", DeploymentState::Running));
    assert_eq!(stage.stacks.deployments(&clone).await.unwrap()[0].state, DeploymentState::Successful);
    fake.fail_deployments(1);
    stage.stacks.deploy(&clone, &clone.apps[0], "order 8").await.unwrap();
    stage.stacks.deployments(&clone).await.unwrap();
    let told: Vec<_> =
        stage.stacks.deployments(&clone).await.unwrap().into_iter().map(|it| (it.comment, it.state)).collect();
    assert_eq!(told, [("order 8".into(), DeploymentState::Failed), ("order 7".into(), DeploymentState::Successful)]);

    for instance in &clone.instances {
        stage.stacks.stop_instance(instance).await.unwrap();
    }
    assert_eq!(states(&stage.stack("shop-green").await)[0].1, InstanceState::Stopping);
    settled(&stage, InstanceState::Stopped).await;
    assert_eq!(states(&stage.stack("shop-blue").await)[0].1, InstanceState::Online, "and blue is as it was");
}

#[tokio::test]
async fn an_instance_that_does_not_come_up_is_told_in_opsworks_own_word() {
    let fake = blue().await;
    let stage = Stage::at(&fake.url()).await;
    let source = stage.stack("shop-blue").await;
    fake.destine("shop-green", "rails-app1", Fate::StartFails);
    fake.destine("shop-green", "rails-app2", Fate::SetupFails);
    stage.stacks.clone_stack(&source, "shop-green").await.unwrap();
    let clone = stage.stack("shop-green").await;
    for like in &source.instances {
        stage.stacks.add_instance(&clone, like).await.unwrap();
    }
    for instance in &stage.stack("shop-green").await.instances {
        stage.stacks.start_instance(instance).await.unwrap();
    }
    settled(&stage, InstanceState::Failed).await;
    let says: Vec<_> = stage.stack("shop-green").await.instances.into_iter().map(|it| it.says).collect();
    assert_eq!(says, ["start_failed", "setup_failed"]);
}

#[tokio::test]
async fn every_refusal_says_what_to_do() {
    let fake = blue().await;
    let stage = Stage::at(&fake.url()).await;
    let source = stage.stack("shop-blue").await;
    let error = stage.stacks.start_instance(&source.instances[0]).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(says) if says.contains("it is online")), "{error:?}");
    let wanted = Wanted { min: 1, desired: 1, max: 1 };
    let error = stage.stacks.set_capacity(&source, wanted).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(says) if says.contains("started and stopped")), "{error:?}");
    let gone = App { id: "none".to_owned(), name: "gone".to_owned() };
    let error = stage.stacks.deploy(&source, &gone, "order 1").await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(says) if says.contains("Unable to find app")), "{error:?}");
    fake.fail(
        "CloneStack",
        1,
        400,
        "ValidationException",
        "Service Role Arn: role is not yet propagated, please try again",
    );
    let error = stage.stacks.clone_stack(&source, "shop-green").await.unwrap_err();
    assert!(matches!(error, ProviderError::Busy(_)), "a role that was made just now works later: {error:?}");
    fake.deny("CloneStack");
    let error = stage.stacks.clone_stack(&source, "shop-green").await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(says) if says.contains("cutover check --policy")), "{error:?}");
    fake.mend();
    fake.know_only("AKIASOMEBODYELSE0000");
    let error = stage.stacks.stacks().await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Refused(says) if says.contains("does not know this access key")),
        "{error:?}"
    );
    assert_eq!(fake.stacks().len(), 1);
}

/// Should anybody be asked all the same: there is no such region, and no such name.
#[tokio::test]
async fn where_no_service_is_named_every_call_says_that_opsworks_has_ended() {
    let keys = keys();
    let config = Aws {
        region: Some("xx-nowhere-1".to_owned()),
        credentials_file: Some(keys.path().to_owned()),
        ..Aws::default()
    };
    let sheet = Arc::new(Account::sheet());
    let stacks = Account::open(&config, sheet.clone()).await.opsworks(None);
    let fake = blue().await;
    let source = Stage::at(&fake.url()).await.stack("shop-blue").await;
    let instance = &source.instances[0];
    for error in [
        stacks.stacks().await.unwrap_err(),
        stacks.find("shop-blue").await.unwrap_err(),
        stacks.clone_stack(&source, "shop-green").await.unwrap_err(),
        stacks.add_instance(&source, instance).await.unwrap_err(),
        stacks.start_instance(instance).await.unwrap_err(),
        stacks.stop_instance(instance).await.unwrap_err(),
        stacks.deploy(&source, &source.apps[0], "order 1").await.unwrap_err(),
        stacks.deployments(&source).await.unwrap_err(),
    ] {
        let ProviderError::Refused(says) = &error else { panic!("{error:?}") };
        for word in ["ended OpsWorks Stacks on 26 May 2024", "`asg`", "endpoint_url"] {
            assert!(says.contains(word), "{says}");
        }
    }
    assert!(sheet.counts().all(|(.., count)| count == 0), "nobody was asked");
}

/// Every instance of the clone comes to this state, look by look.
async fn settled(stage: &Stage, state: InstanceState) {
    let all = || async { states(&stage.stack("shop-green").await).iter().all(|(_, now)| *now == state) };
    assert!(eventually(PATIENCE, all).await, "not all are {state:?}");
}
