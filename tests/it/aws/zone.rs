//! A zone is described, listed, changed whole or not at all, and followed until its name servers know.

use cutover::dns::{Data, Progress, ZoneError};
use cutover::names::RecordType;

use super::stage::{MARK, SHOP, Stage, ZONE, batch, create, delete, mark, member, name, values};
use crate::harness::FakeRoute53;
use crate::harness::route53::Set;

async fn fake() -> (FakeRoute53, Stage) {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let stage = Stage::at(&fake.url(), ZONE).await;
    (fake, stage)
}

#[tokio::test]
async fn a_change_is_made_listed_and_in_sync_once_the_name_servers_know() {
    let (fake, stage) = fake().await;
    fake.pending_for(1);
    let info = stage.zone.describe().await.unwrap();
    assert_eq!(info.name, name("example.com"));
    assert_eq!(info.name_servers.len(), 4);

    let (blue, green) = (member("blue", 100, 60, "192.0.2.1"), member("green", 0, 60, "192.0.2.2"));
    let change = stage.zone.change(&batch([create(&mark(1)), create(&blue), create(&green)])).await.unwrap();
    assert_eq!(stage.zone.records(&name(SHOP)).await.unwrap(), [blue, green]);
    assert_eq!(stage.zone.records(&name(MARK)).await.unwrap(), [mark(1)]);

    assert_eq!(fake.served(ZONE, 0).len(), 2, "only NS and SOA so far");
    assert_eq!(stage.zone.progress(&change).await, Ok(Progress::Pending));
    assert_eq!(stage.zone.progress(&change).await, Ok(Progress::InSync));
    assert_eq!(fake.served(ZONE, 3).len(), 5);
}
