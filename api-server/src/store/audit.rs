//! The audit table.

use cell_api_core::audit::{Entry, GENESIS, Hash, Record};
use rusqlite::{Connection, OptionalExtension, Row};

const COLUMNS: &str =
    "sequence, time_unix_ms, actor, role, remote, action, subject, detail, previous_hash, hash";

/// Sequence and hash of the last record; 0 and [`GENESIS`] when there is none.
///
/// # Errors
/// SQLite's.
pub fn head(connection: &Connection) -> rusqlite::Result<(u64, Hash)> {
    let sql = "SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1";
    let head = connection
        .prepare_cached(sql)?
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(head.unwrap_or((0, GENESIS)))
}

/// Appends a record.
///
/// # Errors
/// SQLite's.
pub fn insert(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO audit ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    let Record {
        sequence,
        entry: e,
        previous_hash,
        hash,
    } = record;
    connection.prepare_cached(&sql)?.execute((
        sequence,
        e.time_unix_ms,
        &e.actor,
        &e.role,
        &e.remote,
        &e.action,
        &e.subject,
        &e.detail,
        previous_hash,
        hash,
    ))?;
    Ok(())
}

/// At most `limit` records from `from` on.
///
/// # Errors
/// SQLite's.
pub fn page(connection: &Connection, from: u64, limit: u32) -> rusqlite::Result<Vec<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM audit WHERE sequence >= ?1 ORDER BY sequence LIMIT ?2");
    connection
        .prepare_cached(&sql)?
        .query_map((from, limit), record)?
        .collect()
}

/// At most `limit` records from `from` back, the newest first.
///
/// # Errors
/// SQLite's.
pub fn page_back(connection: &Connection, from: u64, limit: u32) -> rusqlite::Result<Vec<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM audit WHERE sequence <= ?1 ORDER BY sequence DESC LIMIT ?2");
    connection
        .prepare_cached(&sql)?
        .query_map((from, limit), record)?
        .collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        sequence: row.get(0)?,
        entry: Entry {
            time_unix_ms: row.get(1)?,
            actor: row.get(2)?,
            role: row.get(3)?,
            remote: row.get(4)?,
            action: row.get(5)?,
            subject: row.get(6)?,
            detail: row.get(7)?,
        },
        previous_hash: row.get(8)?,
        hash: row.get(9)?,
    })
}
