//! Secrets: put, list, rotate, delete. None of these reads one.

use cell_vaultd_core::index::{ChangeRefused, Entry};
use cell_vaultd_core::padding::VALUE_MAX;
use cell_vaultd_core::{Action, ItemName, SecretName, SecretPrefix, Timestamp, Violation, may};
use zeroize::Zeroizing;

use super::{Asker, Vault};
use crate::error::VaultError;
use crate::keyring::random;
use crate::store::StoreError;

/// Length of a rotated secret, bytes.
const ROTATED_BYTES: usize = 32;

/// What is told of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// Counts from 1.
    pub version: u64,
    /// When it was written.
    pub updated: Timestamp,
}

impl Vault {
    /// Stores a secret whose version is `expected` (0: there is none).
    ///
    /// # Errors
    /// See the proto.
    pub fn put_secret(
        &mut self,
        asker: &Asker,
        name: &str,
        value: &Zeroizing<Vec<u8>>,
        expected: u64,
    ) -> Result<SecretInfo, VaultError> {
        let action = Action::PutSecret;
        let judged =
            check_put(name, value.len()).and_then(|name| self.judge_write(asker, action, name, expected));
        let name = self.record_named(asker, action, judged)?;
        self.write_secret(name, value, expected)
    }

    /// Names, versions and times of the secrets that the asker may write, in the order of names.
    ///
    /// # Errors
    /// See the proto.
    pub fn list_secrets(&mut self, asker: &Asker, prefix: &str) -> Result<Vec<SecretInfo>, VaultError> {
        let judged = self
            .permit(asker, Action::ListSecrets)
            .and_then(|()| check_prefix(prefix));
        let prefix = self.record(asker, Action::ListSecrets, Vec::new(), judged)?;
        let visible = |name: &SecretName| {
            prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix))
                && may(asker.role, Action::ListSecrets, Some(name), &self.policy).is_ok()
        };
        Ok(self
            .store
            .index()
            .secrets()
            .filter(|(name, _)| visible(name))
            .map(|(name, entry)| info(name.clone(), *entry))
            .collect())
    }

    /// Replaces a secret with fresh random bytes.
    ///
    /// # Errors
    /// See the proto.
    pub fn rotate_secret(
        &mut self,
        asker: &Asker,
        name: &str,
        expected: u64,
    ) -> Result<SecretInfo, VaultError> {
        let judged = self.judge_existing(asker, Action::RotateSecret, name, expected);
        let name = self.record_named(asker, Action::RotateSecret, judged)?;
        let value = Zeroizing::new(random::<ROTATED_BYTES>()?);
        self.write_secret(name, value.as_slice(), expected)
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// See the proto.
    pub fn delete_secret(&mut self, asker: &Asker, name: &str, expected: u64) -> Result<(), VaultError> {
        let judged = self.judge_existing(asker, Action::DeleteSecret, name, expected);
        let name = self.record_named(asker, Action::DeleteSecret, judged)?;
        let item = ItemName::Secret(name.clone());
        self.store.remove(&item, expected)?;
        self.findings
            .damaged_secrets
            .retain(|damaged| *damaged != name.as_str());
        Ok(())
    }

    fn judge_existing(
        &self,
        asker: &Asker,
        action: Action,
        name: &str,
        expected: u64,
    ) -> Result<SecretName, VaultError> {
        let name = name
            .parse::<SecretName>()
            .map_err(|fault| VaultError::Invalid(vec![Violation::new("name", fault)]))?;
        may(asker.role, action, Some(&name), &self.policy)?;
        if self.store.index().version(&ItemName::Secret(name.clone())) == 0 {
            return Err(StoreError::Refused(ChangeRefused::Absent).into());
        }
        self.judge_write(asker, action, name, expected)
    }

    fn judge_write(
        &self,
        asker: &Asker,
        action: Action,
        name: SecretName,
        expected: u64,
    ) -> Result<SecretName, VaultError> {
        may(asker.role, action, Some(&name), &self.policy)?;
        let found = self.store.index().version(&ItemName::Secret(name.clone()));
        if found != expected {
            return Err(StoreError::Refused(ChangeRefused::VersionMismatch { expected, found }).into());
        }
        let full = self.store.index().secret_count() >= self.policy.secrets_max;
        if found == 0 && full {
            return Err(StoreError::Refused(ChangeRefused::TooMany(self.policy.secrets_max)).into());
        }
        Ok(name)
    }

    pub(super) fn record_named(
        &mut self,
        asker: &Asker,
        action: Action,
        judged: Result<SecretName, VaultError>,
    ) -> Result<SecretName, VaultError> {
        let names = match &judged {
            Ok(name) | Err(VaultError::Denied(cell_vaultd_core::Denial::NameNotAllowed { name, .. })) => {
                vec![name.to_string()]
            }
            Err(_) => Vec::new(),
        };
        self.record(asker, action, names, judged)
    }

    fn write_secret(
        &mut self,
        name: SecretName,
        value: &[u8],
        expected: u64,
    ) -> Result<SecretInfo, VaultError> {
        let now = self.now();
        let item = ItemName::Secret(name.clone());
        let entry = self
            .store
            .write(&item, value, expected, self.policy.secrets_max, now)?;
        self.findings
            .damaged_secrets
            .retain(|damaged| *damaged != name.as_str());
        Ok(info(name, entry))
    }
}

fn info(name: SecretName, entry: Entry) -> SecretInfo {
    SecretInfo {
        name,
        version: entry.version,
        updated: entry.updated,
    }
}

fn check_put(name: &str, length: usize) -> Result<SecretName, VaultError> {
    let mut faults = Vec::new();
    let name = name
        .parse::<SecretName>()
        .map_err(|fault| faults.push(Violation::new("name", fault)))
        .ok();
    if !(1..=VALUE_MAX).contains(&length) {
        faults.push(Violation::new(
            "value",
            format!("must have 1 to {VALUE_MAX} bytes"),
        ));
    }
    match name {
        Some(name) if faults.is_empty() => Ok(name),
        _ => Err(VaultError::Invalid(faults)),
    }
}

fn check_prefix(prefix: &str) -> Result<Option<SecretPrefix>, VaultError> {
    if prefix.is_empty() {
        return Ok(None);
    }
    prefix
        .parse()
        .map(Some)
        .map_err(|fault| VaultError::Invalid(vec![Violation::new("prefix", fault)]))
}
