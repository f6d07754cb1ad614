//! The claim token: made at the first start, shown with every step of the first run, worthless afterwards.

use std::path::Path;

use cell_api_core::setup::{self, CLAIM_TOKEN_BYTES};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Remote, ServiceError};
use crate::app::App;
use crate::store::setup as table;

/// Every call before the end of setup shows the token, so that a second visitor cannot go on with the first one's.
pub(super) fn check(app: &App, remote: &Remote, typed: &str) -> Result<(), ServiceError> {
    if app.identity().is_some() {
        return Err(ServiceError::SetupComplete);
    }
    let now = app.now();
    let paid = remote
        .source
        .map(|source| app.claim_throttle.pay(source, now))
        .transpose()
        .map_err(ServiceError::Throttled)?;
    let expected = app
        .store
        .read(|connection| Ok(table::claim_hash(connection)?))?
        .ok_or(ServiceError::ClaimToken)?;
    if !bool::from(setup::claim_token_hash(typed).ct_eq(&expected)) {
        return Err(ServiceError::ClaimToken);
    }
    if let Some(paid) = paid {
        paid.refund(now);
    }
    Ok(())
}

/// Makes a claim token while setup is not complete, unless the last one is still in its file: prints it nowhere, leaves
/// it in a file that only this user and root can read. The database keeps its hash.
///
/// # Errors
/// [`ServiceError::Storage`] when the file or the database cannot be written.
pub async fn offer(app: &App) -> Result<(), ServiceError> {
    if app.identity().is_some() {
        remove_token_file(&app.config.state);
        return Ok(());
    }
    let path = app.config.state.join(TOKEN_FILE);
    let stored = app.store.read(|connection| Ok(table::claim_hash(connection)?))?;
    let kept = std::fs::read_to_string(&path).map(Zeroizing::new).ok();
    if kept.is_some_and(|token| stored == Some(setup::claim_token_hash(&token))) {
        return Ok(());
    }
    let token = Zeroizing::new(setup::render_claim_token(&super::setup::random::<
        CLAIM_TOKEN_BYTES,
    >()?));
    let hash = setup::claim_token_hash(&token);
    write_private(&path, token.as_bytes()).map_err(|error| {
        tracing::error!(%error, path = %path.display(), "the claim token cannot be written");
        ServiceError::Storage("the claim token cannot be written")
    })?;
    app.store
        .note(move |connection| table::set_claim_hash(connection, &hash))
        .await
}

const TOKEN_FILE: &str = "claim-token";

/// Removes the file, whose token opens nothing any more.
pub(super) fn remove_token_file(state: &Path) {
    match std::fs::remove_file(state.join(TOKEN_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the file with the spent claim token cannot be removed");
        }
        _ => {}
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let unfinished = path.with_extension("new");
    let _ = std::fs::remove_file(&unfinished);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}
