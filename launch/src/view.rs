//! What a daemon sees of the file system, in a mount namespace of its own: /proc with its own processes alone, and its own
//! folders also where a folder above them (/root, say) is closed to others.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Folders of other programs' sockets that a mode does not keep closed, and that Landlock before Linux 7.1 cannot: the units
/// have them as `InaccessiblePaths=`.
pub const INACCESSIBLE: [&str; 2] = ["/run/containerd", "/run/dbus"];

/// Enters a mount namespace in which the paths of `reach` can be reached by anybody, and /proc/sys read if `settings`. Needs CAP_SYS_ADMIN and one thread.
///
/// # Errors
/// When the kernel refuses a mount.
pub fn enter(reach: &[PathBuf], settings: bool) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Nothing of what follows is seen outside; what the machine mounts later is seen here.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )?;
    for closed in closed_folders(reach, &mut is_closed) {
        uncover(&closed, reach)?;
    }
    for folder in INACCESSIBLE.map(Path::new) {
        cover(folder)?;
    }
    let hidden = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = if settings {
        "hidepid=invisible"
    } else {
        "hidepid=invisible,subset=pid"
    };
    mount(Some("proc"), "/proc", Some("proc"), hidden, Some(options))?;
    if settings {
        let bind = MsFlags::MS_BIND;
        mount(Some("/proc/sys"), "/proc/sys", None::<&str>, bind, None::<&str>)?;
        let read_only = MsFlags::MS_REMOUNT | bind | MsFlags::MS_RDONLY | hidden;
        mount(None::<&str>, "/proc/sys", None::<&str>, read_only, None::<&str>)?;
    }
    Ok(())
}

/// Puts an empty folder that nobody may look into over this one, if it is there.
fn cover(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    let options = Some("mode=0000,size=4k");
    Ok(mount(Some("tmpfs"), folder, Some("tmpfs"), flags, options)?)
}

/// Puts a TUN device node that `gid` may use over /dev/net, for this mount namespace alone. On most machines everybody may
/// open the machine's own node; where only root may, the daemon that makes the TUN devices could not. Needs CAP_MKNOD.
///
/// # Errors
/// When the kernel refuses the mount or the node.
pub fn own_tun(gid: u32) -> io::Result<()> {
    let (folder, node) = ("/dev/net", "/dev/net/tun");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=4k"),
    )?;
    let mode = Mode::from_bits_truncate(0o660);
    // Documentation/admin-guide/devices.txt: character device 10, 200.
    mknod(node, SFlag::S_IFCHR, mode, makedev(10, 200))?;
    // The umask does not decide.
    fs::set_permissions(node, fs::Permissions::from_mode(0o660))?;
    chown(node, Some(0), Some(gid))
}

/// The topmost folder above each path that others may not pass through.
fn closed_folders(reach: &[PathBuf], is_closed: &mut impl FnMut(&Path) -> bool) -> BTreeSet<PathBuf> {
    let topmost = |path: &PathBuf| {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        above
            .into_iter()
            .find(|folder| is_closed(folder))
            .map(Path::to_owned)
    };
    reach.iter().filter_map(topmost).collect()
}

/// Whether others lack the right to pass through.
fn is_closed(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 == 0)
}

/// Covers a closed folder with an empty one and puts back into it, at the same path, only what is to be reached.
fn uncover(closed: &Path, reach: &[PathBuf]) -> io::Result<()> {
    let held: Vec<(&PathBuf, File)> = reach
        .iter()
        .filter(|path| path.starts_with(closed))
        .map(|path| {
            Ok((
                path,
                OpenOptions::new()
                    .read(true)
                    .custom_flags(nix::libc::O_PATH)
                    .open(path)?,
            ))
        })
        .collect::<io::Result<_>>()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        closed,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=64k"),
    )?;
    for (path, file) in held {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        if file.metadata()?.is_dir() {
            fs::create_dir_all(path)?;
        } else {
            File::create(path)?;
        }
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        mount(
            Some(source.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
    }
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
    mount(None::<&str>, closed, None::<&str>, read_only, None::<&str>)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_topmost_closed_folder_is_covered() {
        let reach = ["/root/cell/var/run", "/root/cell/target/cell-api", "/srv/a/b"].map(PathBuf::from);
        let mut closed = |path: &Path| [Path::new("/root"), Path::new("/root/cell")].contains(&path);
        assert_eq!(
            closed_folders(&reach, &mut closed),
            [PathBuf::from("/root")].into()
        );
        assert_eq!(closed_folders(&reach, &mut |_| false), BTreeSet::new());
    }

    #[test]
    fn a_path_that_is_closed_itself_is_the_daemons_own_matter() {
        let reach = [PathBuf::from("/srv/lib/api")];
        assert_eq!(
            closed_folders(&reach, &mut |path| path.ends_with("api")),
            BTreeSet::new()
        );
    }
}
