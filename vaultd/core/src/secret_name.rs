//! Names of secrets: safe as a file name, in a log line and on a terminal by construction.

use std::fmt;
use std::str::FromStr;

/// Longest name, characters.
pub const NAME_MAX: usize = 128;

/// 1-128 characters of `[a-z0-9_]`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

/// The beginning of a [`SecretName`]; by the same rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretPrefix(String);

/// Why a name is refused. Does not repeat the name, which may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecretName {
    /// No character at all.
    #[error("must not be empty")]
    Empty,
    /// More than [`NAME_MAX`] characters.
    #[error("must have at most {NAME_MAX} characters")]
    TooLong,
    /// Does not begin with a letter.
    #[error("must start with a letter from a to z")]
    Start,
    /// Holds a character that names may not have.
    #[error("must hold only a to z, 0 to 9 and _")]
    Character,
}

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it begins with `prefix`.
    pub fn starts_with(&self, prefix: &SecretPrefix) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl SecretPrefix {
    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = InvalidSecretName;

    fn from_str(text: &str) -> Result<Self, InvalidSecretName> {
        check(text).map(|()| SecretName(text.to_owned()))
    }
}

impl FromStr for SecretPrefix {
    type Err = InvalidSecretName;

    fn from_str(text: &str) -> Result<Self, InvalidSecretName> {
        check(text).map(|()| SecretPrefix(text.to_owned()))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SecretPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(text: &str) -> Result<(), InvalidSecretName> {
    let Some(first) = text.bytes().next() else {
        return Err(InvalidSecretName::Empty);
    };
    if text.len() > NAME_MAX {
        return Err(InvalidSecretName::TooLong);
    }
    if !text
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    {
        return Err(InvalidSecretName::Character);
    }
    if !first.is_ascii_lowercase() {
        return Err(InvalidSecretName::Start);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_of_the_rule_are_taken() {
        for name in ["a", "conn_1_password", "z9_", &"a".repeat(128)] {
            assert_eq!(name.parse::<SecretName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_cause() {
        use InvalidSecretName::{Character, Empty, Start, TooLong};
        let cases = [
            ("", Empty),
            ("_a", Start),
            ("9a", Start),
            ("A", Character),
            ("a-b", Character),
            ("a.b", Character),
            ("../etc/passwd", Character),
            ("a/b", Character),
            ("a\0b", Character),
            ("a b", Character),
            ("a\n", Character),
            ("\u{202e}abc", Character),
            ("\u{430}bc", Character),
        ];
        for (name, cause) in cases {
            assert_eq!(name.parse::<SecretName>(), Err(cause), "{name:?}");
            assert_eq!(name.parse::<SecretPrefix>(), Err(cause), "{name:?}");
        }
        assert_eq!("a".repeat(129).parse::<SecretName>(), Err(TooLong));
        assert_eq!("a".repeat(10_240).parse::<SecretName>(), Err(TooLong));
    }
}
