//! Heads of the API's audit chain: taken down, and told back.

use cell_vaultd_core::anchors::Anchor;
use cell_vaultd_core::{Action, Violation};

use super::{Asker, Vault};
use crate::anchors::{AnchorError, ReadAnchorsError};
use crate::error::VaultError;

impl Vault {
    /// Takes down a head.
    ///
    /// # Errors
    /// See the proto.
    pub fn append_anchor(&mut self, asker: &Asker, sequence: u64, hash: &[u8]) -> Result<Anchor, VaultError> {
        let judged = self.judge_anchor(asker, sequence, hash);
        let hash = self.record(asker, Action::AppendAuditAnchor, Vec::new(), judged)?;
        let now = self.now();
        let file = self
            .anchors
            .as_mut()
            .map_err(|damage| VaultError::AnchorsDamaged(damage.clone()))?;
        Ok(file.append(sequence, hash, now)?)
    }

    /// The heads from a sequence on.
    ///
    /// # Errors
    /// See the proto.
    pub fn list_anchors(&mut self, asker: &Asker, from: u64) -> Result<Vec<Anchor>, VaultError> {
        let judged = self.permit(asker, Action::ListAuditAnchors);
        self.record(asker, Action::ListAuditAnchors, Vec::new(), judged)?;
        let file = self
            .anchors
            .as_ref()
            .map_err(|damage| VaultError::AnchorsDamaged(damage.clone()))?;
        file.list(from).map_err(|error| match error {
            ReadAnchorsError::Damaged(damage) => VaultError::AnchorsDamaged(damage.to_string()),
            ReadAnchorsError::Io(error) => error.into(),
        })
    }

    fn judge_anchor(&mut self, asker: &Asker, sequence: u64, hash: &[u8]) -> Result<[u8; 32], VaultError> {
        self.permit(asker, Action::AppendAuditAnchor)?;
        let mut faults = Vec::new();
        if sequence == 0 {
            faults.push(Violation::new("sequence", "sequences count from 1"));
        }
        let hash = <[u8; 32]>::try_from(hash)
            .map_err(|_| faults.push(Violation::new("hash", "must have 32 bytes")))
            .ok();
        let Some(hash) = hash.filter(|_| faults.is_empty()) else {
            return Err(VaultError::Invalid(faults));
        };
        let file = self
            .anchors
            .as_ref()
            .map_err(|damage| VaultError::AnchorsDamaged(damage.clone()))?;
        file.check(sequence, &hash).map_err(AnchorError::from)?;
        self.anchorings
            .admit(self.clock.steady())
            .map_err(|full| VaultError::Rate {
                retry_after: full.retry_after,
            })?;
        Ok(hash)
    }
}
