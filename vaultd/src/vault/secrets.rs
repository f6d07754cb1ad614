//! Secrets: put, list, rotate, generate, delete. None of these reads one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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
/// Lengths of a generated secret, random bytes before they are written as text.
const GENERATED_BYTES: std::ops::RangeInclusive<u32> = 16..=64;

/// What is told of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// Counts from 1.
    pub version: u64,
    /// When it was written.
    pub updated: Timestamp,
    /// Of which import it is; 0: of none.
    pub revision: u64,
}

impl Vault {
    /// Stores a secret whose version is `expected` (0: there is none), with the number that the caller knows it by.
    ///
    /// # Errors
    /// See the proto.
    pub fn put_secret(
        &mut self,
        asker: &Asker,
        name: &str,
        value: &Zeroizing<Vec<u8>>,
        expected: u64,
        revision: u64,
    ) -> Result<SecretInfo, VaultError> {
        let action = Action::PutSecret;
        let judged =
            check_put(name, value.len()).and_then(|name| self.judge_write(asker, action, name, expected));
        let name = self.record_named(asker, action, judged)?;
        self.write_secret(name, value, expected, revision)
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
        self.write_secret(name, value.as_slice(), expected, 0)
    }

    /// Stores `length` fresh random bytes, written as base64url without padding, as a secret whose version is `expected` (0: there is
    /// none). Whoever asks does not see them.
    ///
    /// # Errors
    /// See the proto.
    pub fn generate_secret(
        &mut self,
        asker: &Asker,
        name: &str,
        length: u32,
        expected: u64,
    ) -> Result<SecretInfo, VaultError> {
        let action = Action::GenerateSecret;
        let judged =
            check_generate(name, length).and_then(|name| self.judge_write(asker, action, name, expected));
        let name = self.record_named(asker, action, judged)?;
        let value = generated(length)?;
        self.write_secret(name, &value, expected, 0)
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
        revision: u64,
    ) -> Result<SecretInfo, VaultError> {
        let now = self.now();
        let item = ItemName::Secret(name.clone());
        let entry = self
            .store
            .write_of(&item, value, expected, revision, self.policy.secrets_max, now)?;
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
        revision: entry.revision,
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

fn check_generate(name: &str, length: u32) -> Result<SecretName, VaultError> {
    let mut faults = Vec::new();
    let name = name
        .parse::<SecretName>()
        .map_err(|fault| faults.push(Violation::new("name", fault)))
        .ok();
    if !GENERATED_BYTES.contains(&length) {
        let (least, most) = (GENERATED_BYTES.start(), GENERATED_BYTES.end());
        faults.push(Violation::new("length", format!("must be {least} to {most}")));
    }
    match name {
        Some(name) if faults.is_empty() => Ok(name),
        _ => Err(VaultError::Invalid(faults)),
    }
}

/// Text of `length` random bytes, at most 64.
fn generated(length: u32) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let random = Zeroizing::new(random::<64>()?);
    let bytes = random.get(..length as usize).unwrap_or(random.as_slice());
    // As long as it becomes, so that no shorter copy stays behind.
    let mut text = Zeroizing::new(vec![0; 88]);
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).unwrap_or(0);
    text.truncate(written);
    Ok(text)
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
