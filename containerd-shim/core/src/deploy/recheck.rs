//! The last look at a finished request: every key against the field policy, whoever rendered it.

use std::fmt;

use cell_manifest::Rule;
use serde_json::Value;

use super::ceiling::Ceiling;
use super::fields::{FIELDS, FieldClass, field};
use super::render::Given;
use super::rules::Rules;

/// Largest create request, bytes.
pub const CREATE_MAX_BYTES: usize = 256 * 1024;

/// One thing that breaks the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, as the policy writes it where it knows it.
    pub field: String,
    /// The rule.
    pub rule: Rule,
}

/// At least one violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, violation) in self.0.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{} ({})", violation.field, violation.rule)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

/// Fields without which Docker, its configuration or the image would decide.
const REQUIRED: [&str; 33] = [
    "Image",
    "User",
    "Hostname",
    "Env",
    "Labels",
    "Healthcheck",
    "Healthcheck.Test",
    "StopSignal",
    "StopTimeout",
    "HostConfig.Privileged",
    "HostConfig.CapAdd",
    "HostConfig.CapDrop",
    "HostConfig.SecurityOpt",
    "HostConfig.ReadonlyRootfs",
    "HostConfig.Devices",
    "HostConfig.Sysctls",
    "HostConfig.IpcMode",
    "HostConfig.CgroupnsMode",
    "HostConfig.CgroupParent",
    "HostConfig.NetworkMode",
    "HostConfig.Dns",
    "HostConfig.PublishAllPorts",
    "HostConfig.PortBindings",
    "HostConfig.Init",
    "HostConfig.OomScoreAdj",
    "HostConfig.Memory",
    "HostConfig.MemorySwap",
    "HostConfig.NanoCpus",
    "HostConfig.PidsLimit",
    "HostConfig.ShmSize",
    "HostConfig.Ulimits",
    "HostConfig.LogConfig",
    "HostConfig.RestartPolicy",
];

/// Looks at a body that is about to be sent. With `given`, names of networks, volumes and folders are those of this
/// deployment; without, they are of the cell's form.
///
/// # Errors
/// Every violation. A key that the policy does not know, in any spelling, is one.
pub fn recheck(body: &Value, ceiling: &Ceiling, given: Option<&Given>) -> Result<(), Violations> {
    let mut walk = Walk {
        rules: Rules::new(body, ceiling, given),
        violations: Vec::new(),
    };
    walk.descend("", body);
    for name in REQUIRED {
        let pointer = format!("/{}", name.replace('.', "/"));
        if body.pointer(&pointer).is_none_or(Value::is_null) {
            let rule = field(name).map_or(Rule::S1, |(_, rule)| rule);
            walk.violate(name, rule);
        }
    }
    if walk.violations.is_empty() {
        Ok(())
    } else {
        Err(Violations(walk.violations))
    }
}

struct Walk<'a> {
    rules: Rules<'a>,
    violations: Vec<Violation>,
}

impl Walk<'_> {
    fn violate(&mut self, field: &str, rule: Rule) {
        self.violations.push(Violation {
            // A key may be anything: it is told up to a length.
            field: field.chars().filter(|c| !c.is_control()).take(120).collect(),
            rule,
        });
    }

    fn visit(&mut self, path: &str, value: &Value) {
        match field(path) {
            Some((FieldClass::Never, rule)) => self.violate(path, rule),
            Some((FieldClass::Emit, rule)) => {
                let mut found = Vec::new();
                // A field that is sent and has no rule here is a fault of this file: refused.
                if !self.rules.check(path, value, &mut found) {
                    found.push(rule);
                }
                for rule in found {
                    self.violate(path, rule);
                }
                if FIELDS.has_below(path) {
                    self.descend(path, value);
                }
            }
            None if FIELDS.has_below(path) => self.descend(path, value),
            None => self.violate(path, Rule::S1),
        }
    }

    fn descend(&mut self, path: &str, value: &Value) {
        let (each, item) = (format!("{path}{{}}"), format!("{path}[]"));
        match value {
            Value::Object(entries) if FIELDS.has_below(&each) => {
                for entry in entries.values() {
                    self.visit(&each, entry);
                }
            }
            Value::Object(entries) => {
                for (key, entry) in entries {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    self.visit(&path, entry);
                }
            }
            Value::Array(items) if FIELDS.has_below(&item) => {
                for entry in items {
                    self.visit(&item, entry);
                }
            }
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.violate(path, Rule::S1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_is_in_the_table() {
        for name in REQUIRED {
            assert!(matches!(field(name), Some((FieldClass::Emit, _))), "{name}");
        }
    }
}
