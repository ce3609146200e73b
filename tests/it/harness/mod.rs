//! What stories are told with: backends, the proxy as a real process, clients that never retry, and bounded waiting.

mod backend;
pub mod body;
mod client;
mod connection;
mod crowd;
mod double;
pub mod emulator;
mod fault;
pub mod frames;
mod gate;
mod hanging_disk;
mod house;
mod inside;
mod metrics;
mod name_server;
pub mod opsworks;
mod paths;
mod process;
mod proof;
mod proxy;
mod raw;
mod raw_backend;
mod reception;
pub mod region;
mod resolver;
pub mod route53;
mod settings;
mod small_disk;
mod tls;
mod trial;
mod walkers;
mod websocket;

use std::time::Duration;

pub use backend::{Address, Backend, Health};
pub use client::{Answer, Client};
pub use crowd::{Crowd, Running, rush};
pub use fault::{Fault, FaultProxy, Seen};
pub use hanging_disk::HangingDisk;
pub use house::House;
pub use inside::Inside;
pub use metrics::Metrics;
pub use name_server::{Manner, NameServer};
pub use opsworks::FakeOpsWorks;
pub use process::{Manager, Process, Ran, cutover};
pub use proxy::Cutover;
pub use raw::Raw;
pub use raw_backend::RawBackend;
pub use region::FakeRegion;
pub use resolver::Resolver;
pub use route53::FakeRoute53;
pub use settings::{Service, Settings};
pub use small_disk::SmallDisk;
pub use tls::{Ca, greet};
pub use walkers::{Places, Walkers};
pub use websocket::WebSocket;

/// The longest any one step of a story may take. It costs nothing where all is well, and machines can be very busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `step`, and fails the story by name when it outlasts anyone's patience.
pub async fn within<F: Future>(what: &str, step: F) -> F::Output {
    let outcome = tokio::time::timeout(PATIENCE, step).await;
    outcome.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Whether `holds` comes true before the deadline, asked after 5 ms, 10, and then each 20: for what cannot be awaited. Asked
/// more often, a story that waits takes a quarter more of the machine, and all stories share that.
#[must_use]
pub async fn eventually<F: Future<Output = bool>>(deadline: Duration, mut holds: impl FnMut() -> F) -> bool {
    let asked = async {
        let mut pause = Duration::from_millis(5);
        while !holds().await {
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(Duration::from_millis(20));
        }
    };
    tokio::time::timeout(deadline, asked).await.is_ok()
}
