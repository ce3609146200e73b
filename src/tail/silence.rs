//! Whether a tail has fallen silent: judged over and over, told once each way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Span;
use crate::names::ServiceName;
use crate::time::{self, Moment, Timestamp};

/// How long nobody has to have come: as long as asked for, and twice what resolvers may keep the old answer at the least.
pub fn quiet(asked: Duration, ttl: Duration) -> Duration {
    asked.max(ttl.saturating_mul(2))
}

/// What has been told of one span.
#[derive(Default)]
pub struct Silence {
    span: Option<u64>,
    is_silent: bool,
}

/// A tail has fallen silent, or is heard again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub at: Timestamp,
    pub service: ServiceName,
    pub state: State,
    /// So many have come since the names moved on, or since counting began.
    pub requests: u64,
    pub silent_s: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Silent,
    Heard,
}

impl Silence {
    /// What is to be told now, if anything: only what differs from what was told before.
    pub fn look(&mut self, service: &ServiceName, span: &Span, asked: Duration, now: Moment) -> Option<Told> {
        if self.span != Some(span.id) {
            *self = Silence { span: Some(span.id), is_silent: false };
        }
        let silent_for = span.silent_for(now);
        let is_silent = silent_for >= quiet(asked, span.shift.ttl);
        if std::mem::replace(&mut self.is_silent, is_silent) == is_silent {
            return None;
        }
        Some(Told {
            at: time::now(),
            service: service.clone(),
            state: if is_silent { State::Silent } else { State::Heard },
            requests: span.counts().requests,
            silent_s: silent_for.as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Known, Shift, Tail};
    use super::*;

    #[test]
    fn silence_is_told_when_it_falls_and_when_it_ends_and_anew_for_each_shift() {
        let (tail, service) = (Tail::new(1), "shop".parse().unwrap());
        let shift = Shift { at: time::now(), ttl: Duration::from_secs(60) };
        tail.begin(shift);
        let span = tail.span().unwrap();
        let mut silence = Silence::default();
        let mut told = |span: &Span, second: u64| {
            let now = span.began.after(Duration::from_secs(second));
            silence.look(&service, span, Duration::from_secs(100), now).map(|told| (told.state, told.requests))
        };
        assert_eq!(told(&span, 119), None, "twice the TTL is longer than what was asked for");
        assert_eq!(told(&span, 120), Some((State::Silent, 0)));
        assert_eq!(told(&span, 121), None);
        span.hear(0, span.meets(&Known::default()), None, span.began.after(Duration::from_secs(130)));
        assert_eq!(told(&span, 131), Some((State::Heard, 1)));
        assert_eq!(told(&span, 249), None);
        assert_eq!(told(&span, 250), Some((State::Silent, 1)));
        tail.begin(Shift { ttl: Duration::from_secs(10), ..shift });
        let next = tail.span().unwrap();
        assert_eq!(told(&next, 1), None, "of another shift nothing has been told");
        assert_eq!(told(&next, 100), Some((State::Silent, 0)));
    }
}
