//! One datagram with the local address beside it: IP_PKTINFO (ip(7)), IPV6_PKTINFO (RFC 3542 section 6).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

/// A received datagram; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address of this machine that it was sent to.
    pub to: Option<IpAddr>,
}

/// Room for one control message of [`receive`].
pub fn control_buffer() -> Vec<u8> {
    nix::cmsg_space!(libc::in6_pktinfo)
}

/// Asks for the local address of each datagram from now on.
///
/// # Errors
/// As setsockopt(2).
pub fn ask_for_local_address(socket: &impl AsFd, v6: bool) -> io::Result<()> {
    if v6 {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    Ok(())
}

/// Takes one datagram.
///
/// # Errors
/// As recvmsg(2); `WouldBlock` when there is none.
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Received> {
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let from = message.address.as_ref().and_then(socket_address);
    let to = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    });
    let from = from.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Received {
        length: message.bytes,
        from,
        to,
    })
}

/// Sends one datagram from `local`.
///
/// # Errors
/// As sendmsg(2), also when this machine no longer has the address.
pub fn send_from(socket: &impl AsRawFd, datagram: &[u8], to: SocketAddr, local: IpAddr) -> io::Result<()> {
    let to = SockaddrStorage::from(to);
    let parts = [IoSlice::new(datagram)];
    let send = |control| {
        sendmsg(
            socket.as_raw_fd(),
            &parts,
            &[control],
            MsgFlags::MSG_DONTWAIT,
            Some(&to),
        )
    };
    match local {
        IpAddr::V4(local) => send(ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from_ne_bytes(local.octets()),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        })),
        IpAddr::V6(local) => send(ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: local.octets(),
            },
            ipi6_ifindex: 0,
        })),
    }?;
    Ok(())
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::from(*address));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|address| SocketAddr::from(*address))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_local_address_is_told_and_used() {
        let here = UdpSocket::bind("0.0.0.0:0").unwrap();
        ask_for_local_address(&here, false).unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local: IpAddr = "127.0.0.77".parse().unwrap();
        there
            .send_to(b"hello", (local, here.local_addr().unwrap().port()))
            .unwrap();
        let mut buffer = [0; 16];
        let got = receive(&here, &mut buffer, &mut control_buffer()).unwrap();
        assert_eq!(
            got,
            Received {
                length: 5,
                from: there.local_addr().unwrap(),
                to: Some(local)
            }
        );

        send_from(&here, b"you", got.from, local).unwrap();
        let (length, from) = there.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.ip()), (&b"you"[..], local));
        let foreign = send_from(&here, b"you", got.from, "192.0.2.1".parse().unwrap());
        assert!(foreign.is_err(), "an address that this machine does not have");
    }
}
