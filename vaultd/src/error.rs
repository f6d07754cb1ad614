//! Why the vault does not do something, and how a caller is told: one reason each, as the protos list them.

use std::io;

use cell_proto::fault::{Fault, Violation as WireViolation};
use cell_vaultd_core::index::ChangeRefused;
use cell_vaultd_core::seal::SealReason;
use cell_vaultd_core::{Denial, Violation};
use tonic::{Code, Status};

use crate::anchors::AnchorError;
use crate::authority::AuthorityError;
use crate::csr::InvalidCsr;
use crate::keyring::SealError;
use crate::log::LogError;
use crate::store::StoreError;

/// A refusal or a failure. Never holds a value or a key.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The vault is sealed.
    #[error("the vault is sealed: {0}")]
    Sealed(SealReason),
    /// The request is malformed.
    #[error("the request is not valid")]
    Invalid(Vec<Violation>),
    /// The certification request is not taken.
    #[error(transparent)]
    Csr(#[from] InvalidCsr),
    /// Names that may not be certified.
    #[error("may not be certified: {}", .0.join(", "))]
    NamesNotAllowed(Vec<String>),
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The caller is not known; the listener should have refused it.
    #[error("the caller is not known")]
    UnknownCaller,
    /// Too many in too short a time.
    #[error("too many requests; try again in {retry_after} ms")]
    Rate {
        /// Milliseconds.
        retry_after: u64,
    },
    /// The clock cannot be right.
    #[error("the clock shows a time at which the root certificate does not hold; set it")]
    Clock,
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The access log could not be written, so nothing was done.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The anchors.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The file of anchors was changed.
    #[error("the anchors were changed: {0}")]
    AnchorsDamaged(String),
    /// No randomness.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A certificate could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The task that did the work ended.
    #[error("internal error")]
    Task,
}

impl VaultError {
    /// The stable reason, for answers and for the access log.
    pub fn reason(&self) -> &'static str {
        match self {
            VaultError::Sealed(_) => "SEALED",
            VaultError::Invalid(_) => "INVALID_REQUEST",
            VaultError::Csr(_) => "INVALID_CSR",
            VaultError::NamesNotAllowed(_) | VaultError::Denied(Denial::NameNotAllowed { .. }) => {
                "NAME_NOT_ALLOWED"
            }
            VaultError::Denied(Denial::NotPermitted { .. }) => "NOT_PERMITTED",
            VaultError::UnknownCaller => "CALLER_UNKNOWN",
            VaultError::Rate { .. } => "RATE",
            VaultError::Clock => "CLOCK_UNSET",
            VaultError::Store(StoreError::Refused(refused)) => match refused {
                ChangeRefused::VersionMismatch { .. } => "VERSION_MISMATCH",
                ChangeRefused::Absent => "NO_SECRET",
                ChangeRefused::TooMany(_) | ChangeRefused::TooLarge => "QUOTA",
            },
            VaultError::Store(StoreError::Length) => "INVALID_REQUEST",
            VaultError::Store(StoreError::Damaged { .. }) => "ITEM_DAMAGED",
            VaultError::Store(StoreError::Io { .. }) => "STORAGE_FAILED",
            VaultError::Store(StoreError::Unsettled(_)) => "OUTCOME_UNKNOWN",
            VaultError::Log(_) => "ACCESS_LOG_FAILED",
            VaultError::Anchor(AnchorError::NotNewer(_)) => "NOT_NEWER",
            VaultError::Anchor(AnchorError::Io(_) | AnchorError::Broken) => "STORAGE_FAILED",
            VaultError::AnchorsDamaged(_) => "ANCHORS_DAMAGED",
            VaultError::Store(StoreError::Seal(_))
            | VaultError::Seal(_)
            | VaultError::Authority(_)
            | VaultError::Task => "INTERNAL",
        }
    }

    fn code(&self) -> Code {
        match self.reason() {
            "SEALED" | "CLOCK_UNSET" => Code::FailedPrecondition,
            "INVALID_REQUEST" | "INVALID_CSR" => Code::InvalidArgument,
            "NAME_NOT_ALLOWED" | "NOT_PERMITTED" | "CALLER_UNKNOWN" => Code::PermissionDenied,
            "RATE" | "QUOTA" => Code::ResourceExhausted,
            "VERSION_MISMATCH" | "NOT_NEWER" => Code::Aborted,
            "NO_SECRET" => Code::NotFound,
            "ITEM_DAMAGED" | "ANCHORS_DAMAGED" => Code::DataLoss,
            "STORAGE_FAILED" | "ACCESS_LOG_FAILED" => Code::Unavailable,
            "OUTCOME_UNKNOWN" => Code::Unknown,
            _ => Code::Internal,
        }
    }

    /// Whether it is the vault's own trouble and not the caller's.
    pub fn is_failure(&self) -> bool {
        matches!(
            self.code(),
            Code::DataLoss | Code::Unavailable | Code::Unknown | Code::Internal
        )
    }
}

impl From<io::Error> for VaultError {
    fn from(source: io::Error) -> Self {
        VaultError::Store(StoreError::Io {
            step: "state folder",
            source,
        })
    }
}

impl From<VaultError> for Status {
    fn from(error: VaultError) -> Status {
        let fault = Fault::new(error.code(), "vault.cell", error.reason(), error.to_string());
        let fault = match error {
            VaultError::Sealed(reason) => fault.with("cause", reason.code()),
            VaultError::Invalid(violations) => fault.violations(
                violations
                    .into_iter()
                    .map(|v| WireViolation::new(v.field, v.description))
                    .collect(),
            ),
            VaultError::NamesNotAllowed(names) => fault.with("name", names.join(",")),
            VaultError::Denied(Denial::NameNotAllowed { name, .. }) => fault.with("name", name),
            VaultError::Rate { retry_after } => fault.with("retry_after_ms", retry_after),
            VaultError::Store(StoreError::Refused(ChangeRefused::VersionMismatch { found, .. })) => {
                fault.with("version", found)
            }
            VaultError::Anchor(AnchorError::NotNewer(last)) => fault.with("last_sequence", last.last),
            _ => fault,
        };
        fault.into()
    }
}
