//! The system calls of a Cell daemon: data only. What is not named here does not happen.
//!
//! Measured with strace(1) on a tokio/tonic daemon with rusqlite, rustls and tracing; `tests/daemon.rs` runs one inside
//! the sandbox. Calls whose arguments decide whether they are harmless stand in [`narrowed`], not in the lists.

use libc::c_long;

/// A kind of socket that socket(2) may still make after the sandbox is entered. Descriptors that were handed over are
/// not affected: accept(2) works without any family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// AF_UNIX: to connect to other daemons.
    Unix,
    /// AF_NETLINK for routes, nftables and generic netlink (WireGuard), nothing else.
    Netlink,
    /// AF_INET, datagrams over UDP.
    Inet4Datagram,
    /// AF_INET6, datagrams over UDP.
    Inet6Datagram,
    /// AF_INET, streams over TCP. Where the kernel has Landlock's rules for TCP, [`crate::Sandbox::tcp`] is needed as well.
    Inet4Stream,
    /// AF_INET6, streams over TCP; else as [`Family::Inet4Stream`].
    Inet6Stream,
    /// AF_INET and AF_INET6, raw, of the protocol IPPROTO_RAW: by getsockopt(2) on it iptables' tables are read and replaced.
    Tables,
}

/// Calls that no argument makes dangerous beyond the descriptors and paths that the process may reach anyway.
pub(crate) const PLAIN: &[c_long] = &[
    // Descriptors.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    // Files below the paths that Landlock lets through.
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_umask,
    // Readiness.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    // Connections that exist: accepted, handed over, or made by a family that is allowed.
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_mlockall,
    libc::SYS_membarrier,
    // Threads and signals.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Who and what we are, the time, and randomness.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
];

/// Older forms of calls in [`PLAIN`], which glibc still uses on x86-64 and which newer architectures never had.
#[cfg(target_arch = "x86_64")]
pub(crate) const LEGACY: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_link,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const LEGACY: &[c_long] = &[];

/// Calls that connect or bind a socket of a family that is allowed. bind(2) of an AF_UNIX path is nothing that a daemon
/// does: its listeners are handed over.
pub(crate) fn of_families(families: &[Family]) -> Vec<c_long> {
    let mut calls = Vec::new();
    if !families.is_empty() {
        calls.push(libc::SYS_connect);
    }
    if families.iter().any(|family| *family != Family::Unix) {
        calls.push(libc::SYS_bind);
    }
    calls
}

/// What one argument of a call must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// The lower 32 bits are this.
    Is(u32),
    /// All 64 bits are zero: a null pointer.
    Null,
    /// The lower 32 bits, of which only the first number's are looked at, are the second.
    Masked(u32, u32),
}

/// A call and the ways it may be made: each way is a set of tests by argument position, all of which must hold.
pub(crate) type Narrowed = (c_long, Vec<Vec<(u8, Test)>>);

/// Bits of a file's mode that make a program run as somebody else.
const SET_ID: u32 = 0o6000;
/// The type of a socket, without SOCK_NONBLOCK and SOCK_CLOEXEC.
const SOCKET_TYPE: u32 = 0xf;

/// Calls that are allowed in some forms only. `messages`: whether a message may name where it goes.
pub(crate) fn narrowed(families: &[Family], ioctls: &[u32], messages: bool, own_pid: u32) -> Vec<Narrowed> {
    let no_set_id = |mode: u8| vec![vec![(mode, Test::Masked(SET_ID, 0))]];
    let not_executable = || vec![vec![(2, Test::Masked(libc::PROT_EXEC as u32, 0))]];
    let one_of =
        |argument: u8, values: &[u32]| values.iter().map(|v| vec![(argument, Test::Is(*v))]).collect();
    let mut calls: Vec<Narrowed> = vec![
        // glibc passes mode 0 where no file can be made, so the mode can be tested whatever the flags are.
        (libc::SYS_openat, no_set_id(3)),
        (libc::SYS_mkdirat, no_set_id(2)),
        (libc::SYS_fchmod, no_set_id(1)),
        (libc::SYS_fchmodat, no_set_id(2)),
        (libc::SYS_mmap, not_executable()),
        (libc::SYS_mprotect, not_executable()),
        // A thread, never a process. clone3 hides its flags in memory and gets ENOSYS, after which glibc uses clone.
        (
            libc::SYS_clone,
            vec![vec![(
                0,
                Test::Masked(libc::CLONE_THREAD as u32, libc::CLONE_THREAD as u32),
            )]],
        ),
        // abort(3) and pthread_kill(3) within the process.
        (libc::SYS_tgkill, one_of(0, &[own_pid])),
        // Reading limits; glibc's getrlimit(2) is this call too. Raising one's own is refused.
        (libc::SYS_prlimit64, vec![vec![(2, Test::Null)]]),
        (
            libc::SYS_prctl,
            one_of(
                0,
                &[
                    libc::PR_SET_NAME as u32,
                    libc::PR_GET_NAME as u32,
                    libc::PR_SET_VMA as u32,
                ],
            ),
        ),
        (libc::SYS_ioctl, one_of(1, &[PLAIN_IOCTLS, ioctls].concat())),
        // tokio's signal driver. A datagram pair could be sent anywhere with sendto(2).
        (
            libc::SYS_socketpair,
            vec![vec![
                (0, Test::Is(libc::AF_UNIX as u32)),
                (1, Test::Masked(SOCKET_TYPE, libc::SOCK_STREAM as u32)),
            ]],
        ),
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_mkdir, no_set_id(1)), (libc::SYS_chmod, no_set_id(1))]);
    calls.extend(on_connections(messages));
    let sockets: Vec<_> = families.iter().flat_map(|family| sockets_of(*family)).collect();
    if !sockets.is_empty() {
        calls.push((libc::SYS_socket, sockets));
    }
    calls
}

