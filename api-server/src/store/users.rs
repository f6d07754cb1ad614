//! The tables of users and of their failed logins.

use cell_api_core::lockout::Attempts;
use cell_api_core::name::Username;
use cell_api_core::role::Role;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::service::ServiceError;

/// Names with failed logins that are remembered; beyond it the oldest go.
const MAX_ATTEMPTS: u32 = 10_000;
const CORRUPT: ServiceError = ServiceError::Storage("a stored user is not one");

/// A user with the password's hash.
#[derive(Clone)]
pub struct StoredUser {
    /// The user's name.
    pub username: Username,
    /// The user's role.
    pub role: Role,
    /// Argon2id, PHC string.
    pub password_hash: String,
    /// Whether nothing else is answered until it is changed.
    pub must_change_password: bool,
}

/// One user.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn get(connection: &Connection, username: &str) -> Result<Option<StoredUser>, ServiceError> {
    let sql = "SELECT username, role, password_hash, must_change_password FROM user WHERE username = ?1";
    let raw = connection
        .prepare_cached(sql)?
        .query_row([username], read)
        .optional()?;
    raw.map(check).transpose()
}

/// All users with their failed logins, in the order of names.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(connection: &Connection) -> Result<Vec<(StoredUser, Attempts)>, ServiceError> {
    let sql = "SELECT u.username, role, password_hash, must_change_password, failures, locked_until_unix_ms
               FROM user u LEFT JOIN login_attempts a ON a.username = u.username ORDER BY u.username";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((), |row| {
        let attempts = Attempts {
            failures: row.get::<_, Option<u32>>(4)?.unwrap_or(0),
            locked_until: row.get(5)?,
        };
        Ok((read(row)?, attempts))
    })?;
    rows.map(|row| {
        row.map_err(ServiceError::from)
            .and_then(|(user, attempts)| Ok((check(user)?, attempts)))
    })
    .collect()
}

/// Whether there is any user at all.
///
/// # Errors
/// SQLite's.
pub fn any(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM user)")?
        .query_row((), |row| row.get(0))
}

/// Adds a user.
///
/// # Errors
/// [`ServiceError::UserExists`].
pub fn insert(connection: &Connection, user: &StoredUser, now: i64) -> Result<(), ServiceError> {
    let sql = "INSERT INTO user (username, role, password_hash, must_change_password, created_unix_ms)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = (
        user.username.as_str(),
        user.role.as_str(),
        &user.password_hash,
        user.must_change_password,
        now,
    );
    match connection.prepare_cached(sql)?.execute(values) {
        Err(rusqlite::Error::SqliteFailure(_, Some(text))) if text.contains("user.username") => {
            Err(ServiceError::UserExists)
        }
        done => Ok(done.map(|_| ())?),
    }
}

/// Sets a password; whether there is such a user.
///
/// # Errors
/// SQLite's.
pub fn set_password(
    connection: &Connection,
    username: &str,
    hash: &str,
    must_change: bool,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE user SET password_hash = ?2, must_change_password = ?3 WHERE username = ?1";
    Ok(connection
        .prepare_cached(sql)?
        .execute((username, hash, must_change))?
        == 1)
}

/// Removes a user and the user's sessions.
///
/// # Errors
/// [`ServiceError::NoUser`], [`ServiceError::LastAdmin`].
pub fn delete(connection: &Connection, username: &str) -> Result<(), ServiceError> {
    let sql = "DELETE FROM user WHERE username = ?1";
    if connection.prepare_cached(sql)?.execute([username])? == 0 {
        return Err(ServiceError::NoUser);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM user WHERE role = 'admin')";
    let admins: bool = connection.prepare_cached(sql)?.query_row((), |row| row.get(0))?;
    if admins {
        Ok(())
    } else {
        Err(ServiceError::LastAdmin)
    }
}

/// The failed logins of a name.
///
/// # Errors
/// SQLite's.
pub fn attempts(connection: &Connection, username: &str) -> rusqlite::Result<Attempts> {
    let sql = "SELECT failures, locked_until_unix_ms FROM login_attempts WHERE username = ?1";
    let read = |row: &Row<'_>| {
        Ok(Attempts {
            failures: row.get(0)?,
            locked_until: row.get(1)?,
        })
    };
    Ok(connection
        .prepare_cached(sql)?
        .query_row([username], read)
        .optional()?
        .unwrap_or_default())
}

/// Remembers the failed logins of a name.
///
/// # Errors
/// SQLite's.
pub fn set_attempts(
    connection: &Connection,
    username: &str,
    attempts: &Attempts,
    now: i64,
) -> rusqlite::Result<()> {
    let sql =
        "INSERT OR REPLACE INTO login_attempts (username, failures, locked_until_unix_ms, updated_unix_ms)
               VALUES (?1, ?2, ?3, ?4)";
    connection
        .prepare_cached(sql)?
        .execute((username, attempts.failures, attempts.locked_until, now))
        .map(|_| ())
}

/// Forgets the failed logins of the names that failed longest ago, beyond as many as are remembered. It walks all that
/// are, so it is for now and then.
///
/// # Errors
/// SQLite's.
pub fn prune_attempts(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "DELETE FROM login_attempts WHERE username IN
               (SELECT username FROM login_attempts ORDER BY updated_unix_ms DESC LIMIT -1 OFFSET ?1)";
    connection
        .prepare_cached(sql)?
        .execute([MAX_ATTEMPTS])
        .map(|_| ())
}

/// Forgets the failed logins of a name.
///
/// # Errors
/// SQLite's.
pub fn clear_attempts(connection: &Connection, username: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM login_attempts WHERE username = ?1")?
        .execute([username])
        .map(|_| ())
}

type Raw = (String, String, String, bool);

fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn check((username, role, password_hash, must_change_password): Raw) -> Result<StoredUser, ServiceError> {
    Ok(StoredUser {
        username: Username::parse(&username).map_err(|_| CORRUPT)?,
        role: Role::parse(&role).map_err(|_| CORRUPT)?,
        password_hash,
        must_change_password,
    })
}
