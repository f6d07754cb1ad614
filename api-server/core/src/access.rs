//! What a peer may reach beyond the cell's own ports, and what its tunnel carries.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::fault::Faults;
use crate::public::is_public;

/// Most services that one peer may be given.
pub const MAX_SERVICES: usize = 256;
/// Most services of all peers together: so many of them and [`crate::peer::MAX_PEERS`] fit one message to netd.
pub const MAX_SERVICES_IN_ALL: usize = 200_000;

/// What a peer may reach. Default: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessPolicy {
    /// Public addresses through the cell.
    pub internet: bool,
    /// Other peers that have it too.
    pub peer_to_peer: bool,
    /// Single services, private addresses included.
    pub services: BTreeSet<Service>,
}

/// A service: where it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Its address.
    pub address: IpAddr,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its port, 1-65535.
    pub port: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// What a device sends into its tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// Everything.
    Full,
    /// Only what lies in the VPN or is one of its services.
    Split,
}

/// A policy as received, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessInput {
    /// See [`AccessPolicy`].
    pub internet: bool,
    /// See [`AccessPolicy`].
    pub peer_to_peer: bool,
    /// See [`AccessPolicy`].
    pub services: Vec<ServiceInput>,
}

/// A service as received, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceInput {
    /// Text of an address.
    pub address: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// A port.
    pub port: u64,
}

impl AccessPolicy {
    /// What is left of it without a way to the internet: none, and no service at a public address either.
    pub fn inside(&self) -> AccessPolicy {
        let services = self.services.iter().copied();
        AccessPolicy {
            internet: false,
            peer_to_peer: self.peer_to_peer,
            services: services.filter(|service| !is_public(service.address)).collect(),
        }
    }

    /// What both allow.
    pub fn common(&self, other: &AccessPolicy) -> AccessPolicy {
        AccessPolicy {
            internet: self.internet && other.internet,
            peer_to_peer: self.peer_to_peer && other.peer_to_peer,
            services: self.services.intersection(&other.services).copied().collect(),
        }
    }

    /// Whether it allows nothing that `other` does not.
    pub fn is_within(&self, other: &AccessPolicy) -> bool {
        *self == self.common(other)
    }
}

impl AccessInput {
    /// Checks a policy; faults are named below `path`. Services given twice count once.
    pub fn check(&self, path: &str, faults: &mut Faults) -> AccessPolicy {
        if self.services.len() > MAX_SERVICES {
            faults.add(
                format!("{path}.services"),
                format!("must have at most {MAX_SERVICES} entries"),
            );
            return AccessPolicy::default();
        }
        let services = self.services.iter().enumerate();
        AccessPolicy {
            internet: self.internet,
            peer_to_peer: self.peer_to_peer,
            services: services
                .filter_map(|(i, s)| s.check(&format!("{path}.services[{i}]"), faults))
                .collect(),
        }
    }
}

impl ServiceInput {
    fn check(&self, path: &str, faults: &mut Faults) -> Option<Service> {
        self.checked(path, parse_address(&self.address), faults)
    }

    /// As of a peer, but of IPv4 alone: containers have no IPv6.
    pub(crate) fn check_v4(&self, path: &str, faults: &mut Faults) -> Option<Service> {
        let is_v4 = self.address.parse::<Ipv4Addr>().is_ok();
        let address = match is_v4 {
            true => parse_address(&self.address),
            false => Err("must be an IPv4 address: containers have no IPv6"),
        };
        self.checked(path, address, faults)
    }

    fn checked(
        &self,
        path: &str,
        address: Result<IpAddr, &'static str>,
        faults: &mut Faults,
    ) -> Option<Service> {
        let address = faults.keep(format!("{path}.address"), address);
        let protocol = faults.keep(format!("{path}.protocol"), Protocol::parse(&self.protocol));
        let port = u16::try_from(self.port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or("must be from 1 to 65535");
        let port = faults.keep(format!("{path}.port"), port);
        Some(Service {
            address: address?,
            protocol: protocol?,
            port: port?,
        })
    }
}

fn parse_address(text: &str) -> Result<IpAddr, &'static str> {
    let address: IpAddr = text.parse().map_err(|_| "must be an IPv4 or IPv6 address")?;
    if is_routed(address) {
        Ok(address)
    } else {
        Err("must be the address of one host that can be reached through the cell, and is not link-local")
    }
}

/// Whether packets to `address` can leave the cell for one host. netd refuses what is refused here (a whole
/// specification for one such address), so the two rules must agree: `lab/tests/agreement.rs` holds them together.
fn is_routed(address: IpAddr) -> bool {
    let of_no_host = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    let stays_on_its_link = match address {
        // 0.0.0.0/8 is "this network" (RFC 1122); link-local holds the metadata service of clouds, 169.254.169.254.
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local() || v4.octets()[0] == 0,
        // An IPv4-mapped address would be policed as IPv6 and sent as IPv4.
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !of_no_host && !stays_on_its_link
}

impl Protocol {
    /// Reads `tcp` or `udp`.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err("must be \"tcp\" or \"udp\""),
        }
    }

    /// `tcp` or `udp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl Tunnel {
    /// Reads `full` or `split`.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "full" => Ok(Tunnel::Full),
            "split" => Ok(Tunnel::Split),
            _ => Err("must be \"full\" or \"split\""),
        }
    }

    /// The tunnel of a peer that asked for none: everything goes through the cell if the cell lets it out.
    pub fn default_for(access: &AccessPolicy) -> Self {
        if access.internet {
            Tunnel::Full
        } else {
            Tunnel::Split
        }
    }

    /// `full` or `split`.
    pub fn as_str(self) -> &'static str {
        match self {
            Tunnel::Full => "full",
            Tunnel::Split => "split",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.address, self.protocol.as_str(), self.port)
    }
}

impl fmt::Display for AccessPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "internet {}, peer to peer {}, services",
            self.internet, self.peer_to_peer
        )?;
        if self.services.is_empty() {
            return f.write_str(" none");
        }
        self.services
            .iter()
            .try_for_each(|service| write!(f, " {service}"))
    }
}
