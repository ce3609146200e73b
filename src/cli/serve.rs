//! `cutover serve`: runs the proxy until a signal ends it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{Failure, Global};
use crate::access_log::Shelf;
use crate::app::{App, Outside};
use crate::config::{Config, Mistake};
use crate::process::{self, EndSignals, Inherited, Notifier, ReloadSignal, ReopenSignal};
use crate::proxy::{Purpose, inspect};
use crate::time::{self, Human};

/// Run the proxy
#[derive(Args)]
#[command(
    long_about = "Run the proxy until SIGTERM or Ctrl-C.\n\n\
        It then tells its clients to come back elsewhere, closes what is idle, and gives the requests under way up to \
        30 s to finish (`notice` and `finish` under [edge.timeouts]); a second signal ends it at once. What it logs \
        goes to stderr; CUTOVER_LOG=debug says more. SIGHUP reads the config anew, as `cutover reload` does; SIGUSR1 \
        opens the access log anew.",
    after_help = "Examples:
  cutover serve
  cutover serve --config shop.toml --workers 2"
)]
pub struct Serve {
    /// Threads that carry requests [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

impl Serve {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let look = |config: &Config| inspect(config, Purpose::Serve, time::now());
        // Paths that begin at its folder are compared with those of a reload, and shown to who is elsewhere.
        let file = std::path::absolute(&global.config).unwrap_or_else(|_| global.config.clone());
        let loaded = Config::load_with(&file, look);
        let (config, report) = loaded.map_err(|report| Failure::Config(Box::new(report), global.json))?;
        let inherited = Inherited::take().context("sockets that were handed over cannot be used")?;
        let filter = EnvFilter::try_from_env("CUTOVER_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
        // What cannot be written is lost: to say so on stderr as well would end the task that had something to tell.
        log.log_internal_errors(false).init();
        for Mistake { line, message, help, .. } in &report.warnings {
            tracing::warn!("{}:{line}: {message}: {}", report.path, help.as_deref().unwrap_or_default());
        }
        process::raise_open_files();
        let outside = Outside { file: Some(file), inherited, notifier: Notifier::from_env() };
        let runtime = runtime()?;
        let served = runtime.block_on(serve(&config, workers(self.workers), outside));
        // Whoever waits for a disk that hangs is not waited for.
        runtime.shutdown_timeout(LAST_WRITES);
        Ok(served?)
    }
}

async fn serve(config: &Config, workers: usize, outside: Outside) -> anyhow::Result<()> {
    let mut signals = EndSignals::listen().context("signals cannot be listened for")?;
    let mut reloads = ReloadSignal::listen().context("signals cannot be listened for")?;
    let reopen_signal = ReopenSignal::listen().context("signals cannot be listened for")?;
    process::outlive_full_files().context("signals cannot be listened for")?;
    let (notifier, watchdog) = (outside.notifier.clone(), process::watchdog());
    let mut asked = None;
    let app = App::start(config, workers, outside, async { asked = Some(signals.next().await) }).await?;
    for listener in &app.listeners {
        tracing::info!(tls = listener.is_tls(), workers, "listening on {}", listener.address);
    }
    if let Some(address) = app.admin_address() {
        tracing::info!("admin on {address} and {}", config.admin.socket.display());
    }
    let watch = app.report(&notifier, watchdog).await?;
    let access_log = app.access_log.clone();
    tokio::spawn(reopen(access_log.clone(), reopen_signal));
    let signal = loop {
        if let Some(signal) = asked {
            break signal;
        }
        tokio::select! {
            signal = signals.next() => asked = Some(signal),
            signal = reloads.next() => app.reload(signal),
        }
    };
    let (times, unwritten) = (app.ending(), app.unwritten());
    watch.abort();
    notifier.stopping(times.notice + times.finish + MARGIN);
    tokio::spawn(process::watch_the_end(notifier, watchdog));
    tracing::info!(
        "{signal}: telling clients for {}, then finishing what is under way for up to {}; again to end now",
        Human(times.notice),
        Human(times.finish)
    );
    tokio::select! {
        finished = app.stop(&times) => match finished {
            true => tracing::info!("everything is finished"),
            false => tracing::warn!("time is up: what is still open is closed"),
        },
        signal = signals.next() => tracing::warn!("{signal}: what is still open is closed"),
    }
    unwritten().iter().for_each(|unwritten| tracing::error!("{unwritten}"));
    access_log.close().await;
    Ok(())
}

/// Opens the access log anew each time SIGUSR1 asks for it, as logrotate does once it has renamed the file.
async fn reopen(access_log: Arc<Shelf>, mut signal: ReopenSignal) {
    loop {
        signal.next().await;
        if !access_log.reopen() {
            tracing::info!("SIGUSR1: there is no access log to open anew");
        }
    }
}

/// As many workers as asked for, or one for each core.
pub fn workers(asked: Option<u16>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.map_or(cores, usize::from)
}

/// The runtime that decides; requests are carried elsewhere, so it is small.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("decide").enable_all().build().context("the runtime cannot be built")
}

/// What is still being written when all else has ended has so long.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// What ending takes beyond the time for clients and requests, at the most.
const MARGIN: Duration = Duration::from_secs(5);
/// What is logged unless CUTOVER_LOG says otherwise. What the protocols' libraries warn of is what a client did, as often as
/// he likes: those lines would be his to fill a disk with.
const LOGGED: &str = "info,h2=error,hyper=error,rustls=off";
