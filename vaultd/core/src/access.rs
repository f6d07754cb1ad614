//! Who may do what: the permit table of each listener, and the prefixes that the API may write.

use std::fmt;

use crate::exit_secret::{self, ExitField};
use crate::policy::Policy;
use crate::secret_name::SecretName;

/// Who asks. The listener that accepted the connection is the role (docs/runtime.md); a message cannot claim one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The listener `api`.
    Api,
    /// The listener `netd`.
    Netd,
    /// The listener `egress`.
    Egress,
    /// The listener `openvpn`.
    Openvpn,
    /// The listener `broker`.
    Broker,
}

/// Everything that vaultd can be asked, one for each RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Signs a TLS server certificate.
    IssueServerCertificate,
    /// Tells the root certificate.
    GetTrustBundle,
    /// Stores a secret.
    PutSecret,
    /// Tells names and versions.
    ListSecrets,
    /// Replaces a secret with fresh random bytes.
    RotateSecret,
    /// Stores fresh random bytes as text.
    GenerateSecret,
    /// Removes a secret.
    DeleteSecret,
    /// Hands out the cell's WireGuard private key.
    GetWireguardPrivateKey,
    /// Tells its public half.
    GetWireguardPublicKey,
    /// Hands out a secret of an exit to the daemon that drives it.
    ReadExitSecret,
    /// Hands out a secret of a service to the broker, which gives it to the service's containers.
    ReadServiceSecret,
    /// Tells whether vaultd can work.
    GetVaultStatus,
    /// Writes down a head of the API's audit chain.
    AppendAuditAnchor,
    /// Tells the heads written down.
    ListAuditAnchors,
}

