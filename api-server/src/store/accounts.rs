//! The table of accounts that devices' owners have at services.

use cell_api_core::services::accounts::{Stands, User};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::service::ServiceError;

const CORRUPT: ServiceError = ServiceError::Storage("a stored account is not one");

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAccount {
    /// Of this service.
    pub service: String,
    /// What it is called.
    pub user: User,
    /// Whose it is; none: of no device that is there.
    pub peer: Option<String>,
    /// Where it stands.
    pub stands: Stands,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub created_unix_ms: i64,
}

const COLUMNS: &str = "service, user, peer, state, created_unix_ms";

/// All accounts, in the order of services and users.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(connection: &Connection) -> Result<Vec<StoredAccount>, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM account ORDER BY service, user");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map((), raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(account).collect()
}

/// Those of one service, in the order of users.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn of_service(connection: &Connection, service: &str) -> Result<Vec<StoredAccount>, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM account WHERE service = ?1 ORDER BY user");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement
        .query_map([service], raw)?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(account).collect()
}

/// Those of one device, in the order of services and users.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn of_peer(connection: &Connection, peer: &str) -> Result<Vec<StoredAccount>, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM account WHERE peer = ?1 ORDER BY service, user");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([peer], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(account).collect()
}

/// One account.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn find(
    connection: &Connection,
    service: &str,
    user: &str,
) -> Result<Option<StoredAccount>, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM account WHERE service = ?1 AND user = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let row = statement.query_row((service, user), raw).optional()?;
    row.map(account).transpose()
}

/// How many there are.
///
/// # Errors
/// SQLite's.
pub fn count(connection: &Connection) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("SELECT COUNT(*) FROM account")?
        .query_row((), |row| row.get(0))
}

/// Writes one down.
///
/// # Errors
/// SQLite's.
pub fn insert(connection: &Connection, account: &StoredAccount) -> rusqlite::Result<()> {
    let StoredAccount {
        service,
        user,
        peer,
        stands,
        created_unix_ms,
    } = account;
    let sql = "INSERT INTO account (service, user, peer, state, created_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection
        .prepare_cached(sql)?
        .execute((service, user.as_str(), peer, stands.word(), created_unix_ms))
        .map(drop)
}

/// Says where one stands.
///
/// # Errors
/// SQLite's.
pub fn set_stands(
    connection: &Connection,
    service: &str,
    user: &User,
    stands: Stands,
) -> rusqlite::Result<()> {
    let sql = "UPDATE account SET state = ?3 WHERE service = ?1 AND user = ?2";
    connection
        .prepare_cached(sql)?
        .execute((service, user.as_str(), stands.word()))
        .map(drop)
}

/// Says that all of a device's accounts are to go; how many they are.
///
/// # Errors
/// SQLite's.
pub fn remove_with_peer(connection: &Connection, peer: &str) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("UPDATE account SET state = 'removing' WHERE peer = ?1")?
        .execute([peer])
}

/// Forgets one.
///
/// # Errors
/// SQLite's.
pub fn forget(connection: &Connection, service: &str, user: &User) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM account WHERE service = ?1 AND user = ?2")?
        .execute((service, user.as_str()))
        .map(drop)
}

/// Forgets all of a service whose data is gone.
///
/// # Errors
/// SQLite's.
pub fn forget_service(connection: &Connection, service: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM account WHERE service = ?1")?
        .execute([service])
        .map(drop)
}

type Raw = (String, String, Option<String>, String, i64);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn account((service, user, peer, state, created_unix_ms): Raw) -> Result<StoredAccount, ServiceError> {
    Ok(StoredAccount {
        user: User::parse(&user).map_err(|_| CORRUPT)?,
        stands: Stands::from_word(&state).ok_or(CORRUPT)?,
        service,
        peer,
        created_unix_ms,
    })
}
