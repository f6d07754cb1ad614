//! Names of secrets that vaultd may have of a service. Values are vaultd's alone.

use std::collections::BTreeSet;

use cell_manifest::SecretName;
use rusqlite::Connection;

/// Writes down that vaultd may have these.
///
/// # Errors
/// SQLite's, also for a service that is not there.
pub fn note_secrets<'a>(
    connection: &Connection,
    service: &str,
    names: impl IntoIterator<Item = &'a SecretName>,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO service_secret (service, name) VALUES (?1, ?2)";
    for name in names {
        connection
            .prepare_cached(sql)?
            .execute((service, name.as_str()))?;
    }
    Ok(())
}

/// All that vaultd may have of a service.
///
/// # Errors
/// SQLite's.
pub fn noted_secrets(connection: &Connection, service: &str) -> rusqlite::Result<BTreeSet<String>> {
    let sql = "SELECT name FROM service_secret WHERE service = ?1";
    connection
        .prepare_cached(sql)?
        .query_map([service], |row| row.get(0))?
        .collect()
}
