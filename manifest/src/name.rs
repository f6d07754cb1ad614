//! Names that reach DNS, a proxy's configuration or Docker.

use std::fmt;

/// Names of the cell's own: no service is called so, or reached by one of these. `cell` and `network` are what the cell calls the
/// network of its own containers.
pub const RESERVED: [&str; 5] = ["api", "webui", "admin", "cell", "network"];

/// 1-32 characters of `[a-z0-9-]`, a letter first, no hyphen last: a DNS label (RFC 1035), short enough that
/// `cell-SERVICE-CONTAINER` is one still.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

/// Not a name. Does not repeat what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is 1-32 characters of a-z, 0-9 and hyphens, starts with a letter and does not end in a hyphen")]
pub struct InvalidName;

impl Name {
    /// Longest.
    pub const LONGEST: usize = 32;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of the cell's own.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.as_str())
    }
}

impl TryFrom<&str> for Name {
    type Error = InvalidName;

    fn try_from(text: &str) -> Result<Self, InvalidName> {
        let bytes = text.as_bytes();
        let known = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let good = (1..=Self::LONGEST).contains(&bytes.len())
            && bytes.iter().all(known)
            && bytes[0].is_ascii_lowercase()
            && bytes[bytes.len() - 1] != b'-';
        good.then(|| Name(text.to_owned())).ok_or(InvalidName)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for good in ["a", "files", "a-1", &"x".repeat(32)] {
            assert!(Name::try_from(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "1a",
            "-a",
            "a-",
            "a_b",
            "a.b",
            "a b",
            "a\n",
            "../a",
            "å",
            "a{}",
            "xn--\u{e9}",
            &"x".repeat(33),
        ] {
            assert_eq!(Name::try_from(bad), Err(InvalidName), "{bad:?}");
        }
    }
}
