//! How instances come up and go down, state by state, and how deployments end.

use serde_json::{Value, json};

use super::answer::Wrong;
use super::input::{Fields, is_set, text};
use super::store::{Store, has};

/// When something goes on to its next state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// After each look at it.
    #[default]
    Looks,
    /// When the story says so.
    Held,
}

/// What becomes of an instance that is started or stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fate {
    #[default]
    Well,
    StartFails,
    SetupFails,
    StopFails,
    /// It goes no further than this state.
    Stays(&'static str),
}

impl Store {
    pub fn start_instance(&mut self, input: &Fields) -> Result<Value, Wrong> {
        let id = text(input, "InstanceId").unwrap_or_default();
        let instance = self.instance(id)?;
        let status = status(&instance.fields);
        if !["stopped", "start_failed"].contains(&status) {
            return Err(Wrong::invalid(format!("Instance {id} can not be started: it is {status}")));
        }
        set(&mut instance.fields, "requested");
        Ok(Value::Null)
    }

    pub fn stop_instance(&mut self, input: &Fields) -> Result<Value, Wrong> {
        let id = text(input, "InstanceId").unwrap_or_default();
        let instance = self.instance(id)?;
        let status = status(&instance.fields);
        let forced = is_set(input, "Force") && ["stop_failed", "stopping"].contains(&status);
        if !(STOPPABLE.contains(&status) || forced) {
            return Err(Wrong::invalid(format!("Instance {id} can not be stopped: it is {status}")));
        }
        set(&mut instance.fields, "stopping");
        Ok(Value::Null)
    }

    /// Everything that is on its way goes on by one state.
    pub fn step(&mut self) {
        let ids: Vec<String> =
            self.instances.iter().filter_map(|it| text(&it.fields, "InstanceId").map(str::to_owned)).collect();
        ids.iter().for_each(|id| self.go_on(id));
        self.deployments.iter_mut().for_each(|it| end(&mut it.fields, it.fails));
    }

    pub fn looked_at(&mut self, instance: &str) {
        if self.pace == Pace::Looks {
            self.go_on(instance);
        }
    }

    pub fn deployments_looked_at(&mut self, which: impl Fn(&Fields) -> bool) {
        if self.pace == Pace::Looks {
            self.deployments.iter_mut().filter(|it| which(&it.fields)).for_each(|it| end(&mut it.fields, it.fails));
        }
    }

    fn go_on(&mut self, id: &str) {
        let Ok(instance) = self.instance(id) else { return };
        let (from, fate) = (status(&instance.fields).to_owned(), instance.fate);
        let Some(to) = next(&from, fate) else { return };
        set(&mut instance.fields, to);
        match to {
            "pending" => {
                let twin = format!("i-0{:016x}", self.instances.len());
                let fields = &mut self.instance(id).expect("just found").fields;
                fields.entry("Ec2InstanceId").or_insert_with(|| json!(twin));
            }
            "booting" => self.place(id),
            // An instance on EBS keeps what it has, and says so: an address where nobody is.
            "stopped" if !has(&instance.fields, "RootDeviceType", "ebs") => {
                for name in ["Ec2InstanceId", "PrivateIp", "PrivateDns"] {
                    instance.fields.remove(name);
                }
            }
            _ => {}
        }
    }

    /// It gets the stack's next address; where none was named, one on this machine where nobody listens.
    fn place(&mut self, id: &str) {
        let number = self.instances.iter().position(|it| has(&it.fields, "InstanceId", id)).unwrap_or_default();
        let Ok(instance) = self.instance(id) else { return };
        if instance.fields.contains_key("PrivateIp") {
            return;
        }
        let stack = text(&instance.fields, "StackId").unwrap_or_default().to_owned();
        let name = self.stack(&stack).ok().and_then(|stack| text(stack, "Name")).unwrap_or_default().to_owned();
        let found = self.places.iter().position(|(of, _)| *of == name);
        let address = found.map_or_else(|| format!("127.1.0.{}", number + 1), |at| self.places.remove(at).1);
        let fields = &mut self.instance(id).expect("just found").fields;
        fields.insert("PrivateDns".into(), json!(format!("ip-{}.ec2.internal", address.replace('.', "-"))));
        fields.insert("PrivateIp".into(), json!(address));
    }
}

pub fn status(fields: &Fields) -> &str {
    text(fields, "Status").unwrap_or_default()
}

pub fn set(fields: &mut Fields, status: &str) {
    fields.insert("Status".to_owned(), json!(status));
}

/// `None`: it stays as it is.
fn next(from: &str, fate: Fate) -> Option<&'static str> {
    match (from, fate) {
        (state, Fate::Stays(last)) if state == last => None,
        ("requested", _) => Some("pending"),
        ("pending", Fate::StartFails) => Some("start_failed"),
        ("pending", _) => Some("booting"),
        ("booting" | "rebooting", _) => Some("running_setup"),
        ("running_setup", Fate::SetupFails) => Some("setup_failed"),
        ("running_setup", _) => Some("online"),
        ("stopping", Fate::StopFails) => Some("stop_failed"),
        ("stopping", _) => Some("terminating"),
        ("terminating", _) => Some("shutting_down"),
        ("shutting_down", _) => Some("terminated"),
        ("terminated", _) => Some("stopped"),
        _ => None,
    }
}

fn end(deployment: &mut Fields, fails: bool) {
    if status(deployment) == "running" {
        set(deployment, if fails { "failed" } else { "successful" });
        deployment.insert("CompletedAt".into(), deployment["CreatedAt"].clone());
        deployment.insert("Duration".into(), json!(0));
    }
}

const STOPPABLE: [&str; 9] = [
    "requested",
    "pending",
    "booting",
    "running_setup",
    "online",
    "start_failed",
    "setup_failed",
    "connection_lost",
    "rebooting",
];
