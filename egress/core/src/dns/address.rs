//! Addresses that names on the internet do not have, and resolvers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::destination::{Destination, is_host};

/// Networks of IPv4 that are private, of one machine or link, or of documents (RFC 6890), as prefix and length.
const NOT_PUBLIC_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The same of IPv6.
const NOT_PUBLIC_V6: [([u16; 8], u8); 6] = [
    ([0; 8], 8),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 9),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

/// Addresses of documents (RFC 5737, RFC 3849): nobody's, so an answer that has one reaches nothing.
const OF_DOCUMENTS_V4: [([u8; 4], u8); 3] = [
    ([192, 0, 2, 0], 24),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
];
const OF_DOCUMENTS_V6: ([u16; 8], u8) = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32);

/// Whether what lies below `net` in the reverse tree concerns nobody on the internet.
pub fn is_private_net(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => NOT_PUBLIC_V4.iter().any(|known| v4(known).contains(net)),
        IpNet::V6(net) => NOT_PUBLIC_V6.iter().any(|known| v6(known).contains(net)),
    }
}

/// Whether an address, had by a name on the internet, leads somewhere inside: the cell's own networks, this machine, a link.
/// IPv4 within IPv6 (mapped, RFC 6052's well-known prefix, 6to4) is looked at as what it is.
pub fn leads_inside(address: IpAddr) -> bool {
    let address = match address {
        IpAddr::V6(six) => within(six.segments()).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    match address {
        IpAddr::V4(ip) => {
            let of_documents = OF_DOCUMENTS_V4.iter().any(|known| v4(known).contains(&ip));
            !of_documents && NOT_PUBLIC_V4.iter().any(|known| v4(known).contains(&ip))
        }
        IpAddr::V6(ip) => {
            let of_documents = v6(&OF_DOCUMENTS_V6).contains(&ip);
            !of_documents && NOT_PUBLIC_V6.iter().any(|known| v6(known).contains(&ip))
        }
    }
}

fn within(six: [u16; 8]) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match six {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

fn v4(known: &([u8; 4], u8)) -> Ipv4Net {
    Ipv4Net::new(known.0.into(), known.1).unwrap_or_default()
}

fn v6(known: &([u16; 8], u8)) -> Ipv6Net {
    Ipv6Net::new(known.0.into(), known.1).unwrap_or_default()
}

/// A resolver that questions are carried to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolver(SocketAddr);

impl Resolver {
    /// One host beyond this machine and its links.
    pub fn beyond(address: SocketAddr) -> Option<Self> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        (is_host(address.ip()) && address.port() != 0).then_some(Resolver(address))
    }

    /// One on this machine's loopback.
    pub fn local(address: SocketAddr) -> Option<Self> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        (address.ip().is_loopback() && address.port() != 0).then_some(Resolver(address))
    }

    /// Where a socket is connected to.
    pub fn address(self) -> SocketAddr {
        self.0
    }

    /// What an exit is told that carries connections itself.
    ///
    /// # Errors
    /// None for one on this machine: no exit reaches it.
    pub fn destination(self) -> Option<Destination> {
        Destination::resolver(self.0)
    }
}

/// Resolvers are settings, and no peer's affair.
impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolver({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_leads_inside_is_known_in_every_guise() {
        for inside in [
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "127.0.0.53",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "fd43:454c:4c00::1",
            "fe80::1",
            "fec0::1",
            "ff02::fb",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::",
        ] {
            assert!(leads_inside(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "9.9.9.9",
            "172.32.0.1",
            "100.128.0.1",
            "198.51.100.7",
            "2620:fe::fe",
            "2001:db8::7",
            "::ffff:9.9.9.9",
            "64:ff9b::9.9.9.9",
            "2002:909:909::",
        ] {
            assert!(!leads_inside(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn tables_are_in_order() {
        assert!(
            NOT_PUBLIC_V4
                .iter()
                .all(|known| v4(known).prefix_len() == known.1)
        );
        assert!(
            NOT_PUBLIC_V6
                .iter()
                .all(|known| v6(known).prefix_len() == known.1)
        );
        assert!(is_private_net(&"10.1.0.0/16".parse().unwrap()));
        assert!(!is_private_net(&"172.0.0.0/8".parse().unwrap()));
    }

    #[test]
    fn a_resolver_is_beyond_or_listed() {
        let beyond = |text: &str| Resolver::beyond(text.parse().unwrap());
        assert!(beyond("192.0.2.53:53").is_some() && beyond("[2001:db8::53]:53").is_some());
        for bad in [
            "127.0.0.1:53",
            "[::1]:53",
            "0.0.0.0:53",
            "192.0.2.53:0",
            "169.254.1.1:53",
            "[::ffff:127.0.0.1]:53",
        ] {
            assert_eq!(beyond(bad), None, "{bad}");
        }
        assert_eq!(Resolver::local("192.0.2.53:53".parse().unwrap()), None);
        let local = Resolver::local("127.0.0.53:53".parse().unwrap()).unwrap();
        assert!(
            local.destination().is_none(),
            "no exit is asked to reach this machine"
        );
    }
}
