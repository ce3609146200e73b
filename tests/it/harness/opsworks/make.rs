//! What makes something, each time anew: there is no token by which a repeat would be known.

use serde_json::{Value, json};

use super::answer::Wrong;
use super::input::{Fields, is_set, text, texts};
use super::store::{Deployment, Instance, Store, has};
use super::walk::{Fate, set, status};

impl Store {
    pub fn create_stack(&mut self, mut input: Fields) -> Result<Value, Wrong> {
        check_stack(&input)?;
        network(&mut input)?;
        for (name, value) in STACK_DEFAULTS {
            input.entry(name).or_insert_with(|| json!(value));
        }
        Ok(json!({ "StackId": self.add_stack(input) }))
    }

    /// Settings and layers come along by themselves, apps and permissions where that is asked for, instances never; and
    /// the network is not the source's unless it is named.
    pub fn clone_stack(&mut self, mut input: Fields) -> Result<Value, Wrong> {
        let source = take(&mut input, "SourceStackId");
        let mut stack = self.stack(&source)?.clone();
        for name in ["VpcId", "DefaultSubnetId", "DefaultAvailabilityZone", "StackId", "Arn", "CreatedAt"] {
            stack.remove(name);
        }
        let apps = texts(&input, "CloneAppIds").unwrap_or_default();
        for id in &apps {
            if !has(self.app(id)?, "StackId", &source) {
                return Err(Wrong::no("app", id));
            }
        }
        let with_permissions = is_set(&input, "ClonePermissions");
        input.remove("CloneAppIds");
        input.remove("ClonePermissions");
        stack.append(&mut input);
        check_stack(&stack)?;
        network(&mut stack)?;
        let id = self.add_stack(stack);
        for layer in copies(&self.layers, "StackId", &source) {
            self.add_layer(&id, layer);
        }
        for app in &apps {
            let app = self.app(app)?.clone();
            self.add_app(&id, app);
        }
        if with_permissions {
            let mut permissions = copies(&self.permissions, "StackId", &source);
            permissions.iter_mut().for_each(|fields| drop(fields.insert("StackId".into(), json!(id))));
            self.permissions.append(&mut permissions);
        }
        Ok(json!({ "StackId": id }))
    }

    pub fn create_layer(&mut self, mut input: Fields) -> Result<Value, Wrong> {
        let stack = take(&mut input, "StackId");
        let others = self.of_stack(&self.layers, &stack)?;
        let (name, short) = (text(&input, "Name").unwrap_or_default(), text(&input, "Shortname").unwrap_or_default());
        if others.iter().any(|layer| has(layer, "Name", name)) {
            return Err(Wrong::invalid(format!("There is already a layer named \"{name}\" for this stack")));
        }
        if others.iter().any(|layer| has(layer, "Shortname", short)) {
            return Err(Wrong::invalid(format!("There is already a layer with shortname \"{short}\" for this stack")));
        }
        let kind = text(&input, "Type").unwrap_or_default();
        if !LAYER_TYPES.contains(&kind) {
            return Err(Wrong::invalid(format!("Layer type {kind} is not supported")));
        }
        if kind != "custom" && others.iter().any(|layer| has(layer, "Type", kind)) {
            return Err(Wrong::invalid(format!("There is already a layer of type \"{kind}\" for this stack")));
        }
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if short.is_empty() || short.len() > 200 || !short.chars().all(known) {
            return Err(Wrong::invalid("Shortname: only a-z, 0-9, -, _ and . are allowed"));
        }
        Ok(json!({ "LayerId": self.add_layer(&stack, input) }))
    }

    pub fn create_app(&mut self, mut input: Fields) -> Result<Value, Wrong> {
        let stack = take(&mut input, "StackId");
        let name = text(&input, "Name").unwrap_or_default();
        if self.of_stack(&self.apps, &stack)?.iter().any(|app| has(app, "Name", name)) {
            return Err(Wrong::invalid(format!("There is already an app named \"{name}\" for this stack")));
        }
        Ok(json!({ "AppId": self.add_app(&stack, input) }))
    }

