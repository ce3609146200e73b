//! The same calls on an emulator written by others, which knows nothing of ours, as far as it goes.
//!
//! Ignored unless asked for, since it is a Python program: `tests/run` installs it, and runs this story too.

use cutover::stack::{InstanceState, ProviderError};
use serde_json::json;

use super::faults::asks;
use super::stage::{Stage, states};
use crate::harness::emulator::{Emulator, Kind};
use crate::harness::opsworks::SERVICE_ROLE;
use crate::harness::{Fault, FaultProxy};

/// moto 5.1.11 knows nine operations, and fails at every other with 500: then it is unknown whether anything was done.
#[tokio::test]
#[ignore = "needs moto 5.1.11: tests/run installs it"]
async fn moto_tells_adds_and_starts_and_knows_no_more() {
    let emulator = Emulator::start(Kind::OpsWorksMoto).await;
    let proxy = FaultProxy::before(emulator.address).await;
    let stage = Stage::at(&proxy.url()).await;
    let stack = json!({
        "Name": "shop-blue", "Region": "us-east-1", "ServiceRoleArn": SERVICE_ROLE,
        "DefaultInstanceProfileArn": "arn:aws:iam::123456789012:instance-profile/shop",
    });
    let id = emulator.opsworks("CreateStack", stack).await["StackId"].clone();
    let layer = json!({ "StackId": id, "Type": "custom", "Name": "Web", "Shortname": "web" });
    let layer = emulator.opsworks("CreateLayer", layer).await["LayerId"].clone();
    // Of an app without any it describes the environment as an object, and it is a list.
    let environment = json!([{ "Key": "STAGE", "Value": "blue" }]);
    let app = json!({ "StackId": id, "Name": "shop", "Type": "other", "Environment": environment });
    emulator.opsworks("CreateApp", app).await;
    let instance = json!({ "StackId": id, "LayerIds": [layer], "InstanceType": "t2.micro", "Hostname": "web1" });
    emulator.opsworks("CreateInstance", instance).await;

    let told = stage.stack("shop-blue").await;
    assert_eq!((states(&told), &*told.apps[0].name), (vec![("web1", InstanceState::Stopped)], "shop"));
    assert_eq!(told.instances[0].layers, ["web"]);
    assert_eq!(stage.stacks.stacks().await, Ok(vec![told.clone()]));
    assert_eq!(stage.stacks.find("shop-green").await, Ok(None));
    proxy.on(1, Fault::Throttle, asks("DescribeInstances"));
    assert!(matches!(stage.stacks.find("shop-blue").await, Err(ProviderError::Busy(_))));

    proxy.on(1, Fault::LostReply, asks("StartInstance"));
    let unknown = stage.stacks.start_instance(&told.instances[0]).await;
    assert!(matches!(unknown, Err(ProviderError::Unknown(_))), "{unknown:?}");
    let told = stage.stack("shop-blue").await;
    assert_eq!(states(&told), [("web1", InstanceState::Online)], "and it was done");
    proxy.on(1, Fault::LostReply, asks("CreateInstance"));
    let unknown = stage.stacks.add_instance(&told, &told.instances[0]).await;
    assert!(matches!(unknown, Err(ProviderError::Unknown(_))), "{unknown:?}");
    let again = stage.stack("shop-blue").await;
    assert_eq!(again.instances.len(), 2, "once, since it is not repeated by itself: {again:?}");

    for unknown in [
        stage.stacks.clone_stack(&told, "shop-green").await.map(drop),
        stage.stacks.deploy(&told, &told.apps[0], "order 7").await.map(drop),
        stage.stacks.stop_instance(&told.instances[0]).await,
    ] {
        assert!(matches!(&unknown, Err(ProviderError::Unknown(says)) if says.contains("500")), "{unknown:?}");
    }
    assert_eq!(stage.stacks.stacks().await.unwrap().len(), 1);
}
