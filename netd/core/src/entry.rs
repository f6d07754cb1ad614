//! Services at addresses in the VPN, which containers answer.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::desired::Service;
use crate::model::{Protocol, ServiceName};

/// Where devices find a service: an address in the VPN that no peer has, and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryAt {
    /// Address and port.
    pub at: SocketAddrV4,
    /// Its protocol.
    pub protocol: Protocol,
}

impl EntryAt {
    /// The entry that a service would be, if it is of IPv4.
    pub fn of(service: &Service) -> Option<Self> {
        match service.address {
            std::net::IpAddr::V4(address) => Some(EntryAt {
                at: SocketAddrV4::new(address, service.port),
                protocol: service.protocol,
            }),
            std::net::IpAddr::V6(_) => None,
        }
    }

    /// The first that there could be at an address.
    pub(crate) fn first(address: Ipv4Addr) -> Self {
        EntryAt {
            at: SocketAddrV4::new(address, 0),
            protocol: Protocol::Tcp,
        }
    }
}

impl fmt::Display for EntryAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at.ip(), self.protocol, self.at.port())
    }
}

/// Who answers there, and who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The container's address and port.
    pub to: SocketAddrV4,
    /// The service whose network the container is on.
    pub service: ServiceName,
    /// Every peer may. Else those that it is granted to, by where they find it.
    pub everyone: bool,
}
