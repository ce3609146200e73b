//! Stacks of OpsWorks: told whole, cloned, filled, started, deployed and stopped, by one request for each of these.

use aws_sdk_opsworks::types::{self, DeploymentCommand, DeploymentCommandName};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::Account;
use super::call::{self, Call, Operation, Subject};
use super::error::CallError;
use crate::stack::{App, Deployment, DeploymentState, Instance, InstanceState, Provider, ProviderError, Stack, Wanted};

/// The stacks of an account.
pub struct OpsWorks {
    account: Account,
    /// What clones are run as; `None`: as their source is.
    service_role: Option<String>,
}

impl OpsWorks {
    pub fn new(account: Account, service_role: Option<String>) -> OpsWorks {
        OpsWorks { account, service_role }
    }

    fn client(&self) -> Result<&aws_sdk_opsworks::Client, CallError> {
        self.account.opsworks_client()
    }

    async fn list(&self) -> Result<Vec<Stack>, ProviderError> {
        let mut stacks = Vec::new();
        for bare in all(&self.account, self.account.deadline(), "*").await? {
            stacks.push(self.fill(&bare, self.account.deadline()).await?);
        }
        stacks.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        Ok(stacks)
    }

    async fn look_up(&self, wanted: &str) -> Result<Option<Stack>, ProviderError> {
        let deadline = self.account.deadline();
        match called(&self.account, deadline, wanted).await? {
            Some(found) => self.fill(&found, deadline).await.map(Some),
            None => Ok(None),
        }
    }

    /// The stack with its apps and instances.
    async fn fill(&self, bare: &types::Stack, deadline: Instant) -> Result<Stack, ProviderError> {
        let id = bare.stack_id().unwrap_or_default();
        let layers = self.layers(id, deadline).await?;
        let request = self.client()?.describe_apps().stack_id(id);
        let send = |sent| request.customize().interceptor(sent).send();
        let apps = self.account.ask(stack(call::DESCRIBE_APPS, id), deadline, send).await?;
        let request = self.client()?.describe_instances().stack_id(id);
        let send = |sent| request.customize().interceptor(sent).send();
        let instances = self.account.ask(stack(call::DESCRIBE_STACK_INSTANCES, id), deadline, send).await?;
        let mut instances: Vec<Instance> = instances.instances().iter().map(|it| instance_of(it, &layers)).collect();
        instances.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        Ok(Stack {
            id: id.to_owned(),
            name: text(bare.name()),
            apps: apps.apps().iter().map(|app| App { id: text(app.app_id()), name: text(app.name()) }).collect(),
            instances,
            capacity: None,
        })
    }

    async fn layers(&self, id: &str, deadline: Instant) -> Result<Vec<types::Layer>, ProviderError> {
        let request = self.client()?.describe_layers().stack_id(id);
        let send = |sent| request.customize().interceptor(sent).send();
        let answer = self.account.ask(stack(call::DESCRIBE_LAYERS, id), deadline, send).await?;
        Ok(answer.layers.unwrap_or_default())
    }

    /// The network is not taken from the source unless it is named, nor are apps and permissions; all else is.
    async fn clone_of(&self, source: &Stack, name: &str) -> Result<String, ProviderError> {
        let deadline = self.account.deadline();
        let all = all(&self.account, deadline, &source.id).await?;
        if let Some(other) = all.iter().find(|stack| stack.name() == Some(name)) {
            let id = other.stack_id().unwrap_or_default();
            return Err(ProviderError::Refused(format!("there is a stack {name} already ({id}): nothing was cloned")));
        }
        let found = all.iter().find(|stack| stack.stack_id() == Some(&source.id));
        let gone = || ProviderError::Refused(format!("there is no stack {} ({}) any more", source.name, source.id));
        let origin = found.ok_or_else(gone)?;
        let role = self.service_role.clone().or_else(|| origin.service_role_arn().map(str::to_owned));
        let request = self
            .client()?
            .clone_stack()
            .source_stack_id(&source.id)
            .name(name)
            .set_service_role_arn(role)
            .set_vpc_id(origin.vpc_id().map(str::to_owned))
            .set_default_subnet_id(origin.default_subnet_id().map(str::to_owned))
            .set_default_availability_zone(origin.default_availability_zone().map(str::to_owned))
            .clone_permissions(true)
            .set_clone_app_ids(Some(source.apps.iter().map(|app| app.id.clone()).collect()));
        let send = |sent| request.customize().interceptor(sent).send();
        let answer = self.account.ask(stack(call::CLONE_STACK, &source.name), deadline, send).await?;
        made(answer.stack_id, call::CLONE_STACK)
    }

