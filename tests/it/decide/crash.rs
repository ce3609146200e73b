//! Crashes: a proxy is started behind every line of whole courses, and behind half of the next, and brings each to its end.

use std::fs;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{order, until_phase};
use crate::dns::stage::{Stage, names, reaching};
use crate::harness::{Client, Crowd, Cutover, Service};

/// What is to be gone through, as quick as it may be; what nobody has met in its time waits for an operator.
const COURSE: &str = "canary = [{ weight = \"30%\", for = \"200ms\" }, { weight = \"60%\", for = \"200ms\" }]\n\
    bake = { for = \"1s\", extend = \"200ms\", min_requests = 1, max_error_share = \"50%\", max_slowdown = \"600%\" }";

/// The rules of a shop whose gate leaves a mark each time it is asked.
fn shop(service: Service, mark: &str) -> Service {
    let gates = format!(
        "gate = [{{ name = \"smoke\", run = [\"sh\", \"-c\", \"echo asked >> {mark}\"] }}, {{ name = \"qa\", approve = true }}]"
    );
    service.extra("cutover", &format!("{gates}\n{COURSE}"))
}

/// A journal, and the line behind which a crash is to come.
struct Crash<'j> {
    whole: &'j [u8],
    end: usize,
    /// Bytes of the next line that got there.
    torn: usize,
}

/// What the journal says of the cutover, in its last line about it.
fn last(journal: &[u8]) -> Option<Value> {
    let lines = journal.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut lines = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()["cutover"].take());
    lines.rfind(|cutover| !cutover.is_null())
}

fn ends(journal: &[u8]) -> Vec<usize> {
    let ends = journal.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    [0].into_iter().chain(ends).collect()
}

/// The phases a journal tells of.
fn phases(journal: &[u8]) -> Vec<String> {
    let told = ends(journal).into_iter().filter_map(|end| last(&journal[..end]));
    let mut phases: Vec<String> = told.map(|cutover| cutover["phase"].as_str().unwrap().to_owned()).collect();
    phases.dedup();
    phases
}

