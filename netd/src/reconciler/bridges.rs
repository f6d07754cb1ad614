//! Bridges that Docker left behind (ADR 0052).

use std::time::Duration;

use super::Reconciler;
use crate::kernel::Kernel;

impl<K: Kernel> Reconciler<K> {
    /// Takes bridges of services away whose network is gone for long. While a change waits for its confirmation none is: what was
    /// before may come back.
    pub(super) async fn clear_bridges(&mut self, now: Duration) {
        let waits = self.confirmation.look_at().is_some();
        let Some(accepted) = self.accepted.as_ref().filter(|_| !waits) else {
            return self.unused.begin_anew();
        };
        let due = match self.kernel.bare_bridges().await {
            Ok(bare) => self.unused.due(&bare, accepted, now),
            Err(error) => return tracing::warn!(%error, "bridges of services could not be looked at"),
        };
        for bridge in due {
            match self.kernel.remove_bridge(&bridge).await {
                Ok(true) => {
                    tracing::warn!(bridge = %bridge.name, "a bridge that Docker left behind is removed")
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, bridge = %bridge.name, "a bridge that Docker left behind stays");
                    // Not at every look.
                    self.unused.begin_anew();
                }
            }
        }
    }
}
