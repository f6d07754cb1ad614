//! The cell's WireGuard key: X25519 (RFC 7748), made here.

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize as _, Zeroizing};

use crate::keyring::{SealError, random};

/// Length of a key, bytes.
pub const KEY_BYTES: usize = 32;

/// A fresh private key, clamped as wg(8) shows it.
///
/// # Errors
/// When the operating system has no randomness.
pub fn generate() -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    let mut key = Zeroizing::new(random::<KEY_BYTES>()?);
    key[0] &= 0xf8;
    key[31] = key[31] & 0x7f | 0x40;
    Ok(key)
}

/// The public half.
pub fn public_key(private_key: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let mut secret = StaticSecret::from(*private_key);
    let public = PublicKey::from(&secret).to_bytes();
    secret.zeroize();
    public
}
