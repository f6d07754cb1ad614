//! What is written of services. A change of what devices reach is a change of the network.

use cell_api_core::range::{self, HostIndex, VpnRange};
use cell_api_core::service_network::ServiceName;
use cell_api_core::services::access::Access;
use cell_api_core::services::images::ImageSignature;
use rusqlite::{Connection, OptionalExtension};

use super::{Container, Make, StoredService};
use crate::events::Topic;
use crate::service::ServiceError;
use crate::store::transaction::{self, NetworkChange, Tx};

/// Keeps a manifest.
///
/// # Errors
/// SQLite's.
pub fn keep_manifest(
    connection: &Connection,
    digest: &str,
    bytes: &[u8],
    signature: &str,
    images: &[ImageSignature],
) -> rusqlite::Result<()> {
    // Of the same bytes the last signatures count, for keys are changed; but a catalog that has none takes none away.
    let sql = "INSERT INTO service_manifest (digest, bytes, signature, images) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (digest) DO UPDATE SET \
               signature = CASE excluded.signature WHEN '' THEN signature ELSE excluded.signature END, \
               images = CASE excluded.images WHEN '[]' THEN images ELSE excluded.images END";
    let images = serde_json::to_string(images)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached(sql)?
        .execute((digest, bytes, signature, images))
        .map(drop)
}

/// Forgets manifests that no service is of.
///
/// # Errors
/// SQLite's.
pub fn forget_unused_manifests(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "DELETE FROM service_manifest WHERE digest NOT IN (SELECT manifest_digest FROM service) \
               AND digest NOT IN (SELECT former_digest FROM service WHERE former_digest IS NOT NULL) \
               AND digest NOT IN (SELECT good_digest FROM service WHERE good_digest IS NOT NULL)";
    connection.prepare_cached(sql)?.execute(()).map(drop)
}

/// Takes an address for a service.
///
/// # Errors
/// [`ServiceError::AddressesExhausted`].
pub fn allocate_host(connection: &Connection, range: &VpnRange) -> Result<HostIndex, ServiceError> {
    let freed = "SELECT host FROM freed_host ORDER BY freed_unix_ms, host LIMIT 1";
    let freed: Option<u32> = connection
        .prepare_cached(freed)?
        .query_row((), |row| row.get(0))
        .optional()?;
    let host = range::allocate_service(
        range,
        freed,
        highest_peer(connection)?,
        &super::kept_hosts(connection)?,
    )?;
    connection
        .prepare_cached("DELETE FROM freed_host WHERE host = ?1")?
        .execute([host.get()])?;
    Ok(host)
}

/// Adds a service, with who may reach it. Its network is there already, or it is one of the cell's own.
///
/// # Errors
/// SQLite's, also for a peer that is not there.
pub fn insert(tx: &mut Tx<'_>, service: &StoredService) -> Result<(), ServiceError> {
    let sql = "INSERT INTO service (name, instance, manifest_digest, parameters, phase, step, delete_volumes, stopped, \
               published, network, host, everyone, generation, revision, created_unix_ms, updated_unix_ms) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, ?7, ?8, ?9, ?10, 1, ?11, ?11)";
    let (phase, step) = service.phase.words();
    let name = service.name.as_str();
    let generation = next_generation(tx)?;
    tx.prepare_cached(sql)?.execute((
        name,
        &service.instance,
        &service.make.digest,
        parameters(&service.make)?,
        phase,
        step,
        service.network.as_ref().map(|_| name),
        service.host.map(HostIndex::get),
        service.access.is_everyone(),
        generation,
        tx.now(),
    ))?;
    insert_access(tx, &service.name, &service.access)?;
    changed(tx);
    Ok(())
}

/// Writes where a service stands, if it still is as it was read; whether it was.
///
/// # Errors
/// SQLite's.
pub fn update(connection: &Connection, service: &StoredService, now: i64) -> Result<bool, ServiceError> {
    let sql = "UPDATE service SET manifest_digest = ?3, parameters = ?4, former_digest = ?5, former_parameters = ?6, \
               phase = ?7, step = ?8, delete_volumes = ?9, stopped = ?10, error_code = ?11, error_message = ?12, \
               error_unix_ms = ?13, revision = revision + 1, updated_unix_ms = ?14, good_digest = ?15, \
               good_parameters = ?16 WHERE name = ?1 AND revision = ?2";
    let (phase, step) = service.phase.words();
    let (former, good) = (service.former.as_ref(), service.good.as_ref());
    let fault = service.fault.as_ref();
    let done = connection.prepare_cached(sql)?.execute(rusqlite::params![
        service.name.as_str(),
        service.revision,
        service.make.digest,
        parameters(&service.make)?,
        former.map(|make| &make.digest),
        former.map(parameters).transpose()?,
        phase,
        step,
        service.delete_volumes,
        service.stopped,
        fault.map(|fault| &fault.code),
        fault.map(|fault| &fault.message),
        fault.map(|fault| fault.at),
        now,
        good.map(|make| &make.digest),
        good.map(parameters).transpose()?,
    ])?;
    Ok(done == 1)
}

