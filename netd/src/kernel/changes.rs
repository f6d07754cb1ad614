//! Whether links, addresses, routes or rules changed since they were last read.
//!
//! The kernel queues word of a change (rtnetlink(7), multicast groups) while whoever makes it still waits for the answer. So
//! an empty queue says that nothing changed, without reading what grows with the number of exits.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::MulticastGroup;

/// What is told of.
pub(super) const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// A queue of word of changes.
#[derive(Debug)]
pub(super) struct Changes {
    socket: Socket,
    /// What is told is not looked at; one byte of each message is enough.
    buffer: Vec<u8>,
}

impl Changes {
    /// From now on.
    ///
    /// # Errors
    /// Of socket(2), bind(2) and setsockopt(2).
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group as u32)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Changes {
            socket,
            buffer: Vec::with_capacity(1),
        })
    }

    /// Whether anything changed since this was last asked. A queue that ran over, or cannot be read, says yes.
    pub(super) fn any(&mut self) -> bool {
        let mut any = false;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(error) => {
                    tracing::warn!(%error, "no word of changes of links and routes");
                    return true;
                }
            }
        }
    }
}
