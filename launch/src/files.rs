//! Folders, policies and the key-encryption key on disk.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Uid};
use zeroize::Zeroizing;

use crate::accounts::Accounts;
use crate::error::Error;
use crate::house::Daemon;
use crate::plan::{self, Folder, Plan, Policy};
use crate::settings::Settings;

/// Bytes of the key-encryption key.
const KEK_BYTES: usize = 32;
/// Says that a folder is the home of a cell, so that clearing its run folder cannot hit anything else.
pub const MARKER: &str = ".cell-home";

/// Held while a cell runs.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, never looked at")] Flock<File>);

/// Makes the home and locks it.
///
/// # Errors
/// When it is another folder's name, or another cell runs in it.
pub fn lock(home: &Path) -> Result<Lock, Error> {
    fs::create_dir_all(home).map_err(Error::file("cannot be made", home))?;
    let marker = home.join(MARKER);
    if !marker.exists()
        && fs::read_dir(home)
            .map_err(Error::file("cannot be read", home))?
            .next()
            .is_some()
    {
        return Err(Error::fault(format!(
            "{} is not empty and not the home of a cell: choose another folder with --home (CELL_HOME)",
            home.display()
        )));
    }
    let file = options(0o644)
        .create(true)
        .truncate(false)
        .open(&marker)
        .map_err(Error::file("cannot be made", &marker))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Lock(lock)),
        Err((_, nix::Error::EWOULDBLOCK)) => Err(Error::fault(format!(
            "another cell runs in {}: stop it, or choose another --home",
            home.display()
        ))),
        Err((_, errno)) => Err(Error::file("cannot be locked", &marker)(errno.into())),
    }
}

/// Makes all folders with their owners and modes, and corrects those that are there.
///
/// # Errors
/// At the first that cannot be made.
pub fn make_folders(folders: &[Folder], accounts: &Accounts) -> Result<(), Error> {
    for folder in folders {
        let (uid, gid) = (accounts.user(folder.owner)?, accounts.group(folder.group)?);
        let made = fs::DirBuilder::new().mode(0o700).create(&folder.path);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::file("cannot be made", &folder.path)(error));
            }
            _ => {}
        }
        // Opened without following a link: nobody but root can have put one there, and a mistake ends here.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_DIRECTORY)
            .open(&folder.path);
        let opened = opened.map_err(Error::file("is not a folder", &folder.path))?;
        own(&opened, uid, gid, folder.mode)
            .map_err(Error::file("owner or mode cannot be set", &folder.path))?;
    }
    Ok(())
}

/// By this file programs that replace tables of legacy iptables wait for each other. They make it root's alone.
const TABLES_LOCK: &str = "/run/xtables.lock";

/// Lets cell-iptables read it, as `tmpfiles.d/cell.conf` does; it stays so.
///
/// # Errors
/// When it cannot be made, or its owner not be set.
pub fn share_tables_lock(accounts: &Accounts) -> Result<(), Error> {
    let path = Path::new(TABLES_LOCK);
    let failed = Error::file("cannot be shared with cell-iptables", path);
    let (uid, gid) = (accounts.user("root")?, accounts.group(Daemon::Iptables.user())?);
    let opened = options(0o640).create(true).truncate(false).open(path);
    opened
        .and_then(|file| own(&file, uid, gid, 0o640))
        .map_err(failed)
}

/// Writes the policies that are absent.
///
/// # Errors
/// At the first that cannot be written.
pub fn write_policies(policies: &[Policy]) -> Result<(), Error> {
    for policy in policies.iter().filter(|policy| !policy.path.exists()) {
        write_new(&policy.path, policy.text.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Copies a catalog of services: the index, and each service's manifest with its signature. Root's, and whole: it replaces the
/// one from before.
///
/// # Errors
/// At the first that cannot be read or written.
pub fn copy_catalog(from: &Path, to: &Path) -> Result<(), Error> {
    const FILES: [&str; 3] = ["index.json", "manifest.json", "manifest.json.sig"];
    let folder = |path: &Path| {
        let made =
            fs::create_dir(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)));
        made.map_err(Error::file("cannot be made", path))
    };
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::file("cannot be removed", to)(error));
        }
        _ => folder(to)?,
    }
    let entries = fs::read_dir(from).map_err(Error::file("cannot be read", from))?;
    let below = entries.filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()));
    for source in below.chain([from.to_owned()]) {
        let target = source
            .strip_prefix(from)
            .map_or_else(|_| to.to_owned(), |below| to.join(below));
        if !target.exists() {
            folder(&target)?;
        }
        for name in FILES {
            let file = source.join(name);
            match fs::read(&file) {
                Ok(bytes) => replace(&target.join(name), &bytes, 0o644)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("cannot be read", &file)(error)),
            }
        }
    }
    Ok(())
}

