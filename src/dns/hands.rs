//! The hands of a follower: they read and write the zone and ask name servers, and say what came of it. Each has a deadline.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use super::machine::{Effect, Event};
use super::plan::{leading, names, own, same};
use super::verify::{Heard, Proof, prove};
use super::zone::{NameServer, RecordSet, Zone, ZoneError};
use crate::config;
use crate::names::{DnsName, Side};
use crate::time::{self, Clock, Timestamp};

/// What effects work with.
#[derive(Clone)]
pub struct Hands {
    pub zone: Arc<dyn Zone>,
    pub rules: Arc<config::Dns>,
    pub clock: Clock,
}

impl Hands {
    /// What an effect comes to; `to` is where names are being led.
    pub fn perform(&self, effect: Effect, to: Side) -> BoxFuture<'static, Event> {
        let hands = self.clone();
        Box::pin(async move {
            match effect {
                Effect::Look => Event::Read(hands.look().await, attempt()),
                Effect::Send(batch) => {
                    let silent = || ZoneError::Unknown(format!("nothing came within {} s", CALL.as_secs()));
                    let sent = timeout(CALL, hands.zone.change(&batch)).await;
                    Event::Sent(sent.unwrap_or_else(|_| Err(silent())))
                }
                Effect::Ask(change) => {
                    let asked = timeout(CALL, hands.zone.progress(&change)).await;
                    Event::Asked(asked.unwrap_or_else(|_| Err(silent())))
                }
                Effect::Prove => Event::Proved(hands.prove(to).await),
                Effect::Wake(at) => {
                    hands.clock.until(at).await;
                    Event::Woke
                }
                Effect::Later(effect, tries) => {
                    sleep(time::pause(tries)).await;
                    hands.perform(*effect, to).await
                }
                Effect::Rest => {
                    sleep(REST).await;
                    Event::Resume
                }
            }
        })
    }

    /// By when an effect has come to something.
    pub fn deadline(&self, effect: &Effect) -> Timestamp {
        let within = match effect {
            Effect::Wake(at) => return *at,
            Effect::Look | Effect::Prove => CALL * 2,
            Effect::Send(_) | Effect::Ask(_) => CALL,
            Effect::Later(effect, tries) => {
                let then = self.deadline(effect);
                return then.checked_add(time::longest_pause(*tries)).unwrap_or(then);
            }
            Effect::Rest => REST,
        };
        let now = self.clock.now();
        now.checked_add(within).unwrap_or(now)
    }

    /// Everything that a plan is made from.
    pub async fn look(&self) -> Result<Vec<RecordSet>, ZoneError> {
        self.read(names(&self.rules)).await
    }

    async fn read(&self, names: BTreeSet<DnsName>) -> Result<Vec<RecordSet>, ZoneError> {
        let all = async {
            let mut found = Vec::new();
            for name in names {
                found.extend(self.zone.records(&name).await?);
            }
            Ok(found)
        };
        timeout(CALL * 2, all).await.unwrap_or_else(|_| Err(silent()))
    }

    /// Asks every name server whether it says what the zone says, and sees to it that the zone leads there.
    async fn prove(&self, to: Side) -> Proof {
        let at = self.clock.now();
        let heard = |wrong: String| {
            let of = |record: &config::DnsRecord| Heard {
                server: "zone".to_owned(),
                name: record.name.clone(),
                kind: record.kind,
                samples: 0,
                wrong: Some(wrong.clone()),
            };
            Proof { at, heard: self.rules.records.iter().map(of).collect() }
        };
        let records = self.rules.records.iter().map(|record| record.name.clone()).collect();
        let (servers, found) = match (self.servers().await, self.read(records).await) {
            (Ok(servers), Ok(found)) => (servers, found),
            (Err(error), _) | (_, Err(error)) => return heard(error.to_string()),
        };
        let written: Vec<RecordSet> = own(&self.rules, &found).cloned().collect();
        if !same(&written, &leading(&self.rules, to, 0), false) {
            return heard(format!("the records no longer lead to {to}"));
        }
        prove(&servers, &written, at).await
    }

    async fn servers(&self) -> Result<Vec<NameServer>, ZoneError> {
        if let Some(servers) = &self.rules.name_servers {
            return Ok(servers.iter().copied().map(NameServer::At).collect());
        }
        let described = timeout(CALL, self.zone.describe()).await.unwrap_or_else(|_| Err(silent()));
        Ok(described?.name_servers.into_iter().map(NameServer::Named).collect())
    }
}

/// A name that no other batch has.
pub fn attempt() -> String {
    format!("{:016x}", fastrand::u64(..))
}

fn silent() -> ZoneError {
    ZoneError::Unreachable(format!("nothing came within {} s", CALL.as_secs()))
}

/// A call to the zone; whoever implements it has a shorter deadline of its own.
const CALL: Duration = Duration::from_secs(60);
/// Between two tries where only somebody else can mend what is wrong.
const REST: Duration = Duration::from_mins(10);
