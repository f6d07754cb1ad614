//! A file for what is secret.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::failure::Failure;

/// A file that did not exist before, readable by its owner alone; removed again unless it is written.
pub(super) struct NewFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl NewFile {
    pub(super) fn create(path: PathBuf) -> Result<Self, Failure> {
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(|error| {
            Failure::Local(format!(
                "cannot write {}: {error}; nothing was added",
                path.display()
            ))
        })?;
        Ok(NewFile {
            path,
            file,
            written: false,
        })
    }

    pub(super) fn write(mut self, text: &str) -> Result<PathBuf, Failure> {
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_all());
        written.map_err(|error| {
            let path = self.path.display();
            Failure::Local(format!(
                "the peer was added, but {path} cannot be written: {error}; remove the peer and add it again"
            ))
        })?;
        self.written = true;
        Ok(self.path.clone())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
