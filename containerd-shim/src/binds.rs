//! Folders of the machine that services are given: walked step by step without following a link, every parent root's.
//!
//! A path that was looked at and is then used by its name is a race against whoever may change a folder on the way. So nobody
//! but root may: then the name means tomorrow what it means now.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cell_broker_core::deploy::BindRoot;
use cell_manifest::BelowRoot;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};

/// Why a folder is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwalkable {
    /// Absent, a link, or no folder.
    #[error("{0}: is not a folder that is reached without a link")]
    NoFolder(String),
    /// Somebody else could put another in its place.
    #[error("{0}: belongs to root and cannot be written by group or others, or it could be exchanged")]
    NotRoots(String),
}

/// Walks to `below` in `root`. Its path, which nobody but root can make to mean something else.
pub fn walk(root: &BindRoot, below: &BelowRoot) -> Result<String, Unwalkable> {
    let path = root.join(below);
    let absent = || Unwalkable::NoFolder(path.clone());
    let mut at = open(
        "/",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|_| absent())?;
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let root_names = root.path.split('/').filter(|name| !name.is_empty()).count();
    let mut walked = String::new();
    for (n, name) in names.iter().enumerate() {
        parent_is_roots(&at, if walked.is_empty() { "/" } else { &walked })?;
        at = step(&at, name).ok_or_else(absent)?;
        walked = format!("{walked}/{name}");
        // The root itself is a parent of what lies below it.
        if n + 1 == root_names {
            parent_is_roots(&at, &walked)?;
        }
    }
    Ok(path)
}

/// One step, by a name without a slash that is neither `.` nor `..`: so this is what openat2(2) would do with `RESOLVE_BENEATH`
/// and `RESOLVE_NO_SYMLINKS`. That call is not among those of the sandbox: its flags and mode lie in memory, which seccomp does
/// not see, and it could make files that set a user's id.
fn step(at: &OwnedFd, name: &str) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at.as_fd(), Path::new(name), flags, Mode::empty()).ok()
}

fn parent_is_roots(at: &OwnedFd, path: &str) -> Result<(), Unwalkable> {
    let stat = fstat(at).map_err(|_| Unwalkable::NoFolder(path.to_owned()))?;
    let folder = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    if folder && stat.st_uid == 0 && stat.st_mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(Unwalkable::NotRoots(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    /// A folder whose every parent is root's: not below /tmp, which all may write.
    fn place() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("cell-binds-")
            .tempdir_in("/root")
            .unwrap()
    }

    fn below(text: &str) -> BelowRoot {
        BelowRoot::new(text).unwrap()
    }

    #[test]
    fn a_folder_is_reached_by_roots_folders_alone() {
        let place = place();
        let at = |name: &str| place.path().join(name);
        let root = |name: &str| BindRoot {
            path: at(name).display().to_string(),
            writable: false,
        };
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(at("data/films/old")).unwrap();
        std::fs::create_dir_all(at("data/open/deep")).unwrap();
        assert_eq!(
            walk(&root("data"), &below("films/old")).unwrap(),
            at("data/films/old").display().to_string(),
            "control"
        );
        assert!(walk(&root("data"), &below("")).is_ok());

        symlink("/etc", at("data/link")).unwrap();
        symlink(at("data"), at("way")).unwrap();
        std::fs::write(at("data/file"), "").unwrap();
        for (root, below) in [
            (root("data"), below("link")),
            (root("data"), below("link/ssl")),
            (root("way"), below("films")),
            (root("data"), below("absent")),
            (root("data"), below("file")),
        ] {
            assert!(
                matches!(walk(&root, &below), Err(Unwalkable::NoFolder(_))),
                "{root:?} {below:?}"
            );
        }
        std::fs::set_permissions(at("data/open"), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(
            walk(&root("data"), &below("open")).is_ok(),
            "what is given may be open; what leads there not"
        );
        assert!(matches!(
            walk(&root("data"), &below("open/deep")),
            Err(Unwalkable::NotRoots(_))
        ));
        chown(at("data"), Some(1000), None).unwrap();
        assert!(matches!(
            walk(&root("data"), &below("films")),
            Err(Unwalkable::NotRoots(_))
        ));
        let shared = BindRoot {
            path: "/tmp".to_owned(),
            writable: false,
        };
        assert!(matches!(walk(&shared, &below("")), Err(Unwalkable::NotRoots(_))));
    }
}
