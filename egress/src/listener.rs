//! Takes redirected connections on the two sockets of a redirect port.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use cell_egress_core::destination::{Destination, NotCarried};
use cell_egress_core::exit::RedirectPort;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, getsockopt,
    listen, setsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on each address, also where it does not exist yet (ip(7), IP_FREEBIND); a machine may lack IPv6.
///
/// # Errors
/// When a port is taken or may not be bound.
pub fn listen_on(addresses: &[IpAddr], port: RedirectPort) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match listener(SocketAddr::new(*address, port.get())) {
            Ok(listener) => listeners.push(listener),
            Err(error) if lacks_family(*address, &error) => {
                tracing::info!(port = port.get(), "this machine has no IPv6");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

/// Whether it is IPv6 that the machine does not have.
pub(crate) fn lacks_family(address: IpAddr, error: &io::Error) -> bool {
    let known = [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL].map(|errno| Some(errno as i32));
    address.is_ipv6() && known.contains(&error.raw_os_error())
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(listening(address)?)
}

/// Takes connections at an address, also where it does not exist yet.
pub(crate) fn listening(address: SocketAddr) -> io::Result<StdListener> {
    let socket = bound(address, SockType::Stream)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(StdListener::from(socket))
}

/// A socket of this process's own at an address, also where it does not exist yet.
pub(crate) fn bound(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None)?;
    if kind == SockType::Stream {
        // Of datagrams it would let another socket take some.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Where a connection was meant to go, as the kernel's connection tracking remembers it.
///
/// # Errors
/// [`NotCarried`], also when the kernel remembers nothing: then nobody redirected it.
pub fn destination_of(stream: &TcpStream) -> Result<Destination, NotCarried> {
    let local = stream.local_addr().map_err(|_| NotCarried::NotRedirected)?;
    let original = match local.ip().to_canonical() {
        IpAddr::V4(_) => original_v4(stream),
        IpAddr::V6(_) => original_v6(stream),
    };
    Destination::judge(original.map_err(|_| NotCarried::NotRedirected)?, local)
}

fn original_v4(stream: &impl AsFd) -> nix::Result<SocketAddr> {
    let raw = getsockopt(stream, sockopt::OriginalDst)?;
    Ok(std::net::SocketAddrV4::from(SockaddrIn::from(raw)).into())
}

fn original_v6(stream: &impl AsFd) -> nix::Result<SocketAddr> {
    let raw = getsockopt(stream, sockopt::Ip6tOriginalDst)?;
    Ok(std::net::SocketAddrV6::from(SockaddrIn6::from(raw)).into())
}
