//! The tables of connections. There are few, so that each look reads them from the database.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use cell_api_core::connection::allocation::{Allocation, Device, Pools};
use cell_api_core::connection::config::Config;
use cell_api_core::connection::driven::AllPushed;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::kind::Kind;
use cell_api_core::connection::names::Names;
use cell_api_core::derive::exits::Source;
use cell_api_core::name::ConnectionName;
use rusqlite::{Connection, OptionalExtension, Row};

use super::transaction::Tx;
use crate::events::Topic;
use crate::service::ServiceError;

const COLUMNS: &str = "id, name, type, mark, routing_table, iface, redirect_port, config_json, secrets_whole, \
                       revision, created_unix_ms, secret_revision";
const CORRUPT: ServiceError = ServiceError::Storage("a stored connection is not one");

/// A connection as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConnection {
    /// Its identity.
    pub id: ConnectionId,
    /// Its name.
    pub name: ConnectionName,
    /// What it was given.
    pub allocation: Allocation,
    /// What it was made of, without secrets.
    pub config: Config,
    /// Which secrets vaultd has of it, by the last part of their names.
    pub secret_fields: Vec<String>,
    /// Whether vaultd was seen to have all of them.
    pub secrets_whole: bool,
    /// Counts from 1 with each change.
    pub revision: u64,
    /// The revision of the import that its secrets are of, as vaultd keeps it with them; 0: they are of before it kept any.
    pub secret_revision: u64,
    /// When it was made, milliseconds since 1970-01-01T00:00:00Z.
    pub created_unix_ms: i64,
}

/// One connection.
///
/// # Errors
/// [`ServiceError::NoConnection`], [`ServiceError::Storage`].
pub fn get(connection: &Connection, id: &ConnectionId) -> Result<StoredConnection, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM connection WHERE id = ?1");
    let raw = connection
        .prepare_cached(&sql)?
        .query_row([id.to_string()], Raw::read)
        .optional()?;
    let raw = raw.ok_or(ServiceError::NoConnection)?;
    let sql = "SELECT field FROM connection_secret WHERE connection = ?1 ORDER BY field";
    let fields = connection
        .prepare_cached(sql)?
        .query_map([id.to_string()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    raw.into_connection(fields)
}

/// All connections, in the order of names.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(connection: &Connection) -> Result<Vec<StoredConnection>, ServiceError> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let sql = "SELECT connection, field FROM connection_secret ORDER BY connection, field";
    let mut statement = connection.prepare_cached(sql)?;
    for row in statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (id, field) = row?;
        fields.entry(id).or_default().push(field);
    }
    let sql = format!("SELECT {COLUMNS} FROM connection ORDER BY name");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement
        .query_map((), Raw::read)?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter()
        .map(|raw| {
            let own = fields.remove(&raw.id).unwrap_or_default();
            raw.into_connection(own)
        })
        .collect()
}

/// What each connection is called: its id, its name and its type.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn names(connection: &Connection) -> Result<Vec<(ConnectionId, String, Kind)>, ServiceError> {
    let mut statement = connection.prepare_cached("SELECT id, name, type FROM connection ORDER BY name")?;
    let rows = statement.query_map((), |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
        ))
    })?;
    rows.map(|row| {
        let (id, name, kind) = row?;
        let id = ConnectionId::parse(&id).map_err(|_| CORRUPT)?;
        Ok((id, name, Kind::parse(&kind).map_err(|_| CORRUPT)?))
    })
    .collect()
}

/// What a new connection gets: of each pool the lowest that is free.
///
/// # Errors
/// [`ServiceError::ConnectionsExhausted`].
pub fn allocate(connection: &Connection, id: &ConnectionId, kind: Kind) -> Result<Allocation, ServiceError> {
    let sql = "SELECT type, mark, routing_table, iface, redirect_port FROM connection";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map((), |row| Allocated::read(row, 0))?
        .collect::<Result<Vec<_>, _>>()?;
    let stored = rows.iter().map(Allocated::check).collect::<Result<Vec<_>, _>>()?;
    let used = Pools::of(stored.iter().map(|(kind, allocation)| (*kind, allocation)));
    let mut pools = used.map_err(|error| {
        tracing::error!(%error, "the stored connections clash");
        ServiceError::Storage("the stored connections clash")
    })?;
    Ok(pools.allocate(id, kind)?)
}

