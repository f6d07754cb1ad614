//! CoreDNS' folder: what is in it is there whole, whenever it is read and whatever ends this process.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cell_api_core::derive::corefile::{self, COREFILE, CorefileSettings, is_ours, serial_of};
use cell_api_core::derive::zones::next_serial;
use cell_api_core::published::Published;

/// CoreDNS is another user, and may read.
const MODE: u32 = 0o644;
/// How a file is called until it is whole. One name: nobody else writes here.
const UNFINISHED: &str = ".unfinished";

/// See the module.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file.
    #[error("{name} in the folder of CoreDNS (core_dns_dir in api.toml) cannot be written: {source}")]
    Write {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The folder.
    #[error("the folder of CoreDNS (core_dns_dir in api.toml) cannot be read: {0}")]
    Folder(io::Error),
    /// The work was broken off.
    #[error("writing ended before its end")]
    Ended,
}

impl Folder {
    /// The folder at a path. It is there, and this process may write in it.
    pub fn new(path: &Path) -> Self {
        Folder(path.to_owned())
    }

    /// Puts what is published there: zones first, then the configuration that names them, then away with what no configuration
    /// names any more. The serial grows, also over a start. What is there already stays as it is.
    ///
    /// # Errors
    /// [`FolderError`]; then the former configuration and its zones are there.
    pub fn publish(
        &self,
        published: &Published,
        settings: &CorefileSettings<'_>,
        now_unix_seconds: i64,
    ) -> Result<(), FolderError> {
        let last = fs::read_to_string(self.0.join(COREFILE))
            .ok()
            .as_deref()
            .and_then(serial_of);
        if let Some(last) = last
            && self.has(&corefile::files(published, settings, last))
        {
            return Ok(());
        }
        let files = corefile::files(published, settings, next_serial(last, now_unix_seconds));
        for (name, text) in &files {
            let failed = |source| FolderError::Write {
                name: name.clone(),
                source,
            };
            if name == COREFILE {
                // The zones are there before what names them is, also when the power goes.
                self.settle().map_err(FolderError::Folder)?;
            }
            self.put(name, text).map_err(failed)?;
        }
        self.settle().map_err(FolderError::Folder)?;
        let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        self.remove_all_but(&names).map_err(FolderError::Folder)
    }

    fn has(&self, files: &[(String, String)]) -> bool {
        let same = |(name, text): &(String, String)| {
            fs::read(self.0.join(name)).is_ok_and(|bytes| bytes == text.as_bytes())
        };
        files.iter().all(same)
    }

    fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let unfinished = self.0.join(UNFINISHED);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = File::create_new(&unfinished)?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(unfinished, self.0.join(name))
    }

    /// Names are on disk.
    fn settle(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn remove_all_but(&self, names: &BTreeSet<&str>) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_ours(name) && !names.contains(name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
