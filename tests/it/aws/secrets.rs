//! Whatever is logged, secrets are not in it.

use std::io;
use std::sync::{Arc, Mutex};

use cutover::config::{DiscoverFrom, ScalingGroup};
use tracing_subscriber::fmt::MakeWriter;

use super::stage::{KEY, SECRET, SHOP, Stage, TOKEN, ZONE, batch, create, mark, name};
use crate::harness::{FakeRegion, FakeRoute53};

#[tokio::test]
async fn neither_the_secret_key_nor_the_session_token_is_ever_logged() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let stage = Stage::at(&fake.url(), ZONE).await;
    stage.zone.describe().await.unwrap();
    stage.zone.records(&name(SHOP)).await.unwrap();
    stage.zone.change(&batch([create(&mark(1))])).await.unwrap();
    let region = FakeRegion::start().await;
    region.add_group("shop", &[]);
    let elsewhere = Stage::at(&region.url(), ZONE).await;
    let group = DiscoverFrom::Asg(ScalingGroup { name: "shop".to_owned(), port: 80 });
    elsewhere.account.source(&group).unwrap().ask().await.unwrap();
    assert_eq!(region.asked_for("DescribeAutoScalingGroups")[0].session_token.as_deref(), Some(TOKEN), "and there too");
    fake.deny("GetHostedZone");
    let error = format!("{:?}", stage.zone.describe().await.unwrap_err());
    assert_eq!(fake.asked()[0].session_token.as_deref(), Some(TOKEN), "they were in use");
    let text = format!("{}{error}", log.text());
    assert!(text.len() > 10_000 && text.contains("TRACE"), "nothing was logged: {text}");
    assert!(text.contains(KEY), "the log did not see what it should be silent about");
    for secret in [SECRET, TOKEN] {
        let at = text.find(secret).map(|at| &text[at.saturating_sub(300)..at + secret.len()]);
        assert_eq!(at, None);
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}
