//! The table of sessions, read once at start; [`crate::sessions`] is what requests look at.

use cell_api_core::name::Username;
use cell_api_core::role::Role;
use rusqlite::Connection;

use crate::service::ServiceError;
use crate::sessions::{Session, SessionUser};

/// Sessions that one user may have; the oldest ends when one more is opened.
const MAX_PER_USER: u32 = 32;
const CORRUPT: ServiceError = ServiceError::Storage("a stored session is not one");

/// All sessions.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(connection: &Connection) -> Result<Vec<Session>, ServiceError> {
    let sql = "SELECT token_hash, s.username, role, must_change_password, s.created_unix_ms, seen_unix_ms
               FROM session s JOIN user u ON u.username = s.username";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(())?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let (username, role): (String, String) = (row.get(1)?, row.get(2)?);
        let user = SessionUser {
            username: Username::parse(&username).map_err(|_| CORRUPT)?,
            role: Role::parse(&role).map_err(|_| CORRUPT)?,
            must_change_password: row.get(3)?,
        };
        sessions.push(Session::new(row.get(0)?, user, row.get(4)?, row.get(5)?));
    }
    Ok(sessions)
}

/// Adds a session; the hashes of those that end for it.
///
/// # Errors
/// SQLite's.
pub fn insert(connection: &Connection, session: &Session) -> rusqlite::Result<Vec<[u8; 32]>> {
    let sql =
        "INSERT INTO session (token_hash, username, created_unix_ms, seen_unix_ms) VALUES (?1, ?2, ?3, ?3)";
    let username = session.user.username.as_str();
    connection
        .prepare_cached(sql)?
        .execute((session.token_hash, username, session.created_unix_ms))?;
    let sql = "DELETE FROM session WHERE token_hash IN
               (SELECT token_hash FROM session WHERE username = ?1
                ORDER BY created_unix_ms DESC, token_hash LIMIT -1 OFFSET ?2)
               RETURNING token_hash";
    connection
        .prepare_cached(sql)?
        .query_map((username, MAX_PER_USER), |row| row.get(0))?
        .collect()
}

/// Ends a session.
///
/// # Errors
/// SQLite's.
pub fn delete(connection: &Connection, token_hash: &[u8; 32]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM session WHERE token_hash = ?1")?
        .execute([token_hash])
        .map(|_| ())
}

/// Whether a session has not ended.
///
/// # Errors
/// SQLite's.
pub fn exists(connection: &Connection, token_hash: &[u8; 32]) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM session WHERE token_hash = ?1)")?
        .query_row([token_hash], |row| row.get(0))
}

/// Ends all sessions of a user.
///
/// # Errors
/// SQLite's.
pub fn delete_of(connection: &Connection, username: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM session WHERE username = ?1")?
        .execute([username])
        .map(|_| ())
}

/// Ends what was opened or last seen too long ago.
///
/// # Errors
/// SQLite's.
pub fn delete_expired(
    connection: &Connection,
    created_before: i64,
    seen_before: i64,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM session WHERE created_unix_ms < ?1 OR seen_unix_ms < ?2";
    connection
        .prepare_cached(sql)?
        .execute((created_before, seen_before))
        .map(|_| ())
}

/// Notes when a session was last seen.
///
/// # Errors
/// SQLite's.
pub fn touch(connection: &Connection, token_hash: &[u8; 32], seen: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE session SET seen_unix_ms = MAX(seen_unix_ms, ?2) WHERE token_hash = ?1";
    connection
        .prepare_cached(sql)?
        .execute((token_hash, seen))
        .map(|_| ())
}