/// Why something is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The listener is not for it.
    #[error("{role} may not call {action}")]
    NotPermitted {
        /// Who asked.
        role: Role,
        /// For what.
        action: Action,
    },
    /// This role has nothing to do with that name.
    #[error(
        "{role} may not {action} of {name}: the API has the prefixes of the policy file, a daemon the fields that it drives an exit with, the broker secrets of services"
    )]
    NameNotAllowed {
        /// Who asked.
        role: Role,
        /// For what.
        action: Action,
        /// For which name.
        name: SecretName,
    },
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 5] = [Role::Api, Role::Netd, Role::Egress, Role::Openvpn, Role::Broker];

    /// As in the policy file and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Api => "api",
            Role::Netd => "netd",
            Role::Egress => "egress",
            Role::Openvpn => "openvpn",
            Role::Broker => "broker",
        }
    }
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 14] = [
        Action::IssueServerCertificate,
        Action::GetTrustBundle,
        Action::PutSecret,
        Action::ListSecrets,
        Action::RotateSecret,
        Action::GenerateSecret,
        Action::DeleteSecret,
        Action::GetWireguardPrivateKey,
        Action::GetWireguardPublicKey,
        Action::ReadExitSecret,
        Action::ReadServiceSecret,
        Action::GetVaultStatus,
        Action::AppendAuditAnchor,
        Action::ListAuditAnchors,
    ];

    /// The name of the RPC.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::IssueServerCertificate => "IssueServerCertificate",
            Action::GetTrustBundle => "GetTrustBundle",
            Action::PutSecret => "PutSecret",
            Action::ListSecrets => "ListSecrets",
            Action::RotateSecret => "RotateSecret",
            Action::GenerateSecret => "GenerateSecret",
            Action::DeleteSecret => "DeleteSecret",
            Action::GetWireguardPrivateKey => "GetWireguardPrivateKey",
            Action::GetWireguardPublicKey => "GetWireguardPublicKey",
            Action::ReadExitSecret => "ReadExitSecret",
            Action::ReadServiceSecret => "ReadServiceSecret",
            Action::GetVaultStatus => "GetVaultStatus",
            Action::AppendAuditAnchor => "AppendAuditAnchor",
            Action::ListAuditAnchors => "ListAuditAnchors",
        }
    }

    /// Whether the access log tells when this was allowed. Not so for public facts, whose polling would fill it, and for
    /// anchors, which have a chained file of their own. Refusals are recorded whatever was asked.
    pub fn is_recorded(self) -> bool {
        match self {
            Action::IssueServerCertificate
            | Action::PutSecret
            | Action::ListSecrets
            | Action::RotateSecret
            | Action::GenerateSecret
            | Action::DeleteSecret
            | Action::GetWireguardPrivateKey
            | Action::ReadExitSecret
            | Action::ReadServiceSecret => true,
            Action::GetTrustBundle
            | Action::GetVaultStatus
            | Action::GetWireguardPublicKey
            | Action::AppendAuditAnchor
            | Action::ListAuditAnchors => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether `role` may do `action`, on the secret `name` where there is one.
///
/// The services are registered by listener already, so that what is denied here for a role is not even answered there;
/// this table is the second of the two checks and the one that tests read.
///
/// # Errors
/// Why not.
pub fn may(role: Role, action: Action, name: Option<&SecretName>, policy: &Policy) -> Result<(), Denial> {
    let permitted = match (role, action) {
        (Role::Netd, Action::GetWireguardPrivateKey)
        | (Role::Netd | Role::Egress | Role::Openvpn, Action::ReadExitSecret)
        | (Role::Broker, Action::ReadServiceSecret) => true,
        (Role::Api, Action::GetWireguardPrivateKey | Action::ReadExitSecret | Action::ReadServiceSecret)
        | (Role::Egress | Role::Openvpn, Action::GetWireguardPrivateKey)
        | (Role::Netd | Role::Egress | Role::Openvpn, Action::ReadServiceSecret)
        | (Role::Broker, Action::GetWireguardPrivateKey | Action::ReadExitSecret) => false,
        (
            Role::Api,
            Action::IssueServerCertificate
            | Action::GetTrustBundle
            | Action::PutSecret
            | Action::ListSecrets
            | Action::RotateSecret
            | Action::GenerateSecret
            | Action::DeleteSecret
            | Action::GetWireguardPublicKey
            | Action::GetVaultStatus
            | Action::AppendAuditAnchor
            | Action::ListAuditAnchors,
        ) => true,
        (
            Role::Netd | Role::Egress | Role::Openvpn | Role::Broker,
            Action::IssueServerCertificate
            | Action::GetTrustBundle
            | Action::PutSecret
            | Action::ListSecrets
            | Action::RotateSecret
            | Action::GenerateSecret
            | Action::DeleteSecret
            | Action::GetWireguardPublicKey
            | Action::GetVaultStatus
            | Action::AppendAuditAnchor
            | Action::ListAuditAnchors,
        ) => false,
    };
    if !permitted {
        return Err(Denial::NotPermitted { role, action });
    }
    match name {
        Some(name) if !may_name(role, name, policy) => Err(Denial::NameNotAllowed {
            role,
            action,
            name: name.clone(),
        }),
        _ => Ok(()),
    }
}

/// How names of services' secrets begin: what the broker reads.
const SERVICE_PREFIX: &str = "svc_";

/// The API has the ceiling's prefixes; netd, egress and openvpn have, of each exit, the fields that they drive it with; the broker
/// has the secrets of services.
fn may_name(role: Role, name: &SecretName, policy: &Policy) -> bool {
    let field = || exit_secret::field(name);
    match role {
        Role::Api => policy
            .api_secret_prefixes
            .iter()
            .any(|prefix| name.starts_with(prefix)),
        Role::Broker => name.as_str().starts_with(SERVICE_PREFIX),
        Role::Netd => match field() {
            Some(ExitField::WireguardKey | ExitField::PresharedKey) => true,
            Some(ExitField::Password | ExitField::PrivateKey | ExitField::Openvpn) | None => false,
        },
        Role::Egress => match field() {
            Some(ExitField::Password | ExitField::PrivateKey) => true,
            Some(ExitField::WireguardKey | ExitField::PresharedKey | ExitField::Openvpn) | None => false,
        },
        Role::Openvpn => match field() {
            Some(ExitField::Openvpn) => true,
            Some(
                ExitField::WireguardKey
                | ExitField::PresharedKey
                | ExitField::Password
                | ExitField::PrivateKey,
            )
            | None => false,
        },
    }
}
