//! The workers: one thread for each core, each with its own runtime, sockets, connections and counters.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

use super::Proxy;
use super::capacity::Capacity;
use super::doors::{Doors, Orders, Porter};
use super::lanes::Lanes;
use super::leave::{Leave, Stage};
use super::warmer::Warmer;
use crate::access_log::AccessLog;
use crate::config::EdgeTimeouts;
use crate::metrics::RefusalSheet;
use crate::table::{Seat, Switchboard};

/// The running workers. They stop when told to; dropping it ends them with whatever is still under way.
pub struct Workers {
    stage: watch::Sender<Stage>,
    doors: Doors,
    capacity: Arc<Capacity>,
    ended: Vec<oneshot::Receiver<()>>,
}

/// What one worker starts with.
struct Kit {
    worker: usize,
    workers: usize,
    switchboard: Arc<Switchboard>,
    nowhere: Arc<RefusalSheet>,
    orders: Orders,
    capacity: Arc<Capacity>,
    access_log: Option<Arc<AccessLog>>,
    stage: watch::Receiver<Stage>,
}

impl Workers {
    /// Starts a worker for each of `nowhere`, which count the refusals that belong to no service. No client is let in
    /// before the doors are told to.
    pub fn start(
        switchboard: &Arc<Switchboard>,
        nowhere: &[Arc<RefusalSheet>],
        capacity: Arc<Capacity>,
        access_log: Option<Arc<AccessLog>>,
    ) -> std::io::Result<Workers> {
        let (stage, told) = watch::channel(Stage::Staying);
        let (doors, orders) = Doors::new(nowhere.len());
        let count = nowhere.len();
        let kits = nowhere.iter().zip(orders).enumerate().map(|(worker, (nowhere, orders))| Kit {
            worker,
            workers: count,
            switchboard: switchboard.clone(),
            nowhere: nowhere.clone(),
            orders,
            capacity: capacity.clone(),
            access_log: access_log.clone(),
            stage: told.clone(),
        });
        let ended = kits.map(start).collect::<std::io::Result<_>>()?;
        Ok(Workers { stage, doors, capacity, ended })
    }

    /// What listeners are opened and shut through.
    pub fn doors(&self) -> Doors {
        self.doors.clone()
    }

    /// Tells every client to come back on another connection, and after a while closes what is idle and waits for the
    /// rest: whether all of it has ended in its time. Meanwhile new connections are served, until the closing.
    pub async fn stop(self, times: &EdgeTimeouts) -> bool {
        self.stage.send_replace(Stage::Telling);
        // Where nobody is there, nobody has to be told.
        let _ = tokio::time::timeout(times.notice, self.capacity.emptied()).await;
        self.stage.send_replace(Stage::Closing);
        let all = async {
            for ended in self.ended {
                // An error means that the thread is gone, which is what is waited for.
                let _ = ended.await;
            }
        };
        // What the closing itself takes is not what requests are given.
        tokio::time::timeout(times.finish + GRACE, all).await.is_ok()
    }
}

fn start(kit: Kit) -> std::io::Result<oneshot::Receiver<()>> {
    // An interval of 8 instead of 61 costs nothing and wakes a saturated worker sooner for a new table, measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(8).build()?;
    let (end, ended) = oneshot::channel();
    let name = format!("worker-{}", kit.worker);
    std::thread::Builder::new().name(name).spawn(move || {
        runtime.block_on(work(kit));
        // Nobody waits any more where the process is ending.
        let _ = end.send(());
    })?;
    Ok(ended)
}

/// Carries requests until all are done, or nobody waits for that any more.
async fn work(kit: Kit) {
    let (mut tasks, leave, stage) = (LocalSet::new(), Rc::new(Leave::default()), kit.stage.clone());
    let seat = kit.switchboard.seat(kit.worker);
    tasks.spawn_local(run(kit, leave.clone()));
    tokio::select! {
        biased;
        () = &mut tasks => {}
        // What is still under way is dropped with its task, and recorded as everything else.
        () = abandoned(stage) => {
            seat.desert();
            leave.reach(Stage::Gone);
        }
    }
}

/// The worker's first task. Its thread ends when this and every connection has.
async fn run(kit: Kit, leave: Rc<Leave>) {
    let Kit { worker, workers, switchboard, nowhere, orders, capacity, access_log, stage } = kit;
    let proxy = Proxy::new(Lanes::new(&switchboard, worker), nowhere, workers);
    proxy.log_to(access_log.as_deref(), worker, &leave);
    // It has a book, and the log must end when that does.
    drop(access_log);
    let porter = Porter::new(worker, proxy.clone(), leave, capacity);
    let seat = switchboard.seat(worker);
    let work = async { tokio::join!(attend(&proxy, &seat), porter.obey(orders)) };
    tokio::select! {
        _ = work => {}
        () = porter.follow(stage) => {}
    }
}

/// Answers for every new table, begins and ends the warm-ups it asks for, and once a second lets go of connections that have idled for too long.
async fn attend(proxy: &Rc<Proxy>, seat: &Seat) {
    let mut sweep = tokio::time::interval(Duration::from_secs(1));
    let mut warmer = Warmer::default();
    loop {
        let version = proxy.lanes.look().table.version;
        warmer.follow(&proxy.lanes);
        seat.answer(version);
        tokio::select! {
            () = seat.woken() => {}
            _ = sweep.tick() => proxy.lanes.sweep(),
        }
    }
}

/// Resolves when nobody waits for the workers any more.
async fn abandoned(mut stage: watch::Receiver<Stage>) {
    while stage.changed().await.is_ok() {}
}

/// Beyond what requests may take to finish: for the threads to end.
const GRACE: Duration = Duration::from_millis(500);
