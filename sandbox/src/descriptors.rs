//! The descriptors that systemd or the launcher handed over, and no others (sd_listen_fds(3)).

use std::ffi::OsString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::status::SelfStatus;

/// SD_LISTEN_FDS_START: the first descriptor handed over.
const FIRST: RawFd = 3;
/// More listeners than any Cell daemon has; a larger count is a mistake of whoever starts us.
const MOST: usize = 64;
/// The three variables of the protocol.
const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The descriptors handed over by systemd or the launcher, in their order, with their names (`FileDescriptorName=`;
/// `unknown` where none was given). Two may bear one name. Each is marked close-on-exec.
///
/// Every other descriptor above 2 is closed, so that nothing leaks in from whoever started us, and the three variables
/// are removed, so that nothing leaks on.
///
/// Call it first in `main`, and once. It changes the environment and closes descriptors by number, and both are sound
/// only while no other thread and no other owner of a descriptor exists; so it refuses to run beside another thread.
///
/// # Errors
/// When other threads run, when the variables contradict each other, and when a descriptor is not open. Without the
/// variables, or with those meant for another process, the answer is empty.
pub fn inherited_descriptors() -> io::Result<Vec<(String, OwnedFd)>> {
    let threads = SelfStatus::read()?.threads;
    if threads != 1 {
        return Err(io::Error::other(format!(
            "descriptors are taken before threads are started, and {threads} run"
        )));
    }
    let [pid, count, names] = VARIABLES.map(std::env::var_os);
    for variable in VARIABLES {
        // SAFETY: this is the only thread of the process (checked above), so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(variable) };
    }
    let names = names_of(std::process::id(), pid, count, names)?;
    // `names_of` bounds the count by MOST.
    let end = FIRST + names.len() as RawFd;
    close_from(end)?;
    for fd in FIRST..end {
        mark_close_on_exec(fd)?;
    }
    // SAFETY: FIRST..end are open (F_SETFD succeeded) and were given to this process to own (LISTEN_PID is ours); the
    // variables are gone, so no second call can own them again.
    Ok(names
        .into_iter()
        .zip(FIRST..)
        .map(|(name, fd)| (name, unsafe { OwnedFd::from_raw_fd(fd) }))
        .collect())
}

/// The names of the descriptors that are ours, of which there are none when `pid` is another's.
fn names_of(
    own_pid: u32,
    pid: Option<OsString>,
    count: Option<OsString>,
    names: Option<OsString>,
) -> io::Result<Vec<String>> {
    let (Some(pid), Some(count)) = (pid, count) else {
        return Ok(Vec::new());
    };
    if number::<u32>("LISTEN_PID", &pid)? != own_pid {
        return Ok(Vec::new());
    }
    let count = number::<usize>("LISTEN_FDS", &count)?;
    if count > MOST {
        return Err(invalid(format!(
            "LISTEN_FDS is {count}, and at most {MOST} are taken"
        )));
    }
    let Some(names) = names else {
        return Ok(vec!["unknown".to_owned(); count]);
    };
    let names = names
        .into_string()
        .map_err(|_| invalid("LISTEN_FDNAMES is not UTF-8".to_owned()))?;
    let names: Vec<String> = if count == 0 {
        Vec::new()
    } else {
        names.split(':').map(str::to_owned).collect()
    };
    if names.len() != count {
        return Err(invalid(format!(
            "LISTEN_FDNAMES has {} names for {count} descriptors",
            names.len()
        )));
    }
    Ok(names)
}

fn number<T: std::str::FromStr>(variable: &str, value: &OsString) -> io::Result<T> {
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| invalid(format!("{variable} is not a number")))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Closes every descriptor from `first` on.
fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: close_range(2) takes numbers. Nothing in this process owns a descriptor from `first` on: it is the first
    // thing that `main` does, with one thread.
    let rc = unsafe { libc::close_range(first as libc::c_uint, libc::c_uint::MAX, 0) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn mark_close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes a number; a descriptor that is not open is told by EBADF.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(invalid(format!(
            "descriptor {fd} of LISTEN_FDS: {}",
            io::Error::last_os_error()
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn names(pid: &str, count: &str, names: Option<&str>) -> io::Result<Vec<String>> {
        names_of(7, Some(pid.into()), Some(count.into()), names.map(Into::into))
    }

    #[test]
    fn names_come_in_the_order_of_descriptors_and_may_repeat() {
        assert_eq!(
            names("7", "3", Some("api:vpn:vpn")).unwrap(),
            ["api", "vpn", "vpn"]
        );
        assert_eq!(names("7", "2", None).unwrap(), ["unknown", "unknown"]);
        assert_eq!(names("7", "0", Some("")).unwrap(), [""; 0]);
    }

    #[test]
    fn another_process_s_descriptors_are_not_ours() {
        assert_eq!(names("8", "1", Some("api")).unwrap(), [""; 0]);
        assert_eq!(names_of(7, None, Some("1".into()), None).unwrap(), [""; 0]);
    }

    #[test]
    fn contradictions_are_refused() {
        for (pid, count, given) in [
            ("x", "1", None),
            ("7", "-1", None),
            ("7", "65", None),
            ("7", "2", Some("api")),
            ("7", "1", Some("a:b")),
        ] {
            assert_eq!(
                names(pid, count, given).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{pid} {count}"
            );
        }
    }
}
