//! The tables of the first run and of the cell that it makes.

use std::collections::BTreeMap;

use cell_api_core::derive::dns::Upstreams;
use cell_api_core::domain::{Domain, DomainFields};
use cell_api_core::name::{CellName, EndpointHost};
use cell_api_core::range::{self, VpnRange};
use cell_api_core::setup::{Progress, Step};
use rusqlite::{Connection, OptionalExtension};

use crate::service::ServiceError;
use crate::service::cell::CellIdentity;

const CORRUPT: ServiceError = ServiceError::Storage("the stored cell is not one");

/// A checked answer: its fields, and the hash of a password for the admin step.
#[derive(Default)]
pub struct StoredAnswer {
    /// Fields without secrets.
    pub values: BTreeMap<String, String>,
    /// Argon2id, PHC string.
    pub password_hash: Option<String>,
}

/// How the first run stands.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn progress(connection: &Connection) -> Result<Progress, ServiceError> {
    let complete = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM cell)")?
        .query_row((), |row| row.get(0))?;
    let mut statement = connection.prepare_cached("SELECT step FROM setup_step")?;
    let steps = statement
        .query_map((), |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    let answered = if complete {
        Step::ALL.into_iter().collect()
    } else {
        steps
            .iter()
            .map(|step| Step::parse(step).ok_or(CORRUPT))
            .collect::<Result<_, _>>()?
    };
    Ok(Progress { complete, answered })
}

/// The hash of the claim token.
///
/// # Errors
/// SQLite's.
pub fn claim_hash(connection: &Connection) -> rusqlite::Result<Option<[u8; 32]>> {
    connection
        .prepare_cached("SELECT token_hash FROM claim")?
        .query_row((), |row| row.get(0))
        .optional()
}

/// Replaces the claim token.
///
/// # Errors
/// SQLite's.
pub fn set_claim_hash(connection: &Connection, hash: &[u8; 32]) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO claim (one, token_hash) VALUES (1, ?1)";
    connection.execute(sql, [hash]).map(|_| ())
}

/// The answer of a step.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn answer(connection: &Connection, step: Step) -> Result<Option<StoredAnswer>, ServiceError> {
    let sql = "SELECT values_json, password_hash FROM setup_step WHERE step = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
    let Some((json, password_hash)) = connection
        .prepare_cached(sql)?
        .query_row([step.as_str()], read)
        .optional()?
    else {
        return Ok(None);
    };
    let values = serde_json::from_str(&json).map_err(|_| CORRUPT)?;
    Ok(Some(StoredAnswer {
        values,
        password_hash,
    }))
}

/// Stores the answer of a step in place of the one before.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn set_answer(connection: &Connection, step: Step, answer: &StoredAnswer) -> Result<(), ServiceError> {
    let json = serde_json::to_string(&answer.values).map_err(|_| CORRUPT)?;
    let sql = "INSERT OR REPLACE INTO setup_step (step, values_json, password_hash) VALUES (?1, ?2, ?3)";
    connection
        .prepare_cached(sql)?
        .execute((step.as_str(), json, &answer.password_hash))?;
    Ok(())
}

/// Makes the cell and forgets the first run.
///
/// # Errors
/// SQLite's.
pub fn insert_cell(connection: &Connection, cell: &CellIdentity, now: i64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO cell (one, cell_name, domain_mode, vpn_range_ipv4, vpn_range_ipv6, endpoint_host, created_unix_ms)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
        (
            cell.cell_name.as_str(),
            cell.domain.mode(),
            cell.range.v4().to_string(),
            cell.range.v6().to_string(),
            cell.endpoint_host.as_ref().map(ToString::to_string),
            now,
        ),
    )?;
    connection.execute_batch("DELETE FROM setup_step; DELETE FROM claim;")
}

/// Sets where devices connect to.
///
/// # Errors
/// SQLite's.
pub fn set_endpoint_host(connection: &Connection, host: Option<&EndpointHost>) -> rusqlite::Result<()> {
    let host = host.map(ToString::to_string);
    connection
        .execute("UPDATE cell SET endpoint_host = ?1", [host])
        .map(|_| ())
}

/// Sets which resolvers the cell asks; `None`: the default ones.
///
/// # Errors
/// SQLite's.
pub fn set_dns_upstreams(connection: &Connection, upstreams: Option<&Upstreams>) -> rusqlite::Result<()> {
    let upstreams = upstreams.map(ToString::to_string);
    connection
        .execute("UPDATE cell SET dns_upstreams = ?1", [upstreams])
        .map(|_| ())
}

/// Sets under which domain services are found.
///
/// # Errors
/// SQLite's.
pub fn set_domain(connection: &Connection, domain: &Domain) -> rusqlite::Result<()> {
    let DomainFields {
        mode,
        domain,
        email,
        provider,
        server,
        tsig_name,
        tsig_algorithm,
        acme_directory,
        acme_authority,
    } = domain.fields();
    let sql = "UPDATE cell SET domain_mode = ?1, public_domain = ?2, acme_email = ?3, dns_provider = ?4, dns_server = ?5,
         tsig_name = ?6, tsig_algorithm = ?7, acme_directory = ?8, acme_authority = ?9";
    let values = (
        mode,
        domain,
        email,
        provider,
        server,
        tsig_name,
        tsig_algorithm,
        acme_directory,
        acme_authority,
    );
    connection.execute(sql, values).map(|_| ())
}

/// Under which domain services are found.
fn domain(connection: &Connection) -> Result<Domain, ServiceError> {
    let sql =
        "SELECT domain_mode, public_domain, acme_email, dns_provider, dns_server, tsig_name, tsig_algorithm,
         acme_directory, acme_authority FROM cell";
    let fields = connection.query_row(sql, (), |row| {
        Ok(DomainFields {
            mode: row.get(0)?,
            domain: row.get(1)?,
            email: row.get(2)?,
            provider: row.get(3)?,
            server: row.get(4)?,
            tsig_name: row.get(5)?,
            tsig_algorithm: row.get(6)?,
            acme_directory: row.get(7)?,
            acme_authority: row.get(8)?,
        })
    })?;
    Domain::check(&fields).map_err(|_| CORRUPT)
}

/// The cell; `None` until setup is complete.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn cell(connection: &Connection) -> Result<Option<CellIdentity>, ServiceError> {
    let sql = "SELECT cell_name, vpn_range_ipv4, vpn_range_ipv6, endpoint_host, dns_upstreams FROM cell";
    let read = |row: &rusqlite::Row<'_>| {
        let text = |index| row.get::<_, String>(index);
        Ok((
            text(0)?,
            text(1)?,
            text(2)?,
            row.get::<_, Option<String>>(3)?,
            row.get::<_, Option<String>>(4)?,
        ))
    };
    let Some((name, v4, v6, endpoint, upstreams)) = connection.query_row(sql, (), read).optional()? else {
        return Ok(None);
    };
    let v4 = range::parse_v4(&v4).map_err(|_| CORRUPT)?;
    let v6 = range::parse_v6(&v6).map_err(|_| CORRUPT)?;
    Ok(Some(CellIdentity {
        cell_name: CellName::parse(&name).map_err(|_| CORRUPT)?,
        domain: domain(connection)?,
        range: VpnRange::new(v4, v6).map_err(|_| CORRUPT)?,
        endpoint_host: endpoint
            .map(|host| EndpointHost::parse(&host))
            .transpose()
            .map_err(|_| CORRUPT)?,
        dns_upstreams: Upstreams::parse(upstreams.iter().flat_map(|text| text.split(' ')))
            .map_err(|_| CORRUPT)?,
    }))
}
