//! The sealed store: one file for each item and one index, which is replaced as a whole.
//!
//! A change writes the item's new file under a name that was never used, makes it durable, and then renames a new index
//! over the old one. That rename is the change: a crash before it leaves a file that no index names, and a crash after it
//! leaves one that no index names any more; both are removed at the next start. See rename(2), fsync(2).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cell_vaultd_core::index::{ChangeRefused, Entry, Index};
use cell_vaultd_core::{ItemName, Timestamp, padding, sealed};
use zeroize::Zeroizing;

use crate::files::Files;
use crate::keyring::{Keyring, OpenError, SealError};

const INDEX: &str = "index";
const INDEX_FILE: &str = "index.sealed";
const INDEX_DRAFT: &str = "index.draft";
/// Largest sealed file, bytes.
const FILE_MAX: u64 = sealed::VALUE_MAX as u64 + 1024;

/// The items of one vault.
pub struct Store {
    files: Arc<dyn Files>,
    folder: PathBuf,
    keyring: Arc<Keyring>,
    index: Index,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// By its rules.
    #[error(transparent)]
    Refused(#[from] ChangeRefused),
    /// A value that is empty or too long. Callers are told before.
    #[error("a value must have 1 to {} bytes", padding::VALUE_MAX)]
    Length,
    /// A file is missing, changed or misplaced.
    #[error("{name}: {source}")]
    Damaged {
        /// Which file.
        name: String,
        /// How.
        source: Damage,
    },
    /// A file operation failed; nothing changed.
    #[error("{step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The new index is in place, and whether it would survive a loss of power is not known.
    #[error("the change was made, and may be undone by a loss of power: {0}")]
    Unsettled(#[source] io::Error),
    /// No randomness.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The index names it and it is not there.
    #[error("the file is missing")]
    Missing,
    /// It cannot be opened.
    #[error(transparent)]
    Sealed(#[from] OpenError),
    /// It was sealed by this vault and does not hold what it should.
    #[error("the content is not what this version writes")]
    Content,
}

impl Store {
    /// A new, empty store in `folder`, which must be there and empty. Durable when the folder is.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create(
        files: Arc<dyn Files>,
        folder: PathBuf,
        keyring: Arc<Keyring>,
    ) -> Result<Store, StoreError> {
        let mut store = Store {
            files,
            folder,
            keyring,
            index: Index::default(),
        };
        store.replace_index(Index::default())?;
        Ok(store)
    }

    /// The store in `folder`, without what an interrupted change left behind.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the index is, [`StoreError::Io`].
    pub fn open(files: Arc<dyn Files>, folder: PathBuf, keyring: Arc<Keyring>) -> Result<Store, StoreError> {
        let damaged = |source: Damage| StoreError::Damaged {
            name: INDEX_FILE.to_owned(),
            source,
        };
        let bytes = files
            .read(&folder.join(INDEX_FILE), FILE_MAX)
            .map_err(|source| StoreError::Io {
                step: "read the index",
                source,
            })?
            .ok_or_else(|| damaged(Damage::Missing))?;
        let (generation, plain) = keyring
            .unseal_latest(INDEX, &bytes)
            .map_err(|error| damaged(error.into()))?;
        let index = std::str::from_utf8(&plain)
            .ok()
            .and_then(|text| Index::decode(text).ok())
            .filter(|index| index.generation == generation)
            .ok_or_else(|| damaged(Damage::Content))?;
        let store = Store {
            files,
            folder,
            keyring,
            index,
        };
        store.sweep();
        Ok(store)
    }

    /// What there is.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The items whose files cannot be opened, with what is wrong.
    pub fn damaged(&self) -> Vec<(ItemName, String)> {
        let check = |name: &ItemName| {
            self.read(name)
                .err()
                .map(|error| (name.clone(), error.to_string()))
        };
        self.index.items.keys().filter_map(check).collect()
    }

    /// The value of an item; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn read(&self, name: &ItemName) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let Some(entry) = self.index.items.get(name) else {
            return Ok(None);
        };
        let damaged = |source| StoreError::Damaged {
            name: name.to_string(),
            source,
        };
        let file = self
            .files
            .read(&self.folder.join(name.file_name(entry.generation)), FILE_MAX)
            .map_err(|source| StoreError::Io {
                step: "read an item",
                source,
            })?
            .ok_or_else(|| damaged(Damage::Missing))?;
        let padded = self
            .keyring
            .unseal(&name.to_string(), entry.version, entry.generation, &file)
            .map_err(|error| damaged(error.into()))?;
        let value = padding::unpad(&padded).map_err(|_| damaged(Damage::Content))?;
        Ok(Some(Zeroizing::new(value.to_vec())))
    }

