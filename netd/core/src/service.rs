//! Networks of services: bridges that Docker makes for containers, and what may pass from them and to them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use crate::desired::Service;
use crate::model::ExitInterface;
use crate::redirect::Carrier;

/// Longest and shortest prefix of a service's network: 5 to 253 containers, each an element of sets.
pub const PREFIX_LENGTHS: std::ops::RangeInclusive<u8> = 24..=29;

/// The network of one service. The containers have no IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// The bridge that its containers hang on.
    pub bridge: ExitInterface,
    /// Where they lie.
    pub subnet: Ipv4Net,
    /// Whether they may reach public addresses.
    pub internet: bool,
    /// What carries them there; none: the machine's own way.
    pub exit: Option<Carrier>,
    /// What else they may reach.
    pub reach: BTreeSet<Service>,
    /// TCP ports of its containers that users of this machine whom the ceiling lists may open.
    pub called: BTreeSet<SocketAddrV4>,
}

impl ServiceNetwork {
    /// The bridge's own address: the first, as Docker takes it.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.subnet.network().to_bits().saturating_add(1))
    }

    /// Addresses that containers may have, lowest first.
    pub fn hosts(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let gateway = self.gateway();
        self.subnet.hosts().filter(move |host| *host != gateway)
    }

    /// Whether a container may have this address.
    pub fn is_container(&self, address: Ipv4Addr) -> bool {
        let ends = [self.subnet.network(), self.gateway(), self.subnet.broadcast()];
        self.subnet.contains(&address) && !ends.contains(&address)
    }

    /// The address that its first container has, and which stands for all of them in questions.
    pub fn first(&self) -> Option<IpAddr> {
        self.hosts().next().map(IpAddr::V4)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn containers_have_neither_the_ends_of_the_subnet_nor_the_bridges_address() {
        let network = ServiceNetwork {
            bridge: "cellsvc1".parse().unwrap(),
            subnet: "172.21.0.16/28".parse().unwrap(),
            internet: false,
            exit: None,
            reach: BTreeSet::new(),
            called: BTreeSet::new(),
        };
        assert_eq!(network.gateway(), Ipv4Addr::new(172, 21, 0, 17));
        let hosts: Vec<_> = network.hosts().collect();
        assert_eq!(hosts.first(), Some(&Ipv4Addr::new(172, 21, 0, 18)));
        assert_eq!(hosts.last(), Some(&Ipv4Addr::new(172, 21, 0, 30)));
        assert_eq!(hosts.len(), 13);
        let subnet = "172.21.0.0/24".parse::<Ipv4Net>().unwrap();
        let others = |host: &Ipv4Addr| network.is_container(*host);
        assert!(subnet.hosts().filter(others).eq(hosts));
    }
}
