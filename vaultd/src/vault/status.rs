//! What is told of the vault's health.

use cell_vaultd_core::Action;
use cell_vaultd_core::Timestamp;

use super::{Asker, Vault};
use crate::error::VaultError;

/// One aspect: a condition of `cell.common.v1` before it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aspect {
    /// Its type, UpperCamelCase.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, UPPER_SNAKE_CASE.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Aspect {
    /// One that holds.
    pub fn holding(kind: &'static str, reason: &'static str) -> Aspect {
        Aspect {
            kind,
            holds: true,
            reason,
            message: String::new(),
        }
    }

    /// One that does not.
    pub fn failing(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Aspect {
        Aspect {
            kind,
            holds: false,
            reason,
            message: message.into(),
        }
    }
}

/// Facts of an open vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What is well and what is not.
    pub aspects: Vec<Aspect>,
    /// When the intermediate ends.
    pub intermediate_not_after: Timestamp,
    /// How many secrets there are.
    pub secret_count: u32,
}

impl Vault {
    /// Facts for whoever may ask.
    ///
    /// # Errors
    /// See the proto.
    pub fn status(&mut self, asker: &Asker) -> Result<Status, VaultError> {
        let judged = self.permit(asker, Action::GetVaultStatus);
        self.record(asker, Action::GetVaultStatus, Vec::new(), judged)?;
        let damaged = &self.findings.damaged_secrets;
        let log = self.findings.damaged_log.clone();
        let anchors = self.anchors.as_ref().err().cloned();
        let secrets = (!damaged.is_empty()).then(|| format!("cannot be opened: {}", damaged.join(", ")));
        Ok(Status {
            aspects: vec![
                aspect("SecretsIntact", "SECRET_DAMAGED", secrets),
                aspect("AccessLogIntact", "LOG_DAMAGED", log),
                aspect("AnchorsIntact", "ANCHORS_DAMAGED", anchors),
            ],
            intermediate_not_after: self.intermediate.validity.not_after,
            secret_count: self.store.index().secret_count(),
        })
    }
}

fn aspect(kind: &'static str, reason: &'static str, trouble: Option<String>) -> Aspect {
    match trouble {
        None => Aspect::holding(kind, "INTACT"),
        Some(message) => Aspect::failing(kind, reason, message),
    }
}