/// Answers whoever waits for an operator, until the cutover is over; on the way every request is answered by the color that
/// the table says.
async fn bring_to_its_end(proxy: &Cutover) {
    let mut client = Client::http1(proxy).await;
    let mut is_over = async || {
        let before = proxy.service("shop").await;
        let seen = client.get("/").await;
        let after = proxy.service("shop").await;
        assert_eq!(seen.status, 200, "{before:#}");
        let table = |view: &Value| (view["live"].clone(), view["generation"].clone(), view["green"]["weight"].clone());
        let is_whole = before["green"]["weight"] == 0.0 || before["green"]["weight"] == 1.0;
        if table(&before) == table(&after) && is_whole {
            assert_eq!(json!(seen.backend()), before["live"], "{before:#}");
        }
        if matches!(after["phase"].as_str(), Some("gates" | "paused")) {
            // It may have gone on by itself.
            let (status, answer) = order(proxy, "approve", json!({})).await;
            assert!(matches!(status, 200 | 409), "{answer}");
        }
        after["phase"] == "idle"
    };
    let over = async {
        while !is_over().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(LONG, over).await;
    assert!(ended.is_ok(), "it hangs: {:#}", proxy.service("shop").await);
}

/// A crash there, and what becomes of it.
async fn survives(crash: Crash<'_>, stage: &Stage) {
    let Crash { whole, end, torn } = crash;
    // Nobody answers for names any more: they decide nothing.
    let settings = reaching(Cutover::with(), "http://127.0.0.1:9");
    let mark = settings.folder().join("asked");
    let describe = |service: Service| {
        let service = service.blue([&stage.backends[0]]).green([&stage.backends[1]]).health("/healthz");
        let service = service.extra("dns", &names(&stage.servers)).extra("dns", "deadline = \"1s\"");
        shop(service, mark.to_str().unwrap())
    };
    let settings = settings.service("shop", describe);
    fs::write(settings.state_dir().join("journal.jsonl"), &whole[..end + torn]).unwrap();
    let proxy = settings.start().await;
    let crowd = Crowd::of(2).think(Duration::from_millis(20)).start(&proxy);
    bring_to_its_end(&proxy).await;
    crowd.seen_more(10).await;
    crowd.stop().await.assert_nothing_lost();

    let before = last(&whole[..end]);
    let told = format!("behind {before:#?}");
    let leads_back =
        before.as_ref().is_some_and(|it| it["phase"].as_str().unwrap().contains("back") || it["returning"] == true);
    let ends_at = if before.is_none() || leads_back { "blue" } else { "green" };
    let service = proxy.service("shop").await;
    assert_eq!(
        (&service["live"], &service["green"]["weight"]),
        (&json!(ends_at), &json!(f64::from(ends_at == "green"))),
        "{told}"
    );
    assert_eq!(Client::http1(&proxy).await.get("/").await.backend(), Some(ends_at), "{told}");
    let history = proxy.api("GET", "/v1/history", Value::Null).await.1;
    let Some(before) = before else { return assert_eq!(history, json!([]), "what was not written was not wished") };
    assert_eq!(history.as_array().unwrap().len(), 1, "{told}: {history:#}");
    let outcome = if leads_back { "rolled_back" } else { "done" };
    assert_eq!((&history[0]["id"], &history[0]["outcome"]), (&before["id"], &json!(outcome)), "{told}: {history:#}");
    assert_eq!(history[0]["generation"], service["generation"], "{told}");
    assert_eq!(service["generation"], u64::from(ends_at == "green"), "{told}: nothing is switched twice");
    let since = &history[0]["proof"]["requests_to_old_since"];
    assert!(since.is_null() || since == 0, "{told}: {history:#}");
    let gates = before["gates"].as_array().unwrap();
    let is_decided = gates.iter().any(|gate| gate["name"] == "smoke" && gate["state"] != "waiting");
    let asked = fs::read_to_string(&mark).unwrap_or_default();
    assert_eq!(asked.lines().count(), usize::from(!is_decided && !leads_back), "{told}: a gate is asked again");
}

/// Starts a proxy behind each line, a few at one time.
async fn walk(stage: &Stage, whole: &[u8], torn: bool) {
    let ends = ends(whole);
    let lines = ends.windows(2).map(|line| (line[0], line[1]));
    let crashes = lines.map(|(end, next)| Crash { whole, end, torn: if torn { (next - end) / 2 } else { 0 } });
    let behind_all = (!torn).then_some(Crash { whole, end: whole.len(), torn: 0 });
    stream::iter(crashes.chain(behind_all)).for_each_concurrent(AT_ONCE, |crash| survives(crash, stage)).await;
}

async fn staged() -> Stage {
    let stage = Stage::start(|service| shop(service, "/dev/null"), |_| {}).await;
    // So long that what a busy machine adds to it is no difference between the colors.
    stage.backends.iter().for_each(|backend| backend.take(Duration::from_millis(100)));
    stage
}

/// A cutover that goes through all there is, and its journal.
async fn whole_course() -> (Stage, Vec<u8>) {
    let mut stage = staged().await;
    stage.until_at("blue").await;
    let crowd = Crowd::of(4).think(Duration::from_millis(5)).start(&stage.proxy);
    order(&stage.proxy, "switch", json!({ "to": "green", "timeout": "1ms" })).await;
    bring_to_its_end(&stage.proxy).await;
    stage.until_at("green").await;
    crowd.stop().await.assert_nothing_lost();
    let journal = journal_of(&mut stage).await;
    (stage, journal)
}

/// One whose share is taken back on the way, and its journal.
async fn course_that_turns() -> (Stage, Vec<u8>) {
    let mut stage = staged().await;
    order(&stage.proxy, "switch", json!({ "to": "green", "timeout": "1ms" })).await;
    until_phase(&stage.proxy, "gates").await;
    order(&stage.proxy, "approve", json!({})).await;
    // Nobody comes, so that it waits in its first step.
    until_phase(&stage.proxy, "paused").await;
    order(&stage.proxy, "abort", Value::Null).await;
    until_phase(&stage.proxy, "idle").await;
    let journal = journal_of(&mut stage).await;
    (stage, journal)
}

async fn journal_of(stage: &mut Stage) -> Vec<u8> {
    stage.proxy.kill9().await;
    fs::read(stage.proxy.state_dir().join("journal.jsonl")).unwrap()
}

#[tokio::test]
async fn behind_every_line_of_the_whole_course_it_goes_on_to_its_end() {
    let (stage, whole) = whole_course().await;
    let phases = phases(&whole);
    // And most often its bake, unless it has been found good before the old color is empty.
    for wanted in ["prepare", "gates", "canary", "confirm", "switch", "drain", "dns", "done"] {
        assert!(phases.iter().any(|phase| phase == wanted), "{wanted} is not in {phases:?}");
    }
    walk(&stage, &whole, false).await;
}

#[tokio::test]
async fn behind_half_a_line_of_the_whole_course_it_goes_on_as_if_that_had_not_been_begun() {
    let (stage, whole) = whole_course().await;
    walk(&stage, &whole, true).await;
}

#[tokio::test]
async fn behind_every_line_of_one_that_turns_in_its_canary_the_share_is_taken_back_or_it_goes_on() {
    let (stage, whole) = course_that_turns().await;
    let phases = phases(&whole);
    assert!(phases.ends_with(&["roll_back", "drain_back", "rolled_back"].map(str::to_owned)), "{phases:?}");
    walk(&stage, &whole, false).await;
}

/// Proxies that run beside each other.
const AT_ONCE: usize = 6;
/// What each may take in all, on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(60);
