//! A device's key pair (X25519, RFC 7748), made on this side: the cell gets the public half alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// A key pair. The private half is wiped when it goes.
pub(crate) struct KeyPair {
    private: Zeroizing<[u8; 32]>,
}

impl KeyPair {
    /// A new one from the kernel's random numbers, clamped as `wg genkey` does, so that the text is the key in use.
    pub(crate) fn generate() -> Result<Self, Failure> {
        let mut private = Zeroizing::new([0; 32]);
        getrandom::fill(private.as_mut())
            .map_err(|error| Failure::Local(format!("no random numbers: {error}")))?;
        private[0] &= 248;
        private[31] = (private[31] & 127) | 64;
        Ok(KeyPair { private })
    }

    /// Base64, as WireGuard's tools write it.
    pub(crate) fn public(&self) -> String {
        STANDARD.encode(PublicKey::from(&StaticSecret::from(*self.private)).as_bytes())
    }

    /// Base64, as WireGuard's tools write it.
    pub(crate) fn private(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.private))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_public_half_is_that_of_rfc_7748() {
        // RFC 7748, section 6.1: Alice's keys.
        let alice = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
            0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let pair = KeyPair {
            private: Zeroizing::new(alice),
        };
        assert_eq!(pair.public(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn keys_are_clamped_and_differ() {
        let (one, two) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        assert_ne!(one.public(), two.public());
        assert_eq!((one.private[0] & 7, one.private[31] & 0xc0), (0, 0x40));
    }
}
