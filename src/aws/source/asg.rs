//! The instances of an Auto Scaling group that are in service: the group says which, EC2 says where.

use roxmltree::Node;
use tokio::time::Instant;

use super::{Roll, ec2};
use crate::aws::Account;
use crate::aws::call::{Call, DESCRIBE_GROUPS, Subject};
use crate::aws::error::CallError;
use crate::aws::failure::missing;
use crate::aws::query::Form;
use crate::aws::xml::{Odd, child, items, needed, text_of};
use crate::config::ScalingGroup;

/// One instance of a group, as the group sees it.
#[derive(Debug, PartialEq)]
struct Member {
    id: String,
    lifecycle: String,
    health: String,
}

impl Member {
    /// Why it is none of those in service.
    fn flaw(&self) -> Option<String> {
        match () {
            () if self.lifecycle != "InService" => Some(format!("is {} in its group", self.lifecycle)),
            () if !self.health.eq_ignore_ascii_case("Healthy") => Some(format!("is {} to its group", self.health)),
            () => None,
        }
    }
}

pub async fn ask(account: &Account, deadline: Instant, of: &ScalingGroup) -> Result<Roll, CallError> {
    let subject = Subject { kind: "Auto Scaling group", name: &of.name, key: "name" };
    let call = Call { operation: DESCRIBE_GROUPS, subject };
    let form = Form::default().with("AutoScalingGroupNames.member.1", &of.name);
    let groups = account.query(call, deadline, form, groups).await?;
    // One that does not exist is no error to Amazon, and would pass for one that is empty.
    let group = groups.into_iter().find(|(name, _)| *name == of.name);
    let (_, members) = group.ok_or_else(|| missing(call, "none is listed"))?;

    let mut roll = Roll::default();
    let (out, serving): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.flaw().is_some());
    for member in out {
        roll.leave_out(&member.id, &member.flaw().unwrap_or_default());
    }
    let ids: Vec<&str> = serving.iter().map(|member| member.id.as_str()).collect();
    let instances = ec2::look_up(account, deadline, subject, &ids).await?;
    for id in ids {
        match instances.get(id) {
            Some(instance) => instance.enter(&mut roll, of.port),
            None => roll.leave_out(id, "is not known to EC2"),
        }
    }
    Ok(roll)
}

fn groups(answer: Node) -> Result<Vec<(String, Vec<Member>)>, Odd> {
    let result = child(answer, "DescribeAutoScalingGroupsResult").ok_or("the answer has no result")?;
    let group = |group| {
        let members = items(group, "Instances").map(member).collect::<Result<_, Odd>>()?;
        Ok((needed(group, "AutoScalingGroupName")?.to_owned(), members))
    };
    items(result, "AutoScalingGroups").map(group).collect()
}

fn member(node: Node) -> Result<Member, Odd> {
    Ok(Member {
        id: needed(node, "InstanceId")?.to_owned(),
        lifecycle: needed(node, "LifecycleState")?.to_owned(),
        health: text_of(node, "HealthStatus").unwrap_or("of unknown health").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_in_service_and_healthy_serves() {
        let member = |lifecycle: &str, health: &str| Member {
            id: "i-1".into(),
            lifecycle: lifecycle.into(),
            health: health.into(),
        };
        assert_eq!(member("InService", "Healthy").flaw(), None);
        assert_eq!(member("InService", "HEALTHY").flaw(), None);
        for (lifecycle, health, says) in [
            ("Pending", "Healthy", "is Pending in its group"),
            ("Pending:Wait", "Healthy", "is Pending:Wait in its group"),
            ("Terminating", "Unhealthy", "is Terminating in its group"),
            ("Standby", "Healthy", "is Standby in its group"),
            ("EnteringStandby", "Healthy", "is EnteringStandby in its group"),
            ("InService", "Unhealthy", "is Unhealthy to its group"),
        ] {
            assert_eq!(member(lifecycle, health).flaw().as_deref(), Some(says));
        }
    }
}
