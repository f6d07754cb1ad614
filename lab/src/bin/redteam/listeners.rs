//! L: TCP sockets that `cell-api` was handed, as ways out of its empty network: they live in the network that they were
//! bound in.

use std::io;
use std::mem::{ManuallyDrop, size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use crate::attempt::{Check, Outcome};
use crate::target::Neighbour;

pub const CHECKS: &[Check] = &[
    Check {
        id: "L01",
        what: "end a listener (SHUT_RD), connect with it",
        attempt: |_| {
            attempt(0, |handed, to| {
                let fd = handed.listener.as_raw_fd();
                shut_read(fd)?;
                connect(fd, to)?;
                send(fd)
            })
        },
    },
    Check {
        id: "L02",
        what: "end a listener (AF_UNSPEC), connect with it",
        attempt: |_| {
            attempt(1, |handed, to| {
                let fd = handed.listener.as_raw_fd();
                disconnect(fd)?;
                connect(fd, to)?;
                send(fd)
            })
        },
    },
    Check {
        id: "L03",
        what: "end a listener, connect by sendto MSG_FASTOPEN",
        attempt: |_| {
            attempt(2, |handed, to| {
                let fd = handed.listener.as_raw_fd();
                disconnect(fd)?;
                send_to(fd, to)
            })
        },
    },
    Check {
        id: "L04",
        what: "end a listener, connect by sendmsg MSG_FASTOPEN",
        attempt: |_| {
            attempt(3, |handed, to| {
                let fd = handed.listener.as_raw_fd();
                disconnect(fd)?;
                send_message(fd, to)
            })
        },
    },
    Check {
        id: "L05",
        what: "end an accepted connection, connect with it",
        attempt: |_| {
            attempt(4, |handed, to| {
                let fd = handed.accepted.as_raw_fd();
                disconnect(fd)?;
                connect(fd, to)?;
                send(fd)
            })
        },
    },
    Check {
        id: "L06",
        what: "end an accepted connection, sendto MSG_FASTOPEN",
        attempt: |_| {
            attempt(5, |handed, to| {
                let fd = handed.accepted.as_raw_fd();
                disconnect(fd)?;
                send_to(fd, to)
            })
        },
    },
];

/// What a process was handed: a listener, and a connection that it accepted.
struct Handed {
    /// Closed by whoever inherited it, at the process's end.
    listener: ManuallyDrop<TcpListener>,
    accepted: TcpStream,
    _far: Option<TcpStream>,
}

/// One for each check and each stance outside the sandbox, since an attempt uses its sockets up for whoever else holds them.
static HANDED: OnceLock<Vec<[Handed; 2]>> = OnceLock::new();

/// Makes the sockets of the attempts outside the sandbox, which its processes inherit.
///
/// # Errors
/// As bind(2) and connect(2).
pub fn hand_over() -> Result<()> {
    let one = || -> io::Result<Handed> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let far = TcpStream::connect(listener.local_addr()?)?;
        let accepted = listener.accept()?.0;
        Ok(Handed {
            listener: ManuallyDrop::new(listener),
            accepted,
            _far: Some(far),
        })
    };
    let handed = CHECKS
        .iter()
        .map(|_| Ok([one()?, one()?]))
        .collect::<io::Result<_>>()?;
    HANDED
        .set(handed)
        .map_err(|_| anyhow!("the sockets were handed over before"))
}

/// Makes a listener such as `cell-api` holds it, and has somebody connect to it, whom it can accept.
///
/// # Errors
/// As setsockopt(2) and connect(2).
pub fn as_of_the_api(listener: &TcpListener) -> io::Result<TcpStream> {
    cell_sandbox::never_connects(listener)?;
    impatient(listener.as_raw_fd())?;
    TcpStream::connect(listener.local_addr()?)
}

/// A connect that nobody answers ends after a second; an accepted connection has this of its listener.
fn impatient(fd: RawFd) -> io::Result<()> {
    let wait = libc::timeval {
        tv_sec: 1,
        tv_usec: 0,
    };
    let size = size_of::<libc::timeval>() as u32;
    // SAFETY: the value outlives the call and its size is told.
    done(unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const wait).cast(),
            size,
        )
    })
}

fn attempt(check: usize, way: fn(&Handed, &libc::sockaddr_in) -> io::Result<()>) -> Outcome {
    let missing = || Outcome::Void("no socket was handed over".to_owned());
    match HANDED.get() {
        Some(all) => {
            let stance = usize::from(!nix::unistd::geteuid().is_root());
            all.get(check)
                .map_or_else(missing, |handed| way(&handed[stance], &neighbour()).into())
        }
        // A program of its own, inside the sandbox: it has what the launcher left it.
        None => inherited().map_or_else(missing, |handed| way(&handed, &neighbour()).into()),
    }
}

/// The TCP listener on loopback among the inherited descriptors, and a connection accepted from it.
fn inherited() -> Option<Handed> {
    (3..16).find_map(|fd| {
        // SAFETY: the number of a descriptor that this process inherited and nobody else in it uses; what is no TCP listener
        // fails below, and is left open.
        let listener = ManuallyDrop::new(unsafe { TcpListener::from_raw_fd(fd) });
        let address = listener.local_addr().ok()?;
        let accepted = address.ip().is_loopback().then(|| listener.accept().ok())??.0;
        Some(Handed {
            listener,
            accepted,
            _far: None,
        })
    })
}

fn neighbour() -> libc::sockaddr_in {
    // SAFETY: all zeros is a value of sockaddr_in.
    let mut raw: libc::sockaddr_in = unsafe { zeroed() };
    if let SocketAddr::V4(address) = Neighbour::TCP {
        raw.sin_family = libc::AF_INET as libc::sa_family_t;
        raw.sin_port = address.port().to_be();
        raw.sin_addr.s_addr = u32::from(*address.ip()).to_be();
    }
    raw
}

fn done(rc: impl Into<i64>) -> io::Result<()> {
    if rc.into() >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn shut_read(fd: RawFd) -> io::Result<()> {
    // SAFETY: numbers only.
    done(unsafe { libc::shutdown(fd, libc::SHUT_RD) })
}

/// connect(2) with AF_UNSPEC: a TCP socket is as new again, and stays in its network.
fn disconnect(fd: RawFd) -> io::Result<()> {
    // SAFETY: all zeros is a value of sockaddr_in, and its family is AF_UNSPEC.
    connect(fd, &unsafe { zeroed() })
}

fn connect(fd: RawFd, to: &libc::sockaddr_in) -> io::Result<()> {
    let size = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: the address outlives the call and its size is told.
    done(unsafe { libc::connect(fd, (&raw const *to).cast(), size) })
}

fn send(fd: RawFd) -> io::Result<()> {
    // SAFETY: the byte outlives the call.
    done(unsafe { libc::send(fd, b"x".as_ptr().cast(), 1, libc::MSG_NOSIGNAL) } as i64)
}

fn send_to(fd: RawFd, to: &libc::sockaddr_in) -> io::Result<()> {
    let size = size_of::<libc::sockaddr_in>() as u32;
    let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL;
    // SAFETY: byte and address outlive the call, and the size of both is told.
    done(unsafe { libc::sendto(fd, b"x".as_ptr().cast(), 1, flags, (&raw const *to).cast(), size) } as i64)
}

fn send_message(fd: RawFd, to: &libc::sockaddr_in) -> io::Result<()> {
    let (mut to, mut byte) = (*to, *b"x");
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: all zeros is a value of msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut to).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // SAFETY: everything that the message points to outlives the call.
    done(unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL) } as i64)
}
