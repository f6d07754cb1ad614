//! What carries a peer: the connection it is bound to, and those that stand in for it.

use std::collections::BTreeMap;

use cell_api_core::connection::choice::ExitChoice;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::peer::Peer;
use rusqlite::Connection;

use super::CORRUPT;
use crate::service::ServiceError;

/// The names of peers that use a connection, bound to it or falling back to it: the first `most` in the order of names.
///
/// # Errors
/// SQLite's.
pub fn users(connection: &Connection, id: &ConnectionId, most: usize) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM peer WHERE exit_connection_id = ?1 \
               UNION SELECT peer FROM peer_fallback WHERE connection = ?1 ORDER BY 1 LIMIT ?2";
    connection
        .prepare_cached(sql)?
        .query_map((id.to_string(), most), |row| row.get(0))?
        .collect()
}

/// What stands in for the connection of one peer, the first first.
pub(super) fn fallbacks(connection: &Connection, peer: &str) -> Result<Vec<ConnectionId>, ServiceError> {
    let sql = "SELECT connection FROM peer_fallback WHERE peer = ?1 ORDER BY place";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([peer], |row| row.get::<_, String>(0))?;
    rows.map(|id| parse(&id?)).collect()
}

/// The same of all peers, by name.
pub(super) fn all_fallbacks(
    connection: &Connection,
) -> Result<BTreeMap<String, Vec<ConnectionId>>, ServiceError> {
    let sql = "SELECT peer, connection FROM peer_fallback ORDER BY peer, place";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut all: BTreeMap<String, Vec<ConnectionId>> = BTreeMap::new();
    for row in rows {
        let (peer, id) = row?;
        all.entry(peer).or_default().push(parse(&id)?);
    }
    Ok(all)
}

pub(super) fn insert_fallbacks(connection: &Connection, peer: &Peer) -> Result<(), ServiceError> {
    let sql = "INSERT INTO peer_fallback (peer, place, connection) VALUES (?1, ?2, ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    for (place, id) in peer.exit.fallbacks().iter().enumerate() {
        statement.execute((peer.name.as_str(), place, id.to_string()))?;
    }
    Ok(())
}

pub(super) fn choice(
    bound: Option<&str>,
    fail_open: Option<bool>,
    fallbacks: Vec<ConnectionId>,
) -> Result<ExitChoice, ServiceError> {
    let bound = bound.map(parse).transpose()?;
    ExitChoice::try_new(bound, fail_open, fallbacks).map_err(|_| CORRUPT)
}

fn parse(id: &str) -> Result<ConnectionId, ServiceError> {
    ConnectionId::parse(id).map_err(|_| CORRUPT)
}
