//! What each kind of certificate says. Nothing in a certificate comes from its request but the public key and the checked
//! names; the profiles are RFC 5280's with everything optional left out.

use std::net::IpAddr;

use crate::dns::DnsName;
use crate::request::CheckedNames;
use crate::scope::NameScope;
use crate::timestamp::{DAY, HOUR, SECOND, Timestamp};

/// Life of the root, milliseconds (ten years of 365.25 days).
pub const ROOT_LIFETIME: i64 = 3_652 * DAY + 12 * HOUR;
/// Life of an intermediate, milliseconds (two years). Leaves carry their intermediate, so that a change is unseen by
/// clients, which trust the root.
pub const INTERMEDIATE_LIFETIME: i64 = 730 * DAY;
/// How far before now validity begins, so that a client whose clock is a little late can connect, milliseconds.
pub const BACKDATE: i64 = 300 * SECOND;
/// Length of a serial number, bytes.
pub const SERIAL_BYTES: usize = 16;

/// From when to when a certificate holds, both seconds included (RFC 5280 section 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: Timestamp,
    /// Last second.
    pub not_after: Timestamp,
}

impl Validity {
    /// `lifetime` milliseconds from `now` less [`BACKDATE`], the backdating included.
    pub fn starting(now: Timestamp, lifetime: i64) -> Validity {
        let not_before = now.plus(-BACKDATE).whole_seconds();
        // Both ends count, so the last second of a life of n seconds is the (n-1)th after the first.
        Validity {
            not_before,
            not_after: not_before.plus(lifetime - SECOND).whole_seconds(),
        }
    }

    /// The part of it that lies inside `issuer`.
    #[must_use]
    pub fn within(self, issuer: Validity) -> Validity {
        Validity {
            not_before: self.not_before.max(issuer.not_before),
            not_after: self.not_after.min(issuer.not_after),
        }
    }

    /// Whether `now` lies in it.
    pub fn contains(self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after.plus(SECOND)
    }
}

/// A serial number: 127 random bits and a leading zero, so that DER takes it as 16 bytes of a positive INTEGER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial([u8; SERIAL_BYTES]);

impl Serial {
    /// From random bytes. The first bit is cleared and the second set: at 126 random bits the number is never zero and
    /// its length never changes.
    pub fn from_random(mut bytes: [u8; SERIAL_BYTES]) -> Serial {
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Serial(bytes)
    }

    /// Big-endian, 16 bytes.
    pub fn as_bytes(&self) -> &[u8; SERIAL_BYTES] {
        &self.0
    }
}

/// What a certificate authority's certificate says, beside its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityProfile {
    /// Subject: one common name, unique to this cell, so that two cells in one trust store are told apart.
    pub common_name: String,
    /// How many authorities may follow below it.
    pub path_length: u8,
    /// Critical name constraints.
    pub constraints: NameScope,
    /// Whether it is confined to certificates for TLS servers (extended key usage serverAuth).
    pub server_auth_only: bool,
    /// When it holds.
    pub validity: Validity,
    /// Its serial number.
    pub serial: Serial,
}

/// What a TLS server's certificate says, beside its key: CA:FALSE, key usage digitalSignature, extended key usage
/// serverAuth, an empty subject and a critical subjectAltName.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerProfile {
    /// dNSName entries.
    pub names: Vec<DnsName>,
    /// iPAddress entries.
    pub addresses: Vec<IpAddr>,
    /// When it holds.
    pub validity: Validity,
    /// Its serial number.
    pub serial: Serial,
}

/// The root of a cell that is called `label` (a few hexadecimal digits).
pub fn root(label: &str, scope: &NameScope, serial: Serial, now: Timestamp) -> AuthorityProfile {
    AuthorityProfile {
        common_name: format!("Cell {label} root"),
        path_length: 1,
        constraints: scope.clone(),
        server_auth_only: false,
        validity: Validity::starting(now, ROOT_LIFETIME),
        serial,
    }
}

/// An intermediate below the root that holds for `root`.
pub fn intermediate(
    label: &str,
    scope: &NameScope,
    serial: Serial,
    now: Timestamp,
    root: Validity,
) -> AuthorityProfile {
    AuthorityProfile {
        common_name: format!("Cell {label} intermediate"),
        path_length: 0,
        constraints: scope.clone(),
        server_auth_only: true,
        validity: Validity::starting(now, INTERMEDIATE_LIFETIME).within(root),
        serial,
    }
}

/// A server's certificate of at most `lifetime` milliseconds, below an intermediate that holds for `issuer`.
pub fn server(
    names: &CheckedNames,
    serial: Serial,
    now: Timestamp,
    lifetime: i64,
    issuer: Validity,
) -> ServerProfile {
    ServerProfile {
        names: names.names().to_vec(),
        addresses: names.addresses().to_vec(),
        validity: Validity::starting(now, lifetime).within(issuer),
        serial,
    }
}