/// What a process that starts programs needs beside, and what those need: plain calls, and forms that stand in place of those of
/// [`narrowed`]. Measured with strace(1) on iptables-legacy-restore, iptables-legacy-save and ipset.
pub(crate) fn of_programs() -> (Vec<c_long>, Vec<Narrowed>) {
    // posix_spawn(3) of glibc where clone3 is not known. No fork(2): what is started starts nothing itself.
    let spawned = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u32;
    let thread = Test::Masked(libc::CLONE_THREAD as u32, libc::CLONE_THREAD as u32);
    // Code is mapped from files, never written and run.
    let never_both = || {
        vec![
            vec![(2, Test::Masked(libc::PROT_EXEC as u32, 0))],
            vec![(2, Test::Masked(libc::PROT_WRITE as u32, 0))],
        ]
    };
    #[allow(unused_mut, reason = "newer architectures never had the older forms")]
    let mut plain = vec![
        libc::SYS_execve,
        libc::SYS_wait4,
        libc::SYS_waitid,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        // One that takes too long is ended. The user has no other process.
        libc::SYS_kill,
        libc::SYS_set_tid_address,
        libc::SYS_setitimer,
    ];
    #[cfg(target_arch = "x86_64")]
    plain.extend([libc::SYS_arch_prctl, libc::SYS_dup2, libc::SYS_alarm]);
    let narrowed = vec![
        (
            libc::SYS_clone,
            vec![vec![(0, thread)], vec![(0, Test::Is(spawned))]],
        ),
        (libc::SYS_mmap, never_both()),
        (libc::SYS_mprotect, never_both()),
    ];
    (plain, narrowed)
}

/// What is sent over sockets that exist. A TCP socket that was handed over lives in the network that it was bound in, so it
/// must not become a way out of this process's own: not by connecting while sending (MSG_FASTOPEN, which no Landlock rule
/// sees), and not by giving up listening, which SHUT_RD does.
fn on_connections(messages: bool) -> Vec<Narrowed> {
    let not_connecting = |flags: u8| (flags, Test::Masked(libc::MSG_FASTOPEN as u32, 0));
    let mut calls = vec![(
        libc::SYS_shutdown,
        vec![vec![(1, Test::Is(libc::SHUT_WR as u32))]],
    )];
    if messages {
        calls.push((libc::SYS_sendto, vec![vec![not_connecting(3)]]));
        calls.push((libc::SYS_sendmsg, vec![vec![not_connecting(2)]]));
    } else {
        // send(2) is sendto(2) without an address. sendmsg(2) names its address in memory, where no filter looks.
        calls.push((libc::SYS_sendto, vec![vec![not_connecting(3), (4, Test::Null)]]));
    }
    calls
}

/// ioctl(2) requests of std (FIONBIO, FIOCLEX, FIONREAD), of colour detection (TCGETS) and of the caller check.
const PLAIN_IOCTLS: &[u32] = &[
    libc::FIONBIO as u32,
    libc::FIOCLEX as u32,
    libc::FIONREAD as u32,
    libc::TCGETS as u32,
    libc::PIDFD_GET_INFO as u32,
];

/// The sockets of a family: domain, type and protocol.
fn sockets_of(family: Family) -> Vec<Vec<(u8, Test)>> {
    let socket = |domain: i32, kind: i32, protocol: i32| {
        vec![
            (0, Test::Is(domain as u32)),
            (1, Test::Masked(SOCKET_TYPE, kind as u32)),
            (2, Test::Is(protocol as u32)),
        ]
    };
    let every = |domain, kinds: &[i32], protocols: &[i32]| {
        kinds
            .iter()
            .flat_map(|kind| protocols.iter().map(|protocol| socket(domain, *kind, *protocol)))
            .collect()
    };
    match family {
        Family::Unix => every(
            libc::AF_UNIX,
            &[libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET],
            &[0],
        ),
        Family::Netlink => every(
            libc::AF_NETLINK,
            &[libc::SOCK_RAW, libc::SOCK_DGRAM],
            &[
                libc::NETLINK_ROUTE,
                libc::NETLINK_NETFILTER,
                libc::NETLINK_GENERIC,
            ],
        ),
        Family::Inet4Datagram => every(libc::AF_INET, &[libc::SOCK_DGRAM], &[0, libc::IPPROTO_UDP]),
        Family::Inet6Datagram => every(libc::AF_INET6, &[libc::SOCK_DGRAM], &[0, libc::IPPROTO_UDP]),
        Family::Tables => [libc::AF_INET, libc::AF_INET6]
            .into_iter()
            .flat_map(|domain| every(domain, &[libc::SOCK_RAW], &[libc::IPPROTO_RAW]))
            .collect(),
        Family::Inet4Stream => every(libc::AF_INET, &[libc::SOCK_STREAM], &[0, libc::IPPROTO_TCP]),
        Family::Inet6Stream => every(libc::AF_INET6, &[libc::SOCK_STREAM], &[0, libc::IPPROTO_TCP]),
    }
}
