//! The cell's WireGuard key: made on first use, private for netd, public for the API.

use cell_vaultd_core::{Action, ItemName};
use zeroize::Zeroizing;

use super::{Asker, Vault};
use crate::error::VaultError;
use crate::store::{Damage, StoreError};
use crate::wireguard::{self, KEY_BYTES};

impl Vault {
    /// The private key.
    ///
    /// # Errors
    /// See the proto.
    pub fn wireguard_private_key(&mut self, asker: &Asker) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
        let judged = self.permit(asker, Action::GetWireguardPrivateKey);
        self.record(asker, Action::GetWireguardPrivateKey, Vec::new(), judged)?;
        self.wireguard_key()
    }

    /// The public key.
    ///
    /// # Errors
    /// See the proto.
    pub fn wireguard_public_key(&mut self, asker: &Asker) -> Result<[u8; KEY_BYTES], VaultError> {
        let judged = self.permit(asker, Action::GetWireguardPublicKey);
        self.record(asker, Action::GetWireguardPublicKey, Vec::new(), judged)?;
        Ok(wireguard::public_key(&*self.wireguard_key()?))
    }

    fn wireguard_key(&mut self) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
        if let Some(stored) = self.store.read(&ItemName::WireguardKey)? {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            let damaged = || StoreError::Damaged {
                name: ItemName::WireguardKey.to_string(),
                source: Damage::Content,
            };
            if stored.len() != KEY_BYTES {
                return Err(damaged().into());
            }
            key.copy_from_slice(&stored);
            return Ok(key);
        }
        let key = wireguard::generate()?;
        let now = self.now();
        self.store.write(
            &ItemName::WireguardKey,
            key.as_slice(),
            0,
            self.policy.secrets_max,
            now,
        )?;
        tracing::info!("the cell's WireGuard key was made");
        Ok(key)
    }
}
