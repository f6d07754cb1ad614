//! An exit, checked.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::directive::Directive;

/// Longest name of an interface, bytes (IFNAMSIZ without its NUL).
const INTERFACE_MAX: usize = 15;

/// The id of the connection that the exit belongs to: a UUID in lower case with hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitId(String);

/// Text that is no [`ExitId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is the id of a connection: a UUID in lower case, e.g. 6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b")]
pub struct InvalidId;

impl ExitId {
    /// Reads the one form that is written.
    ///
    /// # Errors
    /// [`InvalidId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let fits = text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => matches!(c, '0'..='9' | 'a'..='f'),
        });
        if text.len() == 36 && fits {
            Ok(ExitId(text.to_owned()))
        } else {
            Err(InvalidId)
        }
    }

    /// The vault's name of a secret of the connection, `conn_<id without hyphens>_<field>`.
    pub fn secret_name(&self, field: &str) -> String {
        format!("conn_{}_{field}", self.0.replace('-', ""))
    }
}

impl fmt::Display for ExitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ExitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExitId({self})")
    }
}

/// Name of the TUN that netd makes for an exit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

impl Interface {
    /// `None` unless it begins with `prefix` and has letters, digits or `_` after it, at most 15 bytes in all.
    pub fn try_new(text: &str, prefix: &str) -> Option<Self> {
        let rest = text.strip_prefix(prefix)?;
        let plain = rest
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let fits = !rest.is_empty() && plain && text.len() <= INTERFACE_MAX;
        fits.then(|| Interface(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Where it is.
    pub server: SocketAddr,
    /// Whether it is spoken to by TCP, not UDP.
    pub tcp: bool,
}

/// A block of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateBlock {
    /// Who may have signed the server's.
    Ca,
    /// The client's own.
    Cert,
    /// What leads from it to who signed it.
    ExtraCerts,
    /// Which of the servers' are revoked.
    CrlVerify,
}

impl CertificateBlock {
    /// All of them.
    pub const ALL: [CertificateBlock; 4] = [
        CertificateBlock::Ca,
        CertificateBlock::Cert,
        CertificateBlock::ExtraCerts,
        CertificateBlock::CrlVerify,
    ];

    /// Its name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            CertificateBlock::Ca => "ca",
            CertificateBlock::Cert => "cert",
            CertificateBlock::ExtraCerts => "extra-certs",
            CertificateBlock::CrlVerify => "crl-verify",
        }
    }
}

/// A block whose text is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealedBlock {
    /// The client's private key.
    Key,
    /// A key that all messages of the handshake are signed with.
    TlsAuth,
    /// A key that they are encrypted with.
    TlsCrypt,
    /// The same, for this client alone.
    TlsCryptV2,
}

impl SealedBlock {
    /// All of them.
    pub const ALL: [SealedBlock; 4] = [
        SealedBlock::Key,
        SealedBlock::TlsAuth,
        SealedBlock::TlsCrypt,
        SealedBlock::TlsCryptV2,
    ];

    /// Its name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            SealedBlock::Key => "key",
            SealedBlock::TlsAuth => "tls-auth",
            SealedBlock::TlsCrypt => "tls-crypt",
            SealedBlock::TlsCryptV2 => "tls-crypt-v2",
        }
    }

    /// The vault's field.
    pub fn field(self) -> &'static str {
        match self {
            SealedBlock::Key => "key",
            SealedBlock::TlsAuth => "tls_auth",
            SealedBlock::TlsCrypt => "tls_crypt",
            SealedBlock::TlsCryptV2 => "tls_crypt_v2",
        }
    }

    /// What its PEM is labelled with, or ends so.
    pub fn label(self) -> &'static str {
        match self {
            SealedBlock::Key => "PRIVATE KEY",
            SealedBlock::TlsAuth | SealedBlock::TlsCrypt => "OpenVPN Static key V1",
            SealedBlock::TlsCryptV2 => "OpenVPN tls-crypt-v2 client key",
        }
    }
}

/// The vault's fields of who signs in.
pub const USERNAME: &str = "openvpn_username";
/// As [`USERNAME`].
pub const PASSWORD: &str = "openvpn_password";

/// One exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Whose it is.
    pub id: ExitId,
    /// What it reads and writes.
    pub interface: Interface,
    /// Its servers, in the order in which they are tried; at least one.
    pub remotes: Vec<Remote>,
    /// How it speaks with them.
    pub directives: Vec<Directive>,
    /// PEM, by block.
    pub certificates: Vec<(CertificateBlock, String)>,
    /// What the vault has.
    pub sealed: BTreeSet<SealedBlock>,
    /// Whether it signs in by [`USERNAME`] and [`PASSWORD`].
    pub has_login: bool,
    /// With another one than before it begins anew.
    pub revision: u64,
    /// Of which import of the connection its secrets are; 0: of before there were any such numbers.
    pub secret_revision: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        let id = ExitId::parse("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b").unwrap();
        let name = "conn_6f1d2c3a0b4e4d5f8a9b0c1d2e3f4a5b_tls_crypt";
        assert_eq!(id.secret_name(SealedBlock::TlsCrypt.field()), name);
        for bad in [
            "",
            "6F1D2C3A-0b4e-4d5f-8a9b-0c1d2e3f4a5b",
            "../../../../../../../../../../../etc",
        ] {
            assert!(ExitId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interface_is_one_of_the_ceilings() {
        assert_eq!(
            Interface::try_new("ovpn_1a", "ovpn_").unwrap().as_str(),
            "ovpn_1a"
        );
        for bad in [
            "ovpn_",
            "wg0",
            "ovpn_a b",
            "ovpn_a/b",
            "ovpn_\n",
            "ovpn_0123456789a",
        ] {
            assert_eq!(Interface::try_new(bad, "ovpn_"), None, "{bad}");
        }
    }
}
