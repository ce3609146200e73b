//! While the journal cannot be written: what goes forward is refused, what is safe is done, and who asks is told of it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{order, until_phase};
use crate::harness::{Backend, Client, Cutover, PATIENCE, SmallDisk, eventually};

/// A shop that is switched by these rules, on a small disk; `None` where this user may not mount one.
struct Stage {
    blue: Backend,
    _green: Backend,
    proxy: Cutover,
    filler: PathBuf,
    _disk: SmallDisk,
}

impl Stage {
    async fn of(rules: &str) -> Option<Stage> {
        let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
        let proxy = Cutover::with()
            .service("shop", |s| s.blue([&blue]).green([&green]).health("/healthz").extra("cutover", rules))
            .service("blog", |s| s.hosts(&["blog.test"]).blue([&blue]).green([&green]).health("/healthz"));
        let mut proxy = proxy.start().await;
        proxy.kill9().await;
        let disk = SmallDisk::at(&proxy.state_dir())?;
        proxy.restart().await;
        let filler = proxy.state_dir().join("filler");
        Some(Stage { blue, _green: green, proxy, filler, _disk: disk })
    }

    /// A switch of the shop that is left to itself. Its reason makes each of its lines longer than any of the blog's.
    async fn begin(&self) {
        let wish = json!({ "to": "green", "timeout": "1ms", "reason": "x".repeat(1000) });
        let (status, answer) = order(&self.proxy, "switch", wish).await;
        assert!(matches!(status, 200 | 202), "{answer}");
    }

    /// Fills the disk, and with the blog's switches what is left of the journal's last block: not a line more goes in.
    async fn fill(&self) {
        assert!(fs::write(&self.filler, vec![0; 1 << 20]).is_err(), "the small disk is larger than it should be");
        for to in ["green", "blue"].into_iter().cycle().take(60) {
            if self.proxy.api("POST", "/v1/services/blog/switch", json!({ "to": to })).await.0 == 507 {
                return;
            }
        }
        panic!("the disk is never full");
    }

    /// Makes room, and waits until nothing of the shop is left to be written.
    async fn make_room(&self) {
        fs::remove_file(&self.filler).unwrap();
        let written = || async { self.unwritten().await == 0.0 };
        assert!(eventually(PATIENCE, written).await, "{:#}", self.proxy.service("shop").await);
    }

    async fn unwritten(&self) -> f64 {
        self.proxy.metrics().await.value("cutover_journal_unwritten", &[("service", "shop")])
    }

    async fn shop(&self) -> Value {
        self.proxy.service("shop").await
    }

    /// The shop's newest cutover, once it has ended.
    async fn ended(&self) -> Value {
        until_phase(&self.proxy, "idle").await;
        self.proxy.api("GET", "/v1/history?service=shop", Value::Null).await.1[0].clone()
    }

    /// This order is refused, and the shop stays in this phase with this color live, as the journal says.
    async fn assert_refused(&self, verb: &str, phase: &str, live: &str) {
        let refused = self.proxy.run(&[verb, "shop"]).await.assert_code(1);
        let says = &refused.stderr;
        assert!(says.contains("cannot be written") && says.contains("nothing has changed"), "{refused:#?}");
        let shop = self.shop().await;
        assert_eq!((&shop["phase"], &shop["live"]), (&json!(phase), &json!(live)), "{shop:#}");
        assert_eq!((&shop["unwritten"], self.unwritten().await), (&Value::Null, 0.0), "{shop:#}");
    }
}

#[tokio::test]
async fn an_approval_that_cannot_be_written_down_is_refused_and_can_be_given_again() {
    let Some(stage) = Stage::of("gate = [{ name = \"qa\", approve = true }]").await else { return };
    stage.begin().await;
    until_phase(&stage.proxy, "gates").await;
    stage.fill().await;
    stage.assert_refused("approve", "gates", "blue").await;

    stage.make_room().await;
    stage.proxy.run(&["approve", "shop"]).await.assert_code(0);
    let history = stage.ended().await;
    assert_eq!((&history["outcome"], &history["live"]), (&json!("done"), &json!("green")), "{history}");
}

