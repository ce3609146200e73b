//! The course of a soak: one switch after another, a reload of an equal config after each, and a look at the proxy.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use cutover::time::Moment;

use super::Soak;
use super::backend;
use super::client::Client;
use super::figures::{Part, Report};
use super::load::{Load, live_after};
use super::proxy::{Proxy, free_port};

pub fn run(soak: &Soak) -> anyhow::Result<Report> {
    let (blue, green) = (backend("blue")?, backend("green")?);
    let mut proxy = Proxy::start(&soak.cutover, soak.workers, blue, green)?;
    wait_until_serving(&mut proxy)?;
    let load = Load::start(soak, proxy.address)?;
    pause(soak.pause());
    let begun = Moment::now();
    let mut parts: Vec<Part> = (0..PARTS.min(soak.switches)).map(|_| Part::default()).collect();
    for n in 0..soak.switches {
        let place = (u64::from(n) * parts.len() as u64 / u64::from(soak.switches)) as usize;
        let part = &mut parts[place];
        load.score.step();
        let outcome = proxy.switch(live_after(n + 1));
        load.score.step();
        part.switched(&outcome?)?;
        pause(soak.pause());
        proxy.reload()?;
        part.looked(proxy.descriptors()?, proxy.resident_kib()?);
        part.seen(load.score.take());
        proxy.check()?;
    }
    let took = Moment::now().since(begun);
    if let Some(part) = parts.last_mut() {
        part.seen(load.stop());
    }
    Ok(Report { parts, took })
}

/// A backend on a thread of its own, which ends with the process: its port.
fn backend(stack: &'static str) -> anyhow::Result<u16> {
    let port = free_port()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (failed, failure) = mpsc::channel();
    thread::spawn(move || {
        let tasks = tokio::task::LocalSet::new();
        let ended = tasks.block_on(&runtime, backend::serve(port, 1, stack));
        // Nobody listens any more once the soak runs.
        let _ = failed.send(ended);
    });
    match failure.recv_timeout(Duration::from_millis(100)) {
        Ok(Err(error)) => Err(error.context(format!("the {stack} backend cannot listen"))),
        _ => Ok(port),
    }
}

fn wait_until_serving(proxy: &mut Proxy) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = proxy.address;
    for _ in 0..TRIES {
        proxy.check()?;
        let status = runtime.block_on(async { status(address).await.unwrap_or_default() });
        if status == 200 {
            return Ok(());
        }
        pause(Duration::from_millis(50));
    }
    ensure!(false, "the proxy does not serve");
    Ok(())
}

async fn status(address: SocketAddr) -> anyhow::Result<u16> {
    let asked = async { Client::connect(address, "/").await?.ask().await };
    let answer = tokio::time::timeout(Duration::from_secs(1), asked).await.context("no answer")??;
    Ok(answer.status)
}

/// Nothing of the soak runs on this thread: it may stop.
fn pause(time: Duration) {
    thread::park_timeout(time);
}

const PARTS: u32 = 10;
const TRIES: u32 = 200;
