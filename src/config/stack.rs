//! `[service.X.stacks]`: how stacks are looked after, where a color's endpoints are learned from one.

use std::time::Duration;

use serde::Serialize;
use toml::de::DeValue;

use super::discover::text;
use super::report::Wrong;
use super::section::Section;
use super::value::{duration, misplaced};

/// How orders to stacks are carried out. Which stack is a color's is what its `discover` says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StackRules {
    /// What is deployed: its name or its id. Left out: the only app that the stack has.
    pub app: Option<String>,
    /// What a clone is run as. Left out: as its source is.
    pub service_role_arn: Option<String>,
    /// From one look to the next while something is waited for.
    pub interval: Duration,
    /// How long a call without an answer may still take effect; until then it is not made again.
    pub settle: Duration,
    pub timeouts: StackTimeouts,
}

/// How long each step of an order may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StackTimeouts {
    /// Until there is a stack, and again until it has its instances.
    pub clone: Duration,
    /// Until they are online.
    pub online: Duration,
    pub deploy: Duration,
    /// Until every one of them is an endpoint that passes the proxy's own checks.
    pub healthy: Duration,
    /// Until nothing runs any more.
    pub stop: Duration,
}

impl Default for StackRules {
    fn default() -> StackRules {
        StackRules {
            app: None,
            service_role_arn: None,
            interval: Duration::from_secs(10),
            settle: Duration::from_secs(60),
            timeouts: StackTimeouts::default(),
        }
    }
}

impl Default for StackTimeouts {
    fn default() -> StackTimeouts {
        StackTimeouts {
            clone: Duration::from_mins(10),
            online: Duration::from_mins(30),
            deploy: Duration::from_mins(30),
            healthy: Duration::from_mins(10),
            stop: Duration::from_mins(30),
        }
    }
}

impl StackRules {
    pub fn read(mut section: Section) -> StackRules {
        let default = StackRules::default();
        StackRules {
            app: section.get("app", text),
            service_role_arn: section.get("service_role_arn", role),
            interval: section.get("interval", duration("100ms", "10m")).unwrap_or(default.interval),
            settle: section.get("settle", duration("1s", "1h")).unwrap_or(default.settle),
            timeouts: timeouts(section.section("timeouts")),
        }
    }
}

fn timeouts(mut section: Section) -> StackTimeouts {
    let default = StackTimeouts::default();
    let mut get = |key, default| section.get(key, duration("1s", "24h")).unwrap_or(default);
    StackTimeouts {
        clone: get("clone", default.clone),
        online: get("online", default.online),
        deploy: get("deploy", default.deploy),
        healthy: get("healthy", default.healthy),
        stop: get("stop", default.stop),
    }
}

/// `arn:aws:iam::123456789012:role/aws-opsworks-service-role`
fn role(value: &DeValue) -> Result<String, Wrong> {
    let help = "write the ARN of an IAM role, such as `\"arn:aws:iam::123456789012:role/aws-opsworks-service-role\"`";
    let text = value.as_str().ok_or_else(|| Wrong::new(misplaced(value, "a role"), help))?;
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let is_role = matches!(parts[..], ["arn", partition, "iam", "", account, role]
        if partition.starts_with("aws") && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())
            && role.strip_prefix("role/").is_some_and(|name| !name.is_empty())
            && text.bytes().all(|b| b.is_ascii_graphic()));
    if is_role { Ok(text.to_owned()) } else { Err(Wrong::new(format!("`{text}` is not a role"), help)) }
}
