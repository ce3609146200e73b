//! Everything the double knows: the resources with their attributes as they are described, and how they are found.

use serde_json::{Value, json};

use super::answer::Wrong;
use super::input::{Fields, text, texts};
use super::walk::{Fate, Pace};

#[derive(Default)]
pub struct Store {
    pub stacks: Vec<Fields>,
    pub layers: Vec<Fields>,
    pub apps: Vec<Fields>,
    pub instances: Vec<Instance>,
    pub deployments: Vec<Deployment>,
    pub permissions: Vec<Fields>,
    pub pace: Pace,
    /// Stack, address: where its next instances will be.
    pub places: Vec<(String, String)>,
    /// Stack and host name, and what becomes of an instance that is called so.
    pub fates: Vec<(String, String, Fate)>,
    /// So many of the next deployments fail.
    pub failing_deployments: usize,
    made: u64,
}

pub struct Instance {
    pub fields: Fields,
    pub fate: Fate,
}

pub struct Deployment {
    pub fields: Fields,
    /// How it will end.
    pub fails: bool,
}

impl Store {
    /// An id as the API has them, the same in each run.
    pub fn id(&mut self) -> String {
        self.made += 1;
        format!("{:08x}-0b5e-4f2a-9c1d-{:012x}", (0x5_7ac4 * self.made) % (1 << 32), self.made)
    }

    /// Each younger than the one before.
    pub fn now(&self) -> Value {
        let (minutes, seconds) = (self.made / 60 % 60, self.made % 60);
        json!(format!("2026-11-24T12:{minutes:02}:{seconds:02}+00:00"))
    }

    pub fn stack(&self, id: &str) -> Result<&Fields, Wrong> {
        self.stacks.iter().find(|stack| has(stack, "StackId", id)).ok_or_else(|| Wrong::no("stack", id))
    }

    pub fn layer(&self, id: &str) -> Result<&Fields, Wrong> {
        self.layers.iter().find(|layer| has(layer, "LayerId", id)).ok_or_else(|| Wrong::no("layer", id))
    }

    pub fn app(&self, id: &str) -> Result<&Fields, Wrong> {
        self.apps.iter().find(|app| has(app, "AppId", id)).ok_or_else(|| Wrong::no("app", id))
    }

    pub fn instance(&mut self, id: &str) -> Result<&mut Instance, Wrong> {
        let found = self.instances.iter_mut().find(|instance| has(&instance.fields, "InstanceId", id));
        found.ok_or_else(|| Wrong::no("instance", id))
    }

    pub fn describe_stacks(&self, input: &Fields) -> Result<Value, Wrong> {
        let stacks = match texts(input, "StackIds") {
            None => self.stacks.iter().collect(),
            Some(ids) if ids.is_empty() => {
                return Err(Wrong::invalid("Please provide no arguments or, one or more stack IDs"));
            }
            Some(ids) => ids.iter().map(|id| self.stack(id)).collect::<Result<Vec<_>, _>>()?,
        };
        Ok(json!({ "Stacks": stacks }))
    }

    pub fn describe_layers(&self, input: &Fields) -> Result<Value, Wrong> {
        let layers: Vec<&Fields> = match (text(input, "StackId"), texts(input, "LayerIds")) {
            (Some(stack), None) => self.of_stack(&self.layers, stack)?,
            (None, Some(ids)) if !ids.is_empty() => ids.iter().map(|id| self.layer(id)).collect::<Result<_, _>>()?,
            _ => return Err(Wrong::invalid("Please provide one or more layer IDs or a stack ID")),
        };
        Ok(json!({ "Layers": layers }))
    }

    pub fn describe_apps(&self, input: &Fields) -> Result<Value, Wrong> {
        let apps: Vec<&Fields> = match (text(input, "StackId"), texts(input, "AppIds")) {
            (Some(stack), None) => self.of_stack(&self.apps, stack)?,
            (None, Some(ids)) if !ids.is_empty() => ids.iter().map(|id| self.app(id)).collect::<Result<_, _>>()?,
            _ => return Err(Wrong::invalid("Please provide one or more app IDs or a stack ID")),
        };
        Ok(json!({ "Apps": apps }))
    }

