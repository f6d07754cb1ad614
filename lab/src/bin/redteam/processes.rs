//! P: the other daemons' processes.

use std::fs::{self, OpenOptions};
use std::io;

use crate::attempt::{Check, Outcome, answered};
use crate::target::Target;

pub const CHECKS: &[Check] = &[
    Check {
        id: "P01",
        what: "ptrace another daemon",
        attempt: |t| {
            any(t, |pid| {
                // SAFETY: PTRACE_SEIZE takes numbers and does not stop the process; it ends with this child.
                answered(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) })
            })
        },
    },
    Check {
        id: "P02",
        what: "open another daemon's memory",
        attempt: |t| {
            any(t, |pid| {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(format!("/proc/{pid}/mem"))
                    .into()
            })
        },
    },
    Check {
        id: "P03",
        what: "read another daemon's environment",
        attempt: |t| any(t, |pid| fs::read(format!("/proc/{pid}/environ")).into()),
    },
    Check {
        id: "P04",
        what: "list another daemon's descriptors",
        attempt: |t| any(t, |pid| fs::read_dir(format!("/proc/{pid}/fd")).into()),
    },
    Check {
        id: "P05",
        what: "read another daemon's memory by process_vm_readv",
        attempt: |t| any(t, read_memory),
    },
    Check {
        id: "P06",
        what: "signal another daemon",
        attempt: |t| {
            any(t, |pid| {
                // SAFETY: signal 0 only asks whether one could be sent.
                answered(unsafe { libc::kill(pid, 0) })
            })
        },
    },
    Check {
        id: "P07",
        what: "take a descriptor out of another daemon",
        attempt: |t| any(t, take_descriptor),
    },
    Check {
        id: "P08",
        what: "limit another daemon's resources",
        attempt: |t| {
            any(t, |pid| {
                let asked: *mut libc::rlimit = std::ptr::null_mut();
                // SAFETY: with null for both limits nothing is read or written; the kernel checks the right first.
                answered(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, asked.cast_const(), asked) })
            })
        },
    },
];

/// Open if any of the other daemons is; what is told is the last refusal.
pub fn any(target: &Target, attempt: impl Fn(i32) -> Outcome) -> Outcome {
    let mut told = Outcome::Void("no other daemon runs".to_owned());
    // Its own process is the attacker's anyway.
    for (_, pid) in target.pids.iter().filter(|(name, _)| *name != "api") {
        told = attempt(*pid);
        if told == Outcome::Open {
            break;
        }
    }
    told
}

/// The kernel judges the right before the address.
fn read_memory(pid: i32) -> Outcome {
    let mut byte = [0_u8; 1];
    let local = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::dangling_mut::<u8>().cast(),
        iov_len: 1,
    };
    // SAFETY: `byte` outlives the call; the remote address is the other process's and is only read there.
    let rc = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EFAULT) if rc < 0 => Outcome::Open,
        _ => answered(rc as i64),
    }
}

fn take_descriptor(pid: i32) -> Outcome {
    // SAFETY: pidfd_open(2) and pidfd_getfd(2) take numbers.
    answered(unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) {
            process if process >= 0 => libc::syscall(libc::SYS_pidfd_getfd, process, 0, 0),
            refused => refused,
        }
    })
}
