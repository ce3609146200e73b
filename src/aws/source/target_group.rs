//! The targets of a load balancer's target group, each at the port it is registered with.

use roxmltree::Node;
use tokio::time::Instant;

use super::{Roll, ec2};
use crate::aws::Account;
use crate::aws::call::{Call, DESCRIBE_TARGET_GROUPS, DESCRIBE_TARGET_HEALTH, Operation, Subject};
use crate::aws::error::CallError;
use crate::aws::failure::missing;
use crate::aws::query::Form;
use crate::aws::xml::{Odd, child, items, needed, text_of};
use crate::config::TargetGroup;

/// A target group, as far as it decides what its targets are.
#[derive(Debug, PartialEq)]
struct Group {
    arn: String,
    name: String,
    /// `instance`, `ip`, `lambda` or `alb`.
    kind: String,
}

#[derive(Debug, PartialEq)]
struct Target {
    id: String,
    port: u16,
    state: String,
}

impl Target {
    fn says(&self) -> String {
        format!("{} at port {}", self.id, self.port)
    }

    /// On its way out: whoever took it out does not want new requests to go there.
    fn is_draining(&self) -> bool {
        self.state == "draining" || self.state.ends_with(".draining")
    }
}

pub async fn ask(account: &Account, deadline: Instant, of: &TargetGroup) -> Result<Roll, CallError> {
    let subject = Subject { kind: "target group", name: &of.group, key: "group" };
    let group = describe(account, deadline, subject).await?;
    let targets = targets(account, deadline, subject, &group).await?;
    // What the load balancer thinks of the others' health does not count: some are in use by no load balancer at all, and
    // our own checks decide.
    let (draining, targets): (Vec<_>, Vec<_>) = targets.iter().partition(|target| target.is_draining());
    let mut roll = Roll::default();
    for target in draining {
        roll.leave_out(&target.says(), "is draining");
    }
    if group.kind == "ip" {
        for target in targets {
            match target.id.parse() {
                Ok(address) => roll.propose(&target.id, address, target.port),
                Err(_) => roll.leave_out(&target.says(), "is no IP address"),
            }
        }
        return Ok(roll);
    }
    let mut ids: Vec<&str> = targets.iter().map(|target| target.id.as_str()).collect();
    ids.sort_unstable();
    // One instance may be several targets, at ports of their own.
    ids.dedup();
    let instances = ec2::look_up(account, deadline, subject, &ids).await?;
    for target in targets {
        match instances.get(&target.id) {
            Some(instance) => instance.enter(&mut roll, target.port),
            None => roll.leave_out(&target.says(), "is not known to EC2"),
        }
    }
    Ok(roll)
}

/// Asked for each time: a group that was made anew has the same name and another ARN.
async fn describe(account: &Account, deadline: Instant, subject: Subject<'_>) -> Result<Group, CallError> {
    let call = Call { operation: DESCRIBE_TARGET_GROUPS, subject };
    let key = if subject.name.starts_with("arn:") { "TargetGroupArns.member.1" } else { "Names.member.1" };
    let groups = account.query(call, deadline, Form::default().with(key, subject.name), groups).await?;
    let is_it = |group: &Group| group.arn == subject.name || group.name == subject.name;
    let group = groups.into_iter().find(is_it).ok_or_else(|| missing(call, "none is listed"))?;
    match group.kind.as_str() {
        "instance" | "ip" => Ok(group),
        kind => Err(CallError::Refused(format!(
            "{subject} has targets of the type `{kind}`, which have no addresses; name a group of the type `ip` or `instance`, \
             the one behind that {}",
            if kind == "alb" { "load balancer" } else { "function's load balancer" }
        ))),
    }
}

async fn targets(
    account: &Account,
    deadline: Instant,
    subject: Subject<'_>,
    group: &Group,
) -> Result<Vec<Target>, CallError> {
    let call = Call { operation: DESCRIBE_TARGET_HEALTH, subject };
    account.query(call, deadline, Form::default().with("TargetGroupArn", &group.arn), health).await
}

fn groups(answer: Node) -> Result<Vec<Group>, Odd> {
    let group = |group| {
        Ok(Group {
            arn: needed(group, "TargetGroupArn")?.to_owned(),
            name: needed(group, "TargetGroupName")?.to_owned(),
            // Left out by services that know no other.
            kind: text_of(group, "TargetType").unwrap_or("instance").to_owned(),
        })
    };
    items(result(answer, DESCRIBE_TARGET_GROUPS)?, "TargetGroups").map(group).collect()
}

fn health(answer: Node) -> Result<Vec<Target>, Odd> {
    let target = |described| {
        let target = child(described, "Target").ok_or("a target of the answer is missing")?;
        let health = child(described, "TargetHealth").ok_or("the health of a target is missing")?;
        let port = needed(target, "Port")?;
        Ok(Target {
            id: needed(target, "Id")?.to_owned(),
            port: port.parse().map_err(|_| format!("the port `{port}` of a target is none"))?,
            state: needed(health, "State")?.to_owned(),
        })
    };
    items(result(answer, DESCRIBE_TARGET_HEALTH)?, "TargetHealthDescriptions").map(target).collect()
}

fn result<'a, 'input>(answer: Node<'a, 'input>, operation: Operation) -> Result<Node<'a, 'input>, Odd> {
    child(answer, &format!("{}Result", operation.name)).ok_or_else(|| "the answer has no result".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::xml::read;

    #[test]
    fn only_who_is_on_its_way_out_is_draining() {
        for (state, draining) in [
            ("healthy", false),
            ("initial", false),
            ("unhealthy", false),
            ("unused", false),
            ("unavailable", false),
            ("draining", true),
            ("unhealthy.draining", true),
        ] {
            assert_eq!(Target { id: "i-1".into(), port: 80, state: state.into() }.is_draining(), draining, "{state}");
        }
    }

    #[test]
    fn a_target_needs_a_port_and_a_state() {
        let of = |target: &str, health: &str| {
            let text = format!(
                "<DescribeTargetHealthResponse><DescribeTargetHealthResult><TargetHealthDescriptions><member><Target>{target}\
                 </Target><TargetHealth>{health}</TargetHealth></member></TargetHealthDescriptions>\
                 </DescribeTargetHealthResult></DescribeTargetHealthResponse>"
            );
            read(&text, "DescribeTargetHealthResponse", super::health)
        };
        let state = "<State>healthy</State>";
        let target = Target { id: "10.0.0.1".into(), port: 8080, state: "healthy".into() };
        assert_eq!(of("<Id>10.0.0.1</Id><Port>8080</Port>", state), Ok(vec![target]));
        assert!(of("<Id>10.0.0.1</Id>", state).is_err());
        assert!(of("<Id>10.0.0.1</Id><Port>80800</Port>", state).unwrap_err().contains("`80800`"));
        assert!(of("<Id>10.0.0.1</Id><Port>8080</Port>", "").is_err());
    }
}
