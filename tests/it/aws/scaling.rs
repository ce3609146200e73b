//! Auto Scaling groups as stacks: told with their sizes and addresses, and set to others by one request.

use std::sync::Arc;

use cutover::stack::{App, InstanceState, Provider, ProviderError, Wanted};

use super::stage::{Stage, ZONE};
use crate::harness::emulator::{Emulator, Kind};
use crate::harness::region::Inst;
use crate::harness::{FakeRegion, Fault, FaultProxy, PATIENCE, eventually};

async fn groups(url: &str) -> (Stage, Arc<dyn Provider>) {
    let stage = Stage::at(url, ZONE).await;
    let groups = stage.account.scaling();
    (stage, groups)
}

#[tokio::test]
async fn a_group_is_told_with_its_sizes_and_where_its_instances_are() {
    let region = FakeRegion::start().await;
    region.add(Inst::at("i-1", "10.0.0.1"));
    region.add_group("shop-green", &[("i-2", "Pending:Wait", "Healthy"), ("i-1", "InService", "Healthy")]);
    region.add_group("api", &[]);
    let (_stage, groups) = groups(&region.url()).await;
    let group = groups.find("shop-green").await.unwrap().unwrap();
    assert_eq!((&*group.id, &*group.name, group.apps.len()), ("shop-green", "shop-green", 0));
    assert_eq!(group.capacity, Some(Wanted { min: 0, desired: 2, max: 4 }));
    let told: Vec<_> = group.instances.iter().map(|it| (&*it.name, it.state, it.address.as_deref())).collect();
    let expected = [("i-1", InstanceState::Online, Some("10.0.0.1")), ("i-2", InstanceState::Starting, None)];
    assert_eq!(told, expected, "what EC2 does not know yet is nowhere");
    assert_eq!(groups.find("shop").await, Ok(None));
    region.list_at_most(1);
    let names: Vec<String> = groups.stacks().await.unwrap().into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["api", "shop-green"]);
}

#[tokio::test]
async fn all_sizes_are_set_at_once_and_what_contradicts_itself_is_refused() {
    let region = FakeRegion::start().await;
    region.add_group("shop-green", &[]);
    let (stage, groups) = groups(&region.url()).await;
    let group = groups.find("shop-green").await.unwrap().unwrap();
    let grown = Wanted { min: 2, desired: 3, max: 6 };
    groups.set_capacity(&group, grown).await.unwrap();
    assert_eq!(groups.find("shop-green").await.unwrap().unwrap().capacity, Some(grown));
    assert_eq!(stage.counted_at("autoscaling", "UpdateAutoScalingGroup", "ok"), 1);
    let error = groups.set_capacity(&group, Wanted { min: 4, desired: 3, max: 6 }).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(says) if says.contains("must be between")), "{error:?}");
    let mut gone = group.clone();
    gone.id = "gone".to_owned();
    let error = groups.set_capacity(&gone, grown).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(says) if says.contains("name not found")), "{error:?}");
    region.fail("UpdateAutoScalingGroup", 1, 400, "ScalingActivityInProgress", "wait");
    let error = groups.set_capacity(&group, grown).await.unwrap_err();
    assert!(matches!(error, ProviderError::Busy(_)), "{error:?}");
    region.deny("UpdateAutoScalingGroup");
    let error = groups.set_capacity(&group, grown).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(says) if says.contains("cutover check --policy")), "{error:?}");
}

#[tokio::test]
async fn what_gets_no_answer_may_have_been_set_and_a_look_tells() {
    let region = FakeRegion::start().await;
    region.add_group("shop-green", &[]);
    let proxy = FaultProxy::before(region.address).await;
    let (_stage, groups) = groups(&proxy.url()).await;
    for (desired, fault, done) in [
        (1, Fault::Throttle, false),
        (2, Fault::Unavailable, false),
        (3, Fault::Reset, false),
        (4, Fault::LostReply, true),
    ] {
        let group = groups.find("shop-green").await.unwrap().unwrap();
        proxy.next(1, fault);
        let error = groups.set_capacity(&group, Wanted { min: 0, desired, max: 4 }).await.unwrap_err();
        let busy = matches!(error, ProviderError::Busy(_));
        assert!(if fault == Fault::Throttle { busy } else { matches!(error, ProviderError::Unknown(_)) }, "{error:?}");
        let now = groups.find("shop-green").await.unwrap().unwrap().capacity.unwrap().desired;
        assert_eq!(now == desired, done, "{fault:?}");
    }
    proxy.next(1, Fault::Reset);
    let error = groups.find("shop-green").await.unwrap_err();
    assert!(matches!(error, ProviderError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn what_a_group_does_by_itself_is_refused_with_what_to_do_instead() {
    let region = FakeRegion::start().await;
    region.add_group("shop-green", &[("i-1", "InService", "Healthy")]);
    let (stage, groups) = groups(&region.url()).await;
    let group = groups.find("shop-green").await.unwrap().unwrap();
    let (instance, app) = (&group.instances[0], App { id: "1".to_owned(), name: "shop".to_owned() });
    for (refused, remedy) in [
        (groups.clone_stack(&group, "shop-red").await.map(drop), "same launch template"),
        (groups.add_instance(&group, instance).await.map(drop), "set its capacity"),
        (groups.start_instance(instance).await, "set the group's capacity"),
        (groups.stop_instance(instance).await, "set the group's capacity"),
        (groups.deploy(&group, &app, "order 7").await.map(drop), "launch template with the new version"),
    ] {
        assert!(matches!(&refused, Err(ProviderError::Refused(says)) if says.contains(remedy)), "{refused:?}");
    }
    assert_eq!(groups.deployments(&group).await, Ok(Vec::new()));
    assert_eq!(stage.counted_at("autoscaling", "UpdateAutoScalingGroup", "ok"), 0);
}

/// moto 5.2.5 starts and ends instances with the sizes.
#[tokio::test]
#[ignore = "needs moto: tests/run installs it"]
async fn moto_grows_and_shrinks_a_group() {
    let emulator = Emulator::start(Kind::Moto).await;
    let version = ("Version", "2011-01-01");
    let launch = [("LaunchConfigurationName", "lc"), ("ImageId", "ami-12c6146b"), ("InstanceType", "t3.micro")];
    emulator.query("autoscaling", &[&[("Action", "CreateLaunchConfiguration"), version][..], &launch].concat()).await;
    let group = [
        ("Action", "CreateAutoScalingGroup"),
        version,
        ("AutoScalingGroupName", "shop-green"),
        ("LaunchConfigurationName", "lc"),
        ("MinSize", "0"),
        ("MaxSize", "4"),
        ("DesiredCapacity", "0"),
        ("AvailabilityZones.member.1", "us-east-1a"),
    ];
    emulator.query("autoscaling", &group).await;
    let (_stage, groups) = groups(&emulator.url()).await;
    for desired in [3, 0] {
        let group = groups.find("shop-green").await.unwrap().unwrap();
        groups.set_capacity(&group, Wanted { min: 0, desired, max: 4 }).await.unwrap();
        let is_so = || async {
            let group = groups.find("shop-green").await.unwrap().unwrap();
            let left = group.instances.iter().filter(|it| it.state != InstanceState::Gone).collect::<Vec<_>>();
            let serve = left.iter().all(|it| it.state == InstanceState::Online && it.address.is_some());
            serve && u32::try_from(left.len()) == Ok(desired)
        };
        assert!(eventually(PATIENCE, is_so).await, "{:?}", groups.find("shop-green").await);
    }
    assert_eq!(groups.stacks().await.unwrap().len(), 1);
}
