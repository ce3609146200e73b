//! The request path told from both ends: what a client sends is what the backend gets, and the other way round.

mod bodies;
mod edge;
mod headers;
mod hosts;
mod ipv6;
mod protocols;
mod refusals;
mod tunnels;
mod upstream;

use http::Request;
use http::request::Builder;

use crate::harness::body::{self, Body};
use crate::harness::{Address, Client, Cutover};

/// A proxy before one service, `shop.test`, that is served by this one endpoint.
async fn shop(blue: impl Address) -> Cutover {
    Cutover::with().service("shop", |s| s.hosts(&["shop.test"]).blue([blue]).health("/healthz")).start().await
}

/// One client of each version: most stories hold for both.
async fn both(proxy: &Cutover) -> [Client; 2] {
    [Client::http1(proxy).await, Client::http2(proxy).await]
}

fn get(path: &str) -> Request<Body> {
    bare(Request::get(path))
}

fn bare(head: Builder) -> Request<Body> {
    head.body(body::empty()).unwrap()
}