    async fn add(&self, to: &Stack, like: &Instance) -> Result<String, ProviderError> {
        let deadline = self.account.deadline();
        let request = self.client()?.describe_instances().instance_ids(&like.id);
        let send = |sent| request.customize().interceptor(sent).send();
        let found = self.account.ask(instance(call::DESCRIBE_STACK_INSTANCES, &like.id), deadline, send).await?;
        let model = found.instances.unwrap_or_default().pop();
        let gone = || ProviderError::Refused(format!("there is no instance {} ({}) any more", like.name, like.id));
        let model = model.ok_or_else(gone)?;
        let layers = self.layers(&to.id, deadline).await?;
        let layer = |short: &String| {
            let found = layers.iter().find(|layer| layer.shortname() == Some(short)).and_then(|layer| layer.layer_id());
            let missing = || ProviderError::Refused(format!("stack {} has no layer {short}: make it", to.name));
            found.map(str::to_owned).ok_or_else(missing)
        };
        let layers = like.layers.iter().map(layer).collect::<Result<Vec<_>, _>>()?;
        // An AMI stands in the description of any instance, and may be asked for only where the system is a custom one;
        // then the AMI says what the disks are.
        let is_custom = model.os() == Some("Custom");
        let request = self
            .client()?
            .create_instance()
            .stack_id(&to.id)
            .set_layer_ids(Some(layers))
            .set_instance_type(model.instance_type)
            .set_auto_scaling_type(model.auto_scaling_type)
            .set_hostname(model.hostname)
            .set_os(model.os)
            .set_ami_id(model.ami_id.filter(|_| is_custom))
            .set_ssh_key_name(model.ssh_key_name)
            .set_availability_zone(model.availability_zone)
            .set_virtualization_type(model.virtualization_type.map(|kind| kind.as_str().to_owned()))
            .set_subnet_id(model.subnet_id)
            .set_architecture(model.architecture)
            .set_root_device_type(model.root_device_type)
            .set_block_device_mappings(model.block_device_mappings.filter(|_| !is_custom))
            .set_install_updates_on_boot(model.install_updates_on_boot)
            .set_ebs_optimized(model.ebs_optimized)
            .set_agent_version(model.agent_version)
            .set_tenancy(model.tenancy);
        let send = |sent| request.customize().interceptor(sent).send();
        let answer = self.account.ask(stack(call::CREATE_INSTANCE, &to.name), deadline, send).await?;
        made(answer.instance_id, call::CREATE_INSTANCE)
    }

    async fn start(&self, which: &Instance) -> Result<(), ProviderError> {
        let request = self.client()?.start_instance().instance_id(&which.id);
        let send = |sent| request.customize().interceptor(sent).send();
        let call = instance(call::START_INSTANCE, &which.name);
        self.account.ask(call, self.account.deadline(), send).await?;
        Ok(())
    }

    async fn stop(&self, which: &Instance) -> Result<(), ProviderError> {
        let request = self.client()?.stop_instance().instance_id(&which.id);
        let send = |sent| request.customize().interceptor(sent).send();
        self.account.ask(instance(call::STOP_INSTANCE, &which.name), self.account.deadline(), send).await?;
        Ok(())
    }

