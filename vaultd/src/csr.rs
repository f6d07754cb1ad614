//! Takes a certification request (PKCS #10, RFC 2986) apart: its public key, if the requester holds the private one and
//! the key is strong enough. Nothing else of it is used, whatever it asks for.

use cell_vaultd_core::request::{CSR_MAX, KeyKind, WeakKey};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::{PublicKey, RSAPublicKey};

/// A public key whose owner has signed with it.
pub struct RequestedKey {
    pub(crate) public_key: SubjectPublicKeyInfo,
    /// What it is.
    pub kind: KeyKind,
}

impl RequestedKey {
    /// The key as a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), DER.
    pub fn spki_der(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(&self.public_key)
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCsr {
    /// Too many bytes.
    #[error("a certification request must have at most {CSR_MAX} bytes")]
    TooLong,
    /// Not PKCS #10 in DER.
    #[error("not a PKCS #10 certification request in DER")]
    Malformed,
    /// Something follows the request.
    #[error("bytes follow the certification request")]
    TrailingBytes,
    /// SHA-1, MD5 or unknown.
    #[error("the signature must be ECDSA or RSA with SHA-2, or Ed25519")]
    SignatureAlgorithm,
    /// The private key is somebody else's.
    #[error("the signature does not match the public key")]
    Signature,
    /// A kind of key that is not certified.
    #[error("the key must be ECDSA P-256 or P-384, Ed25519 or RSA")]
    KeyType,
    /// A key of a good kind and too little strength.
    #[error(transparent)]
    WeakKey(#[from] WeakKey),
}

const SIGNATURES: [Oid<'static>; 7] = [
    OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ED25519,
    OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA,
    OID_PKCS1_RSASSAPSS,
];

/// Reads a request.
///
/// # Errors
/// See [`InvalidCsr`].
pub fn read(der: &[u8]) -> Result<RequestedKey, InvalidCsr> {
    if der.len() > CSR_MAX {
        return Err(InvalidCsr::TooLong);
    }
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| InvalidCsr::Malformed)?;
    if !rest.is_empty() {
        return Err(InvalidCsr::TrailingBytes);
    }
    if !SIGNATURES.contains(&request.signature_algorithm.algorithm) {
        return Err(InvalidCsr::SignatureAlgorithm);
    }
    let info = &request.certification_request_info.subject_pki;
    if info.subject_public_key.unused_bits != 0 {
        return Err(InvalidCsr::KeyType);
    }
    let public_key = SubjectPublicKeyInfo::from_der(info.raw).map_err(|_| InvalidCsr::KeyType)?;
    let kind = kind(&public_key, info.parsed().ok().as_ref()).ok_or(InvalidCsr::KeyType)?;
    kind.check()?;
    request.verify_signature().map_err(|_| InvalidCsr::Signature)?;
    Ok(RequestedKey { public_key, kind })
}

fn kind(key: &SubjectPublicKeyInfo, parsed: Option<&PublicKey<'_>>) -> Option<KeyKind> {
    use rcgen::PublicKeyData as _;
    let algorithm = key.algorithm();
    if algorithm == &rcgen::PKCS_ECDSA_P256_SHA256 {
        return Some(KeyKind::EcdsaP256);
    }
    if algorithm == &rcgen::PKCS_ECDSA_P384_SHA384 {
        return Some(KeyKind::EcdsaP384);
    }
    if algorithm == &rcgen::PKCS_ED25519 {
        return Some(KeyKind::Ed25519);
    }
    match parsed {
        Some(PublicKey::RSA(rsa)) if algorithm == &rcgen::PKCS_RSA_SHA256 => Some(rsa_kind(rsa)),
        _ => None,
    }
}

fn rsa_kind(rsa: &RSAPublicKey<'_>) -> KeyKind {
    let zeros = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = &rsa.modulus[zeros..];
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    KeyKind::Rsa {
        bits: modulus.len() * 8 - leading,
        exponent: rsa.try_exponent().ok(),
    }
}
