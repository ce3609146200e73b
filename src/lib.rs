//! Cutover: a reverse proxy that moves live traffic from one color to the other. This page is the floor plan.
//!
//! A room uses only rooms on the floors below it, never one beside or above; `tests/it/plan.rs` reads the floors off
//! this page and fails on any import that climbs. Highest floor first.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]

// floor: door — people and scripts come in
/// The command line: every command, what it prints and the code it exits with.
pub mod cli;

// floor: roof — builds every room from the config, starts them in order, changes what runs, stops them in reverse
/// The whole proxy as one value: built from a config, started, changed by reloads, stopped.
pub mod app;

// floor: faces — each looks at one party outside
/// What operators reach: the API on a unix socket and on TCP, status, metrics, events.
pub mod admin;
/// What Amazon is asked: Route 53's zones and who knows endpoints, with one account's credentials, pace and deadlines.
pub mod aws;
/// What the system sees of us: signals, the service manager's sockets and watchdog.
pub mod process;

// floor: decide — moves a service from one color to the other, step by step
/// The cutover: desk, pure machine, and the driver that joins them.
pub mod cutover;
/// The retire permit: whether a color may be terminated, and why not.
pub mod retire;

// floor: work — carries requests, learns addresses, keeps names, looks after stacks
/// Discovery: where a color's endpoints are learned, and what of an answer is believed.
pub mod discovery;
/// DNS follows the switch: what names should say, how they are brought there, and how that is proved.
pub mod dns;
/// The request path: one worker per core, from the accepted socket to the last byte of the answer.
pub mod proxy;
/// Stacks: listed, cloned, started, deployed and stopped, step by step, and never one thing twice.
pub mod stack;

// floor: table — which service a request is for, and which color serves it now
/// The table every worker reads, and the switchboard that is its one writer.
pub mod table;

// floor: log — what is written down about each request
/// The access log: a line for every request, and the one thread that writes them.
pub mod access_log;
/// The DNS tail: what still comes to the proxy through names that have moved on.
pub mod tail;

// floor: pools — one per color
/// A color's endpoints, their health, and who is inside.
pub mod pool;

// floor: base — what everyone above is given
/// The config file: read, checked as a whole, every mistake reported with its place.
pub mod config;
/// The journal: what must outlive a restart, on disk before it takes effect.
pub mod journal;
/// Every metric there is: single-writer cells that workers count in, and the page Prometheus scrapes.
pub mod metrics;
/// What the proxy signs, so that nobody else can write it: clients' badges, invitations to previews, its own probes.
pub mod seal;
/// The turnstile: who is inside a pool, exactly, and whether anyone may still enter.
pub mod turnstile;
/// DNS on the wire: one question to one name server, and its answer.
pub mod wire;

// floor: ground — words and clocks that know nothing of the rest
/// The names of things: services, colors, hosts, paths, checked once at the edge.
pub mod names;
/// Monotonic moments for measuring, wall-clock times for telling.
pub mod time;
