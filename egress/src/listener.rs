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
/// After how long without a word a peer is asked whether it is still there, seconds. Not sooner: it wakes a phone that sleeps.
const QUIET_SECONDS: u32 = 900;
/// How often it is asked again, and how many times, until it is not.
const AGAIN_SECONDS: u32 = 60;
const TIMES: u32 = 4;

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
    let socket = listening(address)?;
    handed_on(&socket)?;
    TcpListener::from_std(socket)
}

/// What connections have from the socket that accepted them (tcp(7)); set here once, it costs none of them anything.
fn handed_on(socket: &impl AsFd) -> nix::Result<()> {
    // An answer that waits for more to go with it is slower than the way it took.
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    // A peer that is gone, or that another exit carries by now, says nothing any more: its connection would count among what it may have
    // for as long as one may be idle.
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &QUIET_SECONDS)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &AGAIN_SECONDS)?;
    setsockopt(socket, sockopt::TcpKeepCount, &TIMES)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn an_accepted_connection_is_asked_whether_it_is_there_and_holds_no_answer_back() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listener(loopback.parse().unwrap()).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            assert!(getsockopt(&accepted, sockopt::TcpNoDelay).unwrap());
            assert!(getsockopt(&accepted, sockopt::KeepAlive).unwrap());
            assert_eq!(
                getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap(),
                QUIET_SECONDS
            );
            assert_eq!(
                getsockopt(&accepted, sockopt::TcpKeepInterval).unwrap(),
                AGAIN_SECONDS
            );
            assert_eq!(getsockopt(&accepted, sockopt::TcpKeepCount).unwrap(), TIMES);
        }
    }
}
