//! WireGuard public keys.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// An X25519 public key (RFC 7748), 32 bytes, shown as WireGuard shows it: 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// Text or bytes that are no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not 44 characters of canonical base64 for 32 bytes.
    #[error("must be a WireGuard public key: 44 characters of base64")]
    Encoding,
    /// All zero, which WireGuard takes for "no key".
    #[error("must not be the all-zero key")]
    Zero,
}

impl PublicKey {
    /// Reads base64, as `wg pubkey` prints it.
    ///
    /// # Errors
    /// [`InvalidKey`] when it is not canonical base64 of 32 bytes, or the all-zero key.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidKey::Encoding)?;
        Self::from_bytes(&bytes)
    }

    /// Reads 32 bytes.
    ///
    /// # Errors
    /// [`InvalidKey`] when there are not 32, or all are zero.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| InvalidKey::Encoding)?;
        if bytes == [0; 32] {
            Err(InvalidKey::Zero)
        } else {
            Ok(PublicKey(bytes))
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        PublicKey::parse(&text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_base64_of_32_bytes_is_a_key() {
        let good = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        assert_eq!(
            PublicKey::parse(good).map(|key| key.to_string()),
            Ok(good.to_owned())
        );
        let zero = format!("{}=", "A".repeat(43));
        assert_eq!(PublicKey::parse(&zero), Err(InvalidKey::Zero));
        for bad in [
            "",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh=",
            " xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8A==",
            "ключключключключключключ",
        ] {
            assert_eq!(PublicKey::parse(bad), Err(InvalidKey::Encoding), "{bad:?}");
        }
    }
}