/// Writes down which containers a service has now. Where they answer is netd's business, and that of whoever has names.
///
/// # Errors
/// SQLite's.
pub fn set_containers(
    tx: &mut Tx<'_>,
    service: &StoredService,
    containers: &[Container],
) -> Result<(), ServiceError> {
    let before = super::find(tx, service.name.as_str())?;
    let (service, is_published) = (
        service.name.as_str(),
        before.as_ref().is_some_and(|one| one.published),
    );
    if is_published && before.is_some_and(|one| one.containers != containers) {
        changed(tx);
    }
    tx.prepare_cached("DELETE FROM service_container WHERE service = ?1")?
        .execute([service])?;
    let sql = "INSERT INTO service_container (service, position, name, handle, address) VALUES (?1, ?2, ?3, ?4, ?5)";
    for (position, made) in containers.iter().enumerate() {
        let address = made.address.to_string();
        tx.prepare_cached(sql)?
            .execute((service, position, &made.name, &made.handle, address))?;
    }
    Ok(())
}

/// Lets devices to a service, or keeps them from it: that is done whatever else waits.
///
/// # Errors
/// SQLite's.
pub fn publish(tx: &mut Tx<'_>, service: &str, published: bool) -> Result<(), ServiceError> {
    let sql = "UPDATE service SET published = ?2, generation = ?3 WHERE name = ?1";
    let generation = next_generation(tx)?;
    tx.prepare_cached(sql)?
        .execute((service, published, generation))?;
    if published {
        changed(tx);
    } else {
        tx.network(NetworkChange::Closed);
        tx.effects.topics.insert(Topic::Services);
    }
    Ok(())
}

/// Who could reach a service, and who can.
#[derive(Debug)]
pub struct AccessChange<'a> {
    /// Until now.
    pub before: &'a Access,
    /// From now on.
    pub after: &'a Access,
}

/// Says who may reach a service. What takes away alone is done whatever else waits.
///
/// # Errors
/// SQLite's, also for a peer that is not there.
pub fn set_access(
    tx: &mut Tx<'_>,
    service: &ServiceName,
    change: &AccessChange<'_>,
) -> Result<(), ServiceError> {
    let sql =
        "UPDATE service SET everyone = ?2, revision = revision + 1, updated_unix_ms = ?3 WHERE name = ?1";
    let AccessChange { before, after } = change;
    tx.prepare_cached(sql)?
        .execute((service.as_str(), after.is_everyone(), tx.now()))?;
    tx.prepare_cached("DELETE FROM service_access WHERE service = ?1")?
        .execute([service.as_str()])?;
    insert_access(tx, service, after)?;
    tx.effects.topics.insert(Topic::Services);
    if !after.is_within(before) {
        changed(tx);
    } else if before.is_everyone() && !after.is_everyone() {
        tx.network(NetworkChange::Closed);
    } else {
        for peer in before.named_beyond(after) {
            tx.network(NetworkChange::Reduced(peer.to_owned()));
        }
    }
    Ok(())
}

/// Takes a service away, with its network and its address, which rests.
///
/// # Errors
/// SQLite's.
pub fn release(tx: &mut Tx<'_>, range: &VpnRange, service: &StoredService) -> Result<(), ServiceError> {
    tx.prepare_cached("DELETE FROM service WHERE name = ?1")?
        .execute([service.name.as_str()])?;
    crate::store::service_networks::remove_service_network(tx, &service.name)?;
    if service.delete_volumes {
        crate::store::accounts::forget_service(tx, service.name.as_str())?;
    }
    if let Some(host) = service.host {
        let sql = "INSERT OR IGNORE INTO freed_host (host, freed_unix_ms) VALUES (?1, ?2)";
        tx.prepare_cached(sql)?.execute((host.get(), tx.now()))?;
        super::purge_grants(tx, range, host)?;
    }
    forget_unused_manifests(tx)?;
    changed(tx);
    Ok(())
}

fn insert_access(tx: &mut Tx<'_>, service: &ServiceName, access: &Access) -> rusqlite::Result<()> {
    for peer in access.peers() {
        tx.prepare_cached("INSERT INTO service_access (service, peer) VALUES (?1, ?2)")?
            .execute((service.as_str(), peer))?;
    }
    Ok(())
}

fn changed(tx: &mut Tx<'_>) {
    tx.network(NetworkChange::All);
    tx.effects.topics.insert(Topic::Services);
}

/// The generation that this transaction makes.
fn next_generation(tx: &Tx<'_>) -> rusqlite::Result<u64> {
    transaction::generation(tx).map(|generation| generation.saturating_add(1))
}

fn highest_peer(connection: &Connection) -> rusqlite::Result<u32> {
    let sql = "SELECT value FROM counter WHERE name = 'highest_host'";
    connection.prepare_cached(sql)?.query_row((), |row| row.get(0))
}

fn parameters(make: &Make) -> Result<String, ServiceError> {
    serde_json::to_string(&make.parameters).map_err(|_| ServiceError::Storage("parameters that are no JSON"))
}
