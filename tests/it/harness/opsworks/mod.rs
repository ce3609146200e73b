//! OpsWorks Stacks as strict as it is documented, over real HTTP and JSON 1.1 on loopback: what makes something makes it
//! each time anew, and whatever is on its way goes from state to state.

mod answer;
mod input;
mod make;
mod store;
mod walk;

use axum::response::Response;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use self::answer::{Wrong, answer};
use self::input::{Fields, text};
use self::store::{Store, has};
pub use self::walk::{Fate, Pace};
use super::double::{Double, Role};
use super::reception::{Asked, Reception, Rules};

pub type FakeOpsWorks = Double<OpsWorks>;

pub struct OpsWorks {
    store: Store,
    reception: Reception,
}

impl FakeOpsWorks {
    pub async fn start() -> FakeOpsWorks {
        Double::serve(OpsWorks { store: Store::default(), reception: Reception::new(RULES) }).await
    }

    /// With one stack in it, as `add_stack` makes it.
    pub async fn with_stack(name: &str, addresses: &[&str]) -> FakeOpsWorks {
        let fake = FakeOpsWorks::start().await;
        fake.add_stack(name, addresses);
        fake
    }

    /// A stack as it stands after a while: in the VPC `vpc-shop`, with the layer `rails-app`, the app `shop`, a permission
    /// of a user, and one instance online at each address, called `rails-app1` and so on. Its id.
    pub fn add_stack(&self, name: &str, addresses: &[&str]) -> String {
        let made = self.make("CreateStack", json!({
            "Name": name, "Region": "eu-west-1", "VpcId": "vpc-shop", "DefaultSubnetId": "subnet-shop-a",
            "ServiceRoleArn": SERVICE_ROLE, "DefaultInstanceProfileArn": "arn:aws:iam::123456789012:instance-profile/shop",
            "CustomJson": "{\"shop\":{\"currency\":\"EUR\"}}",
        }));
        let id = made["StackId"].as_str().unwrap().to_owned();
        self.add_layer(&id, "rails-app");
        self.add_app(&id, "shop");
        let user = "arn:aws:iam::123456789012:user/operator";
        self.make("SetPermission", json!({ "StackId": id, "IamUserArn": user, "AllowSsh": true, "Level": "manage" }));
        for address in addresses {
            self.add_instance(&id, "rails-app", address);
        }
        id
    }

    /// A custom layer: its id.
    pub fn add_layer(&self, stack: &str, short_name: &str) -> String {
        let layer = json!({ "StackId": stack, "Type": "custom", "Name": format!("Layer {short_name}"), "Shortname": short_name });
        self.make("CreateLayer", layer)["LayerId"].as_str().unwrap().to_owned()
    }

    /// An app from a git repository: its id.
    pub fn add_app(&self, stack: &str, name: &str) -> String {
        let source = json!({ "Type": "git", "Url": format!("https://git.example.com/{name}.git") });
        let app = json!({ "StackId": stack, "Name": name, "Type": "other", "AppSource": source });
        self.make("CreateApp", app)["AppId"].as_str().unwrap().to_owned()
    }

    /// An instance that is online at this address already: its id.
    pub fn add_instance(&self, stack: &str, layer: &str, address: &str) -> String {
        let layers = self.make("DescribeLayers", json!({ "StackId": stack }));
        let found = layers["Layers"].as_array().unwrap().iter().find(|it| it["Shortname"] == layer).unwrap();
        let instance = json!({ "StackId": stack, "LayerIds": [found["LayerId"]], "InstanceType": "c5.large" });
        let id = self.make("CreateInstance", instance)["InstanceId"].as_str().unwrap().to_owned();
        let mut inside = self.inside();
        let fields = &mut inside.store.instance(&id).unwrap().fields;
        walk::set(fields, "online");
        fields.insert("PrivateIp".into(), json!(address));
        fields.insert("Ec2InstanceId".into(), json!(format!("i-0{}", &id[24..])));
        id
    }

    /// The next instances of the stack of this name that boot will be at these addresses, in this order. Where none is left
    /// they are somewhere on this machine where nobody listens.
    pub fn will_be_at(&self, stack: &str, addresses: &[&str]) {
        let places = addresses.iter().map(|address| (stack.to_owned(), (*address).to_owned()));
        self.inside().store.places.extend(places);
    }

    /// What becomes of the instance of that host name in the stack of that name, which may not be there yet.
    pub fn destine(&self, stack: &str, host: &str, fate: Fate) {
        let mut inside = self.inside();
        let store = &mut inside.store;
        store.fates.retain(|(of, called, _)| of != stack || called != host);
        store.fates.push((stack.to_owned(), host.to_owned(), fate));
        let ids: Vec<String> = ids_of(store, stack);
        let called = |fields: &Fields| ids.iter().any(|id| has(fields, "StackId", id)) && has(fields, "Hostname", host);
        store.instances.iter_mut().filter(|it| called(&it.fields)).for_each(|it| it.fate = fate);
    }

    /// So many of the next deployments fail.
    pub fn fail_deployments(&self, times: usize) {
        self.inside().store.failing_deployments = times;
    }

