//! Sends a request to an endpoint and waits for the head of the answer: where a try fails safely, there is another.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use super::lanes::Lane;
use super::refusal::Refusal;
use super::upload::{Pace, Upload};
use super::upstream::{Link, Upstream};

/// The head of an answer, and the connection its body comes on.
pub struct Reply {
    pub response: Response<Incoming>,
    pub link: Link,
}

/// Sends `request` to an endpoint of the lane.
///
/// What was not sent goes out again whatever its method is: another endpoint where the connect failed, another
/// connection where a kept one turned out to be dead. What was sent on a kept connection that then died without a
/// byte of an answer goes out once more only if repeating it is harmless (RFC 9110, 9.2.2) and it has no body.
pub async fn send(lane: &Lane, mut request: Request<Upload>) -> Result<Reply, Refusal> {
    let timeouts = &lane.service.rules.timeouts;
    let pace = request.body().pace();
    let repeatable = request.body().is_none() && request.method().is_idempotent();
    let mut tried: Vec<Rc<Upstream>> = Vec::new();
    let mut refusal = Refusal::NoEndpoint;
    let mut repeated = false;
    for attempt in 0..TRIES {
        let Some(turn) = lane.choose(&tried) else { break };
        // Where kept connections have died, others have too: from then on a new one is the safe way.
        let kept = if attempt < TRIES_KEPT && !repeated { turn.reuse() } else { None };
        let (sender, kept) = match kept {
            Some(sender) => (sender, true),
            None => match turn.connect(timeouts.connect).await {
                Ok(sender) => (sender, false),
                Err(error) => {
                    refusal = connect_refusal(&error);
                    tried.push(turn.upstream().clone());
                    continue;
                }
            },
        };
        let mut link = Link::new(turn, sender);
        let spare = (kept && repeatable && !repeated).then(|| copy(&request));
        let sending = link.sender.try_send_request(request);
        let mut error = match first_byte(sending, pace.as_deref(), timeouts.first_byte).await {
            None => return Err(Refusal::FirstByteTimeout),
            Some(Ok(response)) => return Ok(Reply { response, link }),
            Some(Err(error)) => error,
        };
        request = match (error.take_message(), spare) {
            (Some(unsent), _) => {
                refusal = Refusal::ConnectFailed;
                unsent
            }
            (None, Some(spare)) if !error.error().is_parse() => {
                repeated = true;
                spare
            }
            (None, _) => return Err(pace.and_then(|pace| pace.fault()).unwrap_or(Refusal::BadAnswer)),
        };
    }
    Err(refusal)
}

/// Waits for the answer; the patience begins anew for as long as the request's body still moves. `None`: it ran out.
async fn first_byte<T>(sending: impl Future<Output = T>, pace: Option<&Pace>, patience: Duration) -> Option<T> {
    let mut sending = std::pin::pin!(sending);
    let mut pieces = 0;
    loop {
        if let Ok(answer) = tokio::time::timeout(patience, &mut sending).await {
            return Some(answer);
        }
        match pace.map(Pace::pieces) {
            Some(now) if now != pieces => pieces = now,
            _ => return None,
        }
    }
}

/// The same request once more: it has no body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::none());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

fn connect_refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::TimedOut => Refusal::ConnectTimeout,
        _ => Refusal::ConnectFailed,
    }
}

/// Tries for one request, over endpoints and connections: more would only make a dead pool slower to admit it.
const TRIES: usize = 4;
/// Of those, tries on kept connections.
const TRIES_KEPT: usize = 2;
