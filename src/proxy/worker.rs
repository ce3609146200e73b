//! The workers: one thread for each core, each with its own runtime, sockets, connections and counters.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

use super::Proxy;
use super::lanes::Lanes;
use super::listen::{self, Listener, Timers};
use crate::metrics::RefusalSheet;
use crate::table::{Seat, Switchboard};

/// The running workers. They stop when told to, or with the process.
pub struct Workers {
    stop: watch::Sender<bool>,
    ended: Vec<oneshot::Receiver<()>>,
}

/// What one worker starts with.
struct Kit {
    worker: usize,
    switchboard: Arc<Switchboard>,
    nowhere: Arc<RefusalSheet>,
    sockets: Vec<(Arc<Listener>, TcpListener)>,
    timers: Timers,
    stop: watch::Receiver<bool>,
}

impl Workers {
    /// Starts a worker for each of `nowhere`, which count the refusals that belong to no service. Each listener comes
    /// with one socket for each worker.
    pub fn start(
        switchboard: &Arc<Switchboard>,
        nowhere: &[Arc<RefusalSheet>],
        listeners: Vec<(Arc<Listener>, Vec<TcpListener>)>,
        timers: Timers,
    ) -> std::io::Result<Workers> {
        let (stop, told) = watch::channel(false);
        let mut kits: Vec<Kit> = nowhere
            .iter()
            .enumerate()
            .map(|(worker, nowhere)| Kit {
                worker,
                switchboard: switchboard.clone(),
                nowhere: nowhere.clone(),
                sockets: Vec::new(),
                timers,
                stop: told.clone(),
            })
            .collect();
        for (listener, sockets) in listeners {
            for (kit, socket) in kits.iter_mut().zip(sockets) {
                kit.sockets.push((listener.clone(), socket));
            }
        }
        let ended = kits.into_iter().map(start).collect::<std::io::Result<_>>()?;
        Ok(Workers { stop, ended })
    }

    /// Accepts no more, lets every connection finish what it carries, and returns when all have ended or `within` is
    /// over: whether all have ended.
    pub async fn stop(self, within: Duration) -> bool {
        self.stop.send_replace(true);
        let all = async {
            for ended in self.ended {
                // An error means that the thread is gone, which is what is waited for.
                let _ = ended.await;
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

fn start(kit: Kit) -> std::io::Result<oneshot::Receiver<()>> {
    // An interval of 8 instead of 61 costs nothing and wakes a saturated worker sooner for a new table, measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(8).build()?;
    let (end, ended) = oneshot::channel();
    let name = format!("worker-{}", kit.worker);
    std::thread::Builder::new().name(name).spawn(move || {
        let tasks = LocalSet::new();
        tasks.spawn_local(run(kit));
        runtime.block_on(tasks);
        // Nobody waits any more where the process is ending.
        let _ = end.send(());
    })?;
    Ok(ended)
}

/// The worker's first task. Its thread ends when this and every connection has.
async fn run(kit: Kit) {
    let Kit { worker, switchboard, nowhere, sockets, timers, mut stop } = kit;
    let proxy = Proxy::new(Lanes::new(&switchboard, worker), nowhere);
    for (listener, socket) in sockets {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                let accept = listen::accept(socket, listener, worker, proxy.clone(), timers, stop.clone());
                tokio::task::spawn_local(accept);
            }
            Err(error) => tracing::error!(listener = %listener.address, worker, "cannot listen: {error}"),
        }
    }
    let seat = switchboard.seat(worker);
    tokio::select! {
        () = attend(&proxy, &seat) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Answers for every new table, and once a second lets go of connections that have idled for too long.
async fn attend(proxy: &Rc<Proxy>, seat: &Seat) {
    let mut sweep = tokio::time::interval(Duration::from_secs(1));
    loop {
        seat.answer(proxy.lanes.look().table.version);
        tokio::select! {
            () = seat.woken() => {}
            _ = sweep.tick() => proxy.lanes.sweep(),
        }
    }
}
