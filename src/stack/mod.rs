//! Stacks: listed, cloned, started, deployed and stopped, step by step, and never one thing twice.

mod act;
mod desk;
mod figures;
mod foreman;
mod hands;
mod machine;
#[cfg(test)]
mod memory;
mod order;
mod plan;
mod provider;
#[cfg(test)]
mod scene;
mod status;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod walk;

pub use self::act::Call;
pub use self::desk::{Denied, Desk, Listed, Wish};
pub use self::figures::Figures;
pub use self::foreman::Foreman;
pub use self::hands::{Hands, Outlook, Providers};
pub use self::order::{Evidence, Kind, Obstacle, Order, Outcome, Site, Step, Verb};
pub use self::plan::Endpoint;
pub use self::provider::{
    App, Deployment, DeploymentState, Instance, InstanceState, Provider, ProviderError, Stack, Wanted,
};
pub use self::status::{OrderView, Status};
