//! What the kernel has, in the vocabulary of what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::model::{ExitInterface, InterfaceName, Mtu, PublicKey};
use crate::policy::Elements;
use crate::routing::Routing;

/// The whole of it. The default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Our nftables table, if there is one.
    pub policy: Option<Policy>,
    /// The interface of the wanted name, or the one of ours where none is wanted; if there is one.
    pub link: Option<Link>,
    /// Interfaces that netd made under other names.
    pub strays: BTreeSet<InterfaceName>,
    /// Rules and routes of ours.
    pub routing: Routing,
    /// Interfaces with an exit's name that are up.
    pub exits_up: BTreeSet<ExitInterface>,
}

/// Our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether chains, rules, counters and the kinds of sets are those of the ruleset that it was held against.
    pub skeleton_matches: bool,
    /// What is in its sets.
    pub elements: Elements,
}

/// Our interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: InterfaceName,
    /// Whether it is up.
    pub up: bool,
    /// Largest packet; none: out of our range.
    pub mtu: Option<Mtu>,
    /// Global addresses with their prefix lengths.
    pub addresses: BTreeSet<IpNet>,
    /// The WireGuard device behind it; none: it has no key yet, or its process is gone.
    pub device: Option<Device>,
}

/// A WireGuard device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its public key.
    pub public_key: PublicKey,
    /// UDP port.
    pub listen_port: u16,
    /// The mark on its packets (wg(8): fwmark); netd sets none, which is 0.
    pub fwmark: u32,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, DevicePeer>,
    /// Those of them with a preshared key. netd sets none, so each is a stranger's.
    pub preshared: BTreeSet<PublicKey>,
}

/// What tells one device from another, whatever peers it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its public key.
    pub public_key: PublicKey,
    /// UDP port.
    pub listen_port: u16,
    /// The mark on its packets.
    pub fwmark: u32,
}

impl Device {
    /// Without its peers.
    pub fn identity(&self) -> Identity {
        Identity {
            public_key: self.public_key,
            listen_port: self.listen_port,
            fwmark: self.fwmark,
        }
    }
}

/// A peer as the device has it, configuration only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePeer {
    /// Where the last authentic packet came from, or what was configured.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub keepalive: u16,
    /// Source addresses accepted from, and routed to, the peer.
    pub allowed_ips: BTreeSet<IpNet>,
}