    pub fn create_instance(&mut self, mut input: Fields) -> Result<Value, Wrong> {
        let stack = take(&mut input, "StackId");
        let (settings, layers) = (self.stack(&stack)?.clone(), texts(&input, "LayerIds").unwrap_or_default());
        let Some(first) = layers.first() else { return Err(Wrong::invalid("Please provide one or more layer IDs")) };
        for layer in &layers {
            if !has(self.layer(layer)?, "StackId", &stack) {
                return Err(Wrong::invalid("Please only provide layer IDs from the same stack"));
            }
        }
        let size = text(&input, "InstanceType").unwrap_or_default();
        if size.split('.').filter(|part| !part.is_empty()).count() != 2 {
            return Err(Wrong::invalid(format!("Instance Type \"{size}\" is not supported")));
        }
        if input.contains_key("AmiId") && !has(&input, "Os", "Custom") {
            return Err(Wrong::invalid("A custom AMI needs Os to be set to \"Custom\""));
        }
        if input.contains_key("AmiId") && input.contains_key("BlockDeviceMappings") {
            return Err(Wrong::invalid("Block device mappings are not supported for custom AMIs"));
        }
        let inherited = [
            ("SubnetId", "DefaultSubnetId"),
            ("Os", "DefaultOs"),
            ("SshKeyName", "DefaultSshKeyName"),
            ("RootDeviceType", "DefaultRootDeviceType"),
        ];
        for (name, default) in inherited {
            if let Some(value) = settings.get(default) {
                input.entry(name).or_insert_with(|| value.clone());
            }
        }
        let subnet = text(&input, "SubnetId").unwrap_or_default().to_owned();
        let Some((_, _, zone)) = SUBNETS.iter().find(|(id, vpc, _)| *id == subnet && has(&settings, "VpcId", vpc))
        else {
            return Err(Wrong::invalid(format!("Subnet \"{subnet}\" is not in the VPC of the stack")));
        };
        if *input.entry("AvailabilityZone").or_insert_with(|| json!(zone)) != *zone {
            return Err(Wrong::invalid(format!("Subnet \"{subnet}\" is in the Availability Zone {zone}")));
        }
        let host = self.host_name(&stack, first);
        input.entry("Hostname").or_insert(json!(host));
        Ok(json!({ "InstanceId": self.add_instance(&stack, input) }))
    }

    pub fn create_deployment(&mut self, input: Fields) -> Result<Value, Wrong> {
        let stack = text(&input, "StackId").unwrap_or_default().to_owned();
        self.stack(&stack)?;
        let command = input.get("Command").and_then(|command| command["Name"].as_str()).unwrap_or_default();
        if !COMMANDS.contains(&command) {
            return Err(Wrong::invalid(format!("Command \"{command}\" is not supported")));
        }
        match text(&input, "AppId") {
            Some(app) if !has(self.app(app)?, "StackId", &stack) => return Err(Wrong::no("app", app)),
            None if OF_APPS.contains(&command) => {
                return Err(Wrong::invalid(format!("Please provide an app ID for the command \"{command}\"")));
            }
            _ => {}
        }
        let targets = self.targets(&stack, &input)?;
        let (id, fails) = (self.id(), self.failing_deployments > 0);
        self.failing_deployments = self.failing_deployments.saturating_sub(1);
        let mut fields = input;
        fields.remove("LayerIds");
        fields.insert("InstanceIds".into(), json!(targets));
        fields.insert("DeploymentId".into(), json!(id));
        fields.insert("CreatedAt".into(), self.now());
        fields.insert("IamUserArn".into(), json!("arn:aws:iam::123456789012:user/cutover"));
        set(&mut fields, "running");
        self.deployments.push(Deployment { fields, fails });
        Ok(json!({ "DeploymentId": id }))
    }

    pub fn set_permission(&mut self, input: Fields) -> Result<Value, Wrong> {
        self.stack(text(&input, "StackId").unwrap_or_default())?;
        if let Some(level) = text(&input, "Level").filter(|level| !LEVELS.contains(level)) {
            return Err(Wrong::invalid(format!("Level \"{level}\" is not one of {}", LEVELS.join(", "))));
        }
        self.permissions.retain(|old| old["StackId"] != input["StackId"] || old["IamUserArn"] != input["IamUserArn"]);
        self.permissions.push(input);
        Ok(Value::Null)
    }

