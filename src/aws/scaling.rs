//! Auto Scaling groups as stacks: how many instances each is to have, and which it has. It starts and stops them itself.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roxmltree::Node;
use tokio::time::Instant;

use super::Account;
use super::call::{Call, DESCRIBE_GROUPS, Operation, Subject, UPDATE_GROUP};
use super::error::CallError;
use super::query::Form;
use super::source::look_up;
use super::xml::{Odd, child, items, needed, text_of};
use crate::stack::{App, Deployment, Instance, InstanceState, Provider, ProviderError, Stack, Wanted};

/// The groups of an account in one region.
pub struct Scaling {
    account: Account,
}

impl Scaling {
    pub fn new(account: Account) -> Scaling {
        Scaling { account }
    }

    async fn list(&self) -> Result<Vec<Stack>, CallError> {
        let deadline = self.account.deadline();
        let form = Form::default().with("MaxRecords", PAGE);
        let (mut stacks, mut from) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PAGES {
            let form = from.iter().fold(form.clone(), |form, token| form.with("NextToken", token));
            let (found, next) = self.account.query(group(DESCRIBE_GROUPS, "*"), deadline, form, page).await?;
            stacks.extend(found);
            from = next;
            if from.is_none() {
                stacks.sort_by(|one: &Stack, other| one.name.cmp(&other.name));
                self.place("*", &mut stacks, deadline).await?;
                return Ok(stacks);
            }
        }
        let says = format!("{DESCRIBE_GROUPS}: the list does not end: {MOST_PAGES} pages and still more");
        Err(CallError::Unreachable(says))
    }

    async fn look_for(&self, name: &str) -> Result<Option<Stack>, CallError> {
        let deadline = self.account.deadline();
        let form = Form::default().with("AutoScalingGroupNames.member.1", name);
        let (mut found, _) = self.account.query(group(DESCRIBE_GROUPS, name), deadline, form, page).await?;
        found.retain(|stack| stack.name == name);
        self.place(name, &mut found, deadline).await?;
        Ok(found.pop())
    }

    /// Where instances are is for EC2 to say; of one that it does not know, nobody.
    async fn place(&self, name: &str, stacks: &mut [Stack], deadline: Instant) -> Result<(), CallError> {
        let ids: Vec<&str> = stacks.iter().flat_map(|stack| &stack.instances).map(|it| it.id.as_str()).collect();
        let known = look_up(&self.account, deadline, group(DESCRIBE_GROUPS, name).subject, &ids).await?;
        for instance in stacks.iter_mut().flat_map(|stack| &mut stack.instances) {
            instance.address = known.get(&instance.id).and_then(|it| it.address).map(|address| address.to_string());
        }
        Ok(())
    }

    /// All three at once: one after the other could contradict each other. The same again changes nothing.
    async fn set(&self, stack: &Stack, wanted: Wanted) -> Result<(), CallError> {
        let form = Form::default()
            .with("AutoScalingGroupName", &stack.id)
            .with("MinSize", wanted.min.to_string())
            .with("DesiredCapacity", wanted.desired.to_string())
            .with("MaxSize", wanted.max.to_string());
        self.account.query(group(UPDATE_GROUP, &stack.name), self.account.deadline(), form, |_| Ok(())).await
    }
}

impl Provider for Scaling {
    fn stacks(&self) -> BoxFuture<'_, Result<Vec<Stack>, ProviderError>> {
        async { Ok(self.list().await?) }.boxed()
    }

    fn find<'a>(&'a self, stack: &'a str) -> BoxFuture<'a, Result<Option<Stack>, ProviderError>> {
        async { Ok(self.look_for(stack).await?) }.boxed()
    }

    fn clone_stack<'a>(&'a self, source: &'a Stack, _: &'a str) -> BoxFuture<'a, Result<String, ProviderError>> {
        refused(source, "is not cloned: make the other group once, from the same launch template, and set its capacity")
    }

    fn add_instance<'a>(&'a self, stack: &'a Stack, _: &'a Instance) -> BoxFuture<'a, Result<String, ProviderError>> {
        refused(stack, "gets its instances by itself: set its capacity")
    }

    fn start_instance<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<(), ProviderError>> {
        let says = format!("{} is started by its Auto Scaling group: set the group's capacity", instance.name);
        async { Err(ProviderError::Refused(says)) }.boxed()
    }

    fn stop_instance<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<(), ProviderError>> {
        let says = format!("{} is stopped by its Auto Scaling group: set the group's capacity", instance.name);
        async { Err(ProviderError::Refused(says)) }.boxed()
    }

    fn deploy<'a>(&'a self, stack: &'a Stack, _: &'a App, _: &'a str) -> BoxFuture<'a, Result<String, ProviderError>> {
        refused(stack, "is not deployed to: give it a launch template with the new version before it starts instances")
    }

    fn deployments<'a>(&'a self, _: &'a Stack) -> BoxFuture<'a, Result<Vec<Deployment>, ProviderError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn set_capacity<'a>(&'a self, stack: &'a Stack, wanted: Wanted) -> BoxFuture<'a, Result<(), ProviderError>> {
        async move { Ok(self.set(stack, wanted).await?) }.boxed()
    }
}

/// `says` goes on where the name ends.
fn refused<T: Send>(stack: &Stack, says: &str) -> BoxFuture<'static, Result<T, ProviderError>> {
    let says = format!("the Auto Scaling group {} {says}", stack.name);
    async { Err(ProviderError::Refused(says)) }.boxed()
}

