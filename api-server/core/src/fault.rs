//! What is wrong with a request: every fault at once, each with the path of its field.

use std::fmt;

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, e.g. `access.services[2].port`; empty for the document as a whole.
    pub field: String,
    /// What is wrong and what would be right, one sentence. Never repeats the value, which may be a secret.
    pub description: String,
}

/// The faults of one request, in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Violation>);

impl Faults {
    /// One fault.
    pub fn one(field: impl Into<String>, description: impl fmt::Display) -> Self {
        let mut faults = Faults::default();
        faults.add(field, description);
        faults
    }

    /// Adds a fault, unless `field` has one already: the first says most (a number that should be a string is not
    /// also too short).
    pub fn add(&mut self, field: impl Into<String>, description: impl fmt::Display) {
        let field = field.into();
        if !self.0.iter().any(|known| known.field == field) {
            self.0.push(Violation {
                field,
                description: description.to_string(),
            });
        }
    }

    /// Keeps the value of `result`, or its error as a fault of `field`.
    pub fn keep<T, E: fmt::Display>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(field, error);
                None
            }
        }
    }

    /// Adds the faults of another check of the same request.
    pub fn merge(&mut self, other: Faults) {
        for violation in other.0 {
            self.add(violation.field, violation.description);
        }
    }

    /// Adds what a check found in a request of which some fields could not be read. What it says of such a field, of
    /// what lies in it, or of the request as a whole speaks of what stands in for it, not of what was sent.
    pub fn merge_of_unread(&mut self, checked: Faults) {
        let read_faults = self.0.len();
        for violation in checked.0 {
            let stands_in = violation.field.is_empty()
                || self.0[..read_faults]
                    .iter()
                    .any(|unread| lies_in(&violation.field, &unread.field));
            if !stands_in {
                self.add(violation.field, violation.description);
            }
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults.
    pub fn violations(&self) -> &[Violation] {
        &self.0
    }

    /// The faults, by value.
    pub fn into_violations(self) -> Vec<Violation> {
        self.0
    }
}

/// Whether `path` is `parent` or a part of it.
fn lies_in(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", violation.field, violation.description)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_of_a_field_stays() {
        let mut faults = Faults::one("name", "is required");
        faults.add("name", "is too short");
        faults.add("port", "is too large");
        assert_eq!(faults.to_string(), "name: is required; port: is too large");
    }

    #[test]
    fn a_check_says_nothing_of_what_was_not_read() {
        let mut faults = Faults::one("access.services[1]", "must be an object");
        let mut checked = Faults::one("", "must name something");
        for field in [
            "access.services[1].port",
            "access.services[1]",
            "access.services[10].port",
            "name",
        ] {
            checked.add(field, "is wrong");
        }
        faults.merge_of_unread(checked);
        let fields: Vec<_> = faults.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["access.services[1]", "access.services[10].port", "name"]);
    }
}
