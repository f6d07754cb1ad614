//! Which systemd unit is at the other end of a Unix socket, asked of the kernel without a process id in between.
//!
//! SO_PEERPIDFD (Linux 6.5) names the process that connected, PIDFD_GET_INFO (Linux 6.13,
//! include/uapi/linux/pidfd.h) tells its cgroup. The id of a cgroup is the inode of its folder in the cgroup2 mount,
//! and systemd gives each start of a unit a folder of its own.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Where the cgroup2 hierarchy is mounted: alone, or beside the old ones.
const CGROUP_MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// UNIT_NAME_MAX of systemd.
const LONGEST_UNIT_NAME: usize = 255;

/// The cgroup id of the process that connected a Unix socket; `None` where this kernel has no way to tell.
///
/// # Errors
/// When the kernel can tell and does not, e.g. ESRCH because the process has ended. A caller must be refused then:
/// who connects and dies must not be better off than who stays.
pub fn peer_cgroup(socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    match peer_pidfd(socket)? {
        Some(pidfd) => pidfd_cgroup(&pidfd),
        None => Ok(None),
    }
}

/// What the machine says of the cgroup of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitCgroup {
    /// The unit runs, in the cgroup of this id.
    Runs(u64),
    /// No such unit runs, or its name cannot be a unit's.
    Absent,
    /// The units of this machine have no cgroup of the kind that [`peer_cgroup`] tells: there is no cgroup2 mount, or no
    /// systemd that keeps units in it.
    Untold,
}

/// The cgroup of a unit in the system manager's `system.slice`, e.g. `cell-api.service`. Read anew each time, because a
/// unit that is started again gets a new one. Slice and mounts are root's to make and remove.
pub fn unit_cgroup(unit: &str) -> UnitCgroup {
    let slices = CGROUP_MOUNTS
        .iter()
        .filter(|mount| is_cgroup2(Path::new(mount)))
        .map(|mount| Path::new(mount).join("system.slice"));
    let mut told = UnitCgroup::Untold;
    for slice in slices.filter(|slice| slice.is_dir()) {
        told = UnitCgroup::Absent;
        let found = unit_file_name(unit).and_then(|name| std::fs::symlink_metadata(slice.join(name)).ok());
        if let Some(folder) = found.filter(std::fs::Metadata::is_dir) {
            return UnitCgroup::Runs(folder.ino());
        }
    }
    told
}

/// `unit` if it is one path component that systemd could have made (`unit_name_is_valid` in its basic/unit-name.c).
fn unit_file_name(unit: &str) -> Option<&str> {
    let known = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let (stem, kind) = unit.rsplit_once('.')?;
    let valid = unit.len() <= LONGEST_UNIT_NAME
        && !stem.is_empty()
        && stem.chars().all(known)
        && matches!(kind, "service" | "scope" | "slice");
    valid.then_some(unit)
}

fn is_cgroup2(mount: &Path) -> bool {
    statfs(mount).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut pidfd: libc::c_int = -1;
    let mut size = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `pidfd` and `size` outlive the call, and `size` is the size of what `pidfd` points to.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut pidfd).cast(),
            &raw mut size,
        )
    };
    if rc == 0 {
        // SAFETY: the kernel just opened this descriptor for us and nobody else knows it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) }));
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        e => Err(e),
    }
}

fn pidfd_cgroup(pidfd: &OwnedFd) -> io::Result<Option<u64>> {
    let wanted = u64::from(libc::PIDFD_INFO_CGROUPID);
    // SAFETY: `pidfd_info` is plain numbers, for which all zeros is a value.
    let mut info: libc::pidfd_info = unsafe { MaybeUninit::zeroed().assume_init() };
    info.mask = wanted;
    // SAFETY: `info` outlives the call; the request number carries its size, so the kernel writes no further.
    let rc = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if rc == 0 {
        return Ok((info.mask & wanted != 0).then_some(info.cgroupid));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Before 6.11 a pidfd had no requests (ENOTTY); those of 6.11 and 6.12 take no argument (EINVAL).
        Some(libc::ENOTTY | libc::EINVAL) => Ok(None),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_unit_has_are_not_looked_up() {
        for name in [
            "",
            ".",
            "..",
            ".service",
            "../init.scope",
            "a/b.service",
            "cell-api",
            "a b.service",
            "a\n.service",
        ] {
            assert_eq!(unit_file_name(name), None, "{name:?}");
        }
        let long = format!("{}.service", "a".repeat(248));
        assert_eq!(unit_file_name(&long), None);
        for name in [
            "cell-api.service",
            "user@1000.service",
            "run-r1.scope",
            "dev-\\x2d.service",
        ] {
            assert_eq!(unit_file_name(name), Some(name));
        }
    }

    #[test]
    fn a_unit_that_does_not_run_has_no_cgroup() {
        assert!(!matches!(
            unit_cgroup("cell-no-such-unit.service"),
            UnitCgroup::Runs(_)
        ));
    }
}
