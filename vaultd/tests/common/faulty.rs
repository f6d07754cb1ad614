//! Files of which the n-th change fails, or is the last thing that the process does.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cell_vaultd::files::Files;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The n-th change fails, and everything after works: a full disk that is cleaned up.
    Once,
    /// The n-th change is done by half, and nothing after it is done: kill -9.
    Death,
}

pub struct FaultyFiles {
    inner: Arc<dyn Files>,
    fault: Fault,
    at: usize,
    changes: AtomicUsize,
}

impl FaultyFiles {
    /// Counts from 0; `usize::MAX` never comes.
    pub fn new(inner: Arc<dyn Files>, fault: Fault, at: usize) -> Arc<Self> {
        Arc::new(FaultyFiles {
            inner,
            fault,
            at,
            changes: AtomicUsize::new(0),
        })
    }

    /// Whether the fault came.
    pub fn struck(&self) -> bool {
        self.changes.load(Ordering::SeqCst) > self.at
    }

    fn change(&self, half: impl FnOnce(), whole: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let number = self.changes.fetch_add(1, Ordering::SeqCst);
        let hit = number == self.at;
        if hit {
            half();
        }
        if hit || (number > self.at && self.fault == Fault::Death) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        whole()
    }
}

impl Files for FaultyFiles {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(path, limit)
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.inner.read_at(path, offset, buffer)
    }

    fn list(&self, folder: &Path) -> io::Result<Option<Vec<String>>> {
        self.inner.list(folder)
    }

    fn create(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let half = || self.inner.create(path, &content[..content.len() / 2]).unwrap();
        self.change(half, || self.inner.create(path, content))
    }

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let half = || self.inner.append(path, &content[..content.len() / 2]).unwrap();
        self.change(half, || self.inner.append(path, content))
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        self.change(|| (), || self.inner.truncate(path, length))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.change(|| (), || self.inner.sync(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|| (), || self.inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|| (), || self.inner.remove(path))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change(|| (), || self.inner.make_folder(path))
    }
}
