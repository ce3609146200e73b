//! The record of one request: opened when its head has been read, written once, when it is dropped.

use std::rc::Rc;

use super::lanes::Lane;
use super::refusal::Refusal;
use crate::metrics::RefusalSheet;
use crate::time::Moment;

/// What is known of a request so far. Dropping it counts it, however the request ended.
pub struct Record {
    pub begun: Moment,
    lane: Option<Rc<Lane>>,
    status: u16,
}

impl Record {
    pub fn open() -> Record {
        Record { begun: Moment::now(), lane: None, status: CLIENT_GONE }
    }

    /// The request is inside a pool.
    pub fn admitted(&mut self, lane: &Rc<Lane>) {
        self.lane = Some(lane.clone());
    }

    pub fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// The proxy answers itself; `nowhere` counts what belongs to no service.
    pub fn refused(&mut self, refusal: Refusal, nowhere: &RefusalSheet) {
        self.status = refusal.status().as_u16();
        let sheet = self.lane.as_ref().map_or(nowhere, |lane| &lane.refusals);
        sheet.reasons[refusal.number()].add(1);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(lane) = &self.lane {
            lane.sheet.count(self.status, Moment::now().since(self.begun));
        }
    }
}

/// What a request counts as whose client left before there was an answer: a fault of the client's, class 4xx.
const CLIENT_GONE: u16 = 499;
