//! `cell.common.v1` network values to and from `std::net` and `ipnet`, checked in one place.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::common::v1;

/// A network value from the wire that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNet {
    /// A field that must be set is not.
    #[error("is required")]
    Missing,
    /// An address of the wrong size.
    #[error("an address has 4 or 16 bytes, not {0}")]
    AddressLength(usize),
    /// A prefix longer than its family allows.
    #[error("a prefix length of {length} does not fit {address}")]
    PrefixLength {
        /// As received.
        length: u32,
        /// The address beside it.
        address: IpAddr,
    },
    /// A port out of range.
    #[error("a port is 1-65535, not {0}")]
    Port(u32),
    /// An enum value that this version does not know, or the unspecified one.
    #[error("is not a known protocol")]
    Protocol,
}

impl TryFrom<&v1::IpAddress> for IpAddr {
    type Error = InvalidNet;

    fn try_from(wire: &v1::IpAddress) -> Result<Self, InvalidNet> {
        if let Ok(v4) = <[u8; 4]>::try_from(wire.octets.as_slice()) {
            return Ok(IpAddr::from(v4));
        }
        <[u8; 16]>::try_from(wire.octets.as_slice())
            .map(IpAddr::from)
            .map_err(|_| InvalidNet::AddressLength(wire.octets.len()))
    }
}

impl From<IpAddr> for v1::IpAddress {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        v1::IpAddress { octets }
    }
}

/// An address that must be there.
pub fn address(wire: Option<&v1::IpAddress>) -> Result<IpAddr, InvalidNet> {
    wire.ok_or(InvalidNet::Missing)?.try_into()
}

impl TryFrom<&v1::IpPrefix> for IpNet {
    type Error = InvalidNet;

    fn try_from(wire: &v1::IpPrefix) -> Result<Self, InvalidNet> {
        let address = address(wire.address.as_ref())?;
        let too_long = InvalidNet::PrefixLength {
            length: wire.length,
            address,
        };
        let length = u8::try_from(wire.length).map_err(|_| too_long.clone())?;
        IpNet::new(address, length).map_err(|_| too_long)
    }
}

impl From<IpNet> for v1::IpPrefix {
    fn from(net: IpNet) -> Self {
        v1::IpPrefix {
            address: Some(net.addr().into()),
            length: net.prefix_len().into(),
        }
    }
}

impl TryFrom<&v1::Endpoint> for SocketAddr {
    type Error = InvalidNet;

    fn try_from(wire: &v1::Endpoint) -> Result<Self, InvalidNet> {
        Ok(SocketAddr::new(address(wire.address.as_ref())?, port(wire.port)?))
    }
}

impl From<SocketAddr> for v1::Endpoint {
    fn from(endpoint: SocketAddr) -> Self {
        v1::Endpoint {
            address: Some(endpoint.ip().into()),
            port: endpoint.port().into(),
        }
    }
}

/// A port from the wire, 1-65535.
pub fn port(wire: u32) -> Result<u16, InvalidNet> {
    u16::try_from(wire)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(InvalidNet::Port(wire))
}
