//! Sources of endpoints at Amazon: instances by their tags, of an Auto Scaling group, of OpsWorks; targets of a load balancer.

mod asg;
mod ec2;
mod opsworks;
mod target_group;

use std::net::{IpAddr, SocketAddr};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use self::ec2::look_up;
use super::Account;
use super::call::{self, Operation, Subject};
use super::error::CallError;
use crate::config::{DiscoverFrom, Ec2Instances, OpsWorksLayer, ScalingGroup, TargetGroup};
use crate::discovery::{Answer, Found, Source, SourceError};

/// One color's source, as the config names it.
pub struct AmazonSource {
    account: Account,
    says: String,
    kind: Kind,
}

/// Who is asked at Amazon.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Ec2(Ec2Instances),
    Asg(ScalingGroup),
    TargetGroup(TargetGroup),
    OpsWorks(OpsWorksLayer),
}

impl AmazonSource {
    /// `None`: somebody else is asked.
    pub fn new(account: Account, from: &DiscoverFrom) -> Option<AmazonSource> {
        Some(AmazonSource { account, says: from.says(), kind: kind(from)? })
    }

    async fn answer(&self) -> Result<Answer, CallError> {
        let (account, deadline) = (&self.account, self.account.deadline());
        let roll = match &self.kind {
            Kind::Ec2(instances) => ec2::ask(account, deadline, instances).await?,
            Kind::Asg(group) => asg::ask(account, deadline, group).await?,
            Kind::TargetGroup(group) => target_group::ask(account, deadline, group).await?,
            Kind::OpsWorks(layer) => opsworks::ask(account, deadline, layer).await?,
        };
        Ok(roll.answer())
    }
}

impl Source for AmazonSource {
    fn says(&self) -> String {
        self.says.clone()
    }

    fn ask(&self) -> BoxFuture<'_, Result<Answer, SourceError>> {
        async { Ok(self.answer().await?) }.boxed()
    }
}

/// Whether instances may be looked up at all: there is none of this id.
pub async fn may_look_up(account: &Account) -> Result<(), CallError> {
    let subject = Subject { kind: "EC2", name: "instances", key: "discover" };
    ec2::look_up(account, account.deadline(), subject, &["i-00000000000000000"]).await.map(drop)
}

/// What a source may have to ask, in this order; none: it does not ask Amazon.
pub fn operations(from: &DiscoverFrom) -> &'static [Operation] {
    match kind(from) {
        None => &[],
        Some(Kind::Ec2(_)) => &[call::DESCRIBE_INSTANCES],
        Some(Kind::Asg(_)) => &[call::DESCRIBE_GROUPS, call::DESCRIBE_INSTANCES],
        Some(Kind::TargetGroup(_)) => {
            &[call::DESCRIBE_TARGET_GROUPS, call::DESCRIBE_TARGET_HEALTH, call::DESCRIBE_INSTANCES]
        }
        Some(Kind::OpsWorks(OpsWorksLayer { layer: None, .. })) => {
            &[call::DESCRIBE_STACKS, call::DESCRIBE_STACK_INSTANCES]
        }
        Some(Kind::OpsWorks(_)) => &[call::DESCRIBE_STACKS, call::DESCRIBE_LAYERS, call::DESCRIBE_STACK_INSTANCES],
    }
}

fn kind(from: &DiscoverFrom) -> Option<Kind> {
    Some(match from {
        DiscoverFrom::Dns(_) => return None,
        DiscoverFrom::Ec2(instances) => Kind::Ec2(instances.clone()),
        DiscoverFrom::Asg(group) => Kind::Asg(group.clone()),
        DiscoverFrom::TargetGroup(group) => Kind::TargetGroup(group.clone()),
        DiscoverFrom::OpsWorks(layer) => Kind::OpsWorks(layer.clone()),
    })
}

/// An answer as it comes together.
#[derive(Debug, Default)]
pub struct Roll {
    found: Vec<Found>,
    left_out: Vec<String>,
}

impl Roll {
    fn propose(&mut self, name: &str, address: IpAddr, port: u16) {
        self.found.push(Found { address: SocketAddr::new(address, port), name: Some(name.to_owned()) });
    }

    /// `says` goes on where the name ends: `is pending`.
    fn leave_out(&mut self, name: &str, says: &str) {
        self.left_out.push(format!("{name} {says}"));
    }

    /// In an order of its own: Amazon's may be another each time.
    fn answer(self) -> Answer {
        let Roll { found: mut endpoints, mut left_out } = self;
        endpoints.sort_by(|one, other| one.address.cmp(&other.address).then_with(|| one.name.cmp(&other.name)));
        endpoints.dedup_by_key(|found| found.address);
        left_out.sort();
        left_out.dedup();
        Answer { endpoints, left_out, valid_for: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_answers_are_equal_in_whatever_order_they_come() {
        let of = |order: [u8; 3]| {
            let mut roll = Roll::default();
            for number in order {
                roll.propose(&format!("i-{number}"), [10, 0, 0, number].into(), 80);
                roll.leave_out(&format!("i-9{number}"), "is pending");
            }
            // Once more, by another name.
            roll.propose("i-9", [10, 0, 0, 1].into(), 80);
            roll.answer()
        };
        assert_eq!(of([3, 1, 2]), of([2, 3, 1]));
        let answer = of([3, 1, 2]);
        let expected = [(1, "i-1"), (2, "i-2"), (3, "i-3")]
            .map(|(number, name)| Found { address: ([10, 0, 0, number], 80).into(), name: Some(name.to_owned()) });
        assert_eq!(answer.endpoints, expected);
        assert_eq!(answer.left_out, ["i-91 is pending", "i-92 is pending", "i-93 is pending"]);
    }
}
