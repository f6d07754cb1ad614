//! The cell's own WireGuard key, public half: asked of vaultd once, and told by netd when it is another.

use std::sync::{PoisonError, RwLock};

use cell_api_core::key::PublicKey;

use crate::app::App;
use crate::service::ServiceError;

/// The key, once somebody has told it.
#[derive(Debug, Default)]
pub struct WireguardKey(RwLock<Option<PublicKey>>);

impl WireguardKey {
    /// The key, from vaultd if it is not known yet.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn public_key(&self, app: &App) -> Result<PublicKey, ServiceError> {
        if let Some(key) = self.known() {
            return Ok(key);
        }
        // Once in a process's life, and larger than all else that a request waits for: it must not take room in each.
        let key = Box::pin(app.vault.wireguard_public_key()).await?;
        self.set(key);
        Ok(key)
    }

    /// The key, if it is known.
    pub fn known(&self) -> Option<PublicKey> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What netd runs with.
    pub fn set(&self, key: PublicKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }
}
