//! The instances of an OpsWorks stack, or of one layer of it, that are online.

use tokio::time::Instant;

use super::Roll;
use crate::aws::Account;
use crate::aws::call::{Call, DESCRIBE_LAYERS, DESCRIBE_STACK_INSTANCES, DESCRIBE_STACKS, Subject};
use crate::aws::error::CallError;
use crate::aws::failure::missing;
use crate::aws::opsworks::called;
use crate::config::OpsWorksLayer;

pub async fn ask(account: &Account, deadline: Instant, of: &OpsWorksLayer) -> Result<Roll, CallError> {
    let stack = stack(account, deadline, &of.stack).await?;
    let layer = match &of.layer {
        Some(layer) => Some(self::layer(account, deadline, &of.stack, &stack, layer).await?),
        None => None,
    };
    let call = Call { operation: DESCRIBE_STACK_INSTANCES, subject: subject(&of.stack) };
    let request = account.opsworks_client()?.describe_instances().stack_id(stack);
    let answer = account.ask(call, deadline, |sent| request.customize().interceptor(sent).send()).await?;
    let mut roll = Roll::default();
    for instance in answer.instances() {
        let is_in = |layer: &String| instance.layer_ids().contains(layer);
        if !layer.as_ref().is_none_or(is_in) {
            continue;
        }
        // Its host name is how OpsWorks's own pages call it.
        let name = instance.hostname().or(instance.instance_id()).unwrap_or("an instance without a name");
        match (instance.status().unwrap_or("in an unknown state"), instance.private_ip().map(str::parse)) {
            ("online", Some(Ok(address))) => roll.propose(name, address, of.port),
            ("online", _) => roll.leave_out(name, "has no private address"),
            (status, _) => roll.leave_out(name, &format!("is {status}")),
        }
    }
    Ok(roll)
}

/// The id of the one stack of this id or name.
async fn stack(account: &Account, deadline: Instant, wanted: &str) -> Result<String, CallError> {
    let call = Call { operation: DESCRIBE_STACKS, subject: subject(wanted) };
    let found = called(account, deadline, wanted).await?;
    found.and_then(|stack| stack.stack_id).ok_or_else(|| missing(call, "none is called that"))
}

/// The id of the one layer of this id or short name.
async fn layer(account: &Account, deadline: Instant, stack: &str, id: &str, wanted: &str) -> Result<String, CallError> {
    let call = Call { operation: DESCRIBE_LAYERS, subject: subject(stack) };
    let request = account.opsworks_client()?.describe_layers().stack_id(id);
    let answer = account.ask(call, deadline, |sent| request.customize().interceptor(sent).send()).await?;
    let mut layers = answer.layers().iter();
    let found = layers.find(|layer| layer.layer_id() == Some(wanted) || layer.shortname() == Some(wanted));
    found.and_then(|layer| layer.layer_id()).map(str::to_owned).ok_or_else(|| {
        let known: Vec<_> = answer.layers().iter().filter_map(|layer| layer.shortname()).collect();
        CallError::Refused(format!(
            "the OpsWorks stack {stack} has no layer {wanted}; correct `layer` in the config: it has {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        ))
    })
}

fn subject(stack: &str) -> Subject<'_> {
    Subject { kind: "OpsWorks stack", name: stack, key: "stack" }
}
