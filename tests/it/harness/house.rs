//! The proxy in this very process: the same sockets, and its switchboard within reach, for what no command does.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cutover::app::{App, Outside};
use cutover::config::{Config, EdgeTimeouts, Share};
use cutover::names::{Color, ServiceName};
use cutover::pool::Pool;
use cutover::table::{Entry, Published, Split};
use serde_json::Value;
use tokio::net::UnixStream;

use super::proxy::{all_checked, call};
use super::settings::Settings;
use super::{Address, Client, Metrics, PATIENCE, eventually};

/// It ends with whatever is under way when it is dropped.
pub struct House {
    settings: Settings,
    app: App,
}

impl House {
    pub async fn start(settings: Settings) -> House {
        settings.write();
        let config = Config::load(&settings.file()).unwrap_or_else(|report| panic!("{report}"));
        let outside = Outside { file: Some(settings.file()), ..Outside::default() };
        let app = App::start(&config, settings.workers, outside, pending()).await.unwrap();
        let house = House { settings, app };
        let ready = || async { house.admin().await.get("/readyz").await.status == 200 };
        assert!(eventually(PATIENCE, ready).await, "the house is not ready");
        let checked = || async { all_checked(&house.api("GET", "/v1/status", Value::Null).await.1) };
        assert!(eventually(PATIENCE, checked).await, "not every endpoint has had its first check");
        house
    }

    pub fn entry(&self) -> Entry {
        self.app.switchboard().table().entry(&shop()).unwrap().clone()
    }

    pub fn pool(&self, color: Color) -> Arc<Pool> {
        self.entry().service.pools[color].clone()
    }

    /// Gives green a share of `shop`, in hundredths of a percent.
    pub async fn split(&self, share: u16) -> Published {
        let split = Split { to: Color::Green, share: Share(share), salt: SALT };
        let published = self.app.switchboard().split(&shop(), Some(split)).await;
        assert_eq!(published.answered, published.workers);
        published
    }

    pub async fn end_split(&self) {
        let published = self.app.switchboard().split(&shop(), None).await;
        assert_eq!(published.answered, published.workers);
    }

    /// Changes the config and has it read, which must work.
    pub async fn reload_with(&mut self, change: impl FnOnce(Settings) -> Settings) -> Value {
        let settings = std::mem::replace(&mut self.settings, Settings::new());
        self.settings = change(settings);
        self.settings.write();
        let (status, answer) = self.api("POST", "/v1/reload", Value::Null).await;
        assert_eq!(status, 200, "{answer:#}");
        answer
    }

    pub async fn api(&self, method: &str, path: &str, json: Value) -> (u16, Value) {
        call(self.admin().await, method, path, json, None).await
    }

    pub async fn service(&self) -> Value {
        self.api("GET", "/v1/services/shop", Value::Null).await.1
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(self.admin().await.get("/metrics").await.text())
    }

    /// Ends it: whether everything in it had ended by itself within that time.
    pub async fn stop(self, finish: Duration) -> bool {
        let times = EdgeTimeouts { notice: Duration::ZERO, finish, ..EdgeTimeouts::default() };
        self.app.stop(&times).await
    }

    async fn admin(&self) -> Client {
        let socket: PathBuf = self.settings.socket();
        Client::over_http1(UnixStream::connect(socket).await.unwrap()).await.unwrap().host("localhost")
    }
}

impl Address for House {
    fn address(&self) -> SocketAddr {
        self.app.listeners[0].address
    }
}

fn shop() -> ServiceName {
    "shop".parse().unwrap()
}

/// Any will do, as long as it stays.
const SALT: u64 = 0x5eed;