    /// The instances that a command goes to: those that are named, those of the layers, or all; only what is online.
    fn targets(&self, stack: &str, input: &Fields) -> Result<Vec<String>, Wrong> {
        let (named, layers) = (texts(input, "InstanceIds"), texts(input, "LayerIds"));
        let own = || self.instances.iter().map(|it| &it.fields).filter(|fields| has(fields, "StackId", stack));
        let id = |fields: &Fields| text(fields, "InstanceId").unwrap_or_default().to_owned();
        for wanted in named.iter().flatten() {
            let found =
                own().find(|fields| has(fields, "InstanceId", wanted)).ok_or_else(|| Wrong::no("instance", wanted))?;
            if status(found) != "online" {
                let message = format!("Instance {wanted} is not online: it is {}", status(found));
                return Err(Wrong::invalid(message));
            }
        }
        let is_target = |fields: &&Fields| match (&named, &layers) {
            (Some(ids), _) => ids.contains(&id(fields)),
            (None, Some(layers)) => texts(fields, "LayerIds").unwrap_or_default().iter().any(|it| layers.contains(it)),
            (None, None) => true,
        };
        let targets: Vec<String> =
            own().filter(|fields| status(fields) == "online").filter(is_target).map(id).collect();
        if targets.is_empty() {
            return Err(Wrong::invalid("There are no online instances to deploy to"));
        }
        Ok(targets)
    }

    fn add_stack(&mut self, mut fields: Fields) -> String {
        let id = self.id();
        fields.insert("StackId".into(), json!(id));
        fields.insert("Arn".into(), json!(format!("arn:aws:opsworks:eu-west-1:123456789012:stack/{id}/")));
        fields.insert("CreatedAt".into(), self.now());
        self.stacks.push(fields);
        id
    }

    fn add_layer(&mut self, stack: &str, mut fields: Fields) -> String {
        let id = self.id();
        fields.insert("LayerId".into(), json!(id));
        fields.insert("StackId".into(), json!(stack));
        fields.insert("CreatedAt".into(), self.now());
        self.layers.push(fields);
        id
    }

    fn add_app(&mut self, stack: &str, mut fields: Fields) -> String {
        let id = self.id();
        fields.insert("AppId".into(), json!(id));
        fields.insert("StackId".into(), json!(stack));
        fields.insert("CreatedAt".into(), self.now());
        let short = text(&fields, "Name").unwrap_or_default().to_lowercase();
        fields.entry("Shortname").or_insert(json!(short));
        self.apps.push(fields);
        id
    }

    fn add_instance(&mut self, stack: &str, mut fields: Fields) -> String {
        let id = self.id();
        fields.insert("InstanceId".into(), json!(id));
        fields.insert("StackId".into(), json!(stack));
        fields.insert("CreatedAt".into(), self.now());
        for (name, value) in INSTANCE_DEFAULTS {
            fields.entry(name).or_insert_with(|| json!(value));
        }
        set(&mut fields, "stopped");
        let name = self.stack(stack).ok().and_then(|stack| text(stack, "Name")).unwrap_or_default();
        let host = text(&fields, "Hostname").unwrap_or_default();
        let fate = self.fates.iter().find(|(of, called, _)| of == name && called == host);
        let fate = fate.map_or(Fate::Well, |(_, _, fate)| *fate);
        self.instances.push(Instance { fields, fate });
        id
    }

    /// As the theme `Layer_Dependent` has it: the layer's short name and the first number that is free.
    fn host_name(&self, stack: &str, layer: &str) -> String {
        let short = self.layer(layer).ok().and_then(|layer| text(layer, "Shortname")).unwrap_or_default();
        let taken = |name: &str| {
            self.instances.iter().any(|it| has(&it.fields, "StackId", stack) && has(&it.fields, "Hostname", name))
        };
        (1..).map(|number| format!("{short}{number}")).find(|name| !taken(name)).expect("numbers do not end")
    }
}

/// What every stack has to say of itself, whoever makes it.
fn check_stack(stack: &Fields) -> Result<(), Wrong> {
    let name = text(stack, "Name").unwrap_or_default();
    if name.is_empty() || name.chars().count() > 64 {
        return Err(Wrong::invalid("Name: must be from 1 to 64 characters"));
    }
    let role = text(stack, "ServiceRoleArn").unwrap_or_default();
    if !(role.starts_with("arn:aws:iam::") && role.contains(":role/")) {
        return Err(Wrong::invalid("Service Role Arn: Credential has not the necessary trust relationship"));
    }
    Ok(())
}

