//! `cutover approve`: an operator's yes to a gate, or to going on after a pause.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::client::{self, Client};
use super::status::in_words;
use super::{Failure, Global, Of, out, verdict};
use crate::admin::Outcome;

/// Let a cutover go on that waits for an operator: at a gate, or in a pause
#[derive(Args)]
#[command(
    long_about = "Let a cutover go on that waits for an operator: at a gate, or in a pause.\n\n\
        `cutover status` says what it waits for. In a pause this overrules what speaks against the new color: a gate \
        that said no is waived, a canary goes on to its next step, and after the switch the new color is kept. The \
        other way out of a pause is `cutover abort` before the switch and `cutover rollback` after it; one that cannot \
        go back, since the old color is no better, does so by itself as soon as that is good.",
    after_help = "Examples:
  cutover approve
  cutover approve shop --gate qa    this gate only"
)]
pub struct Approve {
    #[command(flatten)]
    of: Of,
    /// Only the gate of this name, and no other pause [default: whatever waits for an operator]
    #[arg(long, value_name = "NAME")]
    gate: Option<String>,
}

impl Approve {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let service = client.service(&self.of).await?;
            let body = json!({ "gate": self.gate });
            let path = format!("/v1/services/{service}/approve");
            let answer = client.post(&path, &body, Some(Duration::ZERO)).await.map_err(client.fails())?;
            let outcome: Outcome = answer.read().map_err(client.fails())?;
            if outcome.is_undecided() {
                return verdict::undecided("approval", &outcome).end(global.json.then_some(answer.text));
            }
            if global.json {
                return out::line(&answer.text);
            }
            let id = outcome.id.as_deref().unwrap_or("-");
            let waits: String = outcome.reasons.iter().map(|reason| format!("\n  {reason}")).collect();
            out::line(&format!(
                "{service}: approved; the cutover is in its phase {} (cutover {id}){waits}",
                in_words(&outcome.phase)
            ))
        })
    }
}
