//! Docker's full container id: the only thing that ever stands in a path sent to Docker.

use std::fmt;

/// Exactly 64 lower-case hexadecimal digits. Names and shortened ids are none: a name can be given to another container
/// between the check and the act.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

/// Not a full container id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a container id has 64 hexadecimal digits")]
pub struct InvalidContainerId;

impl ContainerId {
    /// How many digits there are.
    pub const LENGTH: usize = 64;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` is a full id.
    pub fn is_valid(text: &str) -> bool {
        text.len() == Self::LENGTH && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl TryFrom<&str> for ContainerId {
    type Error = InvalidContainerId;

    fn try_from(text: &str) -> Result<Self, InvalidContainerId> {
        if Self::is_valid(text) {
            Ok(ContainerId(text.to_owned()))
        } else {
            Err(InvalidContainerId)
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_lower_case_ids_pass() {
        assert!(ContainerId::is_valid(&"0f".repeat(32)));
        let short = "0f".repeat(6);
        let upper = "0F".repeat(32);
        let long = "0".repeat(65);
        let tricky = format!("{}/../x", "0".repeat(58));
        for bad in ["", &short, &upper, &long, &tricky] {
            assert_eq!(ContainerId::try_from(bad), Err(InvalidContainerId), "{bad:?}");
        }
    }
}
