//! What a user and a password may be.

use std::fmt;

use serde::Deserialize;
use zeroize::Zeroizing;

/// 1-32 characters of `[a-z0-9._-]`, the first and the last of `[a-z0-9]`, no two dots together: a key in a file of users, a
/// folder's name and the local part of an address, and means nothing else in any of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct User(String);

/// Not a user. Does not repeat what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user is 1-32 characters of a-z, 0-9 and . _ -, begins and ends with a letter or digit, and has no two dots together"
)]
pub struct InvalidUser;

impl User {
    /// Longest, bytes.
    pub const LONGEST: usize = 32;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for User {
    type Error = InvalidUser;

    fn try_from(text: &str) -> Result<Self, InvalidUser> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = (1..=Self::LONGEST).contains(&bytes.len())
            && bytes.iter().all(|b| plain(*b) || matches!(b, b'.' | b'_' | b'-'))
            && plain(bytes[0])
            && plain(bytes[bytes.len() - 1])
            && !text.contains("..");
        good.then(|| User(text.to_owned())).ok_or(InvalidUser)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 10-72 bytes without control characters: bcrypt reads no more than 72, and what it would not read is refused rather than left out.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Password(Zeroizing<String>);

/// Not a password. Does not repeat what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password is 10-72 bytes without control characters")]
pub struct InvalidPassword;

impl Password {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<String> for Password {
    type Error = InvalidPassword;

    fn try_from(text: String) -> Result<Self, InvalidPassword> {
        let text = Zeroizing::new(text);
        let good = (10..=72).contains(&text.len()) && !text.chars().any(char::is_control);
        good.then_some(Password(text)).ok_or(InvalidPassword)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn users_mean_nothing_but_themselves() {
        for good in ["a", "alice", "a.b_c-d", "1", &"x".repeat(32)] {
            assert_eq!(User::try_from(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "-a",
            "a-",
            ".a",
            "a.",
            "_a",
            "A",
            "a b",
            "a:b",
            "a/b",
            "a\n",
            "a@b",
            "#a",
            "å",
            "a\0",
            "*",
            "root\nx",
            &"x".repeat(33),
        ] {
            assert_eq!(User::try_from(bad), Err(InvalidUser), "{bad:?}");
        }
    }

    #[test]
    fn passwords_are_read_whole_or_not_at_all() {
        let password = |text: &str| Password::try_from(text.to_owned());
        assert!(
            password("0123456789").is_ok()
                && password(&"x".repeat(72)).is_ok()
                && password("schöne Wörter: #1").is_ok()
        );
        for bad in ["", "012345678", "0123456789\n", "0123456789\0", &"x".repeat(73)] {
            assert_eq!(password(bad).unwrap_err(), InvalidPassword, "{bad:?}");
        }
        assert_eq!(format!("{:?}", password("0123456789").unwrap()), "Password(..)");
    }
}
