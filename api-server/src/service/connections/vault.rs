//! What vaultd has of connections, and what it should have.
//!
//! The database says which secrets there are to be. A new connection's are at vaultd before the connection is in the
//! database, and a deleted one's go after it is gone from there: what a crash leaves behind is a secret that nothing
//! refers to, and such are removed at the start. Where secrets are replaced, the connection counts as broken from before
//! the first until after the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::import::Secret;

use crate::app::App;
use crate::service::{Actor, ServiceError};
use crate::store::connections::{self as table, StoredConnection};
use crate::store::transaction::{NetworkChange, Origin};

/// What the names of all secrets of connections begin with.
const PREFIX: &str = "conn_";

/// The names that a connection's secrets have.
pub fn names_of(stored: &StoredConnection) -> Vec<String> {
    let name = |field: &String| stored.id.secret_name(field);
    stored.secret_fields.iter().map(name).collect()
}

/// What vaultd has of a connection, by name.
pub async fn versions(app: &App, id: &ConnectionId) -> Result<BTreeMap<String, u64>, ServiceError> {
    app.secrets.list(id.secret_name("")).await
}

/// Gives vaultd a connection's secrets, in the place of what it has. `revision`: of which import they are, a number that no other import
/// of the connection has that its daemons are told of.
pub async fn put(
    app: &App,
    id: &ConnectionId,
    secrets: &[Secret],
    versions: &BTreeMap<String, u64>,
    revision: u64,
) -> Result<(), ServiceError> {
    for secret in secrets {
        let name = id.secret_name(&secret.field);
        let version = versions.get(&name).copied().unwrap_or(0);
        app.secrets.put(name, &secret.value, version, revision).await?;
    }
    Ok(())
}

/// Removes what vaultd has of a connection and the database does not refer to. What fails is tried again later.
pub async fn tidy(app: &App, id: &ConnectionId) {
    if let Err(error) = remove_orphans(app, id.secret_name("")).await {
        tracing::warn!(%error, connection = %id, "secrets of a connection were not removed; they will be later");
        app.secrets_left.notify_one();
    }
}

/// Removes every secret that no connection refers to, and marks connections whose secrets are missing.
///
/// # Errors
/// [`ServiceError::Unreachable`] without vaultd; [`ServiceError::Storage`].
pub async fn tidy_all(app: &Arc<App>) -> Result<(), ServiceError> {
    // Nothing may be put between the two looks.
    let _gate = app.connection_changes.lock().await;
    let there = remove_orphans(app, PREFIX.to_owned()).await?;
    let stored = app.store.read_much(table::list).await?;
    let lacks = |one: &StoredConnection| names_of(one).iter().any(|name| !there.contains(name));
    for broken in stored.into_iter().filter(|one| one.secrets_whole && lacks(one)) {
        app.store
            .mutate(Origin::new(&Actor::cell(), app.now()), move |tx| {
                let broken = StoredConnection {
                    secrets_whole: false,
                    revision: broken.revision + 1,
                    ..broken
                };
                table::update(tx, &broken)?;
                tx.audit("connection.broken", &broken.name, "the vault lacks secrets of it");
                tx.network(NetworkChange::All);
                Ok(())
            })
            .await?;
    }
    Ok(())
}

/// Removes what begins with `prefix` and is an orphan; what is left.
async fn remove_orphans(app: &App, prefix: String) -> Result<BTreeSet<String>, ServiceError> {
    let mut there = app.secrets.list(prefix).await?;
    let wanted = app.store.read(table::secret_names)?;
    let orphans: Vec<String> = there
        .keys()
        .filter(|name| is_orphan(name, &wanted))
        .cloned()
        .collect();
    for name in orphans {
        if let Some(version) = there.remove(&name) {
            app.secrets.delete(name, version).await?;
        }
    }
    Ok(there.into_keys().collect())
}

/// Only what has the form of a connection's secret is anybody's to remove here.
fn is_orphan(name: &str, wanted: &BTreeSet<String>) -> bool {
    let id = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('_'))
        .map(|(id, _)| id);
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let has_form = id.is_some_and(|id| id.len() == 32 && id.bytes().all(is_digit));
    has_form && !wanted.contains(name)
}
