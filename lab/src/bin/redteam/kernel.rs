//! K and D: new programs, new memory, new namespaces, the kernel itself, and its resources.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;

use crate::attempt::{Check, Outcome, answered};
use crate::processes;
use crate::target::Target;

pub const CHECKS: &[Check] = &[
    Check {
        id: "K01",
        what: "make a user namespace",
        attempt: |_| unshare(libc::CLONE_NEWUSER),
    },
    Check {
        id: "K02",
        what: "make a mount namespace",
        attempt: |_| unshare(libc::CLONE_NEWNS),
    },
    Check {
        id: "K03",
        what: "enter the network of another daemon",
        attempt: |t| processes::any(t, |pid| enter_network(pid).into()),
    },
    Check {
        id: "K04",
        what: "run /bin/true",
        attempt: |_| run(c"/bin/true", c"true"),
    },
    Check {
        id: "K05",
        what: "run the set-user-id program su",
        attempt: |_| run(c"/bin/su", c"--version"),
    },
    Check {
        id: "K06",
        what: "write a program to its own state and run it",
        attempt: run_payload,
    },
    Check {
        id: "K07",
        what: "run a program from memory",
        attempt: |_| run_from_memory(),
    },
    Check {
        id: "K08",
        what: "map memory writable and executable",
        attempt: |_| map(true),
    },
    Check {
        id: "K09",
        what: "make memory executable",
        attempt: |_| map(false),
    },
    Check {
        id: "K10",
        what: "bpf",
        attempt: |_| bpf_map(),
    },
    Check {
        id: "K11",
        what: "perf_event_open",
        attempt: |_| perf_event(),
    },
    Check {
        id: "K12",
        what: "userfaultfd",
        attempt: |_| call(libc::SYS_userfaultfd, [0; 5]),
    },
    Check {
        id: "K13",
        what: "io_uring",
        attempt: |_| {
            let parameters = [0_u64; 64];
            call(
                libc::SYS_io_uring_setup,
                [4, parameters.as_ptr() as usize, 0, 0, 0],
            )
        },
    },
    Check {
        id: "K14",
        what: "load a module",
        attempt: |_| {
            // ENOEXEC: an empty image is none, but the right was there.
            open_if(
                call(
                    libc::SYS_init_module,
                    [c"".as_ptr() as usize, 0, c"".as_ptr() as usize, 0, 0],
                ),
                "ENOEXEC",
            )
        },
    },
    Check {
        id: "K16",
        what: "rename the machine",
        attempt: |_| call(libc::SYS_sethostname, [c"redteam".as_ptr() as usize, 7, 0, 0, 0]),
    },
    Check {
        id: "K17",
        what: "steer the clock",
        attempt: |_| steer_clock(),
    },
    Check {
        id: "K18",
        what: "raise its own limits",
        attempt: |_| raise_limit(),
    },
    Check {
        id: "K19",
        what: "chroot",
        attempt: |_| call(libc::SYS_chroot, [c"/".as_ptr() as usize, 0, 0, 0, 0]),
    },
    Check {
        id: "K20",
        what: "mount a file system",
        attempt: |_| {
            let [kind, place] = [c"tmpfs", c"/mnt"].map(|text| text.as_ptr() as usize);
            call(libc::SYS_mount, [kind, place, kind, 0, 0])
        },
    },
    Check {
        id: "K21",
        what: "add a key to the kernel's keyring",
        attempt: |_| {
            let [kind, name] = [c"user", c"redteam"].map(|text| text.as_ptr() as usize);
            call(libc::SYS_add_key, [kind, name, name, 7, -1_isize as usize])
        },
    },
    Check {
        id: "K22",
        what: "become root",
        attempt: |_| call(libc::SYS_setresuid, [0; 5]),
    },
    Check {
        id: "K23",
        what: "read the kernel's log",
        attempt: |_| call(libc::SYS_syslog, [10, 0, 0, 0, 0]),
    },
    Check {
        id: "D01",
        what: "fork 64 children",
        attempt: |_| fork_many(),
    },
];

fn call(number: libc::c_long, [a, b, c, d, e]: [usize; 5]) -> Outcome {
    // SAFETY: the callers pass numbers, null, or pointers to what outlives the call.
    answered(unsafe { libc::syscall(number, a, b, c, d, e) })
}

/// An error that comes only after the right was granted.
fn open_if(outcome: Outcome, reached: &str) -> Outcome {
    if outcome == Outcome::Closed(reached.to_owned()) {
        Outcome::Open
    } else {
        outcome
    }
}

