//! `cutover demo`: two small stacks, a real proxy before them and real clients, switched under load; then the result.

mod clients;
mod course;
mod operator;
mod report;
mod show;
mod stacks;

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context, anyhow};
use clap::Args;
use tokio::time::{Instant, timeout_at};
use tracing_subscriber::EnvFilter;

use self::clients::Clients;
use self::course::Course;
use self::operator::Operator;
use self::report::{Doors, Report};
use self::show::Show;
use self::stacks::Stacks;
use super::serve::{runtime, workers};
use super::{Failure, Global};
use crate::app::{App, Outside};
use crate::config::{Config, EdgeTimeouts};
use crate::names::Color;
use crate::process::{self, EndSignals};
use crate::time::Moment;

/// See it work: two small stacks, real traffic, several switches, and what became of every request
#[derive(Args)]
#[command(
    long_about = "See it work: two small stacks, real traffic, several switches, and what became of every request.\n\n\
        Everything is on loopback and ends by itself. The clients never retry, so that a request that is lost is \
        seen; the stacks count for themselves what reaches them. Exit code 1 says that something was lost.",
    after_help = "Examples:
  cutover demo
  cutover demo --keep               then try by hand what it prints
  cutover demo --json | jq '{failed, switches, switch_us}'"
)]
pub struct Demo {
    /// Leave the proxy and the stacks running afterwards, and print the commands to try
    #[arg(long)]
    keep: bool,
    /// Threads that carry requests [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// How long the traffic runs
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(3..=3600))]
    seconds: u64,
}

impl Demo {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        if let Ok(filter) = EnvFilter::try_from_env("CUTOVER_LOG") {
            let colour = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
        }
        process::raise_open_files();
        runtime()?.block_on(self.perform(global.json))
    }

    async fn perform(&self, json: bool) -> Result<(), Failure> {
        let mut signals = EndSignals::listen().context("signals cannot be listened for")?;
        let deadline = Deadline(Instant::now() + Duration::from_secs(self.seconds) + GRACE);
        let stage = deadline.meet("the proxy has not started", Stage::build(workers(self.workers))).await?;
        let played = tokio::select! {
            played = self.play(&stage, deadline) => played,
            signal = signals.next() => Err(anyhow!("{signal} before there was a result; everything has been stopped")),
        };
        let ended = match played {
            Ok(report) => self.tell(&report, json, &mut signals).await,
            Err(error) => Err(error.into()),
        };
        stage.strike().await;
        ended
    }

    async fn tell(&self, report: &Report, json: bool, signals: &mut EndSignals) -> Result<(), Failure> {
        report.print(json, self.keep)?;
        if self.keep {
            signals.next().await;
        }
        if report.is_clean() { Ok(()) } else { Err(Failure::Quiet) }
    }

    async fn play(&self, stage: &Stage, deadline: Deadline) -> anyhow::Result<Report> {
        let ready = stage.operator.wait_until_ready();
        deadline.meet("the live color has not passed its health checks", ready).await?;
        let begun = Moment::now();
        let clients = Clients::start(stage.proxy)?;
        let show = Show::new(self.seconds);
        let mut course = Course::new(stage, &show, deadline);
        tokio::select! {
            run = course.run(Duration::from_secs(self.seconds)) => run?,
            never = show.follow(&stage.stacks, &clients.score) => match never {},
        }
        let score = deadline.meet("the clients have not finished their last requests", clients.stop()).await?;
        let took = Moment::now().since(begun);
        Ok(Report::of(course.end(), &score, &stage.stacks, took, stage.doors()))
    }
}

/// Everything that is set up: the stacks, the proxy, and who operates it.
struct Stage {
    stacks: Stacks,
    app: App,
    operator: Operator,
    proxy: SocketAddr,
    _folder: Folder,
}

impl Stage {
    async fn build(workers: usize) -> anyhow::Result<Stage> {
        let folder = Folder::make()?;
        let stacks = Stacks::start()?;
        let text = config(&folder.0, &stacks);
        let parsed = Config::parse(&text, &folder.0.join("demo.toml"));
        let config = parsed.map_err(|report| anyhow!("the demo's own config is wrong:\n{}", report.render(false)))?;
        let app = App::start(&config, workers, Outside::default(), std::future::pending()).await?;
        let proxy = app.listeners.first().context("the proxy has no listener")?.address;
        let operator = Operator::new(&config.admin.socket)?;
        Ok(Stage { stacks, app, operator, proxy, _folder: folder })
    }

    fn doors(&self) -> Doors {
        Doors {
            proxy: format!("http://{}", self.proxy),
            admin: self.operator.address.clone(),
            metrics: self.app.admin_address().map(|address| format!("http://{address}/metrics")).unwrap_or_default(),
        }
    }

    async fn strike(self) {
        // Nobody is left who would have to be told, or would wait for what does not finish.
        let times = EdgeTimeouts { notice: Duration::ZERO, finish: FINISH, ..EdgeTimeouts::default() };
        self.app.stop(&times).await;
    }
}

fn config(folder: &Path, stacks: &Stacks) -> String {
    // What JSON quotes is quoted for TOML as well.
    let quoted = |path: PathBuf| serde_json::json!(path.to_string_lossy()).to_string();
    let endpoints = |color: Color| {
        let all: Vec<String> = stacks.of[color].endpoints.iter().map(SocketAddr::to_string).collect();
        serde_json::json!(all).to_string()
    };
    format!(
        r#"
        [admin]
        socket = {socket}
        listen = "127.0.0.1:0"
        [state]
        dir = {state}
        [[listener]]
        address = "127.0.0.1:0"
        [service.shop.blue]
        endpoints = {blue}
        [service.shop.green]
        endpoints = {green}
        [service.shop.health]
        path = "{health}"
        interval = "200ms"
        timeout = "10s"
        [service.shop.cutover]
        deadline = "30s"
        drain = {{ requests = "30s", tunnels = "30s" }}
        "#,
        socket = quoted(folder.join("admin.sock")),
        state = quoted(folder.to_owned()),
        blue = endpoints(Color::Blue),
        green = endpoints(Color::Green),
        health = stacks::HEALTH,
    )
}

/// The proxy's state while the demo lasts; it goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Folder> {
        let path = std::env::temp_dir().join(format!("cutover-demo-{}", std::process::id()));
        // Left by a demo that was killed and had the same process id.
        let _ = std::fs::remove_dir_all(&path);
        // Nobody else may order this proxy about.
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the folder of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The point at which the demo gives up, and says what it was waiting for.
#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    async fn meet<T>(self, missing: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        timeout_at(self.0, work).await.map_err(|_| anyhow!("the demo hangs and gives up: {missing}"))?
    }
}

/// What setting up, the switches and the last requests may take together, beside the traffic, on a machine that is very busy.
const GRACE: Duration = Duration::from_secs(90);
const FINISH: Duration = Duration::from_secs(2);
