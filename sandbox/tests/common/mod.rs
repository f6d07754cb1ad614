//! Forked children: whatever a test does to its process, it does to a process of its own.

#![allow(dead_code, clippy::unwrap_used, reason = "tests; each file uses a part")]

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cell_sandbox::identity::Identity;
use cell_sandbox::{Capability, Sandbox};
use libc::c_long;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// nobody: a user that owns nothing.
pub const NOBODY: Identity = Identity {
    uid: 65534,
    gid: 65534,
    groups: Vec::new(),
};

/// Runs `body` in a forked child with one thread and hands back what it returns.
///
/// # Panics
/// With the child's message if it panics, and when it ends by a signal.
pub fn in_child(body: impl FnOnce() -> String) -> String {
    let (mut reader, writer) = io::pipe().unwrap();
    // SAFETY: the child runs Rust code in a copy of a process that may have had other threads. glibc keeps its
    // allocator usable after fork(2), and the child takes no lock of std's that another thread could have held.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(reader);
            // Standard output survives a body that closes everything above 2.
            // SAFETY: dup2(2) onto descriptor 1, which the child uses for nothing else.
            unsafe { libc::dup2(writer.as_raw_fd(), 1) };
            let answer = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                format!(
                    "panic: {}",
                    text.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                        .unwrap_or_default()
                )
            });
            // SAFETY: descriptor 1 is the pipe; `ManuallyDrop` is not needed, for the child ends here.
            let mut out = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(1) };
            let written = out.write_all(answer.as_bytes());
            // SAFETY: ends the child without running the parent's exit handlers a second time.
            unsafe { libc::_exit(i32::from(written.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut answer = String::new();
            reader.read_to_string(&mut answer).unwrap();
            match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, 0) if !answer.starts_with("panic: ") => answer,
                ended => panic!("the child ended with {ended:?}: {answer}"),
            }
        }
    }
}

/// How an attempt ended: `Ok`, or the error number.
pub type Attempt = Result<(), i32>;

/// The outcome of a raw system call.
pub fn outcome(rc: libc::c_long) -> Attempt {
    if rc >= 0 { Ok(()) } else { Err(errno()) }
}

/// The outcome of a function of std.
pub fn io_outcome<T>(result: io::Result<T>) -> Attempt {
    result.map(drop).map_err(|e| e.raw_os_error().unwrap_or(-1))
}

/// The calling thread's last error number.
pub fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

/// Runs `attempt` as nobody, inside `sandbox` if there is one. A child that became another program and ended well has
/// succeeded.
pub fn attempt(sandbox: Option<Sandbox>, kept: &[Capability], attempt: impl FnOnce() -> Attempt) -> Attempt {
    let answer = in_child(|| {
        NOBODY.assume(kept).unwrap();
        if let Some(sandbox) = sandbox {
            let report = sandbox.enter().unwrap();
            assert!(report.seccomp && report.landlock_abi.is_some(), "{report}");
        }
        match attempt() {
            Ok(()) => "done".to_owned(),
            Err(errno) => errno.to_string(),
        }
    });
    match answer.as_str() {
        "" | "done" => Ok(()),
        errno => Err(errno.parse().unwrap()),
    }
}

/// Succeeds as nobody, fails with `expected` as nobody inside `sandbox`.
pub fn denied(name: &str, sandbox: Sandbox, expected: i32, act: impl Fn() -> Attempt) {
    assert_eq!(
        attempt(None, &[], &act),
        Ok(()),
        "{name}: the control must succeed, or the denial proves nothing"
    );
    assert_eq!(attempt(Some(sandbox), &[], &act), Err(expected), "{name}");
}

/// Succeeds as nobody inside `sandbox`.
pub fn granted(name: &str, sandbox: Sandbox, act: impl Fn() -> Attempt) {
    assert_eq!(attempt(Some(sandbox), &[], &act), Ok(()), "{name}");
}

/// A folder that nobody owns, with a file in it.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    fs::write(folder.path().join("old"), "old").unwrap();
    for path in [folder.path().to_owned(), folder.path().join("old")] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    folder
}

pub fn syscall(number: c_long, arguments: [usize; 5]) -> Attempt {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the callers pass numbers, null pointers, or pointers to what outlives the call.
    outcome(unsafe { libc::syscall(number, a, b, c, d, e) })
}

/// An attempt to make a socket.
pub fn socket(domain: i32, kind: i32, protocol: i32) -> impl Fn() -> Attempt {
    // SAFETY: numbers only.
    move || outcome(unsafe { libc::socket(domain, kind, protocol) }.into())
}
