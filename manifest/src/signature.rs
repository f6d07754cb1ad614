//! Signatures in cosign's key format: ECDSA on P-256 over SHA-256, the public key in PEM, the signature in base64 of DER.
//! Verified here, without a network.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

/// A public key that signatures are verified by.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(VerifyingKey);

/// Not such a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is a public key of ECDSA on P-256 in PEM, as `cosign generate-key-pair` writes it into cosign.pub")]
pub struct InvalidKey;

impl Key {
    /// From PEM.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        pem.trim().parse().map(Key).map_err(|_| InvalidKey)
    }

    /// As PEM, as cosign.pub has it. Empty where it cannot be written, which a key that was read can always be.
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// Whether `signature` (base64 of DER) is this key's over exactly `bytes`.
    pub fn verifies(&self, bytes: &[u8], signature: &str) -> bool {
        let Ok(der) = STANDARD.decode(signature.trim()) else {
            return false;
        };
        DerSignature::try_from(der.as_slice()).is_ok_and(|signature| self.0.verify(bytes, &signature).is_ok())
    }
}

/// A public key, by its point: it may be shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(ECDSA P-256)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Made by OpenSSL: `ecparam -name prime256v1 -genkey`, `dgst -sha256 -sign` over "manifest".
    const PEM: &str = include_str!("testdata/key.pem");
    const SIGNATURE: &str = include_str!("testdata/signature.b64");

    #[test]
    fn a_signature_that_another_program_made_is_verified_and_a_changed_byte_is_not() {
        let key = Key::from_pem(PEM).unwrap();
        assert!(key.verifies(b"manifest", SIGNATURE), "control");
        assert_eq!(key.to_pem().trim(), PEM.trim());
        assert!(!key.verifies(b"Manifest", SIGNATURE));
        assert!(!key.verifies(b"manifest", ""));
        assert!(!key.verifies(b"manifest", "!!!"));
        let mut der = STANDARD.decode(SIGNATURE.trim()).unwrap();
        *der.last_mut().unwrap() ^= 1;
        assert!(!key.verifies(b"manifest", &STANDARD.encode(der)));
        for bad in [
            "",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "ssh-ed25519 AAAA",
        ] {
            assert_eq!(Key::from_pem(bad), Err(InvalidKey));
        }
    }
}
