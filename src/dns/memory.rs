//! A zone in memory, as strict as Route 53 about what a batch may say, and as unreliable as a test wants it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::plan::after;
use super::zone::{Action, Batch, ChangeId, Data, Progress, RecordSet, Zone, ZoneError, ZoneInfo};
use crate::names::{DnsName, RecordType};

pub struct Memory {
    inner: Mutex<Inner>,
    /// How long a change takes to arrive at every name server.
    pub spread: Duration,
}

#[derive(Default)]
struct Inner {
    sets: Vec<RecordSet>,
    applied: Vec<(Batch, Instant)>,
    faults: VecDeque<Fault>,
    /// Changes at these places never arrive.
    stuck: Vec<usize>,
    /// Calls of any kind so far.
    calls: usize,
    /// What is called back before and after each call, by its number: where a test kills the caller.
    hook: Option<Hook>,
}

type Hook = Box<dyn FnMut(usize) + Send>;

/// What befalls the next change.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    Fine,
    /// It is applied, and nobody hears of it.
    LostReply,
    /// It is not applied, and nobody knows.
    LostRequest,
    Says(ZoneError),
    /// It is taken, and never arrives.
    Stuck,
}

impl Memory {
    pub fn new(sets: Vec<RecordSet>) -> Memory {
        Memory { inner: Mutex::new(Inner { sets, ..Inner::default() }), spread: Duration::from_secs(30) }
    }

    pub fn sets(&self) -> Vec<RecordSet> {
        self.inner.lock().unwrap().sets.clone()
    }

    pub fn batches(&self) -> Vec<Batch> {
        self.inner.lock().unwrap().applied.iter().map(|(batch, _)| batch.clone()).collect()
    }

    /// When each batch was applied.
    pub fn times(&self) -> Vec<Instant> {
        self.inner.lock().unwrap().applied.iter().map(|(_, at)| *at).collect()
    }

    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.lock().unwrap().faults.extend(faults);
    }

    /// Somebody else's hand.
    pub fn meddle(&self, change: impl FnOnce(&mut Vec<RecordSet>)) {
        change(&mut self.inner.lock().unwrap().sets);
    }

    /// Called with a number that grows by one, before and after whatever each call does.
    pub fn hook(&self, hook: impl FnMut(usize) + Send + 'static) {
        let mut inner = self.inner.lock().unwrap();
        inner.hook = Some(Box::new(hook));
        inner.calls = 0;
    }

    /// A moment in which others run, and in which the caller may be gone.
    async fn moment(&self) {
        {
            let inner = &mut *self.inner.lock().unwrap();
            inner.calls += 1;
            let calls = inner.calls;
            inner.hook.iter_mut().for_each(|hook| hook(calls));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    fn apply(&self, batch: &Batch) -> Result<ChangeId, ZoneError> {
        let inner = &mut *self.inner.lock().unwrap();
        let fault = inner.faults.pop_front().unwrap_or(Fault::Fine);
        match &fault {
            Fault::LostRequest => return Err(ZoneError::Unknown("the connection was reset".into())),
            Fault::Says(error) => return Err(error.clone()),
            Fault::Fine | Fault::LostReply | Fault::Stuck => {}
        }
        check(&inner.sets, batch).map_err(ZoneError::Conflict)?;
        inner.sets = after(&inner.sets, batch);
        inner.applied.push((batch.clone(), Instant::now()));
        let place = inner.applied.len() - 1;
        match fault {
            Fault::LostReply => return Err(ZoneError::Unknown("the connection was reset".into())),
            Fault::Stuck => inner.stuck.push(place),
            _ => {}
        }
        Ok(ChangeId(place.to_string()))
    }
}

impl Zone for Memory {
    fn describe(&self) -> BoxFuture<'_, Result<ZoneInfo, ZoneError>> {
        let info = ZoneInfo { name: "example.com".parse().unwrap(), name_servers: vec!["ns1.test".parse().unwrap()] };
        Box::pin(async { Ok(info) })
    }

    fn records<'a>(&'a self, name: &'a DnsName) -> BoxFuture<'a, Result<Vec<RecordSet>, ZoneError>> {
        Box::pin(async {
            self.moment().await;
            let found = self.sets().into_iter().filter(|set| set.name == *name).collect();
            self.moment().await;
            Ok(found)
        })
    }

    fn change<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<ChangeId, ZoneError>> {
        Box::pin(async {
            self.moment().await;
            let applied = self.apply(batch);
            self.moment().await;
            applied
        })
    }

    fn progress<'a>(&'a self, change: &'a ChangeId) -> BoxFuture<'a, Result<Progress, ZoneError>> {
        Box::pin(async {
            self.moment().await;
            let inner = self.inner.lock().unwrap();
            let place: usize = change.0.parse().unwrap();
            // What this zone does not know has arrived before its time.
            let old = inner.applied.get(place).is_none_or(|(_, at)| at.elapsed() >= self.spread);
            let arrived = old && !inner.stuck.contains(&place);
            Ok(if arrived { Progress::InSync } else { Progress::Pending })
        })
    }
}

/// Everything that Route 53 would say of the batch.
fn check(sets: &[RecordSet], batch: &Batch) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    let of = |action| batch.changes.iter().filter(move |change| change.action == action).map(|change| &change.set);
    for set in of(Action::Delete).filter(|set| !sets.contains(set)) {
        wrong.push(format!(
            "Tried to delete resource record set [name='{}.', type='{}'] but it was not found",
            set.name, set.kind
        ));
    }
    let mut left: Vec<&RecordSet> = sets.iter().filter(|set| of(Action::Delete).all(|gone| gone != *set)).collect();
    for set in of(Action::Create) {
        let label = |set: &RecordSet| set.member.as_ref().map(|member| member.identifier.clone());
        let at = |other: &&&RecordSet| other.name == set.name;
        let alike = |other: &&&RecordSet| at(other) && other.kind == set.kind;
        let problem = if left.iter().filter(alike).any(|other| label(other) == label(set)) {
            "but it already exists"
        } else if left.iter().filter(alike).any(|other| other.member.is_some() != set.member.is_some()) {
            "but simple and weighted sets cannot share a name"
        } else if left.iter().filter(alike).any(|other| ttl(other) != ttl(set)) {
            "cannot be created as weighted sets must contain the same TTL"
        } else if left
            .iter()
            .filter(at)
            .any(|other| (other.kind == RecordType::Cname) != (set.kind == RecordType::Cname))
        {
            "but a CNAME stands alone"
        } else {
            left.push(set);
            continue;
        };
        wrong
            .push(format!("Tried to create resource record set [name='{}.', type='{}'] {problem}", set.name, set.kind));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn ttl(set: &RecordSet) -> Option<u32> {
    match set.data {
        Data::Values { ttl, .. } => Some(ttl),
        _ => None,
    }
}