/// Sets `wireguard_port` in the policy of cell-api to what was asked for; nothing else in the file is touched.
///
/// # Errors
/// As write(2).
pub fn set_wireguard_port(plan: &Plan, port: u16) -> Result<(), Error> {
    let is_api = |policy: &&Policy| policy.path.ends_with("api.toml");
    let Some(policy) = plan.policies.iter().find(is_api) else {
        return Ok(());
    };
    let text = fs::read_to_string(&policy.path).map_err(Error::file("cannot be read", &policy.path))?;
    let line = format!("wireguard_port = {port}");
    let changed = text.lines().map(|old| {
        if old.starts_with("wireguard_port") {
            &line
        } else {
            old
        }
    });
    let changed = changed.fold(String::new(), |text, line| text + line + "\n");
    if changed != text {
        println!("==> {}: {line}", policy.path.display());
        replace(&policy.path, changed.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Makes the key-encryption key on the first start and copies it to where vaultd finds its credentials.
///
/// # Errors
/// When the key is gone and there is a vault that needs it, or a file cannot be written.
pub fn hand_out_kek(settings: &Settings, accounts: &Accounts) -> Result<(), Error> {
    let path = settings.home.join("etc/vault.kek");
    let state = plan::state(settings, Daemon::Vaultd);
    if !path.exists() {
        if fs::read_dir(&state).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::fault(format!(
                "{} is gone, and {} cannot be opened without it: put it back from a backup",
                path.display(),
                state.display()
            )));
        }
        let mut kek = Zeroizing::new([0_u8; KEK_BYTES]);
        let urandom = Path::new("/dev/urandom");
        File::open(urandom)
            .and_then(|mut file| file.read_exact(&mut *kek))
            .map_err(Error::file("cannot be read", urandom))?;
        write_new(&path, &*kek, 0o400)?;
    }
    let kek = Zeroizing::new(fs::read(&path).map_err(Error::file("cannot be read", &path))?);
    if kek.len() != KEK_BYTES {
        return Err(Error::fault(format!(
            "{} has {} bytes, not {KEK_BYTES}",
            path.display(),
            kek.len()
        )));
    }
    let copy = plan::credentials(settings, Daemon::Vaultd).join("kek");
    let file = write_new(&copy, &kek, 0o400)?;
    let (uid, gid) = (
        accounts.user(Daemon::Vaultd.user())?,
        accounts.group(Daemon::Vaultd.user())?,
    );
    own(&file, uid, gid, 0o400).map_err(Error::file("owner cannot be set", &copy))
}

/// Removes what ended with the cell: sockets, process ids, credentials.
///
/// # Errors
/// At the first that cannot be removed.
pub fn remove_ephemeral(run: &Path) -> Result<(), Error> {
    for path in plan::ephemeral(run) {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("cannot be removed", &path)(error));
            }
            _ => {}
        }
    }
    match fs::remove_dir(run) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("cannot be removed", run)(error))
        }
        _ => Ok(()),
    }
}

/// Writes a small file of root's that others may read.
///
/// # Errors
/// As write(2).
pub fn write_note(path: &Path, text: &str) -> Result<(), Error> {
    replace(path, text.as_bytes(), 0o644)
}

/// A whole file or none: written beside, made durable, then renamed.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<File, Error> {
    replace(path, content, mode)?;
    File::open(path).map_err(Error::file("cannot be read", path))
}

fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let written = (|| {
        let mut file = options(mode).create(true).truncate(true).open(&beside)?;
        // The mode at open(2) is less the umask, and not applied to a file left by a crash.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    })();
    written.map_err(Error::file("cannot be written", path))
}

fn options(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(mode).custom_flags(nix::libc::O_NOFOLLOW);
    options
}

fn own(file: &File, uid: Uid, gid: Gid, mode: u32) -> io::Result<()> {
    let found = file.metadata()?;
    if (found.uid(), found.gid()) != (uid.as_raw(), gid.as_raw()) {
        fchown(file, Some(uid.as_raw()), Some(gid.as_raw()))?;
    }
    if found.mode() & 0o7777 != mode {
        file.set_permissions(Permissions::from_mode(mode))?;
        // The kernel leaves bits out without a word: that of a group that is not the caller's, without CAP_FSETID (chmod(2)).
        if file.metadata()?.mode() & 0o7777 != mode {
            return Err(io::Error::other(format!(
                "the kernel does not set the whole of mode {mode:o}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_cell_at_a_time_and_only_in_its_own_folder() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("var");
        let first = lock(&home).unwrap();
        assert!(lock(&home).unwrap_err().to_string().contains("another cell runs"));
        drop(first);
        lock(&home).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(
            lock(dir.path())
                .unwrap_err()
                .to_string()
                .contains("not the home of a cell")
        );
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        write_new(&path, b"one", 0o400).unwrap();
        write_new(&path, b"two", 0o400).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o400);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_catalog_is_copied_whole_and_nothing_of_the_one_before_stays() {
        let dir = tempfile::tempdir().unwrap();
        let shipped = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../compose/catalog"));
        let to = dir.path().join("catalog");
        fs::create_dir_all(to.join("gone")).unwrap();
        fs::write(to.join("gone/manifest.json"), "{}").unwrap();
        copy_catalog(shipped, &to).unwrap();
        assert!(!to.join("gone").exists());
        for name in ["index.json", "calendar/manifest.json"] {
            let copy = to.join(name);
            assert_eq!(fs::read(&copy).unwrap(), fs::read(shipped.join(name)).unwrap());
            assert_eq!(fs::metadata(copy).unwrap().mode() & 0o7777, 0o644);
        }
        assert_eq!(fs::metadata(to.join("calendar")).unwrap().mode() & 0o022, 0);
    }

    #[test]
    fn only_the_port_changes_in_a_policy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.toml");
        fs::write(&path, "state = \"x\"\nwireguard_port = 51820\n# mine\n").unwrap();
        let policies = vec![Policy {
            path: path.clone(),
            text: String::new(),
        }];
        let plan = Plan {
            folders: vec![],
            policies,
            listeners: vec![],
            processes: vec![],
        };
        set_wireguard_port(&plan, 4500).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "state = \"x\"\nwireguard_port = 4500\n# mine\n"
        );
    }
}
