//! The file operations that the vault is made of, one trait method a step, so that tests can fail or stop it at each of
//! them.
//!
//! Paths are relative to the state folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// One step each. Nothing here is durable before [`Files::sync`] of the file and of the folder that names it.
pub trait Files: Send + Sync {
    /// The content of a file, `None` if it is not there.
    ///
    /// # Errors
    /// `FileTooLarge` when it has more than `limit` bytes; what the kernel answers.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// Fills `buffer` with what a file has from `offset` on; how many bytes that were, fewer than asked at the end of the
    /// file alone. `None` if it is not there.
    ///
    /// # Errors
    /// What the kernel answers.
    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>>;
    /// The names in a folder in order, `None` if it is not there.
    ///
    /// # Errors
    /// What the kernel answers.
    fn list(&self, folder: &Path) -> io::Result<Option<Vec<String>>>;
    /// Makes a file of mode 0600 that is not there yet and writes it.
    ///
    /// # Errors
    /// What the kernel answers; the file can be there in part then.
    fn create(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Writes at the end of a file.
    ///
    /// # Errors
    /// What the kernel answers; part of it can be written then.
    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Cuts a file off.
    ///
    /// # Errors
    /// What the kernel answers.
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()>;
    /// Waits until a file's content, or a folder's names, are on the disk (fsync(2)).
    ///
    /// # Errors
    /// What the kernel answers; what is on the disk is not known then.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or folder another name, in one step, replacing a file of that name (rename(2)).
    ///
    /// # Errors
    /// What the kernel answers.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; it need not be there.
    ///
    /// # Errors
    /// What the kernel answers.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder of mode 0700 that is not there yet.
    ///
    /// # Errors
    /// What the kernel answers.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
}

/// Bytes that are looked at at a time of a file of any length.
const PIECE: usize = 64 * 1024;

/// Hands the whole of a file on in pieces, in memory that does not depend on its length; how many bytes it has, `None` if
/// it is not there.
///
/// # Errors
/// What the kernel answers, or what `take` does.
pub fn scan<E: From<io::Error>>(
    files: &dyn Files,
    path: &Path,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Option<u64>, E> {
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        match files.read_at(path, offset, &mut piece)? {
            None => return Ok(None),
            Some(0) => return Ok(Some(offset)),
            Some(length) => {
                take(&piece[..length])?;
                offset += length as u64;
            }
        }
    }
}

/// The state folder on the disk.
#[derive(Debug)]
pub struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// The folder at `root`, which must be there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        StateFolder { root: root.into() }
    }
}

impl Files for StateFolder {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match open(OpenOptions::new().read(true), &self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(content))
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let file = match open(OpenOptions::new().read(true), &self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(filled))
    }

    fn list(&self, folder: &Path) -> io::Result<Option<Vec<String>>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()?;
        names.sort();
        Ok(Some(names))
    }

    fn create(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        open(
            OpenOptions::new().write(true).create_new(true).mode(0o600),
            &self.root.join(path),
        )?
        .write_all(content)
    }

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        open(OpenOptions::new().append(true), &self.root.join(path))?.write_all(content)
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        open(OpenOptions::new().write(true), &self.root.join(path))?.set_len(length)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(self.root.join(path))?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(self.root.join(path))
    }
}

/// Never through a symbolic link: the folder is ours alone, so a link in it is not of our making.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(path)
}
