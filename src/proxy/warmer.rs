//! The warm-up of a color by one worker: its part of the connections, then its part of the requests.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::body::AbortOnDrop;
use super::forward;
use super::headers;
use super::lanes::{Lane, Lanes};
use super::refusal::Refusal;
use super::upstream::Link;
use crate::config::WarmRequest;
use crate::pool::Endpoint;
use crate::table::{Part, Warming};
use crate::time::Moment;

/// The warm-ups that one worker has its part in, each in a task of its own.
#[derive(Default)]
pub struct Warmer(Vec<(Arc<Warming>, AbortOnDrop)>);

impl Warmer {
    /// Begins what the table asks for, and ends what it does not ask for any more, with whatever is under way.
    pub fn follow(&mut self, lanes: &Lanes) {
        let asked = lanes.warmings();
        self.0.retain(|(known, _)| asked.iter().any(|(warming, _)| Arc::ptr_eq(known, warming)));
        for (warming, lane) in asked {
            if !self.0.iter().any(|(known, _)| Arc::ptr_eq(known, &warming)) {
                let task = tokio::task::spawn_local(warm(warming.clone(), lane));
                self.0.push((warming, AbortOnDrop(task)));
            }
        }
    }
}

/// All connections come before the first request, so that requests find them.
async fn warm(warming: Arc<Warming>, lane: Rc<Lane>) {
    let part = |(place, endpoint)| {
        Some(Warmth { part: warming.part(lane.worker, place)?, warming: &warming, lane: &lane, endpoint })
    };
    let parts: Vec<Warmth> = warming.endpoints.iter().enumerate().filter_map(part).collect();
    stream::iter(&parts).for_each_concurrent(ENDPOINTS_AT_ONCE, Warmth::open).await;
    join_all(parts.iter().map(Warmth::replay)).await;
    warming.part_done();
}

/// What this worker gives one endpoint.
struct Warmth<'w> {
    warming: &'w Warming,
    lane: &'w Rc<Lane>,
    endpoint: &'w Arc<Endpoint>,
    part: Part,
}

impl Warmth<'_> {
    /// Opens its connections, one after the other. Where one cannot be opened, and not at a second try, the others are not
    /// tried.
    async fn open(&self) {
        let mut retried = false;
        let mut opened = 0;
        while opened < self.part.connections {
            match self.open_one().await {
                Ok(()) => {
                    opened += 1;
                    self.lane.warmth.connections.add(1);
                }
                Err(refusal) => {
                    self.lane.warmth.refused.add(1);
                    self.warming.failed(format!("{}: {}", self.endpoint.address, refusal.reason()));
                    if std::mem::replace(&mut retried, true) {
                        return;
                    }
                }
            }
        }
    }

    async fn open_one(&self) -> Result<(), Refusal> {
        let turn = self.lane.turn_at(self.endpoint).ok_or(Refusal::NoEndpoint)?;
        let wire = forward::connect(self.lane, &turn).await?;
        Link::new(turn, wire).release(self.lane.age(), self.lane.service.rules.limits.upstream_idle);
        Ok(())
    }

    /// Sends its requests, each when it is due, and no more at one time than it has connections: an endpoint that is
    /// slower than the rate is not pressed.
    async fn replay(&self) {
        let (begun, mut under_way) = (Instant::now(), FuturesUnordered::new());
        for (due, request) in self.warming.asked(self.part) {
            let due = tokio::time::sleep_until(begun + due);
            tokio::pin!(due);
            loop {
                tokio::select! {
                    Some(()) = under_way.next() => {}
                    () = &mut due, if under_way.len() < self.part.connections => break,
                }
            }
            under_way.push(self.ask(request));
        }
        while under_way.next().await.is_some() {}
    }

    /// It is inside the pool like any request, so that a drain waits for it; a closed pool means that the warm-up is over.
    async fn ask(&self, request: &WarmRequest) {
        let Some(_pass) = self.lane.enter(Moment::now()) else { return };
        let failed = |why: &str| self.warming.failed(format!("{}: {request}: {why}", self.endpoint.address));
        match self.exchange(request).await {
            Ok(status) => {
                self.lane.warmth.count(status);
                if status >= 500 {
                    failed(&status.to_string());
                }
            }
            Err(refusal) => {
                self.lane.warmth.unanswered.add(1);
                failed(refusal.reason());
            }
        }
    }

    /// The answer's status, once all of it has come. A kept connection may end just as it is used, and then another is the
    /// right one.
    async fn exchange(&self, request: &WarmRequest) -> Result<u16, Refusal> {
        let address = self.endpoint.address.to_string();
        let host = self.lane.service.rules.own_host().unwrap_or(&address);
        let mut may_retry = true;
        loop {
            let turn = self.lane.turn_at(self.endpoint).ok_or(Refusal::NoEndpoint)?;
            let (wire, kept) = match turn.reuse_oldest() {
                Some(wire) => (wire, true),
                None => (forward::connect(self.lane, &turn).await?, false),
            };
            let mut link = Link::new(turn, wire);
            let head = headers::of_our_own(request.method(), &request.target, host, self.warming.rules.https);
            match forward::send_on(self.lane, &mut link, head, request.headless).await {
                Ok(reply) => {
                    forward::discard(self.lane, &reply, link).await;
                    return Ok(reply.response.status().as_u16());
                }
                Err(Refusal::BadAnswer) if kept && std::mem::take(&mut may_retry) => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }
}

/// Endpoints that are connected to at one time, each by one connection at a time: a pool of a thousand is no burst of
/// eight thousand connects.
const ENDPOINTS_AT_ONCE: usize = 64;
