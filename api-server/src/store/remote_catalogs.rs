//! The tables of remote catalogs. There are few; what they hold is read when it has changed.

use std::collections::{BTreeMap, BTreeSet};

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::services::remote::{self, CatalogUrl, Kept, RemoteIndex};
use cell_manifest::Key;
use rusqlite::{Connection, OptionalExtension, Row};

use super::transaction::Tx;
use crate::service::ServiceError;

const COLUMNS: &str =
    "id, name, url, keys, ca, connection, serial, index_json, etag, refreshed_unix_ms, error";
const CORRUPT: ServiceError = ServiceError::Storage("a stored remote catalog is not one");

/// A remote catalog as stored, without what it has.
#[derive(Debug, Clone)]
pub struct StoredCatalog {
    /// Its number, in the order of addition.
    pub id: i64,
    /// What it is called.
    pub name: String,
    /// Where it lies.
    pub url: CatalogUrl,
    /// Who may sign its index.
    pub keys: Vec<Key>,
    /// Authorities of its server in PEM; empty: those of the system.
    pub ca: String,
    /// What carries it; none: the cell's own way.
    pub connection: Option<ConnectionId>,
    /// The index that is kept; none: none was taken yet.
    pub index: Option<RemoteIndex>,
    /// What the server called that; empty: nothing.
    pub etag: String,
    /// When it was last asked and answered soundly, milliseconds since 1970-01-01T00:00:00Z; 0: never.
    pub refreshed: i64,
    /// Why the last look failed; empty: it did not.
    pub error: String,
}

impl StoredCatalog {
    /// What another index is held against.
    pub fn kept(&self) -> Option<Kept> {
        self.index.as_ref().map(|index| Kept {
            serial: index.serial,
            digest: index.digest.to_string(),
        })
    }
}

/// What a new one is made of.
#[derive(Debug, Clone)]
pub struct NewCatalog {
    /// See [`StoredCatalog`], as the next four.
    pub name: String,
    /// Where it lies.
    pub url: CatalogUrl,
    /// Who may sign its index.
    pub keys: Vec<Key>,
    /// Authorities of its server.
    pub ca: String,
    /// What carries it.
    pub connection: Option<ConnectionId>,
}

/// A manifest as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Base64 of the signature over them.
    pub signature: String,
}

/// What a look at a server came to.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The index's bytes, if it is another.
    pub index: Option<(Vec<u8>, u64)>,
    /// What the server calls it.
    pub etag: String,
    /// Manifests that were not there, by digest.
    pub manifests: BTreeMap<String, Fetched>,
    /// All digests that the index names: others are forgotten.
    pub named: BTreeSet<String>,
    /// When, milliseconds since 1970-01-01T00:00:00Z.
    pub at: i64,
    /// What of it is wrong, though it was taken; empty: nothing.
    pub error: String,
}

/// All of them, in the order in which they were added.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(connection: &Connection) -> Result<Vec<StoredCatalog>, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM remote_catalog ORDER BY id");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement
        .query_map((), Raw::read)?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(Raw::into_catalog).collect()
}

/// One of them.
///
/// # Errors
/// [`ServiceError::NoRemoteCatalog`], [`ServiceError::Storage`].
pub fn get(connection: &Connection, name: &str) -> Result<StoredCatalog, ServiceError> {
    let sql = format!("SELECT {COLUMNS} FROM remote_catalog WHERE name = ?1");
    let raw = connection
        .prepare_cached(&sql)?
        .query_row([name], Raw::read)
        .optional()?;
    raw.ok_or(ServiceError::NoRemoteCatalog)?.into_catalog()
}

/// Where those lie that go by the cell's own way.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn direct(connection: &Connection) -> Result<Vec<CatalogUrl>, ServiceError> {
    let sql = "SELECT url FROM remote_catalog WHERE connection IS NULL ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map((), |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    let url = |text: String| CatalogUrl::parse(&text).map_err(|_| CORRUPT);
    rows.into_iter().map(url).collect()
}

/// Names of catalogs that a connection carries, at most so many.
///
/// # Errors
/// SQLite's.
pub fn users(connection: &Connection, id: &ConnectionId, most: usize) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM remote_catalog WHERE connection = ?1 ORDER BY 1 LIMIT ?2";
    connection
        .prepare_cached(sql)?
        .query_map((id.to_string(), most), |row| row.get(0))?
        .collect()
}

