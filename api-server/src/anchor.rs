//! Ships heads of the audit chain to vaultd, where the API cannot rewrite them: in order, the newest at once or, after
//! another, as soon as vaultd takes one, until it is taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::daemons::vault::Anchored;
use crate::store::audit;

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Between two anchors: vaultd takes sixty in a minute.
pub const SPACING: Duration = Duration::from_secs(1);

/// The last record that is committed: sequence and hash.
pub type Head = (u64, [u8; 32]);

/// Runs until `shutdown`. A head that grows while vaultd is away, or within [`SPACING`] of the last one sent, is sent once,
/// at its newest: the chain before it is covered by its hash.
pub async fn run(app: Arc<App>, mut heads: watch::Receiver<Head>, shutdown: CancellationToken) {
    let mut sent = 0;
    let mut backoff = FIRST_BACKOFF;
    loop {
        let (sequence, hash) = *heads.borrow_and_update();
        if sequence > sent {
            let pause;
            match app.vault.append_anchor(sequence, &hash).await {
                Ok(anchored) => {
                    if anchored == Anchored::NotNewer {
                        tracing::debug!(sequence, "vaultd has an anchor that is as new");
                    }
                    (sent, backoff, pause) = (sequence, FIRST_BACKOFF, SPACING);
                }
                Err(_) => {
                    pause = backoff;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
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
