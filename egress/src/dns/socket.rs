//! Sockets that send by one way, and whose fault it is where there is none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use cell_egress_core::dns::table::Interface;
use cell_egress_core::exit::ExitId;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::marker::Marker;
use super::upstream::NoAnswer;

/// By which way a socket sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Via<'a> {
    /// As the machine's routes lead.
    Routes,
    /// Out of an interface.
    Interface(&'a Interface),
    /// As packets of the exit's peers go: by its mark.
    Mark(&'a Marker, &'a ExitId),
}

impl Via<'_> {
    async fn lead(self, socket: BorrowedFd<'_>) -> Result<(), NoAnswer> {
        match self {
            Via::Routes => Ok(()),
            Via::Interface(interface) => {
                setsockopt(&socket, sockopt::BindToDevice, &interface.as_str().into())
                    .map_err(|error| unmade(error.into()))
            }
            Via::Mark(marker, exit) => marker.mark(exit, socket).await.map_err(NoAnswer::NoMark),
        }
    }
}

impl<'a> From<Option<&'a Interface>> for Via<'a> {
    fn from(interface: Option<&'a Interface>) -> Self {
        interface.map_or(Via::Routes, Via::Interface)
    }
}

/// A socket for datagrams. The port is the kernel's choice, a random one.
pub(super) async fn udp(via: Via<'_>, to: SocketAddr) -> Result<UdpSocket, NoAnswer> {
    let any = match to.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await.map_err(unmade)?;
    via.lead(socket.as_fd()).await?;
    Ok(socket)
}

/// A connection by this way.
pub(crate) async fn connect(at: SocketAddr, via: Via<'_>) -> Result<TcpStream, NoAnswer> {
    Ok(tcp(via, at).await?.connect(at).await?)
}

pub(super) async fn tcp(via: Via<'_>, to: SocketAddr) -> Result<TcpSocket, NoAnswer> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4().map_err(unmade)?,
        SocketAddr::V6(_) => TcpSocket::new_v6().map_err(unmade)?,
    };
    via.lead(socket.as_fd()).await?;
    Ok(socket)
}

/// Why there is no socket, or none that sends by the way. An interface that is gone is the exit's, and is all that is seen of an
/// exit whose tunnel is away; an address of a family that the machine does not speak is the resolver's, for ever. All else
/// is this machine's own: it lasts as long as a shortage, and says nothing of the way.
fn unmade(error: io::Error) -> NoAnswer {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENODEV | Errno::EAFNOSUPPORT) => NoAnswer::Unreachable(error),
        _ => NoAnswer::Local(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::failure::Failure;

    fn error(errno: Errno) -> io::Error {
        errno.into()
    }

    #[test]
    fn what_the_machine_lacks_is_not_the_ways() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert!(!unmade(error(errno)).is_of_the_way(), "{errno}");
            assert!(!NoAnswer::from(error(errno)).is_of_the_way(), "{errno}");
            let by_exit = NoAnswer::Exit(Failure::connecting(error(errno)));
            assert!(!by_exit.is_of_the_way(), "{errno}");
        }
        for errno in [Errno::EPERM, Errno::EADDRINUSE] {
            assert!(matches!(unmade(error(errno)), NoAnswer::Local(_)), "{errno}");
        }
        for errno in [Errno::ENODEV, Errno::EAFNOSUPPORT] {
            assert!(unmade(error(errno)).is_of_the_way(), "{errno}");
        }
        // Of what was sent: also what a firewall refuses, since by its way nothing goes out.
        for errno in [Errno::ECONNREFUSED, Errno::ENETUNREACH, Errno::EPERM] {
            assert!(NoAnswer::from(error(errno)).is_of_the_way(), "{errno}");
            let by_exit = NoAnswer::Exit(Failure::connecting(error(errno)));
            assert!(by_exit.is_of_the_way(), "{errno}");
        }
        assert!(NoAnswer::Timeout.is_of_the_way());
    }

    #[tokio::test]
    async fn an_interface_that_is_gone_is_the_exits() {
        let gone = Interface::try_new("wgext_gone", &["wgext_".to_owned()]).unwrap();
        let to = "127.0.0.1:53".parse().unwrap();
        let answer = udp(Via::Interface(&gone), to).await.unwrap_err();
        assert!(matches!(answer, NoAnswer::Unreachable(_)), "{answer}");
        assert!(udp(Via::Routes, to).await.is_ok(), "control");
    }
}
