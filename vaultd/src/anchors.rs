//! The heads of the API's audit chain on disk, where the API cannot rewrite them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cell_vaultd_core::Timestamp;
use cell_vaultd_core::anchors::{self, Anchor, Anchors, Damaged, NotNewer};

use crate::files::Files;
use crate::keyring::Keyring;

/// The file's name in the vault's folder.
pub const FILE: &str = "anchors";
/// Most anchors in one answer.
pub const LIST_MAX: usize = 1_000;
/// Largest file that is read at start, bytes: some thirteen million anchors.
const FILE_MAX: u64 = 1024 * 1024 * 1024;

/// An open file of anchors.
pub struct AnchorFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    keyring: Arc<Keyring>,
    anchors: Anchors,
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

/// Why a file of anchors was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenAnchorsError {
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
        let anchors = Anchors {
            anchors: Vec::new(),
            head: [0; 32],
            whole: anchors::MAGIC.len(),
        };
        Ok(AnchorFile {
            files,
            path,
            keyring,
            anchors,
            broken: false,
        })
    }

    /// The file at `path`, checked to the last record, without the torn end of one that was never acknowledged.
    ///
    /// # Errors
    /// See [`OpenAnchorsError`].
    pub fn open(
        files: Arc<dyn Files>,
        path: PathBuf,
        keyring: Arc<Keyring>,
    ) -> Result<AnchorFile, OpenAnchorsError> {
        let bytes = files.read(&path, FILE_MAX)?.ok_or(Damaged::Magic)?;
        let anchors = anchors::parse(&bytes, |previous, body| keyring.anchor_mac(previous, body))?;
        if anchors.whole < bytes.len() {
            tracing::warn!(
                bytes = bytes.len() - anchors.whole,
                "the anchors end in a torn record, which is cut off"
            );
            files.truncate(&path, anchors.whole as u64)?;
            files.sync(&path)?;
        }
        Ok(AnchorFile {
            files,
            path,
            keyring,
            anchors,
            broken: false,
        })
    }

    /// The anchors from a sequence on, at most [`LIST_MAX`].
    pub fn list(&self, from: u64) -> &[Anchor] {
        let all = &self.anchors.anchors;
        let start = all.partition_point(|anchor| anchor.sequence < from);
        &all[start..all.len().min(start + LIST_MAX)]
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
            self.anchors.check_next(sequence)
        }
    }

    fn repeats_last(&self, sequence: u64, hash: &[u8; 32]) -> Option<Anchor> {
        self.anchors
            .anchors
            .last()
            .filter(|last| last.sequence == sequence && last.hash == *hash)
            .copied()
    }

    /// Writes an anchor, on the disk when this returns.
    ///
    /// # Errors
    /// See [`AnchorError`].
    pub fn append(&mut self, sequence: u64, hash: [u8; 32], now: Timestamp) -> Result<Anchor, AnchorError> {
        if let Some(last) = self.repeats_last(sequence, &hash) {
            return Ok(last);
        }
        self.anchors.check_next(sequence)?;
        if self.broken {
            return Err(AnchorError::Broken);
        }
        let anchor = Anchor {
            sequence,
            hash,
            anchored: now,
        };
        let body = anchor.body();
        let head = self.keyring.anchor_mac(&self.anchors.head, &body);
        if let Err(error) = self.files.append(&self.path, &[&body[..], &head].concat()) {
            self.broken = self
                .files
                .truncate(&self.path, self.anchors.whole as u64)
                .is_err();
            return Err(error.into());
        }
        if let Err(error) = self.files.sync(&self.path) {
            self.broken = true;
            return Err(error.into());
        }
        self.anchors.anchors.push(anchor);
        self.anchors.head = head;
        self.anchors.whole += anchors::RECORD_BYTES;
        Ok(anchor)
    }
}
