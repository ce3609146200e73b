//! Stacks: listed, cloned, started, deployed and stopped, step by step, and never one thing twice.

mod provider;

pub use self::provider::{
    App, Deployment, DeploymentState, Instance, InstanceState, Provider, ProviderError, Stack, Wanted,
};
