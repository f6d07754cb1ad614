//! How a refusal is told: `google.rpc.Status` with one `ErrorInfo` (stable reason) and, for bad input, a
//! `BadRequest` that names every fault with its field path (AIP-193).

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// One fault in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path to the field, e.g. `peers[2].addresses[0]`.
    pub field: String,
    /// What is wrong and what would be right, one sentence.
    pub description: String,
}

impl Violation {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, description: impl ToString) -> Self {
        Violation {
            field: field.into(),
            description: description.to_string(),
        }
    }
}

/// A refusal with a stable reason.
#[must_use]
#[derive(Debug, Clone)]
pub struct Fault {
    code: Code,
    domain: &'static str,
    reason: &'static str,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<Violation>,
}

impl Fault {
    /// `domain` is the daemon's, e.g. `netd.cell`; `reason` is UPPER_SNAKE_CASE and never changes.
    pub fn new(code: Code, domain: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Fault {
            code,
            domain,
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            violations: Vec::new(),
        }
    }

    /// Adds one variable of the message.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Names every fault of the request.
    pub fn violations(mut self, violations: Vec<Violation>) -> Self {
        self.violations = violations;
        self
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        let mut details = ErrorDetails::with_error_info(fault.reason, fault.domain, fault.metadata);
        if !fault.violations.is_empty() {
            details.set_bad_request(
                fault
                    .violations
                    .into_iter()
                    .map(|v| FieldViolation::new(v.field, v.description))
                    .collect::<Vec<_>>(),
            );
        }
        Status::with_error_details(fault.code, fault.message, details)
    }
}

/// The stable reason of a refusal, if it carries one.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// The variables of a refusal.
pub fn metadata(status: &Status) -> HashMap<String, String> {
    status
        .get_details_error_info()
        .map(|info| info.metadata)
        .unwrap_or_default()
}

/// Every named fault of a refusal.
pub fn violations(status: &Status) -> Vec<Violation> {
    let Some(bad) = status.get_details_bad_request() else {
        return Vec::new();
    };
    bad.field_violations
        .into_iter()
        .map(|v| Violation::new(v.field, v.description))
        .collect()
}
