//! S: sockets that are somebody else's.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use crate::attempt::{Check, Outcome, answered};
use crate::restorer::SOCKET;
use crate::target::Neighbour;

pub const CHECKS: &[Check] = &[
    Check {
        id: "S01",
        what: "ping Docker over its socket",
        attempt: |t| ping_docker(&t.docker).into(),
    },
    Check {
        id: "S02",
        what: "connect to the system bus",
        attempt: |_| connect(Path::new(Neighbour::BUS)),
    },
    Check {
        id: "S03",
        what: "connect to netd's key socket",
        attempt: |t| connect(&t.socket("keys/vault.sock")),
    },
    Check {
        id: "S04",
        what: "connect to cell-wg",
        attempt: |t| connect(&t.socket("wg/wg.sock")),
    },
    Check {
        id: "S05",
        what: "forge SCM_CREDENTIALS of root",
        attempt: |_| forge_root(),
    },
    Check {
        id: "S06",
        what: "connect to the automation socket",
        attempt: |t| connect(&t.socket("api/api.sock")),
    },
    Check {
        id: "S07",
        what: "connect to a neighbour's abstract socket",
        attempt: |_| {
            SocketAddr::from_abstract_name(Neighbour::name())
                .and_then(|name| UnixStream::connect_addr(&name))
                .into()
        },
    },
    Check {
        id: "S08",
        what: "hand cell-wg a device",
        attempt: |t| sequenced(&t.socket("wg/device.sock")),
    },
    Check {
        id: "S09",
        what: "connect to egress's key socket",
        attempt: |t| connect(&t.socket("exit-keys/vault.sock")),
    },
    Check {
        id: "S10",
        what: "connect to cell-openvpn's key socket",
        attempt: |t| connect(&t.socket("openvpn-keys/vault.sock")),
    },
    Check {
        id: "S11",
        what: "connect to cell-openvpn as if it were a program of its",
        attempt: |t| connect(&t.socket("programs/management.sock")),
    },
    Check {
        id: "S12",
        what: "connect to cell-iptables",
        attempt: |t| connect(&t.socket(SOCKET)),
    },
    Check {
        id: "S13",
        what: "connect to cell-broker's key socket",
        attempt: |t| connect(&t.socket("broker-keys/vault.sock")),
    },
    Check {
        id: "S14",
        what: "have netd give a socket an exit's mark",
        attempt: |t| sequenced(&t.socket("marks/mark.sock")),
    },
];

fn connect(path: &Path) -> Outcome {
    UnixStream::connect(path).into()
}

fn ping_docker(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// SOCK_SEQPACKET, which std does not know.
fn sequenced(path: &Path) -> Outcome {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let attempt = || -> nix::Result<()> {
        let made = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        connect(made.as_raw_fd(), &UnixAddr::new(path)?)
    };
    attempt().map_err(io::Error::from).into()
}

fn forge_root() -> Outcome {
    let (near, _far) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(e) => return Outcome::Void(e.to_string()),
    };
    let credentials = libc::ucred {
        pid: std::process::id().cast_signed(),
        uid: 0,
        gid: 0,
    };
    let mut byte = [0_u8; 1];
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let mut space = [0_u64; 8];
    // SAFETY: all zeros is a value of msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    let size = std::mem::size_of::<libc::ucred>() as u32;
    // SAFETY: `space` is aligned and larger than one header with a ucred; the pointers into it come from the macros that
    // exist for it, and everything outlives the call.
    answered(unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_CREDENTIALS;
        (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
        libc::CMSG_DATA(header)
            .cast::<libc::ucred>()
            .write_unaligned(credentials);
        libc::sendmsg(near.as_raw_fd(), &raw const message, 0) as i64
    })
}
