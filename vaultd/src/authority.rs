//! Certificates: profiles of the core turned into X.509 by rcgen, signed with keys that are made here and leave only
//! sealed.

use std::net::IpAddr;

use cell_vaultd_core::NameScope;
use cell_vaultd_core::Timestamp;
use cell_vaultd_core::profile::{AuthorityProfile, Serial, ServerProfile, Validity};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::{Zeroize as _, Zeroizing};

use crate::csr::RequestedKey;

/// A certificate authority: its certificate and what it was made with. The key is not in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The cell's label, part of the subject.
    pub label: String,
    /// What it is constrained to.
    pub scope: NameScope,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// When it holds.
    pub validity: Validity,
}

/// The private key of an authority; wiped when it goes. (ring keeps the scalar in a form of its own while it is loaded,
/// which it does not wipe; hence keys are loaded for one signature and dropped.)
pub struct AuthorityKey(KeyPair);

/// A certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// DER.
    pub der: Vec<u8>,
    /// Its serial number.
    pub serial: Serial,
    /// When it holds.
    pub validity: Validity,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A library refused what the core had checked.
    #[error("cannot make the certificate: {0}")]
    Encoding(#[from] rcgen::Error),
    /// A stored authority is not one.
    #[error("a stored certificate authority cannot be read")]
    Stored,
    /// A time outside what X.509 can say.
    #[error("the clock shows a time that no certificate can hold")]
    Time,
}

impl Drop for AuthorityKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl AuthorityKey {
    /// A fresh ECDSA P-256 key.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn generate() -> Result<Self, AuthorityError> {
        Ok(AuthorityKey(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    fn load(pkcs8: &[u8]) -> Result<Self, AuthorityError> {
        let der = PrivatePkcs8KeyDer::from(pkcs8);
        Ok(AuthorityKey(KeyPair::from_pkcs8_der_and_sign_algo(
            &der,
            &PKCS_ECDSA_P256_SHA256,
        )?))
    }
}

impl Authority {
    /// A root: signed by its own key.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn self_signed(
        label: &str,
        profile: &AuthorityProfile,
        key: &AuthorityKey,
    ) -> Result<Self, AuthorityError> {
        let certificate = authority_params(profile)?.self_signed(&key.0)?;
        Ok(Self::made(label, profile, certificate.der()))
    }

    /// An authority below this one, whose key is `own_key`.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn certify(
        &self,
        own_key: &AuthorityKey,
        profile: &AuthorityProfile,
        key: &AuthorityKey,
    ) -> Result<Authority, AuthorityError> {
        let certificate = authority_params(profile)?.signed_by(&key.0, &self.issuer(own_key)?)?;
        Ok(Self::made(&self.label, profile, certificate.der()))
    }

    /// A server's certificate.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn issue(
        &self,
        own_key: &AuthorityKey,
        profile: &ServerProfile,
        requested: &RequestedKey,
    ) -> Result<Issued, AuthorityError> {
        let certificate = server_params(profile)?.signed_by(&requested.public_key, &self.issuer(own_key)?)?;
        Ok(Issued {
            der: certificate.der().to_vec(),
            serial: profile.serial,
            validity: profile.validity,
        })
    }

    /// Authority and key as one value, to be sealed: label, scope and certificate with their lengths, then the key.
    pub fn encode(&self, key: &AuthorityKey) -> Zeroizing<Vec<u8>> {
        let pkcs8 = key.0.serialized_der();
        let scope = self.scope.encode();
        let parts = [self.label.as_bytes(), scope.as_bytes(), &self.certificate];
        let length = parts.iter().map(|part| 4 + part.len()).sum::<usize>() + pkcs8.len();
        let mut value = Zeroizing::new(Vec::with_capacity(length));
        for part in parts {
            value.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            value.extend_from_slice(part);
        }
        value.extend_from_slice(pkcs8);
        value
    }

    /// Reads what [`Authority::encode`] wrote.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`].
    pub fn decode(value: &[u8]) -> Result<(Authority, AuthorityKey), AuthorityError> {
        let (label, rest) = split(value).ok_or(AuthorityError::Stored)?;
        let (scope, rest) = split(rest).ok_or(AuthorityError::Stored)?;
        let (certificate, pkcs8) = split(rest).ok_or(AuthorityError::Stored)?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| AuthorityError::Stored);
        let authority = Authority {
            label: text(label)?.to_owned(),
            scope: NameScope::decode(text(scope)?).map_err(|_| AuthorityError::Stored)?,
            certificate: certificate.to_vec(),
            validity: validity(certificate).ok_or(AuthorityError::Stored)?,
        };
        Ok((authority, AuthorityKey::load(pkcs8)?))
    }

    fn made(label: &str, profile: &AuthorityProfile, certificate: &CertificateDer<'_>) -> Authority {
        Authority {
            label: label.to_owned(),
            scope: profile.constraints.clone(),
            certificate: certificate.to_vec(),
            validity: profile.validity,
        }
    }

    fn issuer<'k>(&self, key: &'k AuthorityKey) -> Result<Issuer<'static, &'k KeyPair>, AuthorityError> {
        Ok(Issuer::from_ca_cert_der(
            &CertificateDer::from(self.certificate.as_slice()),
            &key.0,
        )?)
    }
}

