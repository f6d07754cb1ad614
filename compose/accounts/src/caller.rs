//! Who may ask: the cell, which is the machine. Docker gives the machine the first address of a service's network, that of the
//! bridge; no container can have it, nor send from it, and on the machine netd lets the cell alone open flows into such a network.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The machine, by its own address in one of the container's networks.
    Machine,
    /// The container itself, by loopback: its health check.
    Own,
    /// Another container, or a device.
    Other,
}

/// An address of the container's own in one of its networks; not loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// Its address.
    pub address: Ipv4Addr,
    /// The mask of its network.
    pub mask: Ipv4Addr,
}

impl Interface {
    /// The first address after the network's own, if it is neither this one nor the broadcast.
    fn first(self) -> Option<Ipv4Addr> {
        let mask = self.mask.to_bits();
        // Two addresses and one make no network that has a bridge.
        if mask.count_zeros() < 2 {
            return None;
        }
        let first = Ipv4Addr::from_bits((self.address.to_bits() & mask) | 1);
        (first != self.address).then_some(first)
    }
}

/// Who `source` is to a container with these addresses.
pub fn caller(source: IpAddr, interfaces: &[Interface]) -> Caller {
    let IpAddr::V4(source) = source else {
        return Caller::Other;
    };
    if source.is_loopback() {
        return Caller::Own;
    }
    let machine = interfaces
        .iter()
        .any(|interface| interface.first() == Some(source));
    if machine { Caller::Machine } else { Caller::Other }
}

/// The container's own addresses, asked of the kernel: networks come and go while it runs.
///
/// # Errors
/// What the system said.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let found = getifaddrs()?.filter(|entry| !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let ip = |address: Option<nix::sys::socket::SockaddrStorage>| Some(address?.as_sockaddr_in()?.ip());
    Ok(found
        .filter_map(|entry| {
            Some(Interface {
                address: ip(entry.address)?,
                mask: ip(entry.netmask)?,
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn interface(address: &str, mask: &str) -> Interface {
        Interface {
            address: address.parse().unwrap(),
            mask: mask.parse().unwrap(),
        }
    }

    #[test]
    fn the_first_address_of_a_network_is_the_machine() {
        let own = [
            interface("172.21.0.18", "255.255.255.240"),
            interface("172.21.7.9", "255.255.255.0"),
        ];
        for (source, expected) in [
            ("172.21.0.17", Caller::Machine),
            ("172.21.7.1", Caller::Machine),
            ("127.0.0.1", Caller::Own),
            ("172.21.0.1", Caller::Other),
            ("172.21.0.16", Caller::Other),
            ("172.21.0.18", Caller::Other),
            ("172.21.0.19", Caller::Other),
            ("172.21.7.2", Caller::Other),
            ("10.42.0.2", Caller::Other),
            ("127.1.2.3", Caller::Own),
            ("::1", Caller::Other),
            ("::ffff:172.21.0.17", Caller::Other),
        ] {
            assert_eq!(caller(source.parse().unwrap(), &own), expected, "{source}");
        }
        assert_eq!(caller("172.21.0.17".parse().unwrap(), &[]), Caller::Other);
    }

    #[test]
    fn what_has_no_bridge_has_no_machine() {
        for mask in ["255.255.255.255", "255.255.255.254"] {
            let own = [interface("172.21.0.2", mask)];
            for source in ["172.21.0.1", "172.21.0.2", "172.21.0.3"] {
                assert_eq!(
                    caller(source.parse().unwrap(), &own),
                    Caller::Other,
                    "{mask} {source}"
                );
            }
        }
        // An address of its own is not somebody else's.
        let own = [interface("172.21.0.1", "255.255.255.0")];
        assert_eq!(caller("172.21.0.1".parse().unwrap(), &own), Caller::Other);
    }

    #[test]
    fn loopback_is_no_network_of_the_container() {
        let found = interfaces().unwrap();
        assert!(found.iter().all(|own| !own.address.is_loopback()), "{found:?}");
    }
}
