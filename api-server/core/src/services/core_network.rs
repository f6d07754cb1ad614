//! Where the cell's own containers lie: the proxy, DNS and time.

use std::net::{Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

/// Bits of its prefix; the broker takes the same (`cell_network` of `broker.toml`).
const BITS: std::ops::RangeInclusive<u8> = 24..=28;
/// The number of the cell's CoreDNS among the addresses (`core` of `broker.toml`).
const COREDNS: u8 = 3;
/// RFC 1035, section 4.2.
const DNS_PORT: u16 = 53;

/// The network of the cell's own containers: a whole prefix of 24-28 bits. Its first address is its bridge's, and the third the cell's
/// CoreDNS'. The policy files of netd, the broker and egress have the same (lab/tests/agreement_services.rs), and each judges by its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreNetwork(Ipv4Net);

/// A network that cannot be it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an IPv4 prefix of 24-28 bits without host bits, as in cell_network of broker.toml")]
pub struct InvalidCoreNetwork;

impl CoreNetwork {
    /// As it is shipped.
    pub const SHIPPED: CoreNetwork = CoreNetwork(Ipv4Net::new_assert(Ipv4Addr::new(172, 20, 0, 0), 24));

    /// Reads it.
    ///
    /// # Errors
    /// [`InvalidCoreNetwork`].
    pub fn parse(text: &str) -> Result<Self, InvalidCoreNetwork> {
        match text.parse() {
            Ok(IpNet::V4(net)) if net.trunc() == net && BITS.contains(&net.prefix_len()) => {
                Ok(CoreNetwork(net))
            }
            Ok(IpNet::V4(_) | IpNet::V6(_)) | Err(_) => Err(InvalidCoreNetwork),
        }
    }

    /// Its prefix.
    pub fn subnet(self) -> Ipv4Net {
        self.0
    }

    /// One of its addresses: 1 is its bridge's. A prefix of 28 bits has 14.
    pub fn host(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.network().to_bits() | u32::from(number))
    }

    /// Where `cell-egress` asks from.
    pub fn bridge(self) -> Ipv4Addr {
        self.host(1)
    }

    /// Where the cell's CoreDNS listens.
    pub fn coredns(self) -> SocketAddr {
        SocketAddr::new(self.host(COREDNS).into(), DNS_PORT)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn it_is_read_as_a_whole_prefix_of_its_lengths() {
        assert_eq!(CoreNetwork::parse("172.20.0.0/24"), Ok(CoreNetwork::SHIPPED));
        let other = CoreNetwork::parse("10.44.7.16/28").unwrap();
        assert_eq!(other.bridge().to_string(), "10.44.7.17");
        assert_eq!(other.coredns().to_string(), "10.44.7.19:53");
        for text in [
            "172.20.0.0/23",
            "172.20.0.0/29",
            "172.20.0.1/24",
            "fd00::/24",
            "172.20.0.0",
            "",
        ] {
            assert_eq!(CoreNetwork::parse(text), Err(InvalidCoreNetwork), "{text}");
        }
    }
}
