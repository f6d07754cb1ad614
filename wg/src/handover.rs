//! The hand-over message: the only way that a descriptor enters this process (README.md).

use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{SFlag, fstat, major, minor};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// Version of the message.
pub const VERSION: u8 = 1;
/// The answer's first byte: the descriptors were taken.
pub const TAKEN: u8 = 0;
/// The answer's first byte: they were not, and UTF-8 text follows that says why.
pub const REFUSED: u8 = 1;

/// IFNAMSIZ without the final NUL (include/uapi/linux/if.h).
const NAME_MAX: usize = 15;
const DESCRIPTORS: usize = 3;
/// `/dev/net/tun` (Documentation/admin-guide/devices.txt).
const TUN_DEVICE: (u64, u64) = (10, 200);

/// Name of a network interface, as the kernel accepts it (`dev_valid_name`) and printable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// `None`: it is not one.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        std::str::from_utf8(name)
            .ok()
            .filter(|name| (1..=NAME_MAX).contains(&name.len()) && name.as_bytes().iter().all(allowed))
            .filter(|name| !matches!(*name, "." | ".."))
            .map(|name| InterfaceName(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one hand-over brings: everything that a WireGuard device needs.
#[derive(Debug)]
pub struct HandOver {
    /// Name of the TUN, told by netd; it tells this device from others.
    pub interface: InterfaceName,
    /// The TUN: `IFF_TUN | IFF_NO_PI`, no virtio-net header.
    pub tun: OwnedFd,
    /// UDP over IPv4, bound.
    pub udp_v4: UdpSocket,
    /// UDP over IPv6 alone, bound to the same port.
    pub udp_v6: UdpSocket,
    /// That port.
    pub port: u16,
}

/// Why a hand-over is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidHandOver {
    /// The connection broke, or nothing came.
    #[error("the message could not be received: {0}")]
    Receive(#[from] io::Error),
    /// More bytes or descriptors than the message has.
    #[error("the message is too long or carries too many descriptors")]
    TooLong,
    /// A message of another version.
    #[error("the message has version {0:?}, this process knows {VERSION}")]
    Version(Option<u8>),
    /// No interface name.
    #[error(
        "the interface name has 1-{NAME_MAX} bytes from A-Z a-z 0-9 . _ - and is neither \".\" nor \"..\""
    )]
    Name,
    /// Not three descriptors.
    #[error("the message carries {0} descriptors, not {DESCRIPTORS} (TUN, UDP over IPv4, UDP over IPv6)")]
    Count(usize),
    /// A descriptor of another kind.
    #[error("descriptor {index} is not {expected}")]
    Kind {
        /// From 0, in the order of the message.
        index: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// Sockets on two ports.
    #[error("the UDP sockets are bound to ports {0} and {1}, not to one")]
    Ports(u16, u16),
}

impl HandOver {
    /// Receives the message that waits on `socket` (SOCK_SEQPACKET). `WouldBlock` when none does.
    ///
    /// # Errors
    /// [`InvalidHandOver`]; whatever descriptors came are closed.
    pub fn receive(socket: impl AsFd) -> Result<Self, InvalidHandOver> {
        let (payload, descriptors) = receive_raw(socket)?;
        HandOver::parse(&payload, descriptors)
    }

    /// Checks a message.
    ///
    /// # Errors
    /// [`InvalidHandOver`]; the descriptors are closed.
    pub fn parse(payload: &[u8], descriptors: Vec<OwnedFd>) -> Result<Self, InvalidHandOver> {
        let interface = interface_name(payload)?;
        let count = descriptors.len();
        let [tun, v4, v6] =
            <[OwnedFd; DESCRIPTORS]>::try_from(descriptors).map_err(|_| InvalidHandOver::Count(count))?;
        if !is_tun(&tun) {
            return Err(InvalidHandOver::Kind {
                index: 0,
                expected: "a TUN",
            });
        }
        let (udp_v4, port) = udp(v4, false).ok_or(InvalidHandOver::Kind {
            index: 1,
            expected: "a UDP socket bound to an IPv4 address and a port",
        })?;
        let (udp_v6, port_v6) = udp(v6, true).ok_or(InvalidHandOver::Kind {
            index: 2,
            expected: "a UDP socket bound to an IPv6 address and a port, IPv6 only",
        })?;
        if port != port_v6 {
            return Err(InvalidHandOver::Ports(port, port_v6));
        }
        Ok(HandOver {
            interface,
            tun,
            udp_v4,
            udp_v6,
            port,
        })
    }
}

fn receive_raw(socket: impl AsFd) -> Result<(Vec<u8>, Vec<OwnedFd>), InvalidHandOver> {
    let mut payload = [0; 1 + NAME_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut payload)], &mut control, flags)
        .map_err(io::Error::from)?;
    // Collected before any check, so that a refused message leaves no descriptor open.
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(InvalidHandOver::TooLong);
    }
    Ok((payload[..message.bytes].to_vec(), descriptors))
}

