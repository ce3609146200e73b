//! What comes in: the operation, and its parameters as the API's model has them. What the model does not have is refused.

use serde_json::{Map, Value};

use super::answer::Wrong;

/// The parameters of a request, or the attributes of a resource.
pub type Fields = Map<String, Value>;

/// The operation that this target names, by the name it is known under.
pub fn operation(target: &str) -> Option<&'static str> {
    let name = target.strip_prefix("OpsWorks_20130218.")?;
    MODEL.iter().find(|(known, _)| *known == name).map(|(known, _)| *known)
}

/// Every parameter is one of the operation's, of its type, and none that is required is missing.
pub fn read(operation: &str, body: &str) -> Result<Fields, Wrong> {
    let value: Value =
        serde_json::from_str(body).map_err(|error| Wrong::new("SerializationException", error.to_string()))?;
    let Value::Object(fields) = value else { return Err(Wrong::new("SerializationException", "Expected an object")) };
    let model = MODEL.iter().find(|(known, _)| *known == operation).expect("in the model").1;
    for (name, value) in &fields {
        let Some((_, kind)) = parameters(model).find(|(known, _)| known == name) else {
            return Err(Wrong::new("SerializationException", format!("Unknown member {name} of {operation}Request")));
        };
        if !kind.fits(value) {
            return Err(Wrong::new("SerializationException", format!("{value} can not be converted to {name}")));
        }
    }
    for (name, _) in parameters(model).filter(|(_, kind)| kind.is_required()) {
        if !fields.contains_key(name) {
            let member = name[..1].to_lowercase() + &name[1..];
            return Err(Wrong::invalid(format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
            )));
        }
    }
    Ok(fields)
}

/// The text under this name.
pub fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str()
}

/// The texts of the list under this name.
pub fn texts(fields: &Fields, name: &str) -> Option<Vec<String>> {
    Some(fields.get(name)?.as_array()?.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect())
}

pub fn is_set(fields: &Fields, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// What a parameter may be: the letter behind its name in the model, a capital where it is required.
struct Kind(char);

impl Kind {
    fn is_required(&self) -> bool {
        self.0.is_ascii_uppercase()
    }

    fn fits(&self, value: &Value) -> bool {
        match self.0.to_ascii_lowercase() {
            't' => value.is_string(),
            'l' => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
            'a' => value.is_array(),
            'b' => value.is_boolean(),
            'o' => value.is_object(),
            other => panic!("the model has no `{other}`"),
        }
    }
}

fn parameters(model: &'static str) -> impl Iterator<Item = (&'static str, Kind)> {
    model.split_ascii_whitespace().map(|entry| {
        let (name, kind) = entry.split_once(':').expect("name and kind");
        (name, Kind(kind.chars().next().expect("a letter")))
    })
}

/// Text, list of texts, list of anything, boolean, object.
const MODEL: &[(&str, &str)] = &[
    (
        "CreateStack",
        "Name:T Region:T VpcId:t Attributes:o ServiceRoleArn:T DefaultInstanceProfileArn:T DefaultOs:t HostnameTheme:t \
         DefaultAvailabilityZone:t DefaultSubnetId:t CustomJson:t ConfigurationManager:o ChefConfiguration:o \
         UseCustomCookbooks:b UseOpsworksSecurityGroups:b CustomCookbooksSource:o DefaultSshKeyName:t \
         DefaultRootDeviceType:t AgentVersion:t",
    ),
    (
        "CloneStack",
        "SourceStackId:T Name:t Region:t VpcId:t Attributes:o ServiceRoleArn:T DefaultInstanceProfileArn:t DefaultOs:t \
         HostnameTheme:t DefaultAvailabilityZone:t DefaultSubnetId:t CustomJson:t ConfigurationManager:o \
         ChefConfiguration:o UseCustomCookbooks:b UseOpsworksSecurityGroups:b CustomCookbooksSource:o \
         DefaultSshKeyName:t ClonePermissions:b CloneAppIds:l DefaultRootDeviceType:t AgentVersion:t",
    ),
    (
        "CreateLayer",
        "StackId:T Type:T Name:T Shortname:T Attributes:o CloudWatchLogsConfiguration:o CustomInstanceProfileArn:t \
         CustomJson:t CustomSecurityGroupIds:l Packages:l VolumeConfigurations:a EnableAutoHealing:b \
         AutoAssignElasticIps:b AutoAssignPublicIps:b CustomRecipes:o InstallUpdatesOnBoot:b \
         UseEbsOptimizedInstances:b LifecycleEventConfiguration:o",
    ),
    (
        "CreateApp",
        "StackId:T Shortname:t Name:T Description:t DataSources:a Type:T AppSource:o Domains:l EnableSsl:b \
         SslConfiguration:o Attributes:o Environment:a",
    ),
    (
        "CreateInstance",
        "StackId:T LayerIds:L InstanceType:T AutoScalingType:t Hostname:t Os:t AmiId:t SshKeyName:t AvailabilityZone:t \
         VirtualizationType:t SubnetId:t Architecture:t RootDeviceType:t BlockDeviceMappings:a InstallUpdatesOnBoot:b \
         EbsOptimized:b AgentVersion:t Tenancy:t",
    ),
    ("CreateDeployment", "StackId:T AppId:t InstanceIds:l LayerIds:l Command:O Comment:t CustomJson:t"),
    ("DescribeStacks", "StackIds:l"),
    ("DescribeLayers", "StackId:t LayerIds:l"),
    ("DescribeApps", "StackId:t AppIds:l"),
    ("DescribeInstances", "StackId:t LayerId:t InstanceIds:l"),
    ("DescribeDeployments", "StackId:t AppId:t DeploymentIds:l"),
    ("DescribePermissions", "IamUserArn:t StackId:t"),
    ("StartInstance", "InstanceId:T"),
    ("StopInstance", "InstanceId:T Force:b"),
    ("SetPermission", "StackId:T IamUserArn:T AllowSsh:b AllowSudo:b Level:t"),
];
