//! User and password for an exit, and what keeps the peers of a Tor exit apart.

use std::fmt;
use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::exit::ExitId;

/// Longest user or password, bytes (RFC 1929, section 2).
pub const BYTES_MAX: usize = 255;

/// A user with a password. Wiped when it goes; `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: String,
    password: Zeroizing<Vec<u8>>,
}

/// What is no user or no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredentials {
    /// Empty, too long, or with characters that end a line or, in HTTP, the user.
    #[error("a user is 1 to 255 bytes without control characters and without a colon")]
    Username,
    /// Empty or too long.
    #[error("a password is 1 to 255 bytes")]
    Password,
}

impl Credentials {
    /// A user and a password that every kind of exit can be told.
    ///
    /// # Errors
    /// [`InvalidCredentials`] names the part.
    pub fn try_new(username: &str, password: Zeroizing<Vec<u8>>) -> Result<Self, InvalidCredentials> {
        if !is_username(username) {
            return Err(InvalidCredentials::Username);
        }
        if password.is_empty() || password.len() > BYTES_MAX {
            return Err(InvalidCredentials::Password);
        }
        Ok(Credentials {
            username: username.to_owned(),
            password,
        })
    }

    /// What Tor keeps a peer's circuits apart by: of different user or password, no two streams share a circuit
    /// (tor(1), IsolateSOCKSAuth, which is on unless switched off). Not a secret: it tells Tor which peer of which exit it is.
    pub fn isolating(exit: &ExitId, peer: IpAddr) -> Self {
        Credentials {
            username: format!("cell {exit} {}", peer.to_canonical()),
            password: Zeroizing::new(b"cell".to_vec()),
        }
    }

    pub(crate) fn username(&self) -> &[u8] {
        self.username.as_bytes()
    }

    pub(crate) fn password(&self) -> &[u8] {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Whether every kind of exit can be told this user.
pub(crate) fn is_username(text: &str) -> bool {
    (1..=BYTES_MAX).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c == ':')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn made(username: &str, password: &[u8]) -> Result<Credentials, InvalidCredentials> {
        Credentials::try_new(username, Zeroizing::new(password.to_vec()))
    }

    #[test]
    fn lengths_end_where_the_protocol_does() {
        assert!(made(&"u".repeat(255), &[0xff; 255]).is_ok());
        for username in ["", "a:b", "a\r\nb", &"u".repeat(256)] {
            assert_eq!(
                made(username, b"p"),
                Err(InvalidCredentials::Username),
                "{username}"
            );
        }
        for password in [&[] as &[u8], &[1; 256]] {
            assert_eq!(made("u", password), Err(InvalidCredentials::Password));
        }
    }

    #[test]
    fn nothing_of_them_is_shown() {
        let shown = format!("{:?}", made("hans", b"hunter2").unwrap());
        assert_eq!(shown, "Credentials(..)");
    }

    #[test]
    fn each_peer_of_each_exit_is_kept_apart() {
        let exits = [
            "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b",
            "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5c",
        ];
        let [one, other] = exits.map(|id| ExitId::parse(id).unwrap());
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = Credentials::isolating(&one, peer("10.8.0.2"));
        assert_eq!(
            first,
            Credentials::isolating(&one, peer("::ffff:10.8.0.2")),
            "the same peer"
        );
        assert_ne!(first, Credentials::isolating(&one, peer("10.8.0.3")));
        assert_ne!(first, Credentials::isolating(&other, peer("10.8.0.2")));
        // A name of this start would ask Tor for another meaning of it (Tor proposal 351).
        assert!(!first.username().starts_with(b"<torS0X>"));
        let longest = Credentials::isolating(&one, peer("1111:2222:3333:4444:5555:6666:7777:8888"));
        assert!(longest.username().len() <= BYTES_MAX);
    }
}
