//! Removes secrets at vaultd that no connection and no setting refers to: at the start, for those that a crash left behind, and after
//! changes that could not do it themselves.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::service::{connections, domain};

/// How often, though nothing was left: vaultd may have been put back to an older state.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How long after a failure.
const RETRY: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        _ = app.set_up() => {}
    }
    loop {
        let tidied = connections::tidy_all(&app).await;
        let pause = match tidied.and(domain::tidy(&app).await) {
            Ok(()) => INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "secrets that nothing refers to were not looked after");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = app.secrets_left.notified() => {}
        }
    }
}