    /// When instances and deployments go on; at first by being looked at.
    pub fn pace(&self, pace: Pace) {
        self.inside().store.pace = pace;
    }

    /// Everything that is on its way goes on by one state.
    pub fn step(&self) {
        self.inside().store.step();
    }

    /// Everything that is on its way arrives.
    pub fn arrive(&self) {
        (0..10).for_each(|_| self.step());
    }

    /// An instance is in this state from now on, whatever it was.
    pub fn put(&self, instance: &str, status: &str) {
        walk::set(&mut self.inside().store.instance(instance).unwrap().fields, status);
    }

    /// The stacks, oldest first, as they are described.
    pub fn stacks(&self) -> Vec<Value> {
        self.inside().store.stacks.iter().cloned().map(Value::Object).collect()
    }

    /// The ids of the stacks of this name: there may be several.
    pub fn named(&self, stack: &str) -> Vec<String> {
        ids_of(&self.inside().store, stack)
    }

    /// The instances of all stacks of this name, as they are described; nobody has looked at them by this.
    pub fn instances(&self, stack: &str) -> Vec<Value> {
        let inside = self.inside();
        let ids = ids_of(&inside.store, stack);
        let own = |fields: &&Fields| ids.iter().any(|id| has(fields, "StackId", id));
        inside.store.instances.iter().map(|it| &it.fields).filter(own).cloned().map(Value::Object).collect()
    }

    /// Host name and state of each instance of the stacks of this name.
    pub fn states(&self, stack: &str) -> Vec<(String, String)> {
        let say = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.instances(stack).iter().map(|it| (say(&it["Hostname"]), say(&it["Status"]))).collect()
    }

    /// The deployments so far, oldest first, as they are described.
    pub fn deployments(&self) -> Vec<Value> {
        self.inside().store.deployments.iter().map(|it| Value::Object(it.fields.clone())).collect()
    }

    /// Does this as if it had been asked for, past signature, limit and record: what was there before.
    pub fn make(&self, operation: &'static str, input: Value) -> Value {
        let Value::Object(input) = input else { panic!("{operation} takes an object") };
        self.inside().store.answer(operation, input).unwrap_or_else(|wrong| panic!("{operation}: {wrong:?}"))
    }
}

impl Role for OpsWorks {
    fn operation(request: &Request<Bytes>) -> &'static str {
        operation(request).unwrap_or("?")
    }

    fn receptions(&mut self) -> &mut [Reception] {
        std::slice::from_mut(&mut self.reception)
    }

    fn answer(&mut self, asked: &Asked, request: &Request<Bytes>) -> (Response, String) {
        match self.carry_out(asked, request) {
            Ok(value) => (answer(value), "ok".to_owned()),
            Err(wrong) => (wrong.clone().response(), wrong.code),
        }
    }
}

impl OpsWorks {
    fn carry_out(&mut self, asked: &Asked, request: &Request<Bytes>) -> Result<Value, Wrong> {
        let operation = operation(request).ok_or_else(|| Wrong::new("UnknownOperationException", ""))?;
        self.reception.admit(asked)?;
        self.store.answer(operation, input::read(operation, &asked.body)?)
    }
}

fn operation(request: &Request<Bytes>) -> Option<&'static str> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_spoken = request.method() == Method::POST && header("content-type") == Some("application/x-amz-json-1.1");
    header("x-amz-target").filter(|_| is_spoken).and_then(input::operation)
}

impl Store {
    fn answer(&mut self, operation: &str, input: Fields) -> Result<Value, Wrong> {
        match operation {
            "CreateStack" => self.create_stack(input),
            "CloneStack" => self.clone_stack(input),
            "CreateLayer" => self.create_layer(input),
            "CreateApp" => self.create_app(input),
            "CreateInstance" => self.create_instance(input),
            "CreateDeployment" => self.create_deployment(input),
            "SetPermission" => self.set_permission(input),
            "DescribeStacks" => self.describe_stacks(&input),
            "DescribeLayers" => self.describe_layers(&input),
            "DescribeApps" => self.describe_apps(&input),
            "DescribeInstances" => self.describe_instances(&input),
            "DescribeDeployments" => self.describe_deployments(&input),
            "DescribePermissions" => self.describe_permissions(&input),
            "StartInstance" => self.start_instance(&input),
            "StopInstance" => self.stop_instance(&input),
            other => panic!("{other} is in the model, and nobody answers it"),
        }
    }
}

fn ids_of(store: &Store, name: &str) -> Vec<String> {
    let own = store.stacks.iter().filter(|stack| has(stack, "Name", name));
    own.filter_map(|stack| text(stack, "StackId").map(str::to_owned)).collect()
}

/// Of the stacks that stories begin with.
pub const SERVICE_ROLE: &str = "arn:aws:iam::123456789012:role/aws-opsworks-service-role";
const RULES: Rules = Rules {
    service: "opsworks",
    rate: 10.0,
    burst: 20.0,
    unsigned: (400, "MissingAuthenticationTokenException"),
    unknown_key: (400, "UnrecognizedClientException"),
    denied: (400, "AccessDeniedException"),
    throttled: (400, "ThrottlingException"),
};