#[tokio::test]
async fn what_was_refused_behind_the_switch_for_lack_of_room_does_not_come_true_after_a_restart() {
    let bake = "bake = { for = \"200ms\", extend = \"200ms\", min_requests = 50 }";
    let Some(mut stage) = Stage::of(bake).await else { return };
    stage.begin().await;
    until_phase(&stage.proxy, "paused").await;
    stage.fill().await;
    stage.assert_refused("rollback", "paused", "green").await;
    stage.assert_refused("approve", "paused", "green").await;

    stage.make_room().await;
    stage.proxy.kill9().await;
    stage.proxy.restart().await;
    let shop = stage.shop().await;
    assert_eq!((&shop["phase"], &shop["live"]), (&json!("paused"), &json!("green")), "{shop:#}");
    assert_eq!(shop["cutover"]["returning"], json!(false), "{shop:#}");
    stage.proxy.run(&["rollback", "shop"]).await.assert_code(0);
    assert_eq!(stage.ended().await["live"], "blue");
}

#[tokio::test]
async fn an_abort_is_carried_out_unwritten_and_everyone_is_told_until_it_is_on_disk() {
    let Some(mut stage) = Stage::of("gate = [{ name = \"qa\", approve = true }]").await else { return };
    stage.begin().await;
    until_phase(&stage.proxy, "gates").await;
    stage.fill().await;
    let aborted = stage.proxy.run(&["abort", "shop"]).await.assert_code(0);
    assert!(aborted.stdout.contains("is aborted; blue stays live"), "{aborted:#?}");
    let told = |text: &str| text.contains("phase aborted, which is not on disk yet") && text.contains("make room");
    assert!(told(&aborted.stderr), "{aborted:#?}");
    let shop = stage.shop().await;
    assert_eq!((&shop["phase"], stage.unwritten().await), (&json!("idle"), 1.0), "{shop:#}");
    assert!(told(shop["unwritten"].as_str().unwrap()), "{shop:#}");
    assert!(told(&stage.proxy.run(&["status", "shop"]).await.stdout));
    assert!(told(stage.ended().await["unwritten"].as_str().unwrap()));
    let end = stage.proxy.terminate().await.assert_code(0);
    assert!(told(&end.stderr), "{end:#?}");

    // It was said, and so it is: the next one goes on at the gate.
    stage.proxy.restart().await;
    until_phase(&stage.proxy, "gates").await;
    let aborted = stage.proxy.run(&["abort", "shop", "--json"]).await.assert_code(0);
    assert!(told(aborted.json()["unwritten"].as_str().unwrap()) && told(&aborted.stderr), "{aborted:#?}");
    stage.make_room().await;
    assert_eq!(stage.shop().await["unwritten"], Value::Null);
    stage.proxy.kill9().await;
    stage.proxy.restart().await;
    let shop = stage.shop().await;
    assert_eq!((&shop["phase"], &shop["live"]), (&json!("idle"), &json!("blue")), "{shop:#}");
}

#[tokio::test]
async fn a_switch_that_is_done_and_not_on_disk_says_so() {
    let Some(stage) = Stage::of("").await else { return };
    let mut slow = Client::http1(&stage.proxy).await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    stage.blue.waiting(1).await;
    let switch = stage.proxy.spawn(&["switch", "green", "shop", "--reason", &"x".repeat(1000)]);
    until_phase(&stage.proxy, "drain").await;
    stage.fill().await;
    stage.blue.release();
    let done = switch.ended().await.assert_code(0);
    assert!(done.stdout.contains("green is live, blue is drained"), "{done:#?}");
    assert!(done.stderr.contains("phase done, which is not on disk yet"), "{done:#?}");
    slow.await.unwrap();
    stage.make_room().await;
}