fn group(operation: Operation, name: &str) -> Call<'_> {
    Call { operation, subject: Subject { kind: "Auto Scaling group", name, key: "name" } }
}

/// The groups of one page, and where the next begins, if there is one.
fn page(answer: Node) -> Result<(Vec<Stack>, Option<String>), Odd> {
    let result = child(answer, "DescribeAutoScalingGroupsResult").ok_or("the answer has no result")?;
    let stacks = items(result, "AutoScalingGroups").map(stack).collect::<Result<_, _>>()?;
    Ok((stacks, text_of(result, "NextToken").map(str::to_owned)))
}

fn stack(node: Node) -> Result<Stack, Odd> {
    let name = needed(node, "AutoScalingGroupName")?.to_owned();
    let count = |field| {
        let text = needed(node, field)?;
        text.parse().map_err(|_| format!("the `{field}` of {name} is `{text}`, which is no number"))
    };
    let capacity = Wanted { min: count("MinSize")?, desired: count("DesiredCapacity")?, max: count("MaxSize")? };
    let mut instances = items(node, "Instances").map(instance).collect::<Result<Vec<_>, Odd>>()?;
    instances.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Stack { id: name.clone(), name, apps: Vec::new(), instances, capacity: Some(capacity) })
}

fn instance(node: Node) -> Result<Instance, Odd> {
    let id = needed(node, "InstanceId")?.to_owned();
    let (lifecycle, health) = (needed(node, "LifecycleState")?, text_of(node, "HealthStatus").unwrap_or_default());
    let state = state(lifecycle, health);
    let says = if state == InstanceState::Failed && lifecycle == "InService" { health } else { lifecycle };
    let says = says.to_owned();
    Ok(Instance { name: id.clone(), id, layers: Vec::new(), address: None, state, says, is_automatic: true })
}

/// By the part before the first colon, except for what a warm pool keeps.
fn state(lifecycle: &str, health: &str) -> InstanceState {
    match lifecycle.split(':').next().unwrap_or_default() {
        "InService" if health.eq_ignore_ascii_case("Healthy") => InstanceState::Online,
        "Pending" => InstanceState::Starting,
        "Terminating" | "Detaching" | "EnteringStandby" => InstanceState::Stopping,
        "Terminated" | "Detached" => InstanceState::Gone,
        "Warmed" => InstanceState::Stopped,
        // In service without being healthy, set aside by an operator, or what nobody here has heard of.
        _ => InstanceState::Failed,
    }
}

/// The most that are listed at once.
const PAGE: &str = "100";
/// More groups than an account may have.
const MOST_PAGES: usize = 20;

#[cfg(test)]
mod tests {
    use super::super::xml::read;
    use super::*;

    #[test]
    fn every_state_of_a_life_is_one_of_ours() {
        for (states, health, expected) in [
            ("InService", "Healthy", InstanceState::Online),
            ("InService", "HEALTHY", InstanceState::Online),
            ("InService", "Unhealthy", InstanceState::Failed),
            ("Pending Pending:Wait Pending:Proceed", "Healthy", InstanceState::Starting),
            ("Terminating Terminating:Wait Detaching EnteringStandby", "Healthy", InstanceState::Stopping),
            ("Terminated Detached", "Unhealthy", InstanceState::Gone),
            ("Warmed:Stopped Warmed:Pending:Wait", "Healthy", InstanceState::Stopped),
            ("Standby Quarantined SomethingNew", "Healthy", InstanceState::Failed),
        ] {
            for lifecycle in states.split(' ') {
                assert_eq!(state(lifecycle, health), expected, "{lifecycle} {health}");
            }
        }
    }

    #[test]
    fn a_group_needs_its_sizes_and_a_page_says_what_comes_next() {
        let of = |group: &str, next: &str| {
            let text = format!(
                "<DescribeAutoScalingGroupsResponse xmlns=\"http://a/\"><DescribeAutoScalingGroupsResult><AutoScalingGroups>\
                 <member><AutoScalingGroupName>shop</AutoScalingGroupName>{group}</member></AutoScalingGroups>{next}\
                 </DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
            );
            read(&text, "DescribeAutoScalingGroupsResponse", page)
        };
        let sizes = "<MinSize>1</MinSize><MaxSize>4</MaxSize><DesiredCapacity>2</DesiredCapacity>";
        let one = |id: &str, health: &str| {
            format!(
                "<member><InstanceId>{id}</InstanceId><LifecycleState>InService</LifecycleState>\
                 <HealthStatus>{health}</HealthStatus></member>"
            )
        };
        let members = format!("<Instances>{}{}</Instances>", one("i-2", "Unhealthy"), one("i-1", "Healthy"));
        let (stacks, next) = of(&format!("{sizes}{members}"), "<NextToken>more</NextToken>").unwrap();
        assert_eq!(stacks[0].capacity, Some(Wanted { min: 1, desired: 2, max: 4 }));
        let told: Vec<_> = stacks[0].instances.iter().map(|it| (&*it.name, &*it.says)).collect();
        assert_eq!(told, [("i-1", "InService"), ("i-2", "Unhealthy")]);
        assert_eq!(next.as_deref(), Some("more"));
        assert_eq!(of(sizes, "").unwrap().0[0].instances, []);
        assert!(of("", "").unwrap_err().contains("MinSize"));
        assert!(of(&sizes.replace('4', "many"), "").unwrap_err().contains("`many`"));
    }
}