fn interface_name(payload: &[u8]) -> Result<InterfaceName, InvalidHandOver> {
    let (version, name) = payload.split_first().ok_or(InvalidHandOver::Version(None))?;
    if *version != VERSION {
        return Err(InvalidHandOver::Version(Some(*version)));
    }
    InterfaceName::parse(name).ok_or(InvalidHandOver::Name)
}

fn is_tun(descriptor: &OwnedFd) -> bool {
    fstat(descriptor).is_ok_and(|stat| {
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR
            && (major(stat.st_rdev), minor(stat.st_rdev)) == TUN_DEVICE
    })
}

/// The socket and its port, if it is a bound datagram socket of the family.
fn udp(descriptor: OwnedFd, v6: bool) -> Option<(UdpSocket, u16)> {
    if getsockopt(&descriptor, sockopt::SockType).ok()? != SockType::Datagram {
        return None;
    }
    let socket = UdpSocket::from(descriptor);
    let port = match (socket.local_addr().ok()?, v6) {
        (SocketAddr::V4(address), false) => address.port(),
        (SocketAddr::V6(address), true) if getsockopt(&socket, sockopt::Ipv6V6Only).ok()? => address.port(),
        _ => return None,
    };
    (port != 0).then_some((socket, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::fs::File;

    fn fault(payload: &[u8], descriptors: Vec<OwnedFd>) -> String {
        HandOver::parse(payload, descriptors).unwrap_err().to_string()
    }

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn other_versions_are_refused() {
        assert!(fault(b"", vec![]).contains("version None"));
        assert!(fault(b"\x02wg0", vec![]).contains("version Some(2)"));
    }

    #[test]
    fn names_that_the_kernel_would_not_take_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:b",
            "wg0\0",
            "sixteen-bytes-xx",
            "wg\u{e9}",
        ] {
            let payload = [&[VERSION], name.as_bytes()].concat();
            assert!(
                matches!(interface_name(&payload), Err(InvalidHandOver::Name)),
                "{name:?}"
            );
        }
        assert_eq!(interface_name(b"\x01wg0").unwrap().as_str(), "wg0");
    }

    #[test]
    fn the_count_and_kind_of_descriptors_are_checked() {
        assert!(fault(b"\x01wg0", vec![]).contains("carries 0 descriptors"));
        assert!(fault(b"\x01wg0", vec![null(), null()]).contains("carries 2"));
        assert!(fault(b"\x01wg0", vec![null(), null(), null()]).contains("descriptor 0 is not a TUN"));
    }

    #[test]
    fn only_bound_udp_sockets_of_the_family_pass() {
        let v4 = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        assert!(udp(v4(), false).is_some());
        assert!(udp(v4(), true).is_none());
        assert!(udp(null(), false).is_none());
        assert!(udp(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(), false).is_none());
        let dual = UdpSocket::bind("[::]:0").unwrap();
        assert!(
            udp(dual.try_clone().unwrap().into(), true).is_none(),
            "a dual-stack socket"
        );
    }
}
