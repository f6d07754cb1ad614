//! Ships heads of the audit chain to vaultd, where the API cannot rewrite them: in order, the newest at once, until it
//! is taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::daemons::vault::Anchored;
use crate::store::audit;

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The last record that is committed: sequence and hash.
pub type Head = (u64, [u8; 32]);

/// Runs until `shutdown`. A head that grows while vaultd is away is sent once, at its newest: the chain before it is
/// covered by its hash.
pub async fn run(app: Arc<App>, mut heads: watch::Receiver<Head>, shutdown: CancellationToken) {
    let mut sent = 0;
    let mut backoff = FIRST_BACKOFF;
    loop {
        let (sequence, hash) = *heads.borrow_and_update();
        if sequence > sent {
            match app.vault.append_anchor(sequence, &hash).await {
                Ok(anchored) => {
                    if anchored == Anchored::NotNewer {
                        tracing::debug!(sequence, "vaultd has an anchor that is as new");
                    }
                    (sent, backoff) = (sequence, FIRST_BACKOFF);
                }
                Err(_) => {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(LONGEST_BACKOFF),
                    }
                }
            }
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = heads.changed() => if changed.is_err() { return },
        }
    }
}

/// The head that the database has, for the first anchor after a start.
pub fn stored_head(app: &App) -> Head {
    app.store
        .read(|connection| Ok(audit::head(connection)?))
        .unwrap_or((0, cell_api_core::audit::GENESIS))
}
