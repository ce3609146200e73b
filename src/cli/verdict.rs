//! What came of an order: in words, and as the code the command exits with.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::progress::count;
use super::status::in_words;
use super::{Failure, client, out};
use crate::admin::{HELD, Outcome, Problem, Proof};
use crate::cutover::{Kind, Plan, Probed, Warmed};
use crate::names::{Color, ServiceName};
use crate::time::Human;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Switch(Color),
    /// Away from this color, where one is named.
    Rollback(Option<Color>),
    Abort,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Switch(to) => write!(f, "switch to {to}"),
            Order::Rollback(_) => f.write_str("rollback"),
            Order::Abort => f.write_str("abort"),
        }
    }
}

/// The words for it, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub text: String,
    pub code: u8,
}

impl Verdict {
    /// Prints it, as `document` where JSON is asked for, and ends the command.
    pub fn end(self, document: Option<String>) -> Result<(), Failure> {
        let Verdict { text, code } = self;
        match (code, document) {
            (0, document) => out::line(&document.unwrap_or(text)),
            (code, Some(document)) => Err(Failure::Answer(document, code)),
            (4, None) => Err(Failure::Held(text)),
            (2, None) => Err(Failure::Usage(text)),
            (_, None) => Err(Failure::Failed(text)),
        }
    }
}

/// What an outcome is worth to the one who gave the order; `over` where the time he waits was over before.
pub fn of(order: Order, outcome: &Outcome, over: Option<Duration>) -> Verdict {
    let verdict = of_course(order, outcome, over);
    let probed = outcome.proof.as_ref().and_then(|proof| proof.probed.as_ref());
    match probed {
        // It is not what it says.
        Some(probed) if !probed.astray.is_empty() && verdict.code == 0 => Verdict { code: 1, ..verdict },
        _ => verdict,
    }
}

fn of_course(order: Order, outcome: &Outcome, over: Option<Duration>) -> Verdict {
    let Outcome { service, live, to, .. } = outcome;
    let id = outcome.id.as_deref().unwrap_or("-");
    let what = if outcome.kind == Some(Kind::Rollback) { "rollback" } else { "cutover" };
    let good = |text: String| Verdict { text: format!("{service}: {text}"), code: 0 };
    let bad = |text: String| Verdict { text: format!("{service}: {text}"), code: 1 };
    match (order, outcome.outcome.as_deref()) {
        _ if outcome.is_undecided() => undecided(&order.to_string(), outcome),
        (_, Some("taken_back")) => {
            good(format!("{live} stays live; before its turn was taken back{}", indented(&outcome.reasons)))
        }
        (_, Some("unchanged")) => good(format!("{live} is live already; nothing to do")),
        (_, None) => match over {
            Some(over) => bad(format!("after {} the {what} to {to} is not over{}", Human(over), goes_on(outcome, id))),
            None if order == Order::Abort && matches!(outcome.phase.as_str(), "roll_back" | "drain_back") => {
                good(format!(
                    "the {what} to {to} is on its way back: {live} is live, {to} is draining (cutover {id}){}",
                    follow(service)
                ))
            }
            // It is granted; only a share that the new color has takes a while. What keeps it stands behind who wants it back.
            None if order == Order::Abort => good(format!(
                "the {what} to {to} is turned back: its share goes to {live} again as soon as that can take it (cutover {id}){}{}",
                indented(outcome.reasons.get(1..).unwrap_or_default()),
                follow(service)
            )),
            None if outcome.phase == "paused" => bad(paused(outcome, id)),
            None if matches!(outcome.phase.as_str(), "bake" | "dns") && outcome.drained == Some(false) => {
                drained(outcome, id)
            }
            None if matches!(outcome.phase.as_str(), "bake" | "dns") => {
                let follows = if outcome.phase == "bake" {
                    format!("{live} is judged by what it does")
                } else {
                    "names follow".to_owned()
                };
                good(format!(
                    "{live} is live, {} is drained; {follows} (cutover {id}){}{}",
                    live.other(),
                    figures(outcome),
                    follow(service)
                ))
            }
            None if matches!(order, Order::Switch(wanted) if wanted != *live) => bad(format!(
                "the {what} to {to} is rolled back; {live} is live again, and {to} is draining (cutover {id}){}{}",
                indented(&outcome.reasons),
                follow(service)
            )),
            None => good(format!(
                "{live} is live, {} is draining (cutover {id}){}{}",
                live.other(),
                figures(outcome),
                follow(service)
            )),
        },
        (_, Some("aborted")) => {
            // Whoever turns a switch around before it has switched gets what he wanted.
            let wanted =
                order == Order::Abort || matches!(order, Order::Rollback(_)) && outcome.kind == Some(Kind::Switch);
            let why = indented(&outcome.reasons);
            match wanted {
                true => good(format!(
                    "the {what} to {to} is aborted; {live} stays live, nothing has changed (cutover {id})"
                )),
                false => bad(format!(
                    "the {what} to {to} was aborted; nothing has changed, {live} is live (cutover {id}){why}"
                )),
            }
        }
        (Order::Switch(wanted), Some(_)) if wanted != *live => {
            let why = indented(&outcome.reasons);
            bad(format!("the {what} to {to} was rolled back; {live} is live again (cutover {id}){why}"))
        }
        (Order::Rollback(_), Some("done")) => {
            bad(format!("there was no way back any more; {live} is live (cutover {id})"))
        }
        (_, Some(_)) => drained(outcome, id),
    }
}