    /// What is shown goes on afterwards, where it goes on by being looked at.
    pub fn describe_instances(&mut self, input: &Fields) -> Result<Value, Wrong> {
        let ids: Vec<String> = match (text(input, "StackId"), text(input, "LayerId"), texts(input, "InstanceIds")) {
            (Some(stack), None, None) => {
                self.stack(stack)?;
                self.ids_where(|fields| has(fields, "StackId", stack))
            }
            (None, Some(layer), None) => {
                self.layer(layer)?;
                self.ids_where(|fields| texts(fields, "LayerIds").unwrap_or_default().iter().any(|id| id == layer))
            }
            (None, None, Some(ids)) if !ids.is_empty() => ids,
            _ => {
                let message = "Please provide either one or more instance ID or one stack ID or one layer ID";
                return Err(Wrong::invalid(message));
            }
        };
        let mut shown = Vec::new();
        for id in &ids {
            shown.push(self.instance(id)?.fields.clone());
        }
        ids.iter().for_each(|id| self.looked_at(id));
        Ok(json!({ "Instances": shown }))
    }

    /// Newest first, as the API lists them.
    pub fn describe_deployments(&mut self, input: &Fields) -> Result<Value, Wrong> {
        let ids = texts(input, "DeploymentIds");
        let by = match (text(input, "StackId"), text(input, "AppId"), &ids) {
            (Some(stack), None, None) => {
                self.stack(stack)?;
                ("StackId", vec![stack.to_owned()])
            }
            (None, Some(app), None) => {
                self.app(app)?;
                ("AppId", vec![app.to_owned()])
            }
            (None, None, Some(ids)) if !ids.is_empty() => ("DeploymentId", ids.clone()),
            _ => {
                let message = "Please provide either one or more deployment IDs or one stack ID or one app ID";
                return Err(Wrong::invalid(message));
            }
        };
        let (name, wanted) = by;
        let is_wanted = |fields: &Fields| wanted.iter().any(|id| has(fields, name, id));
        let shown: Vec<Fields> =
            self.deployments.iter().rev().map(|it| &it.fields).filter(|fields| is_wanted(fields)).cloned().collect();
        if let Some(missing) = ids.iter().flatten().find(|id| !shown.iter().any(|it| has(it, "DeploymentId", id))) {
            return Err(Wrong::no("deployment", missing));
        }
        self.deployments_looked_at(|fields| shown.iter().any(|it| it["DeploymentId"] == fields["DeploymentId"]));
        Ok(json!({ "Deployments": shown }))
    }

    pub fn describe_permissions(&self, input: &Fields) -> Result<Value, Wrong> {
        let (stack, user) = (text(input, "StackId"), text(input, "IamUserArn"));
        if let Some(stack) = stack {
            self.stack(stack)?;
        }
        let fits = |fields: &&Fields| {
            stack.is_none_or(|id| has(fields, "StackId", id)) && user.is_none_or(|arn| has(fields, "IamUserArn", arn))
        };
        Ok(json!({ "Permissions": self.permissions.iter().filter(fits).collect::<Vec<_>>() }))
    }

    /// Those of a list that belong to a stack that there is.
    pub fn of_stack<'a>(&self, all: &'a [Fields], stack: &str) -> Result<Vec<&'a Fields>, Wrong> {
        self.stack(stack)?;
        Ok(all.iter().filter(|fields| has(fields, "StackId", stack)).collect())
    }

    fn ids_where(&self, wanted: impl Fn(&Fields) -> bool) -> Vec<String> {
        let all = self.instances.iter().map(|instance| &instance.fields).filter(|fields| wanted(fields));
        all.filter_map(|fields| text(fields, "InstanceId").map(str::to_owned)).collect()
    }
}

pub fn has(fields: &Fields, name: &str, value: &str) -> bool {
    text(fields, name) == Some(value)
}
