//! The rehearsal of a switch: every check, every gate, every guard and a forecast; it changes nothing.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::ask;
use super::desk::{Denied, Desk};
use super::driver::draft;
use super::fitness::fitness;
use super::gate::{Gate, GateState};
use super::machine::Bar;
use super::state::Kind;
use super::web::Web;
use crate::config::{self, Bake, Drain, Warm};
use crate::names::Color;
use crate::pool::Readiness;
use crate::table::Service;
use crate::time::Human;

/// What a switch would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub service: String,
    pub live: Color,
    pub to: Color,
    pub would_switch: bool,
    /// Why it would not, where it would not.
    pub reasons: Vec<String>,
    /// Who holds the service, where somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What has to hold before the switch, as it stands now. An operator's word cannot be rehearsed.
    #[serde(default)]
    pub gates: Vec<Gate>,
    pub steps: Vec<String>,
}

impl Desk {
    /// What `switch` would do now, step by step, with a fresh look at the color's health, and every gate asked as it
    /// would be: webhooks and commands are told that it is a rehearsal.
    pub async fn rehearse(&self, to: Color, by: String) -> Plan {
        let service = self.service();
        let rules = &service.rules.cutover;
        let live = self.entry().map_or(to.other(), |entry| entry.live);
        let held = self.current().map(|cutover| Denied::Held(Box::new(cutover)).to_string());
        let (mut reasons, mut gates) = (vec![format!("{to} is live already: nothing to do")], Vec::new());
        if live != to {
            service.pools[to].check_now().await;
            let (readiness, own) = fitness(&service, rules, to, Bar::Fit);
            reasons = match readiness {
                Readiness::Ready => Vec::new(),
                Readiness::Rising(reasons) | Readiness::Unready(reasons) => reasons,
            };
            gates = own;
            gates.extend(self.ask_all(&service.rules, to, by).await);
            let refused = gates.iter().filter(|gate| gate.state == GateState::Refused && !gate.is_own());
            reasons.extend(refused.map(|gate| format!("gate {}: {}", gate.name, gate.says)));
        }
        let would_switch = reasons.is_empty() && held.is_none();
        let steps = self.steps(&service, to);
        Plan { service: self.name().to_string(), live, to, would_switch, reasons, held, gates, steps }
    }

    async fn ask_all(&self, rules: &config::Service, to: Color, by: String) -> Vec<Gate> {
        let mut cutover = draft(rules, Kind::Switch, to, by);
        cutover.id = format!("{}{}", ask::REHEARSAL, cutover.id);
        let (cutover, both) = (&cutover, cutover.gates.iter().zip(&rules.cutover.gates));
        join_all(both.map(|(gate, rules)| ask::rehearse(gate, rules, cutover, &Web))).await
    }

    fn steps(&self, service: &Service, to: Color) -> Vec<String> {
        let (rules, pools, old) = (&service.rules.cutover, &service.pools, to.other());
        let (all, needed) = (pools[to].health().len(), rules.min_healthy.of(pools[to].health().len()));
        let mut steps = vec![format!("prepare: check the {all} endpoints of {to} now; {needed} of them must be up")];
        if !rules.gates.is_empty() {
            let names: Vec<&str> = rules.gates.iter().map(|gate| gate.name.as_str()).collect();
            steps.push(format!("gates: ask {}", names.join(", ")));
        }
        steps.extend(rules.warm.as_ref().map(|warm| warm_says(warm, to, pools[to].good())));
        for step in &rules.canary {
            steps.push(format!(
                "canary: give {to} {} of the clients for {}, and judge it",
                step.weight,
                Human(step.lasts)
            ));
        }
        if !rules.ramp.is_zero() {
            steps.push(format!("ramp: let the share of {to} rise to all of the clients within {}", Human(rules.ramp)));
        }
        steps.push(format!("switch: publish {to} to every worker, then close {old}"));
        let Drain { requests, tunnels } = &rules.drain;
        let inside = pools[old].turnstile.inside();
        steps.push(format!(
            "drain: wait up to {} for the requests inside {old}: {} now{}",
            Human(*requests),
            inside.requests,
            self.forecast(old, *requests)
        ));
        steps.push(format!(
            "drain: wait up to {} for its tunnels: {} now; then close them",
            Human(*tunnels),
            inside.tunnels
        ));
        steps.extend(rules.bake.as_ref().map(|bake| bake_says(bake, to)));
        steps.extend(service.rules.dns.as_ref().map(|dns| {
            let (within, records, zone) = (Human(dns.deadline), dns.records.len(), &dns.zone);
            format!("dns: wait up to {within} until the records in zone {zone} ({records}) lead to {to}; then it is done in any case")
        }));
        steps
    }

    /// How long the drain will take if requests are as long as they have been in the last minute.
    fn forecast(&self, old: Color, limit: Duration) -> String {
        let minute = self.recorder.minute(old, limit).tally.latency;
        let (Some(most), Some(all)) = (minute.quantile(0.99), minute.quantile(1.0)) else {
            return String::new();
        };
        let late = if all > limit { ", and some were longer than there is time" } else { "" };
        format!("; in the last minute 99 of 100 took up to {}, the longest {}{late}", Human(most), Human(all))
    }
}

fn warm_says(warm: &Warm, to: Color, up: usize) -> String {
    let Warm { connections, lasts, rate, max_error_share, deadline, .. } = warm;
    let requests = match warm.requests_each() {
        0 => String::new(),
        each => {
            let lasts = Human(*lasts);
            format!(", then {each} requests over {lasts}, at up to {rate} a second; at most {max_error_share} may fail")
        }
    };
    let deadline = Human(*deadline);
    format!(
        "warm: give each of the {up} endpoints of {to} that are up {connections} connections{requests}; within {deadline}"
    )
}

fn bake_says(bake: &Bake, to: Color) -> String {
    let Bake { length, min_requests, max_error_share, max_slowdown, .. } = bake;
    format!(
        "bake: judge {to} for {} by {min_requests} requests or more: at most {max_error_share} may fail, or be {max_slowdown} slower \
         than before; else go back",
        Human(*length)
    )
}
