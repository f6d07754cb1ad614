//! The sockets that questions come to. They are made by this process itself: netd's rules for its user hold a socket by who made
//! it, so one that was handed over would be held by none.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use nix::sys::socket::SockType;

use crate::listener::{bound, lacks_family, listening};

/// UDP and TCP, on the hidden service addresses; netd translates port 53 of the cell to it.
pub const PORT: u16 = 9053;
/// The same, of whoever netd has bound to an exit: what comes here is asked by no other way, whatever the table says (ADR 0048).
pub const BOUND_PORT: u16 = 9054;

/// Where a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// By [`PORT`].
    Anyone,
    /// By [`BOUND_PORT`].
    Bound,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sockets {
    /// One of each family that there is, of each port.
    pub datagrams: Vec<(Door, UdpSocket)>,
    /// The same.
    pub connections: Vec<(Door, TcpListener)>,
}

/// Binds both ports of each address, also where that does not exist yet; a machine may lack IPv6. It is done before the process
/// seals itself: afterwards no TCP port but the redirect ports can be had.
///
/// # Errors
/// When a port is taken.
pub fn listen_on(addresses: &[IpAddr]) -> io::Result<Sockets> {
    let mut sockets = Sockets::default();
    let doors = [(Door::Anyone, PORT), (Door::Bound, BOUND_PORT)];
    for (address, (door, port)) in addresses
        .iter()
        .flat_map(|address| doors.map(|door| (address, door)))
    {
        let at = SocketAddr::new(*address, port);
        let both = bound(at, SockType::Datagram).and_then(|datagrams| Ok((datagrams, listening(at)?)));
        match both {
            Ok((datagrams, connections)) => {
                sockets.datagrams.push((door, datagrams.into()));
                sockets.connections.push((door, connections));
            }
            Err(error) if lacks_family(*address, &error) => {
                tracing::info!(port, "this machine has no IPv6");
            }
            Err(error) => return Err(io::Error::new(error.kind(), format!("{at}: {error}"))),
        }
    }
    Ok(sockets)
}
