//! `cellctl service backup`: what a service keeps, as the broker has encrypted it, into a file.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cell_proto::api::v1 as wire;
use serde::Serialize;

use crate::failure::Failure;
use crate::installed::Client;
use crate::output::Output;

/// How often it is shown how much has come.
const SHOW_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize)]
struct Saved {
    service: String,
    file: PathBuf,
    bytes: u64,
}

/// Reads a backup to its end, and only then gives the file its name.
pub(crate) async fn save(
    client: &mut Client,
    output: Output,
    service: String,
    to: Option<PathBuf>,
) -> Result<(), Failure> {
    let request = wire::ReadServiceBackupRequest {
        service: service.clone(),
    };
    let mut pieces = client.read_service_backup(request).await?.into_inner();
    let first = pieces.message().await?.unwrap_or_default();
    let file = match to {
        Some(file) => file,
        None => named(&first.file_name)?,
    };
    let mut growing = Growing::begin(&file)?;
    growing.write(&first.chunk)?;
    let shows = std::io::stderr().is_terminal() && !output.json;
    let mut shown = Instant::now();
    while let Some(piece) = pieces.message().await? {
        growing.write(&piece.chunk)?;
        if shows && shown.elapsed() >= SHOW_EVERY {
            eprint!("\r{} MiB ", growing.bytes >> 20);
            shown = Instant::now();
        }
    }
    if shows {
        eprint!("\r");
    }
    let bytes = growing.finish()?;
    let saved = Saved { service, file, bytes };
    output.result(&saved, || {
        let file = saved.file.display();
        format!("{file}: {bytes} bytes. It is opened with the key that root made for backups: age -d -i KEY {file}")
    })
}

/// The name that the cell says, in this folder: whatever it says, it is nothing but a name.
fn named(said: &str) -> Result<PathBuf, Failure> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if said.is_empty() || said.starts_with('.') || !said.bytes().all(known) {
        return Err(Failure::Local(
            "the cell says no usable file name: give one with -o".to_owned(),
        ));
    }
    Ok(PathBuf::from(said))
}

/// A file that is not there under its name until it is whole; for its owner alone.
struct Growing {
    aside: PathBuf,
    name: PathBuf,
    file: File,
    bytes: u64,
    is_whole: bool,
}

impl Growing {
    fn begin(name: &Path) -> Result<Self, Failure> {
        if name.exists() {
            return Err(Failure::Local(format!(
                "{} is there already: give another name with -o",
                name.display()
            )));
        }
        let mut aside = name.as_os_str().to_owned();
        aside.push(".part");
        let aside = PathBuf::from(aside);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside);
        let file = opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::Local(format!(
                "{} is there, of a backup that is under way or was killed: remove it, or give another name with -o",
                aside.display()
            )),
            _ => cannot(&aside, &error),
        })?;
        Ok(Growing {
            aside,
            name: name.to_owned(),
            file,
            bytes: 0,
            is_whole: false,
        })
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.file
            .write_all(piece)
            .map_err(|error| cannot(&self.aside, &error))?;
        self.bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn finish(mut self) -> Result<u64, Failure> {
        self.file
            .sync_all()
            .map_err(|error| cannot(&self.aside, &error))?;
        // As rename(2), but what came to be there meanwhile is not replaced.
        std::fs::hard_link(&self.aside, &self.name)
            .or_else(|_| match self.name.exists() {
                true => Err(std::io::ErrorKind::AlreadyExists.into()),
                false => std::fs::rename(&self.aside, &self.name),
            })
            .map_err(|error| cannot(&self.name, &error))?;
        self.is_whole = true;
        let _ = std::fs::remove_file(&self.aside);
        Ok(self.bytes)
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = std::fs::remove_file(&self.aside);
        }
    }
}

fn cannot(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Local(format!(
        "cannot write {}: {error}; there is no backup",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_name_is_nothing_but_a_name() {
        assert_eq!(
            named("email-2026-11-28.tar.age").unwrap(),
            Path::new("email-2026-11-28.tar.age")
        );
        for bad in ["", "..", "../x", "/etc/passwd", ".bashrc", "a b", "a\u{1b}"] {
            assert!(named(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("x.age");
        let mut cut = Growing::begin(&name).unwrap();
        cut.write(b"half").unwrap();
        assert!(!name.exists());
        drop(cut);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing of it stays"
        );
        let mut whole = Growing::begin(&name).unwrap();
        whole.write(b"whole").unwrap();
        assert_eq!(whole.finish().unwrap(), 5);
        assert_eq!(std::fs::read(&name).unwrap(), b"whole");
        assert_eq!(
            std::fs::metadata(&name).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Growing::begin(&name).is_err());
    }
}