/// A certificate as PEM (RFC 7468), for people.
pub fn root_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text
        .as_bytes()
        .chunks(64)
        .flat_map(|line| line.iter().map(|byte| char::from(*byte)).chain(['\n']));
    format!(
        "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n",
        lines.collect::<String>()
    )
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn validity(certificate: &[u8]) -> Option<Validity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let at = |time: x509_parser::time::ASN1Time| Timestamp(time.timestamp().saturating_mul(1_000));
    let held = parsed.validity();
    Some(Validity {
        not_before: at(held.not_before),
        not_after: at(held.not_after),
    })
}

fn authority_params(profile: &AuthorityProfile) -> Result<CertificateParams, AuthorityError> {
    let mut params = base_params(profile.validity, profile.serial)?;
    params
        .distinguished_name
        .push(DnType::CommonName, profile.common_name.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(profile.path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if profile.server_auth_only {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    }
    params.name_constraints = Some(constraints(&profile.constraints));
    Ok(params)
}

fn server_params(profile: &ServerProfile) -> Result<CertificateParams, AuthorityError> {
    let mut params = base_params(profile.validity, profile.serial)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in &profile.names {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(
        profile
            .addresses
            .iter()
            .map(|address| SanType::IpAddress(*address)),
    );
    Ok(params)
}

fn base_params(validity: Validity, serial: Serial) -> Result<CertificateParams, AuthorityError> {
    // Years of four digits, as RFC 5280 section 4.1.2.5 can write them.
    let at = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp(time.unix_seconds())
            .ok()
            .filter(|time| (1970..=9999).contains(&time.year()))
            .ok_or(AuthorityError::Time)
    };
    let mut params = CertificateParams::default();
    params.not_before = at(validity.not_before)?;
    params.not_after = at(validity.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The scope as RFC 5280 section 4.2.1.10 has it. A kind of name of which nothing is permitted is excluded altogether:
/// a constraint that does not mention a kind does not constrain it. Mail addresses are no business of ours.
fn constraints(scope: &NameScope) -> NameConstraints {
    let everything = |address: IpAddr| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 0));
    let names = scope
        .dns_suffixes
        .iter()
        .map(|name| GeneralSubtree::DnsName(name.to_string()));
    let prefixes = scope.address_prefixes.iter().map(|prefix| {
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            prefix.network(),
            prefix.prefix_len(),
        ))
    });
    let mut excluded_subtrees = Vec::new();
    if scope.dns_suffixes.is_empty() {
        excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    if scope.address_prefixes.is_empty() {
        excluded_subtrees.push(everything(IpAddr::from([0; 4])));
        excluded_subtrees.push(everything(IpAddr::from([0; 16])));
    }
    NameConstraints {
        permitted_subtrees: names.chain(prefixes).collect(),
        excluded_subtrees,
    }
}
