//! The tables of peers. Adding one costs the same however many there are. What is written here is handed on to the peers
//! in memory with the commit, by the same functions, so that none can be forgotten.

mod exits;
mod stored;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cell_api_core::access::{AccessPolicy, Protocol, Service, Tunnel};
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::key::PublicKey;
use cell_api_core::name::PeerName;
use cell_api_core::peer::Peer;
use cell_api_core::range::{HostIndex, VpnRange};
use rusqlite::{Connection, OptionalExtension, Row};

pub use exits::users;
pub use stored::{Answer as StoredAnswer, Derived, StoredPeer};

use super::transaction::Tx;
use crate::peers::PeerChange;
use crate::service::ServiceError;

const COLUMNS: &str = "name, public_key, host, internet, peer_to_peer, tunnel, config_fingerprint, created_unix_ms, \
     exit_connection_id, fail_open";
const CORRUPT: ServiceError = ServiceError::Storage("a stored peer is not one");

/// One peer.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn get(
    connection: &Connection,
    range: &VpnRange,
    name: &str,
) -> Result<Option<StoredPeer>, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM peer WHERE name = ?1");
    let raw = connection
        .prepare_cached(&sql)?
        .query_row([name], Raw::read)
        .optional()?;
    let Some(raw) = raw else { return Ok(None) };
    let services = "SELECT peer, address, protocol, port FROM peer_service WHERE peer = ?1";
    let services = connection
        .prepare_cached(services)?
        .query_map([name], service)?
        .collect::<Result<Vec<_>, _>>()?;
    let services = services.into_iter().map(|(_, service)| service).collect();
    raw.into_peer(range, services, exits::fallbacks(connection, name)?)
        .map(Some)
}

/// The name of the peer that has a host's addresses.
///
/// # Errors
/// SQLite's.
pub fn name_of_host(connection: &Connection, host: HostIndex) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT name FROM peer WHERE host = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([host.get()], |row| row.get(0))
        .optional()
}

/// All peers, in the order of names.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(connection: &Connection, range: &VpnRange) -> Result<Vec<StoredPeer>, ServiceError> {
    let mut services: BTreeMap<String, Vec<Option<Service>>> = BTreeMap::new();
    let sql = "SELECT peer, address, protocol, port FROM peer_service";
    for row in connection.prepare_cached(sql)?.query_map((), service)? {
        let (peer, service) = row?;
        services.entry(peer).or_default().push(service);
    }
    let mut fallbacks = exits::all_fallbacks(connection)?;
    let sql = format!("SELECT {COLUMNS} FROM peer ORDER BY name");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement
        .query_map((), Raw::read)?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter()
        .map(|raw| {
            let own = services.remove(&raw.name).unwrap_or_default();
            let stand_in = fallbacks.remove(&raw.name).unwrap_or_default();
            raw.into_peer(range, own, stand_in)
        })
        .collect()
}

/// How many there are.
///
/// # Errors
/// SQLite's.
pub fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT COUNT(*) FROM peer")?
        .query_row((), |row| row.get(0))
}

/// The peer that DNS knows by a label.
///
/// # Errors
/// SQLite's.
pub fn named_as(connection: &Connection, label: &str) -> rusqlite::Result<Option<String>> {
    // Names of peers are ASCII.
    connection
        .prepare_cached("SELECT name FROM peer WHERE lower(name) = ?1 LIMIT 1")?
        .query_row([label], |row| row.get(0))
        .optional()
}

/// The address that the next peer gets.
///
/// # Errors
/// [`ServiceError::AddressesExhausted`].
pub fn next_host(connection: &Connection, range: &VpnRange) -> Result<HostIndex, ServiceError> {
    next(connection, range).map(|(host, _)| host)
}

/// The next address, and whether a removed peer left it behind.
fn next(connection: &Connection, range: &VpnRange) -> Result<(HostIndex, bool), ServiceError> {
    let freed = "SELECT host FROM freed_host ORDER BY freed_unix_ms, host LIMIT 1";
    let freed: Option<u32> = connection
        .prepare_cached(freed)?
        .query_row((), |row| row.get(0))
        .optional()?;
    let highest = "SELECT value FROM counter WHERE name = 'highest_host'";
    let highest: u32 = connection
        .prepare_cached(highest)?
        .query_row((), |row| row.get(0))?;
    let services = super::services::kept_hosts(connection)?;
    let host = range.allocate(freed, highest, &services)?;
    Ok((host, host.get() <= highest || Some(host.get()) == freed))
}

