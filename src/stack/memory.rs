//! A provider in memory, as strict as OpsWorks about what it takes, and as unreliable as a test wants it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::hands::Outlook;
use super::order::{Obstacle, Verb};
use super::plan::Endpoint;
use super::provider::{
    App, Deployment, DeploymentState, Instance, InstanceState, Provider, ProviderError, Stack, Wanted,
};
use crate::names::Color;

#[derive(Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    stacks: Vec<Stack>,
    /// Of each stack by its id, newest first.
    deployments: Vec<(String, Deployment)>,
    /// What will have happened by then.
    coming: Vec<(Instant, Coming)>,
    /// Every request that was carried out.
    done: Vec<String>,
    faults: VecDeque<Fault>,
    /// Instances of these names come up wrong.
    broken: Vec<String>,
    fails_deployments: bool,
    obstacles: Vec<Obstacle>,
    /// Endpoints that do not pass their checks.
    is_unhealthy: bool,
    ids: usize,
    /// Calls of any kind so far.
    calls: usize,
    /// What is called back before and after each call, by its number: where a test kills the caller.
    hook: Option<Hook>,
}

type Hook = Box<dyn FnMut(usize) + Send>;

#[derive(Clone)]
enum Coming {
    State(String, InstanceState, &'static str),
    Deployed(String, DeploymentState),
    Request(Request),
}

/// What is asked for, as it travels.
#[derive(Clone)]
enum Request {
    Clone(Stack, String),
    Add(String, Instance),
    Start(String),
    Stop(String),
    Deploy(String, String, String),
    Capacity(String, Wanted),
}

/// What befalls the next request that would change something.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    Fine,
    /// It is carried out, and nobody hears of it.
    LostReply,
    /// It is carried out after the caller has given up.
    Late,
    /// It is not carried out, and nobody knows.
    LostRequest,
    Says(ProviderError),
}

impl Memory {
    pub fn with(stacks: Vec<Stack>) -> Memory {
        Memory { inner: Mutex::new(Inner { stacks, ..Inner::default() }) }
    }

    pub fn stacks(&self) -> Vec<Stack> {
        self.read(|inner| inner.stacks.clone())
    }

    pub fn stack(&self, name: &str) -> Stack {
        let stacks = self.stacks();
        let mut found = stacks.iter().filter(|stack| stack.name == name);
        let first = found.next().unwrap_or_else(|| panic!("no stack {name}: {stacks:#?}"));
        assert_eq!(found.next(), None, "one stack of a name");
        first.clone()
    }

    /// Every request that was carried out, in words.
    pub fn done(&self) -> Vec<String> {
        self.read(|inner| inner.done.clone())
    }

