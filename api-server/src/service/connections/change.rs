//! Adds, alters and removes connections. One change at a time, each on a task of its own: who asked may go away in the
//! middle, and what was begun at vaultd is brought to its end all the same.

use std::sync::Arc;
use std::time::Duration;

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::import::{Imported, Secret};
use cell_api_core::connection::input::{
    ConnectionInput, ConnectionUpdate, ConnectionUpdateInput, NewConnection,
};

use super::{ConnectionView, parse_id, vault};
use crate::app::App;
use crate::events::Topic;
use crate::service::{Actor, ServiceError, cell};
use crate::store::connections::{self as table, StoredConnection};
use crate::store::peers;
use crate::store::remote_catalogs;
use crate::store::service_networks;
use crate::store::transaction::{NetworkChange, Origin};
use crate::store::waiting;

/// How long a change waits for netd before it is answered anyway.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The revision of a connection that is new.
pub(super) const FIRST_REVISION: u64 = 1;
/// Peers that are named to who would remove their connection.
const USERS_NAMED: usize = 10;

/// A connection that was made or altered.
#[derive(Debug)]
pub struct Stored {
    /// As stored.
    pub view: ConnectionView,
    /// What of the import is not used and why, for people.
    pub notes: Vec<String>,
}

/// Adds a connection.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::ConnectionExists`], [`ServiceError::ConnectionsExhausted`],
/// [`ServiceError::VaultRefuses`], [`ServiceError::Unreachable`] without vaultd; nothing is added then.
pub async fn create(app: &Arc<App>, actor: &Actor, input: ConnectionInput) -> Result<Stored, ServiceError> {
    let new = input.check()?;
    cell::identity(app)?;
    to_the_end(add(Arc::clone(app), actor.clone(), new)).await
}

async fn add(app: Arc<App>, actor: Actor, new: NewConnection) -> Result<Stored, ServiceError> {
    let NewConnection { name, imported } = new;
    let Imported {
        config,
        secrets,
        notes,
    } = imported;
    let _gate = app.connection_changes.lock().await;
    let id = new_id()?;
    // Nothing is given to vaultd for what is refused in any case.
    let allocation = app.store.read(|connection| {
        table::check_free(connection, &name)?;
        table::allocate(connection, &id, config.kind())
    })?;
    let candidate = StoredConnection {
        id,
        name,
        allocation,
        config,
        secret_fields: fields_of(&secrets),
        secrets_whole: true,
        revision: FIRST_REVISION,
        secret_revision: FIRST_REVISION,
        created_unix_ms: app.now(),
    };
    let sealed = vault::put(&app, &id, &secrets, &Default::default(), FIRST_REVISION).await;
    drop(secrets);
    let stored = match sealed {
        Ok(()) => insert(&app, &actor, candidate).await,
        Err(error) => Err(error),
    };
    if stored.is_err() {
        vault::tidy(&app, &id).await;
    }
    let (stored, generation) = stored?;
    // A peer that is bound to it next should find it at netd.
    app.network.wait_for(generation, PATIENCE).await;
    Ok(Stored {
        view: ConnectionView::of(&app, stored),
        notes,
    })
}

async fn insert(
    app: &App,
    actor: &Actor,
    candidate: StoredConnection,
) -> Result<(StoredConnection, u64), ServiceError> {
    app.store
        .commit(Origin::new(actor, app.now()), move |tx| {
            let stored = StoredConnection {
                allocation: table::allocate(tx, &candidate.id, candidate.config.kind())?,
                ..candidate
            };
            table::insert(tx, &stored)?;
            let (kind, allocation) = (stored.config.kind(), &stored.allocation);
            let detail = format!("{kind}; mark {:#x}; table {}", allocation.mark, allocation.table);
            tx.audit("connection.create", &stored.name, detail);
            tx.network(NetworkChange::All);
            Ok(stored)
        })
        .await
}

/// Alters a connection; if `if_version` is given, only that version.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoConnection`], [`ServiceError::Stale`],
/// [`ServiceError::ConnectionExists`], [`ServiceError::VaultRefuses`], [`ServiceError::Unreachable`] without vaultd; of an import
/// [`ServiceError::ChangePending`], before anything is touched. When vaultd fails between two secrets, the connection says that it is broken until it is imported again.
pub async fn update(
    app: &Arc<App>,
    actor: &Actor,
    id: &str,
    input: ConnectionUpdateInput,
    if_version: Option<String>,
) -> Result<Stored, ServiceError> {
    let id = parse_id(id)?;
    cell::identity(app)?;
    to_the_end(alter(Arc::clone(app), actor.clone(), id, input, if_version)).await
}

