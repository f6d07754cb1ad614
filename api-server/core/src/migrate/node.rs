//! One JSON object of a file, read by what its fields may be called. What nobody asked for is noted at the end.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::findings::Findings;
use crate::json::printable;

/// An object, and where it is.
pub(super) struct Node {
    path: String,
    map: Map<String, Value>,
}

/// A text, and the path of the field that has it.
pub(super) struct Text {
    /// Where it is.
    pub(super) path: String,
    /// What it says.
    pub(super) value: Zeroizing<String>,
}

impl Node {
    pub(super) fn new(path: String, map: Map<String, Value>) -> Self {
        Node { path, map }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where a field of it is.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}.{}", self.path, printable(name))
    }

    /// Whether it has the field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// The names of what was not asked for yet.
    pub(super) fn names(&self) -> Vec<String> {
        self.map.keys().cloned().collect()
    }

    /// A field, whatever it is; null is absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// An object.
    pub(super) fn object(&mut self, name: &str, findings: &mut Findings) -> Option<Node> {
        match self.take(name)? {
            Value::Object(map) => Some(Node::new(self.path_of(name), map)),
            _ => {
                findings.fault(self.path_of(name), "must be an object");
                None
            }
        }
    }

    /// An object, if it is one; anything else stays for who asks next.
    pub(super) fn object_if_any(&mut self, name: &str) -> Option<Node> {
        match self.map.remove(name) {
            Some(Value::Object(map)) => Some(Node::new(self.path_of(name), map)),
            Some(other) => {
                self.map.insert(name.to_owned(), other);
                None
            }
            None => None,
        }
    }

    /// A text, a number or a list of texts, which is joined by commas; empty is absent.
    pub(super) fn text(&mut self, name: &str, findings: &mut Findings) -> Option<Text> {
        let path = self.path_of(name);
        let value = match self.take(name)? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                items.join(", ")
            }
            _ => {
                findings.fault(path, "must be a text");
                return None;
            }
        };
        let value = Zeroizing::new(value);
        (!value.is_empty()).then_some(Text { path, value })
    }

    /// A number, or a text that is one: decimal, or hexadecimal after 0x.
    pub(super) fn number(&mut self, name: &str, findings: &mut Findings) -> Option<u64> {
        let path = self.path_of(name);
        let number = match self.take(name)? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            },
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        if number.is_none() {
            findings.fault(path, "must be a number, 0 or greater");
        }
        number
    }

    /// True or false; `None` where nothing is said.
    pub(super) fn flag(&mut self, name: &str, findings: &mut Findings) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            _ => {
                findings.fault(self.path_of(name), "must be true or false");
                None
            }
        }
    }

    /// Notes what nobody asked for.
    pub(super) fn finish(self, findings: &mut Findings) {
        for name in self.map.keys() {
            findings.note(format!("{} is not known and not carried", self.path_of(name)));
        }
    }
}
