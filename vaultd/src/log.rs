//! The access log on disk: a record is on the disk before what it tells of is carried out. When it cannot be written,
//! nothing is carried out.
//!
//! It is a row of files of bounded length, checked at start in the memory of one line and bounded together, so that no
//! caller can fill the disk or the memory with records.

mod row;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cell_vaultd_core::access_log::{self, Damaged, Link, Reader, Record, Tail};

use crate::files::{self, Files};
use crate::keyring::Keyring;

pub use row::{DAMAGED, set_aside};

/// The name of the file that is written to, in the vault's folder. Closed ones have a number more.
pub const FILE: &str = "access.log";

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length at which a file is closed and the next begun, bytes.
    pub file_bytes: u64,
    /// How many closed files are kept; the oldest goes when there is one more.
    pub closed_files: usize,
}

/// Half a gigabyte: years of a cell at rest, three days of a caller that asks for all it may. With more closed files than
/// now, a log that lost its oldest under the old count would look as if they had been taken away.
pub const LIMITS: Limits = Limits {
    file_bytes: 8 * 1024 * 1024,
    closed_files: 63,
};

/// An open access log.
pub struct AccessLog {
    files: Arc<dyn Files>,
    folder: PathBuf,
    keyring: Arc<Keyring>,
    limits: Limits,
    /// Numbers of the closed files, in order.
    closed: Vec<u64>,
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
    /// A new log in `folder`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn create(
        files: Arc<dyn Files>,
        folder: PathBuf,
        keyring: Arc<Keyring>,
        limits: Limits,
    ) -> io::Result<AccessLog> {
        let path = folder.join(FILE);
        files.create(&path, access_log::HEADER.as_bytes())?;
        files.sync(&path)?;
        Ok(AccessLog {
            files,
            folder,
            keyring,
            limits,
            closed: Vec::new(),
            tail: Tail::empty(),
            broken: false,
        })
    }

    /// The log in `folder`, checked from the first line that is kept to the last, without the torn end of a record that was
    /// never acknowledged.
    ///
    /// # Errors
    /// See [`OpenLogError`].
    pub fn open(
        files: Arc<dyn Files>,
        folder: PathBuf,
        keyring: Arc<Keyring>,
        limits: Limits,
    ) -> Result<AccessLog, OpenLogError> {
        row::settle(&*files, &folder)?;
        let closed = row::closed(&*files, &folder)?;
        row::check_complete(&closed, limits)?;
        let mut before = None;
        for number in &closed {
            let path = folder.join(row::closed_name(*number));
            let (tail, length) = read(&*files, &keyring, &path, before.as_ref(), *number)?;
            if tail.whole != length {
                return Err(Damaged::File(*number).into());
            }
            before = Some(tail.link());
        }
        let path = folder.join(FILE);
        let number = closed.last().map_or(1, |last| last + 1);
        let (tail, length) = read(&*files, &keyring, &path, before.as_ref(), number)?;
        if tail.whole < length {
            tracing::warn!(
                bytes = length - tail.whole,
                "the access log ends in a torn record, which is cut off"
            );
            files.truncate(&path, tail.whole)?;
            files.sync(&path)?;
        }
        Ok(AccessLog {
            files,
            folder,
            keyring,
            limits,
            closed,
            tail,
            broken: false,
        })
    }

    /// How many records there were, those of files that are gone included.
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
        if self.tail.whole >= self.limits.file_bytes {
            self.begin_next_file()?;
        }
        record.number = self.tail.records + 1;
        let body = record.to_string();
        let head = self.keyring.log_mac(&self.tail.head, body.as_bytes());
        let line = access_log::line(&body, &head);
        let path = self.folder.join(FILE);
        if let Err(error) = self.files.append(&path, line.as_bytes()) {
            // What a failed write left is taken back, so that the next record follows a whole one.
            self.broken = self.files.truncate(&path, self.tail.whole).is_err();
            return Err(error.into());
        }
        if let Err(error) = self.files.sync(&path) {
            // After a failed fsync(2) the kernel may have dropped the pages: only reading the file again tells.
            self.broken = true;
            return Err(error.into());
        }
        self.tail = Tail {
            records: record.number,
            generation: record.generation,
            head,
            whole: self.tail.whole + line.len() as u64,
        };
        Ok(())
    }

    /// Closes the file and begins the next. It is written beside before the old one gives up its name, so that a log whose
    /// file is missing is never what a crash left.
    fn begin_next_file(&mut self) -> Result<(), LogError> {
        let (header, tail) = access_log::header_after(&self.tail.link(), |before, body| {
            self.keyring.log_mac(before, body)
        });
        let number = self.closed.last().map_or(1, |last| last + 1);
        row::prepare_next(&*self.files, &self.folder, &header)?;
        // From here on only a new start knows how far a failure got.
        self.broken = true;
        row::advance(&*self.files, &self.folder, number)?;
        self.broken = false;
        self.closed.push(number);
        self.tail = tail;
        while self.closed.len() > self.limits.closed_files {
            let oldest = self.folder.join(row::closed_name(self.closed[0]));
            if let Err(error) = self.files.remove(&oldest) {
                tracing::warn!(%error, "the oldest file of the access log cannot be removed");
                break;
            }
            self.closed.remove(0);
        }
        Ok(())
    }
}

/// The end and the length of one file, which must go on from `before`. The first that is kept may go on from one that is
/// gone: whether it may be gone was asked before.
fn read(
    files: &dyn Files,
    keyring: &Keyring,
    path: &Path,
    before: Option<&Link>,
    number: u64,
) -> Result<(Tail, u64), OpenLogError> {
    let mut reader = Reader::new(|previous: &[u8; 32], body: &[u8]| keyring.log_mac(previous, body));
    let length = files::scan(files, path, |piece| -> Result<(), OpenLogError> {
        Ok(reader.feed(piece)?)
    })?
    .ok_or(Damaged::Header)?;
    let read = reader.finish()?;
    let follows = match before {
        Some(link) => read.after == Some(*link),
        None => read.after.is_none() == (number == 1),
    };
    if !follows {
        return Err(Damaged::File(number).into());
    }
    Ok((read.tail, length))
}
