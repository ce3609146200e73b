//! The demo's operator: does over the admin socket what `cutover switch` does.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::admin::Outcome;
use crate::names::Color;

pub struct Operator {
    pub socket: PathBuf,
}

impl Operator {
    /// Asks until the live color has passed its health checks.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        while self.call(Method::GET, "/readyz", None).await?.0 != StatusCode::OK {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Ok(())
    }

    /// Whether a switch to `to` would happen now; nothing changes.
    pub async fn rehearse(&self, to: Color) -> anyhow::Result<bool> {
        let plan = self.order(json!({"to": to, "dry_run": true})).await?;
        let plan: Value = serde_json::from_slice(&plan)?;
        Ok(plan["would_switch"] == true)
    }

    /// Returns when `to` is live on every worker and the other color has drained.
    pub async fn switch(&self, to: Color) -> anyhow::Result<Outcome> {
        let outcome = self.order(json!({"to": to, "reason": "cutover demo"})).await?;
        serde_json::from_slice(&outcome).context("the answer to the switch is not what it should be")
    }

    async fn order(&self, order: Value) -> anyhow::Result<Bytes> {
        let (status, answer) = self.call(Method::POST, "/v1/services/shop/switch", Some(&order)).await?;
        if status != StatusCode::OK {
            bail!("the proxy answered {status} to {order}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    async fn call(&self, method: Method, path: &str, order: Option<&Value>) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = UnixStream::connect(&self.socket).await.context("the admin socket cannot be connected to")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let body = Full::<Bytes>::from(order.map(Value::to_string).unwrap_or_default());
        let request = Request::builder().method(method).uri(path).header("host", "cutover").body(body)?;
        let response = sender.send_request(request).await.context("the proxy did not answer")?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
