//! The stories that every provider has to tell alike: each begins with an empty zone `example.com`.

use cutover::dns::{Change, ChangeId, Data, Progress, RecordSet, ZoneError};
use cutover::names::RecordType;

use super::stage::{MARK, SHOP, Stage, batch, create, delete, mark, member, name, values};
use crate::harness::{PATIENCE, eventually};

/// What cannot be asked of a provider, since it is known to be wrong about it. Stories look whether it still is, so that
/// nothing is left out for longer than it has to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lies {
    /// A batch is applied up to its first mistake.
    pub batches_are_not_atomic: bool,
    /// What no zone can hold, and it takes: by the words it should be refused with.
    pub accepts: &'static [&'static str],
    /// Deleting one weighted set deletes every set of that identifier in the zone.
    pub deletes_by_identifier: bool,
    /// What is created and deleted is compared with every change there has ever been, not with what is there.
    pub compares_with_history: bool,
    /// There is no change that it does not know.
    pub knows_every_change: bool,
}

pub async fn a_change_is_made_listed_and_followed(stage: &Stage, _: Lies) {
    let info = stage.zone.describe().await.unwrap();
    assert_eq!(info.name, name("example.com"));
    assert!(!info.name_servers.is_empty(), "{info:?}");
    let (blue, green) = (member("blue", 100, 60, "192.0.2.1"), member("green", 0, 60, "192.0.2.2"));
    let change = stage.zone.change(&batch([create(&mark(1)), create(&blue), create(&green)])).await.unwrap();
    assert_eq!(records(stage, SHOP).await, [blue, green]);
    assert_eq!(records(stage, MARK).await, [mark(1)]);
    let in_sync = || async { stage.zone.progress(&change).await == Ok(Progress::InSync) };
    assert!(eventually(PATIENCE, in_sync).await, "the change is not in sync");
    assert_eq!(stage.counted("ChangeResourceRecordSets", "ok"), 1);
}

pub async fn sets_of_every_kind_are_read_as_they_were_written(stage: &Stage, _: Lies) {
    let wild = "*.shop.example.com";
    let sets = [
        values(SHOP, RecordType::A, 60, &["192.0.2.1", "192.0.2.2"]),
        values(SHOP, RecordType::Aaaa, 60, &["2001:db8::1"]),
        values(SHOP, RecordType::Txt, 5, &["\"v=1 a; b\"", "\"two\" \"halves\""]),
        values(wild, RecordType::Cname, 300, &["shop.example.com"]),
        values("www.example.com", RecordType::Cname, 300, &["shop.example.com."]),
        alias("lb.example.com", "dualstack.blue-1.eu-west-1.elb.amazonaws.com"),
    ];
    stage.zone.change(&batch(sets.iter().map(create))).await.unwrap();
    assert_eq!(records(stage, SHOP).await, sets[..3]);
    assert_eq!(records(stage, wild).await, [sets[3].clone()]);
    assert_eq!(records(stage, "www.example.com").await, [sets[4].clone()]);
    assert_eq!(records(stage, "lb.example.com").await, [sets[5].clone()]);
    stage.zone.change(&batch(sets.iter().map(delete))).await.unwrap();
    for set in &sets {
        assert_eq!(records(stage, set.name.as_str()).await, [], "{}", set.name);
    }
}

pub async fn a_name_is_listed_without_its_neighbours(stage: &Stage, _: Lies) {
    let names =
        ["shop.example.com", "a.shop.example.com", "shopping.example.com", "sho.example.com", "www.example.com"];
    let sets = names.map(|name| values(name, RecordType::A, 60, &["192.0.2.1"]));
    stage.zone.change(&batch(sets.iter().map(create))).await.unwrap();
    for set in sets {
        assert_eq!(records(stage, set.name.as_str()).await, [set]);
    }
    assert_eq!(records(stage, "example.com").await, [], "NS and SOA are none of ours");
    assert_eq!(records(stage, "nothing.example.com").await, []);
}

