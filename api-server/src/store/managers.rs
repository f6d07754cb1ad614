//! The tables of what managers look at: how services were, and what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use cell_api_core::services::health::{Alert, HISTORY_MAX, State, Transition};
use rusqlite::{Connection, OptionalExtension};

use super::transaction::Tx;
use crate::service::ServiceError;

/// A transition of a service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthEntry {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub at: i64,
    /// How it was from then on.
    pub state: String,
    /// For people.
    pub detail: String,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAlert {
    /// Its number.
    pub id: u64,
    /// The service.
    pub service: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub since: i64,
    /// `critical` or `warning`.
    pub severity: String,
    /// For people.
    pub text: String,
    /// Whether somebody has seen it.
    pub acknowledged: bool,
}

/// How a service was, the last first.
///
/// # Errors
/// SQLite's.
pub fn history(connection: &Connection, service: &str) -> rusqlite::Result<Vec<HealthEntry>> {
    let sql = "SELECT at_unix_ms, state, detail FROM service_health WHERE service = ?1 ORDER BY id DESC";
    connection
        .prepare_cached(sql)?
        .query_map([service], |row| {
            Ok(HealthEntry {
                at: row.get(0)?,
                state: row.get(1)?,
                detail: row.get(2)?,
            })
        })?
        .collect()
}

/// How each service was last, and since when.
///
/// # Errors
/// SQLite's.
pub fn last(connection: &Connection) -> rusqlite::Result<BTreeMap<String, (String, i64)>> {
    let sql = "SELECT service, state, at_unix_ms FROM service_health WHERE id IN \
               (SELECT MAX(id) FROM service_health GROUP BY service)";
    connection
        .prepare_cached(sql)?
        .query_map((), |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect()
}

/// Writes a transition down, and forgets the oldest beyond as many as are kept. A service that is gone has none.
///
/// # Errors
/// SQLite's.
pub fn note(
    connection: &Connection,
    service: &str,
    transition: &Transition,
    now: i64,
) -> rusqlite::Result<()> {
    let Transition { state, detail } = transition;
    let sql = "INSERT INTO service_health (service, at_unix_ms, state, detail) \
               SELECT name, ?2, ?3, ?4 FROM service WHERE name = ?1";
    let values = (service, now, State::as_str(*state), detail);
    connection.prepare_cached(sql)?.execute(values)?;
    let sql = "DELETE FROM service_health WHERE service = ?1 AND id NOT IN \
               (SELECT id FROM service_health WHERE service = ?1 ORDER BY id DESC LIMIT ?2)";
    connection
        .prepare_cached(sql)?
        .execute((service, HISTORY_MAX))
        .map(drop)
}

/// All that is wrong, the oldest first.
///
/// # Errors
/// SQLite's.
pub fn alerts(connection: &Connection) -> rusqlite::Result<Vec<StoredAlert>> {
    let sql = "SELECT id, service, since_unix_ms, severity, text, acknowledged FROM alert ORDER BY id";
    connection
        .prepare_cached(sql)?
        .query_map((), |row| {
            Ok(StoredAlert {
                id: row.get(0)?,
                service: row.get(1)?,
                since: row.get(2)?,
                severity: row.get(3)?,
                text: row.get(4)?,
                acknowledged: row.get(5)?,
            })
        })?
        .collect()
}

/// Makes what is told what is due; whether that is another than before. What stays keeps its number and its time, and as long as it
/// says the same whether somebody has seen it.
///
/// # Errors
/// SQLite's.
pub fn set_alerts(connection: &Connection, due: &[Alert], now: i64) -> Result<bool, ServiceError> {
    let mut statement = connection.prepare_cached("SELECT service, kind FROM alert")?;
    let is = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<BTreeSet<(String, String)>>>()?;
    let mut is_news = false;
    for over in cell_api_core::services::health::changes(&is, due) {
        let sql = "DELETE FROM alert WHERE service = ?1 AND kind = ?2";
        connection.prepare_cached(sql)?.execute((&over.0, &over.1))?;
        is_news = true;
    }
    for alert in due {
        let sql = "INSERT INTO alert (service, kind, since_unix_ms, severity, text, acknowledged) \
                   VALUES (?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT (service, kind) DO UPDATE \
                   SET severity = excluded.severity, text = excluded.text, acknowledged = 0 \
                   WHERE severity != excluded.severity OR text != excluded.text";
        let values = (
            &alert.service,
            alert.kind.as_str(),
            now,
            alert.severity.as_str(),
            &alert.text,
        );
        is_news |= connection.prepare_cached(sql)?.execute(values)? > 0;
    }
    Ok(is_news)
}

/// Notes that somebody has seen an alert; the service that it is of.
///
/// # Errors
/// [`ServiceError::NoAlert`].
pub fn acknowledge(tx: &mut Tx<'_>, id: u64) -> Result<String, ServiceError> {
    let id = i64::try_from(id).map_err(|_| ServiceError::NoAlert)?;
    tx.prepare_cached("UPDATE alert SET acknowledged = 1 WHERE id = ?1 RETURNING service")?
        .query_row([id], |row| row.get(0))
        .optional()?
        .ok_or(ServiceError::NoAlert)
}

/// What CoreDNS logs.
///
/// # Errors
/// SQLite's.
pub fn query_log(connection: &Connection) -> rusqlite::Result<String> {
    connection
        .prepare_cached("SELECT level FROM query_log")?
        .query_row((), |row| row.get(0))
}

/// Says what CoreDNS logs.
///
/// # Errors
/// SQLite's.
pub fn set_query_log(connection: &Connection, level: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE query_log SET level = ?1")?
        .execute([level])
        .map(drop)
}
