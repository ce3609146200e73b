//! The request path alone, in this process: for stories that reach for what a whole proxy keeps to itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use cutover::config::Config;
use cutover::metrics::RefusalSheet;
use cutover::names::{Color, PerColor};
use cutover::pool::Pool;
use cutover::proxy::{Listener, Refusal, Workers};
use cutover::table::{Edge, Entry, Routes, Service, Switchboard, Table};
use cutover::tail::Tail;
use cutover::time;

use super::Address;

/// Two workers before one service, `shop.test`. They end when this is dropped.
pub struct Inside {
    pub address: SocketAddr,
    pub service: Arc<Service>,
    _workers: Workers,
}

impl Inside {
    /// Served by this one endpoint; `edge` are more lines of the config.
    pub async fn start(blue: impl Address, edge: &str) -> Inside {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[service.shop]\nhosts = [\"shop.test\"]\nhealth.rise = 1\n\
             blue.endpoints = [\"{}\"]\n{edge}",
            blue.address()
        );
        let config = Config::parse(&text, Path::new("story.toml")).unwrap_or_else(|report| panic!("{report}"));
        let service = service(&config.services[0]).await;
        let entry = Entry::new(service.clone(), Color::Blue, 0, time::now());
        let table = Table {
            version: 1,
            edge: Arc::new(Edge::new(&config)),
            routes: Arc::new(Routes::new(&config.services)),
            entries: vec![entry],
        };
        let switchboard = Arc::new(Switchboard::new(table, WORKERS));
        let (listener, sockets) = Listener::bind(&config.listeners[0], WORKERS, &[]).unwrap();
        let address = listener.address;
        let workers = Workers::start(&switchboard, &sheets(), Arc::default(), None).unwrap();
        workers.doors().open(&Arc::new(listener), sockets).await;
        Inside { address, service, _workers: workers }
    }
}

async fn service(rules: &cutover::config::Service) -> Arc<Service> {
    let pools = PerColor::from_fn(|color| {
        let (pool, keeper) = Pool::new(rules, color, &[], WORKERS);
        tokio::spawn(keeper.run());
        pool
    });
    pools.blue.checked().await;
    let (refusals, tail) = (sheets().into(), Arc::new(Tail::new(WORKERS)));
    Arc::new(Service { name: rules.name.clone(), rules: rules.clone(), pools, refusals, tail })
}

fn sheets() -> Vec<Arc<RefusalSheet>> {
    (0..WORKERS).map(|_| Arc::new(RefusalSheet::new(Refusal::REASONS.len()))).collect()
}

impl Address for Inside {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

const WORKERS: usize = 2;
