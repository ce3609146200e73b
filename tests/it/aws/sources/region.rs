//! What only the strict double can be brought to: pages, instances in every state, groups and targets, odd answers, refusals.

use cutover::discovery::SourceError;

use super::super::stage::{KEY, TOKEN};
use super::{asg, ask, counted, ec2, proposed, refused, stage, target_group};
use crate::harness::FakeRegion;
use crate::harness::region::Inst;

#[tokio::test]
async fn instances_are_found_by_all_of_their_tags() {
    let fake = FakeRegion::start().await;
    let green = |id: &str, address: &str| Inst::at(id, address).tagged("role", "web").tagged("stage", "green");
    fake.add(green("i-2", "10.0.0.2"));
    fake.add(green("i-1", "10.0.0.1"));
    fake.add(green("i-3", "10.0.0.3").is("pending"));
    fake.add(green("i-4", "10.0.0.4").is("stopped"));
    fake.add(green("i-5", "10.0.0.5").is("terminated"));
    fake.add(green("i-6", ""));
    fake.add(green("i-7", "").holds("<ipv6Address>2001:db8::7</ipv6Address>"));
    fake.add(Inst::at("i-8", "10.0.0.8").tagged("role", "web").tagged("stage", "blue"));
    fake.add(Inst::at("i-9", "10.0.0.9").tagged("role", "web"));
    let answer = ask(&stage(&fake.url()).await, &ec2(&[("role", "web"), ("stage", "green")])).await.unwrap();
    assert_eq!(proposed(&answer), ["10.0.0.1:80 i-1", "10.0.0.2:80 i-2", "[2001:db8::7]:80 i-7"]);
    assert_eq!(answer.left_out, ["i-3 is pending", "i-4 is stopped", "i-6 has no private address"]);
    assert_eq!(answer.valid_for, None);
}

#[tokio::test]
async fn a_tag_is_never_a_pattern() {
    let fake = FakeRegion::start().await;
    fake.add(Inst::at("i-1", "10.0.0.1").tagged("role", "w*b?"));
    fake.add(Inst::at("i-2", "10.0.0.2").tagged("role", "webs"));
    fake.add(Inst::at("i-3", "10.0.0.3").tagged("role", "a\\b & c=d"));
    let stage = stage(&fake.url()).await;
    assert_eq!(proposed(&ask(&stage, &ec2(&[("role", "w*b?")])).await.unwrap()), ["10.0.0.1:80 i-1"]);
    assert_eq!(proposed(&ask(&stage, &ec2(&[("role", "a\\b & c=d")])).await.unwrap()), ["10.0.0.3:80 i-3"]);
    let nobody = ask(&stage, &ec2(&[("role", "*")])).await.unwrap();
    assert!(nobody.endpoints.is_empty() && nobody.left_out.is_empty(), "{nobody:?}");
}

#[tokio::test]
async fn every_page_is_read() {
    let fake = FakeRegion::start().await;
    for number in 1..=12 {
        fake.add(Inst::at(&format!("i-{number}"), &format!("10.0.0.{number}")).tagged("role", "web"));
    }
    fake.list_at_most(5);
    let stage = stage(&fake.url()).await;
    assert_eq!(ask(&stage, &ec2(&[("role", "web")])).await.unwrap().endpoints.len(), 12);
    assert_eq!(counted(&stage, "ec2:DescribeInstances", "ok"), 3);
    assert_eq!(fake.asked_for("DescribeInstances").len(), 3);
}

#[tokio::test]
async fn a_list_without_an_end_is_no_answer() {
    let fake = FakeRegion::start().await;
    fake.add(Inst::at("i-1", "10.0.0.1").tagged("role", "web"));
    fake.never_end();
    let answer = ask(&stage(&fake.url()).await, &ec2(&[("role", "web")])).await;
    assert!(matches!(&answer, Err(SourceError::Unreachable(says)) if says.contains("does not end")), "{answer:?}");
    assert_eq!(fake.asked_for("DescribeInstances").len(), 20, "and it is not read for ever");
}

/// Half of the endpoints would look like half of them having gone.
#[tokio::test]
async fn where_one_page_fails_there_is_no_answer() {
    let fake = FakeRegion::start().await;
    for number in 1..=12 {
        fake.add(Inst::at(&format!("i-{number}"), &format!("10.0.0.{number}")).tagged("role", "web"));
    }
    fake.list_at_most(5);
    // A token that is of no use any more, as after a long pause: the second page is refused.
    fake.say(
        "DescribeInstances",
        200,
        "<DescribeInstancesResponse><reservationSet/><nextToken>old</nextToken></DescribeInstancesResponse>",
    );
    let says = refused(ask(&stage(&fake.url()).await, &ec2(&[("role", "web")])).await);
    assert!(
        says.contains("ec2:DescribeInstances on instances tagged role=web") && says.contains("InvalidNextToken"),
        "{says}"
    );
}

