//! The name of a service: all that a caller can say about a container.

use std::fmt;

/// 1-63 characters of `[a-z0-9-]`, starting with a letter: a DNS label (RFC 1035), so that it can stand in a host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName(String);

/// Not a service's name. Does not repeat what was sent: it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServiceName {
    /// Nothing was sent.
    #[error("is required: the service's name, e.g. \"files\"")]
    Empty,
    /// More than 63 characters.
    #[error("has at most 63 characters, not {0}")]
    TooLong(usize),
    /// Another character, or a digit or hyphen first.
    #[error("consists of a-z, 0-9 and hyphens, and starts with a letter")]
    Characters,
}

impl ServiceName {
    const LONGEST: usize = 63;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = InvalidServiceName;

    fn try_from(text: &str) -> Result<Self, InvalidServiceName> {
        if text.is_empty() {
            return Err(InvalidServiceName::Empty);
        }
        let length = text.chars().count();
        if length > Self::LONGEST {
            return Err(InvalidServiceName::TooLong(length));
        }
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !text.as_bytes()[0].is_ascii_lowercase() || !text.bytes().all(known) {
            return Err(InvalidServiceName::Characters);
        }
        Ok(ServiceName(text.to_owned()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_are_dns_labels_that_start_with_a_letter() {
        for good in ["a", "files", "photo-2", &"x".repeat(63)] {
            assert_eq!(ServiceName::try_from(good).unwrap().as_str(), good);
        }
        for bad in [
            "Files", "2photo", "-a", "a_b", "a.b", "a/b", "../a", "a b", "a\0", "å", "%2e", "a\n", "{}",
        ] {
            assert_eq!(
                ServiceName::try_from(bad),
                Err(InvalidServiceName::Characters),
                "{bad:?}"
            );
        }
        assert_eq!(ServiceName::try_from(""), Err(InvalidServiceName::Empty));
        assert_eq!(
            ServiceName::try_from(&*"x".repeat(64)),
            Err(InvalidServiceName::TooLong(64))
        );
    }
}
