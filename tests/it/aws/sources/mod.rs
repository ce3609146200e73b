//! Where endpoints are learned at Amazon, by the real wire formats: against doubles and emulators on loopback only.

mod emulators;
mod faults;
mod operate;
mod opsworks;
mod region;

use cutover::config::{DiscoverFrom, Ec2Instances, ScalingGroup, TargetGroup};
use cutover::discovery::{Answer, SourceError};

use super::stage::{Stage, ZONE, patient};

/// An account that can reach nothing but this address, and waits for it however busy the machine is.
async fn stage(url: &str) -> Stage {
    Stage::with(url, ZONE, patient()).await
}

async fn ask(stage: &Stage, from: &DiscoverFrom) -> Result<Answer, SourceError> {
    stage.account.source(from).expect("somebody at Amazon").ask().await
}

/// What is proposed: `10.0.0.1:80 i-1`.
fn proposed(answer: &Answer) -> Vec<String> {
    let says =
        |found: &cutover::discovery::Found| format!("{} {}", found.address, found.name.as_deref().unwrap_or("?"));
    answer.endpoints.iter().map(says).collect()
}

/// What a refusal says.
fn refused(result: Result<Answer, SourceError>) -> String {
    match result {
        Err(SourceError::Refused(says)) => says,
        other => panic!("{other:?} is no refusal"),
    }
}

/// How often requests of this operation ended so.
fn counted(stage: &Stage, operation: &str, result: &str) -> u64 {
    let (service, operation) = operation.split_once(':').unwrap();
    let mut all = stage.calls.counts();
    all.find(|(names, _)| *names == [service, operation, result]).expect("on the sheet").1
}

fn ec2(tags: &[(&str, &str)]) -> DiscoverFrom {
    let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    DiscoverFrom::Ec2(Ec2Instances { tags, port: 80 })
}

fn asg(name: &str) -> DiscoverFrom {
    DiscoverFrom::Asg(ScalingGroup { name: name.to_owned(), port: 80 })
}

fn target_group(group: &str) -> DiscoverFrom {
    DiscoverFrom::TargetGroup(TargetGroup { group: group.to_owned() })
}
