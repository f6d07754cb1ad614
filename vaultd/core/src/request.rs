//! What a caller asks to be certified, checked: names and addresses inside the scope, and a key that is strong enough.

use std::net::IpAddr;

use crate::dns::DnsName;
use crate::policy::Policy;
use crate::scope::NameScope;
use crate::violation::Violation;

/// Largest certification request, bytes. RSA-4096 with a few names needs 2 KiB.
pub const CSR_MAX: usize = 4096;
/// Most DNS names in one certificate.
pub const NAMES_MAX: usize = 16;
/// Most addresses in one certificate.
pub const ADDRESSES_MAX: usize = 8;
/// Shortest RSA modulus that is certified, bits.
pub const RSA_BITS_MIN: usize = 2048;
/// Longest RSA modulus that is certified, bits: checking a longer one costs every client dearly.
pub const RSA_BITS_MAX: usize = 4096;

/// The names of a certificate: at least one, each once, all in scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedNames {
    names: Vec<DnsName>,
    addresses: Vec<IpAddr>,
}

/// Why names are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamesRefused {
    /// Not well formed; every fault with its field.
    Invalid(Vec<Violation>),
    /// Well formed, and outside what may be certified; each of them.
    NotAllowed(Vec<String>),
}

impl CheckedNames {
    /// Checks the names of a request against the ceiling, and against `root`, the names that the root certificate is
    /// constrained to: what the ceiling allows since the root was made would not verify at any client.
    ///
    /// # Errors
    /// All faults at once.
    pub fn check(
        names: &[String],
        addresses: &[Vec<u8>],
        policy: &Policy,
        root: &NameScope,
    ) -> Result<Self, NamesRefused> {
        let checked = Self::parse(names, addresses).map_err(NamesRefused::Invalid)?;
        let outside_names = checked
            .names
            .iter()
            .filter(|name| !(policy.scope.has_name(name) && root.has_name(name)))
            .map(ToString::to_string);
        let outside_addresses = checked
            .addresses
            .iter()
            .filter(|address| !(policy.scope.has_address(**address) && root.has_address(**address)))
            .map(ToString::to_string);
        let outside: Vec<String> = outside_names.chain(outside_addresses).collect();
        if outside.is_empty() {
            Ok(checked)
        } else {
            Err(NamesRefused::NotAllowed(outside))
        }
    }

    /// The DNS names, in the order asked.
    pub fn names(&self) -> &[DnsName] {
        &self.names
    }

    /// The addresses, in the order asked.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    fn parse(names: &[String], addresses: &[Vec<u8>]) -> Result<Self, Vec<Violation>> {
        let mut faults = Vec::new();
        if names.is_empty() && addresses.is_empty() {
            faults.push(Violation::new(
                "names",
                "a certificate needs at least one name or address",
            ));
        }
        if names.len() > NAMES_MAX {
            faults.push(Violation::new("names", format!("at most {NAMES_MAX} names")));
        }
        if addresses.len() > ADDRESSES_MAX {
            faults.push(Violation::new(
                "addresses",
                format!("at most {ADDRESSES_MAX} addresses"),
            ));
        }
        let mut checked = CheckedNames {
            names: Vec::new(),
            addresses: Vec::new(),
        };
        for (index, text) in names.iter().enumerate().take(NAMES_MAX) {
            let field = || format!("names[{index}]");
            match text.parse::<DnsName>() {
                Ok(name) if checked.names.contains(&name) => {
                    faults.push(Violation::new(field(), "is named twice"));
                }
                Ok(name) => checked.names.push(name),
                Err(fault) => faults.push(Violation::new(field(), fault)),
            }
        }
        for (index, octets) in addresses.iter().enumerate().take(ADDRESSES_MAX) {
            let field = || format!("addresses[{index}]");
            match address(octets) {
                Some(address) if checked.addresses.contains(&address) => {
                    faults.push(Violation::new(field(), "is named twice"));
                }
                Some(address) => checked.addresses.push(address),
                None => faults.push(Violation::new(field(), "must have 4 or 16 bytes")),
            }
        }
        if faults.is_empty() {
            Ok(checked)
        } else {
            Err(faults)
        }
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// The kind of the public key in a request, as far as its strength goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// RSA.
    Rsa {
        /// Length of the modulus.
        bits: usize,
        /// Public exponent; `None` if it does not fit 64 bits.
        exponent: Option<u64>,
    },
}

/// A key that is not certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    /// Too short or too long a modulus.
    #[error("an RSA key must have {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, this one has {0}")]
    RsaBits(usize),
    /// An exponent other than the one that everybody uses.
    #[error("an RSA key must have the public exponent 65537")]
    RsaExponent,
}

impl KeyKind {
    /// Whether a key of this kind is certified.
    ///
    /// # Errors
    /// What is weak about it.
    pub fn check(self) -> Result<(), WeakKey> {
        match self {
            KeyKind::EcdsaP256 | KeyKind::EcdsaP384 | KeyKind::Ed25519 => Ok(()),
            KeyKind::Rsa { bits, .. } if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) => {
                Err(WeakKey::RsaBits(bits))
            }
            KeyKind::Rsa {
                exponent: Some(65_537),
                ..
            } => Ok(()),
            KeyKind::Rsa { .. } => Err(WeakKey::RsaExponent),
        }
    }
}
