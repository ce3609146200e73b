//! What only the strict double can be brought to: name servers that lag, long lists, sets of others, refusals.

use std::time::{Duration, Instant};

use cutover::config::AwsTimeouts;
use cutover::dns::{Data, Progress, ZoneError};
use cutover::names::RecordType;

use super::stage::{KEY, SHOP, Stage, ZONE, batch, create, delete, mark, member, name};
use super::suite::{self, Lies, records};
use crate::harness::FakeRoute53;
use crate::harness::route53::{Alias, Set};

async fn fake() -> (FakeRoute53, Stage) {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let stage = Stage::at(&fake.url(), ZONE).await;
    (fake, stage)
}

macro_rules! told_of_the_fake {
    ($($story:ident)*) => {
        $(#[tokio::test]
        async fn $story() {
            let (_fake, stage) = fake().await;
            suite::$story(&stage, Lies::default()).await;
        })*
    };
}

told_of_the_fake! {
    a_change_is_made_listed_and_followed
    sets_of_every_kind_are_read_as_they_were_written
    a_name_is_listed_without_its_neighbours
    a_batch_compares_and_swaps
    what_is_deleted_has_to_match_in_every_part
    a_batch_is_applied_whole_or_not_at_all
    a_member_goes_alone
    what_no_zone_can_hold_is_not_taken
    what_does_not_exist_is_refused_in_words
}

#[tokio::test]
async fn a_change_is_pending_until_every_name_server_has_heard_of_it() {
    let (fake, stage) = fake().await;
    fake.pending_for(2);
    let change = stage.zone.change(&batch([create(&mark(1))])).await.unwrap();
    assert_eq!(fake.records(ZONE).len(), 3, "the list has it at once");
    for server in 0..4 {
        assert_eq!(fake.served(ZONE, server).len(), 2, "no name server has");
    }
    fake.reach(ZONE, 1);
    assert_eq!([0, 1, 2, 3].map(|server| fake.served(ZONE, server).len()), [2, 3, 2, 2]);
    for expected in [Progress::Pending, Progress::Pending, Progress::InSync, Progress::InSync] {
        assert_eq!(stage.zone.progress(&change).await, Ok(expected));
    }
    assert_eq!(fake.server(ZONE, 3)().len(), 3);

    fake.pending_for(usize::MAX);
    let change = stage.zone.change(&batch([create(&member("blue", 1, 60, "192.0.2.1"))])).await.unwrap();
    assert_eq!(stage.zone.progress(&change).await, Ok(Progress::Pending));
    fake.sync();
    assert_eq!(stage.zone.progress(&change).await, Ok(Progress::InSync));
    assert_eq!(fake.served(ZONE, 0).len(), 4);
}

#[tokio::test]
async fn a_name_with_many_sets_is_listed_to_its_end() {
    let (fake, stage) = fake().await;
    fake.list_at_most(3);
    for number in 0..10 {
        fake.put(ZONE, Set::new(SHOP, "A", 60, &["192.0.2.1"]).weighted(&format!("member-{number}"), number));
    }
    fake.put(ZONE, Set::new(SHOP, "TXT", 60, &["\"a\""]));
    fake.put(ZONE, Set::new("zzz.example.com", "A", 60, &["192.0.2.1"]));
    let found = records(&stage, SHOP).await;
    assert_eq!(found.len(), 11);
    assert_eq!(found[9].member.as_ref().unwrap().identifier, "member-9");
    assert_eq!(found[10].kind, RecordType::Txt);
    assert_eq!(stage.counted("ListResourceRecordSets", "ok"), 4, "pages of three");
    let page = fake.asked();
    assert!(page.iter().all(|asked| asked.operation == "ListResourceRecordSets"), "{page:?}");
}

