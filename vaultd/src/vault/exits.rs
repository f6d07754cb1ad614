//! Secrets of exits and of services: the verbs that give back what the API stored, and never to the API.

use cell_vaultd_core::index::ChangeRefused;
use cell_vaultd_core::{Action, ItemName, SecretName, Violation, may};
use zeroize::Zeroizing;

use super::{Asker, Vault};
use crate::error::VaultError;
use crate::store::StoreError;

/// A secret of an exit.
pub struct ExitSecret {
    /// As it was stored.
    pub value: Zeroizing<Vec<u8>>,
    /// Of which import of its connection it is; 0: of none that is known.
    pub revision: u64,
}

impl Vault {
    /// A secret of an exit that the asker drives.
    ///
    /// # Errors
    /// See the proto.
    pub fn read_exit_secret(&mut self, asker: &Asker, name: &str) -> Result<ExitSecret, VaultError> {
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
            .map(|secret| secret.value)
    }

    fn read(&mut self, asker: &Asker, action: Action, name: &str) -> Result<ExitSecret, VaultError> {
        let judged = self.judge_read(asker, action, name);
        let name = ItemName::Secret(self.record_named(asker, action, judged)?);
        let absent = || StoreError::Refused(ChangeRefused::Absent);
        let value = self.store.read(&name)?.ok_or_else(absent)?;
        // Nothing is written meanwhile: it is of this very value.
        let entry = self.store.index().items.get(&name).ok_or_else(absent)?;
        Ok(ExitSecret {
            value,
            revision: entry.revision,
        })
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