/// Whether a name is taken.
///
/// # Errors
/// [`ServiceError::ConnectionExists`].
pub fn check_free(connection: &Connection, name: &ConnectionName) -> Result<(), ServiceError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM connection WHERE name = ?1)";
    let taken = connection
        .prepare_cached(sql)?
        .query_row([name.as_str()], |row| row.get(0))?;
    if taken {
        Err(ServiceError::ConnectionExists)
    } else {
        Ok(())
    }
}

/// The names at vaultd of every secret that a connection refers to.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn secret_names(connection: &Connection) -> Result<BTreeSet<String>, ServiceError> {
    let sql = "SELECT connection, field FROM connection_secret";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (id, field) = row?;
        let id = ConnectionId::parse(&id).map_err(|_| CORRUPT)?;
        Ok(id.secret_name(&field))
    })
    .collect()
}

/// Adds a connection.
///
/// # Errors
/// [`ServiceError::ConnectionExists`].
pub fn insert(tx: &mut Tx<'_>, stored: &StoredConnection) -> Result<(), ServiceError> {
    let (iface, port) = columns_of(&stored.allocation.device);
    let sql = format!(
        "INSERT INTO connection ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
    );
    let done = tx.prepare_cached(&sql)?.execute((
        stored.id.to_string(),
        stored.name.as_str(),
        stored.config.kind().as_str(),
        stored.allocation.mark,
        stored.allocation.table,
        iface,
        port,
        json(&stored.config)?,
        stored.secrets_whole,
        stored.revision,
        stored.created_unix_ms,
        stored.secret_revision,
    ));
    done.map_err(conflict)?;
    insert_fields(tx, stored)?;
    tx.effects.topics.insert(Topic::Connections);
    Ok(())
}

/// Replaces what can change of a connection.
///
/// # Errors
/// [`ServiceError::ConnectionExists`].
pub fn update(tx: &mut Tx<'_>, stored: &StoredConnection) -> Result<(), ServiceError> {
    let sql = "UPDATE connection SET name = ?2, config_json = ?3, secrets_whole = ?4, revision = ?5, \
               secret_revision = ?6 WHERE id = ?1";
    let done = tx.prepare_cached(sql)?.execute((
        stored.id.to_string(),
        stored.name.as_str(),
        json(&stored.config)?,
        stored.secrets_whole,
        stored.revision,
        stored.secret_revision,
    ));
    done.map_err(conflict)?;
    tx.prepare_cached("DELETE FROM connection_secret WHERE connection = ?1")?
        .execute([stored.id.to_string()])?;
    insert_fields(tx, stored)?;
    tx.effects.topics.insert(Topic::Connections);
    Ok(())
}

/// Removes a connection; its allocations are free from now on.
///
/// # Errors
/// SQLite's.
pub fn delete(tx: &mut Tx<'_>, id: &ConnectionId) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM connection WHERE id = ?1")?
        .execute([id.to_string()])?;
    tx.effects.topics.insert(Topic::Connections);
    Ok(())
}

/// Notes whether vaultd has all secrets of a connection.
///
/// # Errors
/// SQLite's.
pub fn set_whole(connection: &Connection, id: &ConnectionId, whole: bool) -> rusqlite::Result<()> {
    let sql = "UPDATE connection SET secrets_whole = ?2 WHERE id = ?1";
    connection
        .prepare_cached(sql)?
        .execute((id.to_string(), whole))
        .map(|_| ())
}

