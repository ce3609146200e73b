//! A request of the query protocol: fields by name, none twice, none that nobody knows.

use std::collections::BTreeMap;

use crate::harness::reception::Turned;

pub struct Form {
    operation: &'static str,
    fields: BTreeMap<String, String>,
}

/// An error, as Amazon words it.
#[derive(Clone, Debug)]
pub struct Wrong {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl Wrong {
    pub fn new(code: &str, message: impl Into<String>) -> Wrong {
        Wrong { status: 400, code: code.to_owned(), message: message.into() }
    }
}

impl From<Turned> for Wrong {
    fn from(Turned { status, code, message }: Turned) -> Wrong {
        Wrong { status, code, message }
    }
}

pub fn read(body: &[u8]) -> Form {
    let mut fields = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        let before = fields.insert(name.to_string(), value.to_string());
        assert_eq!(before, None, "{name} is there twice");
    }
    let action = fields.remove("Action").expect("every request has an Action");
    let known = OPERATIONS.iter().find(|operation| **operation == action);
    Form { operation: known.unwrap_or_else(|| panic!("nobody here knows {action}")), fields }
}

impl Form {
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    pub fn check(mut self, version: &str) -> Result<Form, Wrong> {
        match self.fields.remove("Version").as_deref() {
            Some(found) if found == version => Ok(self),
            found => Err(Wrong::new("NoSuchVersion", format!("{found:?} instead of {version}"))),
        }
    }

    pub fn take(&mut self, name: &str) -> Option<String> {
        self.fields.remove(name)
    }

    /// `PREFIX.1`, `PREFIX.2` and so on.
    pub fn list(&mut self, prefix: &str) -> Vec<String> {
        (1..).map_while(|number| self.fields.remove(&format!("{prefix}.{number}"))).collect()
    }

    /// `Filter.1.Name`, `Filter.1.Value.1` and so on.
    pub fn filters(&mut self) -> Result<Vec<(String, Vec<String>)>, Wrong> {
        let mut filters = Vec::new();
        while let Some(name) = self.fields.remove(&format!("Filter.{}.Name", filters.len() + 1)) {
            let values = self.list(&format!("Filter.{}.Value", filters.len() + 1));
            if values.is_empty() || values.len() > 200 {
                return Err(Wrong::new("FilterLimitExceeded", format!("{} values of {name}", values.len())));
            }
            filters.push((name, values));
        }
        Ok(filters)
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Wrong> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(Wrong::new("UnknownParameter", format!("The parameter {name} is not recognized"))),
        }
    }
}

const OPERATIONS: [&str; 5] = [
    "UpdateAutoScalingGroup",
    "DescribeInstances",
    "DescribeAutoScalingGroups",
    "DescribeTargetGroups",
    "DescribeTargetHealth",
];