/// The same where the proxy calls it a problem; the document to print is the problem, or the outcome where that is good.
pub fn of_problem(service: &ServiceName, order: Order, problem: &Problem) -> (Verdict, String) {
    let outcome: Option<Outcome> = serde_json::from_value(Value::Object(problem.more.clone())).ok();
    let verdict = match &outcome {
        Some(outcome) => of(order, outcome, None),
        None => refused(service, problem),
    };
    let document = match outcome.filter(|_| verdict.code == 0) {
        Some(outcome) => serde_json::to_string(&outcome),
        None => serde_json::to_string(problem),
    };
    (verdict, document.unwrap_or_default())
}

/// What a rehearsal says; it exits with what the switch itself would exit with now.
pub fn of_plan(plan: &Plan) -> Verdict {
    let Plan { service, live, to, .. } = plan;
    if live == to && plan.held.is_none() {
        return Verdict { text: format!("{service}: {live} is live already; a switch would do nothing"), code: 0 };
    }
    let gates: String = plan
        .gates
        .iter()
        .map(|gate| format!("\n  gate {}: {}: {}", gate.name, gate.state.as_str(), gate.says))
        .collect();
    let steps: String = plan.steps.iter().enumerate().map(|(i, step)| format!("\n  {}. {step}", i + 1)).collect();
    match &plan.held {
        Some(held) => Verdict {
            text: format!("{service}: a switch to {to} would be refused now; {live} is live\n  {held}"),
            code: 4,
        },
        None if plan.would_switch => Verdict {
            text: format!("{service}: {live} is live; a switch to {to} would{steps}{gates}\nNothing has been changed."),
            code: 0,
        },
        None => {
            let why = indented(&plan.reasons);
            Verdict {
                text: format!(
                    "{service}: {live} is live; {to} is not fit to be live now{why}\nNothing has been changed."
                ),
                code: 1,
            }
        }
    }
}

/// It went where it was meant to; what is left is whether the old color is empty.
fn drained(outcome: &Outcome, id: &str) -> Verdict {
    let Outcome { service, live, .. } = outcome;
    let (old, figures) = (live.other(), figures(outcome));
    if outcome.drained == Some(true) {
        return Verdict {
            text: format!("{service}: {live} is live, {old} is drained (cutover {id}){figures}"),
            code: 0,
        };
    }
    if outcome.restarted {
        return Verdict {
            text: format!("{service}: {live} is live; {DRAIN_UNKNOWN} (cutover {id}){figures}"),
            code: 1,
        };
    }
    let left = outcome.requests_left;
    let (requests, are) = (count(left, "request"), if left == 1 { "is" } else { "are" });
    Verdict {
        text: format!(
            "{service}: {live} is live, but {old} did not drain within its deadline: {requests} {are} still running and {are} left to \
             finish; watch with \"cutover status {service}\" (cutover {id}){figures}"
        ),
        code: 1,
    }
}

/// The proxy has come to the order and there is no word on it yet; there will be one whoever waits.
pub fn undecided(order: &str, outcome: &Outcome) -> Verdict {
    let Outcome { service, reasons, .. } = outcome;
    let (why, follow) = (indented(reasons), follow(service));
    Verdict {
        text: format!("{service}: there is no word on the {order} yet; it goes on without us{why}{follow}"),
        code: 1,
    }
}