fn insert_fields(connection: &Connection, stored: &StoredConnection) -> rusqlite::Result<()> {
    let sql = "INSERT INTO connection_secret (connection, field) VALUES (?1, ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    for field in &stored.secret_fields {
        statement.execute((stored.id.to_string(), field))?;
    }
    Ok(())
}

fn columns_of(device: &Device) -> (Option<&str>, Option<u16>) {
    match device {
        Device::Interface(name) => (Some(name), None),
        Device::RedirectPort(port) => (None, Some(*port)),
        Device::Link => (None, None),
    }
}

fn json(config: &Config) -> Result<String, ServiceError> {
    let unwritten = ServiceError::Storage("a connection could not be written");
    config.to_json().map_err(|_| unwritten)
}

/// Uniqueness is the database's business. What is allocated cannot clash here: there is one writer.
fn conflict(error: rusqlite::Error) -> ServiceError {
    match &error {
        rusqlite::Error::SqliteFailure(_, Some(text)) if text.contains("connection.name") => {
            ServiceError::ConnectionExists
        }
        _ => error.into(),
    }
}

/// The columns `type` to `redirect_port`.
struct Allocated {
    kind: String,
    mark: u32,
    table: u32,
    iface: Option<String>,
    redirect_port: Option<u16>,
}

impl StoredConnection {
    /// What the daemons are told of it, with what names of servers lead to, and what servers gave; `tor`: where Tor's SOCKS port is.
    pub fn source<'a>(&'a self, tor: SocketAddr, names: &'a Names, pushed: &'a AllPushed) -> Source<'a> {
        Source {
            id: self.id,
            allocation: &self.allocation,
            config: &self.config,
            secrets_whole: self.secrets_whole,
            revision: self.revision,
            secret_revision: self.secret_revision,
            tor,
            names,
            pushed: pushed.get(&self.id),
        }
    }
}

impl Allocated {
    /// `first`: where `type` is.
    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Allocated> {
        Ok(Allocated {
            kind: row.get(first)?,
            mark: row.get(first + 1)?,
            table: row.get(first + 2)?,
            iface: row.get(first + 3)?,
            redirect_port: row.get(first + 4)?,
        })
    }

    fn check(&self) -> Result<(Kind, Allocation), ServiceError> {
        let device = match (&self.iface, self.redirect_port) {
            (Some(name), None) => Device::Interface(name.clone()),
            (None, Some(port)) => Device::RedirectPort(port),
            (None, None) => Device::Link,
            (Some(_), Some(_)) => return Err(CORRUPT),
        };
        let allocation = Allocation {
            mark: self.mark,
            table: self.table,
            device,
        };
        Ok((Kind::parse(&self.kind).map_err(|_| CORRUPT)?, allocation))
    }
}

struct Raw {
    id: String,
    name: String,
    allocated: Allocated,
    config_json: String,
    secrets_whole: bool,
    revision: u64,
    created_unix_ms: i64,
    secret_revision: u64,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
        Ok(Raw {
            id: row.get(0)?,
            name: row.get(1)?,
            allocated: Allocated::read(row, 2)?,
            config_json: row.get(7)?,
            secrets_whole: row.get(8)?,
            revision: row.get(9)?,
            created_unix_ms: row.get(10)?,
            secret_revision: row.get(11)?,
        })
    }

    fn into_connection(self, secret_fields: Vec<String>) -> Result<StoredConnection, ServiceError> {
        let (kind, allocation) = self.allocated.check()?;
        let config = Config::from_json(&self.config_json).map_err(|_| CORRUPT)?;
        if config.kind() != kind {
            return Err(CORRUPT);
        }
        Ok(StoredConnection {
            id: ConnectionId::parse(&self.id).map_err(|_| CORRUPT)?,
            name: ConnectionName::parse(&self.name).map_err(|_| CORRUPT)?,
            allocation,
            config,
            secret_fields,
            secrets_whole: self.secrets_whole,
            revision: self.revision,
            secret_revision: self.secret_revision,
            created_unix_ms: self.created_unix_ms,
        })
    }
}
