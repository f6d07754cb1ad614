//! The access log on disk: a record is on the disk before what it tells of is carried out. When it cannot be written,
//! nothing is carried out.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cell_vaultd_core::access_log::{self, Damaged, Record, Tail};

use crate::files::Files;
use crate::keyring::Keyring;

/// The file's name in the vault's folder.
pub const FILE: &str = "access.log";
/// Largest log that is read at start, bytes: some ten million requests. Whoever keeps more moves the file away first.
const FILE_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// An open access log.
pub struct AccessLog {
    files: Arc<dyn Files>,
    path: PathBuf,
    keyring: Arc<Keyring>,
    tail: Tail,
    broken: bool,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The kernel refused; nothing was recorded.
    #[error("the access log cannot be written: {0}")]
    Io(#[from] io::Error),
    /// An earlier failure left the end of the file unknown; a new start looks at it again.
    #[error("the access log could not be written before; restart vaultd when the disk is well")]
    Broken,
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// It was changed.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AccessLog {
    /// A new log at `path`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn create(files: Arc<dyn Files>, path: PathBuf, keyring: Arc<Keyring>) -> io::Result<AccessLog> {
        files.create(&path, access_log::HEADER.as_bytes())?;
        files.sync(&path)?;
        let tail = Tail {
            records: 0,
            generation: 0,
            head: [0; 32],
            whole: access_log::HEADER.len(),
        };
        Ok(AccessLog {
            files,
            path,
            keyring,
            tail,
            broken: false,
        })
    }

    /// The log at `path`, checked from the first line to the last, without the torn end of a record that was never
    /// acknowledged.
    ///
    /// # Errors
    /// See [`OpenLogError`].
    pub fn open(
        files: Arc<dyn Files>,
        path: PathBuf,
        keyring: Arc<Keyring>,
    ) -> Result<AccessLog, OpenLogError> {
        let bytes = files.read(&path, FILE_MAX)?.ok_or(Damaged::Header)?;
        let tail = access_log::check(&bytes, |previous, body| keyring.log_mac(previous, body))?;
        if tail.whole < bytes.len() {
            tracing::warn!(
                bytes = bytes.len() - tail.whole,
                "the access log ends in a torn record, which is cut off"
            );
            files.truncate(&path, tail.whole as u64)?;
            files.sync(&path)?;
        }
        Ok(AccessLog {
            files,
            path,
            keyring,
            tail,
            broken: false,
        })
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.tail.records
    }

    /// The vault's generation that the last record names.
    pub fn generation(&self) -> u64 {
        self.tail.generation
    }

    /// Writes a record, on the disk when this returns. Its number is filled in.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn append(&mut self, mut record: Record) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        record.number = self.tail.records + 1;
        let body = record.to_string();
        let head = self.keyring.log_mac(&self.tail.head, body.as_bytes());
        let line = access_log::line(&body, &head);
        if let Err(error) = self.files.append(&self.path, line.as_bytes()) {
            self.cut();
            return Err(error.into());
        }
        if let Err(error) = self.files.sync(&self.path) {
            // After a failed fsync(2) the kernel may have dropped the pages: only reading the file again tells.
            self.broken = true;
            return Err(error.into());
        }
        let whole = self.tail.whole + line.len();
        self.tail = Tail {
            records: record.number,
            generation: record.generation,
            head,
            whole,
        };
        Ok(())
    }

    /// Takes back what a failed write left, so that the next record follows a whole one.
    fn cut(&mut self) {
        let cut = self.files.truncate(&self.path, self.tail.whole as u64);
        self.broken = cut.is_err();
    }
}