fn enter_network(pid: i32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    // SAFETY: numbers only.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn unshare(what: i32) -> Outcome {
    // SAFETY: numbers only.
    answered(unsafe { libc::unshare(what) })
}

/// Answers only if the program did not start.
fn run(program: &CStr, argument: &CStr) -> Outcome {
    let arguments = [program.as_ptr(), argument.as_ptr(), ptr::null()];
    // Its output belongs to nobody. Where /dev/null cannot be opened, no program starts either.
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        // SAFETY: numbers only; the child prints nothing itself.
        unsafe { libc::dup2(null.as_raw_fd(), 1) };
    }
    // SAFETY: path and arguments are null-terminated and outlive the call.
    answered(unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) })
}

fn run_payload(target: &Target) -> Outcome {
    let path = target
        .state("api")
        .join(format!(".payload-{}", std::process::id()));
    let written = fs::read("/bin/true")
        .or_else(|_| Ok::<_, io::Error>(b"#!/bin/true\n".to_vec()))
        .and_then(|program| {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o700)
                .open(&path)?;
            io::Write::write_all(&mut file, &program)
        });
    if let Err(e) = written {
        return Outcome::Void(e.to_string());
    }
    let opened = File::open(&path);
    let _ = fs::remove_file(&path);
    match opened {
        Ok(program) => run_descriptor(&program),
        Err(e) => Outcome::Void(e.to_string()),
    }
}

fn run_from_memory() -> Outcome {
    // SAFETY: the name is null-terminated.
    let memory = unsafe { libc::syscall(libc::SYS_memfd_create, c"redteam".as_ptr(), 0) };
    if memory < 0 {
        return answered(memory);
    }
    // SAFETY: the kernel just opened it and nobody else knows it.
    let mut file = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(memory as i32) };
    match fs::read("/bin/true").and_then(|program| io::Write::write_all(&mut file, &program)) {
        Ok(()) => run_descriptor(&file),
        Err(e) => Outcome::Void(e.to_string()),
    }
}

fn run_descriptor(program: &File) -> Outcome {
    let arguments = [c"true".as_ptr(), ptr::null()].as_ptr() as usize;
    let fd = program.as_raw_fd() as usize;
    call(
        libc::SYS_execveat,
        [
            fd,
            c"".as_ptr() as usize,
            arguments,
            0,
            libc::AT_EMPTY_PATH as usize,
        ],
    )
}

fn map(at_once: bool) -> Outcome {
    let executable = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let first = if at_once {
        executable
    } else {
        libc::PROT_READ | libc::PROT_WRITE
    };
    // SAFETY: a fresh anonymous mapping, and a change of its rights; nobody uses it.
    unsafe {
        let page = libc::mmap(
            ptr::null_mut(),
            4096,
            first,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return answered(-1);
        }
        answered(libc::mprotect(page, 4096, executable))
    }
}

/// BPF_MAP_CREATE of an array with one element (union bpf_attr: type, key size, value size, entries).
fn bpf_map() -> Outcome {
    let attributes: [u32; 32] = std::array::from_fn(|i| [2, 4, 4, 1].get(i).copied().unwrap_or(0));
    call(
        libc::SYS_bpf,
        [0, attributes.as_ptr() as usize, size_of_val(&attributes), 0, 0],
    )
}

/// A software counter of all processes on the first CPU (struct perf_event_attr, PERF_ATTR_SIZE_VER0).
fn perf_event() -> Outcome {
    let attributes: [u32; 16] = std::array::from_fn(|i| [1, 64].get(i).copied().unwrap_or(0));
    call(
        libc::SYS_perf_event_open,
        [
            attributes.as_ptr() as usize,
            -1_isize as usize,
            0,
            -1_isize as usize,
            0,
        ],
    )
}

/// Sets the tick to what it is: the right is needed, and nothing changes.
fn steer_clock() -> Outcome {
    // SAFETY: all zeros is a value of timex, and asks.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `clock` outlives both calls.
    unsafe {
        if libc::adjtimex(&raw mut clock) < 0 {
            return answered(-1);
        }
        clock.modes = libc::ADJ_TICK;
        answered(libc::adjtimex(&raw mut clock))
    }
}

fn raise_limit() -> Outcome {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` outlives both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return answered(-1);
        }
        limit.rlim_max += 1;
        answered(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))
    }
}

fn fork_many() -> Outcome {
    for _ in 0..64 {
        // SAFETY: the child ends at once.
        match unsafe { libc::fork() } {
            -1 => return answered(-1),
            // SAFETY: ends the child, which has nothing to clean up.
            0 => unsafe { libc::_exit(0) },
            _ => {}
        }
    }
    Outcome::Open
}