async fn alter(
    app: Arc<App>,
    actor: Actor,
    id: ConnectionId,
    input: ConnectionUpdateInput,
    if_version: Option<String>,
) -> Result<Stored, ServiceError> {
    let _gate = app.connection_changes.lock().await;
    let before = app.store.read(|connection| table::get(connection, &id))?;
    let ConnectionUpdate { name, imported } = input.check(before.config.kind())?;
    if if_version.is_some_and(|version| version != before.revision.to_string()) {
        return Err(ServiceError::Stale);
    }
    if let Some(name) = name.as_ref().filter(|name| **name != before.name) {
        app.store.read(|connection| table::check_free(connection, name))?;
    }
    let imports = imported.is_some();
    if imports {
        // What would be refused when all is done must not cost the secrets that are there.
        app.store.read(waiting::refuse_beside)?;
    }
    let (mut after, mut notes) = (before.clone(), Vec::new());
    after.revision += 1;
    if let Some(imported) = imported {
        let Imported {
            config,
            secrets,
            notes: told,
        } = imported;
        // cell-egress uses them with the new servers alone, and the old ones with nobody, from here until it is told of the import.
        after.secret_revision = after.revision;
        replace_secrets(&app, &before, &secrets, after.secret_revision).await?;
        (after.config, notes) = (config, told);
        (after.secret_fields, after.secrets_whole) = (fields_of(&secrets), true);
    }
    after.name = name.unwrap_or(after.name);
    let detail = match (after.name != before.name, imports) {
        (true, true) => format!("renamed from {}; imported again", before.name),
        (true, false) => format!("renamed from {}", before.name),
        (false, true) => "imported again".to_owned(),
        (false, false) => "no change".to_owned(),
    };
    let (stored, generation) = app
        .store
        .commit(Origin::new(&actor, app.now()), move |tx| {
            if imports && !after.secret_fields.is_empty() {
                // One that began to wait since: the vault has the new secrets, and they are of this record. netd hears of it when
                // that one is settled.
                tx.settles_change();
            }
            table::update(tx, &after)?;
            tx.audit("connection.update", &after.name, detail);
            if imports {
                tx.network(NetworkChange::All);
            }
            Ok(after)
        })
        .await?;
    app.network.wait_for(generation, PATIENCE).await;
    if imports {
        vault::tidy(&app, &id).await;
    }
    Ok(Stored {
        view: ConnectionView::of(&app, stored),
        notes,
    })
}

/// Gives vaultd other secrets for a connection that is there. From before the first until its record says otherwise the
/// connection is broken: a crash in between must not leave one import's keys with another's servers.
async fn replace_secrets(
    app: &App,
    before: &StoredConnection,
    secrets: &[Secret],
    revision: u64,
) -> Result<(), ServiceError> {
    if secrets.is_empty() {
        return Ok(());
    }
    let (id, was_whole) = (before.id, before.secrets_whole);
    let known = vault::versions(app, &id).await?;
    app.store.note(move |tx| table::set_whole(tx, &id, false)).await?;
    let put = vault::put(app, &id, secrets, &known, revision).await;
    if put.is_err() {
        if was_whole && vault::versions(app, &id).await.is_ok_and(|now| now == known) {
            app.store.note(move |tx| table::set_whole(tx, &id, true)).await?;
        }
        // Nobody may go on with the servers of one import and the keys of another.
        app.events.publish([Topic::Connections]);
        app.network.again();
    }
    put
}

/// Removes a connection, and its secrets after it.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoConnection`], [`ServiceError::ConnectionInUse`].
pub async fn delete(app: &Arc<App>, actor: &Actor, id: &str) -> Result<(), ServiceError> {
    let id = parse_id(id)?;
    cell::identity(app)?;
    to_the_end(remove(Arc::clone(app), actor.clone(), id)).await
}

async fn remove(app: Arc<App>, actor: Actor, id: ConnectionId) -> Result<(), ServiceError> {
    let _gate = app.connection_changes.lock().await;
    app.store
        .mutate(Origin::new(&actor, app.now()), move |tx| {
            let stored = table::get(tx, &id)?;
            let mut users = peers::users(tx, &id, USERS_NAMED + 1)?;
            let services = service_networks::users(tx, &id, USERS_NAMED + 1)?;
            users.extend(services.into_iter().map(|name| format!("service {name}")));
            let catalogs = remote_catalogs::users(tx, &id, USERS_NAMED + 1)?;
            users.extend(catalogs.into_iter().map(|name| format!("catalog {name}")));
            if !users.is_empty() {
                let more = users.len() > USERS_NAMED;
                users.truncate(USERS_NAMED);
                return Err(ServiceError::ConnectionInUse(users, more));
            }
            table::delete(tx, &id)?;
            tx.network(NetworkChange::All);
            tx.audit("connection.delete", &stored.name, stored.config.kind());
            Ok(())
        })
        .await?;
    vault::tidy(&app, &id).await;
    Ok(())
}

pub(super) fn new_id() -> Result<ConnectionId, ServiceError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| ServiceError::Random)?;
    Ok(ConnectionId::from_random(bytes))
}

pub(super) fn fields_of(secrets: &[Secret]) -> Vec<String> {
    let mut fields: Vec<String> = secrets.iter().map(|secret| secret.field.clone()).collect();
    fields.sort();
    fields
}

pub(super) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ServiceError> {
    let cut_off = Err(ServiceError::Storage("a change was cut off"));
    tokio::spawn(change).await.unwrap_or(cut_off)
}