/// The manifests that one has, by digest.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn manifests(connection: &Connection, id: i64) -> Result<BTreeMap<String, Fetched>, ServiceError> {
    let sql = "SELECT digest, bytes, signature FROM remote_manifest WHERE catalog = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| {
        let fetched = Fetched {
            bytes: row.get(1)?,
            signature: row.get(2)?,
        };
        Ok((row.get(0)?, fetched))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The digests of the manifests that one has.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn digests(connection: &Connection, id: i64) -> Result<BTreeSet<String>, ServiceError> {
    let sql = "SELECT digest FROM remote_manifest WHERE catalog = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds one.
///
/// # Errors
/// [`ServiceError::RemoteCatalogExists`], [`ServiceError::TooManyRemoteCatalogs`], [`ServiceError::Storage`].
pub fn add(tx: &mut Tx<'_>, new: &NewCatalog) -> Result<(), ServiceError> {
    let NewCatalog {
        name,
        url,
        keys,
        ca,
        connection,
    } = new;
    let url = url.to_string();
    let sql = "SELECT EXISTS (SELECT 1 FROM remote_catalog WHERE name = ?1 OR url = ?2)";
    if tx
        .prepare_cached(sql)?
        .query_row((name, &url), |row| row.get(0))?
    {
        return Err(ServiceError::RemoteCatalogExists);
    }
    let count: usize = tx.query_row("SELECT COUNT(*) FROM remote_catalog", (), |row| row.get(0))?;
    if count >= remote::CATALOGS_MAX {
        return Err(ServiceError::TooManyRemoteCatalogs);
    }
    let keys: String = keys.iter().map(Key::to_pem).collect();
    let by = connection.as_ref().map(ConnectionId::to_string);
    let sql = "INSERT INTO remote_catalog (name, url, keys, ca, connection, serial, index_json, etag, \
               refreshed_unix_ms, error) VALUES (?1, ?2, ?3, ?4, ?5, 0, x'', '', 0, '')";
    tx.prepare_cached(sql)?.execute((name, url, keys, ca, by))?;
    Ok(())
}

/// Removes one, with what it had.
///
/// # Errors
/// [`ServiceError::NoRemoteCatalog`], [`ServiceError::Storage`].
pub fn remove(tx: &mut Tx<'_>, name: &str) -> Result<(), ServiceError> {
    let sql = "DELETE FROM remote_catalog WHERE name = ?1";
    match tx.prepare_cached(sql)?.execute([name])? {
        0 => Err(ServiceError::NoRemoteCatalog),
        _ => Ok(()),
    }
}

/// Writes down why a look failed. What it had stays.
///
/// # Errors
/// SQLite's.
pub fn note_error(connection: &Connection, id: i64, error: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE remote_catalog SET error = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((id, error)).map(drop)
}

/// Takes what was found, in one step, unless the catalog is gone or has a later index meanwhile. Whether it was taken.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn take(connection: &Connection, id: i64, found: &Found) -> Result<bool, ServiceError> {
    let sql = "SELECT serial FROM remote_catalog WHERE id = ?1";
    let kept: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(kept) = kept else { return Ok(false) };
    if let Some((bytes, serial)) = &found.index {
        let serial = i64::try_from(*serial).map_err(|_| CORRUPT)?;
        if serial < kept {
            return Ok(false);
        }
        let sql = "UPDATE remote_catalog SET serial = ?2, index_json = ?3 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute((id, serial, bytes))?;
    }
    let sql = "UPDATE remote_catalog SET etag = ?2, refreshed_unix_ms = ?3, error = ?4 WHERE id = ?1";
    let values = (id, &found.etag, found.at, &found.error);
    connection.prepare_cached(sql)?.execute(values)?;
    for (digest, Fetched { bytes, signature }) in &found.manifests {
        let sql = "INSERT OR REPLACE INTO remote_manifest (catalog, digest, bytes, signature) VALUES (?1, ?2, ?3, ?4)";
        let values = (id, digest, bytes, signature);
        connection.prepare_cached(sql)?.execute(values)?;
    }
    for digest in digests(connection, id)?.difference(&found.named) {
        let sql = "DELETE FROM remote_manifest WHERE catalog = ?1 AND digest = ?2";
        connection.prepare_cached(sql)?.execute((id, digest))?;
    }
    Ok(true)
}

struct Raw {
    id: i64,
    name: String,
    url: String,
    keys: String,
    ca: String,
    connection: Option<String>,
    serial: i64,
    index_json: Vec<u8>,
    etag: String,
    refreshed: i64,
    error: String,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
        Ok(Raw {
            id: row.get(0)?,
            name: row.get(1)?,
            url: row.get(2)?,
            keys: row.get(3)?,
            ca: row.get(4)?,
            connection: row.get(5)?,
            serial: row.get(6)?,
            index_json: row.get(7)?,
            etag: row.get(8)?,
            refreshed: row.get(9)?,
            error: row.get(10)?,
        })
    }

    fn into_catalog(self) -> Result<StoredCatalog, ServiceError> {
        let connection = self.connection.map(|id| ConnectionId::parse(&id)).transpose();
        let index = match self.serial {
            0 => None,
            _ => Some(RemoteIndex::parse(&self.index_json).map_err(|_| CORRUPT)?),
        };
        Ok(StoredCatalog {
            id: self.id,
            name: self.name,
            url: CatalogUrl::parse(&self.url).map_err(|_| CORRUPT)?,
            keys: remote::keys(&[self.keys]).map_err(|_| CORRUPT)?,
            ca: self.ca,
            connection: connection.map_err(|_| CORRUPT)?,
            index,
            etag: self.etag,
            refreshed: self.refreshed,
            error: self.error,
        })
    }
}