    pub fn deployments(&self) -> Vec<Deployment> {
        self.read(|inner| inner.deployments.iter().map(|(_, deployment)| deployment.clone()).collect())
    }

    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.read(|inner| inner.faults.extend(faults));
    }

    pub fn breaks(&self, host: &str) {
        self.read(|inner| inner.broken.push(host.to_owned()));
    }

    pub fn mends(&self) {
        self.read(|inner| {
            inner.broken.clear();
            inner.stacks.iter_mut().for_each(|stack| stack.instances.retain(|it| it.state != InstanceState::Failed));
        });
    }

    pub fn fails_deployments(&self, fails: bool) {
        self.read(|inner| inner.fails_deployments = fails);
    }

    pub fn is_unhealthy(&self, unhealthy: bool) {
        self.read(|inner| inner.is_unhealthy = unhealthy);
    }

    pub fn obstacles(&self, obstacles: Vec<Obstacle>) {
        self.read(|inner| inner.obstacles = obstacles);
    }

    /// Somebody else's hand.
    pub fn meddle(&self, change: impl FnOnce(&mut Vec<Stack>)) {
        self.read(|inner| change(&mut inner.stacks));
    }

    /// Called with a number that grows by one, before and after whatever each call does.
    pub fn hook(&self, hook: impl FnMut(usize) + Send + 'static) {
        self.read(|inner| {
            inner.hook = Some(Box::new(hook));
            inner.calls = 0;
        });
    }

    /// Looks at everything as it is by now.
    fn read<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        let inner = &mut *self.inner.lock().unwrap();
        inner.come_true();
        look(inner)
    }

    /// A moment in which others run, and in which the caller may be gone.
    async fn moment(&self) {
        self.read(|inner| {
            inner.calls += 1;
            let calls = inner.calls;
            inner.hook.iter_mut().for_each(|hook| hook(calls));
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    async fn ask(&self, request: Request) -> Result<Option<String>, ProviderError> {
        self.moment().await;
        let answer = self.read(|inner| inner.receive(request));
        self.moment().await;
        answer
    }
}

impl Inner {
    fn come_true(&mut self) {
        let now = Instant::now();
        while let Some(place) = self.coming.iter().position(|(at, _)| *at <= now) {
            match self.coming.remove(place).1 {
                Coming::State(id, state, says) => {
                    if let Some(instance) = self.instances().find(|instance| instance.id == id) {
                        (instance.state, instance.says) = (state, says.to_owned());
                        let is_online = state == InstanceState::Online;
                        instance.address = is_online.then(|| format!("10.0.0.{}", id.len()));
                    }
                }
                Coming::Deployed(id, state) => {
                    let found = self.deployments.iter_mut().find(|(_, deployment)| deployment.id == id);
                    found.into_iter().for_each(|(_, deployment)| deployment.state = state);
                }
                Coming::Request(request) => drop(self.carry_out(request)),
            }
        }
    }

    fn receive(&mut self, request: Request) -> Result<Option<String>, ProviderError> {
        let reset = || ProviderError::Unknown("the connection was reset".into());
        match self.faults.pop_front().unwrap_or(Fault::Fine) {
            Fault::Fine => self.carry_out(request),
            Fault::LostReply => self.carry_out(request).and(Err(reset())),
            Fault::Late => {
                self.comes(LATE, Coming::Request(request));
                Err(reset())
            }
            Fault::LostRequest => Err(reset()),
            Fault::Says(error) => Err(error),
        }
    }

    fn carry_out(&mut self, request: Request) -> Result<Option<String>, ProviderError> {
        let refuse = |says: String| Err(ProviderError::Refused(format!("ValidationException: {says}")));
        match request {
            Request::Clone(source, name) => {
                let id = self.id("stack");
                self.done.push(format!("clone {name}"));
                self.stacks.push(Stack { id: id.clone(), name, instances: Vec::new(), ..source });
                Ok(Some(id))
            }
            Request::Add(stack, like) => {
                let id = self.id("instance");
                let Some(stack) = self.stacks.iter_mut().find(|known| known.id == stack) else {
                    return refuse(format!("no stack {stack}"));
                };
                self.done.push(format!("add {}", like.name));
                stack.instances.push(Instance {
                    id: id.clone(),
                    state: InstanceState::Stopped,
                    says: "stopped".into(),
                    address: None,
                    ..like
                });
                Ok(Some(id))
            }
            Request::Start(id) => {
                let Some(instance) = self.instances().find(|instance| instance.id == id) else {
                    return refuse(format!("no instance {id}"));
                };
                if instance.state != InstanceState::Stopped {
                    return refuse(format!("{} is {}", instance.name, instance.says));
                }
                (instance.state, instance.says) = (InstanceState::Starting, "booting".into());
                let name = instance.name.clone();
                let up = if self.broken.contains(&name) {
                    Coming::State(id, InstanceState::Failed, "setup_failed")
                } else {
                    Coming::State(id, InstanceState::Online, "online")
                };
                self.done.push(format!("start {name}"));
                self.comes(BOOT, up);
                Ok(None)
            }
            Request::Stop(id) => {
                let Some(instance) = self.instances().find(|instance| instance.id == id) else {
                    return refuse(format!("no instance {id}"));
                };
                if !matches!(instance.state, InstanceState::Online | InstanceState::Failed) {
                    return refuse(format!("{} is {}", instance.name, instance.says));
                }
                (instance.state, instance.says) = (InstanceState::Stopping, "stopping".into());
                let name = instance.name.clone();
                self.done.push(format!("stop {name}"));
                self.comes(BOOT, Coming::State(id, InstanceState::Stopped, "stopped"));
                Ok(None)
            }
            Request::Deploy(stack, app, comment) => {
                let id = self.id("deployment");
                let state = match self.fails_deployments {
                    true => DeploymentState::Failed,
                    false => DeploymentState::Successful,
                };
                self.done.push(format!("deploy {app}"));
                let deployment = Deployment { id: id.clone(), comment, state: DeploymentState::Running };
                self.deployments.insert(0, (stack, deployment));
                self.comes(BOOT, Coming::Deployed(id.clone(), state));
                Ok(Some(id))
            }
            Request::Capacity(stack, wanted) => {
                let ids: Vec<String> = (0..wanted.desired).map(|_| self.id("instance")).collect();
                let Some(stack) = self.stacks.iter_mut().find(|known| known.id == stack) else {
                    return refuse(format!("no group {stack}"));
                };
                if !(wanted.min..=wanted.max).contains(&wanted.desired) {
                    return refuse(format!("{wanted}"));
                }
                stack.capacity = Some(wanted);
                self.done.push(format!("capacity {wanted}"));
                let had = stack.instances.len();
                let gone: Vec<String> = stack.instances.iter().map(|instance| instance.id.clone()).collect();
                for id in ids.iter().skip(had) {
                    let says = "Pending".to_owned();
                    let name = id.clone();
                    let (layers, address, is_automatic) = (Vec::new(), None, false);
                    let state = InstanceState::Starting;
                    stack.instances.push(Instance { id: id.clone(), name, layers, address, state, says, is_automatic });
                }
                ids.iter().skip(had).for_each(|id| {
                    self.coming
                        .push((Instant::now() + BOOT, Coming::State(id.clone(), InstanceState::Online, "InService")));
                });
                for id in gone.into_iter().skip(ids.len()) {
                    self.comes(BOOT, Coming::State(id, InstanceState::Gone, "Terminated"));
                }
                Ok(None)
            }
        }
    }

    fn comes(&mut self, after: Duration, coming: Coming) {
        self.coming.push((Instant::now() + after, coming));
    }

    fn instances(&mut self) -> impl Iterator<Item = &mut Instance> {
        self.stacks.iter_mut().flat_map(|stack| &mut stack.instances)
    }

    fn id(&mut self, of: &str) -> String {
        self.ids += 1;
        // Each of another length, so that each gets an address of its own.
        format!("{of}-{}", "x".repeat(self.ids))
    }
}

impl Provider for Memory {
    fn stacks(&self) -> BoxFuture<'_, Result<Vec<Stack>, ProviderError>> {
        Box::pin(async {
            self.moment().await;
            Ok(Memory::stacks(self))
        })
    }

    fn find<'a>(&'a self, stack: &'a str) -> BoxFuture<'a, Result<Option<Stack>, ProviderError>> {
        Box::pin(async move {
            self.moment().await;
            let mut found = Memory::stacks(self);
            found.retain(|known| known.id == stack || known.name == stack);
            self.moment().await;
            match found.len() {
                0 | 1 => Ok(found.pop()),
                count => Err(ProviderError::Refused(format!("{count} stacks have the name {stack}"))),
            }
        })
    }

    fn clone_stack<'a>(&'a self, source: &'a Stack, name: &'a str) -> BoxFuture<'a, Result<String, ProviderError>> {
        let request = Request::Clone(source.clone(), name.to_owned());
        Box::pin(async move { Ok(self.ask(request).await?.unwrap_or_default()) })
    }

    fn add_instance<'a>(
        &'a self,
        stack: &'a Stack,
        like: &'a Instance,
    ) -> BoxFuture<'a, Result<String, ProviderError>> {
        let request = Request::Add(stack.id.clone(), like.clone());
        Box::pin(async move { Ok(self.ask(request).await?.unwrap_or_default()) })
    }

    fn start_instance<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move { self.ask(Request::Start(instance.id.clone())).await.map(drop) })
    }

    fn stop_instance<'a>(&'a self, instance: &'a Instance) -> BoxFuture<'a, Result<(), ProviderError>> {
        Box::pin(async move { self.ask(Request::Stop(instance.id.clone())).await.map(drop) })
    }

    fn deploy<'a>(
        &'a self,
        stack: &'a Stack,
        app: &'a App,
        comment: &'a str,
    ) -> BoxFuture<'a, Result<String, ProviderError>> {
        let request = Request::Deploy(stack.id.clone(), app.name.clone(), comment.to_owned());
        Box::pin(async move { Ok(self.ask(request).await?.unwrap_or_default()) })
    }

    fn deployments<'a>(&'a self, stack: &'a Stack) -> BoxFuture<'a, Result<Vec<Deployment>, ProviderError>> {
        Box::pin(async move {
            self.moment().await;
            Ok(self.read(|inner| {
                let of = inner.deployments.iter().filter(|(of, _)| *of == stack.id);
                of.map(|(_, deployment)| deployment.clone()).collect()
            }))
        })
    }

    fn set_capacity<'a>(&'a self, stack: &'a Stack, wanted: Wanted) -> BoxFuture<'a, Result<(), ProviderError>> {
        let request = Request::Capacity(stack.id.clone(), wanted);
        Box::pin(async move { self.ask(request).await.map(drop) })
    }
}

/// The proxy as the stories have it: each instance that is online is an endpoint.
impl Outlook for Memory {
    fn obstacles(&self, _: Color, verb: Verb) -> Vec<Obstacle> {
        match verb {
            Verb::Stop => self.read(|inner| inner.obstacles.clone()),
            _ => Vec::new(),
        }
    }

    fn endpoints(&self, _: Color) -> Vec<Endpoint> {
        self.read(|inner| {
            let is_up = !inner.is_unhealthy;
            let addresses: Vec<String> = inner.instances().filter_map(|instance| instance.address.clone()).collect();
            let says = |ip: &str| format!("{ip}:80 is down: connection refused");
            addresses.into_iter().map(|ip| Endpoint { says: says(&ip), ip, is_up }).collect()
        })
    }
}

/// What coming up, going down and deploying take.
pub const BOOT: Duration = Duration::from_secs(90);
/// When what was given up is carried out all the same.
const LATE: Duration = Duration::from_secs(40);