    /// [`Store::write_of`] no revision.
    ///
    /// # Errors
    /// See there.
    pub fn write(
        &mut self,
        name: &ItemName,
        value: &[u8],
        expected: u64,
        secrets_max: u32,
        now: Timestamp,
    ) -> Result<Entry, StoreError> {
        self.write_of(name, value, expected, 0, secrets_max, now)
    }

    /// Writes an item whose version is `expected` (0: there is none), of a revision ([`Entry::revision`]).
    ///
    /// # Errors
    /// See [`StoreError`]; nothing has changed unless it is [`StoreError::Unsettled`].
    pub fn write_of(
        &mut self,
        name: &ItemName,
        value: &[u8],
        expected: u64,
        revision: u64,
        secrets_max: u32,
        now: Timestamp,
    ) -> Result<Entry, StoreError> {
        let mut padded = Zeroizing::new(Vec::new());
        if value.is_empty() || !padding::pad(value, &mut padded) {
            return Err(StoreError::Length);
        }
        let size = sealed::sealed_length(&name.to_string(), padded.len()) as u64;
        let replaced = self.index.items.get(name).copied();
        let (next, entry) = self
            .index
            .with_written_of(name, expected, revision, secrets_max, size, now)?;
        let file = self
            .keyring
            .seal(&name.to_string(), entry.version, entry.generation, padded)?;
        let path = self.folder.join(name.file_name(entry.generation));
        let written = self
            .write_durably(&path, &file)
            .and_then(|()| self.replace_index(next));
        match written {
            Ok(()) => self.discard(name, replaced),
            // No index names it.
            Err(StoreError::Io { .. } | StoreError::Seal(_)) => self.remove_quietly(&path),
            // The old file stays until the next start: a loss of power may bring the old index back.
            Err(_) => {}
        }
        written.map(|()| entry)
    }

    /// Removes an item whose version is `expected`.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing has changed unless it is [`StoreError::Unsettled`].
    pub fn remove(&mut self, name: &ItemName, expected: u64) -> Result<(), StoreError> {
        let (next, entry) = self.index.with_removed(name, expected)?;
        self.replace_index(next)?;
        self.discard(name, Some(entry));
        Ok(())
    }

    fn write_durably(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let step = |step| move |source| StoreError::Io { step, source };
        self.files
            .remove(path)
            .map_err(step("clear the way for a file"))?;
        self.files.create(path, content).map_err(step("write a file"))?;
        self.files.sync(path).map_err(step("sync a file"))?;
        self.files.sync(&self.folder).map_err(step("sync the folder"))
    }

    fn replace_index(&mut self, next: Index) -> Result<(), StoreError> {
        let plain = Zeroizing::new(next.encode().into_bytes());
        let sealed = self
            .keyring
            .seal(INDEX, next.generation, next.generation, plain)?;
        let draft = self.folder.join(INDEX_DRAFT);
        let step = |step| move |source| StoreError::Io { step, source };
        self.files
            .remove(&draft)
            .map_err(step("clear the way for the index"))?;
        self.files
            .create(&draft, &sealed)
            .map_err(step("write the index"))?;
        self.files.sync(&draft).map_err(step("sync the index"))?;
        self.files
            .rename(&draft, &self.folder.join(INDEX_FILE))
            .map_err(step("replace the index"))?;
        self.index = next;
        self.files.sync(&self.folder).map_err(StoreError::Unsettled)
    }

    fn discard(&self, name: &ItemName, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.remove_quietly(&self.folder.join(name.file_name(entry.generation)));
        }
    }

    /// Removes what no index names.
    fn sweep(&self) {
        let named: BTreeSet<String> = self
            .index
            .items
            .iter()
            .map(|(name, entry)| name.file_name(entry.generation))
            .collect();
        let present = self.files.list(&self.folder).ok().flatten().unwrap_or_default();
        for file in present {
            let item = file.ends_with(".sealed") && file != INDEX_FILE && !named.contains(&file);
            if item || file == INDEX_DRAFT {
                self.remove_quietly(&self.folder.join(&file));
            }
        }
    }

    /// For files that mean nothing; what stays is removed at the next start.
    fn remove_quietly(&self, path: &Path) {
        if let Err(error) = self.files.remove(path) {
            tracing::warn!(path = %path.display(), %error, "a file that is no longer needed could not be removed");
        }
    }
}
