//! System calls that a process inside the sandbox cannot make. Each denial has its control in the same test: the same
//! attempt without the sandbox succeeds.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ffi::CStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::ptr;

use cell_sandbox::{Family, Sandbox};
use common::{attempt, denied, granted, io_outcome, outcome, socket, syscall};
use libc::{EACCES, ENOSYS, EPERM, c_long};

const EVERY_FAMILY: [Family; 6] = [
    Family::Unix,
    Family::Netlink,
    Family::Inet4Datagram,
    Family::Inet6Datagram,
    Family::Inet4Stream,
    Family::Inet6Stream,
];

#[test]
fn no_program_starts() {
    let program: &CStr = c"/bin/true";
    let arguments = [program.as_ptr(), ptr::null()];
    denied(
        "execve",
        Sandbox::new().read_only("/usr").read_only("/bin"),
        EPERM,
        || {
            // SAFETY: path and arguments are null-terminated and outlive the call.
            outcome(unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) }.into())
        },
    );
    let opened = fs::File::open("/bin/true").unwrap();
    denied("execveat of a descriptor", Sandbox::new(), EPERM, || {
        let fd = opened.as_raw_fd() as usize;
        syscall(
            libc::SYS_execveat,
            [
                fd,
                c"".as_ptr() as usize,
                arguments.as_ptr() as usize,
                0,
                libc::AT_EMPTY_PATH as usize,
            ],
        )
    });
    denied("memfd_create", Sandbox::new(), EPERM, || {
        syscall(libc::SYS_memfd_create, [c"x".as_ptr() as usize, 0, 0, 0, 0])
    });
}

#[test]
fn no_process_starts_but_threads_do() {
    denied("fork", Sandbox::new(), EPERM, || {
        // SAFETY: the child ends at once.
        match unsafe { libc::fork() } {
            // SAFETY: ends the child, which has nothing to clean up.
            0 => unsafe { libc::_exit(0) },
            pid => outcome(pid.into()),
        }
    });
    granted("thread", Sandbox::new(), || {
        std::thread::Builder::new()
            .spawn(|| ())
            .map_err(|e| e.raw_os_error().unwrap())?
            .join()
            .map_err(|_| -1)
    });
    // Not EPERM: glibc takes ENOSYS for "use clone", EPERM for failure.
    denied("clone3", Sandbox::new(), ENOSYS, || {
        match syscall(libc::SYS_clone3, [0; 5]) {
            Err(libc::EINVAL) => Ok(()),
            other => other,
        }
    });
}