#[tokio::test]
async fn a_group_says_which_and_ec2_says_where() {
    let fake = FakeRegion::start().await;
    for number in 1..=6 {
        fake.add(Inst::at(&format!("i-{number}"), &format!("10.0.0.{number}")));
    }
    fake.add(Inst::at("i-7", "10.0.0.7").is("shutting-down"));
    let group = [
        ("i-1", "InService", "Healthy"),
        ("i-2", "Pending:Wait", "Healthy"),
        ("i-3", "InService", "Unhealthy"),
        ("i-4", "Standby", "Healthy"),
        ("i-5", "Terminating:Proceed", "Healthy"),
        ("i-6", "InService", "Healthy"),
        ("i-7", "InService", "Healthy"),
        ("i-8", "InService", "Healthy"),
    ];
    fake.add_group("shop-green", &group);
    fake.add_group("shop-green-2", &[("i-9", "InService", "Healthy")]);
    let answer = ask(&stage(&fake.url()).await, &asg("shop-green")).await.unwrap();
    assert_eq!(proposed(&answer), ["10.0.0.1:80 i-1", "10.0.0.6:80 i-6"]);
    let expected = [
        "i-2 is Pending:Wait in its group",
        "i-3 is Unhealthy to its group",
        "i-4 is Standby in its group",
        "i-5 is Terminating:Proceed in its group",
        "i-7 is shutting-down",
        "i-8 is not known to EC2",
    ];
    assert_eq!(answer.left_out, expected);
}

#[tokio::test]
async fn a_large_group_is_looked_up_in_portions_and_an_empty_one_not_at_all() {
    let fake = FakeRegion::start().await;
    let ids: Vec<&'static str> = (0..450).map(|number| &*format!("i-{number:04}").leak()).collect();
    for (number, id) in ids.iter().enumerate() {
        fake.add(Inst::at(id, &format!("10.0.{}.{}", number / 250, number % 250)));
    }
    let group: Vec<_> = ids.iter().map(|id| (*id, "InService", "Healthy")).collect();
    fake.add_group("large", &group);
    fake.add_group("empty", &[]);
    let stage = stage(&fake.url()).await;
    assert_eq!(ask(&stage, &asg("large")).await.unwrap().endpoints.len(), 450);
    assert_eq!(fake.asked_for("DescribeInstances").len(), 3, "200 at once");
    let empty = ask(&stage, &asg("empty")).await.unwrap();
    assert!(empty.endpoints.is_empty() && empty.left_out.is_empty(), "{empty:?}");
    assert_eq!(fake.asked_for("DescribeInstances").len(), 3);
}

#[tokio::test]
async fn targets_come_with_the_ports_they_are_registered_with() {
    let fake = FakeRegion::start().await;
    fake.add(Inst::at("i-1", "10.0.0.1"));
    fake.add(Inst::at("i-2", "10.0.0.2").is("stopped"));
    let targets = [
        ("i-1", 8081, "unused"),
        ("i-1", 8080, "unhealthy"),
        ("i-2", 80, "unused"),
        ("i-3", 80, "initial"),
        ("i-1", 9, "draining"),
    ];
    fake.add_target_group("shop-instances", "instance", &targets);
    let targets = [
        ("10.0.0.9", 8080, "healthy"),
        ("2001:db8::9", 8080, "healthy"),
        ("10.0.0.10", 8080, "draining"),
        ("10.0.0.11", 8080, "unhealthy.draining"),
    ];
    let arn = fake.add_target_group("shop-ip", "ip", &targets);
    let stage = stage(&fake.url()).await;
    let answer = ask(&stage, &target_group("shop-instances")).await.unwrap();
    assert_eq!(proposed(&answer), ["10.0.0.1:8080 i-1", "10.0.0.1:8081 i-1"]);
    assert_eq!(answer.left_out, ["i-1 at port 9 is draining", "i-2 is stopped", "i-3 at port 80 is not known to EC2"]);
    for group in ["shop-ip", arn.as_str()] {
        let answer = ask(&stage, &target_group(group)).await.unwrap();
        assert_eq!(proposed(&answer), ["10.0.0.9:8080 10.0.0.9", "[2001:db8::9]:8080 2001:db8::9"]);
        assert_eq!(answer.left_out, ["10.0.0.10 at port 8080 is draining", "10.0.0.11 at port 8080 is draining"]);
    }
}

#[tokio::test]
async fn functions_and_load_balancers_have_no_addresses() {
    let fake = FakeRegion::start().await;
    fake.add_target_group("shop-lambda", "lambda", &[]);
    fake.add_target_group("shop-alb", "alb", &[]);
    let stage = stage(&fake.url()).await;
    for (group, kind) in [("shop-lambda", "`lambda`"), ("shop-alb", "`alb`")] {
        let says = refused(ask(&stage, &target_group(group)).await);
        assert!(says.contains(kind) && says.contains("name a group of the type `ip` or `instance`"), "{says}");
    }
    assert_eq!(fake.asked_for("DescribeTargetHealth").len(), 0);
}

