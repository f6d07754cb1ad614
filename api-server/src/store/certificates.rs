//! The tables of services' certificates: which were issued, and who was given one. No key is in them.

use std::collections::BTreeMap;

use cell_api_core::certificates::{Kept, Names};
use rusqlite::Connection;

/// Those that have not ended at `now`, by the SHA-256 of the certificate.
///
/// # Errors
/// SQLite's.
pub fn issued(connection: &Connection, now: i64) -> rusqlite::Result<BTreeMap<[u8; 32], Kept>> {
    let sql = "SELECT sha256, names, not_before_unix_ms, not_after_unix_ms FROM issued_certificate \
               WHERE not_after_unix_ms > ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([now], |row| {
        let names: String = row.get(1)?;
        let kept = Kept {
            names: names.split(' ').map(str::to_owned).collect(),
            not_before: row.get(2)?,
            not_after: row.get(3)?,
        };
        Ok((row.get(0)?, kept))
    })?;
    rows.collect()
}

/// Writes one down, and forgets those that have ended at `now`.
///
/// # Errors
/// SQLite's.
pub fn note_issued(
    connection: &Connection,
    sha256: &[u8; 32],
    kept: &Kept,
    now: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM issued_certificate WHERE not_after_unix_ms <= ?1")?
        .execute([now])?;
    let sql = "INSERT OR REPLACE INTO issued_certificate VALUES (?1, ?2, ?3, ?4)";
    let Kept {
        names,
        not_before,
        not_after,
    } = kept;
    connection
        .prepare_cached(sql)?
        .execute((sha256, joined(names), not_before, not_after))
        .map(drop)
}

/// A DNS name has no space.
fn joined(names: &Names) -> String {
    names.join(" ")
}

/// Who was given one, and when another is due: by service.
///
/// # Errors
/// SQLite's.
pub fn given(connection: &Connection) -> rusqlite::Result<BTreeMap<String, ([u8; 32], i64)>> {
    let sql = "SELECT service, recipient, renew_at_unix_ms FROM given_certificate";
    connection
        .prepare_cached(sql)?
        .query_map((), |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect()
}

/// Notes that a service was given one. Of a service that is gone nothing is noted.
///
/// # Errors
/// SQLite's.
pub fn note_given(
    connection: &Connection,
    service: &str,
    recipient: &[u8; 32],
    renew_at: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO given_certificate SELECT name, ?2, ?3 FROM service WHERE name = ?1";
    connection
        .prepare_cached(sql)?
        .execute((service, recipient, renew_at))
        .map(drop)
}

/// A service is to be given one anew.
///
/// # Errors
/// SQLite's.
pub fn forget_given(connection: &Connection, service: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM given_certificate WHERE service = ?1")?
        .execute([service])
        .map(drop)
}