    /// What is online is named, so that it is known what the deployment is to reach.
    async fn begin(&self, to: &Stack, app: &App, comment: &str) -> Result<String, ProviderError> {
        let online = to.instances.iter().filter(|instance| instance.state == InstanceState::Online);
        let online: Vec<String> = online.map(|instance| instance.id.clone()).collect();
        if online.is_empty() {
            let says =
                format!("no instance of stack {} is online, so that {} can be deployed to none", to.name, app.name);
            return Err(ProviderError::Refused(says));
        }
        let command = DeploymentCommand::builder().name(DeploymentCommandName::Deploy).build();
        let command = command.map_err(|error| ProviderError::Refused(error.to_string()))?;
        let request = self
            .client()?
            .create_deployment()
            .stack_id(&to.id)
            .app_id(&app.id)
            .set_instance_ids(Some(online))
            .command(command)
            .comment(comment);
        let send = |sent| request.customize().interceptor(sent).send();
        let call = stack(call::CREATE_DEPLOYMENT, &to.name);
        let answer = self.account.ask(call, self.account.deadline(), send).await?;
        made(answer.deployment_id, call::CREATE_DEPLOYMENT)
    }

    async fn list_deployments(&self, of: &Stack) -> Result<Vec<Deployment>, ProviderError> {
        let request = self.client()?.describe_deployments().stack_id(&of.id);
        let send = |sent| request.customize().interceptor(sent).send();
        let call = stack(call::DESCRIBE_DEPLOYMENTS, &of.name);
        let answer = self.account.ask(call, self.account.deadline(), send).await?;
        let mut found = answer.deployments.unwrap_or_default();
        // The times are RFC 3339 in one zone: their order is that of their letters.
        found.sort_by(|one, other| other.created_at().cmp(&one.created_at()));
        Ok(found.iter().map(deployment_of).collect())
    }
}

impl Provider for OpsWorks {
    fn stacks(&self) -> BoxFuture<'_, Result<Vec<Stack>, ProviderError>> {
        self.list().boxed()
    }

    fn find<'a>(&'a self, stack: &'a str) -> BoxFuture<'a, Result<Option<Stack>, ProviderError>> {
        self.look_up(stack).boxed()
    }

    fn clone_stack<'a>(&'a self, source: &'a Stack, name: &'a str) -> BoxFuture<'a, Result<String, ProviderError>> {
        self.clone_of(source, name).boxed()
    }

    fn add_instance<'a>(
        &'a self,
        stack: &'a Stack,
        like: &'a Instance,
    ) -> BoxFuture<'a, Result<String, ProviderError>> {
        self.add(stack, like).boxed()
    }

    fn start_instance<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.start(instance).boxed()
    }

    fn stop_instance<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.stop(instance).boxed()
    }

    fn deploy<'a>(
        &'a self,
        stack: &'a Stack,
        app: &'a App,
        comment: &'a str,
    ) -> BoxFuture<'a, Result<String, ProviderError>> {
        self.begin(stack, app, comment).boxed()
    }

    fn deployments<'a>(&'a self, stack: &'a Stack) -> BoxFuture<'a, Result<Vec<Deployment>, ProviderError>> {
        self.list_deployments(stack).boxed()
    }

    fn set_capacity<'a>(&'a self, stack: &'a Stack, _: Wanted) -> BoxFuture<'a, Result<(), ProviderError>> {
        let says = format!("stack {} of OpsWorks has no capacity: its instances are started and stopped", stack.name);
        async { Err(ProviderError::Refused(says)) }.boxed()
    }
}

/// The one stack of this id or name, without what is in it.
pub async fn called(account: &Account, deadline: Instant, wanted: &str) -> Result<Option<types::Stack>, CallError> {
    let mut all = all(account, deadline, wanted).await?;
    if let Some(at) = all.iter().position(|stack| stack.stack_id() == Some(wanted)) {
        return Ok(Some(all.swap_remove(at)));
    }
    all.retain(|stack| stack.name() == Some(wanted));
    if all.len() > 1 {
        let ids: Vec<&str> = all.iter().filter_map(|stack| stack.stack_id()).collect();
        return Err(CallError::Refused(format!(
            "{} OpsWorks stacks are called {wanted}; write the id of one for `stack`: {}",
            all.len(),
            ids.join(", ")
        )));
    }
    Ok(all.pop())
}

