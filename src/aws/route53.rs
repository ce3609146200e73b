//! A hosted zone of Route 53: lists it page by page, changes it whole, and asks how far a change has come.

use aws_sdk_route53::types::{ChangeStatus, RrType};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::call::{CHANGE_RECORD_SETS, Call, GET_CHANGE, GET_HOSTED_ZONE, LIST_RECORD_SETS, Operation, Subject};
use super::{Account, records};
use crate::dns::{Batch, ChangeId, Progress, RecordSet, Zone, ZoneError, ZoneInfo};
use crate::names::DnsName;

/// One zone of an account.
pub struct Route53 {
    account: Account,
    id: String,
}

impl Route53 {
    pub fn new(account: Account, id: &str) -> Route53 {
        Route53 { account, id: id.to_owned() }
    }

    fn call(&self, operation: Operation) -> Call<'_> {
        call(operation, &self.id)
    }

    fn client(&self) -> &aws_sdk_route53::Client {
        &self.account.shared.route53
    }

    async fn get(&self) -> Result<ZoneInfo, ZoneError> {
        let request = self.client().get_hosted_zone().id(&self.id);
        let send = |sent| request.customize().interceptor(sent).send();
        let answer = self.account.ask(self.call(GET_HOSTED_ZONE), self.account.deadline(), send).await?;
        let name = answer.hosted_zone().map(|zone| zone.name()).unwrap_or_default();
        let name = records::name(name)
            .ok_or_else(|| ZoneError::Refused(format!("zone {} is for `{name}`, which is no domain name", self.id)))?;
        let servers = answer.delegation_set().map(|set| set.name_servers()).unwrap_or_default();
        Ok(ZoneInfo { name, name_servers: servers.iter().filter_map(|server| server.parse().ok()).collect() })
    }

    /// Sets are listed by name, so that those of one name stand together, from where the list is begun.
    async fn list(&self, name: &DnsName) -> Result<Vec<RecordSet>, ZoneError> {
        let deadline = self.account.deadline();
        let (mut found, mut from) = (Vec::new(), (None::<RrType>, None::<String>));
        for _ in 0..MOST_PAGES {
            let request = self.client().list_resource_record_sets().hosted_zone_id(&self.id).max_items(PAGE);
            let (kind, identifier) = from;
            let request = request
                .start_record_name(format!("{name}."))
                .set_start_record_type(kind)
                .set_start_record_identifier(identifier);
            let send = |sent| request.customize().interceptor(sent).send();
            let page = self.account.ask(self.call(LIST_RECORD_SETS), deadline, send).await?;
            let own = page.resource_record_sets().iter().filter(|set| records::name(set.name()).as_ref() == Some(name));
            found.extend(own.filter_map(|set| records::from_aws(set, name)));
            let more = page.is_truncated() && page.next_record_name().and_then(records::name).as_ref() == Some(name);
            if !more {
                return Ok(found);
            }
            from = (page.next_record_type().cloned(), page.next_record_identifier().map(str::to_owned));
        }
        Err(ZoneError::Unreachable(format!("the list of {name} does not end: {MOST_PAGES} pages and still more")))
    }

    async fn apply(&self, batch: &Batch) -> Result<ChangeId, ZoneError> {
        if let Some(what) = records::oversize(batch) {
            return Err(ZoneError::Refused(what));
        }
        let batch = records::to_aws(batch).map_err(|error| ZoneError::Refused(error.to_string()))?;
        let request = self.client().change_resource_record_sets().hosted_zone_id(&self.id).change_batch(batch);
        let send = |sent| request.customize().interceptor(sent).send();
        let answer = self.account.ask(self.call(CHANGE_RECORD_SETS), self.account.deadline(), send).await?;
        match answer.change_info().map(|info| info.id()).unwrap_or_default() {
            "" => Err(ZoneError::Unknown(format!("{CHANGE_RECORD_SETS}: the answer names no change"))),
            id => Ok(ChangeId(id.trim_start_matches("/change/").to_owned())),
        }
    }

    async fn ask_change(&self, change: &ChangeId) -> Result<Progress, ZoneError> {
        let request = self.client().get_change().id(&change.0);
        let send = |sent| request.customize().interceptor(sent).send();
        let answer = self.account.ask(self.call(GET_CHANGE), self.account.deadline(), send).await?;
        match answer.change_info().map(|info| info.status()) {
            Some(ChangeStatus::Insync) => Ok(Progress::InSync),
            // What is not known to be everywhere is not everywhere.
            _ => Ok(Progress::Pending),
        }
    }
}

impl Zone for Route53 {
    fn describe(&self) -> BoxFuture<'_, Result<ZoneInfo, ZoneError>> {
        self.get().boxed()
    }

    fn records<'a>(&'a self, name: &'a DnsName) -> BoxFuture<'a, Result<Vec<RecordSet>, ZoneError>> {
        self.list(name).boxed()
    }

    fn change<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<ChangeId, ZoneError>> {
        self.apply(batch).boxed()
    }

    fn progress<'a>(&'a self, change: &'a ChangeId) -> BoxFuture<'a, Result<Progress, ZoneError>> {
        self.ask_change(change).boxed()
    }
}

/// An operation on the zone of this id.
pub fn call(operation: Operation, zone: &str) -> Call<'_> {
    Call { operation, subject: Subject { kind: "hosted zone", name: zone, key: "zone" } }
}

/// The most that Route 53 lists at once.
const PAGE: i32 = 300;
/// A name can have 100 weighted sets of each type: that is a few pages.
const MOST_PAGES: usize = 20;