/// Takes the address of a new peer.
///
/// # Errors
/// [`ServiceError::AddressesExhausted`].
pub fn allocate(connection: &Connection, range: &VpnRange) -> Result<HostIndex, ServiceError> {
    let (host, is_freed) = next(connection, range)?;
    if is_freed {
        connection
            .prepare_cached("DELETE FROM freed_host WHERE host = ?1")?
            .execute([host.get()])?;
    }
    // One that was a service's may lie above all that peers have had.
    let sql = "UPDATE counter SET value = MAX(value, ?1) WHERE name = 'highest_host'";
    connection.prepare_cached(sql)?.execute([host.get()])?;
    Ok(host)
}

/// Adds a peer.
///
/// # Errors
/// [`ServiceError::PeerExists`], [`ServiceError::KeyInUse`].
pub fn insert(tx: &mut Tx<'_>, stored: &Arc<StoredPeer>) -> Result<(), ServiceError> {
    let StoredPeer {
        peer,
        config_fingerprint,
        created_unix_ms,
        derived: _,
    } = &**stored;
    // Of two clashes the name is the one to tell: whoever adds a peer twice sends the same key twice too.
    let known = "SELECT EXISTS (SELECT 1 FROM peer WHERE name = ?1)";
    let is_known: bool = tx
        .prepare_cached(known)?
        .query_row([peer.name.as_str()], |row| row.get(0))?;
    if is_known {
        return Err(ServiceError::PeerExists);
    }
    let sql = format!("INSERT INTO peer ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    let done = tx.prepare_cached(&sql)?.execute((
        peer.name.as_str(),
        peer.public_key.as_bytes(),
        peer.host.get(),
        peer.access.internet,
        peer.access.peer_to_peer,
        peer.tunnel.as_str(),
        config_fingerprint,
        created_unix_ms,
        peer.exit.bound().map(|id| id.to_string()),
        peer.exit.fail_open(),
    ));
    done.map_err(conflict)?;
    insert_services(tx, peer)?;
    exits::insert_fallbacks(tx, peer)?;
    tx.effects.peers.push(PeerChange::Put(Arc::clone(stored)));
    Ok(())
}

/// Replaces a peer of the same name.
///
/// # Errors
/// [`ServiceError::KeyInUse`].
pub fn update(tx: &mut Tx<'_>, stored: &Arc<StoredPeer>) -> Result<(), ServiceError> {
    let peer = &stored.peer;
    let sql = "UPDATE peer SET public_key = ?2, internet = ?3, peer_to_peer = ?4, tunnel = ?5, \
               exit_connection_id = ?6, fail_open = ?7 WHERE name = ?1";
    let done = tx.prepare_cached(sql)?.execute((
        peer.name.as_str(),
        peer.public_key.as_bytes(),
        peer.access.internet,
        peer.access.peer_to_peer,
        peer.tunnel.as_str(),
        peer.exit.bound().map(|id| id.to_string()),
        peer.exit.fail_open(),
    ));
    done.map_err(conflict)?;
    for table in ["peer_service", "peer_fallback"] {
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE peer = ?1"))?
            .execute([peer.name.as_str()])?;
    }
    insert_services(tx, peer)?;
    exits::insert_fallbacks(tx, peer)?;
    tx.effects.peers.push(PeerChange::Put(Arc::clone(stored)));
    Ok(())
}

/// Remembers which configuration the device got.
///
/// # Errors
/// SQLite's.
pub fn set_fingerprint(
    tx: &mut Tx<'_>,
    before: StoredPeer,
    config_fingerprint: [u8; 32],
) -> rusqlite::Result<()> {
    let sql = "UPDATE peer SET config_fingerprint = ?2 WHERE name = ?1";
    tx.prepare_cached(sql)?
        .execute((before.peer.name.as_str(), config_fingerprint))?;
    let after = StoredPeer {
        config_fingerprint,
        ..before
    };
    tx.effects.peers.push(PeerChange::Put(Arc::new(after)));
    Ok(())
}

