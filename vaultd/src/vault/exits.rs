//! Secrets of exits and of services: the verbs that give back what the API stored, and never to the API.

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
        self.read(asker, Action::ReadExitSecret, name)
    }

    /// A secret of a service, for its containers.
    ///
    /// # Errors
    /// See the proto.
    pub fn read_service_secret(
        &mut self,
        asker: &Asker,
        name: &str,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        self.read(asker, Action::ReadServiceSecret, name)
    }

    fn read(&mut self, asker: &Asker, action: Action, name: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let judged = self.judge_read(asker, action, name);
        let name = self.record_named(asker, action, judged)?;
        let stored = self.store.read(&ItemName::Secret(name))?;
        stored.ok_or_else(|| StoreError::Refused(ChangeRefused::Absent).into())
    }

    fn judge_read(&self, asker: &Asker, action: Action, name: &str) -> Result<SecretName, VaultError> {
        let name = name
            .parse::<SecretName>()
            .map_err(|fault| VaultError::Invalid(vec![Violation::new("name", fault)]))?;
        may(asker.role, action, Some(&name), &self.policy)?;
        if self.store.index().version(&ItemName::Secret(name.clone())) == 0 {
            return Err(StoreError::Refused(ChangeRefused::Absent).into());
        }
        Ok(name)
    }
}
