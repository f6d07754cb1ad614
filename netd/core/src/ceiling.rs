//! The ceiling: what netd may ever be asked for. It comes from the root-owned policy file.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::{InterfaceName, Mark, Port, TableName};

/// Bounds that no request can lift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// Names that netd may own.
    pub interfaces: BTreeSet<InterfaceName>,
    /// UDP ports that WireGuard may listen on.
    pub listen_ports: Vec<RangeInclusive<u16>>,
    /// Where the VPN may lie.
    pub vpn_prefixes: Vec<IpNet>,
    /// Ports of the cell that peers may be let to.
    pub cell_ports: BTreeSet<Port>,
    /// Ports on the hidden service addresses that cell ports may be translated to.
    pub service_targets: BTreeSet<Port>,
    /// The hidden service address, IPv4.
    pub service_v4: Ipv4Addr,
    /// The hidden service address, IPv6.
    pub service_v6: Ipv6Addr,
    /// Most peers.
    pub max_peers: usize,
    /// Set on what the policy accepts, so that Docker's FORWARD lets it pass.
    pub accept_mark: Mark,
    /// The nftables table of family inet that netd owns.
    pub table: TableName,
}

impl Ceiling {
    pub(crate) fn allows_vpn(&self, prefix: IpNet) -> bool {
        self.vpn_prefixes
            .iter()
            .any(|allowed| allowed.contains(&prefix.trunc()))
    }

    pub(crate) fn allows_listen_port(&self, port: u16) -> bool {
        self.listen_ports.iter().any(|range| range.contains(&port))
    }
}
