//! TCP sockets that were handed over live in the network that they were bound in. They must not become a way out of a
//! process that has none: each way is seen to work without the sandbox, on sockets of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::mem::{size_of, zeroed};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use cell_sandbox::{Family, Sandbox, never_connects};
use common::{Attempt, attempt, io_outcome, outcome};
use libc::{EACCES, EPERM};

/// What `cell-api` has: Unix sockets to make, and none of the rest.
fn sandbox() -> Sandbox {
    Sandbox::new().sockets(&[Family::Unix])
}

/// A service of the machine, a listener and an accepted connection that were handed over, and its far end.
struct Handed {
    service: TcpListener,
    listener: TcpListener,
    accepted: TcpStream,
    far: TcpStream,
}

impl Handed {
    fn over() -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (service, listener) = (bind(), bind());
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        Handed {
            service,
            listener,
            accepted,
            far,
        }
    }

    fn address(&self) -> libc::sockaddr_in {
        let SocketAddr::V4(address) = self.service.local_addr().unwrap() else {
            panic!("bound to an address of IPv4");
        };
        // SAFETY: all zeros is a value of sockaddr_in.
        let mut raw: libc::sockaddr_in = unsafe { zeroed() };
        raw.sin_family = libc::AF_INET as libc::sa_family_t;
        raw.sin_port = address.port().to_be();
        raw.sin_addr.s_addr = u32::from(*address.ip()).to_be();
        raw
    }

    /// Whether the service was really reached: "x" arrives there.
    fn arrived(&self) -> bool {
        self.service.set_nonblocking(true).unwrap();
        for _ in 0..100 {
            if let Ok((mut stream, _)) = self.service.accept() {
                let mut byte = [0];
                stream.set_nonblocking(false).unwrap();
                return stream.read(&mut byte).unwrap() == 1 && byte == *b"x";
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        false
    }
}

fn shut(fd: RawFd, how: libc::c_int) -> Attempt {
    // SAFETY: numbers only.
    outcome(unsafe { libc::shutdown(fd, how) }.into())
}

/// connect(2) with AF_UNSPEC: a TCP socket is as new again, and stays in its network.
fn disconnect(fd: RawFd) -> Attempt {
    // SAFETY: all zeros is a value of sockaddr_in, and its family is AF_UNSPEC.
    let nowhere: libc::sockaddr_in = unsafe { zeroed() };
    connect(fd, &nowhere)
}

fn connect(fd: RawFd, to: &libc::sockaddr_in) -> Attempt {
    let size = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: the address outlives the call and its size is told.
    outcome(unsafe { libc::connect(fd, (&raw const *to).cast(), size) }.into())
}

fn send(fd: RawFd) -> Attempt {
    // SAFETY: the byte outlives the call.
    outcome(unsafe { libc::send(fd, b"x".as_ptr().cast(), 1, libc::MSG_NOSIGNAL) } as i64)
}

fn send_to(fd: RawFd, to: &libc::sockaddr_in) -> Attempt {
    let size = size_of::<libc::sockaddr_in>() as u32;
    let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL;
    // SAFETY: byte and address outlive the call.
    outcome(unsafe { libc::sendto(fd, b"x".as_ptr().cast(), 1, flags, (&raw const *to).cast(), size) } as i64)
}

fn send_message(fd: RawFd, to: &libc::sockaddr_in) -> Attempt {
    let mut to = *to;
    let mut byte = *b"x";
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
    outcome(unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL) } as i64)
}

type Way = fn(RawFd, &libc::sockaddr_in) -> Attempt;

/// Each with the error that ends it.
const WAYS: [(&str, i32, Way); 5] = [
    ("SHUT_RD and connect", EPERM, |fd, to| {
        shut(fd, libc::SHUT_RD)?;
        connect(fd, to)?;
        send(fd)
    }),
    ("SHUT_RDWR and connect", EPERM, |fd, to| {
        shut(fd, libc::SHUT_RDWR)?;
        connect(fd, to)?;
        send(fd)
    }),
    // Landlock: without its TCP rules (before Linux 6.7) this is open; docs/threat-model.md.
    ("AF_UNSPEC and connect", EACCES, |fd, to| {
        disconnect(fd)?;
        connect(fd, to)?;
        send(fd)
    }),
    ("AF_UNSPEC and sendto with MSG_FASTOPEN", EPERM, |fd, to| {
        disconnect(fd)?;
        send_to(fd, to)
    }),
    ("AF_UNSPEC and sendmsg with MSG_FASTOPEN", EPERM, |fd, to| {
        disconnect(fd)?;
        send_message(fd, to)
    }),
];

fn landlock_abi() -> i64 {
    // SAFETY: asks for the version, with a null pointer as landlock_create_ruleset(2) wants it then.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, 1_usize) }
}