#[tokio::test]
async fn what_others_route_by_is_told_and_other_types_are_left_out() {
    let (fake, stage) = fake().await;
    let plain = || Set::new(SHOP, "A", 60, &["192.0.2.1"]);
    let set = |identifier: &str| Set { identifier: Some(identifier.into()), ..plain() };
    fake.put(ZONE, Set { failover: Some("PRIMARY".into()), ..set("a") });
    fake.put(ZONE, Set { region: Some("eu-west-1".into()), ..set("b") });
    fake.put(ZONE, Set { multivalue: Some("true".into()), ..set("c") });
    fake.put(ZONE, Set { health_check: Some("hc-1".into()), ..plain().weighted("d", 1) });
    fake.put(ZONE, plain().weighted("e", 1));
    fake.put(ZONE, Set::new(SHOP, "MX", 60, &["10 mail.example.com."]));
    let found = records(&stage, SHOP).await;
    let foreign = found.iter().map(|set| match &set.data {
        Data::Foreign(what) => what.as_str(),
        _ => "ours",
    });
    let expected = [
        "failover routing, PRIMARY",
        "latency routing, region eu-west-1",
        "multivalue answers",
        "health check hc-1",
        "ours",
    ];
    assert_eq!(foreign.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_somebody_else_changes_in_between_makes_a_conflict() {
    let (fake, stage) = fake().await;
    let alias = Alias { zone: "Z1LB".into(), target: "lb.example.net.".into(), evaluate_health: true };
    let set = Set { ttl: None, values: vec![], alias: Some(alias), ..Set::new(SHOP, "A", 1, &[]) };
    fake.put(ZONE, set);
    let there = records(&stage, SHOP).await;
    let target = name("lb.example.net");
    assert_eq!(there[0].data, Data::Alias { target, zone: "Z1LB".into(), evaluate_health: true });

    fake.remove(ZONE, SHOP, "A", None);
    let error = stage.zone.change(&batch([delete(&there[0]), create(&mark(1))])).await.unwrap_err();
    assert!(error.to_string().contains("but it was not found"), "{error}");

    fake.put(ZONE, Set::new("*.example.com", "A", 60, &["192.0.2.1"]));
    let there = records(&stage, "*.example.com").await;
    fake.put(ZONE, Set::new("*.example.com", "A", 61, &["192.0.2.1"]));
    let error = stage.zone.change(&batch([delete(&there[0])])).await.unwrap_err();
    assert!(error.to_string().contains("name='\\052.example.com.', type='A'] but the values provided"), "{error}");
    assert_eq!(fake.served(ZONE, 2)[2].host(), "*.example.com", "and so the name servers say");
}

#[tokio::test]
async fn every_refusal_says_what_to_do() {
    let (fake, stage) = fake().await;
    let refused = |error: ZoneError| match error {
        ZoneError::Refused(text) => text,
        other => panic!("{other:?}"),
    };
    for (code, status, words) in [
        ("SignatureDoesNotMatch", 403, "secret access key does not belong"),
        ("ExpiredToken", 403, "session token has expired"),
        ("InvalidInput", 400, "because"),
    ] {
        fake.fail("*", 1, status, code, "because");
        let text = refused(stage.zone.describe().await.unwrap_err());
        assert!(text.contains(code) && text.contains(words), "{text}");
    }
    for operation in ["GetHostedZone", "ListResourceRecordSets", "ChangeResourceRecordSets", "GetChange"] {
        fake.deny(operation);
    }
    for (error, operation) in [
        (stage.zone.describe().await.unwrap_err(), "GetHostedZone"),
        (stage.zone.records(&name(SHOP)).await.unwrap_err(), "ListResourceRecordSets"),
        (stage.zone.change(&batch([create(&mark(1))])).await.unwrap_err(), "ChangeResourceRecordSets"),
        (stage.zone.progress(&cutover::dns::ChangeId("C1".into())).await.unwrap_err(), "GetChange"),
    ] {
        let text = refused(error);
        let words = format!("AWS denies route53:{operation} on hosted zone {ZONE}");
        assert!(text.starts_with(&words) && text.contains("cutover check --policy"), "{text}");
        assert_eq!(stage.counted(operation, "refused"), if operation == "GetHostedZone" { 4 } else { 1 });
    }
    fake.mend();
    fake.know_only("AKIASOMEBODYELSE");
    let text = refused(stage.zone.describe().await.unwrap_err());
    assert!(text.contains("InvalidClientTokenId") && text.contains("does not know this access key"), "{text}");
}

#[tokio::test]
async fn a_busy_provider_asks_to_wait_and_is_asked_once() {
    let (fake, stage) = fake().await;
    let change = batch([create(&mark(1))]);
    for (status, code) in [(400, "Throttling"), (400, "PriorRequestNotComplete"), (503, "ServiceUnavailable")] {
        fake.fail("*", 1, status, code, "later");
        let error = stage.zone.change(&change).await.unwrap_err();
        assert!(matches!(&error, ZoneError::Busy(text) if text.contains(code)), "{error:?}");
    }
    assert_eq!(fake.count("ChangeResourceRecordSets"), 3, "nothing is repeated by itself");
    assert_eq!(stage.counted("ChangeResourceRecordSets", "busy"), 3);
    stage.zone.change(&change).await.unwrap();
}

#[tokio::test]
async fn a_refused_batch_is_read_in_both_forms() {
    let (fake, stage) = fake().await;
    let change = batch([create(&mark(1)), create(&member("blue", 1, 60, "192.0.2.1"))]);
    stage.zone.change(&change).await.unwrap();
    let said = stage.zone.change(&change).await.unwrap_err();
    let ZoneError::Conflict(messages) = &said else { panic!("{said:?}") };
    assert_eq!(
        messages[1],
        "Tried to create resource record set [name='shop.example.com.', type='A', set identifier='blue'] but it already exists"
    );
    assert_eq!(messages.len(), 2);
    fake.speak_older_form();
    assert_eq!(stage.zone.change(&change).await, Err(said));
}

#[tokio::test]
async fn what_can_never_fit_is_not_even_sent() {
    let (fake, stage) = fake().await;
    let many: Vec<String> = (0..1_001).map(|n| format!("192.0.{}.{}", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let set = super::stage::values(SHOP, RecordType::A, 60, &many);
    let error = stage.zone.change(&batch([create(&set)])).await.unwrap_err();
    assert!(matches!(&error, ZoneError::Refused(text) if text.contains("1001 records")), "{error:?}");
    assert_eq!(fake.asked().len(), 0);
}

#[tokio::test]
async fn amazon_hears_who_asks() {
    let (fake, stage) = fake().await;
    stage.zone.describe().await.unwrap();
    let [asked] = &fake.asked()[..] else { panic!("one request") };
    assert_eq!(asked.access_key, KEY);
    assert!(asked.user_agent.contains("app/cutover"), "{}", asked.user_agent);
    let version = format!("cutover/{}", env!("CARGO_PKG_VERSION"));
    assert!(asked.user_agent.contains(&version), "{}", asked.user_agent);
}

/// Only a lower bound can be told of time on a busy machine, and only that matters to Amazon.
#[tokio::test]
async fn no_more_is_asked_in_a_second_than_the_config_says() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let stage = Stage::paced(&fake.url(), ZONE, AwsTimeouts::default(), 10).await;
    let begun = Instant::now();
    // Two zones of one account have one pace.
    let other = stage.account.zone(ZONE);
    let calls = (0..26).map(|n| if n % 2 == 0 { stage.zone.describe() } else { other.describe() });
    let calls = futures_util::future::join_all(calls).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert!(begun.elapsed() >= Duration::from_millis(600), "20 at once and ten a second: {:?}", begun.elapsed());
}

/// Nothing but Route 53 itself holds anybody to its limit, so the double has to be seen to do it.
#[tokio::test]
async fn the_double_throttles_as_route_53_does() {
    let (fake, stage) = fake().await;
    fake.throttle();
    let mut client = crate::harness::Client::http1(fake.address).await;
    let mut busy = 0;
    for _ in 0..70 {
        let request = http::Request::get(format!("/2013-04-01/hostedzone/{ZONE}")).header("x-amz-date", "now").header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=A/20261124/us-east-1/route53/aws4_request, SignedHeaders=host, Signature=0",
        );
        let answer = client.send(request.body(crate::harness::body::empty()).unwrap()).await;
        busy += usize::from(answer.status == 400 && answer.text().contains("<Code>Throttling</Code>"));
    }
    // 50 at once, and 10 more for each second that this takes.
    assert!((1..=20).contains(&busy), "{busy} of 70");
    let error = stage.zone.describe().await.err();
    assert!(matches!(error, None | Some(ZoneError::Busy(_))), "{error:?}");
}
