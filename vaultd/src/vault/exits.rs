//! Secrets of exits: the one verb that gives back what the API stored, and never to the API.

use cell_vaultd_core::index::ChangeRefused;
use cell_vaultd_core::{Action, ItemName, SecretName, Violation, may};
use zeroize::Zeroizing;

use super::{Asker, Vault};
use crate::error::VaultError;
use crate::store::StoreError;

impl Vault {
    /// A secret of an exit that the asker drives.
    ///
    /// # Errors
    /// See the proto.
    pub fn read_exit_secret(&mut self, asker: &Asker, name: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let judged = self.judge_read(asker, name);
        let name = self.record_named(asker, Action::ReadExitSecret, judged)?;
        let stored = self.store.read(&ItemName::Secret(name))?;
        stored.ok_or_else(|| StoreError::Refused(ChangeRefused::Absent).into())
    }

    fn judge_read(&self, asker: &Asker, name: &str) -> Result<SecretName, VaultError> {
        let name = name
            .parse::<SecretName>()
            .map_err(|fault| VaultError::Invalid(vec![Violation::new("name", fault)]))?;
        may(asker.role, Action::ReadExitSecret, Some(&name), &self.policy)?;
        if self.store.index().version(&ItemName::Secret(name.clone())) == 0 {
            return Err(StoreError::Refused(ChangeRefused::Absent).into());
        }
        Ok(name)
    }
}