#[test]
fn no_memory_becomes_executable() {
    let map = |protection: i32| {
        // SAFETY: a fresh anonymous mapping; nobody relies on where it lies.
        unsafe {
            libc::mmap(
                ptr::null_mut(),
                4096,
                protection,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        }
    };
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    denied("mmap RWX", Sandbox::new(), EPERM, || {
        if map(all) == libc::MAP_FAILED {
            Err(common::errno())
        } else {
            Ok(())
        }
    });
    denied("mprotect +x", Sandbox::new(), EPERM, || {
        // SAFETY: the page was just mapped.
        outcome(
            unsafe { libc::mprotect(map(libc::PROT_READ), 4096, libc::PROT_READ | libc::PROT_EXEC) }.into(),
        )
    });
    granted("mmap RW", Sandbox::new(), || {
        if map(libc::PROT_READ | libc::PROT_WRITE) == libc::MAP_FAILED {
            Err(common::errno())
        } else {
            Ok(())
        }
    });
}

#[test]
fn only_kept_families_make_sockets() {
    let cloexec = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let cases = [
        (Family::Unix, libc::AF_UNIX, libc::SOCK_STREAM, 0),
        (Family::Unix, libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
        (
            Family::Netlink,
            libc::AF_NETLINK,
            libc::SOCK_RAW,
            libc::NETLINK_ROUTE,
        ),
        (
            Family::Netlink,
            libc::AF_NETLINK,
            libc::SOCK_RAW,
            libc::NETLINK_NETFILTER,
        ),
        (
            Family::Netlink,
            libc::AF_NETLINK,
            libc::SOCK_DGRAM,
            libc::NETLINK_GENERIC,
        ),
        (Family::Inet4Datagram, libc::AF_INET, libc::SOCK_DGRAM, 0),
        (
            Family::Inet6Datagram,
            libc::AF_INET6,
            libc::SOCK_DGRAM,
            libc::IPPROTO_UDP,
        ),
        (Family::Inet4Stream, libc::AF_INET, libc::SOCK_STREAM, 0),
        (
            Family::Inet6Stream,
            libc::AF_INET6,
            libc::SOCK_STREAM,
            libc::IPPROTO_TCP,
        ),
    ];
    for (family, domain, kind, protocol) in cases {
        let name = format!("{family:?} {kind} {protocol}");
        let others: Vec<_> = EVERY_FAMILY
            .into_iter()
            .filter(|other| *other != family)
            .collect();
        denied(
            &name,
            Sandbox::new().sockets(&others),
            EPERM,
            socket(domain, kind | cloexec, protocol),
        );
        granted(
            &name,
            Sandbox::new().sockets(&[family]),
            socket(domain, kind | cloexec, protocol),
        );
    }
}

#[test]
fn other_sockets_are_never_made_whatever_is_kept() {
    for (name, domain, kind, protocol) in [
        ("MPTCP", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        (
            "MPTCP over IPv6",
            libc::AF_INET6,
            libc::SOCK_STREAM,
            libc::IPPROTO_MPTCP,
        ),
        ("sock_diag", libc::AF_NETLINK, libc::SOCK_RAW, 4),
        ("AF_ALG", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    ] {
        let unknown = [libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT].map(Err);
        if unknown.contains(&attempt(None, &[], socket(domain, kind, protocol))) {
            continue; // This kernel was built without it: nothing to deny.
        }
        denied(
            name,
            Sandbox::new().sockets(&EVERY_FAMILY),
            EPERM,
            socket(domain, kind, protocol),
        );
    }
}

#[test]
fn no_way_out_over_sockets_that_exist() {
    let name = format!("cell-sandbox-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    denied(
        "connect to an abstract socket",
        Sandbox::new().sockets(&[Family::Unix]),
        EPERM,
        || io_outcome(UnixStream::connect_addr(&address)),
    );
    denied("a datagram pair", Sandbox::new(), EPERM, || {
        io_outcome(UnixDatagram::pair())
    });
    granted("a stream pair", Sandbox::new(), || io_outcome(UnixStream::pair()));
    let made_before = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    denied("connect without any family", Sandbox::new(), EPERM, || {
        io_outcome(made_before.connect("127.0.0.1:9"))
    });
    let tcp = |domain| {
        // SAFETY: numbers only; the descriptor is left to the child's end.
        unsafe { libc::socket(domain, libc::SOCK_STREAM, 0) }
    };
    let fd = tcp(libc::AF_INET);
    // SAFETY: all zeros is a value of sockaddr_in.
    let mut any: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    any.sin_family = libc::AF_INET as libc::sa_family_t;
    any.sin_port = 0;
    let size = std::mem::size_of_val(&any);
    denied(
        "bind of a TCP socket made before",
        Sandbox::new().sockets(&[Family::Inet4Datagram]),
        EACCES,
        || syscall(libc::SYS_bind, [fd as usize, &raw const any as usize, size, 0, 0]),
    );
}

/// Some of these need root to succeed; as a control it is enough that root's arguments are looked at by the kernel.
fn denied_call((name, number, arguments): &(&str, c_long, [usize; 5])) {
    let reached = common::in_child(|| match syscall(*number, *arguments) {
        Err(e @ (EPERM | ENOSYS)) => {
            panic!("{name}: the control ended with {e} before its arguments were read")
        }
        _ => "reached".to_owned(),
    });
    assert_eq!(reached, "reached");
    assert_eq!(
        attempt(Some(Sandbox::new()), &[], || syscall(*number, *arguments)),
        Err(EPERM),
        "{name}"
    );
}

#[test]
fn no_hold_on_other_processes() {
    let own = std::process::id() as usize;
    let limit = libc::rlimit {
        rlim_cur: 64,
        rlim_max: 64,
    };
    let of_process: &[(&str, c_long, [usize; 5])] = &[
        (
            "ptrace",
            libc::SYS_ptrace,
            [libc::PTRACE_TRACEME as usize, 0, 0, 0, 0],
        ),
        ("process_vm_readv", libc::SYS_process_vm_readv, [0; 5]),
        ("kill", libc::SYS_kill, [0; 5]),
        ("pidfd_open", libc::SYS_pidfd_open, [own, 0, 0, 0, 0]),
        (
            "setrlimit",
            libc::SYS_prlimit64,
            [0, libc::RLIMIT_NOFILE as usize, &raw const limit as usize, 0, 0],
        ),
        (
            "prctl",
            libc::SYS_prctl,
            [libc::PR_SET_PDEATHSIG as usize, 0, 0, 0, 0],
        ),
        ("personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0]),
        ("setuid to itself", libc::SYS_setuid, [65534, 0, 0, 0, 0]),
        ("unshare of nothing", libc::SYS_unshare, [0; 5]),
        ("setns", libc::SYS_setns, [0; 5]),
    ];
    of_process.iter().for_each(denied_call);
}

#[test]
fn no_hold_on_the_kernel() {
    let zeros = [0_u64; 64];
    let zeroed = zeros.as_ptr() as usize;
    let key = [
        c"user".as_ptr() as usize,
        c"x".as_ptr() as usize,
        zeroed,
        1,
        -3_isize as usize,
    ];
    let of_kernel: &[(&str, c_long, [usize; 5])] = &[
        ("io_uring_setup", libc::SYS_io_uring_setup, [4, zeroed, 0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, -3_isize as usize, 1, 0, 0]),
        ("add_key", libc::SYS_add_key, key),
        (
            "seccomp",
            libc::SYS_seccomp,
            [libc::SECCOMP_GET_ACTION_AVAIL as usize, 0, zeroed, 0, 0],
        ),
        (
            "landlock_create_ruleset",
            libc::SYS_landlock_create_ruleset,
            [0, 0, 1, 0, 0],
        ),
        ("chroot", libc::SYS_chroot, [c"/".as_ptr() as usize, 0, 0, 0, 0]),
        ("mount", libc::SYS_mount, [0, c"/".as_ptr() as usize, 0, 0, 0]),
        ("bpf", libc::SYS_bpf, [0; 5]),
        ("userfaultfd", libc::SYS_userfaultfd, [usize::MAX, 0, 0, 0, 0]),
        (
            "sethostname",
            libc::SYS_sethostname,
            [c"".as_ptr() as usize, usize::MAX, 0, 0, 0],
        ),
        ("reboot", libc::SYS_reboot, [0; 5]),
    ];
    of_kernel.iter().for_each(denied_call);
}

#[test]
fn a_signal_reaches_only_itself() {
    let tgkill = |pid: u32| syscall(libc::SYS_tgkill, [pid as usize, pid as usize, 0, 0, 0]);
    granted("itself", Sandbox::new(), || tgkill(std::process::id()));
    denied("another process", Sandbox::new(), EPERM, || {
        // No process has this id: ESRCH shows that the kernel went to look for it.
        match tgkill(u32::MAX >> 1) {
            Err(libc::ESRCH) => Ok(()),
            other => other,
        }
    });
}

#[test]
fn an_extra_call_and_an_extra_request_are_let_through() {
    let memfd = || syscall(libc::SYS_memfd_create, [c"x".as_ptr() as usize, 0, 0, 0, 0]);
    granted(
        "memfd_create",
        Sandbox::new().allow_syscalls(&[libc::SYS_memfd_create]),
        memfd,
    );
    let pair = UnixStream::pair().unwrap();
    let asked = || {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ writes one int, which outlives the call.
        outcome(unsafe { libc::ioctl(pair.0.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }.into())
    };
    denied("ioctl", Sandbox::new(), EPERM, asked);
    granted("ioctl", Sandbox::new().allow_ioctls(&[libc::TIOCOUTQ]), asked);
}