pub async fn a_batch_compares_and_swaps(stage: &Stage, lies: Lies) {
    let old = [mark(1), member("blue", 100, 60, "192.0.2.1"), member("green", 0, 60, "192.0.2.2")];
    let new = [mark(2), member("blue", 0, 10, "192.0.2.1"), member("green", 100, 10, "192.0.2.2")];
    stage.zone.change(&batch(old.iter().map(create))).await.unwrap();
    let swap = batch(old.iter().map(delete).chain(new.iter().map(create)));
    stage.zone.change(&swap).await.unwrap();
    assert_eq!(records(stage, SHOP).await, new[1..]);
    assert_eq!(records(stage, MARK).await, new[..1]);
    if !lies.compares_with_history {
        conflict(stage, swap.changes).await;
        assert_eq!(records(stage, SHOP).await, new[1..]);
    }
}

pub async fn what_is_deleted_has_to_match_in_every_part(stage: &Stage, lies: Lies) {
    let blue = member("blue", 100, 60, "192.0.2.1");
    stage.zone.change(&batch([create(&blue)])).await.unwrap();
    if lies.compares_with_history {
        // It calls that a mistake of the request; and what was there once can be deleted for ever.
        let never = stage.zone.change(&batch([delete(&member("blue", 100, 60, "192.0.2.9"))])).await;
        assert!(matches!(never, Err(ZoneError::Refused(_))), "{never:?}");
        for _ in 0..2 {
            stage.zone.change(&batch([delete(&blue)])).await.unwrap();
        }
        return;
    }
    let others = [
        member("blue", 99, 60, "192.0.2.1"),
        member("blue", 100, 61, "192.0.2.1"),
        member("blue", 100, 60, "192.0.2.9"),
    ];
    for other in others {
        let messages = conflict(stage, [delete(&other)]).await;
        assert!(messages[0].contains("do not match the current values"), "{messages:?}");
    }
    let messages = conflict(stage, [delete(&member("green", 100, 60, "192.0.2.1"))]).await;
    assert!(messages[0].contains("it was not found"), "{messages:?}");
    let messages = conflict(stage, [create(&blue)]).await;
    assert!(messages[0].contains("but it already exists"), "{messages:?}");
    assert_eq!(records(stage, SHOP).await, [blue]);
}

pub async fn a_batch_is_applied_whole_or_not_at_all(stage: &Stage, lies: Lies) {
    let there = values("there.example.com", RecordType::A, 60, &["192.0.2.1"]);
    stage.zone.change(&batch([create(&there)])).await.unwrap();
    let before = values("before.example.com", RecordType::A, 60, &["192.0.2.1"]);
    let after = values("after.example.com", RecordType::A, 60, &["192.0.2.1"]);
    if lies.batches_are_not_atomic {
        let elsewhere = values("after.example.org", RecordType::A, 60, &["192.0.2.1"]);
        let answer = stage.zone.change(&batch([create(&before), create(&elsewhere)])).await;
        assert!(matches!(answer, Err(ZoneError::Refused(_))), "{answer:?}");
        assert_eq!(records(stage, "before.example.com").await, [before]);
        return;
    }
    conflict(stage, [create(&before), delete(&there), create(&there), create(&there), create(&after)]).await;
    conflict(stage, [create(&before), create(&there), create(&after)]).await;
    assert_eq!(records(stage, "before.example.com").await, []);
    assert_eq!(records(stage, "after.example.com").await, []);
    assert_eq!(records(stage, "there.example.com").await, [there]);
}

pub async fn a_member_goes_alone(stage: &Stage, lies: Lies) {
    let (one, two) = (member("blue", 1, 60, "192.0.2.1"), member("green", 1, 60, "192.0.2.2"));
    let elsewhere = RecordSet { name: name("api.example.com"), ..one.clone() };
    stage.zone.change(&batch([create(&one), create(&two), create(&elsewhere)])).await.unwrap();
    stage.zone.change(&batch([delete(&one)])).await.unwrap();
    assert_eq!(records(stage, SHOP).await, [two]);
    let others = if lies.deletes_by_identifier { vec![] } else { vec![elsewhere] };
    assert_eq!(records(stage, "api.example.com").await, others);
}

