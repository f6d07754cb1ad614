//! Where the person sits: a change of the very device that a shell on this machine came from may cut that shell off.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;

/// What sshd(8) sets: the client's address and port, the server's address and port.
const VARIABLE: &str = "SSH_CONNECTION";
/// sudo(8) takes the variable away, so the processes above are looked at; more than these no shell has.
const ANCESTORS: usize = 32;

/// The address that this shell was opened from over SSH, if it was.
pub(crate) fn of_shell() -> Option<IpAddr> {
    if let Some(own) = std::env::var_os(VARIABLE) {
        return client(own.as_bytes());
    }
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..ANCESTORS {
        if pid <= 1 {
            return None;
        }
        // Of others' processes it cannot be read; then the next one above may say it.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if let Some(found) = in_environment(&environment) {
            return Some(found);
        }
        pid = parent(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
    }
    None
}

/// proc_pid_environ(5): `NAME=value`, each ended by a zero byte.
fn in_environment(environment: &[u8]) -> Option<IpAddr> {
    let lines = environment.split(|byte| *byte == 0);
    let mut values = lines.filter_map(|line| {
        line.strip_prefix(VARIABLE.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
    });
    values.next().and_then(client)
}

fn client(value: &[u8]) -> Option<IpAddr> {
    let text = OsStr::from_bytes(value).to_str()?;
    let address: IpAddr = text.split(' ').next()?.parse().ok()?;
    Some(address.to_canonical())
}

/// proc_pid_status(5).
fn parent(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_address_is_read() {
        for (value, address) in [
            ("10.86.0.2 50000 10.86.0.1 22", Some("10.86.0.2")),
            ("::ffff:10.86.0.2 50000 ::ffff:10.86.0.1 22", Some("10.86.0.2")),
            ("fd86::2 50000 fd86::1 22", Some("fd86::2")),
            ("fe80::1%eth0 50000 fe80::2 22", None),
            ("", None),
        ] {
            let found = client(value.as_bytes()).map(|address| address.to_string());
            assert_eq!(found.as_deref(), address, "{value}");
        }
    }

    #[test]
    fn only_the_whole_name_counts() {
        let environment = b"MY_SSH_CONNECTION=192.0.2.1 1 2 3\0SSH_CONNECTION_=192.0.2.2 1\0SSH_CONNECTION=10.86.0.7 1 2 3\0";
        assert_eq!(in_environment(environment), Some(IpAddr::from([10, 86, 0, 7])));
        assert_eq!(in_environment(b"PATH=/bin\0"), None);
    }

    #[test]
    fn the_parent_is_read() {
        assert_eq!(parent("Name:\tsudo\nPPid:\t4711\nTracerPid:\t0\n"), Some(4711));
        assert_eq!(parent("Name:\tsudo\n"), None);
    }
}
