//! What is told about a service's stacks: which they are, and how far the newest order is.

use serde::{Deserialize, Serialize};

use super::order::{Order, Site};
use super::provider::Instance;
use crate::names::{PerColor, ServiceName};
use crate::time::Timestamp;

/// `services[].stack` of the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub service: ServiceName,
    /// Null where a color's endpoints are not learned from a stack.
    #[serde(flatten)]
    pub sites: PerColor<Option<Site>>,
    /// Why no order to them can be carried out.
    pub message: Option<String>,
    /// The newest.
    pub order: Option<OrderView>,
}

/// An order, and what only the moment knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderView {
    #[serde(flatten)]
    pub order: Order,
    /// What is waited for, or what the provider said last.
    pub says: Option<String>,
    /// By when the step has to be over.
    pub deadline: Option<Timestamp>,
    /// The stack's, as they were when it was looked at last.
    pub instances: Vec<Instance>,
}

impl OrderView {
    pub fn of(order: &Order, deadline: Timestamp) -> OrderView {
        OrderView {
            says: order.says.clone(),
            deadline: order.outcome.is_none().then_some(deadline),
            instances: order.instances.clone(),
            order: order.clone(),
        }
    }
}
