//! Forgets what is over, now and then: nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::service::ServiceError;
use crate::store::{sessions, users};

/// How often.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = sweep(&app).await {
            tracing::warn!(%error, "what is over was not forgotten");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
            // A flood of failed logins fills its table sooner.
            () = app.login_failures.many() => {}
        }
    }
}

/// Forgets sessions that are over, in memory and in the database, and failed logins of too many names.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn sweep(app: &App) -> Result<(), ServiceError> {
    let (now, lifetimes) = (app.now(), app.sessions.lifetimes());
    app.sessions.forget_expired(now);
    app.store
        .note(move |connection| {
            sessions::delete_expired(connection, now - lifetimes.absolute_ms, now - lifetimes.idle_ms)?;
            users::prune_attempts(connection)
        })
        .await
}