/// An empty answer would mean that there are no endpoints any more.
#[tokio::test]
async fn what_does_not_exist_is_refused_and_not_empty() {
    let fake = FakeRegion::start().await;
    let stage = stage(&fake.url()).await;
    for (from, what, key) in [
        (
            asg("shop-gren"),
            "there is no Auto Scaling group shop-gren in the account of these credentials and this region",
            "correct `name`, `region`",
        ),
        (target_group("shop-gren"), "there is no target group shop-gren in the account", "correct `group`, `region`"),
    ] {
        let says = refused(ask(&stage, &from).await);
        assert!(says.contains(what) && says.contains(key), "{says}");
    }
}

#[tokio::test]
async fn every_refusal_says_what_to_do() {
    for (operation, from, subject) in [
        ("ec2:DescribeInstances", ec2(&[("role", "web")]), "instances tagged role=web"),
        ("autoscaling:DescribeAutoScalingGroups", asg("shop"), "Auto Scaling group shop"),
        ("ec2:DescribeInstances", asg("shop"), "Auto Scaling group shop"),
        ("elasticloadbalancing:DescribeTargetGroups", target_group("shop"), "target group shop"),
        ("elasticloadbalancing:DescribeTargetHealth", target_group("shop"), "target group shop"),
    ] {
        let fake = FakeRegion::start().await;
        fake.add_group("shop", &[("i-1", "InService", "Healthy")]);
        fake.add_target_group("shop", "ip", &[]);
        fake.deny(operation.split_once(':').unwrap().1);
        let stage = stage(&fake.url()).await;
        let says = refused(ask(&stage, &from).await);
        let denied = format!("AWS denies {operation} on {subject}");
        assert!(says.contains(&denied) && says.contains("cutover check --policy"), "{says}");
        assert_eq!(counted(&stage, operation, "refused"), 1);
    }
}

#[tokio::test]
async fn throttled_is_busy_in_each_services_own_words() {
    let fake = FakeRegion::start().await;
    fake.fail("DescribeInstances", 1, 503, "RequestLimitExceeded", "Request limit exceeded.");
    fake.fail("DescribeAutoScalingGroups", 1, 400, "Throttling", "Rate exceeded");
    fake.fail("DescribeTargetGroups", 1, 400, "Throttling", "Rate exceeded");
    let stage = stage(&fake.url()).await;
    for (from, operation) in [
        (ec2(&[("role", "web")]), "ec2:DescribeInstances"),
        (asg("shop"), "autoscaling:DescribeAutoScalingGroups"),
        (target_group("shop"), "elasticloadbalancing:DescribeTargetGroups"),
    ] {
        let answer = ask(&stage, &from).await;
        assert!(matches!(&answer, Err(SourceError::Busy(says)) if says.starts_with(operation)), "{answer:?}");
        assert_eq!(counted(&stage, operation, "busy"), 1, "and it is not asked again by itself");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_not_taken_for_one() {
    let fake = FakeRegion::start().await;
    let stage = stage(&fake.url()).await;
    let odd = [
        (200, "", "no XML"),
        (200, "<html><body>Welcome</body></html>", "a `html` instead of a `DescribeInstancesResponse`"),
        (200, "<DescribeInstancesResponse><reservationSet><item>", "no XML"),
        (200, "<DescribeGroupsResponse/>", "instead of a `DescribeInstancesResponse`"),
        (
            200,
            "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceState><name>running</name>\
             </instanceState></item></instancesSet></item></reservationSet></DescribeInstancesResponse>",
            "has no `instanceId`",
        ),
        (
            500,
            "<Response><Errors><Error><Code>InternalError</Code><Message>sorry</Message></Error></Errors></Response>",
            "sorry",
        ),
        (502, "Bad Gateway", "status 502"),
    ];
    for (status, body, word) in odd {
        fake.say("DescribeInstances", status, body);
        let answer = ask(&stage, &ec2(&[("role", "web")])).await;
        assert!(matches!(&answer, Err(SourceError::Unreachable(says)) if says.contains(word)), "{body}: {answer:?}");
    }
    assert_eq!(counted(&stage, "ec2:DescribeInstances", "unreachable"), odd.len() as u64);
}

#[tokio::test]
async fn amazon_hears_who_asks() {
    let fake = FakeRegion::start().await;
    fake.add_group("shop", &[]);
    ask(&stage(&fake.url()).await, &asg("shop")).await.unwrap();
    let asked = &fake.asked_for("DescribeAutoScalingGroups")[0];
    assert_eq!((asked.access_key.as_str(), asked.session_token.as_deref()), (KEY, Some(TOKEN)));
    assert!(
        asked.user_agent.contains("app/cutover") && asked.user_agent.contains("api/autoscaling"),
        "{}",
        asked.user_agent
    );
}
