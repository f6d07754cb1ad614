//! The attributes of the process itself: no new privileges, no dumps, no executable memory.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// What [`harden`] found the kernel to offer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hardened {
    /// PR_SET_MDWE is in force.
    pub(crate) mdwe: bool,
}

/// One step that the kernel offers and that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub(crate) struct StepError {
    /// The call, as its man page names it.
    pub(crate) step: &'static str,
    /// Why.
    #[source]
    pub(crate) source: io::Error,
}

pub(crate) fn harden() -> Result<Hardened, StepError> {
    let failed = |step| {
        move |errno: nix::Error| StepError {
            step,
            source: errno.into(),
        }
    };
    // No program started by us could gain a right, and Landlock and seccomp may be entered without CAP_SYS_ADMIN.
    prctl::set_no_new_privs().map_err(failed("PR_SET_NO_NEW_PRIVS"))?;
    // Nobody of our own uid may ptrace(2) us, read our memory, or find it in a core file.
    prctl::set_dumpable(false).map_err(failed("PR_SET_DUMPABLE"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed("RLIMIT_CORE"))?;
    Ok(Hardened {
        mdwe: refuse_executable_memory()?,
    })
}

/// PR_SET_MDWE (Linux 6.3): no page becomes executable that was not. `false` where the kernel lacks it.
fn refuse_executable_memory() -> Result<bool, StepError> {
    let none: libc::c_ulong = 0;
    // SAFETY: PR_SET_MDWE takes numbers and changes only what later mmap(2) and mprotect(2) may do.
    let rc = unsafe {
        libc::prctl(
            libc::PR_SET_MDWE,
            libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN),
            none,
            none,
            none,
        )
    };
    match rc {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            source => Err(StepError {
                step: "PR_SET_MDWE",
                source,
            }),
        },
    }
}
