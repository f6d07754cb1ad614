//! Which connections carry the exits that the first version had, and which are to.

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::kind::Kind;
use cell_api_core::migrate::Carried;
use rusqlite::{Connection, OptionalExtension};

use crate::service::ServiceError;

const CORRUPT: ServiceError = ServiceError::Storage("a stored exit of the first version is not one");

/// The connections that were made, by type. Some may have been removed since.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn made(connection: &Connection) -> Result<Carried, ServiceError> {
    let sql = "SELECT type, connection FROM first_version_exit WHERE made_unix_ms IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (kind, id) = row?;
        let kind = Kind::parse(&kind).map_err(|_| CORRUPT)?;
        Ok((kind, ConnectionId::parse(&id).map_err(|_| CORRUPT)?))
    })
    .collect()
}

/// The id that the connection of a type will have: the one that was written down when it was begun before and not made, or
/// else `fresh`, which is written down now.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn begin(
    connection: &Connection,
    kind: Kind,
    fresh: ConnectionId,
    now: i64,
) -> Result<ConnectionId, ServiceError> {
    let sql = "SELECT connection FROM first_version_exit WHERE type = ?1 AND made_unix_ms IS NULL";
    let begun: Option<String> = connection
        .prepare_cached(sql)?
        .query_row([kind.as_str()], |row| row.get(0))
        .optional()?;
    if let Some(id) = begun {
        return ConnectionId::parse(&id).map_err(|_| CORRUPT);
    }
    let sql =
        "INSERT OR REPLACE INTO first_version_exit (type, connection, begun_unix_ms) VALUES (?1, ?2, ?3)";
    connection
        .prepare_cached(sql)?
        .execute((kind.as_str(), fresh.to_string(), now))?;
    Ok(fresh)
}

/// Notes that the connection of a type is made.
///
/// # Errors
/// SQLite's.
pub fn finish(connection: &Connection, kind: Kind, id: ConnectionId, now: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE first_version_exit SET made_unix_ms = ?3 WHERE type = ?1 AND connection = ?2";
    connection
        .prepare_cached(sql)?
        .execute((kind.as_str(), id.to_string(), now))
        .map(|_| ())
}
