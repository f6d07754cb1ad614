//! The descriptors of a device go to cell-wg in one message (wg/README.md).

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use cell_netd_core::model::InterfaceName;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike,
    UnixAddr, bind, connect, getsockname, recv, sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::{BackendError, tun};

/// Version of the message.
const VERSION: u8 = 1;
/// The answer's first byte: taken.
const TAKEN: u8 = 0;
/// A port that is free for IPv4 may be taken for IPv6: how many are tried.
const FREE_PORTS: u32 = 16;
/// cell-wg answers at once, or is not there.
const ANSWER_SECONDS: i64 = 10;

/// The interface and the sockets of a device.
#[derive(Debug)]
pub struct Descriptors {
    tun: OwnedFd,
    udp_v4: OwnedFd,
    udp_v6: OwnedFd,
}

impl Descriptors {
    /// Makes them: TUN `name`, UDP on `port` of all addresses of both families. Port 0 is one that both have free.
    ///
    /// # Errors
    /// `EBUSY` when there is an interface of that name, `EADDRINUSE` when the port is taken.
    pub fn make(name: &InterfaceName, port: u16) -> io::Result<Self> {
        let mut attempts = if port == 0 { FREE_PORTS } else { 1 };
        let (udp_v4, udp_v6) = loop {
            attempts -= 1;
            match pair(port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                pair => break pair?,
            }
        };
        Ok(Descriptors {
            tun: tun::create(name)?,
            udp_v4,
            udp_v6,
        })
    }
}

/// Sockets of both families on one port.
fn pair(port: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let any_v4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let udp_v4 = udp(AddressFamily::Inet, &SockaddrIn::from(any_v4))?;
    let port = getsockname::<SockaddrIn>(udp_v4.as_raw_fd())?.port();
    let any_v6 = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    let udp_v6 = udp(AddressFamily::Inet6, &SockaddrIn6::from(any_v6))?;
    Ok((udp_v4, udp_v6))
}

fn udp(family: AddressFamily, address: &impl SockaddrLike) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let descriptor = socket(family, SockType::Datagram, flags, None)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&descriptor, sockopt::Ipv6V6Only, &true)?;
    }
    bind(descriptor.as_raw_fd(), address)?;
    Ok(descriptor)
}

/// Hands the descriptors over; ours stay open. Blocking, at most some seconds.
///
/// # Errors
/// When cell-wg cannot be reached or does not take them.
pub fn hand_over(path: &Path, name: &InterfaceName, descriptors: &Descriptors) -> Result<(), BackendError> {
    let connection = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(io_error)?;
    let patience = TimeVal::new(ANSWER_SECONDS, 0);
    setsockopt(&connection, sockopt::ReceiveTimeout, &patience).map_err(io_error)?;
    setsockopt(&connection, sockopt::SendTimeout, &patience).map_err(io_error)?;
    connect(connection.as_raw_fd(), &UnixAddr::new(path).map_err(io_error)?).map_err(io_error)?;
    let payload = [&[VERSION], name.as_str().as_bytes()].concat();
    let Descriptors { tun, udp_v4, udp_v6 } = descriptors;
    let rights = [tun.as_raw_fd(), udp_v4.as_raw_fd(), udp_v6.as_raw_fd()];
    sendmsg::<UnixAddr>(
        connection.as_raw_fd(),
        &[IoSlice::new(&payload)],
        &[ControlMessage::ScmRights(&rights)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map_err(io_error)?;
    let mut answer = [0; 512];
    let length = recv(connection.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(io_error)?;
    match answer[..length].split_first() {
        Some((&TAKEN, _)) => Ok(()),
        Some((_, text)) => Err(BackendError::Process(String::from_utf8_lossy(text).into_owned())),
        None => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
    }
}

fn io_error(errno: nix::errno::Errno) -> BackendError {
    BackendError::Io(errno.into())
}
