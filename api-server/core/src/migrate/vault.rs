//! What the first version's vault held, where somebody gives it with the files: its references lead here, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use zeroize::Zeroizing;

use super::findings::Findings;
use super::node::{Node, Text};
use crate::json::printable;

/// The names of fields that refer to the vault end so.
const ENDS: [&str; 2] = ["_ref", "_secret"];
/// What an object that refers to it may have as its one field.
const FIELDS: [&str; 4] = ["vault", "ref", "secret", "secret_ref"];
/// What a text that refers to it begins with.
const SCHEME: &str = "vault:";

/// The vault of old.
#[derive(Default)]
pub(super) struct OldVault {
    /// By name; `None`: it was not given.
    secrets: Option<BTreeMap<String, Zeroizing<String>>>,
    used: BTreeSet<String>,
}

impl OldVault {
    /// Reads an object of texts by name.
    pub(super) fn read(path: &str, value: Value, findings: &mut Findings) -> Self {
        let Value::Object(map) = value else {
            findings.fault(path, "must be an object of texts by name");
            return OldVault::default();
        };
        let mut secrets = BTreeMap::new();
        for (name, value) in map {
            match value {
                Value::String(text) => _ = secrets.insert(name, Zeroizing::new(text)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    findings.fault(format!("{path}.{}", printable(&name)), "must be a text");
                }
            }
        }
        OldVault {
            secrets: Some(secrets),
            used: BTreeSet::new(),
        }
    }

    /// What the fields that refer to `name` of the node lead to.
    pub(super) fn followed(&mut self, node: &mut Node, name: &str, findings: &mut Findings) -> Vec<Text> {
        let mut references: Vec<Text> = Vec::new();
        for end in ENDS {
            references.extend(node.text(&format!("{name}{end}"), findings));
        }
        if let Some(mut object) = node.object_if_any(name) {
            let found = FIELDS.iter().find_map(|field| object.text(field, findings));
            match found {
                Some(reference) => references.push(reference),
                None => findings.fault(
                    object.path(),
                    "must be a text, or an object that refers to the vault",
                ),
            }
            object.finish(findings);
        }
        let followed = references
            .into_iter()
            .map(|reference| self.follow(reference, findings));
        followed.collect()
    }

    /// A text as it is, or what it leads to where it refers to the vault.
    pub(super) fn resolved(&mut self, text: Text, findings: &mut Findings) -> Text {
        match text.value.strip_prefix(SCHEME) {
            Some(name) => {
                let value = Zeroizing::new(name.to_owned());
                let path = text.path;
                self.follow(Text { path, value }, findings)
            }
            None => text,
        }
    }

    /// Notes what nothing refers to.
    pub(super) fn finish(self, findings: &mut Findings) {
        let given = self.secrets.map_or(0, |secrets| secrets.len());
        match given.saturating_sub(self.used.len()) {
            0 => {}
            unused => findings.note(format!(
                "{unused} of the secrets are referred to by no exit that is carried: they are not carried"
            )),
        }
    }

    /// After a fault the value is empty, which is read as any other so that other faults are found, too.
    pub(super) fn follow(&mut self, reference: Text, findings: &mut Findings) -> Text {
        let Text { path, value } = reference;
        let why = match &self.secrets {
            Some(secrets) => match secrets.get(value.as_str()) {
                Some(secret) => {
                    self.used.insert(value.to_string());
                    let value = secret.clone();
                    return Text { path, value };
                }
                None => "refers to what is not among the secrets that are given",
            },
            None => {
                "refers to the first version's vault: give what that had as secrets, or put the value itself here"
            }
        };
        findings.fault(path.clone(), why);
        let value = Zeroizing::default();
        Text { path, value }
    }
}
