//! What operators do with names: plan, adopt, prepare, sync, and what a reload changes.

use serde_json::{Value, json};

use super::stage::{Stage, ZONE};
use crate::harness::route53::Set;

#[tokio::test]
async fn records_that_were_there_before_are_shown_and_left_until_they_are_adopted() {
    let mine = || Set::new("shop.example.com", "A", 2, &["192.0.2.7"]);
    let stage = Stage::start(|service| service, |route53| route53.put(ZONE, mine())).await;
    let dns = stage.until("stopped", |dns| dns["state"] == "stopped").await;
    assert_eq!(dns["objection"]["why"], "foreign", "{dns:#}");
    for command in [&["dns", "plan"][..], &["dns", "sync"]] {
        let ran = stage.run(command).await.assert_code(1);
        let text = ran.stdout + &ran.stderr;
        assert!(text.contains("nothing says that it is ours; `cutover dns adopt` takes it over"), "{text}");
        assert!(text.contains("found:  shop.example.com A 2 s: 192.0.2.7"), "{text}");
    }
    assert_eq!(stage.route53.records(ZONE).iter().filter(|set| set.kind == "A").collect::<Vec<_>>(), [&mine()]);
    let ran = stage.run(&["dns", "adopt"]).await.assert_code(0);
    assert!(ran.stdout.contains("lead to blue, in sync; done"), "{}", ran.stdout);
    assert_eq!(stage.seen_at(0).await, ["198.51.100.1"]);
}

#[tokio::test]
async fn what_another_tool_owns_stays_its_own() {
    let theirs = "\"heritage=external-dns,external-dns/owner=prod\"";
    let txt = Set::new("shop.example.com", "TXT", 300, &[theirs]);
    let stage = Stage::start(|service| service, |route53| route53.put(ZONE, txt)).await;
    stage.until("stopped", |dns| dns["state"] == "stopped").await;
    let ran = stage.run(&["dns", "adopt"]).await.assert_code(1);
    assert!(ran.stderr.contains("external-dns/owner=prod"), "{}", ran.stderr);
    assert_eq!(stage.route53.count("ChangeResourceRecordSets"), 0);
}

#[tokio::test]
async fn a_plan_and_a_rehearsal_print_the_batches_that_a_switch_sends() {
    let stage = Stage::settled().await;
    let nothing = stage.proxy.run(&["dns", "plan"]).await.assert_code(0);
    assert!(nothing.stdout.contains("lead to blue already: nothing would be written"), "{}", nothing.stdout);
    let plan = stage.proxy.run(&["dns", "plan", "--to", "green", "--json"]).await.assert_code(0).json();
    let rehearsal = stage.proxy.run(&["switch", "green", "--dry-run", "--json"]).await.assert_code(0).json();
    let shape = |plan: &Value| -> Vec<(String, usize)> {
        let batches = plan["batches"].as_array().unwrap_or_else(|| panic!("no batches in {plan:#}"));
        let changes = |batch: &Value| batch["batch"]["changes"].as_array().unwrap().len();
        batches.iter().map(|batch| (batch["step"].as_str().unwrap().to_owned(), changes(batch))).collect()
    };
    let whole = [("lower".to_owned(), 8), ("move".to_owned(), 8), ("restore".to_owned(), 8)];
    assert_eq!((shape(&plan), shape(&rehearsal["dns"])), (whole.to_vec(), whole.to_vec()));
    let moved = &plan["batches"][1]["batch"]["changes"];
    let green = json!({
        "action": "CREATE",
        "set": {
            "name": "shop.example.com", "type": "A", "member": { "identifier": "green", "weight": 100 },
            "data": { "values": { "ttl": 1, "values": ["198.51.100.2", "198.51.100.3"] } },
        },
    });
    assert!(moved.as_array().unwrap().contains(&green), "{moved:#}");
    assert_eq!(stage.route53.count("ChangeResourceRecordSets"), 1, "only the first one, from the start");
    let text = stage.proxy.run(&["switch", "green", "--dry-run"]).await.assert_code(0).stdout;
    assert!(text.contains("  + shop.example.com A [green, weight 100] 1 s: 198.51.100.2, 198.51.100.3"), "{text}");
}