pub async fn what_no_zone_can_hold_is_not_taken(stage: &Stage, lies: Lies) {
    let simple = values(SHOP, RecordType::A, 60, &["192.0.2.1"]);
    let cname = values(SHOP, RecordType::Cname, 60, &["www.example.com"]);
    let (blue, green) = (member("blue", 1, 60, "192.0.2.1"), member("green", 1, 61, "192.0.2.1"));
    let bad = [
        vec![create(&values("shop.example.org", RecordType::A, 60, &["192.0.2.1"]))],
        vec![create(&values("example.com", RecordType::Cname, 60, &["www.example.com"]))],
        vec![create(&simple), create(&cname)],
        vec![create(&cname), create(&simple)],
        vec![create(&simple), create(&blue)],
        vec![create(&blue), create(&green)],
        vec![create(&values(SHOP, RecordType::A, 60, &["192.0.2.300"]))],
        vec![create(&values(SHOP, RecordType::Txt, 60, &["no quotes"]))],
    ];
    for (changes, text) in bad.into_iter().zip(RULES) {
        let answer = stage.zone.change(&batch(changes.clone())).await;
        if lies.accepts.contains(text) {
            assert!(answer.is_ok(), "{text}: {answer:?}");
            // In no particular order: the zone is as it was.
            for change in changes {
                stage.zone.change(&batch([delete(&change.set)])).await.unwrap();
            }
        } else {
            // What has no place in the zone is no conflict with what stands there, and reading again does not help.
            match &answer {
                Err(ZoneError::Refused(says)) if text.starts_with("not permitted") => {
                    assert!(says.contains(text) && says.contains("correct `zone`"), "{text}: {says}");
                }
                Err(ZoneError::Conflict(messages)) if !text.starts_with("not permitted") => {
                    assert!(messages.iter().any(|message| message.contains(text)), "{text}: {messages:?}");
                }
                _ => panic!("{text}: {answer:?}"),
            }
        }
    }
    assert_eq!(records(stage, SHOP).await, []);
}

pub async fn what_does_not_exist_is_refused_in_words(stage: &Stage, lies: Lies) {
    let nowhere = stage.account.zone("Z0NOWHERE0000");
    for error in [
        nowhere.describe().await.unwrap_err(),
        nowhere.records(&name(SHOP)).await.unwrap_err(),
        nowhere.change(&batch([create(&mark(1))])).await.unwrap_err(),
    ] {
        let ZoneError::Refused(text) = &error else { panic!("{error:?}") };
        assert!(text.contains("no hosted zone Z0NOWHERE0000") && text.contains("correct `zone`"), "{text}");
    }
    let unknown = stage.zone.progress(&ChangeId("C0NOWHERE".into())).await;
    match lies.knows_every_change {
        true => assert_eq!(unknown, Ok(Progress::InSync)),
        false => assert!(matches!(unknown, Err(ZoneError::Refused(_))), "{unknown:?}"),
    }
}

/// What stands under this name.
pub async fn records(stage: &Stage, text: &str) -> Vec<RecordSet> {
    stage.zone.records(&name(text)).await.unwrap()
}

/// The batch is refused as one that does not fit: with which messages.
async fn conflict(stage: &Stage, changes: impl IntoIterator<Item = Change>) -> Vec<String> {
    match stage.zone.change(&batch(changes)).await {
        Err(ZoneError::Conflict(messages)) if !messages.is_empty() => messages,
        other => panic!("{other:?} is no conflict"),
    }
}

fn alias(at: &str, target: &str) -> RecordSet {
    let data = Data::Alias { target: name(target), zone: "Z32O12XQLNTSW2".to_owned(), evaluate_health: false };
    RecordSet { data, ..values(at, RecordType::A, 1, &[]) }
}

/// The words in which Route 53 refuses what no zone can hold.
pub const RULES: &[&str] = &[
    "not permitted in zone",
    "not permitted at apex",
    "conflicts with other records",
    "a conflicting RRSet of type CNAME",
    "cannot be created as a simple set",
    "cannot be created as weighted sets must contain the same TTL",
    "not a valid IPv4 address",
    "enclosed in quotation marks",
];
