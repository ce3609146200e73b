//! What stories about stacks begin with: a double with the stack `shop-blue`, and a provider that can reach nothing else.

use std::sync::Arc;

use cutover::config::AwsTimeouts;
use cutover::stack::{Instance, InstanceState, Provider, Stack};

use crate::aws::stage;
use crate::harness::FakeOpsWorks;

/// A provider, and what it takes to reach it.
pub struct Stage {
    pub stacks: Arc<dyn Provider>,
    account: stage::Stage,
}

impl Stage {
    pub async fn at(url: &str) -> Stage {
        Stage::with(url, AwsTimeouts::default()).await
    }

    pub async fn with(url: &str, timeouts: AwsTimeouts) -> Stage {
        let account = stage::Stage::with(url, stage::ZONE, timeouts).await;
        Stage { stacks: account.account.opsworks(None), account }
    }

    /// As `stacks`, where clones are to run as this.
    pub fn running_as(&self, role: &str) -> Arc<dyn Provider> {
        self.account.account.opsworks(Some(role))
    }

    /// The one stack of this name, which has to be there.
    pub async fn stack(&self, name: &str) -> Stack {
        self.stacks.find(name).await.unwrap().unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// How often requests of this operation ended so.
    pub fn counted(&self, operation: &str, result: &str) -> u64 {
        self.account.counted_at("opsworks", operation, result)
    }
}

/// A double with one stack of two instances that are online.
pub async fn blue() -> FakeOpsWorks {
    FakeOpsWorks::with_stack("shop-blue", &["127.0.0.2", "127.0.0.3"]).await
}

/// Host name and state of each.
pub fn states(stack: &Stack) -> Vec<(&str, InstanceState)> {
    stack.instances.iter().map(|it: &Instance| (&*it.name, it.state)).collect()
}