#[tokio::test]
async fn names_are_prepared_moved_onto_the_proxy_and_followed_by_the_next_switch() {
    let stage = Stage::settled().await;
    let ran = stage.run(&["dns", "prepare"]).await.assert_code(0);
    assert!(ran.stdout.contains("prepared"), "{}", ran.stdout);
    let ttls = |stage: &Stage| -> Vec<Option<u64>> {
        let sets = stage.route53.records(ZONE);
        sets.iter().filter(|set| set.kind == "A").map(|set| set.ttl).collect()
    };
    assert_eq!(ttls(&stage), [Some(1); 3]);
    let ran = stage.run(&["dns", "sync", "--to", "proxy", "--json"]).await.assert_code(0);
    let dns = ran.json();
    assert_eq!((&dns["to"], &dns["state"], &dns["by"]), (&json!("proxy"), &json!("done"), &json!("uid 0")), "{dns:#}");
    assert_eq!(stage.seen_at(1).await, ["198.51.100.9"]);
    assert_eq!(ttls(&stage), [Some(2); 3]);
    stage.switch("green").await;
    stage.until_at("green").await;
    let text = stage.proxy.run(&["status"]).await.assert_code(0).stdout;
    assert!(text.contains("names lead to green: done"), "{text}");
}

#[tokio::test]
async fn what_somebody_has_changed_is_shown_beside_what_was_wanted() {
    let mut stage = Stage::settled().await;
    stage.route53.remove(ZONE, "shop.example.com", "A", Some("green"));
    // A restart looks at once.
    stage.proxy.restart().await;
    let dns = stage.until("stopped", |dns| dns["state"] == "stopped").await;
    assert_eq!((&dns["objection"]["why"], &dns["in_sync"]), (&json!("drifted"), &json!(false)), "{dns:#}");
    let text = stage.proxy.run(&["dns", "status"]).await.assert_code(0).stdout;
    assert!(text.contains("wanted: shop.example.com A [green, weight 0] 2 s"), "{text}");
    assert!(!text.contains("found:  shop.example.com A [green"), "{text}");
    stage.run(&["dns", "sync"]).await.assert_code(0);
    assert_eq!(stage.route53.records(ZONE).iter().filter(|set| set.kind == "A").count(), 3);
}

#[tokio::test]
async fn a_reload_gives_names_other_values_or_lets_them_go() {
    let mut stage = Stage::settled().await;
    let record = "record = [{ name = \"shop.example.com\", type = \"A\", blue = [\"198.51.100.77\"], green = [\"198.51.100.2\"] }]";
    stage.proxy.reload_with(|settings| settings.service("shop", |service| service.extra("dns", record))).await;
    stage.until_at("blue").await;
    assert_eq!(stage.seen_at(0).await, ["198.51.100.77"]);
    let sets = stage.route53.records(ZONE);
    let members: Vec<_> = sets.iter().filter(|set| set.kind == "A").filter_map(|set| set.identifier.clone()).collect();
    assert_eq!(members, ["blue", "green"], "the proxy's is gone");
    let (status, answer) = stage.proxy.api("POST", "/v1/services/shop/dns/sync", json!({ "to": "proxy" })).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("say nothing for the proxy"), "{answer}");
}

#[tokio::test]
async fn whoever_asks_for_what_is_not_there_is_told_what_is() {
    let stage = Stage::settled().await;
    let post = async |path: &str, body: Value| stage.proxy.api("POST", &format!("/v1/services/{path}"), body).await;
    assert_eq!(post("nobody/dns/sync", json!({})).await.0, 404);
    assert_eq!(post("shop/dns/sync", json!({ "to": "red" })).await.0, 400);
    assert_eq!(post("shop/dns/prepare", json!({ "to": "green" })).await.0, 400);
    let (status, _) = stage.proxy.api_tcp("POST", "/v1/services/shop/dns/sync", json!({}), None).await;
    assert_eq!(status, 401, "without the token nothing is moved over TCP");
    let (status, dns) = stage.proxy.api_tcp("GET", "/v1/services/shop/dns", Value::Null, None).await;
    assert_eq!((status, &dns["zone"]), (200, &json!(ZONE)));
}
