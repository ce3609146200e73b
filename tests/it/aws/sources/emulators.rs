//! The same stories on emulators written by others, each with what it is known to get wrong.
//!
//! Ignored unless asked for, since they are Python programs: `tests/run` installs them, and runs these stories too.

use std::net::IpAddr;

use cutover::discovery::Answer;
use roxmltree::{Document, Node};

use super::super::stage::Stage;
use super::faults::faults_are_told;
use super::{asg, ask, ec2, proposed, refused, stage, target_group};
use crate::harness::FaultProxy;
use crate::harness::emulator::{Emulator, Kind};

/// What cannot be asked of an emulator, since it is known to be wrong about it.
#[derive(Clone, Copy, Default)]
struct Lies {
    /// The instances of its groups are none of its EC2.
    groups_have_ids_only: bool,
    /// Patterns are compared as they are written.
    knows_no_patterns: bool,
}

#[tokio::test]
#[ignore = "needs moto: tests/run installs it"]
async fn moto_says_which_endpoints_there_are() {
    told_on(Kind::Moto, Lies::default()).await;
}

#[tokio::test]
#[ignore = "needs MiniStack: tests/run installs it"]
async fn ministack_says_which_endpoints_there_are() {
    told_on(Kind::MiniStack, Lies { groups_have_ids_only: true, knows_no_patterns: true }).await;
}

/// All of them in one process, since it takes long to start; behind the fault proxy from the first request.
async fn told_on(kind: Kind, lies: Lies) {
    let emulator = Emulator::start(kind).await;
    let proxy = FaultProxy::before(emulator.address).await;
    let stage = stage(&proxy.url()).await;
    instances_are_found_by_their_tags(&emulator, &stage, lies).await;
    a_group_is_who_is_in_service(&emulator, &stage, lies).await;
    targets_are_found_by_name_and_arn(&emulator, &stage).await;
    for from in [ec2(&[("role", "web")]), asg("shop-green"), target_group("shop-ip")] {
        faults_are_told(&stage, &proxy, &from).await;
    }
}

async fn instances_are_found_by_their_tags(emulator: &Emulator, stage: &Stage, lies: Lies) {
    let green = run(emulator, 3, &[("role", "web"), ("stage", "green")]).await;
    run(emulator, 1, &[("role", "web"), ("stage", "blue")]).await;
    let star = run(emulator, 1, &[("role", "w*b")]).await;
    emulator.query("ec2", &[("Action", "StopInstances"), ("InstanceId.1", &green[0].0)]).await;
    let answer = ask(stage, &ec2(&[("role", "web"), ("stage", "green")])).await.unwrap();
    assert_eq!(sorted(&answer), expected(&green[1..], 80));
    assert_eq!(answer.left_out, [format!("{} is stopped", green[0].0)]);
    if !lies.knows_no_patterns {
        assert_eq!(sorted(&ask(stage, &ec2(&[("role", "w*b")])).await.unwrap()), expected(&star, 80));
    }
    let nobody = ask(stage, &ec2(&[("role", "nobody")])).await.unwrap();
    assert!(nobody.endpoints.is_empty() && nobody.left_out.is_empty(), "{nobody:?}");
}

async fn a_group_is_who_is_in_service(emulator: &Emulator, stage: &Stage, lies: Lies) {
    let version = ("Version", "2011-01-01");
    let launch = [("LaunchConfigurationName", "lc"), ("ImageId", IMAGE), ("InstanceType", "t3.micro")];
    emulator.query("autoscaling", &[&[("Action", "CreateLaunchConfiguration"), version][..], &launch].concat()).await;
    for (name, size) in [("shop-green", "2"), ("shop-empty", "0")] {
        let group = [
            ("Action", "CreateAutoScalingGroup"),
            version,
            ("AutoScalingGroupName", name),
            ("LaunchConfigurationName", "lc"),
            ("MinSize", size),
            ("MaxSize", "4"),
            ("DesiredCapacity", size),
            ("AvailabilityZones.member.1", "us-east-1a"),
        ];
        emulator.query("autoscaling", &group).await;
    }
    let answer = ask(stage, &asg("shop-green")).await.unwrap();
    match lies.groups_have_ids_only {
        true => assert!(
            answer.left_out.len() == 2 && answer.left_out.iter().all(|says| says.ends_with("is not known to EC2")),
            "{answer:?}"
        ),
        false => assert!(answer.endpoints.len() == 2 && answer.left_out.is_empty(), "{answer:?}"),
    }
    assert_eq!(ask(stage, &asg("shop-empty")).await, Ok(Answer::default()));
    let says = refused(ask(stage, &asg("shop-blue")).await);
    assert!(says.contains("there is no Auto Scaling group shop-blue"), "{says}");
}