/// Nothing moves until somebody says how to go on.
fn paused(outcome: &Outcome, id: &str) -> String {
    let Outcome { service, from, live, to, .. } = outcome;
    let (why, ways) = (indented(&outcome.reasons), indented(&ways_on(service, *from, *live, outcome.returning)));
    format!("the cutover to {to} waits for an operator; {live} is live (cutover {id}){why}{ways}")
}

/// What can be done about a pause. One that cannot go back has been told to already, and another order would add nothing.
pub fn ways_on(service: &ServiceName, from: Color, live: Color, returning: bool) -> [String; 2] {
    let back = match (returning, live == from) {
        (true, _) => format!("it goes back by itself as soon as {from} is good"),
        (false, true) => format!("go back:  cutover abort {service}"),
        (false, false) => format!("go back:  cutover rollback {service}"),
    };
    [format!("go on all the same:  cutover approve {service}"), back]
}

/// The time to wait is over, the cutover is not.
fn goes_on(outcome: &Outcome, id: &str) -> String {
    let (phase, live) = (in_words(&outcome.phase), outcome.live);
    let follow = follow(&outcome.service);
    format!(": it is in its phase {phase}, {live} is live, and it goes on without us (cutover {id}){follow}")
}

fn follow(service: &ServiceName) -> String {
    format!("\n  follow it: cutover status {service} --watch")
}

/// What was measured, each line indented, beginning with a line break.
fn figures(outcome: &Outcome) -> String {
    let old = outcome.live.other();
    let mut lines = Vec::new();
    if let (Some(switch), Some(proof)) = (outcome.switch_us, &outcome.proof) {
        let Proof { workers, workers_answered, .. } = proof;
        let switch = Human(Duration::from_micros(switch));
        let drained = outcome.drain_ms.filter(|_| outcome.drained == Some(true));
        let drained = drained.map_or(String::new(), |drain| format!("; drained in {}", in_millis(drain)));
        lines.push(format!("switched in {switch} on {workers_answered} of {workers} workers{drained}"));
        if workers_answered < workers {
            lines.push(format!("a worker is stuck; {old} is closed all the same, and takes no request from it"));
        }
        let since = outcome.drained.map_or(String::new(), |_| format!("; since then: {}", proof.requests_to_old_since));
        lines.push(match proof.last_request_to_old {
            Some(last) => format!("last request to {old}: {}{since}", last.strftime("%H:%M:%S%.6fZ")),
            None => format!("last request to {old}: none since the proxy started{since}"),
        });
        lines.extend(proof.probed.iter().flat_map(probed_says));
    }
    if let Some(Warmed { warm_ms, connections, of_requests, .. }) = &outcome.warmed
        && outcome.proof.is_some()
    {
        let (took, connections) = (in_millis(*warm_ms), count(*connections, "connection"));
        lines.push(format!(
            "{} was warmed up in {took} before: {connections}, {}",
            outcome.to,
            count(*of_requests, "request")
        ));
    }
    if outcome.tunnels_closed > 0 {
        let closed = count(outcome.tunnels_closed, "tunnel");
        lines.push(format!("{closed} to {old} did not end by the deadline and had to be closed"));
    }
    indented(&lines)
}

/// What the proxy has found by asking itself, the findings each on a line of its own.
pub fn probed_says(probed: &Probed) -> Vec<String> {
    let Probed { workers, probed: seen, saw, listeners, probes, took_ms, astray, unproved } = probed;
    let sees = match saw {
        Some(color) => format!("{seen} of {workers} workers lead to {color}"),
        None if *listeners == 0 => "no worker has answered".to_owned(),
        None => "workers lead to both colors".to_owned(),
    };
    let (listeners, probes) = (count(*listeners as u64, "listener"), count(*probes, "probe"));
    let first = format!("asked through {listeners}: {sees} ({probes}, {})", in_millis(*took_ms));
    let astray = astray.iter().map(|why| format!("NOT SWITCHED: {why}"));
    [first].into_iter().chain(astray).chain(unproved.iter().map(|why| format!("not proved: {why}"))).collect()
}

/// Milliseconds as people write them; none is less than one, not nothing.
pub fn in_millis(millis: u64) -> String {
    match millis {
        0 => "< 1 ms".to_owned(),
        millis => Human(Duration::from_millis(millis)).to_string(),
    }
}

