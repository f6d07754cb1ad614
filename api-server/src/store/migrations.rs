//! Schema migrations: frozen SQL files, each applied once and checked for ever.

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

/// All migrations, in order; their number is their place, from 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_initial.sql"),
    include_str!("../../migrations/0002_addresses_rest.sql"),
    include_str!("../../migrations/0003_connections.sql"),
    include_str!("../../migrations/0004_peer_exits.sql"),
    include_str!("../../migrations/0005_waiting_change.sql"),
    include_str!("../../migrations/0006_dns_upstreams.sql"),
    include_str!("../../migrations/0007_first_version.sql"),
    include_str!("../../migrations/0008_service_networks.sql"),
    include_str!("../../migrations/0009_services.sql"),
    include_str!("../../migrations/0010_accounts.sql"),
    include_str!("../../migrations/0011_managers.sql"),
    include_str!("../../migrations/0012_certificates_and_fallbacks.sql"),
    include_str!("../../migrations/0013_remote_catalogs.sql"),
    include_str!("../../migrations/0014_service_secrets.sql"),
    include_str!("../../migrations/0015_domain.sql"),
    include_str!("../../migrations/0016_what_worked.sql"),
    include_str!("../../migrations/0017_image_signatures.sql"),
    include_str!("../../migrations/0018_secret_revisions.sql"),
];

/// A schema that this version cannot use.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A file that is applied already has another text now.
    #[error("migration {0} was applied with another text: the files are frozen")]
    Altered(usize),
    /// The database was written by a later version.
    #[error("it was written by a later version (migration {found}, this version knows {known})")]
    TooNew {
        /// Highest number in the database.
        found: usize,
        /// Highest number known.
        known: usize,
    },
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Applies what is missing, each file in one transaction.
///
/// # Errors
/// [`MigrationError`]; nothing is half applied.
pub fn apply(connection: &mut Connection, now: i64) -> Result<(), MigrationError> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, sha256 BLOB NOT NULL,
            applied_unix_ms INTEGER NOT NULL) STRICT",
    )?;
    let found: usize = connection.query_row("SELECT COALESCE(MAX(number), 0) FROM migration", (), |row| {
        row.get(0)
    })?;
    if found > MIGRATIONS.len() {
        return Err(MigrationError::TooNew {
            found,
            known: MIGRATIONS.len(),
        });
    }
    for (number, sql) in (1..).zip(MIGRATIONS) {
        apply_one(connection, number, sql, now)?;
    }
    Ok(())
}

fn apply_one(connection: &mut Connection, number: usize, sql: &str, now: i64) -> Result<(), MigrationError> {
    let hash = Sha256::digest(sql).to_vec();
    let transaction = connection.transaction()?;
    let query = "SELECT sha256 FROM migration WHERE number = ?1";
    let known: Option<Vec<u8>> = transaction
        .query_row(query, [number], |row| row.get(0))
        .optional()?;
    match known {
        Some(known) if known == hash => return Ok(()),
        Some(_) => return Err(MigrationError::Altered(number)),
        None => {}
    }
    transaction.execute_batch(sql)?;
    transaction.execute("INSERT INTO migration VALUES (?1, ?2, ?3)", (number, hash, now))?;
    Ok(transaction.commit()?)
}
