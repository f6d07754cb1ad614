//! Descriptors that are handed over, units that call, readiness that is told: with real processes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use cell_sandbox::{Readiness, Sandbox, UnitCgroup, inherited_descriptors, peer_cgroup, unit_cgroup};
use common::{NOBODY, in_child};

/// Opens 3, 4 and, as a stray one, 9, with the variables that go with them. Nobody drops them: the child ends.
fn handed_over(pid: u32, count: &str, names: &str) {
    let null = File::open("/dev/null").unwrap().into_raw_fd();
    for fd in [3, 4, 9] {
        // SAFETY: a forked child with one thread that uses none of these numbers for anything else.
        assert_eq!(unsafe { libc::dup2(null, fd) }, fd);
    }
    for (name, value) in [
        ("LISTEN_PID", pid.to_string().as_str()),
        ("LISTEN_FDS", count),
        ("LISTEN_FDNAMES", names),
    ] {
        set(name, value);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the variable is what is tested; the forked child has one thread"
)]
fn set(name: &str, value: impl AsRef<std::ffi::OsStr>) {
    // SAFETY: the forked child has one thread.
    unsafe { std::env::set_var(name, value) };
}

fn open(fd: i32) -> bool {
    // SAFETY: F_GETFD takes a number.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

#[test]
fn descriptors_come_by_name_and_all_others_are_closed() {
    let answer = in_child(|| {
        handed_over(std::process::id(), "2", "api:vpn");
        assert!(
            open(3) && open(4) && open(9),
            "control: all three are open before"
        );
        let taken = inherited_descriptors().unwrap();
        let seen: Vec<_> = taken
            .iter()
            .map(|(name, fd)| format!("{name}={}", fd.as_raw_fd()))
            .collect();
        // SAFETY: F_GETFD takes a number.
        let flags = unsafe { libc::fcntl(3, libc::F_GETFD) };
        let left = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(|v| std::env::var_os(v).is_some());
        format!(
            "{} cloexec {flags} stray {} variables {left:?}",
            seen.join(" "),
            open(9)
        )
    });
    assert_eq!(
        answer,
        "api=3 vpn=4 cloexec 1 stray false variables [false, false, false]"
    );
}

#[test]
fn what_was_meant_for_another_process_is_closed() {
    let answer = in_child(|| {
        handed_over(1, "2", "api:vpn");
        format!(
            "{} {} {}",
            inherited_descriptors().unwrap().len(),
            open(3),
            open(9)
        )
    });
    assert_eq!(answer, "0 false false");
}

#[test]
fn a_descriptor_that_is_not_open_is_refused() {
    let answer = in_child(|| {
        handed_over(std::process::id(), "3", "a:b:c");
        // 5 may be anything that the test process had open.
        // SAFETY: in a forked child that uses no descriptor 5.
        unsafe { libc::close(5) };
        inherited_descriptors().unwrap_err().to_string()
    });
    assert!(
        answer.starts_with("descriptor 5 of LISTEN_FDS: Bad file descriptor"),
        "{answer}"
    );
}

#[test]
fn beside_another_thread_nothing_is_taken() {
    let answer = in_child(|| {
        handed_over(std::process::id(), "2", "api:vpn");
        let (_stop, stopped) = std::sync::mpsc::channel::<()>();
        let _thread = std::thread::spawn(move || stopped.recv());
        format!("{} {}", inherited_descriptors().unwrap_err(), open(9))
    });
    assert_eq!(
        answer,
        "descriptors are taken before threads are started, and 2 run true"
    );
}

/// A cgroup in the place of a unit's, removed at the end.
struct Unit {
    name: String,
    folder: PathBuf,
}

impl Unit {
    fn start(tag: &str) -> Self {
        let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let mount = mounts
            .into_iter()
            .find(|mount| mount.join("cgroup.procs").exists())
            .unwrap();
        let name = format!("cell-test-{tag}-{}.service", std::process::id());
        let folder = mount.join("system.slice").join(&name);
        fs::create_dir_all(&folder).unwrap();
        Unit { name, folder }
    }

    fn join(&self) {
        fs::write(self.folder.join("cgroup.procs"), "0").unwrap();
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
        // Ours only where no systemd runs; with units in it the kernel refuses.
        let _ = self.folder.parent().map(fs::remove_dir);
    }
}

#[test]
fn a_unit_is_told_from_another_process_of_the_same_user() {
    let unit = Unit::start("told");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let id = fs::metadata(&unit.folder).unwrap().ino();
    assert_eq!(unit_cgroup(&unit.name), UnitCgroup::Runs(id));
    for name in ["cell-no-such-unit.service", "../system.slice", "no unit"] {
        assert_eq!(unit_cgroup(name), UnitCgroup::Absent, "{name}");
    }
    let expected = Some(id);
    let accepted = |join: bool| {
        let answer = in_child(|| {
            if join {
                unit.join();
            }
            let client = UnixStream::connect(&path).unwrap();
            let (server, _) = listener.accept().unwrap();
            let seen = peer_cgroup(server.as_fd()).unwrap();
            drop(client);
            format!("{}", seen == expected)
        });
        answer == "true"
    };
    assert!(accepted(true), "the unit's process");
    assert!(!accepted(false), "a process outside the unit");
}

#[test]
fn a_caller_that_ended_is_not_better_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    in_child(|| {
        std::mem::forget(UnixStream::connect(&path).unwrap());
        String::new()
    });
    let (server, _) = listener.accept().unwrap();
    let own = peer_cgroup(UnixStream::pair().unwrap().0.as_fd()).unwrap();
    let ended = peer_cgroup(server.as_fd());
    assert!(
        own.is_some(),
        "control: this kernel can tell (PIDFD_GET_INFO, Linux 6.13)"
    );
    assert!(
        !matches!(ended, Ok(None)),
        "an ended caller must be an error or known, not \"cannot tell\": {ended:?}"
    );
}

#[test]
fn readiness_is_told_from_inside_the_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let answer = in_child(|| {
        set("NOTIFY_SOCKET", &path);
        let readiness = Readiness::connect().unwrap();
        assert!(std::env::var_os("NOTIFY_SOCKET").is_none());
        NOBODY.assume(&[]).unwrap();
        Sandbox::new().enter().unwrap();
        format!(
            "{:?} {:?}",
            readiness.ready(),
            UnixDatagram::unbound().map(drop).map_err(|e| e.raw_os_error())
        )
    });
    assert_eq!(answer, "Ok(()) Err(Some(1))");
    let mut message = [0; 64];
    let length = manager.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1");
}

#[test]
fn without_a_manager_readiness_says_nothing() {
    let answer = in_child(|| {
        // SAFETY: the forked child has one thread.
        unsafe { std::env::remove_var("NOTIFY_SOCKET") };
        format!("{:?}", Readiness::connect().unwrap().ready())
    });
    assert_eq!(answer, "Ok(())");
}
