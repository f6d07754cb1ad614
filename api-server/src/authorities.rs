//! Whom servers of catalogs are known by: the authorities of the system, read once before the sandbox closes, or a catalog's own.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Most bytes of the system's file that are read.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Most authorities of one catalog.
const OWN_MAX: usize = 16;

/// Those of the system.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// How many: certificates are long, and everybody's.
impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

impl Authorities {
    /// Reads a bundle in PEM. What of it is no certificate is left out.
    ///
    /// # Errors
    /// The system's.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(FILE_MAX_BYTES)
            .read_to_end(&mut bytes)?;
        let all = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok);
        Ok(Authorities(all.collect()))
    }

    /// A client that knows servers by `own` (PEM), or by these where that is empty. It speaks HTTP/1.1.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn client(&self, own: &str) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        if own.trim().is_empty() {
            roots.add_parsable_certificates(self.0.iter().cloned());
            if roots.is_empty() {
                return Err(
                    "this machine knows no certificate authorities: install the package ca-certificates and start cell-api \
                     anew, or give the catalog its own (ca)"
                        .to_owned(),
                );
            }
        } else {
            for certificate in parse(own)? {
                roots
                    .add(certificate)
                    .map_err(|_| "has a certificate that can be nobody's authority".to_owned())?;
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| "TLS cannot be configured".to_owned())?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn parse(own: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(own.as_bytes()).collect();
    match all {
        Ok(all) if (1..=OWN_MAX).contains(&all.len()) => Ok(all),
        Ok(_) | Err(_) => Err(format!("is 1 to {OWN_MAX} certificates in PEM")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn nobody_is_trusted_without_a_certificate() {
        let none = Authorities::default();
        assert!(none.client("").unwrap_err().contains("ca-certificates"));
        for bad in [
            "x",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            assert!(none.client(bad).is_err(), "{bad}");
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let pem = own.self_signed(&key).unwrap().pem();
        assert!(none.client(&pem).is_ok(), "control");
        assert!(none.client(&pem.repeat(OWN_MAX + 1)).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.pem");
        std::fs::write(&path, format!("# text\n{pem}")).unwrap();
        let read = Authorities::read(&path).unwrap();
        assert!(read.client("").is_ok());
        assert_eq!(format!("{read:?}"), "Authorities(1)");
    }
}
