//! The heads of the API's audit chain on disk, where the API cannot rewrite them. Only the last one is kept in memory,
//! however many there are; the others are read, and proved, when they are asked for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cell_vaultd_core::Timestamp;
use cell_vaultd_core::anchors::{self, Anchor, Damaged, NotNewer, RECORD_BYTES, Reader, Tail};

use crate::files::{self, Files};
use crate::keyring::Keyring;

/// The file's name in the vault's folder.
pub const FILE: &str = "anchors";
/// Most anchors in one answer.
pub const LIST_MAX: usize = 1_000;

/// An open file of anchors.
pub struct AnchorFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    keyring: Arc<Keyring>,
    tail: Tail,
    broken: bool,
}

/// Why an anchor was not written.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// It does not follow the last one.
    #[error(transparent)]
    NotNewer(#[from] NotNewer),
    /// The kernel refused; nothing was written.
    #[error("the anchors cannot be written: {0}")]
    Io(#[from] io::Error),
    /// An earlier failure left the end of the file unknown.
    #[error("the anchors could not be written before; restart vaultd when the disk is well")]
    Broken,
}

/// Why a file of anchors was not opened, or not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadAnchorsError {
    /// It was changed.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AnchorFile {
    /// A new file at `path`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn create(files: Arc<dyn Files>, path: PathBuf, keyring: Arc<Keyring>) -> io::Result<AnchorFile> {
        files.create(&path, anchors::MAGIC)?;
        files.sync(&path)?;
        Ok(AnchorFile {
            files,
            path,
            keyring,
            tail: Tail::empty(),
            broken: false,
        })
    }

    /// The file at `path`, checked to the last record, without the torn end of one that was never acknowledged.
    ///
    /// # Errors
    /// See [`ReadAnchorsError`].
    pub fn open(
        files: Arc<dyn Files>,
        path: PathBuf,
        keyring: Arc<Keyring>,
    ) -> Result<AnchorFile, ReadAnchorsError> {
        let mut reader = Reader::new(|previous: &[u8; 32], body: &[u8]| keyring.anchor_mac(previous, body));
        let length = files::scan(&*files, &path, |piece| -> Result<(), ReadAnchorsError> {
            Ok(reader.feed(piece)?)
        })?
        .ok_or(Damaged::Magic)?;
        let tail = reader.finish()?;
        if tail.whole() < length {
            tracing::warn!(
                bytes = length - tail.whole(),
                "the anchors end in a torn record, which is cut off"
            );
            files.truncate(&path, tail.whole())?;
            files.sync(&path)?;
        }
        Ok(AnchorFile {
            files,
            path,
            keyring,
            tail,
            broken: false,
        })
    }

    /// The anchors from a sequence on, at most [`LIST_MAX`].
    ///
    /// # Errors
    /// See [`ReadAnchorsError`].
    pub fn list(&self, from: u64) -> Result<Vec<Anchor>, ReadAnchorsError> {
        let (mut low, mut high) = (0, self.tail.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let anchor = self.place_after(middle + 1)?.last;
            if anchor.is_some_and(|anchor| anchor.sequence < from) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.page(low)
    }

    /// The anchors after the first `count`, each proved by the one before and by its own MAC.
    fn page(&self, count: u64) -> Result<Vec<Anchor>, ReadAnchorsError> {
        let length = (self.tail.count - count).min(LIST_MAX as u64) as usize;
        let mut bytes = vec![0; length * RECORD_BYTES];
        self.fill(count, &mut bytes)?;
        let mut place = self.place_after(count)?;
        let mut anchors = Vec::with_capacity(length);
        let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
        for record in records {
            place = place.follow(record, |previous, body| self.keyring.anchor_mac(previous, body))?;
            anchors.extend(place.last);
        }
        Ok(anchors)
    }

    fn place_after(&self, count: u64) -> Result<Tail, ReadAnchorsError> {
        let Some(before) = count.checked_sub(1) else {
            return Ok(Tail::empty());
        };
        let mut record = [0; RECORD_BYTES];
        self.fill(before, &mut record)?;
        Ok(Tail::after(count, &record))
    }

    /// Reads records after the first `count`. The file is ours alone: one that is shorter now was changed.
    fn fill(&self, count: u64, buffer: &mut [u8]) -> Result<(), ReadAnchorsError> {
        let read = self.files.read_at(&self.path, anchors::offset(count), buffer)?;
        if read != Some(buffer.len()) {
            return Err(Damaged::Record(count + 1).into());
        }
        Ok(())
    }

    /// Whether an anchor would be taken: one that is newer, or the last one once more, since the API may have missed the
    /// answer.
    ///
    /// # Errors
    /// When it does not follow the last one.
    pub fn check(&self, sequence: u64, hash: &[u8; 32]) -> Result<(), NotNewer> {
        if self.repeats_last(sequence, hash).is_some() {
            Ok(())
        } else {
            self.tail.check_next(sequence)
        }
    }

    fn repeats_last(&self, sequence: u64, hash: &[u8; 32]) -> Option<Anchor> {
        self.tail
            .last
            .filter(|last| last.sequence == sequence && last.hash == *hash)
    }

    /// Writes an anchor, on the disk when this returns.
    ///
    /// # Errors
    /// See [`AnchorError`].
    pub fn append(&mut self, sequence: u64, hash: [u8; 32], now: Timestamp) -> Result<Anchor, AnchorError> {
        if let Some(last) = self.repeats_last(sequence, &hash) {
            return Ok(last);
        }
        self.tail.check_next(sequence)?;
        if self.broken {
            return Err(AnchorError::Broken);
        }
        let anchor = Anchor {
            sequence,
            hash,
            anchored: now,
        };
        let body = anchor.body();
        let head = self.keyring.anchor_mac(&self.tail.head, &body);
        if let Err(error) = self.files.append(&self.path, &[&body[..], &head].concat()) {
            self.broken = self.files.truncate(&self.path, self.tail.whole()).is_err();
            return Err(error.into());
        }
        if let Err(error) = self.files.sync(&self.path) {
            self.broken = true;
            return Err(error.into());
        }
        self.tail = Tail {
            count: self.tail.count + 1,
            last: Some(anchor),
            head,
        };
        Ok(anchor)
    }
}
