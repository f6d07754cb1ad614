//! What a process inside the sandbox cannot do with files. Each denial has its control in the same test.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use cell_sandbox::Sandbox;
use common::{Attempt, attempt, denied, folder, granted, io_outcome};
use libc::{EACCES, EPERM};

#[test]
fn only_listed_paths_are_read() {
    denied("a file", Sandbox::new(), EACCES, || {
        io_outcome(fs::read("/etc/passwd"))
    });
    denied("a folder", Sandbox::new(), EACCES, || {
        io_outcome(fs::read_dir("/"))
    });
    denied("its own maps", Sandbox::new(), EACCES, || {
        io_outcome(fs::read("/proc/self/maps"))
    });
    granted("a listed file", Sandbox::new().read_only("/etc/passwd"), || {
        io_outcome(fs::read("/etc/passwd"))
    });
    granted(
        "an absent optional path",
        Sandbox::new().read_only_if_exists("/nonexistent"),
        || Ok(()),
    );
}

#[test]
fn only_listed_paths_are_written() {
    let (own, other) = (folder(), folder());
    let writable = || Sandbox::new().read_write(own.path()).read_only(other.path());
    for (name, act) in [
        (
            "create",
            (|dir: &Path| io_outcome(fs::write(dir.join("new"), "x"))) as fn(&Path) -> Attempt,
        ),
        ("truncate", |dir| {
            io_outcome(
                OpenOptions::new()
                    .write(true)
                    .truncate(true)
                    .open(dir.join("old")),
            )
        }),
        ("mkdir", |dir| {
            io_outcome(fs::create_dir(dir.join(format!("d{}", std::process::id()))))
        }),
        ("rename", |dir| {
            let (old, moved) = (dir.join("old"), dir.join("moved"));
            io_outcome(fs::rename(&old, &moved).and_then(|()| fs::rename(&moved, &old)))
        }),
        ("unlink", |dir| {
            let spare = dir.join("spare");
            // Put there by the control and by the granted run alike; in the denied run there is nothing to write to.
            let _ = fs::write(&spare, "x");
            io_outcome(fs::remove_file(dir.join("spare")))
        }),
    ] {
        fs::write(other.path().join("spare"), "x").unwrap();
        granted(name, writable(), || act(own.path()));
        assert_eq!(
            attempt(None, &[], || act(other.path())),
            Ok(()),
            "control of {name}"
        );
        fs::write(other.path().join("spare"), "x").unwrap();
        assert_eq!(
            attempt(Some(writable()), &[], || act(other.path())),
            Err(EACCES),
            "{name}"
        );
    }
    denied("a device", writable(), EACCES, || {
        io_outcome(OpenOptions::new().write(true).open("/dev/null"))
    });
    denied("a socket", writable(), EPERM, || {
        let path = own.path().join(format!("s{}", std::process::id()));
        io_outcome(UnixListener::bind(path))
    });
}

#[test]
fn no_file_runs_as_somebody_else() {
    let own = folder();
    let sandbox = || Sandbox::new().read_write(own.path());
    let old = own.path().join("old");
    denied("create with the set-user-id bit", sandbox(), EPERM, || {
        let path = own.path().join(format!("suid{}", std::process::id()));
        io_outcome(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o4755)
                .open(path),
        )
    });
    for mode in [0o4755, 0o2755, 0o6755] {
        denied("chmod", sandbox(), EPERM, || {
            io_outcome(fs::set_permissions(&old, Permissions::from_mode(mode)))
        });
        denied("fchmod", sandbox(), EPERM, || {
            let file = fs::File::open(&old).unwrap();
            io_outcome(file.set_permissions(Permissions::from_mode(mode)))
        });
    }
    granted("chmod 0600", sandbox(), || {
        io_outcome(fs::set_permissions(&old, Permissions::from_mode(0o600)))
    });
}
