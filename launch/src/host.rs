//! What a cell changed on the machine outside its folder, noted before it is done, so that it can be undone.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files;
use crate::network;
use crate::settings::Place;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A namespace was made.
    Made(String),
    /// netd acted in this place, which was there before.
    UsedHost,
    /// As [`Change::UsedHost`], in a namespace.
    Used(String),
    /// A setting of the host was changed; this was its value.
    Sysctl(String, String),
}

/// The changes of one cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<Change>);

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.0 {
            match change {
                Change::Made(name) => writeln!(f, "made-netns {name}")?,
                Change::UsedHost => writeln!(f, "used-host")?,
                Change::Used(name) => writeln!(f, "used-netns {name}")?,
                Change::Sysctl(key, value) => writeln!(f, "sysctl {key} {value}")?,
            }
        }
        Ok(())
    }
}

impl Changes {
    /// Reads the note of the cell in `home`; no note is no change.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read(home: &Path) -> Result<Changes, Error> {
        let path = note(home);
        match fs::read_to_string(&path) {
            Ok(text) => {
                Changes::parse(&text).map_err(|line| Error::fault(format!("{}: {line:?}", path.display())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Changes::default()),
            Err(error) => Err(Error::file("cannot be read", &path)(error)),
        }
    }

    fn parse(text: &str) -> Result<Changes, String> {
        let parse = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            ["made-netns", name] => Ok(Change::Made(name.to_owned())),
            ["used-host"] => Ok(Change::UsedHost),
            ["used-netns", name] => Ok(Change::Used(name.to_owned())),
            ["sysctl", key, value] => Ok(Change::Sysctl(key.to_owned(), value.to_owned())),
            _ => Err(line.to_owned()),
        };
        text.lines().map(parse).collect::<Result<_, _>>().map(Changes)
    }

    /// Notes the changes, or removes the note when there are none.
    ///
    /// # Errors
    /// As write(2).
    pub fn write(&self, home: &Path) -> Result<(), Error> {
        let path = note(home);
        if !self.0.is_empty() {
            return files::write_note(&path, &self.to_string());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("cannot be removed", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Notes a change once; the first value of a setting is the one before the cell.
    pub fn add(&mut self, change: Change) {
        let known = self.0.iter().any(|old| match (old, &change) {
            (Change::Sysctl(old, _), Change::Sysctl(new, _)) => old == new,
            (Change::Made(old), Change::Used(new)) => old == new,
            (old, new) => old == new,
        });
        if !known {
            self.0.push(change);
        }
    }

    /// Whether this cell made the namespace.
    pub fn made(&self, name: &str) -> bool {
        self.0.contains(&Change::Made(name.to_owned()))
    }
}

/// Makes the place ready for a cell: the namespace, and forwarding in it.
///
/// # Errors
/// When the kernel refuses.
pub fn prepare(place: &Place, home: &Path) -> Result<Changes, Error> {
    let mut changes = Changes::read(home)?;
    match place {
        Place::Namespace(name) => {
            let made = network::ensure(name)?;
            changes.add(if made {
                Change::Made(name.clone())
            } else {
                Change::Used(name.clone())
            });
            changes.write(home)?;
            let path = crate::plan::netns_path(place);
            network::inside(path.as_deref(), forward)??;
        }
        Place::Host => {
            changes.add(Change::UsedHost);
            for key in network::FORWARDING
                .into_iter()
                .filter(|key| network::has_sysctl(key))
            {
                let value = network::sysctl(key)?;
                if value == "0" {
                    changes.add(Change::Sysctl(key.to_owned(), value));
                }
            }
            changes.write(home)?;
            forward()?;
        }
    }
    Ok(changes)
}

fn forward() -> Result<(), Error> {
    for key in network::FORWARDING
        .into_iter()
        .filter(|key| network::has_sysctl(key))
    {
        if network::sysctl(key)? != "1" {
            network::set_sysctl(key, "1")?;
        }
    }
    Ok(())
}

fn note(home: &Path) -> PathBuf {
    home.join("host-changes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_note_survives_being_written_and_read() {
        let home = tempfile::tempdir().unwrap();
        let mut changes = Changes::default();
        changes.add(Change::Made("cell".into()));
        changes.add(Change::Used("cell".into()));
        changes.add(Change::Sysctl("net/ipv4/ip_forward".into(), "0".into()));
        changes.add(Change::Sysctl("net/ipv4/ip_forward".into(), "1".into()));
        assert_eq!(changes.0.len(), 2, "the first word counts: {changes}");
        changes.write(home.path()).unwrap();
        assert_eq!(Changes::read(home.path()).unwrap(), changes);
        Changes::default().write(home.path()).unwrap();
        assert_eq!(Changes::read(home.path()).unwrap(), Changes::default());
    }

    #[test]
    fn a_note_that_is_not_understood_is_not_acted_on() {
        assert_eq!(Changes::parse("used-host\nrm -rf /\n").unwrap_err(), "rm -rf /");
    }
}
