//! A fault in what a caller or the policy file says, with its place.

use std::fmt;

/// One fault. Never holds the value itself where that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path to the field, e.g. `names[2]`.
    pub field: String,
    /// What is wrong and what would be right, one sentence.
    pub description: String,
}

impl Violation {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, description: impl fmt::Display) -> Self {
        Violation {
            field: field.into(),
            description: description.to_string(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}