/// The API lists all at once.
async fn all(account: &Account, deadline: Instant, wanted: &str) -> Result<Vec<types::Stack>, CallError> {
    let request = account.opsworks_client()?.describe_stacks();
    let send = |sent| request.customize().interceptor(sent).send();
    let answer = account.ask(stack(call::DESCRIBE_STACKS, wanted), deadline, send).await?;
    Ok(answer.stacks.unwrap_or_default())
}

fn stack(operation: Operation, name: &str) -> Call<'_> {
    Call { operation, subject: Subject { kind: "OpsWorks stack", name, key: "stack" } }
}

fn instance(operation: Operation, name: &str) -> Call<'_> {
    Call { operation, subject: Subject { kind: "OpsWorks instance", name, key: "stack" } }
}

/// An answer without an id was no whole answer.
fn made(id: Option<String>, operation: Operation) -> Result<String, ProviderError> {
    id.ok_or_else(|| ProviderError::Unknown(format!("{operation}: the answer names nothing that was made")))
}

fn instance_of(found: &types::Instance, layers: &[types::Layer]) -> Instance {
    let short = |id: &String| {
        let layer = layers.iter().find(|layer| layer.layer_id() == Some(id));
        layer.and_then(|layer| layer.shortname()).unwrap_or(id).to_owned()
    };
    Instance {
        id: text(found.instance_id()),
        name: text(found.hostname()),
        layers: found.layer_ids().iter().map(short).collect(),
        address: found.private_ip().or(found.public_ip()).map(str::to_owned),
        state: state(found.status().unwrap_or_default()),
        says: text(found.status()),
        is_automatic: found.auto_scaling_type().is_some(),
    }
}

/// A stopped instance was `terminated` just before: that is the EC2 instance beneath it, and no end.
fn state(status: &str) -> InstanceState {
    match status {
        "stopped" => InstanceState::Stopped,
        "requested" | "pending" | "booting" | "running_setup" | "rebooting" | "registering" | "assigning" => {
            InstanceState::Starting
        }
        "online" => InstanceState::Online,
        "stopping" | "terminating" | "shutting_down" | "terminated" | "unassigning" | "deregistering" => {
            InstanceState::Stopping
        }
        // `start_failed`, `setup_failed`, `stop_failed`, `connection_lost`, and what nobody here has heard of.
        _ => InstanceState::Failed,
    }
}

fn deployment_of(found: &types::Deployment) -> Deployment {
    let state = match found.status() {
        Some("successful") => DeploymentState::Successful,
        Some("failed") => DeploymentState::Failed,
        // What has not ended has not succeeded.
        _ => DeploymentState::Running,
    };
    Deployment { id: text(found.deployment_id()), comment: text(found.comment()), state }
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

/// What orders ask, and what they do.
pub const READS: [Operation; 5] = [
    call::DESCRIBE_STACKS,
    call::DESCRIBE_LAYERS,
    call::DESCRIBE_APPS,
    call::DESCRIBE_STACK_INSTANCES,
    call::DESCRIBE_DEPLOYMENTS,
];
pub const CHANGES: [Operation; 5] =
    [call::CLONE_STACK, call::CREATE_INSTANCE, call::START_INSTANCE, call::STOP_INSTANCE, call::CREATE_DEPLOYMENT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_api_is_one_of_ours() {
        for (statuses, expected) in [
            ("stopped", InstanceState::Stopped),
            ("requested pending booting running_setup rebooting", InstanceState::Starting),
            ("online", InstanceState::Online),
            ("stopping terminating shutting_down terminated", InstanceState::Stopping),
            ("start_failed setup_failed stop_failed connection_lost registered something_new", InstanceState::Failed),
        ] {
            for status in statuses.split(' ') {
                assert_eq!(state(status), expected, "{status}");
            }
        }
    }

    #[test]
    fn a_deployment_succeeds_only_by_saying_so() {
        let of = |status: &str| deployment_of(&types::Deployment::builder().status(status).build()).state;
        assert_eq!(of("successful"), DeploymentState::Successful);
        assert_eq!(of("failed"), DeploymentState::Failed);
        assert_eq!(of("running"), DeploymentState::Running);
        assert_eq!(of("something_new"), DeploymentState::Running);
    }
}
