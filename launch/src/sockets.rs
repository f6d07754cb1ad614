//! Binds the listeners: under a tight umask, with their group, in the right network.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, UnixAddr, bind,
    listen, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};

use crate::accounts::Accounts;
use crate::error::Error;
use crate::house::{EDGE_SOCKET_MODE, Kind};
use crate::network;
use crate::plan::{self, Address, Plan};
use crate::ports;
use crate::settings::Place;

/// Connections that wait while a daemon is started again.
const QUEUE: i32 = 1024;

/// Binds all listeners of the plan, in its order. `None` stands for a listener of a family that the machine lacks.
///
/// # Errors
/// At the first that cannot be bound; a busy port with who holds it.
pub fn bind_all(plan: &Plan, place: &Place, accounts: &Accounts) -> Result<Vec<Option<OwnedFd>>, Error> {
    let mut bound = Vec::new();
    for listener in &plan.listeners {
        bound.push(match &listener.address {
            Address::Unix { path, group, kind } => Some(bind_unix(path, group, *kind, accounts)?),
            Address::Here(address) => Some(busy(*address, bind_tcp(*address, false))?),
            Address::Hidden(address) => {
                let fd = network::inside(plan::netns_path(place).as_deref(), || bind_tcp(*address, true))?;
                match fd {
                    Err(nix::Error::EAFNOSUPPORT) => None,
                    fd => Some(busy(*address, fd)?),
                }
            }
            Address::Netfilter => {
                let fd = network::inside(plan::netns_path(place).as_deref(), netfilter)?;
                Some(fd.map_err(Error::call("a socket of netfilter"))?)
            }
        });
    }
    Ok(bound)
}

/// Binds a Unix socket of root's and of `group`.
///
/// # Errors
/// When it cannot be bound.
pub fn bind_unix(path: &Path, group: &str, kind: Kind, accounts: &Accounts) -> Result<OwnedFd, Error> {
    let gid = accounts.group(group)?.as_raw();
    let kind = match kind {
        Kind::Stream => SockType::Stream,
        Kind::SeqPacket => SockType::SeqPacket,
    };
    let made = || -> io::Result<OwnedFd> {
        let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
        // Until chown below the socket is root's alone.
        let before = umask(Mode::from_bits_truncate(0o177));
        let result = bind(fd.as_raw_fd(), &UnixAddr::new(path)?);
        umask(before);
        result?;
        chown(path, Some(0), Some(gid))?;
        fs::set_permissions(path, Permissions::from_mode(EDGE_SOCKET_MODE))?;
        listen(&fd, Backlog::new(QUEUE)?)?;
        Ok(fd)
    };
    made().map_err(Error::file("cannot be bound", path))
}

fn bind_tcp(address: SocketAddr, free: bool) -> Result<OwnedFd, nix::Error> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if free {
        setsockopt(&fd, sockopt::IpFreebind, &true)?;
    }
    // Said by root, for some kernels let nobody else say it.
    match cell_sandbox::never_connects(&fd) {
        // Such a kernel wants CAP_NET_ADMIN for it, which whoever binds in a container lacks. As under the units, it is then the
        // daemon's own sandbox that keeps the listener from connecting.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!(
                "cell-launch: this kernel lets no filter on the listener {address}; the daemon's sandbox holds it"
            );
        }
        done => done.map_err(|error| error.raw_os_error().map_or(nix::Error::EIO, nix::Error::from_raw))?,
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(QUEUE)?)?;
    Ok(fd)
}

/// A socket of NETLINK_NETFILTER in this network; the kernel takes what is sent by it for the privilege of who made it, too.
///
/// # Errors
/// As socket(2).
pub fn netfilter() -> Result<OwnedFd, nix::Error> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(fd)
}

fn busy(address: SocketAddr, bound: Result<OwnedFd, nix::Error>) -> Result<OwnedFd, Error> {
    bound.map_err(|errno| match errno {
        nix::Error::EADDRINUSE => {
            let holder = ports::holder(Path::new("/proc/self/net/tcp"), address);
            let by = holder.map(|holder| format!(" by {holder}")).unwrap_or_default();
            Error::fault(format!(
                "TCP {address} is in use{by}: stop that, or choose another with --http 127.0.0.1:3001 (CELL_HTTP)"
            ))
        }
        errno => Error::call(format!("binding TCP {address}"))(errno),
    })
}
