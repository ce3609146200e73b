//! The demo's operator: asks and orders over the admin socket, with the client that every other command has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use crate::admin::{Outcome, Status};
use crate::cli::Global;
use crate::cli::client::{Answer, Client, Trouble};
use crate::names::Color;

pub struct Operator {
    pub address: String,
    client: Client,
}

impl Operator {
    pub fn new(socket: &Path) -> anyhow::Result<Operator> {
        let address = format!("unix:{}", socket.display());
        let global = Global { config: PathBuf::new(), admin: Some(address.clone()), token_file: None, json: false };
        let client = Client::new(&global).ok().with_context(|| format!("{address} is no admin address"))?;
        Ok(Operator { address, client })
    }

    /// Asks until the live color has passed its health checks.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        loop {
            let status = self.client.get("/v1/status").await.and_then(|answer| answer.read::<Status>());
            if status.map_err(told)?.services.iter().all(|service| service.is_ready()) {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Whether a switch to `to` would happen now; nothing changes.
    pub async fn rehearse(&self, to: Color) -> anyhow::Result<bool> {
        let plan: Value = self.order(json!({"to": to, "dry_run": true})).await?.read().map_err(told)?;
        Ok(plan["would_switch"] == true)
    }

    /// Returns when `to` is live on every worker and the other color has drained.
    pub async fn switch(&self, to: Color) -> anyhow::Result<Outcome> {
        self.order(json!({"to": to, "reason": "cutover demo"})).await?.read().map_err(told)
    }

    async fn order(&self, order: Value) -> anyhow::Result<Answer> {
        let answer = self.client.post("/v1/services/shop/switch", &order, None).await;
        answer.map_err(told).with_context(|| format!("the proxy did not take {order}"))
    }
}

fn told(trouble: Trouble) -> anyhow::Error {
    anyhow!("{trouble}")
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
