//! F: files of others, and files that would make the attacker somebody else.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::attempt::{Check, Outcome};
use crate::target::Target;

pub const CHECKS: &[Check] = &[
    Check {
        id: "F01",
        what: "read the file of the root's key",
        attempt: |t| match &t.root_key {
            Some(path) => fs::read(path).into(),
            None => Outcome::Void("vaultd has no root yet".to_owned()),
        },
    },
    Check {
        id: "F02",
        what: "list vaultd's state",
        attempt: |t| fs::read_dir(t.state("vaultd")).into(),
    },
    Check {
        id: "F03",
        what: "read the key-encryption key",
        attempt: |t| fs::read(&t.kek).into(),
    },
    Check {
        id: "F03",
        what: "list vaultd's credentials",
        attempt: |t| fs::read_dir(&t.credentials).into(),
    },
    Check {
        id: "F04",
        what: "read /etc/shadow",
        attempt: |_| fs::read("/etc/shadow").into(),
    },
    Check {
        id: "F05",
        what: "list /root",
        attempt: |_| fs::read_dir("/root").into(),
    },
    Check {
        id: "F06",
        what: "drop a unit in /etc/systemd/system",
        attempt: |_| drop_into("/etc/systemd/system"),
    },
    Check {
        id: "F07",
        what: "drop a unit in /run",
        attempt: |_| drop_into("/run"),
    },
    Check {
        id: "F08",
        what: "append to vaultd's access log (open only)",
        attempt: |t| OpenOptions::new().append(true).open(t.vault("access.log")).into(),
    },
    Check {
        id: "F09",
        what: "list netd's state",
        attempt: |t| fs::read_dir(t.state("netd")).into(),
    },
    Check {
        id: "F10",
        what: "read vaultd's access log",
        attempt: |t| fs::read(t.vault("access.log")).into(),
    },
    Check {
        id: "F11",
        what: "replace its own program",
        attempt: |t| drop_into(&t.programs),
    },
    Check {
        id: "F12",
        what: "drop /etc/ld.so.preload",
        attempt: |_| drop_into("/etc"),
    },
    Check {
        id: "F13",
        what: "drop a file in /etc/cron.d",
        attempt: |_| drop_into("/etc/cron.d"),
    },
    Check {
        id: "F14",
        what: "rewrite its own policy",
        attempt: |t| OpenOptions::new().write(true).open(t.etc.join("api.toml")).into(),
    },
    Check {
        id: "F15",
        what: "plant a socket in netd's folder",
        attempt: |t| {
            let path = t
                .socket("netd")
                .join(format!("redteam-{}.sock", std::process::id()));
            let planted = UnixListener::bind(&path);
            let _ = fs::remove_file(&path);
            planted.into()
        },
    },
    Check {
        id: "F16",
        what: "drop a file in /tmp for others to trip over",
        attempt: |_| drop_into("/tmp"),
    },
    Check {
        id: "F17",
        what: "switch forwarding (open only)",
        attempt: |_| open("/proc/sys/net/ipv4/ip_forward"),
    },
    Check {
        id: "F18",
        what: "press sysrq (open only)",
        attempt: |_| open("/proc/sysrq-trigger"),
    },
    Check {
        id: "F19",
        what: "set core_pattern (open only)",
        attempt: |_| open("/proc/sys/kernel/core_pattern"),
    },
    Check {
        id: "F20",
        what: "move itself to the root cgroup",
        attempt: |_| {
            let mounts = [
                "/sys/fs/cgroup/unified/cgroup.procs",
                "/sys/fs/cgroup/cgroup.procs",
            ];
            let found = mounts.into_iter().find(|path| fs::symlink_metadata(path).is_ok());
            match found.map(|path| OpenOptions::new().write(true).open(path)) {
                Some(file) => file.and_then(|mut file| file.write_all(b"0")).into(),
                None => Outcome::Void("no cgroup2".to_owned()),
            }
        },
    },
    Check {
        id: "F21",
        what: "make a set-user-id file in its own state",
        attempt: set_user_id,
    },
    Check {
        id: "F22",
        what: "read the users of the machine",
        attempt: |_| fs::read("/etc/passwd").into(),
    },
    Check {
        id: "F23",
        what: "open a device of the machine",
        attempt: |_| {
            let devices = ["/dev/kmsg", "/dev/net/tun"].map(File::open);
            let [one, other] = devices.map(Outcome::from);
            if one == Outcome::Open { one } else { other }
        },
    },
];

/// Whether a file could be dropped into `folder`. O_TMPFILE needs the same right and leaves no name behind.
fn drop_into(folder: impl AsRef<Path>) -> Outcome {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(folder)
        .into()
}

fn open(path: &str) -> Outcome {
    OpenOptions::new().write(true).open(path).into()
}

fn set_user_id(target: &Target) -> Outcome {
    let path = target
        .state("api")
        .join(format!(".redteam-{}", std::process::id()));
    let made = (|| -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path)?;
        file.set_permissions(Permissions::from_mode(0o4755))?;
        match file.metadata()?.permissions().mode() & 0o4000 {
            0 => Err(io::Error::from_raw_os_error(libc::EPERM)),
            _ => Ok(()),
        }
    })();
    let _ = fs::remove_file(&path);
    made.into()
}