/// Removes a peer and gives its address back; whether there was one.
///
/// # Errors
/// SQLite's.
pub fn delete(tx: &mut Tx<'_>, name: &str) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM peer WHERE name = ?1 RETURNING host";
    let host: Option<u32> = tx
        .prepare_cached(sql)?
        .query_row([name], |row| row.get(0))
        .optional()?;
    if let Some(host) = host {
        tx.prepare_cached("INSERT INTO freed_host (host, freed_unix_ms) VALUES (?1, ?2)")?
            .execute((host, tx.now()))?;
        tx.effects.peers.push(PeerChange::Removed(name.to_owned()));
    }
    Ok(host.is_some())
}

fn insert_services(connection: &Connection, peer: &Peer) -> Result<(), ServiceError> {
    let sql = "INSERT INTO peer_service (peer, address, protocol, port) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = connection.prepare_cached(sql)?;
    for Service {
        address,
        protocol,
        port,
    } in &peer.access.services
    {
        let address = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        statement.execute((peer.name.as_str(), address, protocol.as_str(), port))?;
    }
    Ok(())
}

/// Uniqueness is the database's business: two requests at once cannot both pass a check made before.
fn conflict(error: rusqlite::Error) -> ServiceError {
    match &error {
        rusqlite::Error::SqliteFailure(_, Some(text)) if text.contains("peer.name") => {
            ServiceError::PeerExists
        }
        rusqlite::Error::SqliteFailure(_, Some(text)) if text.contains("peer.public_key") => {
            ServiceError::KeyInUse
        }
        _ => error.into(),
    }
}

struct Raw {
    name: String,
    public_key: [u8; 32],
    host: u32,
    internet: bool,
    peer_to_peer: bool,
    tunnel: String,
    config_fingerprint: [u8; 32],
    created_unix_ms: i64,
    exit: Option<String>,
    fail_open: Option<bool>,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
        Ok(Raw {
            name: row.get(0)?,
            public_key: row.get(1)?,
            host: row.get(2)?,
            internet: row.get(3)?,
            peer_to_peer: row.get(4)?,
            tunnel: row.get(5)?,
            config_fingerprint: row.get(6)?,
            created_unix_ms: row.get(7)?,
            exit: row.get(8)?,
            fail_open: row.get(9)?,
        })
    }

    fn into_peer(
        self,
        range: &VpnRange,
        services: Vec<Option<Service>>,
        fallbacks: Vec<ConnectionId>,
    ) -> Result<StoredPeer, ServiceError> {
        let services = services.into_iter().collect::<Option<_>>().ok_or(CORRUPT)?;
        let access = AccessPolicy {
            internet: self.internet,
            peer_to_peer: self.peer_to_peer,
            services,
        };
        let peer = Peer {
            name: PeerName::parse(&self.name).map_err(|_| CORRUPT)?,
            public_key: PublicKey::from_bytes(&self.public_key).map_err(|_| CORRUPT)?,
            host: range.host(self.host).ok_or(CORRUPT)?,
            access,
            tunnel: Tunnel::parse(&self.tunnel).map_err(|_| CORRUPT)?,
            exit: exits::choice(self.exit.as_deref(), self.fail_open, fallbacks)?,
        };
        let Raw {
            config_fingerprint,
            created_unix_ms,
            ..
        } = self;
        Ok(StoredPeer {
            peer,
            config_fingerprint,
            created_unix_ms,
            derived: Derived::default(),
        })
    }
}

fn service(row: &Row<'_>) -> rusqlite::Result<(String, Option<Service>)> {
    let (peer, address, protocol, port): (String, Vec<u8>, String, u16) =
        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    let address = <[u8; 4]>::try_from(address.as_slice())
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(address.as_slice()).map(IpAddr::from))
        .ok();
    let service = address.zip(Protocol::parse(&protocol).ok());
    Ok((
        peer,
        service.map(|(address, protocol)| Service {
            address,
            protocol,
            port,
        }),
    ))
}
