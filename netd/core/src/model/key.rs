//! Public keys of peers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// An X25519 public key (RFC 7748), shown as wg(8) does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublicKey {
    /// Another length.
    #[error("a public key has 32 bytes, not {0}")]
    Length(usize),
    /// The all-zero key, which every shared secret is zero with.
    #[error("a public key is not all zero")]
    Zero,
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = InvalidPublicKey;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidPublicKey> {
        let key = <[u8; 32]>::try_from(bytes).map_err(|_| InvalidPublicKey::Length(bytes.len()))?;
        if key == [0; 32] {
            Err(InvalidPublicKey::Zero)
        } else {
            Ok(PublicKey(key))
        }
    }
}

impl PublicKey {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
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
