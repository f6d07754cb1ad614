//! The cell's state in SQLite: one thread writes, everybody reads.
//!
//! A mutation is one transaction that holds the new state, its audit record and the next generation; what follows from
//! it (netd, sessions, events, anchors) is handed on in commit order, after the commit and never without it.

pub mod migrations;
pub mod transaction;

pub mod accounts;
pub mod audit;
pub mod certificates;
pub mod connections;
pub mod first_version;
pub mod managers;
pub mod peers;
pub mod remote_catalogs;
pub mod service_networks;
pub mod services;
pub mod sessions;
pub mod setup;
pub mod users;
pub mod waiting;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

pub use transaction::{Effects, Tx};

use crate::service::ServiceError;
use transaction::Origin;

/// Jobs that may wait for the writer; more callers wait in turn.
const QUEUE: usize = 256;

/// Connections that are kept open for readers. Each may hold some MiB of cached pages; a crowd gets more and they close.
const READERS_KEPT: usize = 8;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;
/// Where the effects of a commit go. Called on the writer's thread, in commit order.
pub type Sink = Arc<dyn Fn(Effects) + Send + Sync>;

/// A failing open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite refused.
    #[error("the database {path} cannot be opened")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The schema is not one that this version knows.
    #[error("the database {path} cannot be used")]
    Migration {
        /// The file.
        path: PathBuf,
        /// Why.
        source: migrations::MigrationError,
    },
}

/// The database.
pub struct Store {
    path: PathBuf,
    writer: mpsc::Sender<Job>,
    readers: Mutex<Vec<Connection>>,
    sink: Sink,
}

impl Store {
    /// Opens or makes the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, now: i64, sink: Sink) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(sqlite)?;
        configure(&connection).map_err(sqlite)?;
        migrations::apply(&mut connection, now).map_err(|source| OpenError::Migration {
            path: path.to_owned(),
            source,
        })?;
        let (writer, jobs) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(connection, jobs))
            .map_err(|e| sqlite(rusqlite::Error::ToSqlConversionFailure(Box::new(e))))?;
        Ok(Store {
            path: path.to_owned(),
            writer,
            readers: Mutex::new(Vec::new()),
            sink,
        })
    }

    /// Reads on the caller's thread. For lookups by key; for whole tables see [`Store::read_much`].
    ///
    /// # Errors
    /// What `read` says, or [`ServiceError::Storage`].
    pub fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = kept.map_or_else(|| reader(&self.path), Ok)?;
        let value = read(&connection);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_KEPT {
            readers.push(connection);
        }
        value
    }

    /// Reads off the async threads, in one consistent snapshot.
    ///
    /// # Errors
    /// What `read` says, or [`ServiceError::Storage`].
    pub async fn read_much<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let store = Arc::clone(self);
        let snapshot = move |connection: &Connection| {
            let transaction = connection.unchecked_transaction()?;
            read(&transaction)
        };
        tokio::task::spawn_blocking(move || store.read(snapshot))
            .await
            .unwrap_or(Err(ServiceError::Storage("a read was cut off")))
    }

    /// Changes the state in one transaction with its audit records. Returns after the commit.
    ///
    /// # Errors
    /// What `change` says, and then nothing is changed; or [`ServiceError::Storage`].
    pub async fn mutate<T: Send + 'static>(
        &self,
        origin: Origin,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.commit(origin, change).await.map(|(value, _)| value)
    }

    /// As [`Store::mutate`], with the generation of the network that the commit made; 0 if it left the network alone.
    ///
    /// # Errors
    /// As [`Store::mutate`].
    pub async fn commit<T: Send + 'static>(
        &self,
        origin: Origin,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<(T, u64), ServiceError> {
        let sink = Arc::clone(&self.sink);
        self.on_writer(move |connection| {
            let (value, effects) = transaction::run(connection, origin, change)?;
            let generation = effects.generation.unwrap_or(0);
            sink(effects);
            Ok((value, generation))
        })
        .await
    }

    /// As [`Store::mutate`], and takes all of it back: nothing is written, nobody is told.
    ///
    /// # Errors
    /// What [`Store::mutate`] would say.
    pub async fn try_out<T: Send + 'static>(
        &self,
        origin: Origin,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.on_writer(move |connection| transaction::try_out(connection, origin, change))
            .await
    }

    /// Writes what is nobody's act and needs no audit record, such as when a session was last seen.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub async fn note(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), ServiceError> {
        self.on_writer(move |connection| write(connection).map_err(ServiceError::from))
            .await
    }

    /// As [`Store::note`], but whole or not at all, and with an answer.
    ///
    /// # Errors
    /// What `write` says, and then nothing is written; or [`ServiceError::Storage`].
    pub async fn jot<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.on_writer(move |connection| {
            let transaction = connection.transaction()?;
            let value = write(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    async fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Whoever asked may have gone; the work is done all the same.
            let _ = answer.send(work(connection));
        });
        self.writer
            .send(job)
            .await
            .map_err(|_| ServiceError::Storage("the writer has ended"))?;
        answered
            .await
            .unwrap_or(Err(ServiceError::Storage("the writer has ended")))
    }
}

impl Origin {
    /// Where a mutation comes from and when.
    pub fn new(actor: &crate::service::Actor, now: i64) -> Self {
        Origin {
            actor: actor.clone(),
            now,
        }
    }
}

fn run(mut connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        job(&mut connection);
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: the write-ahead log is on the disk before a commit returns, so that an acknowledged write survives.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

fn reader(path: &Path) -> Result<Connection, ServiceError> {
    // Read-write, because a reader of a write-ahead log needs its shared memory; query_only keeps it a reader.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "query_only", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
