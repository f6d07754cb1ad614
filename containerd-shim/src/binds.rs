//! Folders of the machine that services are given: walked step by step without following a link, every parent root's.
//!
//! A path that was looked at and is then used by its name is a race against whoever may change a folder on the way. So nobody
//! but root may: then the name means tomorrow what it means now.

use std::fs::File;
use std::io::Read as _;
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
    /// It is somebody else's than the ceiling says.
    #[error(
        "{0}: belongs to root or to the owner that the ceiling names, and cannot be written by group or others"
    )]
    NotOwners(String),
    /// Absent, a link, no file, or too long.
    #[error("{0}: is not a file that is reached without a link, of the length that it may have")]
    NoFile(String),
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
        // The root itself is a parent of what lies below it. Where it is its owner's, nothing below is given by itself.
        if n + 1 == root_names {
            match root.owner {
                Some(owner) if names.len() == root_names => belongs_to(&at, &walked, owner)?,
                Some(_) | None => parent_is_roots(&at, &walked)?,
            }
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

/// Reads a file of at most `most` bytes that is root's and that nobody else may write or exchange.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unwalkable> {
    let shown = path.display().to_string();
    let absent = || Unwalkable::NoFile(shown.clone());
    let (Some(folder), Some(name)) = (path.parent().and_then(Path::to_str), path.file_name()) else {
        return Err(absent());
    };
    let root = BindRoot {
        path: folder.to_owned(),
        writable: false,
        owner: None,
        core: false,
    };
    walk(&root, &BelowRoot::default())?;
    // Every folder on the way is root's: the path means now what it meant a moment ago.
    let folder = open(
        folder,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|_| absent())?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(folder.as_fd(), Path::new(name), flags, Mode::empty()).map_err(|_| absent())?;
    let stat = fstat(&file).map_err(|_| absent())?;
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(absent());
    }
    if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
        return Err(Unwalkable::NotRoots(shown));
    }
    let mut bytes = Vec::new();
    let read = File::from(file).take(most + 1).read_to_end(&mut bytes);
    if read.is_err() || bytes.len() as u64 > most {
        return Err(absent());
    }
    Ok(bytes)
}

/// Whether the folder is its owner's or root's, and nobody else's to write.
fn belongs_to(at: &OwnedFd, path: &str, owner: u32) -> Result<(), Unwalkable> {
    let stat = fstat(at).map_err(|_| Unwalkable::NoFolder(path.to_owned()))?;
    if (stat.st_uid == 0 || stat.st_uid == owner) && stat.st_mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(Unwalkable::NotOwners(path.to_owned()))
    }
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
            owner: None,
            core: false,
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
            owner: None,
            core: false,
        };
        assert!(matches!(walk(&shared, &below("")), Err(Unwalkable::NotRoots(_))));
    }

    #[test]
    fn a_folder_may_be_its_owners_and_then_nothing_below_it_is_given() {
        let place = place();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let dns = place.path().join("dns");
        std::fs::create_dir_all(dns.join("below")).unwrap();
        chown(&dns, Some(1000), None).unwrap();
        let root = |owner| BindRoot {
            path: dns.display().to_string(),
            writable: false,
            owner,
            core: true,
        };
        assert!(walk(&root(Some(1000)), &below("")).is_ok(), "control");
        assert!(matches!(
            walk(&root(None), &below("")),
            Err(Unwalkable::NotRoots(_))
        ));
        assert!(matches!(
            walk(&root(Some(1001)), &below("")),
            Err(Unwalkable::NotOwners(_))
        ));
        assert!(matches!(
            walk(&root(Some(1000)), &below("below")),
            Err(Unwalkable::NotRoots(_))
        ));
        std::fs::set_permissions(&dns, PermissionsExt::from_mode(0o775)).unwrap();
        assert!(matches!(
            walk(&root(Some(1000)), &below("")),
            Err(Unwalkable::NotOwners(_))
        ));
        std::fs::set_permissions(&dns, PermissionsExt::from_mode(0o2750)).unwrap();
        assert!(walk(&root(Some(1000)), &below("")).is_ok(), "control");
        // Above it all is root's, whosever it is.
        chown(place.path(), Some(1000), None).unwrap();
        assert!(matches!(
            walk(&root(Some(1000)), &below("")),
            Err(Unwalkable::NotRoots(_))
        ));
    }

    #[test]
    fn a_file_is_read_where_it_is_roots_alone() {
        let place = place();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let at = |name: &str| place.path().join(name);
        let put = |name: &str, mode: u32| {
            std::fs::write(at(name), "12345").unwrap();
            std::fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
        };
        put("good", 0o644);
        assert_eq!(read(&at("good"), 5).unwrap(), b"12345", "control");
        assert!(
            matches!(read(&at("good"), 4), Err(Unwalkable::NoFile(_))),
            "too long"
        );
        put("open", 0o666);
        put("theirs", 0o644);
        chown(at("theirs"), Some(1000), None).unwrap();
        for name in ["open", "theirs"] {
            assert!(
                matches!(read(&at(name), 5), Err(Unwalkable::NotRoots(_))),
                "{name}"
            );
        }
        symlink(at("good"), at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        symlink(at("folder"), at("way")).unwrap();
        std::fs::write(at("folder/x"), "x").unwrap();
        for name in ["link", "folder", "absent"] {
            assert!(matches!(read(&at(name), 5), Err(Unwalkable::NoFile(_))), "{name}");
        }
        assert!(read(&at("folder/x"), 5).is_ok(), "control");
        assert!(matches!(read(&at("way/x"), 5), Err(Unwalkable::NoFolder(_))));
        std::fs::set_permissions(at("folder"), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(read(&at("folder/x"), 5), Err(Unwalkable::NotRoots(_))));
    }
}
