//! Services as the config makes them, with endpoints that are all up: what the benches choose from.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use cutover::config::Config;
use cutover::metrics::RefusalSheet;
use cutover::names::{Color, PerColor};
use cutover::pool::{Endpoint, Pool};
use cutover::proxy::Refusal;
use cutover::proxy::lanes::Lanes;
use cutover::table::{Edge, Entry, Routes, Service, Switchboard, Table};
use cutover::tail::Tail;
use cutover::time;

/// For each of the hosts `s0.test`, `s1.test` ..., and all below it, a service and another one at `/deep/path`.
pub fn config(hosts: usize, endpoints: usize) -> Config {
    let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:80\"\n");
    let listed: Vec<String> = (0..endpoints).map(|n| format!("10.{}.{}.1:80", n / 250, n % 250)).collect();
    for n in 0..hosts {
        for (name, path) in [("root", "/"), ("deep", "/deep/path")] {
            write!(
                text,
                "[service.{name}-{n}]\nhosts = [\"s{n}.test\", \"*.s{n}.test\"]\npath = \"{path}\"\n\
                 [service.{name}-{n}.blue]\nendpoints = {listed:?}\n"
            )
            .expect("a string takes what is written");
        }
    }
    Config::parse(&text, Path::new("bench.toml")).unwrap_or_else(|report| panic!("{}", report.render(false)))
}

/// One worker's lanes over these services, as they are once every endpoint has passed its checks.
pub fn lanes(config: &Config) -> Lanes {
    let entries = config.services.iter().map(|rules| {
        let sheets = || Arc::new(RefusalSheet::new(Refusal::REASONS.len()));
        let pools = PerColor::from_fn(|color| pool(rules, color));
        let (refusals, tail) = (Box::new([sheets()]), Arc::new(Tail::new(1)));
        let service = Service { name: rules.name.clone(), rules: rules.clone(), pools, refusals, tail };
        Entry::new(Arc::new(service), Color::Blue, 0, time::now())
    });
    let table = Table {
        version: 1,
        edge: Arc::new(Edge::new(config)),
        routes: Arc::new(Routes::new(&config.services)),
        entries: entries.collect(),
    };
    Lanes::new(&Switchboard::new(table, 1), 0)
}

fn pool(rules: &cutover::config::Service, color: Color) -> Arc<Pool> {
    // Its keeper never runs: what is eligible is said here.
    let (pool, _) = Pool::new(rules, color, &[], 1);
    let endpoints = rules.stacks[color].endpoints.iter().map(|address| Arc::new(Endpoint { address: *address }));
    pool.eligible.store(Arc::new(endpoints.collect()));
    pool
}
