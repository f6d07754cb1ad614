//! The two labels that make a container the broker's own.

use std::collections::BTreeMap;
use std::fmt;

use super::ServiceName;

/// The key of a label: 1-128 characters of `[a-z0-9._-]`. No `=`, which would move the border between key and value in
/// Docker's filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelKey(String);

/// The id of a cell, as it stands in the owner label: 1-63 characters of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelValue(String);

/// A label that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// Not a key.
    #[error("a label's key has 1-128 characters of a-z, 0-9, dot, underscore and hyphen")]
    Key,
    /// Not a cell's id.
    #[error("a cell's id has 1-63 characters of letters, digits, dot, underscore and hyphen")]
    Value,
    /// One key for both purposes.
    #[error("the owner label and the service label need different keys")]
    SameKey,
}

fn all(text: &str, longest: usize, letter: impl Fn(&u8) -> bool) -> bool {
    let known = |b: u8| letter(&b) || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=longest).contains(&text.len()) && text.bytes().all(known)
}

impl TryFrom<&str> for LabelKey {
    type Error = InvalidLabel;

    fn try_from(text: &str) -> Result<Self, InvalidLabel> {
        if all(text, 128, u8::is_ascii_lowercase) {
            Ok(LabelKey(text.to_owned()))
        } else {
            Err(InvalidLabel::Key)
        }
    }
}

impl TryFrom<&str> for LabelValue {
    type Error = InvalidLabel;

    fn try_from(text: &str) -> Result<Self, InvalidLabel> {
        if all(text, 63, u8::is_ascii_alphabetic) {
            Ok(LabelValue(text.to_owned()))
        } else {
            Err(InvalidLabel::Value)
        }
    }
}

impl fmt::Display for LabelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What marks a container as this cell's: `owner_key=cell_id` and `service_key=<service>`, both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    owner_key: LabelKey,
    cell_id: LabelValue,
    service_key: LabelKey,
}

impl Ownership {
    /// Fails when both labels have the same key: one label would then answer both questions.
    pub fn new(
        owner_key: LabelKey,
        cell_id: LabelValue,
        service_key: LabelKey,
    ) -> Result<Self, InvalidLabel> {
        if owner_key == service_key {
            return Err(InvalidLabel::SameKey);
        }
        Ok(Ownership {
            owner_key,
            cell_id,
            service_key,
        })
    }

    /// Whether the owner label names this cell.
    pub fn owns(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.owner_key.0) == Some(&self.cell_id.0)
    }

    /// The service that the service label names, if it is one.
    pub fn service(&self, labels: &BTreeMap<String, String>) -> Option<ServiceName> {
        labels.get(&self.service_key.0)?.as_str().try_into().ok()
    }

    /// The labels of a container of `service`.
    pub fn labels(&self, service: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (self.owner_key.0.clone(), self.cell_id.0.clone()),
            (self.service_key.0.clone(), service.to_owned()),
        ])
    }

    /// The owner label in the form of Docker's `label` filter.
    pub fn owner_filter(&self) -> String {
        format!("{}={}", self.owner_key, self.cell_id.0)
    }

    /// The service label in the form of Docker's `label` filter; of any service without one.
    pub fn service_filter(&self, service: Option<&ServiceName>) -> String {
        match service {
            Some(service) => format!("{}={service}", self.service_key),
            None => self.service_key.to_string(),
        }
    }
}