async fn targets_are_found_by_name_and_arn(emulator: &Emulator, stage: &Stage) {
    let text = emulator.query("ec2", &[("Action", "DescribeVpcs")]).await;
    let vpc = first(&text, "vpcId");
    let instances = run(emulator, 2, &[("role", "target")]).await;
    let ip = target_group_of(emulator, "shop-ip", "ip", &vpc, &[("10.0.0.1", "8080"), ("10.0.0.2", "8081")]).await;
    let ids = [(instances[0].0.as_str(), "8080"), (instances[1].0.as_str(), "8080")];
    target_group_of(emulator, "shop-instances", "instance", &vpc, &ids).await;
    for group in ["shop-ip", ip.as_str()] {
        let answer = ask(stage, &target_group(group)).await.unwrap();
        assert_eq!(proposed(&answer), ["10.0.0.1:8080 10.0.0.1", "10.0.0.2:8081 10.0.0.2"]);
    }
    assert_eq!(sorted(&ask(stage, &target_group("shop-instances")).await.unwrap()), expected(&instances, 8080));
    let wrong = ip.replace("shop-ip", "shop-op");
    for group in ["shop-blue", wrong.as_str()] {
        let says = refused(ask(stage, &target_group(group)).await);
        assert!(says.contains(&format!("there is no target group {group}")), "{says}");
    }
    let lambda = [("Action", "CreateTargetGroup"), ELB, ("Name", "shop-lambda"), ("TargetType", "lambda")];
    emulator.query("elasticloadbalancing", &lambda).await;
    let says = refused(ask(stage, &target_group("shop-lambda")).await);
    assert!(says.contains("the type `lambda`"), "{says}");
}

/// Its ARN.
async fn target_group_of(emulator: &Emulator, name: &str, kind: &str, vpc: &str, targets: &[(&str, &str)]) -> String {
    let group = [
        ("Action", "CreateTargetGroup"),
        ELB,
        ("Name", name),
        ("TargetType", kind),
        ("Protocol", "HTTP"),
        ("Port", "80"),
        ("VpcId", vpc),
    ];
    let arn = first(&emulator.query("elasticloadbalancing", &group).await, "TargetGroupArn");
    let keys: Vec<_> = (1..=targets.len())
        .map(|number| (format!("Targets.member.{number}.Id"), format!("Targets.member.{number}.Port")))
        .collect();
    let mut register = vec![("Action", "RegisterTargets"), ELB, ("TargetGroupArn", arn.as_str())];
    for ((id, port), (id_key, port_key)) in targets.iter().zip(&keys) {
        register.extend([(id_key.as_str(), *id), (port_key.as_str(), *port)]);
    }
    emulator.query("elasticloadbalancing", &register).await;
    arn
}

/// New instances with these tags: their ids, and the addresses that the emulator makes up for them.
async fn run(emulator: &Emulator, count: usize, tags: &[(&str, &str)]) -> Vec<(String, String)> {
    let (count, keys) = (count.to_string(), (1..=tags.len()).map(tag_keys).collect::<Vec<_>>());
    let mut fields = vec![
        ("Action", "RunInstances"),
        ("ImageId", IMAGE),
        ("InstanceType", "t3.micro"),
        ("MinCount", count.as_str()),
        ("MaxCount", count.as_str()),
        ("TagSpecification.1.ResourceType", "instance"),
    ];
    for ((key, value), (key_name, value_name)) in tags.iter().zip(&keys) {
        fields.extend([(key_name.as_str(), *key), (value_name.as_str(), *value)]);
    }
    let text = emulator.query("ec2", &fields).await;
    let document = Document::parse(&text).unwrap();
    let set = document.descendants().find(|node| named(*node, "instancesSet")).unwrap();
    let field = |item: Node, name: &str| {
        item.children().find(|node| named(*node, name)).and_then(|node| node.text()).unwrap().to_owned()
    };
    set.children()
        .filter(Node::is_element)
        .map(|item| (field(item, "instanceId"), field(item, "privateIpAddress")))
        .collect()
}

fn tag_keys(number: usize) -> (String, String) {
    (format!("TagSpecification.1.Tag.{number}.Key"), format!("TagSpecification.1.Tag.{number}.Value"))
}

/// What stands in the first element of this name.
fn first(text: &str, name: &str) -> String {
    let document = Document::parse(text).unwrap();
    let node = document.descendants().find(|node| named(*node, name));
    node.and_then(|node| node.text()).unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

fn named(node: Node, name: &str) -> bool {
    node.tag_name().name() == name
}

/// Emulators make addresses up: nothing may ever be sent to one that is not this machine, so each is only told.
fn sorted(answer: &Answer) -> Vec<String> {
    let mut all = proposed(answer);
    all.sort();
    all
}

fn expected(instances: &[(String, String)], port: u16) -> Vec<String> {
    let mut all: Vec<_> = instances.iter().map(|(id, address)| format!("{address}:{port} {id}")).collect();
    assert!(instances.iter().all(|(_, address)| !address.parse::<IpAddr>().unwrap().is_loopback()));
    all.sort();
    all
}

const IMAGE: &str = "ami-12c6146b";
const ELB: (&str, &str) = ("Version", "2015-12-01");
