//! N: the network, which `cell-api` has none of.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::attempt::{Check, Outcome};
use crate::target::Neighbour;

pub const CHECKS: &[Check] = &[
    Check {
        id: "N01",
        what: "connect to a service on loopback",
        attempt: |_| TcpStream::connect_timeout(&Neighbour::TCP, Duration::from_secs(2)).into(),
    },
    Check {
        id: "N02",
        what: "send a datagram to a service on loopback",
        attempt: |_| {
            UdpSocket::bind("127.0.0.1:0")
                .and_then(|socket| socket.send_to(b"x", Neighbour::UDP))
                .into()
        },
    },
    Check {
        id: "N03",
        what: "listen on a TCP port",
        attempt: |_| TcpListener::bind("0.0.0.0:4444").into(),
    },
    Check {
        id: "N04",
        what: "raw socket",
        attempt: |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).into(),
    },
    Check {
        id: "N05",
        what: "packet socket",
        attempt: |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into(),
    },
    Check {
        id: "N06",
        what: "ask for routes and addresses over netlink",
        attempt: |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).into(),
    },
    Check {
        id: "N07",
        what: "make an nftables table",
        attempt: |_| nft_table().into(),
    },
    Check {
        id: "N08",
        what: "listen on a TCP port below 1024",
        attempt: |_| TcpListener::bind("127.0.0.1:443").into(),
    },
    Check {
        id: "N09",
        what: "mark packets",
        attempt: |_| mark().into(),
    },
    Check {
        id: "N10",
        what: "exotic sockets (AF_ALG, AF_VSOCK, AF_XDP)",
        attempt: |_| {
            let kinds = [
                (libc::AF_ALG, libc::SOCK_SEQPACKET),
                (libc::AF_VSOCK, libc::SOCK_STREAM),
                (libc::AF_XDP, libc::SOCK_RAW),
            ];
            let mut told = Outcome::Void("nothing tried".to_owned());
            for (domain, kind) in kinds {
                told = socket(domain, kind, 0).into();
                if told == Outcome::Open {
                    break;
                }
            }
            told
        },
    },
];

fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    match unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel just opened it and nobody else knows it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn mark() -> io::Result<()> {
    let made = UdpSocket::bind("127.0.0.1:0")?;
    let mark: u32 = 0x2000;
    // SAFETY: `mark` outlives the call and its size is told.
    let rc = unsafe {
        libc::setsockopt(
            made.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            (&raw const mark).cast(),
            size_of::<u32>() as u32,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// One netlink message: header of 16 bytes, then `body`.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = [length.to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat();
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A batch that makes the table `redteam` of family inet (linux/netfilter/nfnetlink.h, nf_tables.h).
fn nft_table() -> io::Result<()> {
    const REQUEST: u16 = 1;
    const ACK: u16 = 4;
    const CREATE: u16 = 0x400;
    let of_nftables = [0, 0, 0, 10];
    let mut body = vec![1, 0, 0, 0];
    body.extend_from_slice(&12_u16.to_ne_bytes());
    body.extend_from_slice(&1_u16.to_ne_bytes());
    body.extend_from_slice(b"redteam\0");
    let batch = [
        message(16, REQUEST, &of_nftables),
        message(10 << 8, REQUEST | CREATE | ACK, &body),
        message(17, REQUEST, &of_nftables),
    ];
    let made = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)?;
    let batch = batch.concat();
    let mut answer = [0_u8; 4096];
    // SAFETY: both buffers outlive the calls and their lengths are told.
    let received = unsafe {
        if libc::send(made.as_raw_fd(), batch.as_ptr().cast(), batch.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::recv(made.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    };
    if received < 20 {
        return Err(io::Error::last_os_error());
    }
    // NLMSG_ERROR: the negative error number after the header, 0 for an acknowledgement.
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}