/// Where a stack's instances will be: a VPC that is not the default one needs a subnet, which decides the zone.
fn network(stack: &mut Fields) -> Result<(), Wrong> {
    let vpc = text(stack, "VpcId").unwrap_or(DEFAULT_VPC).to_owned();
    if !SUBNETS.iter().any(|(_, of, _)| *of == vpc) {
        return Err(Wrong::invalid(format!("Vpc: VPC \"{vpc}\" does not exist")));
    }
    let zone = text(stack, "DefaultAvailabilityZone");
    let fits = |(id, of, at): &&(&str, &str, &str)| match text(stack, "DefaultSubnetId") {
        Some(wanted) => *id == wanted && *of == vpc,
        None => vpc == DEFAULT_VPC && *of == vpc && zone.is_none_or(|zone| zone == *at),
    };
    let Some((subnet, _, at)) = SUBNETS.iter().find(fits) else {
        return Err(Wrong::invalid(match text(stack, "DefaultSubnetId") {
            Some(subnet) => format!("Default Subnet: Subnet \"{subnet}\" does not exist in VPC \"{vpc}\""),
            None => format!("Default Subnet: must be provided for VPC \"{vpc}\""),
        }));
    };
    if let Some(zone) = zone.filter(|zone| zone != at) {
        return Err(Wrong::invalid(format!(
            "Default Subnet: Subnet \"{subnet}\" is not in Availability Zone \"{zone}\""
        )));
    }
    stack.insert("VpcId".into(), json!(vpc));
    stack.insert("DefaultSubnetId".into(), json!(subnet));
    stack.insert("DefaultAvailabilityZone".into(), json!(at));
    Ok(())
}

fn copies(all: &[Fields], name: &str, value: &str) -> Vec<Fields> {
    all.iter().filter(|fields| has(fields, name, value)).cloned().collect()
}

fn take(fields: &mut Fields, name: &str) -> String {
    fields.remove(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Subnet, its VPC, its Availability Zone.
const SUBNETS: [(&str, &str, &str); 4] = [
    ("subnet-default-a", DEFAULT_VPC, "eu-west-1a"),
    ("subnet-default-b", DEFAULT_VPC, "eu-west-1b"),
    ("subnet-shop-a", "vpc-shop", "eu-west-1a"),
    ("subnet-shop-b", "vpc-shop", "eu-west-1b"),
];
const DEFAULT_VPC: &str = "vpc-default";
const STACK_DEFAULTS: [(&str, &str); 4] = [
    ("DefaultOs", "Ubuntu 18.04 LTS"),
    ("HostnameTheme", "Layer_Dependent"),
    ("DefaultRootDeviceType", "instance-store"),
    ("AgentVersion", "LATEST"),
];
/// An AMI stands there whoever chose it.
const INSTANCE_DEFAULTS: [(&str, &str); 5] = [
    ("AmiId", "ami-0a1b2c3d4e5f60718"),
    ("Architecture", "x86_64"),
    ("VirtualizationType", "hvm"),
    ("InfrastructureClass", "ec2"),
    ("AgentVersion", "INHERIT"),
];
const LAYER_TYPES: [&str; 12] = [
    "aws-flow-ruby",
    "ecs-cluster",
    "java-app",
    "lb",
    "web",
    "php-app",
    "rails-app",
    "nodejs-app",
    "memcached",
    "db-master",
    "monitoring-master",
    "custom",
];
/// Commands to stacks and to apps.
const COMMANDS: [&str; 12] = [
    "install_dependencies",
    "update_dependencies",
    "update_custom_cookbooks",
    "execute_recipes",
    "configure",
    "setup",
    "deploy",
    "rollback",
    "start",
    "stop",
    "restart",
    "undeploy",
];
const OF_APPS: [&str; 6] = ["deploy", "rollback", "start", "stop", "restart", "undeploy"];
const LEVELS: [&str; 5] = ["deny", "show", "deploy", "manage", "iam_only"];