/// The proxy would not begin.
fn refused(service: &ServiceName, problem: &Problem) -> Verdict {
    let detail = &problem.detail;
    if problem.kind == HELD {
        let see = format!("see how far it is:  cutover status {service}");
        let end = match problem.more.get("switched") {
            Some(Value::Bool(true)) => format!("go back:  cutover rollback {service}"),
            _ => format!(
                "end it before it has switched:  cutover abort {service}\n  go back after that:  cutover rollback {service}"
            ),
        };
        let text = format!("{service}: {detail}\n  {see}\n  {end}");
        return Verdict { text, code: 4 };
    }
    let mut reasons: Vec<String> = problem
        .more
        .get("reasons")
        .and_then(|reasons| serde_json::from_value(reasons.clone()).ok())
        .unwrap_or_default();
    // The detail ends with the reasons in one line; here each has its own.
    let head = match detail.strip_suffix(&reasons.join("; ")) {
        Some(head) if !reasons.is_empty() => format!("{}; nothing has changed", head.trim_end_matches(": ")),
        _ => detail.clone(),
    };
    reasons.extend(client::hint(problem).map(str::to_owned));
    Verdict { text: format!("{service}: {head}{}", indented(&reasons)), code: client::exit_code(problem) }
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

/// Of the color that was to drain.
pub const DRAIN_UNKNOWN: &str = "whether it drained is not known: the proxy was restarted meanwhile";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An outcome of blue → green, with the fields that differ.
    fn outcome(differing: Value) -> Outcome {
        let mut outcome = json!({
            "id": "c1", "service": "shop", "kind": "switch", "from": "blue", "to": "green", "live": "green",
            "outcome": "done", "phase": "done", "generation": 1, "by": "uid 0", "reason": null, "started": null,
            "ended": null, "switch_us": 438, "drain_ms": 12, "drained": true, "requests_left": 0, "tunnels_closed": 0,
            "proof": {"switched": "2026-11-22T22:28:28Z", "last_request_to_old": "2026-11-22T22:28:28.529718Z",
                "requests_to_old_since": 0, "workers": 4, "workers_answered": 4, "probed": {"workers": 4, "probed": 4,
                "saw": "green", "listeners": 2, "probes": 17, "took_ms": 3}},
            "reasons": []
        });
        differing.as_object().unwrap().iter().for_each(|(key, value)| outcome[key] = value.clone());
        serde_json::from_value(outcome).unwrap()
    }

    #[test]
    fn a_drained_switch_shows_its_proof() {
        let Verdict { text, code } = of(Order::Switch(Color::Green), &outcome(json!({})), None);
        let lines = [
            "shop: green is live, blue is drained (cutover c1)",
            "  switched in 438 µs on 4 of 4 workers; drained in 12 ms",
            "  last request to blue: 22:28:28.529718Z; since then: 0",
            "  asked through 2 listeners: 4 of 4 workers lead to green (17 probes, 3.0 ms)",
        ];
        assert_eq!((text.lines().collect::<Vec<_>>(), code), (lines.to_vec(), 0));
    }

    #[test]
    fn a_switch_whose_old_color_was_not_empty_in_its_time_is_no_success_though_it_bakes() {
        let baking = json!({"outcome": null, "phase": "bake", "drained": false, "requests_left": 2});
        let Verdict { text, code } = of(Order::Switch(Color::Green), &outcome(baking), None);
        assert!(
            code == 1 && text.contains("blue did not drain within its deadline: 2 requests are still running"),
            "{text}"
        );
    }

    #[test]
    fn an_abort_that_takes_a_share_back_is_granted_and_says_so() {
        for phase in ["canary", "paused"] {
            let turned = json!({"outcome": null, "phase": phase, "live": "blue", "proof": null});
            let Verdict { text, code } = of(Order::Abort, &outcome(turned), None);
            assert!(
                code == 0 && text.starts_with("shop: the cutover to green is turned back: its share goes to blue"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_switch_that_a_worker_has_not_made_is_no_success_and_one_that_could_not_be_proved_is() {
        let mut told = outcome(json!({}));
        let mut probed = |differing: Value| {
            let of_all = json!({"workers": 2, "probed": 2, "saw": null, "listeners": 1, "probes": 5, "took_ms": 0});
            let mut probed = of_all.as_object().unwrap().clone();
            probed.extend(differing.as_object().unwrap().clone());
            told.proof.as_mut().unwrap().probed = serde_json::from_value(Value::Object(probed)).unwrap();
            of(Order::Switch(Color::Green), &told, None)
        };
        let astray = probed(json!({"astray": ["worker 1 leads to blue"]}));
        assert!(astray.code == 1 && astray.text.contains("both colors (5 probes, < 1 ms)\n  NOT SWITCHED: worker 1"));
        let unproved = probed(json!({"probed": 0, "listeners": 0, "unproved": ["127.0.0.1:80 could not be asked"]}));
        let says =
            "asked through 0 listeners: no worker has answered (5 probes, < 1 ms)\n  not proved: 127.0.0.1:80 could";
        assert!(unproved.code == 0 && unproved.text.contains(says), "{unproved:?}");
    }

    #[test]
    fn who_is_held_up_is_told_what_ends_it_at_that_point() {
        let told = |switched: bool| {
            let problem =
                json!({"type": HELD, "title": "Conflict", "status": 409, "detail": "held", "switched": switched});
            refused(&"shop".parse().unwrap(), &serde_json::from_value(problem).unwrap())
        };
        let (before, behind) = (told(false), told(true));
        assert!(before.code == 4 && before.text.contains("cutover abort shop"), "{before:?}");
        assert!(behind.code == 4 && behind.text.ends_with("go back:  cutover rollback shop"), "{behind:?}");
        assert!(!behind.text.contains("abort"), "there is nothing to abort any more: {behind:?}");
    }

    #[test]
    fn the_same_outcome_is_worth_what_was_asked_for() {
        let (green, back, abort) = (Order::Switch(Color::Green), Order::Rollback(None), Order::Abort);
        let aborted = json!({"outcome": "aborted", "phase": "aborted", "live": "blue", "proof": null});
        let own = json!({"outcome": "aborted", "phase": "aborted", "live": "blue", "proof": null, "kind": "rollback"});
        let turned = json!({"outcome": "rolled_back", "phase": "rolled_back", "live": "blue"});
        let undrained = json!({"drained": false, "requests_left": 1});
        let under_way = json!({"outcome": null, "phase": "drain", "drained": null, "drain_ms": null});
        let sent_back = json!({"outcome": null, "phase": "drain_back", "live": "blue", "drained": null});
        for (order, differing, code, says) in [
            (green, &aborted, 1, "was aborted; nothing has changed, blue is live"),
            (abort, &aborted, 0, "is aborted; blue stays live"),
            (back, &aborted, 0, "is aborted; blue stays live"),
            (back, &own, 1, "the rollback to green was aborted"),
            (green, &turned, 1, "was rolled back; blue is live again"),
            (back, &turned, 0, "blue is live, green is drained"),
            (back, &json!({}), 1, "no way back any more; green is live"),
            (abort, &turned, 0, "blue is live, green is drained"),
            (green, &json!({"outcome": null, "phase": "bake"}), 0, "green is live, blue is drained; green is judged"),
            (
                green,
                &json!({"outcome": null, "phase": "paused", "reasons": ["too few"]}),
                1,
                "waits for an operator; green is live",
            ),
            (
                green,
                &json!({"outcome": null, "phase": "paused", "live": "blue"}),
                1,
                "cutover approve shop\n  go back:  cutover abort shop",
            ),
            (
                green,
                &json!({"outcome": null, "phase": "paused", "live": "blue", "returning": true}),
                1,
                "cutover approve shop\n  it goes back by itself as soon as blue is good",
            ),
            (green, &undrained, 1, "1 request is still running and is left to finish"),
            (green, &under_way, 0, "green is live, blue is draining"),
            (green, &sent_back, 1, "is rolled back; blue is live again, and green is draining"),
            (back, &sent_back, 0, "blue is live, green is draining"),
            (green, &json!({"tunnels_closed": 2}), 0, "2 tunnels to blue did not end by the deadline"),
        ] {
            let verdict = of(order, &outcome(differing.clone()), None);
            assert!(verdict.code == code && verdict.text.contains(says), "{order:?} {differing}: {verdict:?}");
        }
        let over = of(green, &outcome(under_way), Some(Duration::from_secs(300)));
        assert!(over.code == 1 && over.text.contains("after 5m 00s") && over.text.contains("goes on"), "{over:?}");
    }
}
