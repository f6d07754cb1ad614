//! The certificate of a service that speaks TLS itself (mail): one file with key and chain, replaced as a whole, so that never
//! one is seen with the other's.

use std::io;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::store::replace;

/// A certificate with its chain and its key, as they are sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM, the service's own first.
    pub chain: String,
    /// PEM, PKCS#8.
    #[serde(deserialize_with = "secret")]
    pub key: Zeroizing<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

/// Why it is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not PEM.
    #[error("the chain is one or more certificates in PEM, the service's own first")]
    Chain,
    /// Not a key.
    #[error("the key is one private key in PEM")]
    Key,
    /// Not of each other.
    #[error("the key is not that of the first certificate")]
    Apart,
}

impl Certificate {
    /// Key and chain in one text, if they are of each other.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn bundle(&self) -> Result<Zeroizing<String>, Unfit> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Unfit::Chain)?;
        if chain.is_empty() {
            return Err(Unfit::Chain);
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| Unfit::Key)?;
        CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(|error| {
            match error {
                rustls::Error::InconsistentKeys(_) => Unfit::Apart,
                rustls::Error::InvalidCertificate(_) => Unfit::Chain,
                _ => Unfit::Key,
            }
        })?;
        Ok(Zeroizing::new(format!(
            "{}\n{}\n",
            self.key.trim(),
            self.chain.trim()
        )))
    }
}

/// Puts it where the service reads it.
///
/// # Errors
/// What the system said; the former is then there as before.
pub fn write(path: &Path, bundle: &str) -> io::Result<()> {
    replace(path, bundle.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn key_and_chain_belong_together() {
        let made = || rcgen::generate_simple_self_signed(["mail.cell".to_owned()]).unwrap();
        let (ours, other) = (made(), made());
        let certificate = |chain: String, key: String| Certificate {
            chain,
            key: Zeroizing::new(key),
        };
        let (chain, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
        let bundle = certificate(chain.clone(), key.clone()).bundle().unwrap();
        assert!(bundle.contains("PRIVATE KEY") && bundle.contains("BEGIN CERTIFICATE"));
        let foreign = certificate(chain.clone(), other.signing_key.serialize_pem());
        assert_eq!(foreign.bundle().unwrap_err(), Unfit::Apart);
        assert_eq!(
            certificate("x".to_owned(), key.clone()).bundle().unwrap_err(),
            Unfit::Chain
        );
        assert_eq!(
            certificate(chain.clone(), "x".to_owned()).bundle().unwrap_err(),
            Unfit::Key
        );
        assert_eq!(certificate(key, chain).bundle().unwrap_err(), Unfit::Chain);
    }
}
