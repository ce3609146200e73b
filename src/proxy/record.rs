//! The record of one request: opened when its head has been read, written once, when it is dropped.

use std::rc::Rc;

use super::lanes::Lane;
use super::refusal::{Refusal, client_gone};
use crate::metrics::RefusalSheet;
use crate::time::Moment;

/// What is known of a request so far. Dropping it counts it, however the request ended.
pub struct Record {
    pub begun: Moment,
    /// The lane it is for.
    lane: Option<Rc<Lane>>,
    is_inside: bool,
    status: u16,
}

impl Record {
    pub fn open() -> Record {
        Record { begun: Moment::now(), lane: None, is_inside: false, status: client_gone().as_u16() }
    }

    /// The request is for this lane's service.
    pub fn addressed(&mut self, lane: &Rc<Lane>) {
        self.lane = Some(lane.clone());
    }

    /// The request is inside the lane's pool.
    pub fn admitted(&mut self, lane: &Rc<Lane>) {
        self.lane = Some(lane.clone());
        self.is_inside = true;
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
        if let Some(lane) = self.lane.as_ref().filter(|_| self.is_inside) {
            lane.sheet.count(self.status, Moment::now().since(self.begun));
        }
    }
}
