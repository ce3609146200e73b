//! What operators see of sources: `check --aws` asks each as discovery will, `check --policy` prints what allows it.

use serde_json::json;

use super::super::check::{Desk, KEYS};
use crate::harness::FakeRegion;
use crate::harness::region::Inst;

#[tokio::test]
async fn each_source_is_asked_as_discovery_asks_it() {
    let fake = FakeRegion::start().await;
    fake.add(Inst::at("i-1", "10.0.0.1").tagged("role", "web"));
    fake.add(Inst::at("i-2", "10.0.0.2").tagged("role", "web").is("pending"));
    fake.add_target_group("shop-green", "ip", &[("10.0.0.9", 8080, "unused")]);
    let ran = desk(&fake.url()).check(&["--aws"], &KEYS).await.assert_code(0);
    let source = "the running EC2 instances tagged role=web, with port 80 (shop, blue)";
    let group = "the targets of the target group shop-green (shop, green)";
    for line in [
        format!("ok      ec2:DescribeInstances on {source}: it proposes 10.0.0.1:80; left out: i-2 is pending"),
        format!("ok      elasticloadbalancing:DescribeTargetGroups on {group}: answered"),
        format!("ok      elasticloadbalancing:DescribeTargetHealth on {group}: it proposes 10.0.0.9:8080"),
        // It may have targets of the other type one day.
        format!("ok      ec2:DescribeInstances on {group}: instances can be looked up"),
    ] {
        assert!(ran.stdout.lines().any(|found| found.trim_start() == line), "{line} is missing in\n{}", ran.stdout);
    }
}

#[tokio::test]
async fn the_question_that_is_denied_is_named_and_the_rest_tried_where_it_can_be() {
    let fake = FakeRegion::start().await;
    fake.add_target_group("shop-green", "ip", &[]);
    fake.deny("DescribeTargetHealth");
    let ran = desk(&fake.url()).check(&["--aws", "--json"], &KEYS).await.assert_code(1);
    let aws = ran.json()["aws"].clone();
    let outcomes: Vec<_> =
        aws.as_array().unwrap().iter().map(|one| (&one["color"], &one["permission"], &one["outcome"])).collect();
    let expected = json!([
        ["blue", "ec2:DescribeInstances", "ok"],
        ["green", "elasticloadbalancing:DescribeTargetGroups", "ok"],
        ["green", "elasticloadbalancing:DescribeTargetHealth", "failed"],
        ["green", "ec2:DescribeInstances", "ok"],
    ]);
    assert_eq!(json!(outcomes), expected);
    assert_eq!(aws[0]["says"], "it proposes no endpoint");
    assert_eq!((&aws[2]["service"], aws[2].get("zone")), (&json!("shop"), None));

    fake.deny("DescribeTargetGroups");
    let ran = desk(&fake.url()).check(&["--aws", "--json"], &KEYS).await.assert_code(1);
    let outcomes: Vec<_> = ran.json()["aws"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(json!(outcomes), json!(["ok", "failed", "not_tried", "ok"]));
}

/// Endpoints of another region are others: an answer from there would be worse than none. And nobody is asked.
#[tokio::test]
async fn a_region_is_never_guessed_and_what_has_ended_never_asked() {
    let text = CONFIG.replace("endpoint_url = \"ENDPOINT\"", "").replace("REST", OPSWORKS);
    let ran = Desk::of(&text).check(&["--aws", "--json"], &KEYS).await.assert_code(1);
    let aws = ran.json()["aws"].clone();
    let says = |at: usize| aws[at]["says"].as_str().unwrap().to_owned();
    assert!(says(0).contains("no region is configured") && says(0).contains("write `region` under [aws]"), "{aws}");
    assert_eq!(aws[1]["permission"], "opsworks:DescribeStacks");
    assert!(says(1).contains("AWS ended OpsWorks Stacks on 26 May 2024") && says(1).contains("`asg`"), "{aws}");
    assert_eq!((aws[2]["outcome"].as_str(), aws[3]["outcome"].as_str()), (Some("not_tried"), Some("not_tried")));
}

#[tokio::test]
async fn the_policy_allows_what_the_sources_read_in_their_region() {
    let desk = |region: &str| {
        let text = CONFIG.replace("endpoint_url = \"ENDPOINT\"", region).replace("REST", TARGETS);
        Desk::of(&text)
    };
    let ran = desk("region = \"eu-west-1\"").check(&["--policy"], &[]).await.assert_code(0);
    let expected = json!([{
        "Sid": "CutoverFindsItsEndpoints",
        "Effect": "Allow",
        "Action": [
            "ec2:DescribeInstances", "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth",
        ],
        "Resource": ["*"],
        "Condition": { "StringEquals": { "aws:RequestedRegion": "eu-west-1" } },
    }]);
    assert_eq!(ran.json()["Statement"], expected);
    let ran = desk("").check(&["--policy"], &[]).await.assert_code(0);
    assert_eq!(ran.json()["Statement"][0].get("Condition"), None);
}

fn desk(url: &str) -> Desk {
    assert!(url.starts_with("http://127.0.0.1:"), "a story must not leave this machine: {url}");
    Desk::of(&CONFIG.replace("ENDPOINT", url).replace("REST", TARGETS))
}

const CONFIG: &str = r#"
[aws]
endpoint_url = "ENDPOINT"
timeouts = { connect = "5s", attempt = "5s", operation = "8s" }

[[listener]]
address = "127.0.0.1:0"

[service.shop]
blue.discover = { ec2 = { tags = { role = "web" }, port = 80 } }
green.discover = REST
"#;
const TARGETS: &str = "{ target_group = { group = \"shop-green\" } }";
const OPSWORKS: &str = "{ opsworks = { stack = \"shop\", layer = \"rails-app\", port = 80 } }";