#[test]
fn no_socket_that_was_handed_over_leads_out() {
    for socket in ["listener", "accepted"] {
        let fd = |handed: &Handed| match socket {
            "listener" => handed.listener.as_raw_fd(),
            _ => handed.accepted.as_raw_fd(),
        };
        for (name, error, way) in WAYS {
            if error == EACCES && landlock_abi() < 4 {
                continue; // Nothing on this kernel holds it; the status says so.
            }
            if socket == "accepted" && name.starts_with("SHUT") {
                continue; // A connection that was shut down stays one: there is nothing to deny.
            }
            let handed = Handed::over();
            let control = attempt(None, &[], || way(fd(&handed), &handed.address()));
            assert_eq!(control, Ok(()), "control: {socket}, {name}");
            assert!(handed.arrived(), "control: {socket}, {name}");
            let handed = Handed::over();
            let inside = attempt(Some(sandbox()), &[], || way(fd(&handed), &handed.address()));
            assert_eq!(inside, Err(error), "{socket}, {name}");
            assert!(!handed.arrived(), "{socket}, {name}");
        }
    }
}

#[test]
fn messages_may_name_where_they_go_and_never_connect_on_the_way() {
    let handed = Handed::over();
    let fd = handed.accepted.as_raw_fd();
    for way in [send_to as Way, send_message] {
        let inside = attempt(Some(sandbox().messages()), &[], || {
            disconnect(fd)?;
            way(fd, &handed.address())
        });
        assert_eq!(inside, Err(EPERM));
    }
    let pair = std::os::unix::net::UnixDatagram::pair().unwrap();
    let plain = || {
        // SAFETY: as in `send_message`, on a socket that is connected.
        let message: libc::msghdr = unsafe { zeroed() };
        // SAFETY: a message without parts points nowhere.
        outcome(unsafe { libc::sendmsg(pair.0.as_raw_fd(), &raw const message, 0) } as i64)
    };
    assert_eq!(attempt(Some(sandbox()), &[], plain), Err(EPERM));
    assert_eq!(attempt(Some(sandbox().messages()), &[], plain), Ok(()));
    let many = || common::syscall(libc::SYS_sendmmsg, [pair.0.as_raw_fd() as usize, 0, 0, 0, 0]);
    assert_eq!(attempt(None, &[], many), Ok(()), "control");
    assert_eq!(attempt(Some(sandbox().messages()), &[], many), Err(EPERM));
}

#[test]
fn a_server_accepts_answers_and_ends_its_connections() {
    let mut handed = Handed::over();
    let inside = attempt(Some(sandbox()), &[], || {
        io_outcome((&handed.accepted).write_all(b"answer"))?;
        send(handed.accepted.as_raw_fd())?;
        io_outcome(handed.accepted.shutdown(Shutdown::Write))
    });
    assert_eq!(inside, Ok(()));
    let mut told = String::new();
    handed.far.read_to_string(&mut told).unwrap();
    assert_eq!(told, "answerx");
}

/// The wait of a connect(2) that nobody answers, bounded.
fn be_patient(fd: RawFd) {
    let wait = libc::timeval {
        tv_sec: 0,
        tv_usec: 300_000,
    };
    let size = size_of::<libc::timeval>() as u32;
    // SAFETY: the value outlives the call and its size is told.
    let rc = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const wait).cast(),
            size,
        )
    };
    assert_eq!(rc, 0);
}

/// Without any sandbox, as on a kernel whose Landlock knows no TCP.
#[test]
fn a_listener_that_never_connects_serves_and_leads_nowhere() {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    for filtered in [false, true] {
        let listener = bind();
        if filtered {
            never_connects(&listener).unwrap();
            never_connects(&listener).expect("a daemon that starts anew finds it done");
        }
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        far.write_all(b"question").unwrap();
        let mut heard = [0; 8];
        accepted.read_exact(&mut heard).unwrap();
        accepted.write_all(b"answer").unwrap();
        let mut told = [0; 6];
        far.read_exact(&mut told).unwrap();
        assert_eq!((&heard, &told), (b"question", b"answer"), "it serves");
        let handed = Handed {
            service: bind(),
            listener,
            accepted,
            far,
        };
        for (socket, fd) in [
            ("listener", handed.listener.as_raw_fd()),
            ("accepted", handed.accepted.as_raw_fd()),
        ] {
            be_patient(fd);
            let way = || {
                disconnect(fd)?;
                connect(fd, &handed.address())?;
                send(fd)
            };
            let expected = if filtered { Err(libc::EINPROGRESS) } else { Ok(()) };
            assert_eq!(
                attempt(None, &[], way),
                expected,
                "{socket}, filtered: {filtered}"
            );
            assert_eq!(handed.arrived(), !filtered, "{socket}, filtered: {filtered}");
            let take_back = || {
                let none: libc::c_int = 0;
                let size = size_of::<libc::c_int>() as u32;
                let option = libc::SO_DETACH_FILTER;
                // SAFETY: the value outlives the call and its size is told.
                let rc =
                    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const none).cast(), size) };
                outcome(rc.into())
            };
            let expected = if filtered { Err(EPERM) } else { Err(libc::ENOENT) };
            assert_eq!(
                attempt(None, &[], take_back),
                expected,
                "{socket}, filtered: {filtered}"
            );
        }
    }
}
